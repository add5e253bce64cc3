package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/token"
)

var wanted = map[engine.Operation]policy.Capability{
	engine.Read: policy.Read, engine.Update: policy.Update, engine.Delete: policy.Delete, engine.List: policy.List,
}

// at asks for a path of a mount where place says that it is.
func (c *cluster) at(place *Place, id string, op engine.Operation, path, data string) (*engine.Response, *Issued, error) {
	c.t.Helper()
	if place == nil || place.Route == nil || place.Route.Ops[op] == nil {
		return nil, nil, fault.New(fault.NotFound, "no such path")
	}
	fields, err := body.Decode([]byte(data), false)
	if err != nil {
		c.t.Fatal(err)
	}
	a := c.access(id, strings.TrimSuffix(path, "/"), wanted[op])
	return c.node.Serve(c.t.Context(), a, place, EngineRequest{Op: op, Fields: &fields})
}

// ask asks for a path of a mount, as the wire does.
func (c *cluster) ask(id string, op engine.Operation, path, data string) (*engine.Response, *Issued, error) {
	c.t.Helper()
	for {
		if err := c.node.Refresh(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		resp, issued, err := c.at(c.node.Locate(path), id, op, path, data)
		if !errors.Is(err, ErrMoved) {
			return resp, issued, err
		}
	}
}

func (c *cluster) mustAsk(id string, op engine.Operation, path, data string) (*engine.Response, *Issued) {
	c.t.Helper()
	resp, issued, err := c.ask(id, op, path, data)
	if err != nil {
		c.t.Fatalf("%v %s: %v", op, path, err)
	}
	return resp, issued
}

// reads is what a read of a path shows, "" if it is refused.
func (c *cluster) reads(id, path string) string {
	c.t.Helper()
	resp, _, err := c.ask(id, engine.Read, path, "")
	if err != nil {
		if fault.As(err) == nil {
			c.t.Fatal(err)
		}
		return ""
	}
	text, err := json.Marshal(resp.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// asRoot does something to the whole system, with the root token.
func (c *cluster) asRoot(fn func(*Call) error) {
	c.t.Helper()
	if err := c.node.Update(c.t.Context(), c.access(c.root, "sys/x", policy.Update), fn); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) mounts(list ...mount.Entry) {
	c.t.Helper()
	for _, e := range list {
		c.asRoot(func(call *Call) error { return call.Enable(e) })
	}
}

func (c *cluster) writePolicy(name, text string) {
	c.t.Helper()
	c.asRoot(func(call *Call) error {
		_, err := call.PutPolicy(name, text)
		return err
	})
}

func (c *cluster) disable(path string, auth bool) {
	c.t.Helper()
	if err := c.node.Disable(c.t.Context(), c.access(c.root, "sys/x", policy.Delete), path, auth); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) move(from, to string, auth bool) {
	c.t.Helper()
	c.asRoot(func(call *Call) error {
		e, err := call.Mount(from, auth)
		if err != nil {
			return err
		}
		return call.Move(e, to)
	})
}

// other is a second server over the same store, unsealed.
func (c *cluster) other() *cluster {
	c.t.Helper()
	o := *c
	o.st = anystore.Again(c.t, c.st)
	o.boot()
	o.unseal()
	return &o
}

// withPeople has an auth method with one user, alice, who may create tokens and start ceremonies.
func withPeople(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, 3, 2)
	c.mounts(mount.Entry{Path: "auth/userpass/", Type: "userpass"}, mount.Entry{Path: "secret/", Type: "kv"})
	c.writePolicy("dev", `path "auth/token/create" { capabilities = ["update", "sudo"] }
path "sys/generate-root/attempt" { capabilities = ["update"] }
path "secret/*" { capabilities = ["read"] }`)
	c.mustAsk(c.root, engine.Update, "auth/userpass/users/alice", `{"password_hash":"`+horseHash+`","policies":"dev"}`)
	return c
}

// login logs alice in.
func (c *cluster) login(path string) string {
	c.t.Helper()
	_, issued := c.mustAsk("", engine.Update, path+"login/alice", `{"password":"correct horse"}`)
	return string(issued.ID.Reveal())
}

// sweepAll does what the slow sweeps do too.
func (c *cluster) sweepAll() {
	c.t.Helper()
	if err := c.node.sweepMounts(c.t.Context(), c.node.active.Load()); err != nil {
		c.t.Fatal(err)
	}
	c.sweepNow()
}

// family is a login with its tokens: one below it, one below that, and an orphan.
type family struct{ login, child, grandchild, orphan string }

func (c *cluster) family(path string) (f family) {
	c.t.Helper()
	f.login = c.login(path)
	f.child, _ = c.create(f.login, token.Spec{Path: "auth/token/create"})
	f.grandchild, _ = c.create(f.child, token.Spec{Path: "auth/token/create"})
	f.orphan, _ = c.create(f.login, token.Spec{Path: "auth/token/create", NoParent: true})
	return f
}

// dead says that a login and what is below it is dead, on a server, and that the orphan lives.
func (f family) dead(c *cluster, what string) {
	c.t.Helper()
	for name, id := range map[string]string{"the login": f.login, "its child": f.child, "its grandchild": f.grandchild} {
		if c.lookup(id) != nil {
			c.t.Errorf("%s: %s lives", what, name)
		}
	}
	if c.lookup(f.orphan) == nil {
		c.t.Errorf("%s: the orphan is dead", what)
	}
}

// An auth method that is disabled takes its logins with it, at once and everywhere, with the tokens below them, and
// after a sweep nothing of it is left.
func TestDisableEndsLogins(t *testing.T) {
	c := withPeople(t)
	f, second := c.family("auth/userpass/"), c.other()
	for name, id := range map[string]string{"login": f.login, "child": f.child, "grandchild": f.grandchild, "orphan": f.orphan} {
		if second.lookup(id) == nil {
			t.Fatalf("the %s is dead from the start", name)
		}
	}
	gone := c.node.Locate("auth/userpass/login/alice").Mount
	before := c.countBehind("token/")
	c.disable("userpass", true)
	f.dead(c, "after the disable")
	f.dead(second, "on the other server")
	if _, _, err := second.ask("", engine.Update, "auth/userpass/login/alice", `{"password":"correct horse"}`); err == nil {
		t.Error("a login through a method that is gone")
	}
	if n := c.countBehind(gone.Records()); n == 0 {
		t.Fatal("there was nothing for the sweep to do")
	}
	c.sweepAll()
	if n := c.countBehind(gone.Records()) + c.countBehind("mount/purge/"); n != 0 {
		t.Errorf("%d records of the mount are left", n)
	}
	if c.countBehind("token/") >= before {
		t.Error("the sweep left the records of the tokens")
	}
	// A method with the same name and the same user is another one.
	c.mounts(mount.Entry{Path: "auth/userpass/", Type: "userpass"})
	c.mustAsk(c.root, engine.Update, "auth/userpass/users/alice", `{"password_hash":"`+horseHash+`","policies":"dev"}`)
	f.dead(c, "after it was enabled again")
}

// The same once the method has been moved: where a token was made isn't where its method is now.
func TestDisableEndsLoginsFromBeforeAMove(t *testing.T) {
	c := withPeople(t)
	before := c.family("auth/userpass/")
	c.move("userpass", "auth/people/", true)
	after := c.family("auth/people/")
	c.mounts(mount.Entry{Path: "auth/userpass/", Type: "userpass"})
	c.disable("people", true)
	before.dead(c, "the login before the move")
	after.dead(c, "the login after the move")
}

// A server that dies while it disables a method has it disabled or not; if it has, then the logins are dead at once, and
// what is below them after a sweep.
func TestDisableInterrupted(t *testing.T) {
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n, over := 1, false; !over; n++ {
			t.Run(fmt.Sprintf("%v/%d", mode, n), func(t *testing.T) {
				c := withPeople(t)
				f := c.family("auth/userpass/")
				faulty := storetest.NewFaulty(c.st)
				c.st = faulty
				c.boot()
				c.unseal()
				faulty.FailCommit(n, mode)
				err := c.node.Disable(t.Context(), c.access(c.root, "sys/x", policy.Delete), "userpass", true)
				over = err == nil
				faulty.Recover()
				c.boot()
				c.unseal()
				if n == 1 && mode == storetest.Lost {
					if c.lookup(f.login) == nil || c.lookup(f.child) == nil {
						t.Error("nothing was disabled, and a token is dead")
					}
					return
				}
				if c.lookup(f.login) != nil {
					t.Error("the method is gone, and the login lives")
				}
				c.sweepAll()
				f.dead(c, "after a sweep")
				if n := c.countBehind("mount/purge/"); n != 0 {
					t.Errorf("%d mounts wait to be purged", n)
				}
			})
			if n > 20 {
				t.Fatal("a disable has too many commits")
			}
		}
	}
}

// What is in a mount goes with it. Who had located a path finds out in the transaction that it leads elsewhere now.
func TestMove(t *testing.T) {
	c := withPeople(t)
	second := c.other()
	c.mustAsk(c.root, engine.Update, "secret/a", `{"v":"1"}`)
	old := second.node.Locate("secret/a")
	c.move("secret", "team/kv/", false)
	if got := c.reads(c.root, "team/kv/a"); !strings.Contains(got, `"v":"1"`) {
		t.Errorf("moved: %s", got)
	}
	if got := c.reads(c.root, "secret/a"); got != "" {
		t.Errorf("at the old path: %s", got)
	}
	c.mounts(mount.Entry{Path: "secret/", Type: "kv"})
	for op, data := range map[engine.Operation]string{engine.Read: "", engine.Update: `{"v":"2"}`, engine.Delete: ""} {
		if _, _, err := second.at(old, c.root, op, "secret/a", data); !errors.Is(err, ErrMoved) {
			t.Errorf("%v where the mount was: %v, want ErrMoved", op, err)
		}
	}
	second.mustAsk(c.root, engine.Update, "secret/a", `{"v":"3"}`)
	for path, want := range map[string]string{"team/kv/a": "1", "secret/a": "3"} {
		if got := second.reads(c.root, path); !strings.Contains(got, `"v":"`+want+`"`) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	// What a policy says of the old path says nothing of the new one.
	if got := c.reads(c.login("auth/userpass/"), "team/kv/a"); got != "" {
		t.Errorf("a policy for secret/ shows what is in team/kv/: %s", got)
	}
	// The same for a login that was on its way.
	login := second.node.Locate("auth/userpass/login/alice")
	c.move("userpass", "auth/people/", true)
	if _, _, err := second.at(login, "", engine.Update, "auth/userpass/login/alice", `{"password":"correct horse"}`); !errors.Is(err, ErrMoved) {
		t.Errorf("a login where the method was: %v, want ErrMoved", err)
	}
}

// A login outlives the move of its method and is renewed by it; a method that is gone renews nothing.
func TestRenewAfterMove(t *testing.T) {
	c := withPeople(t)
	id := c.login("auth/userpass/")
	renew := func() error {
		return c.node.Update(t.Context(), c.access(id, "auth/token/renew-self", policy.Update), func(call *Call) error {
			_, err := call.Renew(call.Token, token.Renewal{Increment: time.Hour})
			return err
		})
	}
	c.move("userpass", "auth/people/", true)
	if err := renew(); err != nil {
		t.Errorf("after the move: %v", err)
	}
	c.mustAsk(c.root, engine.Delete, "auth/people/users/alice", "")
	if err := renew(); fault.As(err) == nil {
		t.Errorf("a user who is gone renews: %v", err)
	}
	c.disable("people", true)
	if err := renew(); !errors.Is(err, ErrDenied) {
		t.Errorf("through a method that is gone: %v", err)
	}
}

// A change binds at the next request, on every server.
func TestChangesBindAtOnce(t *testing.T) {
	c := withPeople(t)
	second := c.other()
	c.mustAsk(c.root, engine.Update, "secret/a", `{"v":"1"}`)
	id := c.login("auth/userpass/")
	see := func(what string, want bool) {
		t.Helper()
		for name, s := range map[string]*cluster{"the one": c, "the other": second} {
			if got := s.reads(id, "secret/a") != ""; got != want {
				t.Errorf("%s: %s server shows it: %v", what, name, got)
			}
		}
	}
	for range 3 {
		see("allowed", true)
		c.writePolicy("dev", `path "secret/*" { capabilities = ["deny"] }`)
		see("denied", false)
		second.writePolicy("dev", `path "secret/*" { capabilities = ["read"] }`)
		see("allowed again", true)
		c.asRoot(func(call *Call) error { return call.DeletePolicy("dev") })
		see("without the policy", false)
		second.writePolicy("DEV ", `path "secret/*" { capabilities = ["read"] }`)
	}
	see("at last", true)
	e := c.lookup(id)
	second.revoke(c.root, e)
	see("revoked", false)
}
