package ceremony

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

const clusterID = "6a2e0b4c-51b5-4d53-9f2e-1f3d6a0f7c11"

var epoch = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// quorum is the holders of one generation: their shares, keys and verifiers.
type quorum struct {
	shares [][]byte      // by slot, from 1
	keys   []*holder.Key // by slot, from 1
}

func newQuorum(n int, generation uint64) *quorum {
	q := &quorum{shares: make([][]byte, n+1), keys: make([]*holder.Key, n+1)}
	for slot := 1; slot <= n; slot++ {
		share := bytes.Repeat([]byte{byte(slot * 7)}, 33)
		share[32] = byte(slot)
		q.shares[slot] = share
		q.keys[slot] = holder.Derive(secret.Copy(share), clusterID, generation)
	}
	return q
}

func (q *quorum) verifier(slot int) (holder.Verifier, bool) {
	if slot < 1 || slot >= len(q.keys) {
		return holder.Verifier{}, false
	}
	return q.keys[slot].Verifier(), true
}

// by is the approval of a by the holder of slot.
func (q *quorum) by(a *Attempt, slot int) Approval {
	return Approval{Slot: slot, Mode: holder.ModeShare, Signature: q.keys[slot].Sign(a.Statement(slot, holder.ModeShare))}
}

// approve must succeed for every slot; it returns whether the last one completed the attempt.
func (q *quorum) approve(t testing.TB, a *Attempt, now time.Time, slots ...int) (complete bool) {
	t.Helper()
	for _, slot := range slots {
		var err error
		if complete, err = a.Approve(q.by(a, slot), q.verifier, now); err != nil {
			t.Fatalf("holder %d: %v", slot, err)
		}
	}
	return complete
}

func params() Params {
	return Params{
		Nonce: "2dbd10f1-8528-6246-09e7-82b25b8aba63", Kind: RootToken, ClusterID: clusterID, Generation: 1,
		Threshold: 3, Holders: 5, Recipient: "otp:hmac:5f1c", Reason: "lost every root token",
		Initiator: Initiator{By: ByLocal}, Now: epoch,
	}
}

func started(by Initiator) *Attempt {
	p := params()
	p.Initiator = by
	return New(p)
}

func stored(t testing.TB, a *Attempt) string {
	t.Helper()
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// unchanged runs do and demands that it leaves a as it was.
func unchanged(t *testing.T, a *Attempt, do func()) {
	t.Helper()
	before := stored(t, a)
	do()
	if after := stored(t, a); after != before {
		t.Errorf("the attempt changed\nfrom %s\nto   %s", before, after)
	}
}

// notApproved demands that ap is refused with want and changes nothing.
func notApproved(t *testing.T, a *Attempt, q *quorum, ap Approval, now time.Time, want error) {
	t.Helper()
	unchanged(t, a, func() {
		complete, err := a.Approve(ap, q.verifier, now)
		if complete || !errors.Is(err, want) {
			t.Errorf("complete %v, error %v; want: %v", complete, err, want)
		}
	})
}

func TestStartIsNoApproval(t *testing.T) {
	a := started(Initiator{By: ByHolder, Slot: 2})
	if a.Progress() != 0 || a.Outcome != "" || a.Ended(epoch) {
		t.Errorf("progress %d, outcome %q right after the start", a.Progress(), a.Outcome)
	}
}

func TestCompletion(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {5, 1}, {2, 2}, {5, 3}, {5, 5}, {255, 128}} {
		n, threshold := size[0], size[1]
		q, p := newQuorum(n, 1), params()
		p.Holders, p.Threshold = n, threshold
		a := New(p)
		for i := 1; i <= threshold; i++ {
			slot := n - i + 1
			if got := q.approve(t, a, epoch.Add(time.Minute), slot); got != (i == threshold) {
				t.Fatalf("%d of %d: complete %v after %d approvals", threshold, n, got, i)
			}
			if a.Progress() != i || a.Approvals[i-1].Slot != slot {
				t.Fatalf("%d of %d: progress %d after %d approvals", threshold, n, a.Progress(), i)
			}
		}
		if a.Outcome != Complete || !a.Ended(epoch.Add(time.Minute)) {
			t.Errorf("%d of %d: outcome %q", threshold, n, a.Outcome)
		}
	}
}

// T21: more than enough shares bring exactly one completion.
func TestNothingAfterCompletion(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	if !q.approve(t, a, epoch, 1, 2, 3) {
		t.Fatal("not complete")
	}
	notApproved(t, a, q, q.by(a, 4), epoch, ErrEnded)
	notApproved(t, a, q, q.by(a, 3), epoch, ErrEnded)
	unchanged(t, a, func() {
		if err := a.Cancel(Caller{Local: true, Token: "t", TokenAllowed: true, Slot: 1}, epoch); !errors.Is(err, ErrEnded) {
			t.Errorf("cancel after completion: %v", err)
		}
	})
}

