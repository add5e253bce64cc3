package node

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/transcript"
)

// everyKind is a request for each kind, for a cluster of three holders.
func everyKind() map[ceremony.Kind]StartRequest {
	return map[ceremony.Kind]StartRequest{
		ceremony.RootToken:  {Kind: ceremony.RootToken, Reason: "locked out"},
		ceremony.Rekey:      rekeyTo(3, 2, verified),
		ceremony.RotateRoot: {Kind: ceremony.RotateRoot, Rekey: RekeyRequest{Shares: 3, Threshold: 2, Verify: true, Rotate: true}},
		ceremony.Drill:      {Kind: ceremony.Drill},
		ceremony.Holders:    {Kind: ceremony.Holders, Labels: []string{"alice", "bob", "carol"}},
	}
}

// Promise 2: any kind of ceremony goes through without a share leaving its holder, and a share may stand beside
// signatures.
func TestEveryKindBySignature(t *testing.T) {
	for kind, req := range everyKind() {
		t.Run(string(kind), func(t *testing.T) {
			for _, mixed := range []bool{false, true} {
				c := newCluster(t, 3, 2)
				o := c.begin(local, req)
				got, err := c.signs(o, 2)
				if err != nil || got.State != Open || got.Attempt.Progress() != 1 {
					t.Fatalf("first signature: %+v, %v", got, err)
				}
				if a := got.Attempt.Approvals[0]; a.Slot != 3 || a.Mode != holder.ModeSignature {
					t.Errorf("approval %+v", a)
				}
				for i := 0; got.State == Open; i++ {
					if mixed {
						got, err = c.give(o, c.shares[i], "")
					} else {
						got, err = c.signs(o, i)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				want := Complete
				if kind == ceremony.Rekey || kind == ceremony.RotateRoot {
					want = Verifying
				}
				if got.State != want {
					t.Errorf("state %s, want %s", got.State, want)
				}
			}
		})
	}
}

// A signature stands for one action, mode, slot, generation, cluster and attempt, and for nothing else. A wrong one is
// refused and progress is what it was (promise 3).
func TestSignaturesThatAreNotOfThisApproval(t *testing.T) {
	for kind, req := range everyKind() {
		t.Run(string(kind), func(t *testing.T) {
			c := newCluster(t, 3, 2)
			before := c.begin(local, req)
			c.drop(kind)
			o := c.begin(local, req)
			first, err := c.give(o, c.shares[0], "")
			if err != nil {
				t.Fatal(err)
			}
			right := o.Attempt.Statement(2, holder.ModeSignature)
			change := func(fn func(*holder.Statement)) []byte {
				s := right
				fn(&s)
				key := holder.Derive(c.share(1), right.ClusterID, right.Generation)
				defer key.Wipe()
				return key.Sign(s)
			}
			good := signed(c.shares[1], right)
			wrong := map[string][]byte{
				"mode share":       change(func(s *holder.Statement) { s.Mode = holder.ModeShare }),
				"other slot":       change(func(s *holder.Statement) { s.Slot = 3 }),
				"next generation":  change(func(s *holder.Statement) { s.Generation++ }),
				"other cluster":    change(func(s *holder.Statement) { s.ClusterID = "0" + s.ClusterID[1:] + "0" }),
				"earlier attempt":  signed(c.shares[1], before.Attempt.Statement(2, holder.ModeSignature)),
				"digest":           change(func(s *holder.Statement) { s.Digest[31] ^= 1 }),
				"key of slot 3":    signed(c.shares[2], right),
				"cut":              good[:63],
				"longer":           append(bytes.Clone(good), 0),
				"zeroes":           make([]byte, 64),
				"key of next one":  holder.Derive(c.share(1), right.ClusterID, right.Generation+1).Sign(right),
				"public, of other": first.Attempt.Approvals[0].Signature,
			}
			for _, a := range []holder.Action{
				holder.ActionApprove, holder.ActionDrill, holder.ActionStart, holder.ActionCancel, holder.ActionProve, holder.ActionUnseal,
			} {
				if a != right.Action {
					wrong["action "+string(a)] = change(func(s *holder.Statement) { s.Action = a })
				}
			}
			for name, signature := range wrong {
				_, err := c.send(o, o.Attempt.Nonce, 2, signature)
				if f := fault.As(err); f == nil || f.Kind != fault.Invalid {
					t.Errorf("%s: %v", name, err)
				}
			}
			for name, slot := range map[string]int{"slot 0": 0, "slot -1": -1, "slot 4": 4, "slot 3": 3, "slot 1": 1, "slot 256": 256} {
				if _, err := c.send(o, o.Attempt.Nonce, slot, good); fault.As(err) == nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			// What the transcript shows of an approval by share approves nothing again.
			if _, err := c.send(o, o.Attempt.Nonce, 1, first.Attempt.Approvals[0].Signature); !errors.Is(err, errSignature) {
				t.Errorf("a signature out of the transcript: %v", err)
			}
			for name, empty := range map[string][]byte{"no signature": nil, "empty signature": {}} {
				if _, err := c.send(o, o.Attempt.Nonce, 2, empty); fault.As(err) == nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := c.send(o, before.Attempt.Nonce, 2, good); !errors.Is(err, ErrNonce) {
				t.Errorf("nonce of an earlier attempt: %v", err)
			}
			if n := c.progress(kind); n != 1 {
				t.Fatalf("progress %d after nothing but wrong signatures", n)
			}
			if got, err := c.send(o, o.Attempt.Nonce, 2, good); err != nil || got.Attempt.Progress() != 2 {
				t.Errorf("the right one: %v", err)
			}
		})
	}
}

// The same approval again counts once, by whichever way it comes, and is written down once.
func TestSignatureGivenTwice(t *testing.T) {
	c := newCluster(t, 5, 3)
	o := c.begin(local, StartRequest{Kind: ceremony.RootToken})
	if _, err := c.signs(o, 0); err != nil {
		t.Fatal(err)
	}
	from := c.size()
	for range 3 {
		if _, err := c.signs(o, 0); !errors.Is(err, ceremony.ErrDuplicate) {
			t.Errorf("the signature again: %v", err)
		}
		if _, err := c.give(o, c.shares[0], ""); !errors.Is(err, ceremony.ErrDuplicate) {
			t.Errorf("the share after the signature: %v", err)
		}
	}
	if got := c.happened(from); got != "duplicate" || c.progress(ceremony.RootToken) != 1 {
		t.Errorf("recorded %q, progress %d", got, c.progress(ceremony.RootToken))
	}
}

// startBy is who starts by signature.
func (c *cluster) startBy(i int, s ceremony.Start) Asker {
	return Asker{Credential: Credential{Slot: i + 1, Signature: signed(c.shares[i], s.Statement(i+1))}, SignedAt: s.At}
}

func (c *cluster) signedStart(kind ceremony.Kind, p ...ceremony.Parameter) ceremony.Start {
	id := c.identity()
	s := ceremony.Start{ClusterID: id.ClusterID, Generation: id.Generation, Kind: kind, Parameters: p, At: c.clock.now()}
	if kind == ceremony.RootToken {
		s.Recipient = "otp"
	}
	return s
}

func parameters(pairs ...string) (list []ceremony.Parameter) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, ceremony.Parameter{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// A holder starts any kind from afar, and owns what they started.
func TestStartBySignature(t *testing.T) {
	rekey := parameters("backup", "false", "require_verification", "true", "rotate", "false", "secret_shares", "3", "secret_threshold", "2", "verify_all", "false")
	rotate := parameters("backup", "false", "require_verification", "true", "rotate", "true", "secret_shares", "3", "secret_threshold", "2", "verify_all", "false")
	for kind, p := range map[ceremony.Kind][]ceremony.Parameter{
		ceremony.RootToken: nil, ceremony.Rekey: rekey, ceremony.RotateRoot: rotate, ceremony.Drill: nil,
		ceremony.Holders: parameters("holder.001", "alice", "holder.002", "bob", "holder.003", "carol"),
	} {
		t.Run(string(kind), func(t *testing.T) {
			c := newCluster(t, 3, 2)
			req := everyKind()[kind]
			s := c.signedStart(kind, p...)
			s.Reason = req.Reason
			o := c.begin(c.startBy(1, s), req)
			if in := o.Attempt.Initiator; in.By != ceremony.ByHolder || in.Slot != 2 || o.Attempt.Progress() != 0 {
				t.Errorf("initiator %+v, progress %d", in, o.Attempt.Progress())
			}
		})
	}
}

// What was not signed is not started.
func TestSignedStartThatSaysSomethingElse(t *testing.T) {
	c := newCluster(t, 3, 2)
	recipients, _ := ageKeys(t, 2)
	req := StartRequest{Kind: ceremony.RootToken, Reason: "locked out", TTL: time.Hour, RootTokenTTL: 10 * time.Minute, Age: recipients[0]}
	s := c.signedStart(ceremony.RootToken, parameters("root_token_ttl", "600")...)
	s.Reason, s.TTL = req.Reason, req.TTL
	var err error
	if s.Recipient, err = (&StartRequest{Kind: ceremony.RootToken, Age: recipients[0]}).recipient(); err != nil {
		t.Fatal(err)
	}
	refused := func(name string, f Family, who Asker, req StartRequest) {
		t.Helper()
		if _, err := c.node.Start(t.Context(), f, who, req); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, fn := range map[string]func(*StartRequest){
		"reason":         func(r *StartRequest) { r.Reason = "locked out!" },
		"no reason":      func(r *StartRequest) { r.Reason = "" },
		"ttl":            func(r *StartRequest) { r.TTL = 2 * time.Hour },
		"no ttl":         func(r *StartRequest) { r.TTL = 0 },
		"token ttl":      func(r *StartRequest) { r.RootTokenTTL = time.Hour },
		"no token ttl":   func(r *StartRequest) { r.RootTokenTTL = -time.Second },
		"recipient":      func(r *StartRequest) { r.Age = recipients[1] },
		"two recipients": func(r *StartRequest) { r.Age += "\n" + recipients[1] },
		"server's OTP":   func(r *StartRequest) { r.Age = "" },
		"own OTP":        func(r *StartRequest) { r.OTP = []byte("abcdefghijklmnopqrstuvwx") },
		"token ID":       func(r *StartRequest) { r.TokenID = []byte(crashTokenID) },
		"kind":           func(r *StartRequest) { r.Kind = ceremony.Drill },
		"unknown kind":   func(r *StartRequest) { r.Kind = "root" },
	} {
		other := req
		fn(&other)
		refused(name, GenerateRoot, c.startBy(0, s), other)
		refused(name+", seed 1", RootGeneration, c.startBy(0, s), other)
	}
	for name, fn := range map[string]func(*ceremony.Start, *Asker){
		"slot":            func(_ *ceremony.Start, who *Asker) { who.Slot = 2 },
		"slot 0":          func(_ *ceremony.Start, who *Asker) { who.Slot = 0 },
		"slot 4":          func(_ *ceremony.Start, who *Asker) { who.Slot = 4 },
		"time":            func(_ *ceremony.Start, who *Asker) { who.SignedAt = who.SignedAt.Add(time.Millisecond) },
		"no time":         func(_ *ceremony.Start, who *Asker) { who.SignedAt = time.Time{} },
		"half signature":  func(_ *ceremony.Start, who *Asker) { who.Signature = who.Signature[:32] },
		"next generation": func(s *ceremony.Start, who *Asker) { s.Generation++; *who = c.startBy(0, *s) },
		"other cluster":   func(s *ceremony.Start, who *Asker) { s.ClusterID = "x"; *who = c.startBy(0, *s) },
		"mode share": func(s *ceremony.Start, who *Asker) {
			st := s.Statement(1)
			st.Mode = holder.ModeShare
			who.Signature = signed(c.shares[0], st)
		},
		"an approval": func(s *ceremony.Start, who *Asker) {
			st := s.Statement(1)
			st.Action = holder.ActionApprove
			who.Signature = signed(c.shares[0], st)
		},
	} {
		other := s
		who := c.startBy(0, s)
		fn(&other, &who)
		refused(name, GenerateRoot, who, req)
	}
	if got := c.look(ceremony.RootToken); got.State != Idle {
		t.Fatalf("something began: %+v", got)
	}
	if o := c.begin(c.startBy(0, s), req); o.Attempt.Initiator.Slot != 1 {
		t.Errorf("initiator %+v", o.Attempt.Initiator)
	}
}

// The parameters of a rekey are signed, each of them.
func TestSignedStartOfAnotherRekey(t *testing.T) {
	c := newCluster(t, 3, 2)
	s := c.signedStart(ceremony.Rekey, parameters("backup", "false", "require_verification", "true", "rotate", "false",
		"secret_shares", "3", "secret_threshold", "2", "verify_all", "true", "holder.001", "a", "holder.002", "b", "holder.003", "c")...)
	req := rekeyTo(3, 2, func(k *RekeyRequest) { k.Labels = []string{"a", "b", "c"}; verifiedAll(k) })
	recipients, _ := ageKeys(t, 3)
	keys, _ := pgpKeys(t, 1, c.clock.now())
	d, err := delivery.FromPGP(keys[0], c.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	keys[0] = []byte(d.Key()) // as ceremonies show it, so that a signed start gets as far as it can
	for name, fn := range map[string]func(*RekeyRequest){
		"shares":       func(k *RekeyRequest) { k.Shares = 4 },
		"threshold":    func(k *RekeyRequest) { k.Threshold = 3 },
		"labels":       func(k *RekeyRequest) { k.Labels = []string{"a", "c", "b"} },
		"no labels":    func(k *RekeyRequest) { k.Labels = nil },
		"rotate":       func(k *RekeyRequest) { k.Rotate = true },
		"backup":       func(k *RekeyRequest) { k.Backup = true },
		"unverified":   func(k *RekeyRequest) { k.Verify = false },
		"verify a few": func(k *RekeyRequest) { k.VerifyAll = false },
		"recipients":   func(k *RekeyRequest) { k.Age = recipients },
		"two kinds":    func(k *RekeyRequest) { k.Age, k.PGPKeys = recipients, keys },
		"fewer keys":   func(k *RekeyRequest) { k.PGPKeys = keys },
	} {
		other := req
		fn(&other.Rekey)
		if _, err := c.node.Start(t.Context(), GenerateRoot, c.startBy(0, s), other); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.begin(c.startBy(0, s), req)
}

// A signed start is good for five minutes before and after its time, and once.
func TestSignedStartIsGoodOnce(t *testing.T) {
	c := newCluster(t, 3, 2)
	drill := StartRequest{Kind: ceremony.Drill}
	s := c.signedStart(ceremony.Drill)
	base := s.At
	for name, d := range map[string]time.Duration{
		"too early": ceremony.StartWindow + time.Millisecond, "too late": -ceremony.StartWindow - time.Millisecond,
		"years early": 10 * 365 * 24 * time.Hour, "years late": -10 * 365 * 24 * time.Hour,
	} {
		s.At = base.Add(d)
		if _, err := c.node.Start(t.Context(), GenerateRoot, c.startBy(0, s), drill); !errors.Is(err, errSignedAt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// At both ends it is good; and for as long as it would be, it is remembered.
	for _, d := range []time.Duration{-ceremony.StartWindow, ceremony.StartWindow} {
		s.At = c.clock.now().Add(d)
		who := func() Asker { return c.startBy(0, s) }
		c.begin(who(), drill)
		again := func(when string) {
			t.Helper()
			if _, err := c.node.Start(t.Context(), GenerateRoot, who(), drill); fault.As(err) == nil {
				t.Errorf("%v: used again %s: %v", d, when, err)
			}
		}
		again("while it is open")
		c.drop(ceremony.Drill)
		again("after its end")
		c.clock.step(s.At.Add(ceremony.StartWindow).Sub(c.clock.now())) // the last instant
		c.sweepNow()
		again("at the last instant")
		if got := c.look(ceremony.Drill); got.State != Idle {
			t.Fatal("it began twice")
		}
		c.clock.step(time.Hour)
		c.sweepNow()
	}
	if n := c.countBehind(signedPrefix); n > 0 {
		t.Errorf("%d used starts are remembered for ever", n)
	}
}

func TestSignedStartUsedTwiceAtOnce(t *testing.T) {
	c := newCluster(t, 3, 2)
	for range 10 {
		s := c.signedStart(ceremony.RootToken)
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				if _, err := c.node.Start(t.Context(), GenerateRoot, c.startBy(0, s), StartRequest{Kind: ceremony.RootToken}); err == nil {
					won.Add(1)
				} else if fault.As(err) == nil {
					t.Errorf("start: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of the same start won", won.Load())
		}
		c.drop(ceremony.RootToken)
		c.clock.step(time.Millisecond)
	}
}

// cancelBy is who cancels by signature.
func (c *cluster) cancelBy(o *Ceremony, i int) Asker {
	return Asker{Credential: Credential{Slot: i + 1, Signature: signed(c.shares[i], o.Attempt.CancelStatement(i+1, holder.ModeSignature))}}
}

// resetBy signs that the verification in progress begins anew.
func (c *cluster) resetBy(i int) Asker {
	o := c.look(ceremony.Rekey)
	s := ceremony.ResetStatement(o.Attempt.ClusterID, o.Attempt.Generation, i+1, holder.ModeSignature, o.Verification.Nonce)
	return Asker{Credential: Credential{Slot: i + 1, Signature: signed(c.shares[i], s)}}
}

// One holder can't end what others have approved, by share or by signature: n-t+1 of them can. Each objection is
// recorded once, with its signature.
func TestObjectionsBySignature(t *testing.T) {
	for kind, req := range everyKind() {
		if kind == ceremony.Drill { // all of its holders are needed, so one objection is enough
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			c := newCluster(t, 5, 3)
			if kind == ceremony.Holders {
				req.Labels = []string{"a", "b", "c", "d", "e"}
			}
			o := c.begin(local, req)
			if _, err := c.signs(o, 0); err != nil {
				t.Fatal(err)
			}
			from := c.size()
			approval := signed(c.shares[1], o.Attempt.Statement(2, holder.ModeSignature))
			for name, who := range map[string]Asker{
				"an approval": {Credential: Credential{Slot: 2, Signature: approval}},
				"other slot":  {Credential: Credential{Slot: 3, Signature: c.cancelBy(o, 1).Signature}},
				"nothing":     {Credential: Credential{Slot: 2}},
			} {
				if _, ended, err := c.node.Cancel(t.Context(), kind, "", who); fault.As(err) == nil || ended {
					t.Errorf("%s: %v, %v", name, ended, err)
				}
			}
			for _, i := range []int{1, 1, 2, 1, 2} {
				got, ended, err := c.node.Cancel(t.Context(), kind, o.Attempt.Nonce, c.cancelBy(o, i))
				if err != nil || ended || !got.Objected {
					t.Fatalf("objection of %d: ended %v, %v", i, ended, err)
				}
			}
			if got := c.happened(from); got != "object object" {
				t.Errorf("recorded %q", got)
			}
			for i, e := range c.entries(from) {
				if e.Slot != i+2 || e.Mode != holder.ModeSignature || len(e.Signature) != holder.SignatureSize {
					t.Errorf("entry %+v", e)
				}
			}
			if n := c.progress(kind); n != 1 {
				t.Fatalf("progress %d", n)
			}
			if _, ended, err := c.node.Cancel(t.Context(), kind, "", c.cancelBy(o, 3)); err != nil || !ended {
				t.Errorf("the third objection: ended %v, %v", ended, err)
			}
			if got := c.happened(from); got != "object object cancel" {
				t.Errorf("recorded %q", got)
			}
			if rep := c.audit(c.verifierKey()); len(rep.Problems) > 0 {
				t.Error(rep.Problems)
			}
		})
	}
}

// A cancel by signature is of one attempt: it does nothing to the next one.
func TestSignedCancel(t *testing.T) {
	c := newCluster(t, 3, 2)
	req := StartRequest{Kind: ceremony.RootToken}
	first := c.begin(local, req)
	cancel := c.cancelBy(first, 1)
	if _, ended, err := c.node.Cancel(t.Context(), ceremony.RootToken, "", cancel); err != nil || !ended {
		t.Fatalf("cancel: %v, %v", ended, err)
	}
	second := c.begin(local, req)
	for _, nonce := range []string{"", first.Attempt.Nonce, second.Attempt.Nonce} {
		if _, ended, err := c.node.Cancel(t.Context(), ceremony.RootToken, nonce, cancel); fault.As(err) == nil || ended {
			t.Errorf("the used cancel: %v, %v", ended, err)
		}
	}
	if got := c.look(ceremony.RootToken); got.Attempt == nil || len(got.Attempt.Objections) > 0 {
		t.Error("the next attempt was touched")
	}
	last := c.entries(0)
	if e := last[len(last)-2]; e.Event != transcript.Cancel || e.Slot != 2 || !bytes.Equal(e.Signature, cancel.Signature) {
		t.Errorf("entry %+v", e)
	}
}
