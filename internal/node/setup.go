package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// newbornKey is there from init until a cluster has been set up by its configuration, or was unsealed without one.
const newbornKey = "sys/newborn"

// Setup is what a new cluster is born with, before anybody has a token: applied at its first unseal, whole or not at
// all, and never again. A cluster that has been unsealed without one is people's to set up.
type Setup struct {
	Policies []SetupPolicy
	Mounts   []mount.Entry
	// Requests are made to engines after the mounts are there. They are asked for only where they are needed.
	Requests func() ([]SetupRequest, error)
}

// SetupPolicy is a policy to be written.
type SetupPolicy struct{ Name, Text string }

// SetupRequest is an update of a path of a mount, such as a user or a role.
type SetupRequest struct {
	Path string
	Data map[string]any
}

// Check finds what applying s to a new cluster would fail of, by doing so in memory.
func (s *Setup) Check(ctx context.Context) error {
	scratch := inmem.New()
	n, err := New(Options{Store: scratch, Setup: s})
	if err != nil {
		return err
	}
	defer n.Close()
	var requests []SetupRequest
	if s.Requests != nil {
		// A password's file is needed until the first unseal only.
		if requests, err = s.Requests(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return scratch.Update(ctx, func(tx store.Tx) error { return n.applySetup(ctx, tx, requests) })
}

// setUp applies Options.Setup where that is due. A failure leaves everything as it was and doesn't keep the server
// sealed: it is told to the log and to who asks for the seal's status, and tried again by the sweeper and at the next
// start.
func (n *Node) setUp(ctx context.Context, act *active) error {
	due := false
	look := func(r store.Reader) error {
		values, err := r.Get(newbornKey)
		due = err == nil && values[0] != nil
		return err
	}
	if err := act.Barrier.View(ctx, look); err != nil || !due {
		return err
	}
	var requests []SetupRequest
	var err error
	if n.Setup != nil && n.Setup.Requests != nil {
		requests, err = n.Setup.Requests() // hashes passwords, which is too slow for a transaction
	}
	if err == nil {
		err = act.Barrier.Update(ctx, func(tx store.Tx) error {
			if err := look(tx); err != nil || !due {
				return err
			}
			if n.Setup != nil {
				if err := n.applySetup(ctx, tx, requests); err != nil {
					return err
				}
			}
			return tx.Delete(newbornKey)
		})
	}
	switch n.setupFailed.Store(err != nil); {
	case errors.Is(err, store.ErrUnknownOutcome):
		return err
	case err != nil:
		n.Logger.Error("the initialize block of the configuration could not be applied, and nothing of it was: mend it; it is tried again every few minutes, and at the next start", "error", err)
	case due && n.Setup != nil:
		n.Logger.Info("the initialize block of the configuration was applied", "policies", len(n.Setup.Policies), "mounts", len(n.Setup.Mounts), "logins", len(requests))
	}
	return nil
}

// warnSetup is told with the seal's status while what a new cluster should be born with could not be applied.
const warnSetup = "the initialize block of the configuration could not be applied, and nothing of it was: see the server's log, mend it and restart the server"

func (n *Node) applySetup(ctx context.Context, tx store.Tx, requests []SetupRequest) error {
	for _, p := range n.Setup.Policies {
		name, err := policy.NormalizeName(p.Name)
		if err == nil {
			err = putPolicy(tx, name, p.Text, n.Now())
		}
		if err != nil {
			return fmt.Errorf("policy %s: %w", p.Name, err)
		}
	}
	for _, e := range n.Setup.Mounts {
		t, err := mount.Load(tx)
		if err == nil && t.At(e.Path) == nil { // a cluster that was set up by hand may have it
			err = n.enable(tx, t, e)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", e.Path, err)
		}
	}
	for _, q := range requests {
		if err := n.setupRequest(ctx, tx, q); err != nil {
			return fmt.Errorf("%s: %s", q.Path, strings.TrimPrefix(err.Error(), "JSON decoding: "))
		}
	}
	if err := changedPolicies(tx); err != nil {
		return err
	}
	return changedSystem(tx)
}

var errSetupPath = fault.New(fault.Invalid, "no mount has such a path: the initialize block needs the auth method or engine too")

// setupRequest runs the handler of an engine inside the transaction of the setup.
func (n *Node) setupRequest(ctx context.Context, tx store.Tx, q SetupRequest) error {
	t, err := mount.Load(tx)
	if err != nil {
		return err
	}
	e, rest, ok := t.Find(q.Path)
	if !ok || n.KindOf(e) == nil {
		return errSetupPath
	}
	route, params := n.KindOf(e).table.Match(rest)
	if route == nil || route.Ops[engine.Update] == nil || route.Login {
		return errSetupPath
	}
	text, err := json.Marshal(q.Data)
	if err != nil {
		return err
	}
	fields, err := body.Decode(text, false)
	if err != nil {
		return err
	}
	_, err = route.Ops[engine.Update](ctx, &engine.Request{
		Op: engine.Update, Params: params, Fields: &fields, Mount: n.engineMount(e), Now: n.Now(), Txns: setupTxns{store.Within(tx, e.Records())},
	})
	return err
}

// setupTxns are transactions that take place inside another one.
type setupTxns struct{ tx store.Tx }

// View implements engine.Txns.
func (s setupTxns) View(_ context.Context, fn func(engine.Tx) error) error {
	return fn(setupTx{store.ReadOnly(s.tx)})
}

// Update implements engine.Txns.
func (s setupTxns) Update(_ context.Context, fn func(engine.Tx) error) error {
	return fn(setupTx{s.tx})
}

// Allowed implements engine.Txns.
func (setupTxns) Allowed(context.Context) error { return nil }

type setupTx struct{ store.Tx }

// Holder implements engine.Tx.
func (setupTx) Holder() string { return "" }

// Login implements engine.Tx.
func (setupTx) Login(engine.Login) error { return errNoLogin }
