package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// horseHash is bcrypt of "correct horse": to hash it anew for each test takes long where races are looked for.
const horseHash = "$2a$10$Z53fd6ysUsiiH2GuKXoosuiFZOcyfiqLRla60dv57YsJoLBn1VxAi"

// setUps is a configuration and what became of it.
type setUps struct {
	setup Setup
	asked int // how often its requests were
}

func newSetup() *setUps {
	s := &setUps{}
	s.setup = Setup{
		Policies: []SetupPolicy{{"dev", `path "secret/*" { capabilities = ["read"] }`}, {"Ops", `path "sys/mounts" { capabilities = ["read"] }`}},
		Mounts: []mount.Entry{
			{Path: "secret/", Type: "kv", Options: map[string]string{"version": "2"}},
			{Path: "auth/userpass/", Type: "userpass"},
			{Path: "auth/approle/", Type: "approle"},
		},
	}
	s.setup.Requests = func() ([]SetupRequest, error) {
		s.asked++
		return []SetupRequest{
			{"auth/userpass/users/alice", map[string]any{"password_hash": horseHash, "policies": []string{"dev"}}},
			{"auth/approle/role/app", map[string]any{"token_policies": []string{"dev"}, "token_ttl": "20m"}},
			{"secret/config", map[string]any{"max_versions": 5}},
		}, nil
	}
	return s
}

// reborn is a new process with a configuration that has an initialize block.
func (c *cluster) reborn(s *Setup) {
	c.t.Helper()
	c.boot()
	c.node.Setup = s
}

// setupRecords are the keys of what a setup makes, which the barrier leaves in clear.
func setupRecords(r store.Reader) (list []string, err error) {
	for _, prefix := range []string{"policy/acl/", "mount/table/", "mount/data/"} {
		for e, err := range r.Scan(prefix, "") {
			if err != nil {
				return nil, err
			}
			list = append(list, e.Key)
		}
	}
	slices.Sort(list)
	return list, nil
}

// whole looks after every transaction that all of the setup is there, or nothing.
type whole struct {
	store.Store
	t  *testing.T
	mu sync.Mutex
	is []string // the latest
	ed int      // how often it was something new
}

func (w *whole) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := w.Store.Update(ctx, fn)
	w.mu.Lock()
	defer w.mu.Unlock()
	errView := w.Store.View(ctx, func(r store.Reader) error {
		list, err := setupRecords(r)
		if !slices.Equal(list, w.is) {
			w.is, w.ed = list, w.ed+1
		}
		return err
	})
	if errView != nil && err == nil {
		w.t.Error(errView)
	}
	return err
}

// isSetUp says that everything of the setup is there and works.
func (c *cluster) isSetUp() {
	c.t.Helper()
	c.asRoot(func(call *Call) error {
		for _, name := range []string{"dev", "ops"} {
			if p, err := call.Policy(name); err != nil || p == nil {
				return fmt.Errorf("policy %s: %v %w", name, p, err)
			}
		}
		return nil
	})
	c.mustAsk(c.root, engine.Update, "secret/data/a", `{"data":{"v":"1"}}`)
	if got := c.reads(c.login("auth/userpass/"), "secret/data/a"); !strings.Contains(got, `"v":"1"`) {
		c.t.Errorf("alice reads %q", got)
	}
	if got := c.reads(c.root, "auth/approle/role/app"); !strings.Contains(got, `1200`) {
		c.t.Errorf("the role is %s", got)
	}
	if got := c.reads(c.root, "secret/config"); !strings.Contains(got, `"max_versions":5`) {
		c.t.Errorf("the configuration of the mount is %s", got)
	}
}

// The block is applied at the first unseal, in one transaction, and never again.
func TestSetupIsAppliedOnce(t *testing.T) {
	w, s := &whole{Store: inmem.New(), t: t}, newSetup()
	c := &cluster{t: t, st: w, clock: newClock(), log: &syncBuffer{}}
	c.reborn(&s.setup)
	c.init(3, 2)
	if w.ed != 0 || s.asked != 0 {
		t.Error("init has set something up, which it can't have the keys for")
	}
	c.unseal()
	if w.ed != 1 || s.asked != 1 {
		t.Errorf("set up in %d transactions, asked %d times:\n%s", w.ed, s.asked, strings.Join(w.is, "\n"))
	}
	c.isSetUp()
	// What people change afterwards is theirs.
	c.writePolicy("dev", `path "secret/data/b" { capabilities = ["read"] }`)
	c.asRoot(func(call *Call) error { return call.DeletePolicy("ops") })
	c.disable("approle", true)
	c.mustAsk(c.root, engine.Delete, "auth/userpass/users/alice", "")
	c.sweepAll()
	after := w.ed
	records := slices.Clone(w.is)
	second := c.other()
	second.node.Setup = &s.setup
	for range 2 {
		c.reborn(&s.setup)
		c.unseal()
		if err := c.seal(); err != nil {
			t.Fatal(err)
		}
		c.unseal()
	}
	if w.ed != after || !slices.Equal(w.is, records) || s.asked != 1 {
		t.Errorf("applied again, after %d asks:\n%s\nbut was\n%s", s.asked, strings.Join(w.is, "\n"), strings.Join(records, "\n"))
	}
	if strings.Contains(c.log.String(), "correct horse") {
		t.Error("a password is in the log")
	}
}

