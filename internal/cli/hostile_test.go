package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/transcript"
)

const unexpected = "unexpected answer: is this a Quorate or Vault server?"

// Success is what a server of the family answers to it, and nothing else with a good status.
func TestUnexpectedAnswers(t *testing.T) {
	r := newRig(t)
	r.answers["GET sys/generate-root/attempt"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", r.url+"/v1/sys/generate-root/attempt") // which leads nowhere
		w.WriteHeader(http.StatusFound)
	}
	r.fails(exitServer, []string{unexpected, "it answers 302"}, "operator", "generate-root", "-status")
	for _, body := range []string{"<html>", "{}", `{"data":{}}`, "null"} {
		for endpoint, args := range map[string]string{
			"POST sys/rotate/root":                        "operator rotate -root-key",
			"POST sys/rotate":                             "operator rotate",
			"PUT sys/seal":                                "operator seal",
			"DELETE sys/rekey/backup":                     "operator rekey -backup-delete",
			"DELETE sys/rotate/root/init":                 "operator rotate-keys -cancel",
			"GET sys/rotate/root/init":                    "operator rotate-keys -status",
			"GET sys/ceremonies":                          "ceremony status",
			"DELETE sys/ceremonies/" + nonceA + "/result": "ceremony result -acknowledge " + nonceA,
		} {
			r.on(endpoint, 200, body)
			got := r.fails(exitServer, []string{unexpected}, strings.Fields(args)...)
			want(t, "stdout", got.out, "")
		}
	}
	r.on("PUT sys/seal", 200, nil)
	r.ok("operator", "seal")
	for _, status := range []int{300, 303, 304, 308} {
		r.on("PUT sys/seal", status, nil)
		r.fails(exitServer, []string{unexpected}, "operator", "seal")
	}
	r.on("PUT secret/a", 303, nil) // by the api module
	r.fails(exitServer, []string{unexpected}, "write", "secret/a", "b=c")
}

// Only 204 says that a cancel ended something.
func TestCancelBelievesNothingElse(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	endpoint := "POST sys/ceremonies/" + nonceA + "/cancel"
	q.on(endpoint, 400, `{"errors":["the ceremony is over: complete"]}`)
	got := q.fails(exitServer, []string{"* the ceremony is over: complete"}, "ceremony", "cancel", nonceA)
	if strings.Contains(got.err, "cancelled") {
		t.Errorf("%s", got.err)
	}
	for _, body := range []any{nil, "{}", `{"data":{}}`, `{"data":null}`, "<html>"} {
		for args, endpoint := range map[string]string{
			"ceremony cancel " + nonceA:      endpoint,
			"operator generate-root -cancel": "DELETE " + attemptPath,
			"operator rekey -cancel":         "DELETE sys/rekey/init",
			"operator rotate-keys -cancel":   "DELETE sys/rotate/root/init",
		} {
			q.on(endpoint, 200, body)
			if got := q.run(strings.Fields(args)...); got.code != exitServer || strings.Contains(got.err, "cancelled") {
				t.Errorf("%s, answered with %v: %+v", args, body, got)
			}
		}
	}
}