func TestModesMix(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	at := epoch.Add(1500*time.Millisecond + 7*time.Microsecond)
	home := Approval{
		Slot: 2, Mode: holder.ModeSignature, Signature: q.keys[2].Sign(a.Statement(2, holder.ModeSignature)),
		At: epoch.Add(-time.Hour), // what the caller claims doesn't count
	}
	if _, err := a.Approve(home, q.verifier, at); err != nil {
		t.Fatal(err)
	}
	if got := a.Approvals[0]; got.Mode != holder.ModeSignature || !got.At.Equal(epoch.Add(1500*time.Millisecond)) {
		t.Errorf("recorded as %s at %v", got.Mode, got.At)
	}
	if !q.approve(t, a, at, 1, 5) {
		t.Error("the three aren't a quorum")
	}
}

func TestApprovalsThatAreNotValid(t *testing.T) {
	q, next, a := newQuorum(5, 1), newQuorum(5, 2), started(Initiator{By: ByLocal})
	q.approve(t, a, epoch, 1)
	good := q.by(a, 2)
	sign := func(change func(s *holder.Statement)) Approval {
		s := a.Statement(2, holder.ModeShare)
		change(&s)
		return Approval{Slot: 2, Mode: holder.ModeShare, Signature: q.keys[2].Sign(s)}
	}
	flipped := slices.Clone(good.Signature)
	flipped[40] ^= 1
	for name, ap := range map[string]Approval{
		"nothing":                 {},
		"no signature":            {Slot: 2, Mode: holder.ModeShare},
		"short signature":         {Slot: 2, Mode: holder.ModeShare, Signature: good.Signature[:63]},
		"long signature":          {Slot: 2, Mode: holder.ModeShare, Signature: append(slices.Clone(good.Signature), 0)},
		"flipped bit":             {Slot: 2, Mode: holder.ModeShare, Signature: flipped},
		"64 zeros":                {Slot: 2, Mode: holder.ModeShare, Signature: make([]byte, 64)},
		"another's slot":          {Slot: 3, Mode: holder.ModeShare, Signature: good.Signature},
		"slot 0":                  {Slot: 0, Mode: holder.ModeShare, Signature: good.Signature},
		"slot -1":                 {Slot: -1, Mode: holder.ModeShare, Signature: good.Signature},
		"slot 6":                  {Slot: 6, Mode: holder.ModeShare, Signature: good.Signature},
		"other mode":              {Slot: 2, Mode: holder.ModeSignature, Signature: good.Signature},
		"no mode":                 {Slot: 2, Signature: q.keys[2].Sign(a.Statement(2, ""))},
		"unknown mode":            {Slot: 2, Mode: "vote", Signature: q.keys[2].Sign(a.Statement(2, "vote"))},
		"next generation's share": next.by(a, 2),
		"signed for generation 2": sign(func(s *holder.Statement) { s.Generation = 2 }),
		"another cluster":         sign(func(s *holder.Statement) { s.ClusterID = "b" }),
		"signed for slot 3":       sign(func(s *holder.Statement) { s.Slot = 3 }),
		"a start":                 sign(func(s *holder.Statement) { s.Action = holder.ActionStart }),
		"a cancel":                sign(func(s *holder.Statement) { s.Action = holder.ActionCancel }),
		"another digest":          sign(func(s *holder.Statement) { s.Digest[31] ^= 1 }),
		"junk for a counted slot": {Slot: 1, Mode: holder.ModeShare, Signature: make([]byte, 64)},
	} {
		t.Run(name, func(t *testing.T) { notApproved(t, a, q, ap, epoch, ErrNotValid) })
	}
	notApproved(t, a, &quorum{}, good, epoch, ErrNotValid) // no verifier for the slot
	notApproved(t, a, next, good, epoch, ErrNotValid)      // verifiers of another generation
	if q.approve(t, a, epoch, 2); a.Progress() != 2 {
		t.Error("the honest holder lost their progress")
	}
}

