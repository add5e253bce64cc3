package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/transcript"
)

// starts makes the server begin what it is asked for, as the node does, and checks a signature over it.
func starts(q *quorum) {
	q.answers["POST sys/ceremonies"] = func(w http.ResponseWriter, r *http.Request) {
		var s ceremony.Start
		slot, body := credentialOf(q.t, r, 2, func(slot int) holder.Statement { return s.Statement(slot) })
		text, _ := body["reason"].(string)
		s = ceremony.Start{ClusterID: clusterA, Generation: 2, Kind: ceremony.Kind(body["kind"].(string)), Reason: text}
		if ttl, ok := body["ttl"].(float64); ok {
			s.TTL = time.Duration(ttl) * time.Second
		}
		s.At, _ = time.Parse(time.RFC3339, fmt.Sprint(body["signed_at"]))
		s.Parameters, s.Recipient = asked(q, body)
		if body["signature"] != nil {
			raw, _ := json.Marshal(body)
			r.Body = http.MaxBytesReader(w, readCloser(string(raw)), 1<<20)
			if slot, _ = credentialOf(q.t, r, 2, func(slot int) holder.Statement { return s.Statement(slot) }); slot == 0 {
				refuse(w, 400, "the signature is not valid for this start")
				return
			}
		}
		by := ceremony.Initiator{By: ceremony.ByLocal, Connection: true}
		if slot > 0 {
			by = ceremony.Initiator{By: ceremony.ByHolder, Slot: slot}
		}
		recipient := s.Recipient
		if recipient == "otp" {
			recipient, q.otp = "otp:hmac:"+strings.Repeat("cd", 32), serverOTP
		}
		q.attempt = ceremony.New(ceremony.Params{
			Nonce: nonceA, Kind: s.Kind, ClusterID: clusterA, Generation: 2, Threshold: 2, Holders: 3, Parameters: s.Parameters,
			Recipient: recipient, Reason: s.Reason, Initiator: by, TTL: s.TTL, Now: time.Now(),
		})
		q.start(w, r)
	}
}

// asked is what of a body enters the digest.
func asked(q *quorum, body map[string]any) (list []ceremony.Parameter, recipient string) {
	add := func(name string, v any) { list = append(list, ceremony.Parameter{Name: name, Value: fmt.Sprint(v)}) }
	texts := func(name string) (list []string) {
		values, _ := body[name].([]any)
		for _, v := range values {
			list = append(list, v.(string))
		}
		return list
	}
	for i, label := range texts("holders") {
		add(fmt.Sprintf("holder.%03d", i+1), label)
	}
	switch body["kind"] {
	case "root-token":
		recipient = "otp"
		if key, ok := body["age_recipients"].(string); ok {
			q.key, recipient = key, ageRecipientName(q.t, key)
		}
		if ttl := body["root_token_ttl"]; ttl != nil {
			add("root_token_ttl", ttl)
		}
	case "rekey", "rotate-root":
		for _, name := range rekeyFacts {
			add(name, body[name])
		}
		q.keys = texts("age_recipients")
		for i, key := range q.keys {
			add(fmt.Sprintf("recipient.%03d", i+1), ageRecipientName(q.t, key))
		}
	}
	return list, recipient
}

type stringCloser struct{ *strings.Reader }

func (stringCloser) Close() error { return nil }

func readCloser(s string) stringCloser { return stringCloser{strings.NewReader(s)} }

