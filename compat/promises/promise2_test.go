package promises

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/transcript"
)

// kinds are what a start of each kind of ceremony says, and nothing that isn't needed.
func kinds() map[ceremony.Kind]fields {
	return map[ceremony.Kind]fields{
		ceremony.RootToken:  {"kind": "root-token"},
		ceremony.Rekey:      {"kind": "rekey", "secret_shares": 3, "secret_threshold": 2},
		ceremony.RotateRoot: {"kind": "rotate-root", "secret_shares": 3, "secret_threshold": 2},
		ceremony.Drill:      {"kind": "drill"},
		ceremony.Holders:    {"kind": "holders", "holders": []string{"a", "b", "c", "d", "e"}},
	}
}

// request is one that somebody may try.
type request struct {
	method, path string
	body         fields
}

// everyChange is each request that changes, or reveals, something of a ceremony.
func everyChange(nonce, verification string) []request {
	list := []request{
		{"PUT", "sys/generate-root/attempt", nil},
		{"PUT", "sys/generate-root-token/attempt", nil},
		{"PUT", "sys/root-generation/attempt", nil},
		{"DELETE", "sys/generate-root/attempt", nil},
		{"DELETE", "sys/generate-root-token/attempt", nil},
		{"DELETE", "sys/root-generation/attempt", nil},
		{"POST", "sys/rotate/root", nil},
		{"POST", "sys/rotate", nil},
		{"POST", "sys/rotate/keyring", nil},
		{"POST", "sys/rotate/config", fields{"enabled": false}},
		{"POST", "sys/rotate/keyring/config", fields{"enabled": false}},
		{"GET", ceremonies + "/root-tokens", nil},
		{"GET", ceremonies + "/" + nonce + "/result", nil},
		{"POST", ceremonies + "/" + nonce + "/result", nil},
		{"DELETE", ceremonies + "/" + nonce + "/result", nil},
		{"DELETE", ceremonies + "/" + nonce, nil},
		{"POST", ceremonies + "/" + nonce + "/cancel", nil},
		{"POST", ceremonies + "/" + nonce + "/approve", nil},
		{"POST", ceremonies + "/" + nonce + "/verify", nil},
		{"GET", "sys/metrics", nil},
		{"GET", "sys/rotate/config", nil},
	}
	for _, body := range kinds() {
		list = append(list, request{"POST", ceremonies, body})
	}
	for _, family := range []string{"sys/rekey", "sys/rotate/root"} {
		list = append(list,
			request{"PUT", family + "/init", fields{"secret_shares": 1, "secret_threshold": 1}}, request{"DELETE", family + "/init", nil},
			request{"DELETE", family + "/init", fields{"nonce": nonce}}, request{"PUT", family + "/update", fields{"nonce": nonce}},
			request{"PUT", family + "/verify", fields{"nonce": verification}}, request{"DELETE", family + "/verify", nil},
			request{"GET", family + "/backup", nil}, request{"DELETE", family + "/backup", nil})
	}
	return list
}

// refused tries all requests with each of the credentials, none of which is worth anything. The caller looks at what
// became of it.
func (a asker) refused(list []request, credentials ...fields) {
	a.t.Helper()
	for _, r := range list {
		for _, c := range credentials {
			code, _, text := a.ask(r.method, r.path, merge(r.body, c))
			cancel := r.method == "DELETE" && !strings.HasSuffix(r.path, "/result") && !strings.HasSuffix(r.path, "/backup")
			idle := code == 204 && (cancel || strings.HasSuffix(r.path, "/cancel")) // where nothing is open, nothing ends
			if code != 400 && code != 403 && code != 404 && !idle {
				a.t.Errorf("a stranger: %s %s: %d %s", r.method, r.path, code, text)
			}
		}
	}
}

func junkSignature(slot int) fields {
	return fields{
		"slot": slot, "signature": base64.StdEncoding.EncodeToString(make([]byte, 64)),
		"signed_at": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
	}
}

