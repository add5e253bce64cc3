package server

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/internal/config"
)

const initHint = `
This server is not initialised yet. In another terminal:

    export BAO_ADDR='%s'
    quorate operator init
    quorate operator unseal       # once for each key holder, until the threshold is reached

`

const unsealHint = `
This server is sealed. It takes %d of %d key holders to unseal it, each with:

    export BAO_ADDR='%s'
    quorate operator unseal

`

// welcome tells who started the server what to do next.
func (s *server) welcome(ctx context.Context) error {
	st, err := s.node.SealStatus(ctx)
	if err != nil {
		return err
	}
	plain := s.cfg.LogFormat == config.FormatStandard
	switch {
	case !st.Initialized && plain:
		fmt.Fprintf(s.Stderr, initHint, s.address())
	case !st.Initialized:
		s.log.Info("not initialised: run quorate operator init, then quorate operator unseal", "address", s.address())
	case st.Sealed && plain:
		fmt.Fprintf(s.Stderr, unsealHint, st.Threshold, st.Shares, s.address())
	case st.Sealed:
		s.log.Info("sealed: key holders run quorate operator unseal", "address", s.address(), "threshold", st.Threshold, "shares", st.Shares)
	}
	return nil
}

// address is where clients are told to look for the server.
func (s *server) address() string {
	if s.cfg.APIAddr != "" {
		return s.cfg.APIAddr
	}
	return s.fronts[0].url()
}