// What the server says of a verification isn't signed unless its table of holders agrees.
func TestVerifyLies(t *testing.T) {
	for name, c := range map[string]struct {
		nonce, state, want string
	}{
		"no nonce":        {"", genPending, "no well-formed nonce"},
		"a free nonce":    {"anything at all", genPending, "no well-formed nonce"},
		"in force":        {nonceB, genActive, "is active by the table of holders"},
		"replaced":        {nonceB, genFormer, "is former by the table of holders"},
		"no state at all": {nonceB, "", "by the table of holders"},
	} {
		q := newQuorum(t, rootAttempt(func(p *ceremony.Params) {
			p.Kind, p.Recipient, p.Parameters = ceremony.Rekey, "", rekeyParameters(t)
		}))
		q.state, q.proofs = stateVerifying, &ceremonyVerification{Nonce: c.nonce, Generation: 3, Required: 3}
		q.tables = func(table map[string]any) { table["generations"].([]map[string]any)[2]["state"] = c.state }
		q.stdin = bareShare(3, 2)
		q.fails(exitServer, []string{c.want}, "ceremony", "verify", nonceA, "-")
		q.nothingGiven()
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// No text that somebody chose can look like a row: it is quoted, its end is seen, and no line begins with it.
func TestForgedRows(t *testing.T) {
	for _, filler := range []string{"x", "\u00a0", "界", "y ", `"`} {
		text := strings.TrimSpace(strings.Repeat(filler, 120/len(filler)) + " Progress 2/2")
		q := newQuorum(t, rootAttempt(func(p *ceremony.Params) {
			p.Kind, p.Recipient, p.Reason = ceremony.Holders, "", text
			for _, name := range []string{"holder.001", "holder.002", "holder.003"} {
				p.Parameters = append(p.Parameters, ceremony.Parameter{Name: name, Value: text})
			}
		}))
		if ceremony.CheckLine(text) != nil {
			continue
		}
		q.lie = func(i *ceremonyInfo) { i.Approvals = []ceremonyAct{{Slot: 1, Label: text}, {Slot: 2, Label: text}} }
		out := q.ok("ceremony", "status", nonceA).out
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		reason := 0
		for i, line := range lines {
			switch {
			case strings.HasPrefix(line, "Words"), strings.HasPrefix(line, "Digest"): // ours
			case width(line) > 76:
				t.Errorf("%d columns: %s", width(line), line)
			case strings.HasPrefix(line, " ") != strings.HasPrefix(strings.TrimLeft(line, " "), "| "):
				t.Errorf("neither a row nor the rest of one: %s", line)
			}
			if strings.HasPrefix(line, "Reason") {
				reason = i
			}
		}
		for _, line := range lines[reason+1:] {
			if reason == 0 || !strings.HasPrefix(line, " ") {
				t.Errorf("%s comes after the reason in\n%s", line, out)
			}
		}
		if joined := unfolded(out); strings.Count(joined, quotedText(text)) != 6 {
			t.Errorf("%d times in\n%s", strings.Count(joined, quotedText(text)), out)
		}
	}
	want(t, "quoted", quotedText("a\"b\\\x1b"), `"a\"b\\`+"\ufffd\"")
	want(t, "label", foldedLabel(strings.Repeat("z", 80)), strings.Repeat("z", 74)+"\n# | "+strings.Repeat("z", 6))
}

func width(line string) int { return utf8.RuneCountInString(line) + strings.Count(line, "界") }

// unfolded puts the lines of a folded table together again.
func unfolded(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "| "); ok {
			b.WriteString(rest)
		} else {
			b.WriteString("\n" + line)
		}
	}
	return b.String()
}

// A nonce is typed by people, so it has the form of one; nothing else of the server's reaches a terminal raw.
func TestHostileStatus(t *testing.T) {
	s := newRootServer(t)
	for _, nonce := range []string{"\x1b[2Jx", "n", "00000000-0000-4000-8000-00000000000\n", "$(reboot)"} {
		st := map[string]any{"nonce": nonce, "started": true, "required": 2, "pgp_fingerprint": "\x1b[2J"}
		s.tty = &fakeTTY{answers: []string{share(1)}}
		s.on("GET "+attemptPath, 200, st)
		s.on("PUT "+attemptPath, 200, st)
		s.on("GET sys/rekey/init", 200, st)
		for _, args := range [][]string{{"generate-root"}, {"generate-root", "-status"}, {"generate-root", "-init"}, {"rekey"}, {"rekey", "-status"}} {
			got := s.fails(exitServer, []string{"a nonce in its answer does not have the form of one"}, append([]string{"operator"}, args...)...)
			if strings.Contains(got.out+got.err, "\x1b") || len(s.tty.prompts) > 0 {
				t.Errorf("%+v, asked %q", got, s.tty.prompts)
			}
		}
	}
	s.on("GET "+attemptPath, 200, map[string]any{"nonce": nonceA, "started": true, "required": 2, "pgp_fingerprint": "\x1b[2J"})
	s.tty = &fakeTTY{}
	if got := s.run("operator", "generate-root"); strings.Contains(got.out+got.err, "\x1b") {
		t.Errorf("%q", got.err)
	}
}

// JSON and YAML say the same, with nothing in them that a terminal acts on.
func TestEscapedOutput(t *testing.T) {
	r := newRig(t)
	const text = "a\u009b31m\u202eb\u2066\u007f é\u200f"
	r.on("GET secret/a", 200, map[string]any{"data": map[string]any{"k\u009b": text, "plain": "x\u202ey"}})
	for _, format := range []string{"json", "yaml"} {
		out := r.ok("read", "-format="+format, "secret/a").out
		if strings.ContainsFunc(out, acting) || !strings.Contains(out, `\u202eb`) || !strings.Contains(out, `"x\u202ey"`) || !strings.Contains(out, "é") {
			t.Errorf("%q", out)
		}
	}
	var back struct{ Data map[string]string }
	if err := json.Unmarshal([]byte(r.ok("read", "-format=json", "secret/a").out), &back); err != nil || back.Data["k\u009b"] != text {
		t.Errorf("%q, %v", back, err)
	}
}

