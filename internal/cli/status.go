package cli

import (
	"context"
	"net/http"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// sealStatus is the seal status; the numbers of a retiring generation are ours, and 0 unless there is one.
type sealStatus struct {
	api.SealStatusResponse
	RetiringT        int `json:"retiring_t,omitempty"`
	RetiringN        int `json:"retiring_n,omitempty"`
	RetiringProgress int `json:"retiring_progress,omitempty"`
}

func readSealStatus(ctx context.Context, client *api.Client) (*sealStatus, error) {
	st := &sealStatus{}
	return st, call(ctx, client, http.MethodGet, "sys/seal-status", nil, st)
}

// given is what a share that counts changes.
func (s *sealStatus) given() [3]any { return [3]any{s.Nonce, s.Progress, s.RetiringProgress} }

// sealState is the seal status with what the leader endpoint adds, if it answers.
type sealState struct {
	*sealStatus
	HAEnabled *bool `json:"ha_enabled,omitempty"`
}

func (a *app) statusCommand() *command.C {
	s := &session{app: a}
	c := &command.C{
		Name: "status", Usage: "[flags]",
		Help: `Show whether the server is initialized and sealed.

Exit code: 0 unsealed, 2 sealed or not initialized, 1 if the server can't be asked.`,
	}
	return s.command(c, answers|byNobody, 0, 0, func(ctx context.Context, _ []string) error {
		st, err := readSealStatus(ctx, s.client)
		if err != nil { // asking is all that this command does, and exit code 2 means sealed
			return unasked("reading the seal status", err)
		}
		if err := s.printSealState(ctx, st); err != nil {
			return err
		}
		if st.Sealed {
			return silent(exitServer)
		}
		return nil
	})
}

// printSealState shows st and whether the server is one of several. That this isn't known takes nothing from st.
func (s *session) printSealState(ctx context.Context, st *sealStatus) error {
	state := sealState{sealStatus: st}
	if leader, err := s.client.Sys().LeaderWithContext(ctx); err == nil {
		state.HAEnabled = &leader.HAEnabled
	} else {
		s.say("warning: whether the server is one of several can't be told: %s", reasons(err))
	}
	s.warn(st.Warnings)
	return s.print(state, state.text)
}

func (s sealState) text() string {
	t := header()
	t.add("Seal Type", s.Type)
	t.add("Initialized", s.Initialized)
	t.add("Sealed", s.Sealed)
	t.add("Total Shares", s.N)
	t.add("Threshold", s.T)
	if s.Sealed {
		t.add("Unseal Progress", fraction(s.Progress, s.T))
		t.add("Unseal Nonce", s.Nonce)
	}
	if s.RetiringT > 0 {
		t.add("Retiring Shares", s.RetiringN)
		t.add("Retiring Threshold", s.RetiringT)
		if s.Sealed {
			t.add("Retiring Progress", fraction(s.RetiringProgress, s.RetiringT))
		}
	}
	t.add("Version", s.Version)
	t.known("Commit Date", s.CommitDate)
	t.known("Storage Type", s.StorageType)
	t.known("Cluster Name", s.ClusterName)
	t.known("Cluster ID", s.ClusterID)
	if s.HAEnabled != nil {
		t.add("HA Enabled", *s.HAEnabled)
	}
	return t.text()
}
