package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// sealState is the seal status with what the leader endpoint adds.
type sealState struct {
	*api.SealStatusResponse
	HAEnabled bool `json:"ha_enabled"`
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
		if err == nil {
			err = a.printSealState(env.Context(), &out, client, st)
		}
		if err != nil {
			// Asking is all this command does, so a failure to ask is not exit code 2, which means sealed.
			return &failure{code: exitLocal, action: "reading the seal status", err: err, hint: hintFor(err)}
		}
		if st.Sealed {
			return silent(exitServer)
		}
		return nil
	}
	return c
}

// printSealState shows st and whether the server is one of several.
func (a *app) printSealState(ctx context.Context, out *output, client *api.Client, st *api.SealStatusResponse) error {
	leader, err := client.Sys().LeaderWithContext(ctx)
	if err != nil {
		return asking("reading the leader status", err)
	}
	s := sealState{st, leader.HAEnabled}
	return a.print(out, s, func() []row { return sealRows(s) })
}

func sealRows(s sealState) []row {
	rows := []row{{"Seal Type", s.Type}}
	if s.RecoverySeal {
		rows = append(rows, row{"Recovery Seal Type", s.RecoverySealType})
	}
	rows = append(rows,
		row{"Initialized", strconv.FormatBool(s.Initialized)},
		row{"Sealed", strconv.FormatBool(s.Sealed)},
		row{"Total Shares", strconv.Itoa(s.N)},
		row{"Threshold", strconv.Itoa(s.T)})
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
	return header(append(rows, row{"HA Enabled", strconv.FormatBool(s.HAEnabled)}))
}