// Every kind starts, over a local connection and by signature; the words are those of the attempt.
func TestCeremonyStart(t *testing.T) {
	for _, args := range []string{
		"root-token", "root-token -root-token-ttl=1h -reason=lost -ttl=2h", "root-token -age-recipients=" + ageKeyOne,
		"drill", "holders -holders=ann,bob,cy", "rekey", "rotate-root -verify=threshold -backup",
		"rekey -key-shares=2 -key-threshold=2 -age-recipients=" + ageKeyOne + "," + ageKey(t) + " -holders=ann,bob -rotate",
		"rekey -no-verification",
	} {
		for _, holder := range []bool{false, true} {
			q := newQuorum(t, rootAttempt(nil))
			starts(q)
			words := strings.Fields(args)
			line := append([]string{"ceremony", "start"}, append(words[1:], words[0])...)
			if holder {
				q.stdin = bareShare(2, 1)
				line = append(append([]string{"ceremony", "start", "-holder"}, words[1:]...), words[0], "-")
			}
			got := q.ok(line...)
			q.noShare(got.out, got.err)
			if !strings.Contains(got.out, q.words()) || !strings.Contains(got.err, "holders approve with: quorate ceremony approve "+nonceA) {
				t.Errorf("%s:\n%s%s", args, got.out, got.err)
			}
			if otp := strings.HasPrefix(args, "root-token") && !strings.Contains(args, "age"); otp != (strings.Count(got.out, serverOTP) == 1) || strings.Contains(got.err, serverOTP) {
				t.Errorf("%s: the OTP in\n%s%s", args, got.out, got.err)
			}
			if by := q.attempt.Initiator.By; (by == ceremony.ByHolder) != holder {
				t.Errorf("%s: started by %s", args, by)
			}
		}
	}
}

