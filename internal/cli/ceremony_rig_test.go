package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

const (
	clusterA = "a0000000-0000-4000-8000-00000000000a"
	clusterB = "b0000000-0000-4000-8000-00000000000b"
	nonceA   = "11111111-1111-4111-8111-111111111111"
	nonceB   = "22222222-2222-4222-8222-222222222222"
)

// quorum is a server that speaks sys/ceremonies, with three holders of whom two approve, in generation 2.
type quorum struct {
	*rig
	attempt *ceremony.Attempt
	state   string
	shown   int                      // how often the ceremony was shown
	lie     func(info *ceremonyInfo) // about the ceremony, from the reading lieFrom on
	lieFrom int                      // 1 is the first
	lieList func(list map[string]any)
	tables  func(table map[string]any)
	keys    []string // recipient_keys
	key     string   // recipient_key
	otp     string
	proofs  *ceremonyVerification
	log     *testLog
}

// testLog is the transcript of a server.
type testLog struct {
	t      *testing.T
	store  store.Store
	signer *transcript.Signer
}

func newTestLog(t *testing.T, cluster string, entries int) *testLog {
	t.Helper()
	signer, _, err := transcript.NewSigner(cluster, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t, inmem.New(), signer}
	for range entries {
		l.add(transcript.Sealed)
	}
	return l
}

