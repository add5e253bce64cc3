package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/token"
)

// A drill asks every holder, yields nothing, and leaves behind when each showed a working share.
func TestDrill(t *testing.T) {
	c := newCluster(t, 5, 2)
	for i, h := range c.table()["active"].Holders { // the unseal was a proof, for two of them
		if proven := i < 2; proven == h.LastProven.IsZero() || proven && h.ProvenBy != "unseal" || h.Slot != i+1 {
			t.Errorf("before: %+v", h)
		}
	}
	tokens := c.accessors(c.root)
	o := c.begin(local, StartRequest{Kind: ceremony.Drill, Reason: "yearly"})
	if o.Required != 5 || o.Attempt.Threshold != 5 || o.OTP != "" || o.EncodedToken != "" {
		t.Fatalf("%+v", o)
	}
	var got *Ceremony
	for i, n := range []int{4, 2, 0, 1, 3} {
		c.clock.step(20 * time.Hour) // people have no reason to hurry
		var err error
		if i%2 == 0 {
			got, err = c.signs(o, n)
		} else {
			got, err = c.give(o, c.shares[n], "")
		}
		if err != nil || (got.State == Complete) != (i == 4) {
			t.Fatalf("holder %d: %+v, %v", n, got, err)
		}
		if h := c.table()["active"].Holders[n]; !h.LastProven.Equal(c.clock.now()) || h.ProvenBy != "drill" {
			t.Errorf("holder %d: %+v", n, h)
		}
	}
	if got.EncodedToken != "" || got.Keys != nil || c.accessors(c.root) != tokens {
		t.Error("a drill yielded something")
	}
	if _, err := c.node.Result(t.Context(), o.Attempt.Nonce, local); !errors.Is(err, errNoResult) {
		t.Errorf("its result: %v", err)
	}
	if got, err := c.node.Ceremony(t.Context(), o.Attempt.Nonce); err != nil || got.State != Complete {
		t.Errorf("after its end: %v", err)
	}
	// What was proven is known after a restart, and not while sealed.
	c.boot()
	for _, h := range c.table()["active"].Holders {
		if !h.LastProven.IsZero() {
			t.Error("a sealed server knows what is behind the barrier")
		}
	}
	c.unseal()
	if h := c.table()["active"].Holders[3]; h.ProvenBy != "drill" {
		t.Errorf("after a restart: %+v", h)
	}
}

// A drill ends with its time, and keeps what was proven until then. It takes nothing but drill signatures.
func TestDrillThatIsNotFinished(t *testing.T) {
	for name, c := range map[string]struct {
		ttl, ends time.Duration
	}{"default": {0, 7 * 24 * time.Hour}, "own": {3 * time.Hour, 3 * time.Hour}, "longest": {31 * 24 * time.Hour, 31 * 24 * time.Hour}} {
		t.Run(name, func(t *testing.T) {
			ttl, ends := c.ttl, c.ends
			c := newCluster(t, 3, 2)
			o := c.begin(local, StartRequest{Kind: ceremony.Drill, TTL: ttl})
			for i, share := range [][]byte{c.shares[2], c.shares[2], nil, make([]byte, 33)} {
				_, err := c.give(o, share, "")
				if (err == nil) != (i == 0) {
					t.Errorf("share %d: %v", i, err)
				}
			}
			c.clock.step(ends - time.Millisecond)
			if c.look(ceremony.Drill).State != Open {
				t.Error("it ended too early")
			}
			c.clock.step(time.Millisecond)
			if _, err := c.give(o, c.shares[0], ""); fault.As(err) == nil {
				t.Errorf("after its end: %v", err)
			}
			c.sweepNow()
			if got, err := c.node.Ceremony(t.Context(), o.Attempt.Nonce); err != nil || got.State != Expired {
				t.Errorf("%+v, %v", got, err)
			}
			if h := c.table()["active"].Holders[2]; h.ProvenBy != "drill" {
				t.Errorf("%+v", h)
			}
		})
	}
	c := newCluster(t, 3, 2)
	for _, ttl := range []time.Duration{31*24*time.Hour + time.Second, -time.Second, time.Millisecond} {
		if _, err := c.node.Start(t.Context(), GenerateRoot, local, StartRequest{Kind: ceremony.Drill, TTL: ttl}); !errors.Is(err, errTTL) {
			t.Errorf("ttl %v: %v", ttl, err)
		}
	}
	// One holder who objects ends it: it needs all.
	o := c.begin(local, StartRequest{Kind: ceremony.Drill})
	c.mustGive(o, 0)
	if _, ended, err := c.node.Cancel(t.Context(), ceremony.Drill, "", c.byShare(1)); err != nil || !ended {
		t.Errorf("%v, %v", ended, err)
	}
}

