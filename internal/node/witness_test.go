package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/transcript"
)

// head is that of the transcript.
func (c *cluster) head() (h transcript.Head) {
	c.t.Helper()
	err := c.st.View(c.t.Context(), func(r store.Reader) (err error) {
		h, err = transcript.ReadHead(r)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return h
}

// spoil changes what is in the store under a key, as a disk does; nil removes it.
func (c *cluster) spoil(key string, edit func([]byte) []byte) {
	c.t.Helper()
	err := c.st.Update(c.t.Context(), func(tx store.Tx) error {
		values, err := tx.Get(key)
		if err != nil || values[0] == nil {
			return errors.Join(err, errors.New("nothing to damage"))
		}
		if v := edit(slices.Clone(values[0])); v != nil {
			return tx.Put(key, v)
		}
		return tx.Delete(key)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) alarms() []string {
	c.t.Helper()
	_, _, alarms, err := c.node.TranscriptState(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return alarms
}

const headKey = "plain/transcript/head"

var damages = map[string]func([]byte) []byte{
	"changed": func(v []byte) []byte { v[3] ^= 1; return v },
	"torn":    func(v []byte) []byte { return v[:7] },
	"gone":    func([]byte) []byte { return nil },
}

// Promise 1, T50: a damaged head of the transcript keeps no quorum from unsealing, and none from its ceremonies.
func TestDamagedHead(t *testing.T) {
	for name, edit := range damages {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			from := c.size()
			c.node.Close()
			c.spoil(headKey, edit)
			c.boot()
			c.unseal()
			if alarms := c.alarms(); len(alarms) != 1 || !strings.Contains(alarms[0], "head is damaged") {
				t.Errorf("alarms %q", alarms)
			}
			if got := c.happened(from); got != "alarm unseal-share unseal-share unsealed" {
				t.Errorf("recorded %q", got)
			}
			if r := c.audit(c.verifierKey()); len(r.Problems) > 0 {
				t.Errorf("offline: %q", r.Problems)
			}
			c.boot()
			if c.unseal(); len(c.alarms()) > 0 {
				t.Errorf("alarmed again: %q", c.alarms())
			}
			from = c.size()
			c.spoil(headKey, edit)
			c.sweepNow()
			if got := c.happened(from); got != "alarm" || len(c.alarms()) != 1 {
				t.Errorf("while unsealed: recorded %q, alarms %q", got, c.alarms())
			}
			c.spoil(headKey, edit)
			c.begin(local, StartRequest{Kind: ceremony.Drill})
			c.spoil(headKey, edit)
			if err := c.seal(); err != nil || !c.node.Sealed() {
				t.Errorf("seal: %v", err)
			}
		})
	}
}

// An open server doesn't sign what it hasn't looked at.
func TestAppendedByOthersWhileOpen(t *testing.T) {
	c := newCluster(t, 3, 2)
	forge := func() {
		t.Helper()
		err := c.st.Update(t.Context(), func(tx store.Tx) error {
			_, err := transcript.Append(tx, nil, transcript.Entry{Time: c.clock.now(), Event: transcript.Commit, Generation: 9})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, next := range map[string]func(){
		"sweep":    c.sweepNow,
		"ceremony": func() { c.begin(local, StartRequest{Kind: ceremony.RootToken}); c.drop(ceremony.RootToken) },
	} {
		from := c.size()
		forge()
		next()
		if got := c.happened(from); !strings.HasPrefix(got, "commit alarm") || len(c.alarms()) == 0 {
			t.Errorf("%s: recorded %q, alarms %q", name, got, c.alarms())
		}
	}
	from := c.size()
	c.sweepNow()
	if got := c.happened(from); got != "" {
		t.Errorf("recorded %q although nothing happened", got)
	}
}

// T17: the refusal of an old share is signed with it while sealed too, and an auditor can check that.
func TestOldShareWhileSealed(t *testing.T) {
	c := newCluster(t, 3, 2)
	old := c.rekeyed(3, 2)
	c.finish(c.begin(local, StartRequest{Kind: ceremony.RootToken}), 0) // which retires it
	c.node.Close()
	c.boot()
	from := int(c.head().Size)
	for range 3 {
		if _, err := c.node.Unseal(t.Context(), secret.Copy(old[1]), false, ""); fault.As(err) == nil || !strings.Contains(err.Error(), "of an old generation") {
			t.Fatal(err)
		}
	}
	if _, err := c.node.ResetUnseal(t.Context(), secret.Copy(old[0]), false); fault.As(err) == nil {
		t.Fatal(err)
	}
	c.unseal()
	r := c.audit(c.verifierKey())
	if len(r.Problems) > 0 || len(c.alarms()) > 0 {
		t.Errorf("offline %q, alarms %q", r.Problems, c.alarms())
	}
	for i, slot := range []int{2, 1} {
		if e := r.Entries[from+i]; e.Entry.Event != transcript.Refused || e.Entry.Generation != 1 || e.Entry.Slot != slot || !e.Proven {
			t.Errorf("recorded %+v", e.Entry)
		}
	}
	if got := c.happened(from); got != "refused refused unseal-share unseal-share unsealed" {
		t.Errorf("recorded %q", got)
	}
}

// Recovering from a damaged table of holders leaves a transcript that an auditor accepts, and that says so.
func TestDamagedTableOffline(t *testing.T) {
	c := newCluster(t, 3, 2)
	from := c.size()
	c.node.Close()
	c.spoil("plain/seal", func(v []byte) []byte {
		v[strings.Index(string(v), `"verifier":"`)+15] ^= 2
		return v
	})
	c.boot()
	for i := range 2 {
		if _, err := c.node.Unseal(t.Context(), c.share(i), true, ""); err != nil {
			t.Fatal(err)
		}
	}
	if c.node.Sealed() || len(c.alarms()) > 0 {
		t.Fatalf("sealed %v, alarms %q", c.node.Sealed(), c.alarms())
	}
	r := c.audit(c.verifierKey())
	if len(r.Problems) > 0 || r.Unchecked != 2 {
		t.Errorf("offline: %q, %d unchecked", r.Problems, r.Unchecked)
	}
	for _, e := range r.Entries[from : from+2] {
		if e.Entry.Slot != 0 || e.Entry.Generation != 0 || e.Entry.Detail != transcript.UncheckedShare {
			t.Errorf("recorded %+v", e.Entry)
		}
	}
}

// A holder who was removed can't undo what the others do, and one of the generation in force not all the time; neither
// can fill the transcript with it.
func TestOneHolderCannotKeepItSealed(t *testing.T) {
	c := newCluster(t, 3, 2)
	old := c.rekeyed(5, 3)
	c.node.Close()
	c.boot()
	give := func(share []byte) {
		t.Helper()
		if _, err := c.node.Unseal(t.Context(), secret.Copy(share), false, ""); err != nil {
			t.Fatal(err)
		}
	}
	give(c.shares[0])
	give(c.shares[1])
	before := c.head().Size
	for range 20 {
		_, err := c.node.ResetUnseal(t.Context(), secret.Copy(old[2]), false)
		c.refused(err, fault.Denied, "a reset needs")
	}
	if st, err := c.node.SealStatus(t.Context()); err != nil || st.Progress != 2 || c.head().Size != before {
		t.Fatalf("after the resets of a removed holder: %+v, %v", st, err)
	}
	for i := range 20 {
		_, err := c.node.ResetUnseal(t.Context(), secret.Copy(c.shares[4]), false)
		if i == 0 && err != nil {
			t.Fatal(err)
		}
		if f := fault.As(err); i > 0 && (f == nil || f.Kind != fault.Limited || f.RetryAfter != time.Minute) {
			t.Fatalf("again at once: %v", err)
		}
		give(c.shares[0])
	}
	if n := c.head().Size - before; n > 3 {
		t.Errorf("%d entries", n)
	}
	c.clock.step(refusalPause)
	if st, err := c.node.ResetUnseal(t.Context(), secret.Copy(c.shares[4]), false); err != nil || st.Progress != 0 {
		t.Errorf("a minute later: %+v, %v", st, err)
	}
	c.unseal()
	if r := c.audit(c.verifierKey()); len(r.Problems) > 0 || len(c.alarms()) > 0 {
		t.Errorf("%q, %q", r.Problems, c.alarms())
	}
}

// Junk waits for nobody's turn.
func TestJunkTakesNoTurn(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.node.Close()
	c.boot()
	c.node.transition <- struct{}{} // somebody's is under way
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	junk := slices.Clone(c.shares[0])
	junk[1] ^= 1
	for name, do := range map[string]func(share secret.Bytes) error{
		"unseal": func(share secret.Bytes) error { _, err := c.node.Unseal(ctx, share, false, ""); return err },
		"reset":  func(share secret.Bytes) error { _, err := c.node.ResetUnseal(ctx, share, false); return err },
	} {
		share := secret.Copy(junk)
		if err := do(share); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.Max(share.Reveal()) > 0 {
			t.Errorf("%s: the share was not wiped", name)
		}
	}
	<-c.node.transition
	c.unseal()
}

// Alarms beyond what a process tells of are not silent, and one that couldn't be written is written later.
func TestAlarms(t *testing.T) {
	faulty := storetest.NewFaulty(inmem.New())
	c := newClusterOver(t, faulty, 3, 2)
	act := c.node.active.Load()
	from := c.size()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.node.alarm(cancelled, act, "the log has shrunk"); err == nil {
		t.Error("recorded although it can't be")
	}
	for range 2 {
		if err := c.node.alarm(t.Context(), act, "the log has shrunk"); err != nil {
			t.Error(err)
		}
	}
	if got := c.happened(from); got != "alarm" {
		t.Errorf("recorded %q", got)
	}
	if n := strings.Count(c.log.String(), "the log has shrunk"); n != 1 {
		t.Errorf("told %d times", n)
	}
	for i := range maxAlarms + 20 {
		if err := c.node.alarm(t.Context(), act, fmt.Sprint("problem ", i)); err != nil {
			t.Fatal(err)
		}
	}
	list := c.entries(from)
	if last := list[len(list)-1]; len(list) != maxAlarms+1 || last.Detail != moreAlarms || strings.Count(c.log.String(), moreAlarms) != 1 {
		t.Errorf("%d alarms, the last %q", len(list), last.Detail)
	}
	if alarms := c.alarms(); len(alarms) != maxAlarms+1 || alarms[maxAlarms] != moreAlarms {
		t.Errorf("%d alarms are told of", len(alarms))
	}
}

// hangs is a mark on a disk that hangs.
type hangs struct{ entered, leave chan struct{} }

func (h hangs) Load() (transcript.Mark, bool, error) { return transcript.Mark{}, false, nil }
func (h hangs) Save(transcript.Mark) error           { h.entered <- struct{}{}; <-h.leave; return nil }

// Whoever looks at the alarms doesn't wait for the disk.
func TestAlarmsDoNotWaitForTheMark(t *testing.T) {
	c := newCluster(t, 3, 2)
	h := hangs{make(chan struct{}), make(chan struct{})}
	c.node.Mark = h
	done := make(chan error)
	go func() { done <- c.node.keepMark(transcript.Mark{Size: 1}) }()
	<-h.entered
	told := make(chan []string)
	go func() { told <- c.alarms() }()
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Error("the alarms wait for the mark")
	}
	close(h.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.node.Mark = nil
}