func (l *testLog) add(event transcript.Event) {
	l.t.Helper()
	err := l.store.Update(context.Background(), func(tx store.Tx) error {
		_, err := transcript.Append(tx, l.signer, transcript.Entry{Time: time.Now(), Event: event})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *testLog) checkpoint() (text string) {
	l.t.Helper()
	err := l.store.View(context.Background(), func(r store.Reader) error {
		b, err := transcript.Checkpoint(r)
		text = string(b)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}

func (l *testLog) proof(w http.ResponseWriter, r *http.Request) {
	before, _ := strconv.ParseInt(r.URL.Query().Get("old"), 10, 64)
	after, _ := strconv.ParseInt(r.URL.Query().Get("new"), 10, 64)
	err := l.store.View(r.Context(), func(s store.Reader) error {
		hashes, err := transcript.Consistency(s, before, after)
		if err == nil {
			reply(w, 200, map[string]any{"data": map[string]any{"hashes": hashes}})
		}
		return err
	})
	if err != nil {
		refuse(w, 400, err.Error())
	}
}

// shareOf is the share of a slot in a generation, whatever the cluster.
func shareOf(generation, slot int) secret.Bytes {
	b := []byte(fmt.Sprintf("%-32s", fmt.Sprintf("share of generation %d", generation)))
	return secret.Own(append(b, byte(slot)))
}

func bareShare(generation, slot int) string {
	return base64.StdEncoding.EncodeToString(shareOf(generation, slot).Reveal())
}

// armouredShare is the share of a slot in generation 2 of cluster A, with an armour that change has falsified.
func armouredShare(t *testing.T, slot int, change func(*holder.Armour)) string {
	t.Helper()
	a := holder.Armour{ClusterID: clusterA, Generation: 2, Slot: slot, Threshold: 2, Share: shareOf(2, slot)}
	if change != nil {
		change(&a)
	}
	text, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func rootAttempt(change func(*ceremony.Params)) *ceremony.Attempt {
	p := ceremony.Params{
		Nonce: nonceA, Kind: ceremony.RootToken, ClusterID: clusterA, Generation: 2, Threshold: 2, Holders: 3,
		Recipient: "otp:hmac:" + strings.Repeat("ab", 32), Reason: "all tokens are lost",
		Initiator: ceremony.Initiator{By: ceremony.ByHolder, Slot: 3}, Now: time.Now(),
	}
	if change != nil {
		change(&p)
	}
	return ceremony.New(p)
}

func newQuorum(t *testing.T, a *ceremony.Attempt) *quorum {
	t.Helper()
	q := &quorum{rig: newRig(t), attempt: a, state: stateOpen, lieFrom: 1, log: newTestLog(t, clusterA, 3)}
	q.answers["GET sys/ceremonies"] = q.list
	q.answers["GET sys/ceremonies/holders"] = q.holders
	q.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, r *http.Request) { q.log.proof(w, r) }
	q.answers["POST sys/ceremonies"] = q.start
	for _, nonce := range []string{nonceA, nonceB} {
		q.answers["GET sys/ceremonies/"+nonce] = q.read
		q.answers["POST sys/ceremonies/"+nonce+"/approve"] = q.approve
	}
	return q
}

func (q *quorum) list(w http.ResponseWriter, _ *http.Request) {
	list := map[string]any{
		"keys": []string{q.attempt.Nonce}, "key_info": map[string]any{q.attempt.Nonce: q.info()},
		"cluster_id": clusterA, "generation": 2, "threshold": 2, "shares": 3,
		"checkpoint": q.log.checkpoint(), "verifier_key": q.log.signer.VerifierKey(),
	}
	if q.lieList != nil {
		q.lieList(list)
	}
	reply(w, 200, map[string]any{"data": list})
}

func verifiers(cluster string, generation int) (list []map[string]any) {
	for slot := 1; slot <= 3; slot++ {
		v := holder.Derive(shareOf(generation, slot), cluster, uint64(generation)).Verifier()
		list = append(list, map[string]any{"slot": slot, "label": fmt.Sprintf("holder%d", slot), "verifier": v})
	}
	return list
}

func (q *quorum) holders(w http.ResponseWriter, _ *http.Request) {
	table := map[string]any{"cluster_id": clusterA, "generations": []map[string]any{
		{"generation": 1, "state": "retiring", "threshold": 2, "shares": 3, "holders": verifiers(clusterA, 1)},
		{"generation": 2, "state": "active", "threshold": 2, "shares": 3, "holders": verifiers(clusterA, 2)},
		{"generation": 3, "state": "pending", "threshold": 2, "shares": 3, "holders": verifiers(clusterA, 3)},
	}}
	if q.tables != nil {
		q.tables(table)
	}
	reply(w, 200, map[string]any{"data": table})
}

// info is the ceremony as it is.
func (q *quorum) info() *ceremonyInfo {
	a := q.attempt
	info := &ceremonyInfo{
		Nonce: a.Nonce, Kind: a.Kind, State: q.state, ClusterID: a.ClusterID, Generation: a.Generation,
		Threshold: a.Threshold, Holders: a.Holders, Parameters: a.Parameters, Recipient: a.Recipient,
		RecipientKey: q.key, RecipientKeys: q.keys, Reason: a.Reason, Initiator: a.Initiator,
		Started: a.Started, Expires: a.Expires, UnapprovedMS: a.Limits.Unapproved.Milliseconds(), IdleMS: a.Limits.Idle.Milliseconds(),
		Deadline: a.Deadline(), Digest: a.Digest.Hex(),
		Progress: len(a.Approvals), Required: a.Threshold, Verification: q.proofs, Checkpoint: q.log.checkpoint(),
	}
	for _, ap := range a.Approvals {
		info.Approvals = append(info.Approvals, ceremonyAct{Slot: ap.Slot, Label: fmt.Sprintf("holder%d", ap.Slot), Mode: string(ap.Mode), At: ap.At})
	}
	return info
}

func (q *quorum) read(w http.ResponseWriter, r *http.Request) {
	info := q.info()
	if q.shown++; q.lie != nil && q.shown >= q.lieFrom {
		q.lie(info)
	}
	reply(w, 200, map[string]any{"data": info})
}

// credentialOf reads what a request proves; slot 0 is nothing.
func credentialOf(t *testing.T, r *http.Request, generation int, statement func(slot int) holder.Statement) (slot int, body map[string]any) {
	t.Helper()
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return 0, nil
	}
	if key, ok := body["key"].(string); ok {
		raw, err := holder.ParseShare([]byte(key))
		if err != nil {
			t.Error(err)
			return 0, body
		}
		return int(raw.Reveal()[32]), body
	}
	n, _ := body["slot"].(float64)
	text, _ := body["signature"].(string)
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil || n == 0 {
		return 0, body
	}
	v := holder.Derive(shareOf(generation, int(n)), clusterA, uint64(generation)).Verifier()
	if !holder.Verify(v, statement(int(n)), sig) {
		return 0, body
	}
	return int(n), body
}

func (q *quorum) approve(w http.ResponseWriter, r *http.Request) {
	slot, body := credentialOf(q.t, r, 2, func(slot int) holder.Statement { return q.attempt.Statement(slot, holder.ModeSignature) })
	if slot == 0 {
		refuse(w, 400, "the approval is not valid for this attempt")
		return
	}
	mode := holder.ModeSignature
	if body["key"] != nil {
		mode = holder.ModeShare
	}
	q.attempt.Approvals = append(q.attempt.Approvals, ceremony.Approval{Slot: slot, Mode: mode, At: time.Now().UTC()})
	q.log.add(transcript.Approve)
	info := q.info()
	if len(q.attempt.Approvals) >= q.attempt.Threshold {
		q.state = stateComplete
		info = q.info()
		if q.otp != "" {
			info.EncodedToken = xor(newToken, q.otp)
		}
	}
	reply(w, 200, map[string]any{"data": info})
}

// start takes what it is asked for and begins an attempt with it.
func (q *quorum) start(w http.ResponseWriter, r *http.Request) {
	info := q.info()
	if q.lie != nil {
		q.lie(info)
	}
	info.OTP, info.OTPLength = q.otp, len(q.otp)
	reply(w, 200, map[string]any{"data": info})
}

// words are those of the present ceremony.
func (q *quorum) words() string { return strings.Join(q.attempt.Digest.Words(), " ") }

// nothingGiven fails if the server got a credential.
func (q *quorum) nothingGiven() {
	q.t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.seen {
		if r.method != "GET" {
			q.t.Errorf("%s %s was sent: %s", r.method, r.path, r.body)
		}
	}
}

// noShare fails if a share was sent or shown.
func (q *quorum) noShare(texts ...string) {
	q.t.Helper()
	armour := armouredShare(q.t, 1, nil)[:20]
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.seen {
		texts = append(texts, r.body, r.query, r.path)
	}
	for generation := 1; generation <= 3; generation++ {
		for slot := 1; slot <= 3; slot++ {
			for _, text := range texts {
				if strings.Contains(text, bareShare(generation, slot)[:40]) || strings.Contains(text, armour) {
					q.t.Errorf("a share shows in %s", text)
				}
			}
		}
	}
}

// sightingFile is where the cluster is remembered.
func sightingFile(cluster string) string {
	return filepath.Join(os.Getenv("HOME"), ".quorate", "clusters", cluster)
}
