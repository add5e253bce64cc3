package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/etcd"
	"github.com/quorate/quorate/internal/store/postgres"
)

// storeTimeout is what the nodes wait for their engine, much less than a client waits for its answer.
const storeTimeout = time.Second

// onEachEngine runs a test over each of the real engines, with connections for n nodes.
func onEachEngine(t *testing.T, n int, test func(t *testing.T, e engine)) {
	t.Run("postgresql", func(t *testing.T) { test(t, newPostgres(t, n)) })
	t.Run("etcd", func(t *testing.T) { test(t, newEtcd(t, n)) })
}

// wires are the connections of one node to its engine.
type wires []*engines.Proxy

func (w wires) each(fn func(*engines.Proxy)) {
	for _, p := range w {
		fn(p)
	}
}

// faults are what can happen to one node's connections.
func (w wires) faults(node int) []fault {
	heal := func() { w.each((*engines.Proxy).Heal) }
	of := func(what string, inject func(*engines.Proxy)) fault {
		return fault{fmt.Sprintf("%s the connections of node %c", what, 'A'+node), func() { w.each(inject) }, heal, 0}
	}
	return []fault{
		of("cut", (*engines.Proxy).Cut),
		of("delay", func(p *engines.Proxy) { p.Delay(20 * time.Millisecond) }),
		of("hang", (*engines.Proxy).Hang),
		of("lose answers on", func(p *engines.Proxy) { // what was asked has been done
			var answers atomic.Int64
			p.Filter(func(toServer bool, _ []byte) bool { return toServer || answers.Add(1)%8 != 0 })
		}),
	}
}

// postgresEngine is a database of the test's own, in a server that the tests of this package have one after the other.
type postgresEngine struct {
	t        testing.TB
	server   *engines.Postgres
	database string
	nodes    []wires
}

func newPostgres(t testing.TB, n int) *postgresEngine {
	t.Helper()
	e := &postgresEngine{t: t, server: engines.PostgreSQL(t)}
	e.database = e.server.NewDatabase(t)
	for range n {
		e.nodes = append(e.nodes, wires{engines.NewProxy(t, e.server.Address())})
	}
	return e
}

func (e *postgresEngine) open(ctx context.Context, i int) (store.Store, error) {
	st, err := postgres.Open(ctx, postgres.Options{URL: e.server.URLAt(e.nodes[i][0].Address(), e.database), Timeout: storeTimeout})
	if err != nil {
		return nil, err // a nil *postgres.Store must not become a store.Store
	}
	return st, nil
}

func (e *postgresEngine) faults() []fault {
	list := []fault{e.outage()}
	for i, w := range e.nodes {
		list = append(list, w.faults(i)...)
	}
	return list
}

func (e *postgresEngine) outage() fault {
	return fault{"kill the server of PostgreSQL", e.server.Kill, func() {
		if err := e.server.Start(); err != nil {
			e.t.Error(err)
		}
	}, 0}
}

// etcdEngine is a cluster of the test's own.
type etcdEngine struct {
	t       testing.TB
	members *members
	nodes   []wires
}

func newEtcd(t testing.TB, n int) *etcdEngine {
	t.Helper()
	e := &etcdEngine{t: t, members: startMembers(t, false)}
	for range n {
		var w wires
		for _, s := range e.members.settings {
			w = append(w, engines.NewProxy(t, s.Client))
		}
		e.nodes = append(e.nodes, w)
	}
	return e
}

func (e *etcdEngine) open(ctx context.Context, i int) (store.Store, error) {
	var endpoints []string
	for _, p := range e.nodes[i] {
		endpoints = append(endpoints, "http://"+p.Address())
	}
	st, err := etcd.Open(ctx, etcd.Options{Endpoints: endpoints, Timeout: storeTimeout})
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (e *etcdEngine) faults() []fault {
	list := []fault{e.kill("kill the leader of etcd", 1)}
	for i, w := range e.nodes {
		list = append(list, w.faults(i)...)
	}
	return list
}

func (e *etcdEngine) outage() fault { return e.kill("kill the majority of etcd", 2) }

// kill kills the leader and as many others as make n.
func (e *etcdEngine) kill(name string, n int) fault {
	var down []int
	return fault{name, func() {
		first := e.members.leader()
		for i := range n {
			down = append(down, (first+i)%3)
			e.members.kill(down[i])
		}
	}, func() {
		if err := e.members.start(down...); err != nil {
			e.t.Error(err)
		}
		down = nil
	}, 0}
}