// A quorum gives the holders other labels; nothing else about them changes, and fewer can't.
func TestHoldersCeremony(t *testing.T) {
	c := newCluster(t, 3, 2)
	before := c.table()["active"]
	for name, labels := range map[string][]string{
		"none": nil, "two": {"a", "b"}, "four": {"a", "b", "c", "d"}, "lines": {"a", "b\n", "c"}, "long": {"a", "b", strings.Repeat("x", 201)},
		"invisible": {"a", "b\u200b", "c"}, "not UTF-8": {"a", "b\xff", "c"}, "backwards": {"a", "\u202eb", "c"},
	} {
		if _, err := c.node.Start(t.Context(), GenerateRoot, local, StartRequest{Kind: ceremony.Holders, Labels: labels}); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := c.begin(local, StartRequest{Kind: ceremony.Holders, Labels: []string{"Ada", "", "Zoë"}})
	c.mustGive(o, 0)
	if h := c.table()["active"].Holders[0]; h.Label != "" {
		t.Error("changed by one holder")
	}
	if got := c.mustGive(o, 1); got.State != Complete || got.Labels(3) != "Zoë" {
		t.Errorf("state %s, label %q", got.State, got.Labels(3))
	}
	after := c.table()["active"]
	for i, want := range []string{"Ada", "", "Zoë"} {
		if h := after.Holders[i]; h.Label != want || h.Verifier != before.Holders[i].Verifier {
			t.Errorf("holder %+v", h)
		}
	}
	if after.Number != 1 || !c.opens(c.shares[1:]) {
		t.Error("another generation, or the shares are dead")
	}
	// They stand by approvals, and survive.
	c.boot()
	if c.table()["active"].Holders[0].Label != "Ada" {
		t.Error("the label is gone while sealed")
	}
	c.unseal()
	o = c.begin(local, StartRequest{Kind: ceremony.RootToken})
	from := c.size()
	c.mustGive(o, 2)
	if e := c.entries(from); len(e) != 1 || e[0].Label != "Zoë" {
		t.Errorf("entries %+v", e)
	}
}

// Labels come with an init and with a rekey, and go with the generation.
func TestLabelsOfGenerations(t *testing.T) {
	c := &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}
	c.boot()
	for name, labels := range map[string][]string{"two": {"a", "b"}, "lines": {"a", "\r", "c"}, "four": {"a", "b", "c", "d"}} {
		if _, err := c.node.Init(t.Context(), InitRequest{Shares: 3, Threshold: 2, Labels: labels}); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	res, err := c.node.Init(t.Context(), InitRequest{Shares: 3, Threshold: 2, Labels: []string{"a", "b", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	c.shares, c.root = res.Keys, string(res.RootToken.Reveal())
	c.unseal()
	got := c.finish(c.begin(local, rekeyTo(2, 2, func(k *RekeyRequest) { k.Labels = []string{"d", "e"} })), 0)
	if got.State != Complete {
		t.Fatal(got.State)
	}
	var found []string
	for _, state := range []string{"active", "retiring"} {
		for _, h := range c.table()[state].Holders {
			found = append(found, h.Label)
		}
	}
	if fmt.Sprint(found) != "[d e a b c]" {
		t.Errorf("labels %v", found)
	}
}

// The list of root tokens names the ceremony of each, and only those that live.
func TestRootTokens(t *testing.T) {
	c := newCluster(t, 3, 2)
	list := func() map[string]string {
		t.Helper()
		a := c.access(c.root, "sys/ceremonies/root-tokens", policy.Read)
		a.Sudo = true
		got, err := c.node.RootTokens(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{} // :: accessor → ceremony
		for _, e := range got {
			found[e.Accessor] = e.Ceremony
		}
		return found
	}
	weak, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
	for name, id := range map[string]string{"weak": weak, "none": "", "junk": "q.ABCDEFGHIJKLMNOPQRSTUV"} {
		a := c.access(id, "sys/ceremonies/root-tokens", policy.Read)
		a.Sudo = true
		if _, err := c.node.RootTokens(t.Context(), a); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := c.lookup(c.root).Accessor
	if got := list(); len(got) != 1 || got[first] != "init" {
		t.Fatalf("after init: %v", got)
	}
	o := c.begin(local, StartRequest{Kind: ceremony.RootToken, RootTokenTTL: time.Hour})
	done := c.finish(o, 0)
	id := c.decode(RootStatus{EncodedToken: done.EncodedToken}, o.OTP)
	made := c.lookup(id)
	if got := list(); len(got) != 2 || got[made.Accessor] != o.Attempt.Nonce {
		t.Fatalf("after a ceremony: %v", got)
	}
	c.clock.step(time.Hour)
	if got := list(); len(got) != 1 || got[first] != "init" {
		t.Errorf("after its time: %v", got)
	}
}

// T35: the lifetime of a root token that a quorum agreed on holds, across a restart and a clock that steps back.
func TestRootTokenTTL(t *testing.T) {
	c := newCluster(t, 3, 2)
	for _, ttl := range []time.Duration{time.Millisecond, time.Hour + time.Nanosecond} {
		if _, err := c.node.Start(t.Context(), GenerateRoot, local, StartRequest{Kind: ceremony.RootToken, RootTokenTTL: ttl}); !errors.Is(err, errRootTTL) {
			t.Errorf("ttl %v: %v", ttl, err)
		}
	}
	make := func(ttl time.Duration) (id string, o *Ceremony) {
		t.Helper()
		o = c.begin(local, StartRequest{Kind: ceremony.RootToken, RootTokenTTL: ttl})
		return c.decode(RootStatus{EncodedToken: c.finish(o, 0).EncodedToken}, o.OTP), o
	}
	c.node.RootTokenTTL = 2 * time.Hour
	id, o := make(time.Hour)
	if p := o.Attempt.Parameters; len(p) != 1 || p[0].Name != "root_token_ttl" || p[0].Value != "3600" {
		t.Errorf("parameters %v", p)
	}
	byDefault, o := make(0)
	if p := o.Attempt.Parameters; len(p) != 1 || p[0].Value != "7200" {
		t.Errorf("parameters %v", p)
	}
	forever, o := make(-time.Second)
	if p := o.Attempt.Parameters; len(p) != 0 {
		t.Errorf("parameters %v", p)
	}
	alive := func() string {
		return fmt.Sprint(c.lookup(id) != nil, c.lookup(byDefault) != nil, c.lookup(forever) != nil)
	}
	c.clock.step(time.Hour - time.Second)
	c.boot()
	c.unseal()
	if got := alive(); got != "true true true" {
		t.Errorf("before: %s", got)
	}
	if e := c.lookup(id); e.Renewable {
		t.Error("a root token with an end can be renewed")
	}
	c.clock.step(-10 * time.Minute)
	if got := alive(); got != "true true true" {
		t.Errorf("after a step back: %s", got)
	}
	c.clock.step(10*time.Minute + time.Second)
	if got := alive(); got != "false true true" {
		t.Errorf("after an hour: %s", got)
	}
	if _, err := c.node.Start(t.Context(), GenerateRoot, bearer(id), StartRequest{Kind: ceremony.Drill}); fault.As(err) == nil {
		t.Errorf("the dead token starts a ceremony: %v", err)
	}
	if err := c.node.sweepTokens(t.Context(), c.node.active.Load()); err != nil {
		t.Fatal(err)
	}
	c.clock.step(time.Hour)
	if got := alive(); got != "false false true" {
		t.Errorf("after two hours: %s", got)
	}
	if c.node.Live(t.Context(), secret.Copy([]byte(id))) {
		t.Error("the expired token lives")
	}
}
