package node

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

func TestSeed2(t *testing.T) {
	c := newCluster(t, 5, 3)
	st := c.start(GenerateRoot, local, StartRequest{})
	if !st.Started || st.Progress != 0 || st.Required != 3 || len(st.OTP) != 24 || st.OTPLength != 24 {
		t.Fatalf("start: %+v", st)
	}
	otp, nonce := st.OTP, st.Nonce
	if st := c.status(); st.OTP != "" || st.Nonce != nonce {
		t.Errorf("status shows %+v", st)
	}
	for i := range 3 {
		st = c.approve(GenerateRoot, nonce, i)
		if st.Progress != i+1 || st.Complete != (i == 2) || (st.EncodedToken != "") != st.Complete {
			t.Errorf("approval %d: %+v", i, st)
		}
	}
	id := c.decode(st, otp)
	e := c.lookup(id)
	if e == nil || e.DisplayName != "root" || e.Path != "auth/token/root" || !e.NeverExpires {
		t.Fatalf("the new root token: %+v", e)
	}
	if st := c.status(); st.Started || st.Nonce != "" {
		t.Errorf("after completion: %+v", st)
	}
	_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(3))
	c.refused(err, fault.Invalid, "no root generation in progress")
	if strings.Contains(c.log.String(), id) || strings.Contains(c.log.String(), otp) {
		t.Error("the log holds a secret")
	}
}

// A bad share costs nothing (promise 3): T03, T12, T15, T16.
func TestBadSharesCostNothing(t *testing.T) {
	c := newCluster(t, 5, 3)
	other := newCluster(t, 5, 3)
	nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
	c.approve(GenerateRoot, nonce, 0)
	flipped := bytes.Clone(c.shares[1])
	flipped[7] ^= 1
	sameX := bytes.Clone(c.shares[0])
	sameX[0] ^= 1
	unknownSlot := bytes.Clone(c.shares[1])
	unknownSlot[32] = 77
	for name, share := range map[string][]byte{
		"flipped bit": flipped, "same x, other y": sameX, "unknown slot": unknownSlot,
		"other cluster": other.shares[1], "the same again": c.shares[0], "32 bytes": c.shares[1][:32],
		"random": bytes.Repeat([]byte{9}, 33), "x = 0": append(bytes.Clone(c.shares[1][:32]), 0),
	} {
		if _, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, secret.Copy(share)); fault.As(err) == nil || fault.As(err).Kind != fault.Invalid {
			t.Errorf("%s: %v, want an invalid fault", name, err)
		}
		if st := c.status(); st.Progress != 1 || st.Nonce != nonce {
			t.Errorf("%s: status %+v", name, st)
		}
	}
	c.approve(GenerateRoot, nonce, 1)
	if st := c.approve(GenerateRoot, nonce, 2); !st.Complete {
		t.Errorf("three good shares: %+v", st)
	}
}

// T09: an attempt restarted behind the holders' backs is not approved by mistake, and the nonce is not disclosed.
func TestWrongNonceDisclosesNothing(t *testing.T) {
	c := newCluster(t, 5, 3)
	first := c.start(GenerateRoot, local, StartRequest{}).Nonce
	c.approve(GenerateRoot, first, 0)
	if _, ended, err := c.node.CancelRoot(t.Context(), local); err != nil || !ended {
		t.Fatal(ended, err)
	}
	second := c.start(GenerateRoot, local, StartRequest{}).Nonce
	for _, nonce := range []string{first, "", "nonsense", strings.ToUpper(second)} {
		_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(1))
		c.refused(err, fault.Invalid, "incorrect nonce supplied")
		if strings.Contains(err.Error(), second) {
			t.Error("the error discloses the nonce")
		}
	}
	if st := c.status(); st.Progress != 0 {
		t.Errorf("progress %d", st.Progress)
	}
}

func TestSeed1(t *testing.T) {
	c := newCluster(t, 5, 3)
	const chosen = "a-token-id-of-my-own"
	id, old := c.create(c.root, token.Spec{ID: []byte(chosen), Policies: []string{"root"}, TTL: time.Hour})
	if id != chosen {
		t.Fatalf("created %q", id)
	}
	child, _ := c.create(chosen, token.Spec{Policies: []string{"default"}})
	st := c.start(RootGeneration, local, StartRequest{TokenID: []byte(chosen)})
	c.approve(RootGeneration, st.Nonce, 0)
	c.approve(RootGeneration, st.Nonce, 1)
	// Not a moment before the quorum.
	if e := c.lookup(chosen); e == nil || e.RecordID != old.RecordID || c.lookup(child) == nil {
		t.Fatal("the existing token or its child died before the quorum")
	}
	st = c.approve(RootGeneration, st.Nonce, 2)
	if !st.Complete || st.EncodedToken != "" {
		t.Errorf("completion: %+v", st)
	}
	e := c.lookup(chosen)
	if e == nil || e.RecordID == old.RecordID || len(e.Policies) != 1 || e.Policies[0] != "root" {
		t.Errorf("the chosen ID is now %+v", e)
	}
	if c.lookup(child) != nil {
		t.Error("a child of the revoked token lives on under the new root token")
	}
	c.noPlain(chosen)
}