// What is remembered and can't be read is neither a first contact nor overwritten.
func TestWitnessUnreadable(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	if err := os.MkdirAll(filepath.Join(sightingFile(clusterA), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	got := q.ok("ceremony", "status")
	if strings.Contains(got.err, "first contact") || !strings.Contains(got.err, "warning: the transcript isn't watched: what is remembered of it can't be read") {
		t.Errorf("%s", got.err)
	}
	if st, err := os.Stat(sightingFile(clusterA)); err != nil || !st.IsDir() {
		t.Errorf("%v, %v", st, err)
	}
}

// Two commands at once: the larger checkpoint stays.
func TestWitnessKeepsTheLarger(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.ok("ceremony", "status")
	q.log.add(transcript.Sealed)
	proof := q.answers["GET sys/transcript/proof"]
	var larger string
	q.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, r *http.Request) {
		q.log.add(transcript.Sealed)
		b, _ := json.Marshal(sighting{q.log.signer.VerifierKey(), q.log.checkpoint()})
		larger = string(b)
		if err := os.WriteFile(sightingFile(clusterA), b, 0o600); err != nil {
			t.Error(err)
		}
		proof(w, r)
	}
	q.ok("ceremony", "status")
	want(t, "remembered", remembered(t), larger)
}

// The time in a signature is when it is made: whoever fetches their share first has their time.
func TestSignedWhenTheShareIsThere(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	starts(q)
	var asked time.Time
	q.tty = &fakeTTY{answers: []string{bareShare(2, 1)}, before: func(string) {
		time.Sleep(20 * time.Millisecond)
		asked = time.Now().Truncate(time.Millisecond)
	}}
	q.ok("ceremony", "start", "-holder", "drill")
	var body struct {
		At time.Time `json:"signed_at"`
	}
	if err := json.Unmarshal([]byte(q.given().body), &body); err != nil || body.At.Before(asked) {
		t.Errorf("signed at %v, before the share was there at %v", body.At, asked)
	}
}

func TestStartHints(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	for text, hint := range map[string]string{
		"root generation already in progress: finish it, or cancel it first":             "hint: see it with quorate ceremony status, end it with quorate ceremony cancel",
		"signed_at must be within 5 minutes of the server's clock: sign the start again": "hint: compare this machine's clock",
		"something else": "* something else",
	} {
		b, _ := json.Marshal(map[string]any{"errors": []string{text}})
		q.on("POST sys/ceremonies", 400, string(b))
		q.stdin = bareShare(2, 1)
		got := q.fails(exitServer, []string{hint}, "ceremony", "start", "-holder", "root-token", "-")
		if strings.Contains(got.err, "root-token-ttl") || text == "something else" && strings.Contains(got.err, "hint") {
			t.Errorf("%s", got.err)
		}
	}
	q.on("POST sys/ceremonies/"+nonceA+"/result", 400, `{"errors":["signed_at must be within 5 minutes"]}`)
	q.fails(exitServer, []string{"hint: compare this machine's clock"}, "ceremony", "result", "-holder", nonceA, "-")
}

// What changes something is sent once. Where the answer is lost, it is said how to look.
func TestLostAnswers(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	q := newQuorum(t, rootAttempt(nil))
	t.Setenv("BAO_MAX_RETRIES", "2")
	q.proofs = &ceremonyVerification{Nonce: nonceB, Generation: 3, Required: 3}
	for _, answer := range []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "internal error") },
	} {
		for args, path := range map[string]string{
			"start drill": "", "cancel " + nonceA: "/" + nonceA + "/cancel",
			"approve -digest=" + q.attempt.Digest.Hex() + " " + nonceA + " -": "/" + nonceA + "/approve",
		} {
			q.mu.Lock() // the handler may still run when its connection breaks
			q.seen = nil
			q.answers["POST sys/ceremonies"+path] = answer
			q.mu.Unlock()
			q.stdin = bareShare(2, 1)
			look := "to look: quorate ceremony status"
			if path != "" {
				look += " " + nonceA
			}
			q.fails(exitServer, []string{"hint: it may have happened all the same; " + look}, append([]string{"ceremony"}, strings.Fields(args)...)...)
			sent := 0
			q.mu.Lock()
			for _, r := range q.seen {
				if r.method == "POST" {
					sent++
				}
			}
			q.mu.Unlock()
			if sent != 1 {
				t.Errorf("%s: sent %d times", args, sent)
			}
		}
	}
}

