package node

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/auth/approle"
	"github.com/quorate/quorate/internal/auth/userpass"
	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/cubbyhole"
	"github.com/quorate/quorate/internal/engine/kv"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// EngineKind is one kind of secrets engine or auth method that this server has. To add one, add it to engineKinds.
type EngineKind struct {
	Type    string // as mounts name it
	Version string // the option version of the mounts that it serves; "" for all
	Auth    bool
	Once    bool // is mounted from the start, and can't be mounted again
	Routes  []engine.Route

	engine engine.Engine
	table  *engine.Table
}

func engineKinds() ([]*EngineKind, error) {
	kinds := []*EngineKind{
		{Type: "kv", Version: "1", engine: kv.V1()},
		{Type: "kv", Version: "2", engine: kv.V2()},
		{Type: "cubbyhole", Once: true, engine: cubbyhole.New()},
		{Type: "userpass", Auth: true, engine: userpass.New()},
		{Type: "approle", Auth: true, engine: approle.New()},
	}
	for _, k := range kinds {
		var err error
		k.Routes = k.engine.Routes()
		if k.table, err = engine.NewTable(k.Routes); err != nil {
			return nil, fmt.Errorf("engine %s: %w", k.Type, err)
		}
	}
	return kinds, nil
}

// Engines are the kinds of engines that can be mounted, and those that always are.
func (n *Node) Engines() []*EngineKind { return n.kinds }

// KindOf finds the engine of a mount, nil for what is no engine.
func (n *Node) KindOf(e *mount.Entry) *EngineKind {
	i := slices.IndexFunc(n.kinds, func(k *EngineKind) bool {
		return k.Type == e.Type && k.Auth == e.Auth() && (k.Version == "" || k.Version == e.Options["version"])
	})
	if i < 0 {
		return nil
	}
	return n.kinds[i]
}

// Place is where a path leads: to a route of a mount.
type Place struct {
	Mount  *mount.Entry
	Kind   *EngineKind
	Route  *engine.Route     // nil: the mount has no such path
	Params map[string]string // what stands in the route's varying parts
	Path   string            // that policies are asked about; "" if it is the one that was asked for
}

// Locate finds where a path leads, as last seen by this process; nil if to no mount. What is found is checked again in
// the transaction that uses it, so a mistake ends in ErrMoved; nothing found is only sure with Refresh before.
func (n *Node) Locate(path string) *Place {
	a := n.active.Load()
	if a == nil {
		return nil
	}
	e, rest, ok := a.sys.Load().mounts.Find(path)
	if !ok {
		return nil
	}
	p := &Place{Mount: e, Kind: n.KindOf(e)}
	if p.Kind == nil { // sys/ and auth/token/ are no engines
		return nil
	}
	p.Route, p.Params = p.Kind.table.Match(rest)
	p.foldNames()
	return p
}

// foldNames gives the names in the path the one form that they are compared in.
func (p *Place) foldNames() {
	namer, ok := p.Kind.engine.(engine.Namer)
	if !ok || p.Route == nil {
		return
	}
	folded := false
	for _, part := range namer.Names() {
		if name, err := engine.Name(p.Params[part]); err == nil && name != p.Params[part] { // a bad one is the engine's to refuse
			p.Params[part], folded = name, true
		}
	}
	if !folded {
		return
	}
	parts := strings.Split(p.Route.Path, "/")
	for i, part := range parts {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			parts[i] = p.Params[strings.TrimSuffix(name, "}")]
		}
	}
	p.Path = p.Mount.Path + strings.Join(parts, "/")
}

// Refresh brings what Locate, Quotas and CORS see up to date.
func (n *Node) Refresh(ctx context.Context) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		_, err := act.snapshot(ctx)
		return err
	})
}

// EngineRequest is a request to a mount, as the wire sees it.
type EngineRequest struct {
	Op     engine.Operation
	Fields *body.Fields
	Query  url.Values
	Client netip.Addr
}

// Issued is a token that was made for a client; it is seen only here.
type Issued struct {
	ID       secret.Bytes
	Token    *token.Entry
	Warnings []string
}

