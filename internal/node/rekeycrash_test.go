package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// story is something that people do with a server, and take up again with a new one when it died.
type story interface {
	run() error
	crashed() // at each crash, before the new process
	check()   // at the end
}

// everyWrite lets a story's n-th commit fail, for every n and in both ways, over a cluster of three holders of whom
// two are enough, which is initialised and sealed. It returns how many commits the story has.
func everyWrite(t *testing.T, tell func(*cluster) story) {
	t.Helper()
	first := &cluster{t: t, st: inmem.New(), clock: newClock(), log: &syncBuffer{}}
	first.boot()
	first.init(3, 2)
	first.unseal()
	first.behind("test/kept", "value")
	first.node.Close()
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		for n := 1; ; n++ {
			faulty := storetest.NewFaulty(copyOf(t, first.st))
			faulty.FailCommit(n, mode)
			c := &cluster{t: t, st: faulty, clock: newClock(), log: &syncBuffer{}, shares: slices.Clone(first.shares), root: first.root}
			s := tell(c)
			c.boot()
			err := s.run()
			reached := faulty.Crashed()
			if reached {
				if err == nil {
					t.Fatalf("%v %d: the store failed, and everybody was told that all is well", mode, n)
				}
				c.node.Close()
				faulty.Recover()
				s.crashed()
				c.boot()
				err = s.run()
			}
			if err != nil {
				t.Fatalf("%v %d: reached %t: %v", mode, n, reached, err)
			}
			faulty.Recover() // where the story had no n-th commit, none fails in the check either
			s.check()
			c.node.Close()
			if t.Failed() {
				t.Fatalf("%v, commit %d", mode, n)
			}
			if !reached {
				if n < 5 {
					t.Fatalf("only %d commits in the whole story", n-1)
				}
				break
			}
		}
	}
}

// open unseals with the first of several sets of shares that can.
func (c *cluster) open(sets ...[][]byte) error {
	for _, set := range sets {
		for _, share := range set {
			if !c.node.Sealed() {
				return nil
			}
			if _, err := c.node.Unseal(c.t.Context(), secret.Copy(share), false, ""); fault.As(err) != nil {
				break
			} else if err != nil {
				return err
			}
		}
		if !c.node.Sealed() {
			return nil
		}
	}
	return errors.New("no set of shares opens the store")
}

// whole demands what every story leaves behind: everything that was stored, and a transcript that proves itself.
func (c *cluster) whole() {
	c.t.Helper()
	if string(c.readBehind("test/kept")) != "value" || c.lookup(c.root) == nil {
		c.t.Error("what was stored is lost")
	}
	if rep := c.audit(c.verifierKey()); len(rep.Problems) > 0 {
		c.t.Error(rep.Problems)
	}
	if _, _, alarms, err := c.node.TranscriptState(c.t.Context()); err != nil || len(alarms) > 0 {
		c.t.Error(alarms, err)
	}
}

// hand is what the holders of one generation have.
type hand struct {
	number    uint64
	threshold int
	shares    [][]byte
}

// rekeyStory is a rekey, and that its new holders then use their shares.
type rekeyStory struct {
	*cluster
	req        StartRequest
	identities []*age.X25519Identity
	hands      []hand // newest last
	last       int    // index of the share that was given last
	nonce      string
	cancel     bool // the first verification is cancelled
}

func (s *rekeyStory) run() error {
	var sets [][][]byte
	for _, h := range s.hands {
		sets = append([][][]byte{h.shares}, sets...)
	}
	if err := s.open(sets...); err != nil {
		return err
	}
	for done := false; !done; {
		var err error
		if done, err = s.step(); err != nil {
			return err
		}
	}
	if _, ok := s.table()["retiring"]; ok {
		s.node.Close()
		s.boot()
		return s.open(s.hands[len(s.hands)-1].shares)
	}
	return nil
}