// T09: the initiator cancels and restarts for another recipient between two holders. What the second holder signed
// is worth nothing there, even if the nonce were the same.
func TestBaitAndSwitch(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	q.approve(t, a, epoch, 1)
	second := q.by(a, 2)
	if err := a.Cancel(Caller{Local: true}, epoch); err != nil {
		t.Fatal(err)
	}
	notApproved(t, a, q, second, epoch, ErrEnded)
	for name, change := range map[string]func(p *Params){
		"recipient": func(p *Params) { p.Recipient = "otp:hmac:e71e" },
		"reason":    func(p *Params) { p.Reason = "none of your business" },
		"nonce":     func(p *Params) { p.Nonce = "b7e9a3f0-0c51-4e36-8a52-0d9b1f5c9a77" },
		"time":      func(p *Params) { p.Now = p.Now.Add(time.Millisecond) },
		"initiator": func(p *Params) { p.Initiator = Initiator{By: ByToken, Token: "eve"} },
		"threshold": func(p *Params) { p.Threshold = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			p := params()
			change(&p)
			notApproved(t, New(p), q, second, p.Now, ErrNotValid)
		})
	}
	for _, err := range []error{ErrNotValid, ErrEnded} {
		if strings.Contains(err.Error(), a.Nonce) {
			t.Errorf("the error tells the nonce: %v", err)
		}
	}
}

// T16: one share in several spellings is one acceptance, and the answer to each further one is the same.
func TestSpellingsOfOneShare(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	text := hex.EncodeToString(q.shares[2])
	approveText := func(text string) error {
		share, err := holder.ParseShare([]byte(text))
		if err != nil {
			return err
		}
		key := holder.Derive(share, clusterID, 1)
		slot := int(share.Reveal()[share.Len()-1])
		s := a.Statement(slot, holder.ModeShare)
		_, err = a.Approve(Approval{Slot: slot, Mode: holder.ModeShare, Signature: key.Sign(s)}, q.verifier, epoch)
		return err
	}
	if err := approveText(text); err != nil {
		t.Fatal(err)
	}
	for _, again := range []string{text, strings.ToUpper(text), text[:33] + strings.ToUpper(text[33:]), base64.StdEncoding.EncodeToString(q.shares[2])} {
		for range 2 {
			unchanged(t, a, func() {
				if err := approveText(again); !errors.Is(err, ErrDuplicate) {
					t.Errorf("%s: %v, want: %v", again, err, ErrDuplicate)
				}
			})
		}
	}
	for name, other := range map[string]string{
		"space": " " + text, "line break": text + "\n", "unpadded": base64.RawStdEncoding.EncodeToString(q.shares[2][:32]),
		"url-safe": base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 33)),
	} {
		unchanged(t, a, func() {
			if f := fault.As(approveText(other)); f == nil || f.Kind != fault.Invalid {
				t.Errorf("%s: %v, want a refusal", name, f)
			}
		})
	}
	if a.Progress() != 1 {
		t.Errorf("progress %d", a.Progress())
	}
}

func TestDuplicateInTheOtherMode(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	q.approve(t, a, epoch, 2)
	sig := q.keys[2].Sign(a.Statement(2, holder.ModeSignature))
	notApproved(t, a, q, Approval{Slot: 2, Mode: holder.ModeSignature, Signature: sig}, epoch, ErrDuplicate)
}

// T06: a proposal without shares for 5 minutes is gone, and its slot is free for everybody.
func TestUnapprovedAttemptGoesAway(t *testing.T) {
	for _, by := range []Initiator{{By: ByLocal}, {By: ByAnyone}, {By: ByToken, Token: "t"}, {By: ByHolder, Slot: 1}} {
		q, a := newQuorum(5, 1), started(by)
		deadline := epoch.Add(5 * time.Minute)
		if a.Ended(deadline.Add(-time.Millisecond)) || !a.Ended(deadline) {
			t.Errorf("%s: the deadline is elsewhere", by.By)
		}
		notApproved(t, a, q, q.by(a, 1), deadline, ErrEnded)
		if !a.GivesWay(Caller{Anyone: true}, deadline) {
			t.Errorf("%s: the slot isn't free", by.By)
		}
		unchanged(t, a, func() {
			if err := a.Cancel(Caller{Token: "t", TokenAllowed: true}, deadline); !errors.Is(err, ErrEnded) {
				t.Errorf("%s: cancel at the deadline: %v", by.By, err)
			}
		})
	}
}