// What the server made of a start is held against what was asked for.
func TestCeremonyStartedSomethingElse(t *testing.T) {
	for name, lie := range map[string]func(*quorum, *ceremonyInfo){
		"another kind":   func(q *quorum, _ *ceremonyInfo) { q.attempt = rootAttempt(nil) },
		"another reason": func(q *quorum, _ *ceremonyInfo) { q.attempt = drill(func(p *ceremony.Params) { p.Reason = "x" }) },
	} {
		q := newQuorum(t, drill(nil))
		lie(q, nil)
		q.fails(exitServer, []string{"something else than was asked for", "hint: let nobody approve it: quorate ceremony cancel " + nonceA}, "ceremony", "start", "drill")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	q := newQuorum(t, drill(nil))
	q.lie = func(i *ceremonyInfo) { i.Digest = strings.Repeat("0", 64) }
	q.fails(exitServer, []string{"the digest is"}, "ceremony", "start", "drill")
}

func drill(change func(*ceremony.Params)) *ceremony.Attempt {
	return rootAttempt(func(p *ceremony.Params) {
		p.Kind, p.Recipient, p.Reason = ceremony.Drill, "", ""
		if change != nil {
			change(p)
		}
	})
}

func TestCeremonyStartRefusals(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	for args, text := range map[string]string{
		"":                          "which kind of ceremony",
		"burn":                      "a ceremony is one of",
		"drill x":                   "does not belong on the command line",
		"drill -":                   "standard input is for one thing",
		"root-token -otp=secret":    "other users can read an argument",
		"root-token -otp=- -holder": "can't be in a start by signature",
		"root-token -otp=- -holder -send-share -": "standard input is for one thing",
		"drill -otp=-":                                   "for root-token alone",
		"drill -root-token-ttl=1h":                       "for root-token alone",
		"drill -age-recipients=" + ageKeyOne:             "a recipient is for",
		"drill -holders=a":                               "-holders is for",
		"holders":                                        "needed for holders",
		"root-token -rotate":                             "for rekey and rotate-root",
		"rekey -verify=some":                             "-verify is all or threshold",
		"rekey -verify=all -no-verification":             "-verify is all or threshold",
		"root-token -otp=- -age-recipients=" + ageKeyOne: "one kind of recipient",
		"drill -ttl=1500ms":                              "whole seconds",
		"drill -ttl=-1s":                                 "whole seconds",
		"drill -reason=a\x01b":                           "the reason:",
		"rekey -age-recipients=" + ageKeyOne:             "there are 3 new shares",
		"rekey -holders=a,b -key-shares=3":               "there are 3 new shares",
		"root-token -age-recipients=age1x":               "invalid value",
		"root-token -age-recipients=/nonexistent":        "no such file",
	} {
		words := strings.Fields(args)
		line := []string{"ceremony", "start"}
		if len(words) > 0 {
			rest := []string{words[0]}
			for _, w := range words[1:] {
				if w == "-" || w[0] != '-' {
					rest = append(rest, w)
				} else {
					line = append(line, w)
				}
			}
			line = append(line, rest...)
		}
		q.fails(exitLocal, []string{text}, line...)
	}
	q.nothingGiven()
	q.answers["POST sys/ceremonies"] = nil
	q.fails(exitServer, []string{"error starting the ceremony:", "hint: a key holder can do this from anywhere and without a token: add -holder"}, "ceremony", "start", "drill")
	q.stdin = bareShare(1, 1)
	q.fails(exitLocal, []string{"of generation 1 (retiring)"}, "ceremony", "start", "-holder", "drill", "-")
}

func TestCeremonyStartOwnOTP(t *testing.T) {
	q := newQuorum(t, rootAttempt(func(p *ceremony.Params) { p.Reason = "" }))
	q.stdin = serverOTP + "\n"
	got := q.ok("ceremony", "start", "-otp=-", "root-token")
	wantBody(t, q.given(), `{"kind":"root-token","otp":"`+serverOTP+`"}`)
	if strings.Contains(got.out+got.err, serverOTP) {
		t.Error("our own OTP comes back")
	}
	q.stdin = ""
	q.fails(exitLocal, []string{"reading the OTP"}, "ceremony", "start", "-otp=-", "root-token")
	q.otp, q.stdout = serverOTP, full(t)
	q.fails(exitLocal, []string{notWritten, "its OTP is lost"}, "ceremony", "start", "root-token")
}

func TestCeremonyResult(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	endpoint := "sys/ceremonies/" + nonceA + "/result"
	encoded := xor(newToken, serverOTP)
	result := `{"data":{"kind":"root-token","nonce":"` + nonceA + `","encoded_token":"` + encoded + `","recipients":["otp:hmac:ab"],"expires":"2030-01-02T03:04:05.000Z"}}`
	q.on("GET "+endpoint, 200, result)
	want(t, "result", q.ok("ceremony", "result", nonceA).out, "Nonce            "+nonceA+"\nKind             root-token\nEncoded Token    "+encoded+"\nKept Until       2030-01-02T03:04:05.000Z\n")
	q.stdin = serverOTP
	want(t, "decoded", q.ok("ceremony", "result", "-decode", "-otp=-", nonceA).out, newToken)
	q.tty = &fakeTTY{answers: []string{serverOTP}}
	want(t, "OTP asked for", q.ok("ceremony", "result", "-decode", nonceA).out, newToken)
	q.answers["POST "+endpoint] = func(w http.ResponseWriter, r *http.Request) {
		_, body := credentialOf(t, r, 2, func(int) holder.Statement { return holder.Statement{} })
		at, _ := body["signed_at"].(string)
		raw, _ := json.Marshal(body)
		r.Body = readCloser(string(raw))
		slot, _ := credentialOf(t, r, 2, func(slot int) holder.Statement {
			signed, _ := time.Parse(time.RFC3339, at)
			return ceremony.ResultStatement(clusterA, 2, slot, holder.ModeSignature, nonceA, signed)
		})
		if slot != 2 {
			refuse(w, 403, "permission denied")
			return
		}
		reply(w, 200, result)
	}
	q.stdin = armouredShare(t, 2, nil)
	got := q.ok("ceremony", "result", "-holder", nonceA, "-")
	if !strings.Contains(got.out, encoded) {
		t.Errorf("%s", got.out)
	}
	q.noShare(got.out, got.err)
	for _, args := range [][]string{{}, {"-otp=x", "-decode", nonceA}, {"-otp=-", nonceA}, {nonceA, "-"}, {"-acknowledge", "-decode", nonceA}} {
		q.fails(exitLocal, nil, append([]string{"ceremony", "result"}, args...)...)
	}
	q.on("GET "+endpoint, 403, `{"errors":["the result of a ceremony is for those who could start it"]}`)
	q.fails(exitServer, []string{"hint: a key holder can do this"}, "ceremony", "result", nonceA)
	q.on("GET "+endpoint, 200, `{"data":{"kind":"rekey","nonce":"`+nonceA+`","keys_base64":["YQ==","Yg=="],"recipients":["age:aa","age:bb"]}}`)
	if got := q.ok("ceremony", "result", nonceA); !strings.Contains(got.out, "Key 2 for    age:bb\nKey 2        Yg==\n") {
		t.Errorf("%s", got.out)
	}
	q.fails(exitLocal, []string{"no token to decode"}, "ceremony", "result", "-decode", nonceA)
	q.on("GET "+endpoint, 200, strings.Replace(result, nonceA, nonceB, 1))
	got = q.fails(exitServer, []string{"asked for the result of " + nonceA + ", it answers with that of " + nonceB}, "ceremony", "result", nonceA)
	want(t, "another's result", got.out, "")
}

// Whoever may have a result may have it destroyed: a token, or a holder who signs exactly that.
func TestCeremonyAcknowledge(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	endpoint := "sys/ceremonies/" + nonceA + "/result"
	q.on("DELETE "+endpoint, 204, nil)
	q.ok("ceremony", "result", "-acknowledge", nonceA)
	want(t, "method", q.given().method, "DELETE")
	want(t, "body", q.given().body, "")
	q.answers["DELETE "+endpoint] = func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body struct {
			At time.Time `json:"signed_at"`
		}
		json.Unmarshal(raw, &body)
		r.Body = readCloser(string(raw))
		slot, _ := credentialOf(t, r, 2, func(slot int) holder.Statement {
			return ceremony.AcknowledgeStatement(clusterA, 2, slot, holder.ModeSignature, nonceA, body.At)
		})
		if slot != 2 {
			refuse(w, 403, "permission denied")
			return
		}
		reply(w, 204, nil)
	}
	q.stdin = bareShare(2, 2)
	got := q.ok("ceremony", "result", "-acknowledge", "-holder", nonceA, "-")
	q.noShare(got.out, got.err)
	if !strings.Contains(got.err, "the result of "+nonceA+" is destroyed") {
		t.Errorf("%s", got.err)
	}
}