// An approval whose answer was lost counts: giving it again is no failure.
func TestApprovalRecorded(t *testing.T) {
	q := newSignedRoot(t)
	q.attempt.Approvals = []ceremony.Approval{{Slot: 1, Mode: holder.ModeSignature}}
	q.on("POST sys/ceremonies/"+nonceA+"/approve", 400, `{"errors":["given key has already been provided during this generation operation"]}`)
	digest := "-digest=" + q.attempt.Digest.Hex()
	for _, args := range [][]string{{"ceremony", "approve", digest, nonceA, "-"}, {"operator", "generate-root", "-sign", digest, "-nonce=" + nonceA, "-"}} {
		q.stdin = bareShare(2, 1)
		got := q.ok(args...)
		if !strings.Contains(got.err, "your approval is recorded") || !strings.Contains(got.out, "1/2") {
			t.Errorf("%+v", got)
		}
		q.stdin = bareShare(2, 2) // whom the ceremony doesn't know
		got = q.fails(exitServer, []string{"already been provided"}, args...)
		if strings.Contains(got.err, "is recorded") {
			t.Errorf("%s", got.err)
		}
	}
}

// A printed request shows all that belongs in it but secrets.
func TestCurlBodies(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	for args, text := range map[string]string{
		"ceremony start -otp=- root-token":                     `{"kind":"root-token","otp":"<the one-time password>"}`,
		"operator generate-root -init -otp=- -reason=why":      `{"otp":"<the one-time password>","pgp_key":"","reason":"why"}`,
		"operator generate-root -init -holder -otp=-":          `{"key":"<the share>","otp":"<the one-time password>","pgp_key":""}`,
		"ceremony start -holder -reason=why drill":             `{"slot":<slot>,"signature":"<signature>","kind":"drill","reason":"why","signed_at":"<the time of signing>"}`,
		"ceremony start -holder -send-share -otp=- root-token": `{"key":"<the share>","kind":"root-token","otp":"<the one-time password>"}`,
		"ceremony result -holder " + nonceA:                    `{"slot":<slot>,"signature":"<signature>","signed_at":"<the time of signing>"}`,
		"ceremony approve " + nonceA:                           `{"slot":<slot>,"signature":"<signature>"}`,
	} {
		q.stdin = serverOTP
		words := strings.Fields(args)
		got := q.ok(append([]string{words[0], words[1], "-output-curl-string"}, words[2:]...)...)
		if !strings.Contains(got.out, "-d '@-'") || strings.Contains(got.out+got.err, serverOTP) || !strings.Contains(got.err, "give curl this on its standard input: "+text+"\n") {
			t.Errorf("%s: %s%s", args, got.out, got.err)
		}
	}
	if len(q.seen) > 0 {
		t.Errorf("asked %v", q.seen)
	}
}

// A nonce with a typing error is no share.
func TestMistypedNonce(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	for _, nonce := range []string{nonceA[:35] + "g", strings.ToUpper(clusterA[:35]) + "X"} {
		got := q.fails(exitLocal, []string{"that is no nonce"}, "ceremony", "status", nonce)
		if strings.Contains(got.err, "command line") {
			t.Errorf("%s", got.err)
		}
	}
	upper := "ABCDEFAB-CDEF-4ABC-8DEF-ABCDEFABCDEF"
	q.fails(exitServer, nil, "ceremony", "status", upper)
	want(t, "path", q.last().path, "/v1/sys/ceremonies/"+strings.ToLower(upper))
}

// Help says all of what it begins to say.
func TestGroupHelp(t *testing.T) {
	a := &app{}
	for _, c := range a.root().Commands {
		for _, sub := range append(c.Commands, c) {
			if first, _, _ := strings.Cut(sub.Help, "\n"); !strings.HasSuffix(first, ".") && !strings.HasSuffix(first, "@.") {
				t.Errorf("%s: %s", sub.Name, first)
			}
		}
	}
	r := newRig(t)
	for args, text := range map[string]string{
		"operator init":        "without it, the server's root_token_ttl applies",
		"operator rotate-keys": "need a local connection, a token that may, or a key share",
	} {
		if got := r.ok(append([]string{"help"}, strings.Fields(args)...)...); !strings.Contains(got.out, text) || strings.Contains(got.out, "Everything needs a token") {
			t.Errorf("%s", got.out)
		}
	}
}

// Whoever has sent a credential isn't told that none was sent.
func TestContradictionAfterSending(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.answers["POST sys/ceremonies/"+nonceA+"/approve"] = func(w http.ResponseWriter, _ *http.Request) {
		info := q.info()
		info.Nonce = nonceB
		reply(w, 200, map[string]any{"data": info})
	}
	q.stdin = bareShare(2, 1)
	got := q.fails(exitServer, []string{"hint: ask whoever started it"}, "ceremony", "approve", "-words="+q.words(), nonceA, "-")
	if strings.Contains(got.err, "nothing was signed") {
		t.Errorf("%s", got.err)
	}
}