func TestDeadlines(t *testing.T) {
	const ms = time.Millisecond
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	for name, c := range map[string]struct {
		approvals []time.Duration // after the start
		end       time.Duration   // the first instant at which it is over
	}{
		"nobody":           {nil, 5 * time.Minute},
		"one at the start": {[]time.Duration{0}, time.Hour},
		"one":              {[]time.Duration{5*time.Minute - ms}, time.Hour + 5*time.Minute - ms},
		"two":              {[]time.Duration{time.Minute, time.Hour}, 2 * time.Hour},
		"busy all day": {[]time.Duration{
			1, 59 * time.Minute, 118 * time.Minute,
		}, 118*time.Minute + time.Hour},
		"clock stepped back":        {[]time.Duration{-3 * time.Hour}, time.Hour},
		"clock stepped forth, back": {[]time.Duration{4 * time.Minute, 3 * time.Minute}, time.Hour + 4*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			p := params()
			p.Threshold = 5
			q, a := newQuorum(5, 1), New(p)
			for i, d := range c.approvals {
				q.approve(t, a, at(d), i+1)
			}
			if a.Ended(at(c.end - ms)) {
				t.Error("over too early")
			}
			for _, late := range []time.Duration{0, ms, 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
				if !a.Ended(at(c.end + late)) {
					t.Errorf("still open %v after its deadline", late)
				}
			}
		})
	}
}

func TestTotalLimit(t *testing.T) {
	p := params()
	p.Threshold, p.Limits = 5, Limits{Unapproved: 48 * time.Hour, Idle: 23 * time.Hour, Total: 24 * time.Hour}
	q, a := newQuorum(5, 1), New(p)
	day := epoch.Add(24 * time.Hour)
	if !a.Ended(day) || a.Ended(day.Add(-time.Millisecond)) {
		t.Error("without approvals, the total limit is elsewhere")
	}
	q.approve(t, a, epoch.Add(12*time.Hour), 1)
	q.approve(t, a, day.Add(-time.Millisecond), 2)
	if a.Ended(day.Add(-time.Millisecond)) || !a.Ended(day) {
		t.Error("with approvals, the total limit is elsewhere")
	}
	notApproved(t, a, q, q.by(a, 3), day, ErrEnded)
	if !a.Expires.Equal(day) {
		t.Errorf("says it expires at %v", a.Expires)
	}
}

func TestLimitsOfZeroAreTheDefaults(t *testing.T) {
	p := params()
	p.Limits = Limits{Idle: 2 * time.Hour, Total: -1}
	want := Limits{Unapproved: 5 * time.Minute, Idle: 2 * time.Hour, Total: 24 * time.Hour}
	if got := New(p).Limits; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if DefaultLimits() != (Limits{Unapproved: 5 * time.Minute, Idle: time.Hour, Total: 24 * time.Hour}) {
		t.Error("the defaults are not those of the documentation")
	}
}

// T27: the share that would complete the attempt arrives at the instant at which the attempt expires. The attempt
// has ended then, whoever looks first; one tick earlier it completes.
func TestExpiryAndFinalShareAtOneInstant(t *testing.T) {
	for _, c := range []struct {
		wait     time.Duration
		complete bool
	}{{time.Hour - time.Millisecond, true}, {time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			p := params()
			p.Now = time.Now()
			q, a := newQuorum(5, 1), New(p)
			q.approve(t, a, time.Now(), 1, 2)
			final := q.by(a, 3)
			var expired, complete bool
			var err error
			// Two actors wake up at the same instant; one mutex stands for the store's transaction.
			turn := make(chan struct{}, 1)
			go func() {
				time.Sleep(c.wait)
				turn <- struct{}{}
				expired = a.Ended(time.Now())
				<-turn
			}()
			go func() {
				time.Sleep(c.wait)
				turn <- struct{}{}
				complete, err = a.Approve(final, q.verifier, time.Now())
				<-turn
			}()
			time.Sleep(c.wait)
			synctest.Wait()
			if complete != c.complete || (err == nil) != c.complete {
				t.Errorf("after %v: complete %v, %v", c.wait, complete, err)
			}
			if !c.complete && (!expired || !errors.Is(err, ErrEnded)) {
				t.Errorf("after %v: expired %v, %v", c.wait, expired, err)
			}
		})
	}
}

// T30: what is stored goes on elsewhere, with its approvals, and no share was ever in it.
func TestStoredAttemptGoesOn(t *testing.T) {
	q := newQuorum(5, 1)
	a := started(Initiator{By: ByToken, Token: "c0ffee", Slot: 4})
	q.approve(t, a, epoch.Add(time.Second), 1, 2)
	if err := a.Cancel(Caller{Slot: 5}, epoch.Add(time.Second)); !errors.Is(err, ErrObjection) {
		t.Fatal(err)
	}
	text := stored(t, a)
	var b Attempt
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*a, b) {
		t.Errorf("came back as %+v, was %+v", b, *a)
	}
	for slot := 1; slot <= 5; slot++ {
		for _, form := range []string{hex.EncodeToString(q.shares[slot][:16]), base64.StdEncoding.EncodeToString(q.shares[slot][:30])} {
			if strings.Contains(text, form) {
				t.Errorf("the share of slot %d is in the record", slot)
			}
		}
	}
	if !q.approve(t, &b, epoch.Add(time.Minute), 3) {
		t.Error("the third approval doesn't complete it")
	}
}