// The holder of a new share proves it, over the verification's own nonce and generation.
func TestCeremonyVerify(t *testing.T) {
	rekey := func(p *ceremony.Params) {
		p.Kind, p.Recipient, p.Parameters = ceremony.Rekey, "", rekeyParameters(t)
	}
	newVerifying := func() *quorum {
		q := newQuorum(t, rootAttempt(rekey))
		q.state = stateVerifying
		q.proofs = &ceremonyVerification{Nonce: nonceB, Generation: 3, Required: 3}
		q.answers["POST sys/ceremonies/"+nonceA+"/verify"] = func(w http.ResponseWriter, r *http.Request) {
			slot, _ := credentialOf(t, r, 3, func(slot int) holder.Statement {
				return ceremony.ProveStatement(clusterA, 3, slot, holder.ModeSignature, nonceB)
			})
			if slot == 0 {
				refuse(w, 400, "the proof is not valid")
				return
			}
			q.proofs.Proofs, q.proofs.Progress = append(q.proofs.Proofs, ceremonyAct{Slot: slot}), 1
			reply(w, 200, map[string]any{"data": q.info()})
		}
		return q
	}
	q := newVerifying()
	q.stdin = bareShare(3, 2)
	got := q.ok("ceremony", "verify", nonceA, "-")
	q.noShare(got.out, got.err)
	if len(q.proofs.Proofs) != 1 || !strings.Contains(got.out, "1/3") {
		t.Errorf("%s", got.out)
	}
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(3, 1)}}
	q.ok("ceremony", "verify")
	if len(q.proofs.Proofs) != 2 {
		t.Errorf("%v", q.proofs)
	}
	for name, c := range map[string]struct {
		lie   func(*ceremonyInfo)
		share string
		code  int
		want  string
	}{
		"the old share":     {nil, bareShare(2, 1), exitLocal, "of generation 2 (active), and generation 3 is needed"},
		"old armour":        {nil, armouredShare(t, 1, nil), exitLocal, "of generation 2, and generation 3 is needed"},
		"not verifying":     {func(i *ceremonyInfo) { i.State = stateOpen }, "", exitLocal, "is not verifying but open"},
		"no verification":   {func(i *ceremonyInfo) { i.Verification = nil }, "", exitServer, "doesn't tell of which generation"},
		"an old generation": {func(i *ceremonyInfo) { i.Verification.Generation = 2 }, "", exitServer, "doesn't tell of which generation"},
		"another digest":    {func(i *ceremonyInfo) { i.Digest = "00" }, "", exitServer, "the digest is"},
	} {
		q := newVerifying()
		q.lie, q.stdin = c.lie, c.share
		q.fails(c.code, []string{c.want}, "ceremony", "verify", nonceA, "-")
		q.nothingGiven()
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// A holder's cancel is signed; one that only counts as an objection is shown, and is no success.
func TestCeremonyCancel(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	endpoint := "POST sys/ceremonies/" + nonceA + "/cancel"
	q.answers[endpoint] = func(w http.ResponseWriter, r *http.Request) {
		slot, body := credentialOf(t, r, 2, func(slot int) holder.Statement { return q.attempt.CancelStatement(slot, holder.ModeSignature) })
		switch {
		case slot == 0 && len(body) > 0:
			refuse(w, 400, "not valid")
		case slot == 1:
			info := q.info()
			info.Objections = []ceremonyAct{{Slot: 1}}
			reply(w, 200, map[string]any{"data": info, "warnings": []string{"your objection is recorded"}})
		default:
			reply(w, 204, nil)
		}
	}
	if got := q.ok("ceremony", "cancel", nonceA); got.out != "" || !strings.Contains(got.err, "is cancelled") {
		t.Errorf("%+v", got)
	}
	q.stdin = bareShare(2, 3)
	got := q.ok("ceremony", "cancel", "-holder", nonceA, "-")
	q.noShare(got.out, got.err)
	q.stdin = bareShare(2, 1)
	got = q.fails(exitServer, []string{"warning: your objection is recorded"}, "ceremony", "cancel", "-holder", nonceA, "-")
	if !strings.Contains(got.out, "Objections By") {
		t.Errorf("%s", got.out)
	}
	q.stdin = bareShare(2, 3)
	q.ok("ceremony", "cancel", "-holder", "-send-share", nonceA, "-")
	wantBody(t, q.given(), `{"key":"`+bareShare(2, 3)+`"}`)
	q.fails(exitLocal, []string{"is for -holder"}, "ceremony", "cancel", nonceA, "-")
	q.state = "expired"
	q.fails(exitServer, []string{"the ceremony is over: expired"}, "ceremony", "cancel", "-holder", nonceA, "-")
	q.answers[endpoint] = nil
	q.fails(exitServer, []string{"hint: a key holder can do this"}, "ceremony", "cancel", nonceA)
}

// One line a change, over connections that break, until it ends.
func TestCeremonyWatch(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	connections := 0
	event := func(w http.ResponseWriter, name string, data any) {
		b, _ := json.Marshal(data)
		fmt.Fprintf(w, ": a sign of life\nevent: %s\ndata: %s\n\n", name, b)
	}
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if connections++; connections == 1 {
			event(w, "ceremony", q.info())
			return
		}
		event(w, "ceremony", q.info()) // the same again
		q.attempt.Approvals = []ceremony.Approval{{Slot: 2}}
		event(w, "ceremony", q.info())
		q.state = stateComplete
		event(w, "ceremony", q.info())
		event(w, "end", map[string]string{"state": "complete"})
	}
	got := q.ok("ceremony", "watch", nonceA)
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if len(lines) != 3 || !strings.HasSuffix(lines[0], "root-token "+nonceA+": open, 0 of 2 approvals") ||
		!strings.HasSuffix(lines[1], "open, 1 of 2 approvals (holders 2 (\"holder2\"))") || !strings.Contains(lines[2], "complete") {
		t.Errorf("%s", got.out)
	}
	if connections != 2 || !strings.Contains(got.err, "the connection is lost, another try in 1s") {
		t.Errorf("%d connections, %s", connections, got.err)
	}
	if !strings.Contains(got.err, "words: "+q.words()) {
		t.Errorf("%s", got.err)
	}
	got = q.ok("ceremony", "watch", "-format=json", nonceA)
	if !strings.Contains(got.out, `"words":["`+q.attempt.Digest.Words()[0]) {
		t.Errorf("%s", got.out)
	}
	if first, _, _ := strings.Cut(got.out, "\n"); !json.Valid([]byte(first)) {
		t.Errorf("%s", got.out)
	}
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) {
		event(w, "end", map[string]string{"reason": "the server is sealed"})
	}
	q.fails(exitServer, []string{"the server is sealed"}, "ceremony", "watch", nonceA)
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) {
		info := q.info()
		info.Nonce = nonceB
		event(w, "ceremony", info)
	}
	q.fails(exitServer, []string{"asked for ceremony " + nonceA}, "ceremony", "watch", nonceA)
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: x\n\n") }
	q.fails(exitServer, []string{"an event is not a ceremony"}, "ceremony", "watch", nonceA)
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "no ceremony has this nonce") }
	q.fails(exitServer, []string{"error watching the ceremony:", "no ceremony has this nonce"}, "ceremony", "watch", nonceA)
}