// Promise 2, of all kinds of ceremony and all routes: a stranger who has nothing, or junk, or the share of a holder who
// has left, or what holders have signed, changes nothing.
func TestPromise2EveryRoute(t *testing.T) {
	for kind, body := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			s := harness.Start(t, harness.Options{OneNode: kind == ceremony.RotateRoot})
			a := operator(t, s)
			stranger := a.stranger()
			junk := fields{"key": strings.Repeat("ab", 32) + "01"}
			stranger.refused(everyChange("c4f6ba2e-0000-4000-8000-000000000000", ""), fields{}, junk, junkSignature(1))
			if list := a.want(200, "GET", ceremonies, nil)["data"].(map[string]any); len(texts(list["keys"])) != 0 {
				t.Fatalf("a stranger started something: %v", list)
			}
			c := a.begin(body)
			people := seatsOf(s.Shares, c.ClusterID, c.Generation)
			approve := ceremonies + "/" + c.Nonce + "/approve"
			signed := people[0].approves(c.attempt())
			a.want(200, "POST", approve, signed)
			a.want(200, "POST", approve, people[1].gives())
			before := a.look(c.Nonce)
			for _, who := range []asker{stranger, stranger.with("a-token-that-is-none")} {
				who.refused(everyChange(c.Nonce, ""), fields{}, junk, junkSignature(3), signed)
				a.stands(before)
			}
			for i := 2; i < c.Required; i++ { // a holder may be anywhere, and has had enough of strangers
				c = asShown(t, stranger.want(200, "POST", approve, people[i].gives()))
			}
			if len(c.Keys) > 0 {
				a.newHolders(stranger, c, people, junk)
			}
			if c = a.look(c.Nonce); c.State != "complete" {
				t.Errorf("the holders did not get what they approved: %+v", c)
			}
			a.audited()
		})
	}
}

// newHolders brings a rekey to its end, with strangers in the way.
func (a asker) newHolders(stranger asker, c *shown, old []seat, junk fields) {
	a.t.Helper()
	verify := ceremonies + "/" + c.Nonce + "/verify"
	next := seatsOf(unhex(a.t, c.Keys), c.ClusterID, c.Verification.Generation)
	first := next[0].proves(c.Verification.Nonce)
	a.want(200, "POST", verify, first)
	before := a.look(c.Nonce)
	stranger.refused(everyChange(c.Nonce, c.Verification.Nonce), fields{}, junk, junkSignature(2), first)
	// The old holders prove nothing: they approved, and the new ones are others.
	stranger.refused([]request{{"POST", verify, nil}}, old[1].gives(), old[1].proves(c.Verification.Nonce))
	a.stands(before)
	for _, s := range next[1:] {
		stranger.want(200, "POST", verify, s.gives())
	}
	// Who has left is a stranger from now on (T17, T19).
	former := old[3].gives()
	stranger.refused(everyChange(c.Nonce, ""), former, old[3].approves(c.attempt()))
	code, _, text := stranger.ask("POST", ceremonies, merge(kinds()[ceremony.RootToken], former))
	if code != 400 || !strings.Contains(text, "old generation") {
		a.t.Errorf("a start with the share of a former holder: %d %s", code, text)
	}
}

