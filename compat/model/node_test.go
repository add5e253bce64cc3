package model

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

const (
	sweepEvery = 30 * time.Second
	resultTTL  = 5 * time.Minute       // of what can be had again
	keysTTL    = 30 * 24 * time.Hour   // of shares that are encrypted
	proofWait  = 7 * 24 * time.Hour    // for the next new holder
	drillWait  = 7 * 24 * time.Hour    // for all holders
	nobody     = "no such ceremony -1" // a nonce that nothing has
)

func kinds() []ceremony.Kind {
	return []ceremony.Kind{ceremony.RootToken, ceremony.Rekey, ceremony.RotateRoot, ceremony.Drill, ceremony.Holders}
}

func changesHolders(k ceremony.Kind) bool { return k == ceremony.Rekey || k == ceremony.RotateRoot }

// people are the holders of one generation: the reference keeps what they have in their hands.
type people struct {
	number uint64
	n, t   int
	shares [][]byte // in slot order
	proven map[int]bool
}

// GoString keeps the shares out of what a failure prints.
func (p *people) GoString() string { return fmt.Sprint("generation ", p.number) }

func (p *people) sign(slot int, s holder.Statement) []byte {
	key := holder.Derive(secret.Copy(p.shares[slot-1]), s.ClusterID, s.Generation)
	defer key.Wipe()
	return key.Sign(s)
}

// place is the attempt in the slot of one kind, with what must be true of it.
type place struct {
	*reference
	is       ceremony.Kind
	nonce    string
	order    int // in which they were started
	gen      *people
	family   node.Family
	attempt  *ceremony.Attempt // as it was started
	otp      []byte
	id       string // of the token that seed 1 names
	ttl      time.Duration
	change   node.RekeyRequest
	repeated map[int]bool
	modes    map[int]holder.Mode
	voted    time.Time // when the latest vote came
	ver      *verification
}

type verification struct {
	nonce    string
	gen      *people
	required int
	began    time.Time
	proofs   map[int]time.Time
}

func (v *verification) over(now time.Time) bool {
	latest := v.began
	for _, at := range v.proofs {
		if at.After(latest) {
			latest = at
		}
	}
	return now.Sub(latest) >= proofWait || v.began.Sub(now) > proofWait
}

func (p *place) dead(now time.Time) bool {
	if p.ver != nil {
		return p.ver.over(now)
	}
	return p.over(now)
}

// ended is what must be known of an attempt that is over.
type ended struct {
	*place
	state     node.State
	by        int // whose approval completed it
	keys      [][]byte
	encrypted bool
	encoded   string
	until     time.Time
	forgotten bool
}

func (e *ended) there(now time.Time) bool { return !e.forgotten && now.Before(e.until) }

func (b *bearer) GoString() string { return b.serial }

func (s *signedStart) GoString() string { return fmt.Sprint("a start of a ", s.req.Kind) }

// bearer is a token.
type bearer struct {
	serial  string // IDs come again in seed 1
	id      string
	from    string // the ceremony
	root    bool
	expires time.Time // zero: never
	dead    bool
	dubious bool // it was past its end before the clock was set back
}

func (b *bearer) live(now time.Time) bool {
	return b != nil && !b.dead && !b.dubious && (b.expires.IsZero() || now.Before(b.expires))
}

// signedStart is a start by signature that was sent once.
type signedStart struct {
	who    node.Asker
	req    node.StartRequest
	gen    *people
	digest ceremony.Digest
	kept   time.Time // until when it can't be used again; zero: it wasn't used
}

// world is a node over a store, and the reference for both. It runs in a bubble of fake time; setting the clock is
// apart from that, because no ticker goes back.
type nodeWorld struct {
	*rapid.T
	seen   map[string]int
	st     *inmem.Store
	node   *node.Node
	mark   *markKeeper
	offset atomic.Int64
	id     string // of the cluster
	age    *age.X25519Identity

	sealed    bool
	given     map[uint64]map[int]bool // :: generation → slots given to unseal with
	lastGiven time.Time
	told      map[[2]uint64]time.Time // :: generation and slot → when a refusal was written down
	took      map[[2]uint64]time.Time // :: the same → when an unseal was reset with the share

	gens                              []*people
	active, retiring, former, pending *people
	next                              uint64
	places                            map[ceremony.Kind]*place
	ends                              map[string]*ended
	tokens                            []*bearer
	signed                            []*signedStart
	old                               []approval // good ones, of whatever attempt
	started                           int        // attempts so far

	size   int64
	expect []string // events since the last check
}

type markKeeper struct {
	mu   sync.Mutex
	mark transcript.Mark
	has  bool
}

func (k *markKeeper) Load() (transcript.Mark, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mark, k.has, nil
}

func (k *markKeeper) Save(m transcript.Mark) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mark, k.has = m, true
	return nil
}

func (w *nodeWorld) ctx() context.Context { return context.Background() }

