package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/inmem"
)

// outage is a store that can be out of reach: it fails, or it lets everybody wait.
type outage struct {
	store.Store
	failing, hanging atomic.Bool
}

func (o *outage) check(ctx context.Context) error {
	if o.hanging.Load() {
		<-ctx.Done()
	}
	if o.failing.Load() {
		return fmt.Errorf("%w (connection refused)", fault.New(fault.Unavailable, "the store can't be reached"))
	}
	return ctx.Err()
}

func (o *outage) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := o.check(ctx); err != nil {
		return err
	}
	return o.Store.View(ctx, fn)
}

func (o *outage) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := o.check(ctx); err != nil {
		return err
	}
	return o.Store.Update(ctx, fn)
}

// A server that can't reach its store says so in a time in which whoever balances load still listens.
func TestHealthWithoutAStore(t *testing.T) {
	for name, row := range map[string]struct {
		down func(*outage) *atomic.Bool
		took time.Duration
	}{
		"it fails": {func(o *outage) *atomic.Bool { return &o.failing }, 0},
		"it hangs": {func(o *outage) *atomic.Bool { return &o.hanging }, healthPatience},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := &outage{Store: inmem.New()}
				s := &server{t: t, store: st, log: &logBuffer{}, clock: &clock{t: time.Now()}, l: Listener{Name: "test", APIAddrLoopback: true}}
				s.serve(st)
				down := row.down(st)
				check := func(open bool) {
					t.Helper()
					down.Store(true)
					began := time.Now()
					got := s.do("GET", "sys/health", "", stranger).want(503)
					if took := time.Since(began); took != row.took {
						t.Errorf("it took %v", took)
					}
					got.fieldsAre("initialized", "sealed", "standby", "performance_standby", "replication_performance_mode", "replication_dr_mode",
						"server_time_utc", "version", "enterprise", "store_unreachable")
					got.is("store_unreachable", true)
					got.is("sealed", !open)
					got.is("initialized", open)
					s.do("GET", "sys/health?haunhealthycode=299&activecode=298&sealedcode=297&uninitcode=296&standbycode=295", "").want(299)
					s.do("HEAD", "sys/health?haunhealthycode=299", "").want(299)
					down.Store(false)
				}
				back := func(code int) {
					t.Helper()
					if got := s.do("GET", "sys/health?haunhealthycode=299", "").want(code); strings.Contains(got.text, "store_unreachable") {
						t.Errorf("the store is back: %s", got.text)
					}
				}
				check(false)
				back(501)
				s.init(1, 1)
				check(false)
				back(503)
				s.unseal(1)
				check(true)
				back(200)
				if s.node.Sealed() {
					t.Error("the outage has sealed the server")
				}
			})
		})
	}
}

// A scrape doesn't wait for a store that hangs as long as each of its looks into it may take.
func TestMetricsOfAHangingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &outage{Store: inmem.New()}
		s := &server{t: t, store: st, log: &logBuffer{}, clock: &clock{t: time.Now()}, l: Listener{Name: "test", APIAddrLoopback: true, OpenMetrics: true}}
		s.serve(st)
		s.init(1, 1)
		s.unseal(1)
		st.hanging.Store(true)
		began := time.Now()
		s.do("GET", "sys/metrics", "").want(200).lines("quorate_sealed 0")
		if took := time.Since(began); took != scrapePatience {
			t.Errorf("it took %v", took)
		}
		st.hanging.Store(false)
	})
}