// What can't be applied leaves nothing, tells why, keeps nobody from unsealing, and is tried again at the next unseal.
func TestSetupFailsWhole(t *testing.T) {
	for name, spoil := range map[string]func(*Setup){
		"requests": func(s *Setup) {
			s.Requests = func() ([]SetupRequest, error) { return nil, errors.New("no such password file") }
		},
		"policy": func(s *Setup) { s.Policies = append(s.Policies, SetupPolicy{"bad", "path {"}) },
		"root": func(s *Setup) {
			s.Policies = append(s.Policies, SetupPolicy{" ROOT", `path "*" { capabilities = ["sudo"] }`})
		},
		"name":     func(s *Setup) { s.Policies = append(s.Policies, SetupPolicy{"", ""}) },
		"mount":    func(s *Setup) { s.Mounts = append(s.Mounts, mount.Entry{Path: "x/", Type: "plugin"}) },
		"nested":   func(s *Setup) { s.Mounts = append(s.Mounts, mount.Entry{Path: "secret/below/", Type: "kv"}) },
		"reserved": func(s *Setup) { s.Mounts = append(s.Mounts, mount.Entry{Path: "sys/below/", Type: "kv"}) },
		"no such mount": func(s *Setup) {
			s.Requests = func() ([]SetupRequest, error) { return []SetupRequest{{"auth/ldap/users/alice", nil}}, nil }
		},
		"a login": func(s *Setup) {
			s.Requests = func() ([]SetupRequest, error) {
				return []SetupRequest{{"auth/userpass/login/alice", map[string]any{"password": "x"}}}, nil
			}
		},
		"the last request": func(s *Setup) {
			before := s.Requests
			s.Requests = func() ([]SetupRequest, error) {
				list, err := before()
				return append(list, SetupRequest{"auth/userpass/users/bob", map[string]any{"password": "x", "policies": "root"}}), err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, bad, good := &whole{Store: inmem.New(), t: t}, newSetup(), newSetup()
			spoil(&bad.setup)
			c := &cluster{t: t, st: w, clock: newClock(), log: &syncBuffer{}}
			c.reborn(&bad.setup)
			c.init(3, 2)
			c.unseal()
			if w.ed != 0 {
				t.Errorf("of what failed this is left:\n%s", strings.Join(w.is, "\n"))
			}
			if log := c.log.String(); strings.Count(log, "initialize block of the configuration could not be applied") != 1 || strings.Contains(log, "block of the configuration was applied") {
				t.Errorf("the log: %s", log)
			}
			if c.lookup(c.root) == nil {
				t.Error("the root token is dead")
			}
			c.reborn(&good.setup)
			c.unseal()
			if w.ed != 1 {
				t.Errorf("set up in %d transactions", w.ed)
			}
			c.isSetUp()
		})
	}
}

// A cluster that has been unsealed without an initialize block is people's to set up: one that is added later does nothing.
func TestSetupIsForTheNewborn(t *testing.T) {
	c, s := newCluster(t, 1, 1), newSetup()
	c.mounts(mount.Entry{Path: "secret/", Type: "kv", Options: map[string]string{"version": "2"}, Description: "ours"})
	c.mustAsk(c.root, engine.Update, "secret/data/old", `{"data":{"v":"0"}}`)
	c.reborn(&s.setup)
	c.unseal()
	if s.asked != 0 {
		t.Errorf("its requests were asked for %d times", s.asked)
	}
	if got := c.reads(c.root, "secret/data/old"); !strings.Contains(got, `"v":"0"`) {
		t.Errorf("what was there: %s", got)
	}
	err := c.node.Store.View(t.Context(), func(r store.Reader) error {
		records, err := setupRecords(r)
		if slices.ContainsFunc(records, func(key string) bool { return strings.HasPrefix(key, policyPrefix) }) {
			t.Errorf("policies were written: %q", records)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A server that dies at any commit of its first unseal leaves the setup done or undone, and the next one completes it.
func TestSetupCrash(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		reached := true
		for n := 1; reached; n++ {
			t.Run(fmt.Sprintf("%v/%d", mode, n), func(t *testing.T) { reached = setupCrashAt(t, mode, n) })
			if !reached && n < 3 {
				t.Fatalf("only %d commits in a first unseal", n-1)
			}
		}
	}
}

func setupCrashAt(t *testing.T, mode storetest.Mode, n int) (reached bool) {
	faulty, s := storetest.NewFaulty(inmem.New()), newSetup()
	w := &whole{Store: faulty, t: t}
	c := &cluster{t: t, st: w, clock: newClock(), log: &syncBuffer{}}
	c.reborn(&s.setup)
	c.init(1, 1)
	faulty.FailCommit(n, mode)
	_, err := c.node.Unseal(t.Context(), c.share(0), false, "")
	if reached = faulty.Crashed(); reached != (err != nil) {
		t.Errorf("crashed: %v, unseal: %v", reached, err)
	}
	faulty.Recover()
	c.reborn(&s.setup)
	c.unseal()
	if w.ed != 1 {
		t.Errorf("set up in %d transactions", w.ed)
	}
	c.isSetUp()
	if log := c.log.String(); strings.Contains(log, "nothing of it was") && mode == storetest.Kept && strings.Count(log, "block of the configuration was applied") == 0 {
		t.Errorf("the log says that nothing was applied, and it was: %s", log)
	}
	return reached
}