// noPlain demands that a secret is nowhere in the log or the raw store.
func (c *cluster) noPlain(text string) {
	c.t.Helper()
	if strings.Contains(c.log.String(), text) {
		c.t.Error("the log holds the token ID")
	}
	err := c.st.View(c.t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			if strings.Contains(e.Key, text) || bytes.Contains(e.Value, []byte(text)) {
				c.t.Errorf("the record %q holds the token ID in clear", e.Key)
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func TestSeed1TokenIDs(t *testing.T) {
	c := newCluster(t, 1, 1)
	for name, id := range map[string]string{
		"missing": "", "15 characters": "123456789012345", "space": "0123456789 abcdef", "tab": "0123456789\tabcdef",
		"control": "0123456789\x01abcdef", "not UTF-8": "0123456789\xffabcdef", "too long": strings.Repeat("a", 5000),
		"line separator": "0123456789\u2028abcdef", "non-breaking space": "0123456789\u00a0abcdef",
	} {
		_, err := c.node.StartRoot(t.Context(), RootGeneration, local, StartRequest{TokenID: []byte(id)})
		if f := fault.As(err); f == nil || f.Kind != fault.Invalid {
			t.Errorf("%s: %v, want an invalid fault", name, err)
		} else if id != "" && strings.Contains(f.Sentence, id) {
			t.Errorf("%s: the error echoes the ID", name)
		}
	}
	if c.status().Started {
		t.Error("a refused start left an attempt")
	}
	for _, id := range []string{"1234567890123456", "sixteen-üñíçødé-chars", "with/slashes.and.dots"} {
		st := c.start(RootGeneration, local, StartRequest{TokenID: []byte(id)})
		if st := c.approve(RootGeneration, st.Nonce, 0); !st.Complete || c.lookup(id) == nil {
			t.Errorf("%q did not become a root token", id)
		}
	}
}

// T36: the caller's own live token is revoked at the quorum, not before.
func TestSeed1OnTheCallersOwnRootToken(t *testing.T) {
	c := newCluster(t, 3, 2)
	before := c.lookup(c.root)
	child, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
	st := c.start(RootGeneration, local, StartRequest{TokenID: []byte(c.root)})
	c.approve(RootGeneration, st.Nonce, 0)
	if c.lookup(c.root) == nil {
		t.Fatal("dead before the quorum")
	}
	c.approve(RootGeneration, st.Nonce, 1)
	after := c.lookup(c.root)
	if after == nil || after.RecordID == before.RecordID || c.lookup(child) != nil {
		t.Errorf("after the quorum: %+v", after)
	}
}

// T29: two documents, one slot, and neither finishes the other's attempt.
func TestOneSlotTwoFamilies(t *testing.T) {
	c := newCluster(t, 3, 2)
	st := c.start(RootGeneration, local, StartRequest{TokenID: []byte("0123456789abcdef")})
	_, err := c.node.StartRoot(t.Context(), GenerateRoot, local, StartRequest{})
	if !errors.Is(err, ErrInProgress) {
		t.Errorf("a start of the other family: %v", err)
	}
	_, err = c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(0))
	c.refused(err, fault.Invalid, "sys/root-generation/update")
	if c.status().Progress != 0 {
		t.Error("an approval through the other family counted")
	}
}

func TestAuthority(t *testing.T) {
	c := newCluster(t, 3, 2)
	path := "sys/generate-root/attempt"
	dead := Asker{Token: secret.Copy([]byte("q.deaddeaddeaddeaddeadde")), Path: path}
	limited, _ := c.create(c.root, token.Spec{Policies: []string{"default"}})
	withToken := func(id string) Asker { return Asker{Token: secret.Copy([]byte(id)), Path: path} }

	for name, who := range map[string]Asker{"stranger": {}, "dead token": dead, "token without policy": withToken(limited)} {
		_, err := c.node.StartRoot(t.Context(), GenerateRoot, who, StartRequest{})
		c.refused(err, fault.Denied, "")
		if c.status().Started {
			t.Fatalf("%s started an attempt", name)
		}
	}
	bad := Asker{Credential: Credential{Share: secret.Copy(bytes.Repeat([]byte{1}, 33))}}
	_, err := c.node.StartRoot(t.Context(), GenerateRoot, bad, StartRequest{})
	c.refused(err, fault.Invalid, "")

	// A dead token in the environment doesn't disturb a local operator.
	dead.Local = true
	c.start(GenerateRoot, dead, StartRequest{})
	// T02: a stranger, or a token without policy, ends nothing.
	for _, who := range []Asker{{}, withToken(limited)} {
		_, _, err := c.node.CancelRoot(t.Context(), who)
		c.refused(err, fault.Denied, "")
	}
	// T01: what strangers may do locally gives way to a holder.
	st := c.start(GenerateRoot, Asker{Credential: Credential{Share: c.share(0)}}, StartRequest{})
	if st.Progress != 0 {
		t.Error("starting counted as an approval")
	}
	_, _, err = c.node.CancelRoot(t.Context(), local)
	c.refused(err, fault.Denied, "")
	if _, ended, err := c.node.CancelRoot(t.Context(), withToken(c.root)); err != nil || !ended {
		t.Errorf("a policy token's cancel: %v, %v", ended, err)
	}
	if _, ended, err := c.node.CancelRoot(t.Context(), Asker{}); err != nil || !ended {
		t.Errorf("cancel when idle: %v, %v", ended, err)
	}
}

func TestObjections(t *testing.T) {
	c := newCluster(t, 5, 3)
	st := c.start(GenerateRoot, Asker{Credential: Credential{Share: c.share(0)}}, StartRequest{})
	c.approve(GenerateRoot, st.Nonce, 0)
	for _, i := range []int{1, 1, 2} { // n-t+1 = 3 distinct objections end it; a repeated one changes nothing
		if _, ended, err := c.node.CancelRoot(t.Context(), Asker{Credential: Credential{Share: c.share(i)}}); err != nil || ended {
			t.Fatalf("objection of %d: ended %v, %v", i, ended, err)
		}
	}
	if st := c.status(); st.Objections != 2 || st.Progress != 1 {
		t.Fatalf("status %+v", st)
	}
	if _, ended, err := c.node.CancelRoot(t.Context(), Asker{Credential: Credential{Share: c.share(3)}}); err != nil || !ended {
		t.Errorf("third objection: ended %v, %v", ended, err)
	}
}

// T30: attempts outlive a crash, with their approvals; an operator's seal ends them (T25).
func TestAttemptOutlivesACrashAndEndsWithASeal(t *testing.T) {
	c := newCluster(t, 5, 3)
	st := c.start(GenerateRoot, local, StartRequest{})
	c.approve(GenerateRoot, st.Nonce, 0)
	c.approve(GenerateRoot, st.Nonce, 1)
	c.boot()
	c.unseal()
	if now := c.status(); now.Progress != 2 || now.Nonce != st.Nonce {
		t.Fatalf("after the crash: %+v", now)
	}
	if err := c.node.Seal(t.Context(), c.access(c.root, "sys/seal", policy.Update), false); err != nil {
		t.Fatal(err)
	}
	c.unseal()
	if now := c.status(); now.Started {
		t.Errorf("after the seal: %+v", now)
	}
	_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(2))
	c.refused(err, fault.Invalid, "no root generation in progress")
}

// T06 and T27: expiry is decided by the clock in the Update, at the very instant.
func TestExpiry(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.start(GenerateRoot, local, StartRequest{})
	c.clock.step(5*time.Minute - time.Nanosecond)
	if !c.status().Started {
		t.Error("ended too early")
	}
	c.clock.step(time.Nanosecond)
	if c.status().Started {
		t.Error("still there after five minutes without any approval")
	}
	st := c.start(GenerateRoot, local, StartRequest{})
	c.approve(GenerateRoot, st.Nonce, 0)
	c.clock.step(time.Hour)
	_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(1))
	c.refused(err, fault.Invalid, "no root generation in progress")
	if err := c.node.sweep(t.Context(), c.node.active.Load()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.log.String(), "ceremony expired") {
		t.Error("the expiry is not in the log")
	}
}

