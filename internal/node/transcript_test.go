package node

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// witness is a life with everything that can happen in it, and the secrets that came up.
type witness struct {
	*cluster
	secrets map[string][]byte
	from    int
}

func (w *witness) keep(name string, value []byte) {
	if len(value) > 0 {
		w.secrets[name] = bytes.Clone(value)
	}
}

// expect demands the events since the last time, all of them and in this order.
func (w *witness) expect(what, events string) {
	w.t.Helper()
	if got := w.happened(w.from); got != events {
		w.t.Errorf("%s: recorded %q, want %q", what, got, events)
	}
	w.from = w.size()
}

// Promise 6: whatever happens is in the transcript, exactly once, in the order in which it happened; all of it can be
// verified offline; and there is no secret in it.
func TestPromise6NothingHappensUnseen(t *testing.T) {
	random := &overheard{}
	w := &witness{cluster: &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}, secrets: map[string][]byte{}}
	w.boot()
	w.node.Rand = random
	w.init(3, 2)
	w.keep("root key", random.read[16:48])
	w.keep("unseal key", random.read[48:80])
	w.unseal()
	w.isRootKey(random.read[16:48])
	w.keep("root token", []byte(w.root))
	for i, share := range w.shares {
		w.keep(fmt.Sprint("share ", i), share)
	}
	w.expect("init and unseal", "init unseal-share unseal-share unsealed")
	w.rootGenerations()
	w.rekeys()
	w.others()
	w.sealed()
	rep := w.audit(w.verifierKey())
	if len(rep.Problems) > 0 || rep.Unknown > 0 || rep.Signed != rep.Size {
		t.Errorf("%d of %d entries signed, %d unknown: %v", rep.Signed, rep.Size, rep.Unknown, rep.Problems)
	}
	proven := map[transcript.Event]bool{
		transcript.Approve: true, transcript.Prove: true, transcript.Object: true, transcript.UnsealShare: true,
	}
	for _, e := range rep.Entries {
		if proven[e.Entry.Event] && !e.Proven {
			t.Errorf("entry %d (%s) has no valid signature", e.Index, e.Entry.Event)
		}
		if e.Entry.Time.Location() != time.UTC && e.Entry.Time.UTC() != e.Entry.Time || e.Entry.Time.Nanosecond()%1e6 != 0 {
			t.Errorf("entry %d: time %v", e.Index, e.Entry.Time)
		}
	}
	w.noSecrets()
}

