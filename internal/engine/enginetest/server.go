// Package enginetest holds an engine to its contract: a server of one mount in memory, and a suite that every engine
// passes.
//
// It promises that what an engine does here it does in the product: routes are matched by the same table, bodies are
// read by the same decoder, records are confined in the same way, and every Update runs its function twice, as a store
// may. It doesn't know tokens and policies: a test says who asks, and whether that is allowed.
package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/storetest"
)

// records is where the mount's records are in the store.
const records = "mount/data/5b0c5a52-6b7e-4f0c-9a2f-2f3f2d3c4b5a/"

// Server is a server with one mount. A test sets what it needs to; the zero values are those of New.
type Server struct {
	Store  store.Store // whole; the mount's records are a part of it
	Mount  engine.Mount
	Now    time.Time
	Holder string     // of the requests that need a token
	Client netip.Addr // 192.0.2.1
	Denied error      // what a request that needs a token is refused with; nil: none is

	t      testing.TB
	engine engine.Engine
	table  *engine.Table
}

// New returns a server for an engine, on an empty store.
func New(t testing.TB, eng engine.Engine) *Server {
	t.Helper()
	table, err := engine.NewTable(eng.Routes())
	if err != nil {
		t.Fatal(err)
	}
	return &Server{
		Store: storetest.Rerun(anystore.New(t)), t: t, engine: eng, table: table,
		Mount:  engine.Mount{Path: "test/", Accessor: "test_1", DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour},
		Now:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Holder: "holder", Client: netip.MustParseAddr("192.0.2.1"),
	}
}

// Answer is what came of a request.
type Answer struct {
	Status   int
	Response *engine.Response // never nil if Err is
	Login    *engine.Login    // nil if no token was made
	Err      error
	Data     map[string]any // as a client decodes it; nil if there is none
}

// Do sends a request as the wire would. The path may have a query; body is JSON or empty.
func (s *Server) Do(op engine.Operation, path, text string) Answer {
	path, query, _ := strings.Cut(path, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return refused(fault.New(fault.Invalid, "the query can't be read"))
	}
	path = strings.TrimSuffix(path, "/")
	if op == engine.List && path != "" {
		path += "/"
	}
	route, params := s.table.Match(path)
	if route == nil {
		return refused(fault.New(fault.NotFound, "unsupported path"))
	}
	handle := route.Ops[op]
	if handle == nil {
		return refused(fault.New(fault.Unsupported, "unsupported operation"))
	}
	limit := int(route.Limit)
	if limit == 0 {
		limit = 16 << 10
	}
	if len(text) > limit {
		return refused(fault.New(fault.TooLarge, "the body is too large"))
	}
	fields, err := body.Decode([]byte(text), false)
	if err != nil {
		return refused(err)
	}
	defer fields.Wipe()
	tx := &txns{server: s, route: route, op: op}
	r := &engine.Request{Op: op, Params: params, Fields: &fields, Query: q, Mount: s.Mount, Now: s.Now, Client: s.Client, Txns: tx}
	tx.request = r
	resp, err := handle(context.Background(), r)
	if err == nil {
		err = tx.broken
	}
	if err != nil {
		return refused(err)
	}
	return s.answer(resp, tx.login)
}

func (s *Server) answer(resp *engine.Response, login *engine.Login) Answer {
	if resp == nil {
		resp = new(engine.Response)
	}
	a := Answer{Status: http.StatusOK, Response: resp, Login: login}
	switch {
	case resp.NotFound:
		a.Status = http.StatusNotFound
	case resp.Accepted:
		a.Status = http.StatusAccepted
	case resp.Data == nil && resp.Warnings == nil && login == nil:
		a.Status = http.StatusNoContent
	}
	if resp.Data != nil {
		text, err := json.Marshal(resp.Data)
		if err == nil {
			err = json.Unmarshal(text, &a.Data)
		}
		if err != nil {
			return refused(err)
		}
	}
	for _, own := range resp.Own {
		clear(own)
	}
	return a
}

// refused is the answer to a request that failed.
func refused(err error) Answer {
	a := Answer{Status: http.StatusInternalServerError, Err: err}
	if f := fault.As(err); f != nil {
		a.Status = map[fault.Kind]int{
			fault.Invalid: 400, fault.Denied: 403, fault.NotFound: 404, fault.Unsupported: 405, fault.TooLarge: 413,
			fault.MediaType: 415, fault.Limited: 429, fault.Sealed: 503, fault.Unavailable: 503,
		}[f.Kind]
	}
	return a
}