// A watch goes on over a network that fails in between, and ends with the ceremony: what yields nothing is no success.
func TestCeremonyWatchEnds(t *testing.T) {
	q := newQuorum(t, rootAttempt(func(p *ceremony.Params) {
		p.Kind, p.Recipient, p.Parameters = ceremony.Rekey, "", rekeyParameters(t, ageKeyOne, ageKeyOne)
	}))
	q.keys = []string{ageKeyOne, ageKeyOne}
	connections, proofs := 0, 0
	proof := q.answers["GET sys/transcript/proof"]
	q.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, r *http.Request) {
		if proofs++; connections == 1 {
			panic(http.ErrAbortHandler)
		}
		proof(w, r)
	}
	state := ""
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) {
		if connections++; connections == 1 {
			q.log.add(transcript.Approve)
		}
		info := q.info()
		info.RecipientKeys = nil // as the server does
		b, _ := json.Marshal(info)
		fmt.Fprintf(w, "event: ceremony\ndata: %s\n\nevent: end\ndata: {\"state\":%q}\n\n", b, state)
	}
	for _, state = range []string{"cancelled", "expired", ""} {
		got := q.fails(exitServer, []string{"it ended without a result: " + state, "words: " + q.words()}, "ceremony", "watch", "-format=json", nonceA)
		if !strings.Contains(got.out, `"words":["`+q.attempt.Digest.Words()[0]) {
			t.Errorf("%s", got.out)
		}
	}
	if connections != 4 || proofs < 2 {
		t.Errorf("%d connections, %d proofs", connections, proofs)
	}
	t.Setenv("BAO_MAX_RETRIES", "2")
	connections = 0
	q.answers["GET sys/ceremonies/"+nonceA+"/watch"] = func(w http.ResponseWriter, _ *http.Request) {
		connections++
		refuse(w, 429, "too many watch")
	}
	q.fails(exitServer, []string{"Code: 429", "* too many watch", "hint: too many are watching"}, "ceremony", "watch", nonceA)
	if connections != 1 {
		t.Errorf("asked %d times", connections)
	}
}