func (w *witness) rootGenerations() {
	t := w.t
	o := w.begin(local, StartRequest{Kind: ceremony.RootToken, Reason: "why not"})
	w.keep("OTP", []byte(o.OTP))
	w.expect("start", "start")
	w.mustGive(o, 0)
	w.expect("approval", "approve")
	_, _ = w.give(o, w.shares[0], "")
	w.expect("the same approval", "duplicate")
	_, _ = w.give(o, w.shares[0], "")
	w.expect("and again", "")
	_, _ = w.give(o, make([]byte, 33), "")
	_, _ = w.send(o, o.Attempt.Nonce, 2, make([]byte, 64))
	_, _ = w.node.Start(t.Context(), GenerateRoot, Asker{}, StartRequest{Kind: ceremony.Drill})
	_, _, _ = w.node.Cancel(t.Context(), ceremony.RootToken, "", Asker{})
	w.expect("what strangers send", "")
	if _, _, err := w.node.Cancel(t.Context(), ceremony.RootToken, "", w.byShare(1)); err != nil {
		t.Fatal(err)
	}
	w.expect("objection", "object")
	got, err := w.signs(o, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.keep("new root token", []byte(w.decode(RootStatus{EncodedToken: got.EncodedToken}, o.OTP)))
	w.expect("last approval", "approve complete")
	if _, err := w.give(o, w.shares[2], ""); fault.As(err) == nil {
		t.Error("the share has the reply of the signature")
	}
	w.expect("a lost reply", "")
	own := []byte("Abcdefghij0123456789wxyz")
	w.keep("own OTP", own)
	w.begin(local, StartRequest{Kind: ceremony.RootToken, OTP: own})
	w.begin(w.byShare(0), StartRequest{Kind: ceremony.RootToken})
	w.expect("a start that gives way", "start gave-way start")
	w.drop(ceremony.RootToken)
	w.expect("cancel", "cancel")
	_, err = w.node.StartRoot(t.Context(), RootGeneration, local, StartRequest{TokenID: []byte(crashTokenID)})
	if err != nil {
		t.Fatal(err)
	}
	w.keep("token ID", []byte(crashTokenID))
	w.clock.step(time.Hour)
	w.expect("start of seed 1", "start")
	w.sweepNow()
	w.expect("expiry", "expire")
	id, e := w.create(w.root, token.Spec{})
	w.keep("token", []byte(id))
	w.begin(bearer(id), StartRequest{Kind: ceremony.RootToken})
	w.revoke(w.root, e)
	w.expect("revoked owner", "start end")
}

func (w *witness) rekeys() {
	t := w.t
	o := w.begin(local, rekeyTo(3, 2, verified))
	for i, share := range w.finish(o, 0).Keys {
		w.keep(fmt.Sprint("aborted share ", i), share)
	}
	w.expect("rekey", "start approve approve generation complete")
	w.drop(ceremony.Rekey)
	w.expect("cancelled verification", "cancel")
	o = w.begin(local, rekeyTo(3, 2, func(k *RekeyRequest) { k.Verify, k.Rotate = true, true }))
	got := w.finish(o, 0)
	fresh := cloned(got.Keys)
	w.begin(local, StartRequest{Kind: ceremony.Drill})
	w.expect("rekey", "start approve approve generation complete start")
	if _, err := w.prove(got, fresh[0]); err != nil {
		t.Fatal(err)
	}
	again, err := w.node.ResetVerification(t.Context(), ceremony.Rekey, local)
	if err != nil {
		t.Fatal(err)
	}
	for _, share := range fresh[1:] {
		if _, err := w.prove(again, share); err != nil {
			t.Fatal(err)
		}
	}
	w.expect("verification", "prove verification-reset prove prove end commit rotate-root")
	old := w.shares
	w.shares = fresh
	for i, share := range fresh {
		w.keep(fmt.Sprint("verified share ", i), share)
	}
	root := w.begin(local, StartRequest{Kind: ceremony.RootToken})
	_, _ = w.give(root, old[0], "")
	w.expect("an old share", "start refused")
	w.drop(ceremony.RootToken)
	w.expect("cancel", "cancel")
	o = w.begin(local, StartRequest{Kind: ceremony.RotateRoot, Rekey: RekeyRequest{Shares: 3, Threshold: 2}})
	got = w.finish(o, 0)
	w.shares = cloned(got.Keys)
	for i, share := range w.shares {
		w.keep(fmt.Sprint("unverified share ", i), share)
	}
	w.expect("unverified", "start approve approve generation commit complete")
	drill := w.begin(local, StartRequest{Kind: ceremony.Drill})
	w.finish(drill, 0)
	w.expect("drill", "start approve approve retire approve complete")
}

func (w *witness) others() {
	t, ctx := w.t, w.t.Context()
	o := w.begin(local, StartRequest{Kind: ceremony.Holders, Labels: []string{"alice", "bob", "carol"}})
	w.finish(o, 0)
	if got := w.happened(w.from); got != "start approve approve complete" && got != "start approve approve generation complete" {
		t.Errorf("labels: recorded %q", got)
	}
	w.from = w.size()
	if err := w.node.RotateKeyring(ctx, w.access(w.root, "sys/rotate", policy.Update)); err != nil {
		t.Fatal(err)
	}
	if err := w.node.RotateRootKey(ctx, w.access(w.root, "sys/rotate/root", policy.Update)); err != nil {
		t.Fatal(err)
	}
	set := func(interval time.Duration) error {
		return w.node.SetRotationConfig(ctx, w.access(w.root, "sys/rotate/config", policy.Update), func(cfg *RotationConfig) error {
			cfg.Interval = interval
			return nil
		})
	}
	if err := set(24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := set(time.Hour); fault.As(err) == nil {
		t.Errorf("an hour: %v", err)
	}
	w.expect("rotations", "rotate-keyring rotate-root rotate-config")
	w.clock.step(24 * time.Hour)
	w.sweepNow()
	w.sweepNow()
	w.expect("rotation by time", "rotate-keyring")
	for _, id := range []string{"", "q.ABCDEFGHIJKLMNOPQRSTUV"} {
		if err := w.node.RotateKeyring(ctx, w.access(id, "sys/rotate", policy.Update)); fault.As(err) == nil {
			t.Errorf("rotation by %q: %v", id, err)
		}
		if err := w.node.RotateRootKey(ctx, w.access(id, "sys/rotate/root", policy.Update)); fault.As(err) == nil {
			t.Errorf("rotation by %q: %v", id, err)
		}
	}
	w.expect("rotations by nobody", "")
}

func (w *witness) sealed() {
	t, ctx := w.t, w.t.Context()
	key := w.verifierKey()
	w.begin(local, StartRequest{Kind: ceremony.RootToken})
	w.begin(local, StartRequest{Kind: ceremony.Drill})
	if err := w.node.Seal(ctx, w.access(w.root, "sys/seal", policy.Update), false); err != nil {
		t.Fatal(err)
	}
	sealedAt := func(what, events string) {
		t.Helper()
		var list []string
		for _, e := range w.audit(key).Entries[w.from:] {
			list = append(list, string(e.Entry.Event))
		}
		if got := strings.Join(list, " "); got != events {
			t.Errorf("%s: recorded %q, want %q", what, got, events)
		}
		w.from = w.size()
	}
	sealedAt("seal", "start start end end sealed")
	_, _ = w.node.Unseal(ctx, secret.Copy(make([]byte, 33)), false, "")
	_, _ = w.node.ResetUnseal(ctx, secret.Bytes{}, false)
	sealedAt("strangers", "")
	for range 2 { // the second time it changes nothing
		if _, err := w.node.Unseal(ctx, w.share(2), false, ""); err != nil {
			t.Fatal(err)
		}
	}
	sealedAt("a share", "unseal-share")
	for _, slot := range []int{1, 2, 1} { // the second time it changes something
		if _, err := w.node.ResetUnseal(ctx, w.share(slot), false); err != nil {
			t.Fatal(err)
		}
	}
	sealedAt("reset", "unseal-reset")
	if _, err := w.node.Unseal(ctx, w.share(0), false, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.ResetUnseal(ctx, secret.Bytes{}, true); err != nil {
		t.Fatal(err)
	}
	sealedAt("local reset", "unseal-share unseal-reset")
	w.unseal()
	sealedAt("unseal", "unseal-share unseal-share unsealed")
}

// noSecrets looks for every secret, in the ways in which it may be written, in everything that is public.
func (w *witness) noSecrets() {
	t := w.t
	var public [][]byte
	err := w.node.TranscriptView(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("plain/", "") {
			if err != nil {
				return err
			}
			public = append(public, slices.Clone(e.Value))
		}
		return nil
	})
	if err != nil || len(public) < 50 {
		t.Fatal(len(public), err)
	}
	public = append(public, []byte(w.log.String()))
	if len(w.secrets) < 15 {
		t.Fatalf("only %d secrets: the test does not test", len(w.secrets))
	}
	for name, key := range w.secrets {
		all := [][]byte{key, []byte(hex.EncodeToString(key))[:16], []byte(base64.RawStdEncoding.EncodeToString(key))[:16], []byte(base64.RawURLEncoding.EncodeToString(key))[:16]}
		if len(key) >= 16 {
			all = append(all, pieces(key)...)
		}
		for _, piece := range all {
			for _, text := range public {
				if bytes.Contains(text, piece) {
					t.Errorf("the %s is in %.200q", name, text)
				}
			}
		}
	}
}

// Each of these is answered only once it is on disk: if the store can't write, nobody is told that it was done, and
// where it was written all the same the transcript says so.
func TestRecordedBeforeTheAnswer(t *testing.T) {
	for name, act := range map[string]struct {
		do     func(c *cluster, o *Ceremony, old []byte) error
		events string
	}{
		"start": {func(c *cluster, _ *Ceremony, _ []byte) error {
			_, err := c.node.Start(c.t.Context(), GenerateRoot, local, StartRequest{Kind: ceremony.Drill})
			return err
		}, "start"},
		"approval": {func(c *cluster, o *Ceremony, _ []byte) error { _, err := c.give(o, c.shares[1], ""); return err }, "approve complete"},
		"duplicate": {func(c *cluster, o *Ceremony, _ []byte) error {
			if _, err := c.give(o, c.shares[0], ""); fault.As(err) == nil {
				return err
			}
			return nil
		}, "duplicate"},
		"objection": {func(c *cluster, _ *Ceremony, _ []byte) error {
			_, _, err := c.node.Cancel(c.t.Context(), ceremony.RootToken, "", c.byShare(1))
			return err
		}, "object"},
		"cancel": {func(c *cluster, _ *Ceremony, _ []byte) error {
			_, _, err := c.node.Cancel(c.t.Context(), ceremony.RootToken, "", local)
			return err
		}, "cancel"},
		"expiry": {func(c *cluster, _ *Ceremony, _ []byte) error {
			c.clock.step(time.Hour)
			return c.node.sweep(c.t.Context(), c.node.active.Load())
		}, "expire"},
		"rotation": {func(c *cluster, _ *Ceremony, _ []byte) error {
			return c.node.RotateKeyring(c.t.Context(), c.access(c.root, "sys/rotate", policy.Update))
		}, "rotate-keyring"},
		"old share": {func(c *cluster, o *Ceremony, old []byte) error {
			if _, err := c.give(o, old, ""); fault.As(err) == nil {
				return err
			}
			return nil
		}, "refused"},
		"seal": {func(c *cluster, _ *Ceremony, _ []byte) error { return c.seal() }, "end sealed"},
	} {
		for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
			t.Run(fmt.Sprint(name, " ", mode), func(t *testing.T) {
				faulty := storetest.NewFaulty(inmem.New())
				c := newClusterOver(t, faulty, 3, 2)
				old := c.rekeyed(3, 2)
				c.boot()
				c.unseal() // which retires the old generation
				c.clock.step(time.Hour)
				c.sweepNow() // of what is kept of the rekey
				o := c.begin(local, StartRequest{Kind: ceremony.RootToken})
				c.mustGive(o, 0)
				from := c.size()
				faulty.FailCommit(1, mode)
				if err := act.do(c, o, old[0]); err == nil {
					t.Error("the answer came although nothing was durable")
				}
				if !faulty.Crashed() {
					t.Fatal("nothing was written")
				}
				faulty.Recover()
				c.node.Close()
				c.boot()
				c.unseal()
				want := act.events + " "
				if mode == storetest.Lost {
					want = ""
				}
				if got := c.happened(from); !strings.HasPrefix(got, want+"unseal-share") {
					t.Errorf("recorded %q", got)
				}
			})
		}
	}
	// The same while sealed.
	for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
		faulty := storetest.NewFaulty(inmem.New())
		c := newClusterOver(t, faulty, 3, 2)
		c.boot()
		faulty.FailCommit(1, mode)
		if _, err := c.node.Unseal(t.Context(), c.share(0), false, ""); err == nil {
			t.Errorf("%v: a share was accepted that isn't recorded", mode)
		}
		faulty.Recover()
		if st, err := c.node.SealStatus(t.Context()); err != nil || st.Progress != 0 {
			t.Errorf("%v: progress %d, %v", mode, st.Progress, err)
		}
	}
}