// step does what people would do who see only what the server shows and what they have.
func (s *rekeyStory) step() (done bool, err error) {
	ctx := s.t.Context()
	o, err := s.node.CeremonyOf(ctx, s.req.Kind)
	if err != nil {
		return false, err
	}
	switch o.State {
	case Idle:
		if g := s.table()["active"]; g.Number > 1 {
			return true, s.take(g.Number, g.Threshold)
		}
		o, err = s.node.Start(ctx, GenerateRoot, local, s.req)
		if err == nil {
			s.nonce = o.Attempt.Nonce
		}
	case Open:
		s.nonce = o.Attempt.Nonce
		s.last = slices.IndexFunc(s.shares, func(share []byte) bool {
			return !slices.ContainsFunc(o.Attempt.Approvals, func(a ceremony.Approval) bool { return a.Slot == int(share[len(share)-1]) })
		})
		var got *Ceremony
		if got, err = s.give(o, s.shares[s.last], ""); err == nil {
			s.note(got)
		}
	case Verifying:
		s.nonce = o.Attempt.Nonce
		number := o.Verification.Generation
		if err := s.take(number, s.req.Rekey.Threshold); err != nil {
			return false, err
		}
		if s.cancel && number == 2 {
			_, _, err = s.node.Cancel(ctx, s.req.Kind, "", local)
			return false, err
		}
		_, err = s.prove(o, s.hands[len(s.hands)-1].shares[len(o.Verification.Proofs)])
	}
	return false, err
}

// note keeps the shares that a reply carried.
func (s *rekeyStory) note(got *Ceremony) {
	s.t.Helper()
	if len(got.Keys) == 0 {
		return
	}
	h := hand{number: s.table()["active"].Number, threshold: s.req.Rekey.Threshold}
	if got.State == Verifying {
		h.number = got.Verification.Generation
	}
	for i, k := range cloned(got.Keys) {
		if got.Encrypted {
			k = openAge(s.t, k, s.identities[i])
		}
		h.shares = append(h.shares, k)
	}
	s.hands = append(s.hands, h)
}

// take makes sure that the people have the shares of a generation: where the reply was lost, they get it again.
func (s *rekeyStory) take(number uint64, threshold int) error {
	if s.hands[len(s.hands)-1].number == number {
		return nil
	}
	var got *Ceremony
	var err error
	if s.identities != nil {
		got, err = s.node.Result(s.t.Context(), s.nonce, bearer(s.root))
	} else {
		got, err = s.node.Approve(s.t.Context(), s.req.Kind, GenerateRoot, s.nonce, Approver{Credential: Credential{Share: s.share(s.last)}})
	}
	if err != nil {
		return err
	}
	s.note(got)
	if h := s.hands[len(s.hands)-1]; h.number != number || h.threshold != threshold {
		return fmt.Errorf("the reply again is of generation %d, not %d", h.number, number)
	}
	return nil
}

// crashed demands the promise: of the shares that people have in their hands, those of the generations that the record
// calls active or retiring open the store, no others do, and there are some.
func (s *rekeyStory) crashed() {
	s.t.Helper()
	rec, err := s.node.sealRecord(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	some := false
	for _, h := range s.hands {
		copied := &cluster{t: s.t, st: copyOf(s.t, s.st), clock: s.clock}
		opens := copied.opens(h.shares[len(h.shares)-h.threshold:])
		live := slices.ContainsFunc([]*seal.Generation{rec.Generation(), rec.Retiring()}, func(g *seal.Generation) bool {
			return g != nil && g.Number == h.number
		})
		if opens != live {
			s.t.Errorf("generation %d opens the store: %t, and should: %t", h.number, opens, live)
		}
		some = some || opens
	}
	if !some {
		s.t.Fatal("no quorum that has shares in its hands opens the store")
	}
}

func (s *rekeyStory) check() {
	s.t.Helper()
	s.whole()
	s.crashed()
	g := s.table()["active"]
	if h := s.hands[len(s.hands)-1]; h.number != g.Number || g.Shares != s.req.Rekey.Shares || s.identity().Retiring {
		s.t.Errorf("generation %d is in force, and people have shares of %d", g.Number, h.number)
	}
	// And it can be done again.
	s.shares = s.hands[len(s.hands)-1].shares
	s.generate()
}

// T45 to T49: a server that dies at any single write of a rekey leaves a store that a quorum opens with the shares that
// it has in its hands, and a rekey that can be finished.
func TestCrashAtEveryWriteOfARekey(t *testing.T) {
	thresholds := map[string][2]int{"kept": {3, 2}, "raised": {4, 3}, "lowered": {1, 1}}
	verification := map[string]func(*RekeyRequest){"none": func(*RekeyRequest) {}, "threshold": verified, "all": verifiedAll}
	for tn, to := range thresholds {
		for vn, verify := range verification {
			for _, rotate := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%t", tn, vn, rotate), func(t *testing.T) {
					t.Parallel()
					everyWrite(t, func(c *cluster) story {
						req := rekeyTo(to[0], to[1], func(k *RekeyRequest) { verify(k); k.Rotate = rotate })
						return &rekeyStory{cluster: c, req: req, hands: []hand{{1, 2, c.shares}}}
					})
				})
			}
		}
	}
}

