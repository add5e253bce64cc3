package node

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// asks lets nodes show themselves, c last, and lets c ask for the keys where it would.
func (c *cluster) asks(others ...*cluster) (useless bool) {
	c.t.Helper()
	for _, x := range append(others, c) {
		x.shows()
	}
	return c.node.presence.key != nil && c.node.askAll(c.t.Context())
}

func (c *cluster) shows() {
	c.t.Helper()
	if err := c.node.echo(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// names of the nodes that c knows of, those that are sealed in brackets.
func (c *cluster) names() string {
	c.t.Helper()
	list, err := c.node.Nodes(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, n := range list {
		name := n.Name
		if n.Sealed {
			name = "(" + name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func (c *cluster) presences() int {
	c.t.Helper()
	return len(c.rawBelow(seal.PresencePrefix))
}

func (c *cluster) rotateRoot() {
	c.t.Helper()
	if err := c.node.RotateRootKey(c.t.Context(), c.access(c.root, "sys/rotate/root", policy.Update)); err != nil {
		c.t.Fatal(err)
	}
}

// wholeFrom says that the transcript, checked offline, has nothing wrong in it, and returns its entries from an index on.
func (c *cluster) wholeFrom(from int) (list []*transcript.Entry) {
	c.t.Helper()
	rep := c.audit(c.verifierKey())
	if len(rep.Problems) > 0 || rep.Unknown > 0 || rep.Signed != rep.Size {
		c.t.Errorf("the transcript: %d of %d entries signed, %d unknown: %v", rep.Signed, rep.Size, rep.Unknown, rep.Problems)
	}
	for _, e := range rep.Entries[from:] {
		list = append(list, e.Entry)
	}
	return list
}

// Nodes see each other for as long as they give signs of life, and what is left of the dead is swept.
func TestPresence(t *testing.T) {
	f := newFleet(t, 2, 3, 2)
	a, b, c := f.at("a"), f.at("b"), f.add("c", nil)
	if a.names() != "a" || c.names() != "(c)" {
		t.Errorf("before any sign of life: %q, %q", a.names(), c.names())
	}
	for _, x := range []*cluster{c, b, a} {
		x.shows()
	}
	if a.names() != "a b (c)" || b.names() != "a b (c)" || c.names() != "a b (c)" {
		t.Errorf("%q, %q, %q", a.names(), b.names(), c.names())
	}
	list, err := c.node.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := NodeInfo{
		ID: b.node.presence.id, Name: "b", APIAddr: "https://b:8200", ClusterAddr: "b:8201", Version: "1.0",
		Started: a.clock.now(), LastEcho: a.clock.now(),
	}
	got, errGot := json.Marshal(list[1])
	wanted, errWanted := json.Marshal(want)
	if string(got) != string(wanted) || errGot != nil || errWanted != nil {
		t.Errorf("b is %s, want %s", got, wanted)
	}
	dead := want // the run of b before this one, which came to no orderly end
	dead.ID, dead.Started = "dead", a.clock.now().Add(-time.Second)
	text, err := json.Marshal(dead)
	if err != nil {
		t.Fatal(err)
	}
	a.putRaw(seal.PresencePrefix+dead.ID, text)
	if a.names() != "a b (c)" {
		t.Errorf("with a predecessor of b: %q", a.names())
	}
	a.clock.step(seal.PresenceLife - 1)
	b.shows()
	if a.names() != "a b (c)" {
		t.Errorf("a moment before its end: %q", a.names())
	}
	a.clock.step(1)
	if a.names() != "a b" {
		t.Errorf("c is dead: %q", a.names())
	}
	if err := a.node.sweepNodes(t.Context(), nil); err != nil || a.presences() != 4 {
		t.Errorf("swept too early: %d are left, %v", a.presences(), err)
	}
	a.putRaw(seal.PresencePrefix+"garbage", []byte("{"))
	a.clock.step(echoKept)
	b.shows()
	if err := a.node.sweepNodes(t.Context(), nil); err != nil || a.presences() != 1 {
		t.Errorf("after the sweep %d are left, %v", a.presences(), err)
	}
	single := newCluster(t, 1, 1)
	if list, err := single.node.Nodes(t.Context()); err != nil || len(list) != 1 || list[0].ID != single.node.presence.id {
		t.Errorf("a node without others: %+v, %v", list, err)
	}
	if err := single.node.sweepNodes(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// A node takes its last sign of life back.
func TestMembershipEnds(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	a := f.at("a")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.node.RunMembership(ctx)
	}()
	await(t, "a sign of life", func() bool { return a.presences() == 1 })
	cancel()
	<-done
	if n := a.presences(); n != 0 {
		t.Errorf("%d signs of life are left", n)
	}
}

// A sealed node gets the keys of one that isn't, and the transcript says who gave them to whom.
func TestHandOver(t *testing.T) {
	f := newFleet(t, 2, 3, 2)
	a, b, c := f.at("a"), f.at("b"), f.add("c", nil)
	if _, err := c.node.Unseal(t.Context(), c.share(0), false, ""); err != nil { // it won't be needed
		t.Fatal(err)
	}
	a.clock.step(time.Minute)
	from := a.size()
	if c.asks(a, b) {
		t.Error("the keys were useless")
	}
	if c.node.Sealed() || c.lookup(c.root) == nil {
		t.Fatal("it was not unsealed")
	}
	id, e := c.create(c.root, token.Spec{Path: "auth/token/create"})
	if e == nil || a.lookup(id) == nil {
		t.Error("what it writes is unknown to another")
	}
	list := c.wholeFrom(from)
	if len(list) != 2 || list[0].Event != transcript.HandedOver || list[0].Detail != "to server c (test), by server a" || list[0].Generation != 1 ||
		list[1].Event != transcript.Unsealed || list[1].Detail != "server c, with the keys of server a" || list[1].Generation != 1 {
		t.Errorf("recorded: %+v", list)
	}
	if len(a.wholeFrom(from)) != 2 {
		t.Error("another node sees another transcript")
	}
	for _, h := range c.table()["active"].Holders {
		if !h.LastProven.Before(c.clock.now()) {
			t.Errorf("the hand-over counts as a proof of slot %d", h.Slot)
		}
	}
	if p, err := c.node.unsealer.Progress(t.Context()); err != nil || p.Given != 0 {
		t.Errorf("shares are left in memory: %+v, %v", p, err)
	}
	c.shows()
	if c.node.presence.key != nil || strings.Contains(string(c.raw(seal.PresencePrefix+c.node.presence.id)), `"key"`) {
		t.Error("it would take the keys once more")
	}
	if _, err := a.node.HandOver(t.Context(), c.node.presence.id, "test"); err != errNoAsker {
		t.Errorf("keys for a node that has some: %v", err)
	}
	c.sealAlone() // and with the others unsealed, it stays
	c.asks(a, b)
	if !c.node.Sealed() {
		t.Error("what an operator sealed alone was unsealed")
	}
}

// The loop does by itself what the other tests do by hand.
func TestMembershipAsks(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	a := f.at("a")
	a.shows()
	b := f.add("b", func(o *Options) { o.Cluster.Interval = time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.node.RunMembership(ctx)
	}()
	defer func() { cancel(); <-done }()
	await(t, "b has the keys", func() bool { return !b.node.Sealed() })
	await(t, "and tells of it", func() bool { return a.names() == "a b" })
	a.rotateRoot()
	if err := b.node.Update(t.Context(), b.access(b.root, "x", policy.Update), func(c *Call) error { return c.Tx.Put("x", nil) }); !errors.Is(err, errOutdated) {
		t.Fatalf("a write with an old root key: %v", err)
	}
	await(t, "b has the new keys", func() bool { return b.lookup(b.root) != nil && !b.outdated() })
}

// outdated reports whether c works with a root key that was replaced.
func (c *cluster) outdated() bool {
	return errors.Is(c.node.Update(c.t.Context(), c.access(c.root, "x", policy.Update), func(*Call) error { return nil }), errOutdated)
}

// After a rotation of the root key a node that only reads, or does nothing, gives up the old one as well.
func TestRotationEndsAtIdleNodes(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	a := f.at("a")
	b := f.add("b", func(o *Options) { o.LookInterval = time.Millisecond })
	b.unseal()
	a.rotateRoot()
	await(t, "the idle node seals itself", b.node.Sealed)
	from := a.size()
	await(t, "and the seal is over", func() bool { return b.node.guard.pinned.Load() == nil })
	if b.asks(a); b.node.Sealed() || b.outdated() {
		t.Error("it didn't get the new root key")
	}
	if got := a.happened(from); got != "handed-over unsealed" {
		t.Errorf("recorded: %s", got)
	}
	a.wholeFrom(0)
}

// Keys go to nobody who has not shown itself as sealed, here and lately.
func TestHandOverRefused(t *testing.T) {
	const stranger = "3b2fdd1c-2c59-4f45-9d0f-0a4d5a1d7f43"
	show := func(c *cluster, id string, change func(*NodeInfo)) {
		c.t.Helper()
		info := NodeInfo{ID: id, Name: "x", Sealed: true, LastEcho: c.clock.now(), Key: c.node.presence.key.PublicKey().Bytes()}
		change(&info)
		text, err := json.Marshal(info)
		if err != nil {
			c.t.Fatal(err)
		}
		c.putRaw(seal.PresencePrefix+id, text)
	}
	as := func(change func(*NodeInfo)) func(*fleet, *cluster) string {
		return func(_ *fleet, b *cluster) string {
			show(b, stranger, change)
			return stranger
		}
	}
	for name, row := range map[string]struct {
		prepare func(f *fleet, b *cluster) (id string)
		want    error
	}{
		"nothing is wrong":  {as(func(*NodeInfo) {}), nil},
		"no sign of life":   {func(*fleet, *cluster) string { return stranger }, errNoAsker},
		"no id":             {func(*fleet, *cluster) string { return "" }, errNoAsker},
		"a path":            {func(_ *fleet, b *cluster) string { return "x/../" + b.node.presence.id }, errNoAsker},
		"stale":             {as(func(i *NodeInfo) { i.LastEcho = i.LastEcho.Add(-seal.PresenceLife) }), errNoAsker},
		"of the future":     {as(func(i *NodeInfo) { i.LastEcho = i.LastEcho.Add(seal.PresenceLife) }), errNoAsker},
		"not sealed":        {as(func(i *NodeInfo) { i.Sealed = false }), errNoAsker},
		"no key":            {as(func(i *NodeInfo) { i.Key = nil }), errNoAsker},
		"a bad key":         {as(func(i *NodeInfo) { i.Key = i.Key[1:] }), errNoAsker},
		"another node's id": {as(func(i *NodeInfo) { i.ID = "0" + i.ID[1:] }), errNoAsker},
		"keys aren't shared": {func(f *fleet, b *cluster) string {
			f.at("a").node.Cluster.Share = false
			return b.node.presence.id
		}, errNoSharing},
		"no cluster": {func(f *fleet, b *cluster) string {
			f.at("a").node.Cluster = nil
			return b.node.presence.id
		}, errNoSharing},
		"sealed itself": {func(f *fleet, b *cluster) string {
			f.at("a").sealAlone()
			return b.node.presence.id
		}, ErrSealed},
		"the cluster was sealed": {func(f *fleet, b *cluster) string {
			f.at("c").sealAll()
			return b.node.presence.id
		}, ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 1, 1, 1)
			c := f.add("c", nil)
			c.unseal()
			b := f.add("b", nil)
			b.shows()
			id := row.prepare(f, b)
			from := b.size()
			message, err := f.at("a").node.HandOver(t.Context(), id, "test")
			if !errors.Is(err, row.want) || (len(message) > 0) != (row.want == nil) || row.want != nil && fault.As(err) == nil {
				t.Errorf("%d bytes, %v; want %v", len(message), err, row.want)
			}
			if recorded := b.size() - from; (recorded == 1) != (row.want == nil) {
				t.Errorf("%d entries of the transcript", recorded)
			}
		})
	}
}

// What comes between the answer and its use leaves the node sealed, and the next time it asks it gets what holds then.
func TestHandOverInterrupted(t *testing.T) {
	for name, row := range map[string]struct {
		meanwhile func(f *fleet, message []byte) []byte
		want      error
		rest      bool // the others are still unsealed
	}{
		"the cluster was sealed":   {func(f *fleet, m []byte) []byte { f.at("a").sealAll(); return m }, errOrdered, false},
		"the root key was rotated": {func(f *fleet, m []byte) []byte { f.at("a").rotateRoot(); return m }, barrier.ErrWrongKey, true},
		"the message was changed":  {func(_ *fleet, m []byte) []byte { m[len(m)-1] ^= 1; return m }, errBadHandOver, true},
		"there is no message":      {func(*fleet, []byte) []byte { return nil }, errBadHandOver, true},
		"it is another node's": {func(f *fleet, _ []byte) []byte {
			c := f.add("c", nil)
			c.shows()
			m, err := f.at("a").node.HandOver(f.t.Context(), c.node.presence.id, "test")
			if err != nil {
				f.t.Fatal(err)
			}
			return m
		}, errBadHandOver, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 1, 3, 2)
			a, b := f.at("a"), f.add("b", nil)
			var message []byte
			f.onTheWay = func(m []byte) []byte {
				message = row.meanwhile(f, slices.Clone(m))
				return message
			}
			if !b.asks(a) || !b.node.Sealed() || b.node.guard.pinned.Load() != nil {
				t.Fatalf("sealed %v, pinned %v", b.node.Sealed(), b.node.guard.pinned.Load() != nil)
			}
			if err := b.node.take(t.Context(), a.node.Self(), message); !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
			f.onTheWay = nil
			if row.rest == a.node.Sealed() {
				t.Fatal("the other node is not what the test takes it for")
			}
			if a.node.Sealed() {
				a.unseal()
				// What was handed over under an order that is over is never of use again.
				if err := b.node.take(t.Context(), a.node.Self(), message); !errors.Is(err, row.want) || !b.node.Sealed() {
					t.Errorf("once more: %v, want %v", err, row.want)
				}
			}
			if b.asks(a) || b.node.Sealed() || b.lookup(b.root) == nil {
				t.Error("it did not get the keys when it asked again")
			}
			b.wholeFrom(0)
		})
	}
}

// A node that is unsealed in another way meanwhile, or sealed alone, doesn't use what it asked for.
func TestHandOverTooLate(t *testing.T) {
	f := newFleet(t, 1, 3, 2)
	a, b := f.at("a"), f.add("b", nil)
	f.onTheWay = func(m []byte) []byte {
		b.unseal()
		b.sealAlone()
		return m
	}
	from := a.size()
	if b.asks(a) || !b.node.Sealed() {
		t.Error("it used the keys all the same")
	}
	if got := a.happened(from); got != "handed-over unseal-share unseal-share unsealed sealed" {
		t.Errorf("recorded: %s", got)
	}
}

// Each time that keys are handed over is an entry of the transcript: a node that can't use them asks less and less often,
// and one day asks again.
func TestUselessKeysAreAskedForLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleetOver(t, inmem.New(), 1, 3, 2)
		a := f.at("a")
		b := f.add("b", func(o *Options) { o.Cluster.Interval = 5 * time.Second })
		var asked atomic.Int32
		var repaired atomic.Bool
		f.onTheWay = func(m []byte) []byte {
			if asked.Add(1); repaired.Load() {
				return m
			}
			return nil
		}
		a.shows()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.node.RunMembership(ctx)
		}()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times with the first two signs of life", n)
		}
		time.Sleep(time.Hour)
		if n := asked.Load(); n < 10 || n > 20 {
			t.Errorf("asked %d times in an hour", n)
		}
		repaired.Store(true)
		time.Sleep(maxAskPause * 5 * time.Second)
		synctest.Wait()
		if b.node.Sealed() {
			t.Error("it doesn't ask any more")
		}
		cancel()
		<-done
		a.node.Close()
		b.node.Close()
	})
}