// What a share does while sealed carries its holder's signature, and nothing else is believed when the store opens.
func TestForgedEntriesWhileSealed(t *testing.T) {
	clusterID := ""
	share := func(c *cluster, slot int, by []byte) transcript.Entry {
		root := c.head().Root
		e := transcript.Entry{
			Time: c.clock.now(), Event: transcript.UnsealShare, Generation: 1, Slot: slot, Mode: holder.ModeShare, Round: "forged", Before: root[:],
		}
		if by != nil {
			e.Signature = signed(by, e.SealedStatement(clusterID))
		}
		return e
	}
	for name, forge := range map[string]func(c *cluster) transcript.Entry{
		"unsigned share":     func(c *cluster) transcript.Entry { return share(c, 1, nil) },
		"by another":         func(c *cluster) transcript.Entry { return share(c, 1, c.shares[1]) },
		"slot that isn't":    func(c *cluster) transcript.Entry { return share(c, 4, c.shares[2]) },
		"slot 0":             func(c *cluster) transcript.Entry { return share(c, 0, nil) },
		"changed afterwards": func(c *cluster) transcript.Entry { e := share(c, 1, c.shares[0]); e.Round = "other"; return e },
		"approval":           func(c *cluster) transcript.Entry { return transcript.Entry{Event: transcript.Approve, Slot: 1} },
		"unsealed":           func(c *cluster) transcript.Entry { return transcript.Entry{Event: transcript.Unsealed} },
		"complete":           func(c *cluster) transcript.Entry { return transcript.Entry{Event: transcript.Complete} },
		"replayed": func(c *cluster) transcript.Entry {
			i := slices.IndexFunc(c.entries(0), func(e *transcript.Entry) bool { return e.Event == transcript.UnsealShare })
			return *c.entries(0)[i]
		},
		"refused, unsigned": func(c *cluster) transcript.Entry {
			return transcript.Entry{Time: c.clock.now(), Event: transcript.Refused, Generation: 1, Slot: 1}
		},
		"genuine": func(c *cluster) transcript.Entry { return share(c, 1, c.shares[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			clusterID = c.identity().ClusterID
			if err := c.seal(); err != nil {
				t.Fatal(err)
			}
			from := c.size()
			e := forge(c)
			err := c.st.Update(t.Context(), func(tx store.Tx) error {
				_, err := transcript.Append(tx, nil, e)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			c.unseal()
			_, _, alarms, err := c.node.TranscriptState(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			alarmed := strings.Contains(c.happened(from), "alarm unsealed")
			if want := name != "genuine"; (len(alarms) > 0) != want || alarmed != want {
				t.Errorf("alarms %q, recorded %q", alarms, c.happened(from))
			}
			c.boot()
			c.unseal()
			if _, _, alarms, _ := c.node.TranscriptState(t.Context()); len(alarms) > 0 {
				t.Errorf("alarmed again: %q", alarms)
			}
		})
	}
}

// kept is a mark on another disk.
type kept struct {
	mark transcript.Mark
	has  bool
	fail error
}

func (k *kept) Load() (transcript.Mark, bool, error) { return k.mark, k.has, k.fail }

func (k *kept) Save(m transcript.Mark) error {
	k.mark, k.has = m, true
	return k.fail
}

// T67: a store that was put back is noticed, at the unseal and while the server runs, and an undisturbed one is not.
func TestStorePutBack(t *testing.T) {
	c := newCluster(t, 3, 2)
	mark := &kept{}
	var former [][]byte
	boot := func() []string {
		t.Helper()
		c.node.Close()
		c.boot()
		c.node.Mark = mark
		if err := c.open(c.shares, former); err != nil {
			t.Fatal(err)
		}
		_, _, alarms, err := c.node.TranscriptState(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return alarms
	}
	if alarms := boot(); len(alarms) > 0 {
		t.Errorf("without a mark: %q", alarms)
	}
	c.sweepNow()
	if !mark.has || mark.mark.Size == 0 || mark.mark.Generation != 1 {
		t.Fatalf("mark %+v", mark.mark)
	}
	old := copyOf(t, c.st)
	c.generate()
	c.sweepNow()
	if alarms := boot(); len(alarms) > 0 {
		t.Errorf("undisturbed: %q", alarms)
	}
	c.st = copyOf(t, old)
	if alarms := boot(); len(alarms) != 1 || !strings.Contains(alarms[0], "shrunk") {
		t.Errorf("put back: %q", alarms)
	}
	// Longer than the mark, and another log.
	for range 3 {
		c.generate()
	}
	c.node.Close() // which keeps the mark once more
	mark.mark.Root[0] ^= 1
	if alarms := boot(); len(alarms) != 1 || !strings.Contains(alarms[0], "rewritten") {
		t.Errorf("rewritten: %q", alarms)
	}
	c.sweepNow()
	if alarms := boot(); len(alarms) > 0 {
		t.Errorf("alarmed for ever: %q", alarms)
	}
	// An older generation of shares.
	old = copyOf(t, c.st)
	former = c.rekeyed(3, 2)
	c.sweepNow()
	c.st = old
	if alarms := boot(); len(alarms) != 1 || !strings.Contains(alarms[0], "older generation") {
		t.Errorf("before the rekey: %q", alarms)
	}
	// A mark that can't be read, or written, is an alarm and no reason to stop.
	mark.fail = errors.New("the disk is gone")
	c.node.Close()
	c.boot()
	c.node.Mark = mark
	from := c.size()
	if err := c.open(former); err != nil || c.node.Sealed() {
		t.Errorf("with an unreadable mark: %v", err)
	}
	if _, _, alarms, _ := c.node.TranscriptState(t.Context()); !slices.Equal(alarms, []string{errMarkUnreadable}) || !strings.Contains(c.happened(from), "alarm unsealed") {
		t.Errorf("with an unreadable mark: %q, %q", alarms, c.happened(from))
	}
	mark.fail = nil
	c.sweepNow()
	if mark.mark.Size < int64(c.size()) {
		t.Errorf("no new mark was written: %+v", mark.mark)
	}
	if alarms := boot(); len(alarms) > 0 {
		t.Errorf("alarmed again: %q", alarms)
	}
}

// T70: one client that gives several holders' shares is allowed, warned, and recorded without its address.
func TestSharedClient(t *testing.T) {
	c := newCluster(t, 5, 3)
	const here, there = "192.0.2.7/32", "192.0.2.8/32"
	o := c.begin(Asker{Local: true, Client: here}, StartRequest{Kind: ceremony.RootToken})
	from := c.size()
	for i, from := range []string{here, there, here} {
		got, err := c.give(o, c.shares[i], from)
		if err != nil || got.SharedClient != (i == 2) {
			t.Fatalf("approval %d: shared %v, %v", i, got.SharedClient, err)
		}
	}
	list := c.entries(from)
	if list[0].Shared || list[1].Shared || !list[2].Shared || list[0].Client != list[2].Client || list[0].Client == list[1].Client {
		t.Errorf("%+v", list)
	}
	if !strings.Contains(c.log.String(), "several holders came from one client") {
		t.Error("no warning")
	}
	v, o, fresh := verifying(t, asLocal, nil)
	for i, share := range fresh[1:3] {
		_, err := v.node.Verify(t.Context(), o.Kind, o.Verification.Nonce, Approver{Credential: Credential{Share: secret.Copy(share)}, Client: here})
		if err != nil {
			t.Fatal(i, err)
		}
	}
	for _, e := range v.entries(0) {
		if e.Event == transcript.Prove && e.Shared != (e.Slot == 3) {
			t.Errorf("%+v", e)
		}
	}
	// While sealed there is no key to make a pseudonym with: only that it was the same one.
	c.boot()
	from = c.size()
	for i, client := range []string{here, there, here} {
		if _, err := c.node.Unseal(t.Context(), c.share(i), false, client); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range c.entries(from) {
		if e.Shared != (e.Slot == 3) || e.Client != "" {
			t.Errorf("%+v", e)
		}
	}
	for _, e := range c.entries(0) {
		if text, _ := json.Marshal(e); strings.Contains(string(text), "192.0.2") {
			t.Errorf("an address: %s", text)
		}
	}
}
