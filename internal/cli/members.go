package cli

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/creachadair/command"
)

// member is one server of the cluster.
type member struct {
	Hostname       string    `json:"hostname"`
	APIAddress     string    `json:"api_address"`
	ClusterAddress string    `json:"cluster_address"`
	ActiveNode     bool      `json:"active_node"`
	Sealed         bool      `json:"sealed"`
	Version        string    `json:"version"`
	Started        time.Time `json:"started"`
	LastEcho       time.Time `json:"last_echo"`
	Self           bool      `json:"self"`
}

func (a *app) membersCommand() *command.C {
	s := &session{app: a}
	c := &command.C{
		Name: "members", Usage: "[flags]",
		Help: `List the servers of the cluster that showed themselves in the store within the last half minute.

Every one that isn't sealed serves everything; the one that answers is marked.`,
	}
	return s.command(c, answers|byUser, 0, 0, func(ctx context.Context, _ []string) error {
		var found struct {
			Data struct {
				Nodes []member `json:"nodes"`
			} `json:"data"`
		}
		if err := call(ctx, s.client, http.MethodGet, "sys/ha-status", nil, &found); err != nil {
			return asking("listing the servers", err)
		}
		return s.print(found.Data, func() string {
			t := headed("Host Name", "API Address", "Cluster Address", "Sealed", "Version", "Last Echo")
			for _, m := range found.Data.Nodes {
				name := m.Hostname
				if m.Self {
					name += " (this one)"
				}
				t = append(t, row{name, m.APIAddress, m.ClusterAddress, strconv.FormatBool(m.Sealed), m.Version, m.LastEcho.UTC().Format(time.RFC3339)})
			}
			return t.text()
		})
	})
}
