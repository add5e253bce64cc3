package promises

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/transcript"
)

// witness looks at the transcript where it is stored, not where it is served.
type witness struct {
	asker
	store  *storetest.Faulty
	now    *atomic.Int64 // how far the clock is ahead
	people []seat
	former seat     // whose share was of the generation before
	marks  [][]byte // checkpoints seen on the way
}

// as looks at what somebody else does.
func (w *witness) as(a asker) *witness {
	other := *w
	other.asker = a
	return &other
}

func (w *witness) stored() (list []transcript.Entry) {
	w.t.Helper()
	err := w.store.View(w.t.Context(), func(r store.Reader) error {
		leaves, err := transcript.Read(r, 0, 1<<20)
		for _, leaf := range leaves {
			var e transcript.Entry
			if err := json.Unmarshal(leaf, &e); err != nil {
				return err
			}
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// records makes a request, first with a store that fails: then it isn't acknowledged, and nothing is recorded. Then in
// earnest: what happened stands in the store, in order, before the answer has come.
func (w *witness) records(events string, r request) fields {
	w.t.Helper()
	before := w.stored()
	w.store.FailCommit(1, storetest.Lost)
	code, reply, text := w.ask(r.method, r.path, r.body)
	failed := w.store.Crashed()
	w.store.Recover()
	if failed {
		if code < 500 {
			w.t.Errorf("%s %s was acknowledged and not recorded: %d %s", r.method, r.path, code, text)
		}
		if now := w.stored(); len(now) != len(before) {
			w.t.Errorf("%s %s: recorded by a write that failed", r.method, r.path)
		}
		_, reply, text = w.ask(r.method, r.path, r.body)
	}
	var got []string
	after := w.stored()
	for _, e := range after[len(before):] {
		got = append(got, string(e.Event))
	}
	if strings.Join(got, " ") != events {
		w.t.Errorf("%s %s is recorded as %q, want %q (%.300s)", r.method, r.path, strings.Join(got, " "), events, text)
	}
	if !failed && events != "" {
		w.t.Errorf("%s %s was recorded without a write", r.method, r.path)
	}
	return reply
}

// keep takes the checkpoint that everybody can read.
func (w *witness) keep() {
	w.t.Helper()
	state := w.want(200, "GET", "sys/transcript", nil)["data"].(map[string]any)
	if text := state["checkpoint"].(string); text != "" {
		w.marks = append(w.marks, []byte(text))
	}
}

// unseals gives shares until the server opens. The last one is recorded in a write of its own, before it opens anything.
func (w *witness) unseals(people []seat) {
	w.t.Helper()
	last := len(people) - 1
	for _, p := range people[:last] {
		w.records("unseal-share", request{"PUT", "sys/unseal", p.gives()})
	}
	n := len(w.stored())
	w.want(200, "PUT", "sys/unseal", people[last].gives())
	if got := w.stored()[n:]; len(got) < 2 || got[0].Event != transcript.UnsealShare || got[1].Event != transcript.Unsealed {
		w.t.Errorf("the last share is recorded as %v", got)
	}
	w.keep()
}

func newWitness(t *testing.T) *witness {
	w := &witness{store: storetest.NewFaulty(inmem.New()), now: &atomic.Int64{}}
	s := harness.Start(t, harness.Options{OneNode: true, Uninitialised: true, Store: w.store, Now: func() time.Time { return time.Now().Add(time.Duration(w.now.Load())) }})
	w.asker = operator(t, s)
	reply := w.records("init", request{"PUT", "sys/init", fields{"secret_shares": 4, "secret_threshold": 3, "holders": []string{"ada", "ben", "cy", "di"}}})
	s.Shares, s.Root = unhex(t, texts(reply["keys"])), reply["root_token"].(string)
	w.people = seatsOf(s.Shares, reply["cluster_id"].(string), 1)
	return w
}

// Promise 6: nothing happens unseen. Every accepted share, start, cancel, expiry and completion is recorded durably before
// it is answered, sealed or not; and the record can be verified offline.
func TestPromise6(t *testing.T) {
	w := newWitness(t)
	root := w.with(w.server.Root)
	w.records("unseal-share", request{"PUT", "sys/unseal", w.people[3].gives()})
	w.records("unseal-reset", request{"PUT", "sys/unseal", merge(w.people[3].gives(), fields{"reset": true})})
	w.records("unseal-share", request{"PUT", "sys/unseal", w.people[3].gives()})
	w.records("", request{"PUT", "sys/unseal", w.people[3].gives()}) // again: no other share
	w.unseals([]seat{w.people[0], w.people[1]})

	w.rootToken()
	w.otherKinds()
	w.rekeyVerified()
	w.rekeyUnverified()

	by := w.as(root)
	by.records("rotate-root", request{"POST", "sys/rotate/root", nil})
	by.records("rotate-keyring", request{"POST", "sys/rotate/keyring", nil})
	by.records("rotate-config", request{"POST", "sys/rotate/config", fields{"enabled": false}})
	w.begun("start", fields{"kind": "drill"})
	by.want(204, "PUT", "sys/seal", nil)
	log := w.stored()
	if a, b := log[len(log)-2].Event, log[len(log)-1].Event; a != transcript.End || b != transcript.Sealed {
		t.Errorf("a seal with a ceremony in progress is recorded as %s, %s", a, b)
	}
	w.records("refused", request{"PUT", "sys/unseal", w.former.gives()})
	w.unseals(w.people[:3])
	w.offline()
}

// begun starts a ceremony.
func (w *witness) begun(events string, body fields) *shown {
	w.t.Helper()
	return asShown(w.t, w.records(events, request{"POST", ceremonies, body}))
}

func (w *witness) on(c *shown, verb string, credential fields) request {
	return request{"POST", ceremonies + "/" + c.Nonce + "/" + verb, credential}
}

// rootToken is the ways of an attempt: to its token, by share and by signature, and to each of its other ends.
func (w *witness) rootToken() {
	c := w.begun("start", fields{"kind": "root-token", "reason": "the tokens are lost"})
	w.records("approve", w.on(c, "approve", w.people[0].gives()))
	w.records("duplicate", w.on(c, "approve", w.people[0].gives()))
	w.records("", w.on(c, "approve", w.people[0].gives())) // once is enough
	w.records("approve", w.on(c, "approve", w.people[1].approves(c.attempt())))
	far := w.as(w.stranger())
	far.records("object", far.on(c, "cancel", w.people[3].gives()))
	w.records("approve complete", w.on(c, "approve", w.people[2].gives()))
	w.keep()

	c = w.begun("start", fields{"kind": "root-token"})
	w.records("cancel", w.on(c, "cancel", nil))
	w.begun("start", fields{"kind": "root-token"})
	c = far.begun("gave-way start", merge(w.people[1].gives(), fields{"kind": "root-token"}))
	w.records("approve", w.on(c, "approve", w.people[0].gives()))
	w.now.Add(int64(2 * time.Hour))
	c = w.begun("expire start", fields{"kind": "root-token"})
	w.records("cancel", w.on(c, "cancel", nil))
}

// otherKinds are a drill and other labels.
func (w *witness) otherKinds() {
	c := w.begun("start", fields{"kind": "drill"})
	for _, p := range w.people[:3] {
		w.records("approve", w.on(c, "approve", p.approves(c.attempt())))
	}
	w.records("approve complete", w.on(c, "approve", w.people[3].gives()))
	c = w.begun("start", fields{"kind": "holders", "holders": []string{"ada", "ben", "cy", "eve"}})
	for _, p := range w.people[:2] {
		w.records("approve", w.on(c, "approve", p.gives()))
	}
	w.records("approve generation complete", w.on(c, "approve", w.people[2].gives()))
}

// rekeyVerified replaces all holders, who prove what they have; a former one is refused, which is recorded as well.
func (w *witness) rekeyVerified() {
	open := w.begun("start", fields{"kind": "root-token"})
	c := w.begun("start", fields{"kind": "rekey", "secret_shares": 3, "secret_threshold": 2, "rotate": true})
	for _, p := range w.people[:2] {
		w.records("approve", w.on(c, "approve", p.gives()))
	}
	c = asShown(w.t, w.records("approve generation complete", w.on(c, "approve", w.people[2].gives())))
	old := w.people
	w.people = seatsOf(unhex(w.t, c.Keys), c.ClusterID, 2)
	w.records("prove", w.on(c, "verify", w.people[0].gives()))
	w.records("verification-reset", request{"DELETE", "sys/rekey/verify", nil})
	c = w.look(c.Nonce)
	w.records("prove", w.on(c, "verify", w.people[1].proves(c.Verification.Nonce)))
	w.records("prove", w.on(c, "verify", w.people[0].gives()))
	w.records("prove end commit rotate-root", w.on(c, "verify", w.people[2].gives()))
	w.keep()
	if ended := w.look(open.Nonce); ended.State != "cancelled" {
		w.t.Errorf("an attempt that the old holders were asked for stands as %+v", ended)
	}
	far := w.as(w.stranger())
	far.records("refused", request{"POST", ceremonies, merge(old[0].gives(), fields{"kind": "drill"})})
	w.records("refused", w.on(w.begun("start", fields{"kind": "drill"}), "approve", old[1].gives()))
}

// rekeyUnverified is what the stock clients do: the old shares open the store until the new ones are known to work.
func (w *witness) rekeyUnverified() {
	reply := w.records("start", request{"PUT", "sys/rekey/init", fields{"secret_shares": 4, "secret_threshold": 3}})
	nonce := fields{"nonce": reply["nonce"]}
	w.records("approve", request{"PUT", "sys/rekey/update", merge(nonce, w.people[0].gives())})
	reply = w.records("approve generation end commit complete", request{"PUT", "sys/rekey/update", merge(nonce, w.people[1].gives())})
	w.former = w.people[0]
	w.people = seatsOf(unhex(w.t, texts(reply["keys"])), w.people[0].clusterID, 3)
	c := w.begun("start", fields{"kind": "root-token"})
	w.records("approve", w.on(c, "approve", w.people[3].gives()))
	w.records("approve", w.on(c, "approve", w.people[1].gives()))
	w.records("approve retire complete", w.on(c, "approve", w.people[2].gives()))
}

// offline verifies the transcript, and every way to falsify it that leaves the file in its form.
func (w *witness) offline() {
	w.t.Helper()
	report := w.audited()
	for _, older := range w.marks {
		again, err := transcript.VerifyExport(bytes.NewReader(w.export()), transcript.VerifyOptions{VerifierKey: report.VerifierKey, Checkpoint: older})
		if err != nil || len(again.Problems) > 0 {
			w.t.Errorf("the transcript doesn't continue a checkpoint of its own: %v %v", again, err)
		}
	}
	shared := 0
	for _, e := range report.Entries {
		byHolder := slices.Contains([]transcript.Event{transcript.UnsealShare, transcript.UnsealReset, transcript.Approve, transcript.Object, transcript.Prove}, e.Entry.Event)
		if byHolder != e.Proven && e.Entry.Event != transcript.Refused { // which is signed only where nothing else vouches for it
			w.t.Errorf("entry %d, %s of slot %d: signed by its holder: %t", e.Index, e.Entry.Event, e.Entry.Slot, e.Proven)
		}
		if e.Entry.Shared {
			shared++
		}
		if e.Entry.Event == transcript.Approve && e.Entry.Mode == holder.ModeSignature && e.Entry.Digest == "" {
			w.t.Errorf("entry %d doesn't say what was signed", e.Index)
		}
	}
	if shared == 0 { // T70
		w.t.Error("one client gave the shares of many, and nobody wrote that down")
	}
	w.falsified(report)
}

func (w *witness) falsified(good *transcript.Report) {
	w.t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(string(w.export()), "\n"), "\n")
	verify := func(what string, lines []string) {
		report, err := transcript.VerifyExport(strings.NewReader(strings.Join(lines, "")), transcript.VerifyOptions{
			VerifierKey: good.VerifierKey, Checkpoint: []byte(good.Checkpoint),
		})
		if err == nil && len(report.Problems) == 0 {
			w.t.Errorf("the transcript is good although %s", what)
		}
	}
	for i := 1; i < len(lines); i++ {
		verify(fmt.Sprintf("entry %d is missing", i-1), slices.Delete(slices.Clone(lines), i, i+1))
		changed := slices.Clone(lines)
		changed[i] = strings.Replace(lines[i], `\"time\":\"20`, `\"time\":\"21`, 1)
		verify(fmt.Sprintf("entry %d was changed", i-1), changed)
		if i > 1 {
			changed = slices.Clone(lines)
			changed[i], changed[i-1] = changed[i-1], changed[i]
			verify(fmt.Sprintf("entries %d and %d changed places", i-2, i-1), changed)
		}
	}
	verify("it was cut off", lines[:len(lines)-1])
}

// Promise 6: a share that was given to a sealed server is signed by its holder, and what somebody else writes there is
// told from it when the server opens.
func TestPromise6Sealed(t *testing.T) {
	for name, forged := range map[string]func(seat, *transcript.Entry){
		"no signature":   func(seat, *transcript.Entry) {},
		"another's slot": func(s seat, e *transcript.Entry) { e.Slot = 2; e.Signature = signSealed(s, e) },
		"another key": func(s seat, e *transcript.Entry) {
			s.share = bytes.Repeat([]byte{7}, 33)
			e.Signature = signSealed(s, e)
		},
		"an event of no use": func(s seat, e *transcript.Entry) { e.Event, e.Kind = transcript.Approve, ceremony.RootToken },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			w.records("unseal-share", request{"PUT", "sys/unseal", w.people[0].gives()})
			e := transcript.Entry{Time: time.Now().UTC().Truncate(time.Millisecond), Event: transcript.UnsealShare, Generation: 1, Slot: 1, Mode: holder.ModeShare}
			forged(w.people[0], &e)
			err := w.store.Update(t.Context(), func(tx store.Tx) error {
				_, err := transcript.Append(tx, nil, e)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range w.people[1:3] {
				w.want(200, "PUT", "sys/unseal", p.gives())
			}
			alarms := 0
			for _, e := range w.stored() {
				if e.Event == transcript.Alarm {
					alarms++
				}
			}
			state := w.want(200, "GET", "sys/transcript", nil)["data"].(map[string]any)
			if alarms == 0 || len(texts(state["alarms"])) == 0 || !strings.Contains(w.server.Log.String(), "is not what it was") {
				t.Errorf("%d alarms in the transcript, and %v told", alarms, state["alarms"])
			}
		})
	}
}

func signSealed(s seat, e *transcript.Entry) []byte {
	return s.sign(e.SealedStatement(s.clusterID))
}
