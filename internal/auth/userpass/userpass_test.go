package userpass

import (
	"context"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func open() engine.Engine { return newMethod(bcrypt.MinCost) }

func TestConformance(t *testing.T) { enginetest.Run(t, open) }

const (
	right = `{"password":"correct horse"}`
	wrong = `{"password":"battery staple"}`
)

// withAlice is a server with one user.
func withAlice(t *testing.T) *enginetest.Server {
	t.Helper()
	s := enginetest.New(t, open())
	s.Want(204, engine.Update, "users/Alice", `{"password":"correct horse","token_policies":"dev, Ops","token_ttl":"1h"}`)
	return s
}

func TestLogin(t *testing.T) {
	s := withAlice(t)
	for _, path := range []string{"login/alice", "login/ALICE", "login/ alice "} {
		a := s.Want(200, engine.Update, path, right)
		want := engine.Login{
			Path: "login/alice", DisplayName: "userpass-alice", Metadata: map[string]string{"username": "alice"},
			Token: engine.TokenParams{Policies: []string{"dev", "ops"}, TTL: time.Hour},
		}
		if a.Login == nil || !reflect.DeepEqual(*a.Login, want) {
			t.Errorf("%s: %+v, want %+v", path, a.Login, want)
		}
	}
	s.Want(400, engine.Update, "login/alice", `{}`)
	s.Want(400, engine.Update, "login/alice", `{"password":""}`)
}

// TestFailuresLookAlike: the answer, and what is written, is the same for a wrong password and for nobody.
func TestFailuresLookAlike(t *testing.T) {
	s := withAlice(t)
	s.Want(400, engine.Update, "login/first", wrong) // makes the salt
	for i := range engine.LockoutFailures + 2 {
		var answers []string
		var grew []int
		for _, name := range []string{"alice", "nobody"} {
			before := len(s.Records())
			a := s.Do(engine.Update, "login/"+name, wrong)
			if a.Login != nil || a.Err == nil {
				t.Fatalf("%s: a login", name)
			}
			answers = append(answers, a.Err.Error())
			grew = append(grew, len(s.Records())-before)
		}
		if answers[0] != answers[1] || grew[0] != grew[1] {
			t.Errorf("try %d: %q and %d records for a user, %q and %d for nobody", i, answers[0], grew[0], answers[1], grew[1])
		}
	}
	for key, value := range s.Records() {
		if strings.Contains(key+value, "nobody") {
			t.Errorf("record %q tells who was tried", key)
		}
	}
}

func TestLockout(t *testing.T) {
	s := withAlice(t)
	for _, name := range []string{"alice", "ALICE", " alice", "Alice\t", "aLiCe"} { // one name
		s.Want(400, engine.Update, "login/"+name, wrong)
	}
	if a := s.Want(403, engine.Update, "login/alice", right); a.Err != error(engine.ErrLocked) {
		t.Error(a.Err)
	}
	s.Want(204, engine.Update, "users/bob", right)
	s.Want(200, engine.Update, "login/bob", right)
	s.Now = s.Now.Add(engine.LockoutTime)
	s.Want(200, engine.Update, "login/alice", right)
	for range engine.LockoutFailures - 1 {
		s.Want(400, engine.Update, "login/alice", wrong)
	}
	s.Want(200, engine.Update, "login/alice", right) // forgets the failures
	s.Want(400, engine.Update, "login/alice", wrong)
	s.Want(200, engine.Update, "login/alice", right)
}

// TestLockoutCountsConcurrentGuesses: of guesses that were all let in before one had failed, no more are heard.
func TestLockoutCountsConcurrentGuesses(t *testing.T) {
	s := withAlice(t)
	m := open().(*method)
	const guesses = 20
	ready := make(chan struct{})
	var waiting atomic.Int32
	heard := make(chan error, guesses)
	table, err := engine.NewTable(m.Routes())
	if err != nil {
		t.Fatal(err)
	}
	route, params := table.Match("login/alice")
	for range guesses {
		go func() {
			f, err := body.Decode([]byte(wrong), false)
			if err == nil {
				r := &engine.Request{Op: engine.Update, Params: params, Fields: &f, Now: s.Now, Client: s.Client, Txns: held{s.Store, func() {
					if waiting.Add(1) == guesses {
						close(ready)
					}
					<-ready
				}}}
				_, err = route.Ops[engine.Update](context.Background(), r)
			}
			heard <- err
		}()
	}
	told := 0
	for range guesses {
		switch f := fault.As(<-heard); {
		case f == nil:
			t.Error("no fault")
		case f.Kind == fault.Invalid:
			told++
		}
	}
	if told != engine.LockoutFailures {
		t.Errorf("%d guesses were answered, want %d", told, engine.LockoutFailures)
	}
}

// held are transactions whose Update waits until every guess has been compared.
type held struct {
	store.Store
	wait func()
}

type tx struct{ store.Tx }

func (tx) Holder() string           { return "" }
func (tx) Login(engine.Login) error { return nil }

func (h held) View(ctx context.Context, fn func(engine.Tx) error) error {
	return h.Store.View(ctx, func(r store.Reader) error { return fn(tx{store.ReadOnly(r)}) })
}

func (h held) Update(ctx context.Context, fn func(engine.Tx) error) error {
	h.wait()
	return h.Store.Update(ctx, func(w store.Tx) error { return fn(tx{w}) })
}

func (held) Allowed(context.Context) error { return nil }

// TestPasswordChangesDuringLogin: what was compared with must still hold when the token is made.
func TestPasswordChangesDuringLogin(t *testing.T) {
	for _, change := range []struct {
		op         engine.Operation
		path, body string
	}{
		{engine.Update, "users/alice/password", wrong},
		{engine.Delete, "users/alice", ""},
	} {
		s := withAlice(t)
		under := s.Store
		s.Store = changing{under, func() {
			s.Store = under
			s.Want(204, change.op, change.path, change.body)
		}}
		s.Want(400, engine.Update, "login/alice", right)
	}
}

// changing lets something happen before the first Update.
type changing struct {
	store.Store
	change func()
}

func (c changing) Update(ctx context.Context, fn func(store.Tx) error) error {
	c.change()
	return c.Store.Update(ctx, fn)
}

func TestUsers(t *testing.T) {
	s := withAlice(t)
	want := `{"token_bound_cidrs":[],"token_explicit_max_ttl":0,"token_max_ttl":0,"token_no_default_policy":false,"token_num_uses":0,` +
		`"token_period":0,"token_policies":["dev","ops"],"token_strictly_bind_ip":false,"token_ttl":3600,"token_type":"default"}`
	if got, _ := json.Marshal(s.Want(200, engine.Read, "users/ALICE", "").Data); string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.Want(204, engine.Update, "users/alice", `{"token_ttl":60}`) // keeps the password
	s.Want(200, engine.Update, "login/alice", right)
	s.Want(204, engine.Update, "users/alice/policies", `{"policies":["new"]}`)
	if got := s.Want(200, engine.Update, "login/alice", right).Login.Token; got.TTL != time.Minute || !reflect.DeepEqual(got.Policies, []string{"new"}) {
		t.Errorf("%+v", got)
	}
	s.Want(204, engine.Update, "users/alice/password", wrong)
	s.Want(400, engine.Update, "login/alice", right)
	s.Want(200, engine.Update, "login/alice", wrong)
	s.Want(204, engine.Update, "users/bob", right)
	if got := s.Want(200, engine.List, "users", "").Data["keys"]; !reflect.DeepEqual(got, []any{"alice", "bob"}) {
		t.Errorf("%v", got)
	}
	s.Want(204, engine.Delete, "users/Alice", "")
	s.Want(204, engine.Delete, "users/alice", "")
	s.Want(404, engine.Read, "users/alice", "")
	s.Want(400, engine.Update, "login/alice", wrong)
	s.Want(204, engine.Delete, "users/bob", "")
	s.Want(404, engine.List, "users", "")
}

func TestUsersRefuse(t *testing.T) {
	s := withAlice(t)
	before := s.Records()
	for _, c := range []struct {
		status     int
		path, body string
	}{
		{400, "users/new", `{}`},
		{400, "users/new", `{"password":""}`},
		{400, "users/new", `{"password":"x","token_policies":["root"]}`},
		{400, "users/a b", right},
		{400, "users/\u212aate", right},
		{400, "users/alice", `{"password":"` + strings.Repeat("x", maxPassword+1) + `"}`},
		{400, "users/alice", `{"password":"x","password_hash":"` + string(decoy(10)) + `"}`},
		{400, "users/alice", `{"password_hash":"` + string(decoy(bcrypt.MinCost+5)) + `"}`},
		{400, "users/alice", `{"password_hash":"` + string(decoy(15)) + `"}`},
		{400, "users/alice", `{"password_hash":"` + string(decoy(10)) + `x"}`},
		{400, "users/alice", `{"password_hash":"$2a$10$` + strings.Repeat("!", 53) + `"}`},
		{400, "users/alice", `{"password_hash":"$argon2id$v=19$m=65536,t=3,p=4$x"}`},
		{400, "users/alice/password", `{}`},
		{404, "users/new/password", right},
		{404, "users/new/policies", `{"policies":"x"}`},
		{400, "users/alice/policies", `{"policies":"root"}`},
	} {
		s.Want(c.status, engine.Update, c.path, c.body)
	}
	if !reflect.DeepEqual(s.Records(), before) {
		t.Error("something was written")
	}
}

func TestLongPasswordFailsAtLogin(t *testing.T) {
	s := enginetest.New(t, open())
	longest := strings.Repeat("x", maxPassword)
	s.Want(204, engine.Update, "users/a", `{"password":"`+longest+`"}`)
	s.Want(400, engine.Update, "login/a", `{"password":"`+longest+`y"}`)
	s.Want(400, engine.Update, "login/nobody", `{"password":"`+longest+`y"}`)
	s.Want(200, engine.Update, "login/a", `{"password":"`+longest+`"}`)
}

// TestPasswordHash: a hash made elsewhere works, whichever of its names it has, and raises the cost for everybody.
func TestPasswordHash(t *testing.T) {
	s := withAlice(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("elsewhere"), 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		s.Want(204, engine.Update, "users/bob", `{"password_hash":"`+prefix+string(hash[4:])+`"}`)
		s.Want(200, engine.Update, "login/bob", `{"password":"elsewhere"}`)
		s.Want(400, engine.Update, "login/bob", wrong)
	}
	if got := s.Records()[costKey]; got != "10" {
		t.Errorf("the highest cost is %q", got)
	}
	for key, value := range s.Records() {
		if strings.Contains(value, "elsewhere") || strings.Contains(value, "correct horse") {
			t.Errorf("record %q holds a password", key)
		}
	}
}

func TestCompareMakesUpForCheapHashes(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("p"), 4)
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"p": true, "q": false} {
		if got, err := compare(hash, []byte(password), 6); got != want || err != nil {
			t.Errorf("%q: %v, %v", password, got, err)
		}
	}
	if _, err := compare([]byte("damaged"), []byte("p"), 6); err == nil {
		t.Error("a damaged hash is compared with")
	}
	for cost := 4; cost <= 14; cost++ {
		if got, err := bcrypt.Cost(decoy(cost)); got != cost || err != nil {
			t.Errorf("the decoy of cost %d: %d, %v", cost, got, err)
		}
	}
}