// member is a server over s's store, as one of several.
func (s *server) member(name string) *server {
	s.t.Helper()
	m := *s
	m.store, m.log = anystore.Again(s.t, s.store), &logBuffer{}
	logger := slog.New(slog.NewJSONHandler(m.log, nil))
	n, err := node.New(node.Options{Store: m.store, Now: m.clock.now, Logger: logger, LookInterval: 24 * time.Hour, Cluster: &node.Membership{
		Name: name, APIAddr: "https://" + name + ":8200", Addr: name + ":8201", Version: "0.2.0", Interval: 5 * time.Millisecond,
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	m.node = n
	m.api = New(Options{
		Node: n, Logger: logger, Now: m.clock.now, Version: "0.1.0", StorageType: "etcd",
		Limits: Limits{Open: Rate{PerSecond: 1e6, Burst: 1e6}, Token: Rate{PerSecond: 1e6, Burst: 1e6}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.RunMembership(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done; n.Close() })
	return &m
}

// members are three servers over one store: a and b unsealed, c not.
func members(t *testing.T) (a, b, c *server) {
	t.Helper()
	s := ready(t, 1, 1)
	s.node.Close()
	a, b, c = s.member("a"), s.member("b"), s.member("c")
	a.unseal(1)
	b.unseal(1)
	c.sees("a b (c)")
	return a, b, c
}

// sees waits until s knows of the servers with these names, those that are sealed in brackets.
func (s *server) sees(names string) {
	s.t.Helper()
	deadline, got := time.Now().Add(30*time.Second), ""
	for time.Now().Before(deadline) {
		list, err := s.node.Nodes(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		var found []string
		for _, n := range list {
			if n.Sealed {
				n.Name = "(" + n.Name + ")"
			}
			found = append(found, n.Name)
		}
		if got = strings.Join(found, " "); got == names {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("it sees %q, not %q", got, names)
}

func TestLeaderOfSeveral(t *testing.T) {
	a, b, c := members(t)
	for s, want := range map[*server][3]any{a: {true, "https://a:8200", "a:8201"}, b: {true, "https://b:8200", "b:8201"}, c: {false, "https://a:8200", "a:8201"}} {
		got := s.do("GET", "sys/leader", "", stranger).want(200)
		got.fieldsAre("ha_enabled", "is_self", "active_time", "leader_address", "leader_cluster_address", "performance_standby", "performance_standby_last_remote_wal")
		got.is("ha_enabled", true)
		got.is("is_self", want[0])
		got.is("leader_address", want[1])
		got.is("leader_cluster_address", want[2])
		if got.str("active_time") != map[bool]string{true: "2026-11-24T03:00:00Z", false: "0001-01-01T00:00:00Z"}[s != c] {
			t.Errorf("active since %s", got.str("active_time"))
		}
	}
	a.do("PUT", "sys/seal", "", withToken(a.root)).want(204)
	b.do("GET", "sys/health", "").want(503) // it has not looked yet
	c.sees("(a) (b) (c)")
	got := c.do("GET", "sys/leader", "").want(200)
	got.is("is_self", false)
	got.is("leader_address", "")
}

func TestHAStatus(t *testing.T) {
	a, b, c := members(t)
	a.do("GET", "sys/ha-status", "").wantErrors(403, "permission denied")
	limited, _ := a.newToken(`{"policies":["default"]}`)
	b.do("GET", "sys/ha-status", "", withToken(limited)).wantErrors(403, "permission denied")
	c.do("GET", "sys/ha-status", "", withToken(a.root)).wantErrors(503, "Vault is sealed")
	got := b.do("GET", "sys/ha-status", "", withToken(b.root)).want(200)
	got.fieldsAre("nodes", "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	for _, at := range []*response{got, got.in("data")} { // the same at both places
		list := at.body["nodes"].([]any)
		if len(list) != 3 {
			t.Fatalf("%d servers: %s", len(list), at.text)
		}
		for i, name := range []string{"a", "b", "c"} {
			open := name != "c"
			want := map[string]any{
				"hostname": name, "api_address": "https://" + name + ":8200", "cluster_address": name + ":8201", "active_node": open,
				"last_echo": "2026-11-24T03:00:00Z", "version": "0.2.0", "sealed": !open, "started": "2026-11-24T03:00:00Z", "self": name == "b",
			}
			if fmt.Sprint(list[i]) != fmt.Sprint(want) {
				t.Errorf("%v, want %v", list[i], want)
			}
		}
	}
	single := ready(t, 1, 1)
	got = single.do("GET", "sys/ha-status", "", withToken(single.root)).want(200)
	if list := got.body["nodes"].([]any); len(list) != 1 || list[0].(map[string]any)["self"] != true || list[0].(map[string]any)["version"] != "0.1.0" {
		t.Errorf("a server without others: %s", got.text)
	}
}

// node_only seals the server that is asked, and nothing else; who says nothing seals all of them.
func TestSealOneOfSeveral(t *testing.T) {
	a, b, c := members(t)
	attempt := a.do("PUT", "sys/generate-root/attempt", "").want(200).str("nonce")
	b.do("PUT", "sys/seal", `{"node_only":"perhaps"}`, withToken(b.root)).want(400)
	b.do("PUT", "sys/seal", `{"node_only":"perhaps"}`).wantErrors(403, "permission denied")
	b.do("PUT", "sys/seal", `{"node_only":true}`).wantErrors(403, "permission denied")
	if b.node.Sealed() {
		t.Fatal("a request that was refused has sealed it")
	}
	b.do("PUT", "sys/seal", `{"node_only":true}`, withToken(b.root)).want(204)
	b.do("GET", "sys/seal-status", "").want(200).is("sealed", true)
	a.do("GET", "auth/token/lookup-self", "", withToken(a.root)).want(200)
	a.do("GET", "sys/generate-root/attempt", "").want(200).is("nonce", attempt)
	b.unseal(1)
	c.unseal(1)
	c.do("PUT", "sys/seal", `{"node_only":false}`, withToken(c.root)).want(204)
	for _, s := range []*server{a, b, c} {
		s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).wantErrors(503, "Vault is sealed")
		s.do("GET", "sys/seal-status", "").want(200).is("sealed", true)
	}
	a.unseal(1)
	a.do("GET", "sys/generate-root/attempt", "").want(200).is("started", false)
}