// Want sends a request, and fails the test if the status isn't this one.
func (s *Server) Want(status int, op engine.Operation, path, text string) Answer {
	s.t.Helper()
	a := s.Do(op, path, text)
	if a.Status != status {
		s.t.Fatalf("%v %s: %d (%v), want %d", op, path, a.Status, a.Err, status)
	}
	return a
}

// Sweep sweeps the mount, if its engine does.
func (s *Server) Sweep() {
	s.t.Helper()
	if sw, ok := s.engine.(engine.Sweeper); ok {
		if err := sw.Sweep(context.Background(), store.WithinStore(s.Store, records), s.Now); err != nil {
			s.t.Fatal("sweep:", err)
		}
	}
}

// Renew asks the engine what a login would make now.
func (s *Server) Renew(login engine.Login) (p engine.TokenParams, err error) {
	s.t.Helper()
	renewer, ok := s.engine.(engine.Renewer)
	if !ok {
		s.t.Fatal("the engine renews no tokens")
	}
	errView := s.Store.View(context.Background(), func(r store.Reader) error {
		login.Token = engine.TokenParams{} // what the server doesn't keep
		p, err = renewer.Renew(store.Within(store.ReadOnly(r), records), s.Mount, login)
		return nil
	})
	return p, errors.Join(err, errView)
}

// Records are the mount's records, by the engine's keys.
func (s *Server) Records() map[string]string {
	s.t.Helper()
	all, err := contents(s.Store, records)
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func contents(st store.Store, prefix string) (map[string]string, error) {
	all := make(map[string]string)
	err := st.View(context.Background(), func(r store.Reader) error {
		clear(all)
		for e, err := range r.Scan(prefix, "") {
			if err != nil {
				return err
			}
			all[strings.TrimPrefix(e.Key, prefix)] = string(e.Value)
		}
		return nil
	})
	return all, err
}

// What an engine does that its contract forbids.
var (
	errLoginHere = errors.New("a token was made on a route that is no login")
	errLoginView = errors.New("a token was made in a View")
	errTwice     = errors.New("a request with a token opened more than one transaction")
	errWrites    = errors.New("a read or a list opened an Update")
)

// txns are the transactions of one request.
type txns struct {
	server  *Server
	request *engine.Request
	route   *engine.Route
	op      engine.Operation
	opened  int
	login   *engine.Login
	broken  error // the contract is
}

func (x *txns) open(update bool) error {
	x.opened++
	switch {
	case update && (x.op == engine.Read || x.op == engine.List):
		x.broken = errWrites
	case x.opened > 1 && !x.route.Login:
		x.broken = errTwice
	}
	return x.broken
}

// Allowed implements engine.Txns.
func (x *txns) Allowed(context.Context) error {
	if x.route.Login {
		return nil
	}
	return x.server.Denied
}

// judge does in a transaction what the server does before the handler's part.
func (x *txns) judge(r store.Tx) error {
	if err := x.Allowed(context.Background()); err != nil || x.route.Login || x.route.Exists == nil || x.op != engine.Update {
		return err
	}
	_, err := x.route.Exists(store.Within(store.ReadOnly(r), records), x.request)
	return err
}

// View implements engine.Txns.
func (x *txns) View(ctx context.Context, fn func(engine.Tx) error) error {
	if err := x.open(false); err != nil {
		return err
	}
	return x.server.Store.View(ctx, func(r store.Reader) error { return x.run(store.ReadOnly(r), false, fn) })
}

// Update implements engine.Txns.
func (x *txns) Update(ctx context.Context, fn func(engine.Tx) error) error {
	if err := x.open(true); err != nil {
		return err
	}
	return x.server.Store.Update(ctx, func(tx store.Tx) error { return x.run(tx, true, fn) })
}

func (x *txns) run(tx store.Tx, update bool, fn func(engine.Tx) error) error {
	x.login = nil // of a run before this one
	if err := x.judge(tx); err != nil {
		return err
	}
	return fn(mountTx{store.Within(tx, records), x, update})
}

type mountTx struct {
	store.Tx
	txns   *txns
	update bool
}

// Holder implements engine.Tx.
func (m mountTx) Holder() string {
	if m.txns.route.Login {
		return ""
	}
	return m.txns.server.Holder
}

// Login implements engine.Tx.
func (m mountTx) Login(l engine.Login) error {
	switch {
	case !m.txns.route.Login:
		m.txns.broken = errLoginHere
	case !m.update:
		m.txns.broken = errLoginView
	}
	m.txns.login = &l
	return m.txns.broken
}