func TestBoundNetworks(t *testing.T) {
	s := withAlice(t)
	s.Want(204, engine.Update, "users/alice", `{"token_bound_cidrs":"192.0.2.0/24"}`)
	s.Want(200, engine.Update, "login/alice", right)
	for _, client := range []netip.Addr{netip.MustParseAddr("198.51.100.1"), {}} {
		s.Client = client
		s.Want(403, engine.Update, "login/alice", right)
		s.Want(400, engine.Update, "login/alice", wrong)
	}
}

func TestRenew(t *testing.T) {
	s := withAlice(t)
	login := *s.Want(200, engine.Update, "login/alice", right).Login
	s.Want(204, engine.Update, "users/alice", `{"token_ttl":60}`)
	if p, err := s.Renew(login); err != nil || p.TTL != time.Minute {
		t.Errorf("%+v, %v", p, err)
	}
	s.Want(204, engine.Delete, "users/alice", "")
	if _, err := s.Renew(login); fault.As(err) == nil {
		t.Errorf("the user is gone: %v", err)
	}
}

func TestHashingWaitsItsTurn(t *testing.T) {
	m := newMethod(bcrypt.MinCost)
	for range cap(m.slots) {
		m.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.compare(ctx, found{highest: bcrypt.MinCost}, []byte("p")); err != context.Canceled {
		t.Errorf("while all are hashing: %v", err)
	}
	m.leave()
	if right, err := m.compare(context.Background(), found{highest: bcrypt.MinCost}, []byte("p")); right || err != nil {
		t.Errorf("%v, %v", right, err)
	}
}
