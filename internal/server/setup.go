package server

import (
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/node"
)

// setupOf is the initialize block of the configuration, as the node applies it to a new cluster.
func setupOf(i *config.Initialize) *node.Setup {
	if i == nil {
		return nil
	}
	setup := &node.Setup{}
	for _, p := range i.Policies {
		setup.Policies = append(setup.Policies, node.SetupPolicy{Name: p.Name, Text: p.Text})
	}
	for _, m := range i.Mounts {
		setup.Mounts = append(setup.Mounts, m.Entry)
	}
	setup.Requests = func() ([]node.SetupRequest, error) {
		requests, err := i.Requests()
		var list []node.SetupRequest
		for _, r := range requests {
			list = append(list, node.SetupRequest(r))
		}
		return list, err
	}
	return setup
}