// T33: a lost reply can be had again by whoever completed the ceremony, outside the slot of the next attempt.
func TestLostReply(t *testing.T) {
	c := newCluster(t, 5, 3)
	st := c.start(GenerateRoot, local, StartRequest{})
	nonce := st.Nonce
	for i := range 3 {
		st = c.approve(GenerateRoot, nonce, i)
	}
	next := c.start(GenerateRoot, local, StartRequest{})
	if again := c.approve(GenerateRoot, nonce, 2); again != st {
		t.Errorf("repeated: %+v, want %+v", again, st)
	}
	_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(1))
	c.refused(err, fault.Invalid, "incorrect nonce")
	_, err = c.node.ApproveRoot(t.Context(), RootGeneration, nonce, c.share(2))
	c.refused(err, fault.Invalid, "incorrect nonce")
	if now := c.status(); now.Nonce != next.Nonce || now.Progress != 0 {
		t.Errorf("the next attempt: %+v", now)
	}
	c.clock.step(5 * time.Minute)
	if _, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(2)); err == nil {
		t.Error("the result is still there after its time")
	}
	if err := c.node.sweep(t.Context(), c.node.active.Load()); err != nil {
		t.Fatal(err)
	}
	if n := c.accessors(c.root); n != 2 {
		t.Errorf("%d tokens, want the first root token and one of one ceremony", n)
	}
}