// Promise 9: what one node acknowledged binds at the next request to any other.
func TestChangesBindAtEveryNode(t *testing.T) {
	f := newFleet(t, 3, 3, 2)
	a, b, c := f.at("a"), f.at("b"), f.at("c")
	a.mounts(mount.Entry{Path: "secret/", Type: "kv"})
	a.writePolicy("app", `path "secret/*" { capabilities = ["read", "update", "create"] }`)
	id, e := a.create(a.root, token.Spec{Path: "auth/token/create", Policies: []string{"app"}})
	b.mustAsk(id, engine.Update, "secret/x", `{"v":"1"}`)
	if !strings.Contains(c.reads(id, "secret/x"), "1") {
		t.Fatal("what one node wrote is unknown to another")
	}
	b.writePolicy("app", `path "other/*" { capabilities = ["read"] }`)
	if a.reads(id, "secret/x") != "" || c.reads(id, "secret/x") != "" {
		t.Error("an old policy holds")
	}
	c.writePolicy("app", `path "*" { capabilities = ["read"] }`)
	if a.reads(id, "secret/x") == "" || b.reads(id, "secret/x") == "" {
		t.Error("a new policy doesn't hold")
	}
	a.move("secret/", "moved/", false)
	if b.reads(id, "secret/x") != "" || !strings.Contains(c.reads(id, "moved/x"), "1") {
		t.Error("a mount is where it was before")
	}
	c.disable("moved/", false)
	if a.reads(id, "moved/x") != "" || b.reads(id, "moved/x") != "" {
		t.Error("what is mounted no more is read")
	}
	b.revoke(b.root, e)
	if a.lookup(id) != nil || b.lookup(id) != nil || c.lookup(id) != nil {
		t.Error("a revoked token lives")
	}
}

