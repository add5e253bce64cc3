// Package anystore opens the store that a test of the product's behaviour runs over: one in memory, unless the environment
// names an engine. Only tests import it.
//
// It promises that each test has an empty store of its own, which is removed at the end of the test, and that a second
// opening of it is as independent of the first as another machine's. It starts no engine, and it is not for tests that are
// about a store itself or that look into one.
package anystore

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/etcd"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/postgres"
	"github.com/quorate/quorate/internal/store/storetest"
)

// What the environment says.
const (
	Engine     = "QUORATE_TEST_STORE"      // inmem, rerun (storetest.Rerun over inmem), postgresql or etcd
	PostgreSQL = "QUORATE_TEST_POSTGRESQL" // the URL of a database in which tables may be made
	Etcd       = "QUORATE_TEST_ETCD"       // endpoints, separated by commas
)

// again maps a store to what opens it a second time.
var again sync.Map

// New returns an empty store.
func New(t testing.TB) store.Store {
	t.Helper()
	var open func(testing.TB) store.Store
	switch engine := os.Getenv(Engine); engine {
	case "", "inmem":
		return inmem.New()
	case "rerun":
		return storetest.Rerun(inmem.New())
	case "postgresql":
		open = newTable(t)
	case "etcd":
		open = newPrefix(t)
	default:
		t.Fatalf("%s is %q, which is no store: leave it out, or say inmem, rerun, postgresql or etcd", Engine, engine)
	}
	return opened(t, open)
}

// Again opens a store that New made, or Again, once more, as another machine would.
func Again(t testing.TB, st store.Store) store.Store {
	t.Helper()
	if open, ok := again.Load(st); ok {
		return opened(t, open.(func(testing.TB) store.Store))
	}
	return shared{st}
}

func opened(t testing.TB, open func(testing.TB) store.Store) store.Store {
	t.Helper()
	st := open(t)
	again.Store(st, open)
	t.Cleanup(func() {
		again.Delete(st)
		if err := st.Close(); err != nil {
			t.Errorf("close the test's store: %v", err)
		}
	})
	return st
}

// shared is a store in memory that has another owner.
type shared struct{ store.Store }

func (shared) Close() error { return nil }

// newTable returns what opens a store over a table that isn't there yet. The test's end drops it.
func newTable(t testing.TB) func(testing.TB) store.Store {
	t.Helper()
	url, table := setting(t, PostgreSQL), "t"+name()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Errorf("connect to drop the table of a test: %v", err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS "+table+", "+table+"_schema"); err != nil {
			t.Errorf("drop the table of a test: %v", err)
		}
	})
	return func(t testing.TB) store.Store {
		t.Helper()
		st, err := postgres.Open(context.Background(), postgres.Options{URL: url, Table: table, MaxConnections: 6, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

// newPrefix returns what opens a store below a prefix that has no keys yet. The test's end deletes those it has then.
func newPrefix(t testing.TB) func(testing.TB) store.Store {
	t.Helper()
	endpoints, prefix := strings.Split(setting(t, Etcd), ","), "test/"+name()+"/"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
		if err != nil {
			t.Errorf("connect to delete the keys of a test: %v", err)
			return
		}
		defer client.Close()
		if _, err := client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
			t.Errorf("delete the keys of a test: %v", err)
		}
	})
	return func(t testing.TB) store.Store {
		t.Helper()
		st, err := etcd.Open(context.Background(), etcd.Options{Endpoints: endpoints, Prefix: prefix, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
}

func setting(t testing.TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Fatalf("%s names an engine, and %s doesn't say where it is", Engine, variable)
	}
	return value
}

func name() string { return strings.ToLower(rand.Text()) }