// Serve answers a request to the place that Locate found. Where the route is no login, a decides.
func (n *Node) Serve(ctx context.Context, a Access, p *Place, q EngineRequest) (*engine.Response, *Issued, error) {
	a.mount, a.Sudo = p.Mount, p.Route.Sudo
	t := &txns{node: n, access: a, place: p}
	r := &engine.Request{
		Op: q.Op, Params: p.Params, Fields: q.Fields, Query: q.Query, Mount: n.engineMount(p.Mount), Now: n.Now(), Client: q.Client, Txns: t,
	}
	if p.Route.Exists != nil {
		t.access.exists = func(tx store.Reader) (bool, error) {
			return p.Route.Exists(store.Within(store.ReadOnly(tx), p.Mount.Records()), r)
		}
	}
	resp, err := p.Route.Ops[q.Op](ctx, r)
	if err != nil {
		t.issued.ID.Wipe()
		return nil, nil, err
	}
	if t.issued.Token == nil {
		return resp, nil, nil
	}
	return resp, &t.issued, nil
}

// engineMount is what an engine sees of its mount.
func (n *Node) engineMount(e *mount.Entry) engine.Mount {
	m := engine.Mount{
		Path: e.Path, Accessor: e.Accessor, Options: maps.Clone(e.Options),
		DefaultTTL: e.Config.DefaultLeaseTTL, MaxTTL: e.Config.MaxLeaseTTL,
	}
	setDefault(&m.MaxTTL, n.MaxTTL)
	setDefault(&m.DefaultTTL, min(n.DefaultTTL, m.MaxTTL))
	return m
}

// txns are the transactions of one request to a mount.
type txns struct {
	node   *Node
	access Access
	place  *Place
	issued Issued
}

// View implements engine.Txns.
func (t *txns) View(ctx context.Context, fn func(engine.Tx) error) error {
	if !t.place.Route.Login {
		return t.node.View(ctx, t.access, func(c *Call) error { return fn(t.tx(c)) })
	}
	return t.node.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error { return t.stranger(act, store.ReadOnly(r), fn) })
	})
}

// Update implements engine.Txns.
func (t *txns) Update(ctx context.Context, fn func(engine.Tx) error) error {
	if !t.place.Route.Login {
		return t.node.Update(ctx, t.access, func(c *Call) error { return fn(t.tx(c)) })
	}
	return t.node.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error { return t.stranger(act, tx, fn) })
	})
}

// Allowed implements engine.Txns.
func (t *txns) Allowed(ctx context.Context) error {
	if t.place.Route.Login {
		return nil
	}
	return t.node.admit(ctx, t.access)
}

// stranger runs fn for one who has no token yet, if the mount is still where it was found.
func (t *txns) stranger(act *active, tx store.Tx, fn func(engine.Tx) error) error {
	sys, err := act.system(tx)
	switch {
	case err != nil:
		return err
	case !sys.leads(t.place.Mount):
		return ErrMoved
	}
	return fn(t.tx(&Call{Tx: tx, Tokens: act.tokens, sys: sys, node: t.node, act: act}))
}

func (t *txns) tx(c *Call) engine.Tx {
	t.issued.ID.Wipe()
	t.issued = Issued{} // of a run before this one
	return &mountTx{Tx: store.Within(c.Tx, t.place.Mount.Records()), call: c, txns: t}
}

// mountTx is a mount's part of a transaction.
type mountTx struct {
	store.Tx
	call *Call // without a token at a login
	txns *txns
}

// Holder implements engine.Tx.
func (m *mountTx) Holder() string {
	if m.call.Token == nil {
		return ""
	}
	return m.call.Token.RecordID
}

var errNoLogin = fault.New(fault.Unsupported, "this mount makes no tokens")

// Login implements engine.Tx.
func (m *mountTx) Login(l engine.Login) error {
	c, p := m.call, m.txns.place
	if !p.Kind.Auth || !p.Route.Login {
		return errNoLogin
	}
	at := c.node.engineMount(p.Mount)
	id, e, warnings, err := c.Tokens.Login(c.Tx, token.LoginSpec{
		Path: at.Path + strings.TrimPrefix(l.Path, "/"), Mount: p.Mount.UUID, Login: l, DefaultTTL: at.DefaultTTL, MaxTTL: at.MaxTTL,
		Known: c.knows,
	})
	if err == nil {
		m.txns.issued = Issued{ID: id, Token: e, Warnings: warnings}
	}
	return err
}