func TestDamagedRecordNeverCompletes(t *testing.T) {
	other := started(Initiator{By: ByHolder, Slot: 1})
	for name, damage := range map[string]func(q *quorum, a *Attempt){
		"recipient":           func(_ *quorum, a *Attempt) { a.Recipient = "otp:hmac:e71e" },
		"threshold":           func(_ *quorum, a *Attempt) { a.Threshold = 2 },
		"digest":              func(_ *quorum, a *Attempt) { a.Digest[0] ^= 1 },
		"initiator":           func(_ *quorum, a *Attempt) { a.Initiator = Initiator{By: ByToken, Token: "eve"} },
		"expiry":              func(_ *quorum, a *Attempt) { a.Expires = a.Expires.Add(time.Hour) },
		"a signature":         func(_ *quorum, a *Attempt) { a.Approvals[0].Signature[5] ^= 1 },
		"a mode":              func(_ *quorum, a *Attempt) { a.Approvals[0].Mode = holder.ModeSignature },
		"a slot":              func(_ *quorum, a *Attempt) { a.Approvals[0].Slot = 5 },
		"one counted twice":   func(_ *quorum, a *Attempt) { a.Approvals[1] = a.Approvals[0] },
		"replayed signature":  func(q *quorum, a *Attempt) { a.Approvals[1] = q.by(other, 2) },
		"approval of nothing": func(_ *quorum, a *Attempt) { a.Approvals[0] = Approval{} },
	} {
		t.Run(name, func(t *testing.T) {
			q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
			q.approve(t, a, epoch, 1, 2)
			final := q.by(a, 3)
			damage(q, a)
			notApproved(t, a, q, final, epoch, errDamaged)
		})
	}
	if fault.As(errDamaged) != nil {
		t.Error("a client would be told about damage in our store")
	}
}

func TestThresholdOfZeroNeverCompletes(t *testing.T) {
	for _, threshold := range []int{0, -1} {
		p := params()
		p.Threshold = threshold
		q, a := newQuorum(5, 1), New(p)
		if q.approve(t, a, epoch, 1, 2, 3, 4, 5) || a.Outcome != "" {
			t.Errorf("threshold %d: complete", threshold)
		}
	}
}

func TestAttemptOwnsItsMemory(t *testing.T) {
	p := params()
	p.Initiator = Initiator{By: ByToken, Token: "t"}
	q, a := newQuorum(5, 1), New(p)
	ap := q.by(a, 1)
	if _, err := a.Approve(ap, q.verifier, epoch); err != nil {
		t.Fatal(err)
	}
	clear(ap.Signature)
	if !q.approve(t, a, epoch, 2, 3) {
		t.Error("the signature is shared with the caller")
	}
}

// A copy of the struct, as a store's cache might hold, must not see what happens to the other.
func TestApproveDoesNotWriteIntoACopy(t *testing.T) {
	q, a := newQuorum(5, 1), started(Initiator{By: ByLocal})
	q.approve(t, a, epoch, 1)
	a.Approvals = slices.Grow(a.Approvals, 4)
	b := *a
	q.approve(t, a, epoch, 2)
	q.approve(t, &b, epoch, 3)
	if a.Approvals[1].Slot != 2 || b.Approvals[1].Slot != 3 {
		t.Errorf("slots %d and %d: one copy wrote into the other", a.Approvals[1].Slot, b.Approvals[1].Slot)
	}
}

func BenchmarkApprove(b *testing.B) {
	for _, c := range []struct {
		name     string
		n, t     int
		complete bool
	}{{"first of 3", 5, 3, false}, {"last of 3", 5, 3, true}, {"last of 128", 255, 128, true}} {
		b.Run(c.name, func(b *testing.B) {
			q, p := newQuorum(c.n, 1), params()
			p.Holders, p.Threshold = c.n, c.t
			a := New(p)
			if c.complete {
				for slot := 1; slot < c.t; slot++ {
					q.approve(b, a, epoch, slot)
				}
			}
			final := q.by(a, c.t)
			for b.Loop() {
				fresh := *a
				if complete, err := fresh.Approve(final, q.verifier, epoch); err != nil || complete != c.complete {
					b.Fatal(complete, err)
				}
			}
		})
	}
}