// T21 and T28: many shares at once, exactly one completion, and complete never without a token.
func TestRacingApprovals(t *testing.T) {
	for range 20 {
		c := newCluster(t, 7, 3)
		st := c.start(GenerateRoot, local, StartRequest{})
		var wg sync.WaitGroup
		completed := make(chan RootStatus, 7)
		for i := range 7 {
			wg.Go(func() {
				got, err := c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(i))
				if err == nil && got.Complete {
					completed <- got
				}
				if now, err := c.node.RootStatus(t.Context()); err != nil || now.Complete {
					t.Errorf("status %+v, %v", now, err)
				}
			})
		}
		wg.Wait()
		if len(completed) != 1 {
			t.Fatalf("%d completions", len(completed))
		}
		if id := c.decode(<-completed, st.OTP); c.lookup(id) == nil || c.accessors(c.root) != 2 {
			t.Fatal("not exactly one new live token")
		}
	}
}

// T23: of two concurrent starts exactly one wins.
func TestRacingStarts(t *testing.T) {
	c := newCluster(t, 3, 2)
	for range 20 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 8 {
			wg.Go(func() {
				if _, err := c.node.StartRoot(t.Context(), GenerateRoot, local, StartRequest{}); err == nil {
					mu.Lock()
					won++
					mu.Unlock()
				} else if !errors.Is(err, ErrInProgress) {
					t.Errorf("start: %v", err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("%d starts won", won)
		}
		if _, _, err := c.node.CancelRoot(t.Context(), local); err != nil {
			t.Fatal(err)
		}
	}
}

// T24: cancel against the last share: either complete or cancelled, never both and never neither.
func TestCancelAgainstLastShare(t *testing.T) {
	c := newCluster(t, 3, 2)
	tokens := c.accessors(c.root)
	for range 30 {
		st := c.start(GenerateRoot, local, StartRequest{})
		c.approve(GenerateRoot, st.Nonce, 0)
		var wg sync.WaitGroup
		var got RootStatus
		var err error
		wg.Go(func() { got, err = c.node.ApproveRoot(t.Context(), GenerateRoot, st.Nonce, c.share(1)) })
		wg.Go(func() {
			if _, _, err := c.node.CancelRoot(t.Context(), local); err != nil {
				t.Errorf("cancel: %v", err)
			}
		})
		wg.Wait()
		if err == nil {
			tokens++
			if c.lookup(c.decode(got, st.OTP)) == nil {
				t.Fatal("complete, and the token is dead")
			}
		}
		if c.status().Started || c.accessors(c.root) != tokens {
			t.Fatalf("after the race: %+v, %d tokens, want %d", c.status(), c.accessors(c.root), tokens)
		}
	}
}

// The explicit revocation of the token that started an attempt, or that seed 1 names, ends it.
func TestRevocationEndsTheAttempt(t *testing.T) {
	c := newCluster(t, 3, 2)
	parent, parentEntry := c.create(c.root, token.Spec{Policies: []string{"root"}, TTL: time.Hour})
	child, _ := c.create(parent, token.Spec{Policies: []string{"root"}, TTL: time.Minute})
	who := Asker{Token: secret.Copy([]byte(child)), Path: "sys/generate-root/attempt"}
	c.start(GenerateRoot, who, StartRequest{})
	_, unrelated := c.create(c.root, token.Spec{})
	c.revoke(c.root, unrelated)
	if !c.status().Started {
		t.Fatal("an unrelated revocation ended the attempt")
	}
	c.revoke(c.root, parentEntry)
	if c.status().Started {
		t.Error("the starter's tree was revoked and its attempt goes on")
	}
	named, namedEntry := c.create(c.root, token.Spec{})
	c.start(RootGeneration, local, StartRequest{TokenID: []byte(named)})
	c.revoke(c.root, namedEntry)
	if c.status().Started {
		t.Error("the named token was revoked and the attempt goes on")
	}
}

func TestLimitedUses(t *testing.T) {
	c := newCluster(t, 3, 2)
	id, _ := c.create(c.root, token.Spec{Policies: []string{"default"}, NumUses: 2})
	// A refused request counts, and the last use still works.
	err := c.node.View(t.Context(), c.access(id, "secret/x", policy.Read), func(*Call) error { return nil })
	c.refused(err, fault.Denied, "permission denied")
	if c.lookup(id) == nil {
		t.Error("the last use did not work")
	}
	if c.lookup(id) != nil {
		t.Error("alive after its last use")
	}
}