// The same with encrypted shares, through the other kind.
func TestCrashAtEveryWriteOfAnEncryptedRekey(t *testing.T) {
	recipients, identities := ageKeys(t, 3)
	for _, verify := range []bool{false, true} {
		t.Run(fmt.Sprint(verify), func(t *testing.T) {
			t.Parallel()
			everyWrite(t, func(c *cluster) story {
				req := rekeyTo(3, 2, func(k *RekeyRequest) { k.Age, k.Verify, k.VerifyAll, k.Rotate = recipients, verify, verify, true })
				req.Kind = ceremony.RotateRoot
				return &rekeyStory{cluster: c, req: req, identities: identities, hands: []hand{{1, 2, c.shares}}}
			})
		})
	}
}

// An aborted generation never opens the store, whichever write of its end the server died at.
func TestCrashAtEveryWriteOfACancelledRekey(t *testing.T) {
	everyWrite(t, func(c *cluster) story {
		return &rekeyStory{cluster: c, req: rekeyTo(3, 2, verified), hands: []hand{{1, 2, c.shares}}, cancel: true}
	})
}

// simple is a story without new shares.
type simple struct {
	*cluster
	kind   ceremony.Kind
	labels []string
	nonce  string
	done   bool
}

func (s *simple) run() error {
	if err := s.open(s.shares); err != nil {
		return err
	}
	if s.kind == "" {
		return s.rotate()
	}
	for !s.done {
		o, err := s.node.CeremonyOf(s.t.Context(), s.kind)
		if err != nil {
			return err
		}
		if o.State == Idle && s.nonce != "" {
			was, err := s.node.Ceremony(s.t.Context(), s.nonce)
			if err != nil || was.State != Complete {
				return fmt.Errorf("the ceremony is lost: %w", err)
			}
			s.done = true
			continue
		}
		if o.State == Idle {
			o, err = s.node.Start(s.t.Context(), GenerateRoot, local, StartRequest{Kind: s.kind, Labels: s.labels})
			if err != nil {
				return err
			}
		}
		s.nonce = o.Attempt.Nonce
		if _, err := s.give(o, s.shares[o.Attempt.Progress()], ""); err != nil {
			return err
		}
	}
	return nil
}

// rotate rotates the root key and the keyring, in turns, and some more of both.
func (s *simple) rotate() error {
	ctx := s.t.Context()
	for range 2 {
		if err := s.node.RotateRootKey(ctx, s.access(s.root, "sys/rotate/root", policy.Update)); err != nil {
			return err
		}
		if err := s.node.RotateKeyring(ctx, s.access(s.root, "sys/rotate", policy.Update)); err != nil {
			return err
		}
	}
	err := s.node.active.Load().Barrier.Update(ctx, func(tx store.Tx) error { return tx.Put("test/more", []byte("x")) })
	return err
}

func (s *simple) crashed() {
	s.t.Helper()
	copied := &cluster{t: s.t, st: copyOf(s.t, s.st), clock: s.clock}
	if !copied.opens(s.shares[1:]) {
		s.t.Fatal("the quorum that there is can't open the store")
	}
}

func (s *simple) check() {
	s.t.Helper()
	s.whole()
	s.crashed()
	for i, h := range s.table()["active"].Holders {
		if s.labels != nil && h.Label != s.labels[i] || s.kind == ceremony.Drill && h.LastProven.IsZero() {
			s.t.Errorf("holder %+v", h)
		}
	}
	s.generate()
}

// The same for the ceremonies that make no shares, and for what needs none.
func TestCrashAtEveryWriteOfTheOthers(t *testing.T) {
	for kind, labels := range map[ceremony.Kind][]string{ceremony.Drill: nil, ceremony.Holders: {"alice", "bob", "carol"}, "": nil} {
		t.Run("kind "+string(kind), func(t *testing.T) {
			t.Parallel()
			everyWrite(t, func(c *cluster) story { return &simple{cluster: c, kind: kind, labels: labels} })
		})
	}
}