func (w *nodeWorld) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func newNodeWorld(t *rapid.T, seen map[string]int, identity *age.X25519Identity) *nodeWorld {
	w := &nodeWorld{
		T: t, seen: seen, st: inmem.New(), mark: &markKeeper{}, age: identity,
		places: map[ceremony.Kind]*place{}, ends: map[string]*ended{},
	}
	w.offset.Store(int64(time.Until(time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC))))
	w.boot()
	n, threshold := w.numbers("init")
	res, err := w.node.Init(w.ctx(), node.InitRequest{Shares: n, Threshold: threshold})
	if err != nil {
		t.Fatal(err)
	}
	w.id, w.next = res.ClusterID, res.Generation+1
	w.active = w.people(res.Generation, threshold, res.Keys)
	w.tokens = []*bearer{{serial: "init", id: string(res.RootToken.Reveal()), from: "init", root: true}}
	w.expect = append(w.expect, "init")
	w.open()
	return w
}

func (w *nodeWorld) numbers(label string) (shares, threshold int) {
	shares = rapid.SampledFrom([]int{1, 2, 3, 3, 4, 5}).Draw(w.T, label+" shares")
	return shares, rapid.IntRange(min(2, shares), shares).Draw(w.T, label+" threshold")
}

func (w *nodeWorld) people(number uint64, threshold int, shares [][]byte) *people {
	p := &people{number: number, n: len(shares), t: threshold, proven: map[int]bool{}}
	for _, s := range shares {
		p.shares = append(p.shares, bytes.Clone(s))
	}
	w.gens = append(w.gens, p)
	return p
}

// boot is a new process over the store.
func (w *nodeWorld) boot() {
	if w.node != nil {
		w.node.Close()
	}
	n, err := node.New(node.Options{Store: w.st, Now: w.now, SweepInterval: sweepEvery, Mark: w.mark})
	if err != nil {
		w.Fatal(err)
	}
	w.node, w.sealed = n, true
	w.given, w.told, w.took = map[uint64]map[int]bool{}, map[[2]uint64]time.Time{}, map[[2]uint64]time.Time{}
}

// dump is all that the store has.
func (w *nodeWorld) dump() [sha256.Size]byte {
	h := sha256.New()
	err := w.st.View(w.ctx(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%q=%q\n", e.Key, e.Value)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (w *nodeWorld) access(b *bearer, path string, want policy.Capability) node.Access {
	return node.Access{Token: secret.Copy([]byte(b.id)), Path: path, Capability: want, Sudo: want == policy.Update}
}

// class is what an error says, in a word or two.
func class(err error) string {
	f := fault.As(err)
	var old *seal.OldShare
	switch {
	case err == nil:
		return ""
	case f == nil:
		return "internal: " + err.Error()
	case f.Kind == fault.Sealed:
		return "sealed"
	case f.Kind == fault.Denied:
		return "denied"
	case errors.As(err, &old):
		return "old"
	case errors.Is(err, node.ErrNonce):
		return "nonce"
	}
	for _, s := range []struct{ part, class string }{
		{"already in progress", "busy"},
		{"is not valid", "bad"},
		{"wrong length", "bad"},
		{"is of the present generation", "bad"},
		{"not in force yet", "bad"},
		{"has already been provided", "duplicate"},
		{"has already taken part", "duplicate"},
		{"has already approved", "duplicate"},
		{"has all its approvals", "verifying"},
		{"another rekey waits", "pending"},
		{"must be given by share", "by share"},
		{"through the other path", "family"},
		{"no rekey waits for verification", "no verification"},
		{"has been used already", "used"},
		{"signed_at must be within", "late"},
		{"nothing is kept", "no result"},
		{"less than a minute ago", "again"},
		{"in progress", "none"},
	} {
		if strings.Contains(f.Sentence, s.part) {
			return s.class
		}
	}
	return f.Sentence
}

// did compares what came of a step with what must come of it. A step that fails, and of which nothing is to be
// recorded, must have left every byte of the store as it was.
func (w *nodeWorld) did(what string, err error, want string, before [sha256.Size]byte, changes bool) {
	w.Helper()
	if got := class(err); got != want {
		w.Fatalf("%s: %q (%v), want %q", what, got, err, want)
	}
	if !changes && w.dump() != before {
		w.Fatalf("%s: %q, and the store is not as it was", what, want)
	}
	w.seen[what+": "+want]++
}

// bubble runs fn in fake time, and lets a failure of the property through.
func bubble(t *testing.T, fn func()) {
	var failed any
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if failed = recover(); failed != nil && strings.Contains(fmt.Sprintf("%T", failed), "runtime.") {
				t.Logf("%v\n%s", failed, debug.Stack())
			}
		}()
		fn()
	})
	switch {
	case failed == nil:
	case fmt.Sprintf("%T", failed) == "rapid.invalidData": // the engine tells failures apart by where they come from
		panic(failed)
	default:
		panic(failed)
	}
}