// Promise 2: what holders have signed stands in the transcript, for all to read. It is worth nothing a second time.
func TestPromise2SignaturesOfOthers(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	stranger := a.stranger()
	id := a.want(200, "GET", ceremonies, nil)["data"].(map[string]any)
	people := seatsOf(s.Shares, id["cluster_id"].(string), 1)

	// A start from afar is good once, for what it says, and for a short time.
	start := func(at time.Time, reason string) fields {
		at = at.UTC().Truncate(time.Millisecond)
		b := people[4].signs(ceremony.Start{
			ClusterID: people[4].clusterID, Generation: 1, Kind: ceremony.RootToken, Recipient: "otp", Reason: reason, At: at,
		}.Statement(5))
		return merge(b, fields{"kind": "root-token", "reason": reason, "signed_at": at.Format("2006-01-02T15:04:05.000Z")})
	}
	now := time.Now()
	good := start(now, "the tokens are lost")
	for what, change := range map[string]fields{
		"another reason": {"reason": "something else"}, "another slot": {"slot": 4}, "another kind": {"kind": "drill"},
		"another recipient": {"age_recipients": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
		"another lifetime":  {"ttl": "1h"}, "a token of another lifetime": {"root_token_ttl": "1h"},
		"another time": {"signed_at": now.Add(time.Second).UTC().Format("2006-01-02T15:04:05.000Z")},
	} {
		if code, _, text := stranger.ask("POST", ceremonies, merge(good, change)); code != 400 {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	for _, at := range []time.Duration{-6 * time.Minute, 6 * time.Minute} {
		stranger.want(400, "POST", ceremonies, start(now.Add(at), "the tokens are lost"))
	}
	c := asShown(t, stranger.want(200, "POST", ceremonies, good))
	if c.Initiator.By != ceremony.ByHolder || c.Initiator.Slot != 5 {
		t.Errorf("the initiator: %+v", c.Initiator)
	}
	a.want(204, "DELETE", ceremonies+"/"+c.Nonce, people[4].signs(c.attempt().CancelStatement(5, "signature")))
	stranger.want(400, "POST", ceremonies, good)

	// Approvals and objections.
	c = a.begin(fields{"kind": "root-token"})
	a.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", people[0].approves(c.attempt()))
	stranger.want(200, "POST", ceremonies+"/"+c.Nonce+"/cancel", people[1].signs(c.attempt().CancelStatement(2, "signature")))
	before := a.look(c.Nonce)
	if len(before.Objections) != 1 || before.Progress != 1 {
		t.Fatalf("%+v", before)
	}
	for _, leaf := range a.log() {
		var e transcript.Entry
		if err := json.Unmarshal(leaf, &e); err != nil {
			t.Fatal(err)
		}
		if len(e.Signature) == 0 {
			continue
		}
		again := fields{"slot": e.Slot, "signature": base64.StdEncoding.EncodeToString(e.Signature), "signed_at": now.UTC().Format("2006-01-02T15:04:05.000Z")}
		stranger.ask("POST", ceremonies+"/"+c.Nonce+"/cancel", again) // an objection once more says what it said
		a.stands(before)
		list := everyChange(c.Nonce, "")
		for i, r := range list {
			if strings.HasSuffix(r.path, "/cancel") || r.method == "DELETE" {
				list[i].method, list[i].path = "GET", "sys/metrics"
			}
		}
		stranger.refused(list, again)
		a.stands(before)
		for _, path := range []string{ceremonies + "/" + c.Nonce, attempt} {
			stranger.ask("DELETE", path, again)
			a.stands(before)
		}
	}
}

// Promise 2: strangers who follow a ceremony are let, up to a number, and are in nobody's way.
func TestPromise2WatchFlood(t *testing.T) {
	s := harness.Start(t, harness.Options{OneNode: true})
	a := operator(t, s)
	c := a.begin(fields{"kind": "root-token"})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	codes := map[int]int{}
	watch := func(ctx context.Context) int {
		req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/"+ceremonies+"/"+c.Nonce+"/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "198.51.100.9")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res.StatusCode
	}
	for range 100 {
		codes[watch(ctx)]++
	}
	if codes[200] == 0 || codes[200] > 16 || codes[200]+codes[429] != 100 {
		t.Errorf("a hundred watches of one stranger: %v", codes)
	}
	for i := range 3 {
		c = asShown(t, a.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", fields{"key": s.Hex(i)}))
	}
	if c.EncodedToken == "" {
		t.Errorf("the ceremony under watch: %+v", c)
	}
	leave()
	deadline := time.Now().Add(10 * time.Second)
	for code := 0; code != 200; time.Sleep(20 * time.Millisecond) {
		if code = watch(t.Context()); time.Now().After(deadline) {
			t.Fatal("the watches that ended still take places")
		}
	}
}