// An attempt belongs to the cluster: nodes come and go under it, and it yields one token.
func TestAttemptAcrossNodes(t *testing.T) {
	f := newFleet(t, 3, 3, 3)
	a, b, c := f.at("a"), f.at("b"), f.at("c")
	st := a.start(GenerateRoot, local, StartRequest{})
	b.approve(GenerateRoot, st.Nonce, 0)
	a.approve(GenerateRoot, st.Nonce, 1)
	a.node.Close()
	if now := c.status(); !now.Started || now.Progress != 2 || now.Nonce != st.Nonce {
		t.Fatalf("at the third node: %+v", now)
	}
	before := c.accessors(c.root)
	done := c.approve(GenerateRoot, st.Nonce, 2)
	id := c.decode(done, st.OTP)
	if b.lookup(id) == nil || c.lookup(id) == nil || c.accessors(c.root) != before+1 {
		t.Errorf("%d tokens more", c.accessors(c.root)-before)
	}
	if b.status().Started {
		t.Error("it goes on at another node")
	}
	var values [][]byte
	err := c.st.View(t.Context(), func(r store.Reader) (err error) {
		values, err = r.Get(seal.OrderKey)
		return err
	})
	if err != nil || values[0] != nil {
		t.Errorf("the end of a process sealed the cluster: %q, %v", values, err)
	}
}
