package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// sealState is the seal status with what the leader endpoint adds, if it answers.
type sealState struct {
	*api.SealStatusResponse
	HAEnabled *bool `json:"ha_enabled,omitempty"`
}

func (a *app) statusCommand() *command.C {
	var conn connection
	var out output
	c := &command.C{
		Name: "status", Usage: "[flags]",
		Help: `Show whether the server is initialized and sealed.

Exit code: 0 unsealed, 2 sealed or not initialized, 1 if the server can't be asked.`,
	}
	conn.flags(&c.Flags, hidden)
	out.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		client, err := conn.client("")
		if err != nil {
			return err
		}
		st, err := client.Sys().SealStatusWithContext(env.Context())
		if err != nil {
			// Asking is all this command does, so a failure to ask is not exit code 2, which means sealed.
			return &failure{code: exitLocal, action: "reading the seal status", err: err, hint: hintFor(err)}
		}
		if err := a.printSealState(env.Context(), &out, client, st); err != nil {
			return err
		}
		if st.Sealed {
			return silent(exitServer)
		}
		return nil
	}
	return c
}

// printSealState shows st and whether the server is one of several. That this isn't known takes nothing from st.
func (a *app) printSealState(ctx context.Context, out *output, client *api.Client, st *api.SealStatusResponse) error {
	s := sealState{SealStatusResponse: st}
	if leader, err := client.Sys().LeaderWithContext(ctx); err == nil {
		s.HAEnabled = &leader.HAEnabled
	} else {
		a.say("warning: whether the server is one of several can't be told: %s", reasons(err))
	}
	return a.print(out, s, func() string { return table(sealRows(s)) })
}

func sealRows(s sealState) []row {
	rows := []row{
		{"Seal Type", s.Type},
		{"Initialized", strconv.FormatBool(s.Initialized)},
		{"Sealed", strconv.FormatBool(s.Sealed)},
		{"Total Shares", strconv.Itoa(s.N)},
		{"Threshold", strconv.Itoa(s.T)},
	}
	if s.Sealed {
		rows = append(rows, row{"Unseal Progress", fmt.Sprintf("%d/%d", s.Progress, s.T)}, row{"Unseal Nonce", s.Nonce})
	}
	rows = append(rows, row{"Version", s.Version})
	for _, r := range []row{
		{"Commit Date", s.CommitDate},
		{"Storage Type", s.StorageType},
		{"Cluster Name", s.ClusterName},
		{"Cluster ID", s.ClusterID},
	} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	if s.HAEnabled != nil {
		rows = append(rows, row{"HA Enabled", strconv.FormatBool(*s.HAEnabled)})
	}
	return header(rows)
}
