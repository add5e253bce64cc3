package cli

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/holder"
)

// The share never leaves this machine: what is shown is confirmed, and a signature of it is sent.
func TestCeremonyApproveBySignature(t *testing.T) {
	for name, text := range map[string]string{"bare": bareShare(2, 1), "armoured": armouredShare(t, 1, nil)} {
		q := newQuorum(t, rootAttempt(nil))
		q.tty = &fakeTTY{answers: []string{"yes", text}}
		got := q.ok("ceremony", "approve", nonceA)
		q.noShare(got.out, got.err, strings.Join(q.tty.shown, "\n"))
		if len(q.attempt.Approvals) != 1 || q.attempt.Approvals[0].Slot != 1 || q.attempt.Approvals[0].Mode != holder.ModeSignature {
			t.Errorf("%s: approvals %v", name, q.attempt.Approvals)
		}
		for _, fact := range []string{q.words(), "all tokens are lost", "one-time password", "the holder of slot 3", clusterA, timeText(q.attempt.Expires)} {
			if !strings.Contains(strings.Join(q.tty.shown, "\n"), fact) {
				t.Errorf("%s: %q was not shown in\n%s", name, fact, q.tty.shown)
			}
		}
		if !strings.Contains(got.out, "Progress            1/2\n") && !strings.Contains(got.out, "1/2") {
			t.Errorf("%s", got.out)
		}
	}
}

// Without a terminal, the words or the digest confirm.
func TestCeremonyApproveFromStandardInput(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.stdin = bareShare(2, 1) + "\n"
	q.fails(exitLocal, []string{"not a terminal", "hint: to confirm without a terminal: -words"}, "ceremony", "approve", nonceA, "-")
	q.fails(exitLocal, []string{"another ceremony than you mean", "what is shown has the words " + q.words()}, "ceremony", "approve", "-words=zzyzx zzyzx", nonceA, "-")
	q.fails(exitLocal, []string{"another ceremony than you mean", q.attempt.Digest.Hex()}, "ceremony", "approve", "-digest="+strings.Repeat("0", 64), nonceA, "-")
	q.nothingGiven()
	q.ok("ceremony", "approve", "-words="+strings.ToUpper(q.words()), nonceA, "-")
	q.stdin = armouredShare(t, 2, nil)
	got := q.ok("ceremony", "approve", "-digest="+q.attempt.Digest.Hex(), "-format=json", nonceA, "-")
	q.noShare(got.out, got.err)
	if len(q.attempt.Approvals) != 2 || !strings.Contains(got.out, `"state": "complete"`) {
		t.Errorf("%s", got.out)
	}
}

func TestCeremonyApproveNotConfirmed(t *testing.T) {
	for _, answer := range []string{"no", "", "y", "^C", "^D", bareShare(2, 1)} {
		q := newQuorum(t, rootAttempt(nil))
		q.tty = &fakeTTY{answers: []string{answer, bareShare(2, 1)}}
		got := q.fails(exitLocal, nil, "ceremony", "approve", nonceA)
		q.nothingGiven()
		q.noShare(got.out, got.err)
		if len(q.tty.prompts) != 1 {
			t.Errorf("%q: went on to %q", answer, q.tty.prompts)
		}
	}
}

// A share that is sent is checked first as well.
func TestCeremonyApproveSendsShare(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 2)}}
	q.ok("ceremony", "approve", "-send-share", nonceA)
	wantBody(t, q.given(), `{"key":"`+bareShare(2, 2)+`"}`)
	q = newQuorum(t, rootAttempt(nil))
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(1, 2)}}
	q.fails(exitLocal, []string{"of generation 1 (retiring), and generation 2 is needed"}, "ceremony", "approve", "-send-share", nonceA)
	q.nothingGiven()
}

// A server that lies about what is approved gets neither a signature nor a share, whatever it lies about.
func TestCeremonyLies(t *testing.T) {
	otherKey := ageKey(t)
	rekey := func(p *ceremony.Params) {
		p.Kind, p.Recipient = ceremony.Rekey, ""
		p.Parameters = rekeyParameters(t, ageKeyOne, ageKeyOne)
	}
	for name, c := range map[string]struct {
		change func(*ceremony.Params)
		key    string
		keys   []string
		lie    func(*ceremonyInfo)
		want   string
	}{
		"another digest":      {lie: func(i *ceremonyInfo) { i.Digest = strings.Repeat("0", 64) }, want: "but the server says 0000"},
		"no digest":           {lie: func(i *ceremonyInfo) { i.Digest = "" }, want: "the digest is"},
		"another reason":      {lie: func(i *ceremonyInfo) { i.Reason = "a drill" }, want: "the digest is"},
		"another initiator":   {lie: func(i *ceremonyInfo) { i.Initiator.Slot = 1 }, want: "the digest is"},
		"another expiry":      {lie: func(i *ceremonyInfo) { i.Expires = i.Expires.Add(time.Hour) }, want: "the digest is"},
		"another kind":        {lie: func(i *ceremonyInfo) { i.Kind, i.Recipient = ceremony.Drill, "" }, want: "the digest is"},
		"another threshold":   {lie: func(i *ceremonyInfo) { i.Threshold = 1 }, want: "the digest is"},
		"another nonce":       {lie: func(i *ceremonyInfo) { i.Nonce = nonceB }, want: "asked for ceremony " + nonceA},
		"another cluster":     {lie: func(i *ceremonyInfo) { i.ClusterID = clusterB }, want: "answers with " + nonceA + " of " + clusterB},
		"an unknown kind":     {lie: func(i *ceremonyInfo) { i.Kind = "burn" }, want: "kind of the ceremony is not known"},
		"an unknown starter":  {lie: func(i *ceremonyInfo) { i.Initiator.By = "god" }, want: "who started"},
		"a reason in lines":   {lie: func(i *ceremonyInfo) { i.Reason = "a\nb" }, want: "not one printable line"},
		"a hidden reason":     {lie: func(i *ceremonyInfo) { i.Reason = "a\u202eb" }, want: "not one printable line"},
		"a bad threshold":     {lie: func(i *ceremonyInfo) { i.Threshold = 4 }, want: "can't have 3 holders of whom 4"},
		"no time":             {lie: func(i *ceremonyInfo) { i.Expires = i.Started }, want: "ends before it began"},
		"unknown parameter":   {change: func(p *ceremony.Params) { p.Parameters = []ceremony.Parameter{{Name: "policy", Value: "all"}} }, want: "parameter policy is not known"},
		"a drill that yields": {change: func(p *ceremony.Params) { p.Kind = ceremony.Drill }, want: "has no recipient, but the server names one"},
		"bad lifetime":        {change: func(p *ceremony.Params) { p.Parameters = []ceremony.Parameter{{Name: "root_token_ttl", Value: "0x10"}} }, want: "can't be as it is"},
		"unknown recipient":   {change: func(p *ceremony.Params) { p.Recipient = "mail:x" }, want: "form is not known"},
		"an OTP with a key":   {key: ageKeyOne, want: "form is not known"},
		"another key":         {change: func(p *ceremony.Params) { p.Recipient = ageRecipientName(t, ageKeyOne) }, key: otherKey, want: "by its key it is age:"},
		"a key that is none":  {change: func(p *ceremony.Params) { p.Recipient = ageRecipientName(t, ageKeyOne) }, key: "age1", want: "key can't be read"},
		"no key":              {change: func(p *ceremony.Params) { p.Recipient = ageRecipientName(t, ageKeyOne) }, want: "key can't be read"},
		"a share's other key": {change: rekey, keys: []string{ageKeyOne, otherKey}, want: "the recipient of share 2: by its key"},
		"a share's no key":    {change: rekey, keys: []string{ageKeyOne}, want: "the recipients of 2, and the keys of 1"},
		"no keys":             {change: rekey, want: "the keys of 0"},
		"more keys":           {change: rekey, keys: []string{ageKeyOne, ageKeyOne, otherKey}, want: "the keys of 3"},
		"out of order":        {change: rekey, keys: []string{ageKeyOne, ageKeyOne}, lie: func(i *ceremonyInfo) { i.Parameters = slices.Clone(i.Parameters); slices.Reverse(i.Parameters) }, want: "not in order"},
		"a fact is missing":   {change: rekey, keys: []string{ageKeyOne, ageKeyOne}, lie: func(i *ceremonyInfo) { i.Parameters = i.Parameters[1:] }, want: "parameter backup is missing"},
		"a recipient more": {
			change: func(p *ceremony.Params) {
				rekey(p)
				p.Parameters = append(p.Parameters, ceremony.Parameter{Name: "recipient.003", Value: "x"})
			},
			keys: []string{ageKeyOne, ageKeyOne}, want: "parameter recipient.003 is not known",
		},
		"a label less": {
			change: func(p *ceremony.Params) {
				rekey(p)
				p.Parameters = append(p.Parameters, ceremony.Parameter{Name: "holder.001", Value: "x"})
			},
			keys: []string{ageKeyOne, ageKeyOne}, want: "1 of 2 holders have a label",
		},
		"words of its own": {lie: func(i *ceremonyInfo) { i.Words, i.Digest = []string{"zzyzx"}, "" }, want: "the digest is"},
	} {
		q := newQuorum(t, rootAttempt(c.change))
		q.lie, q.key, q.keys = c.lie, c.key, c.keys
		for _, args := range [][]string{{"ceremony", "approve", nonceA}, {"ceremony", "cancel", "-holder", nonceA}} {
			q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
			got := q.fails(exitServer, []string{c.want, "nothing was signed and no share was sent"}, args...)
			q.nothingGiven()
			if len(q.tty.prompts) > 0 || strings.Contains(got.out+got.err+strings.Join(q.tty.shown, ""), "zzyzx") {
				t.Errorf("%s: asked %q, said %s", name, q.tty.prompts, got.err)
			}
		}
	}
}

// Words that a server sends are shown nowhere: ours are.
func TestCeremonyWordsAreOurs(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.lie = func(i *ceremonyInfo) { i.Words = []string{"zzyzx", "zzyzx"} }
	for _, format := range []string{"table", "json"} {
		got := q.ok("ceremony", "status", "-format="+format, nonceA)
		if strings.Contains(got.out, "zzyzx") || !strings.Contains(got.out, q.attempt.Digest.Words()[0]) {
			t.Errorf("%s", got.out)
		}
	}
}

// What changed between looking and signing isn't signed, and both are named.
func TestCeremonyChangedBeforeSigning(t *testing.T) {
	other := rootAttempt(func(p *ceremony.Params) { p.Reason = "something else" })
	q := newQuorum(t, rootAttempt(nil))
	q.lieFrom, q.lie = 2, func(i *ceremonyInfo) {
		i.Reason, i.Started, i.Expires, i.Digest = other.Reason, other.Started, other.Expires, other.Digest.Hex()
	}
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	q.fails(exitServer, []string{"changed while you looked at it", q.attempt.Digest.Hex(), other.Digest.Hex(), q.words()}, "ceremony", "approve", nonceA)
	q.nothingGiven()

	q = newQuorum(t, rootAttempt(nil))
	q.lieFrom, q.lie = 2, func(i *ceremonyInfo) { i.State = "cancelled" }
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	q.fails(exitLocal, []string{"is not open but cancelled"}, "ceremony", "approve", nonceA)
	q.nothingGiven()
}

func TestCeremonyNotOpen(t *testing.T) {
	q := newQuorum(t, rootAttempt(func(p *ceremony.Params) { p.Now = time.Now().Add(-25 * time.Hour) }))
	q.fails(exitLocal, []string{"has expired by this machine's clock"}, "ceremony", "approve", nonceA)
	for _, state := range []string{"cancelled", "expired", "verifying", "complete"} {
		q := newQuorum(t, rootAttempt(nil))
		q.state = state
		q.fails(exitLocal, []string{"is"}, "ceremony", "approve", nonceA)
		q.nothingGiven()
	}
}

// Shares that are not those that are needed go nowhere.
func TestCeremonyWrongShares(t *testing.T) {
	for name, c := range map[string]struct {
		share string
		code  int
		want  string
	}{
		"another cluster's":   {armouredShare(t, 1, func(a *holder.Armour) { a.ClusterID = clusterB }), exitLocal, "belongs to another cluster: its armour names " + clusterB},
		"old, armoured":       {armouredShare(t, 1, func(a *holder.Armour) { a.Generation, a.Share = 1, shareOf(1, 1) }), exitLocal, "of generation 1, and generation 2 is needed"},
		"old":                 {bareShare(1, 1), exitLocal, "of generation 1 (retiring), and generation 2 is needed"},
		"not in force yet":    {bareShare(3, 1), exitLocal, "of generation 3 (pending), and generation 2 is needed"},
		"old in new armour":   {armouredShare(t, 1, func(a *holder.Armour) { a.Share = shareOf(1, 1) }), exitLocal, "of generation 1 (retiring)"},
		"another threshold's": {armouredShare(t, 1, func(a *holder.Armour) { a.Threshold = 3 }), exitServer, "the share says that its generation has the threshold 3, the ceremony that it is 2"},
		"nobody's":            {bareShare(9, 1), exitLocal, "of no holder that the server knows"},
		"a typing error":      {typo(armouredShare(t, 1, nil)), exitLocal, "typing error"},
		"no share":            {"not a share", exitLocal, "not a key share"},
		"nothing":             {"", exitLocal, "nothing was given"},
	} {
		q := newQuorum(t, rootAttempt(nil))
		q.tty = &fakeTTY{answers: []string{"yes", c.share}}
		got := q.fails(c.code, []string{c.want}, "ceremony", "approve", nonceA)
		q.nothingGiven()
		q.noShare(got.out, got.err)
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// The table of holders is the server's word, too: it can't turn a signature into that of another slot or cluster.
func TestCeremonyLyingTable(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.tables = func(table map[string]any) {
		list := verifiers(clusterA, 2)
		list[0]["verifier"], list[1]["verifier"] = list[1]["verifier"], list[0]["verifier"]
		table["generations"].([]map[string]any)[1]["holders"] = list
	}
	q.tty = &fakeTTY{answers: []string{"yes", armouredShare(t, 1, nil)}}
	q.fails(exitServer, []string{"the share says that it is of slot 1, the table of holders that it is of slot 2"}, "ceremony", "approve", nonceA)
	q.nothingGiven()
	q.tables = func(table map[string]any) { table["cluster_id"] = clusterB }
	q.tty = &fakeTTY{answers: []string{"yes", armouredShare(t, 1, nil)}}
	q.fails(exitServer, []string{"but the table of holders is of " + clusterB}, "ceremony", "approve", nonceA)
	q.nothingGiven()
}

// The nonce may be left out where there is one ceremony: it is named, and confirmed.
func TestCeremonyNonceLeftOut(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	got := q.ok("ceremony", "approve")
	if !strings.Contains(got.err, "the only ceremony that is open is meant: "+nonceA) || len(q.tty.prompts) != 2 {
		t.Errorf("%s, %q", got.err, q.tty.prompts)
	}
	q.answers["POST sys/ceremonies/"+nonceA+"/cancel"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, 204, nil) }
	q.tty = &fakeTTY{answers: []string{"no"}}
	q.fails(exitLocal, []string{"not confirmed"}, "ceremony", "cancel")
	q.tty = nil
	q.fails(exitLocal, []string{"asking whether to cancel"}, "ceremony", "cancel")
	q.tty = &fakeTTY{answers: []string{"yes"}}
	q.ok("ceremony", "cancel")
	q.lieList = func(list map[string]any) {
		info := q.info()
		info.Nonce = nonceB
		list["key_info"] = map[string]any{nonceA: q.info(), nonceB: info}
	}
	q.fails(exitLocal, []string{"which ceremony is meant? there are 2 that are open: " + nonceA + ", " + nonceB}, "ceremony", "approve")
	q.lieList = func(list map[string]any) { list["key_info"] = map[string]any{} }
	q.fails(exitLocal, []string{"there are 0"}, "ceremony", "watch")
}

// A share in the place of the nonce goes nowhere and is not repeated.
func TestCeremonyShareInArguments(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	for _, command := range []string{"approve", "verify", "cancel", "status", "result", "watch"} {
		for _, args := range [][]string{{canary}, {nonceA, canary}, {armouredShare(t, 1, nil)}, {"-", canary}} {
			got := q.fails(exitLocal, []string{"does not belong on the command line"}, append([]string{"ceremony", command}, args...)...)
			hides(t, got.out, got.err)
			q.noShare(got.out, got.err)
		}
		q.fails(exitLocal, []string{"that is no nonce"}, "ceremony", command, "../../x")
	}
	if len(q.seen) > 0 {
		t.Error("the server was asked")
	}
}

func TestCeremonyStatus(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	got := q.ok("ceremony", "status")
	if !strings.Contains(got.out, nonceA+"    root-token    open     0/2") {
		t.Errorf("%s", got.out)
	}
	got = q.ok("ceremony", "status", nonceA)
	for _, text := range []string{q.words(), "one-time password", "State", "open", "0/2"} {
		if !strings.Contains(got.out, text) {
			t.Errorf("no %q in\n%s", text, got.out)
		}
	}
	// It is shown, and is a failure: nobody takes its words for anything.
	q.lie = func(i *ceremonyInfo) { i.Digest = strings.Repeat("0", 64) }
	got = q.fails(exitServer, []string{"the digest is"}, "ceremony", "status", nonceA)
	if strings.Contains(got.out, "Words") || !strings.Contains(got.out, nonceA) {
		t.Errorf("%s", got.out)
	}
	q.lie = func(i *ceremonyInfo) { i.Approvals = []ceremonyAct{{Slot: 1, Label: "a\x1b[31mb"}} }
	if got := q.ok("ceremony", "status", nonceA); strings.Contains(got.out, "\x1b") {
		t.Errorf("%q", got.out)
	}
	q.on("GET sys/ceremonies/"+nonceB, 404, `{"errors":["no ceremony has this nonce"]}`)
	q.fails(exitServer, []string{"error reading the ceremony:", "no ceremony has this nonce"}, "ceremony", "status", nonceB)
}

func TestCeremonyHolders(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.tables = func(table map[string]any) {
		table["generations"].([]map[string]any)[1]["holders"].([]map[string]any)[0]["last_proven"] = "2026-01-02T03:04:05.000Z"
	}
	got := q.ok("ceremony", "holders")
	for _, line := range []string{
		"Generation    State       Slot    Last Proven                 Label\n", "2             active      1       2026-01-02T03:04:05.000Z    \"holder1\"\n", "3             pending     3       never                       \"holder3\"\n",
	} {
		if !strings.Contains(got.out, line) {
			t.Errorf("no %q in\n%s", line, got.out)
		}
	}
	q.tables = func(table map[string]any) { table["proven_known"] = false }
	if got := q.ok("ceremony", "holders"); strings.Contains(got.out, "never") || strings.Count(got.out, "unknown while sealed") != 9 {
		t.Errorf("%s", got.out)
	}
	if got := q.ok("ceremony", "holders", "-format=json"); !strings.Contains(got.out, `"proven_known": false`) {
		t.Errorf("%s", got.out)
	}
}

// Printing a request asks for nothing and sends nothing.
func TestCeremonyCurl(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.stdin = bareShare(2, 1)
	for _, c := range []struct{ args, want, talk string }{
		{"approve -output-curl-string " + nonceA, "/v1/sys/ceremonies/" + nonceA + "/approve", `"signature":"<signature>"`},
		{"approve -output-curl-string -send-share " + nonceA + " -", "/approve", `{"key":"<the share>"}`},
		{"verify -output-curl-string " + nonceA, "/verify", `"slot"`},
		{"cancel -output-curl-string -holder " + nonceA, "/cancel", `"slot"`},
		{"status -output-curl-string " + nonceA, "/v1/sys/ceremonies/" + nonceA, ""},
		{"status -output-curl-string", "/v1/sys/ceremonies", ""},
		{"start -output-curl-string drill", `kind":"drill"`, ""},
		{"start -output-curl-string -holder drill", "/v1/sys/ceremonies", `"slot"`},
		{"result -output-curl-string " + nonceA, "/result", ""},
		{"holders -output-curl-string", "/holders", ""},
		{"watch -output-curl-string " + nonceA, "/watch", ""},
	} {
		got := q.ok(append([]string{"ceremony"}, strings.Fields(c.args)...)...)
		if !strings.HasPrefix(got.out, "curl ") || !strings.Contains(got.out, c.want) || !strings.Contains(got.err, c.talk) {
			t.Errorf("%s: %s%s", c.args, got.out, got.err)
		}
		q.noShare(got.out, got.err)
	}
	q.ok("ceremony", "approve", "-output-policy", nonceA)
	q.fails(exitLocal, []string{"only be printed for a given NONCE"}, "ceremony", "approve", "-output-curl-string")
	if len(q.seen) > 0 {
		t.Errorf("asked %v", q.seen)
	}
}

// An approval that counted is told as one, though its answer is lost or not what it should be.
func TestCeremonyApprovalUnprinted(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.stdin, q.stdout = bareShare(2, 1), full(t)
	q.fails(exitLocal, []string{notWritten, "hint: the approval counted"}, "ceremony", "approve", "-words="+q.words(), nonceA, "-")
	q.stdout, q.stdin = nil, bareShare(2, 2)
	approve := q.answers["POST sys/ceremonies/"+nonceA+"/approve"]
	q.answers["POST sys/ceremonies/"+nonceA+"/approve"] = func(w http.ResponseWriter, r *http.Request) {
		q.log = newTestLog(t, clusterA, 1) // the transcript is gone
		approve(w, r)
	}
	got := q.fails(exitServer, []string{"not the transcript that was seen before"}, "ceremony", "approve", "-words="+q.words(), nonceA, "-")
	if !strings.Contains(got.out, "complete") {
		t.Errorf("the answer is lost: %s", got.out)
	}
}

// New shares that come in clear are printed in their armour; encrypted ones as they are.
func TestCeremonyNewShares(t *testing.T) {
	for _, keys := range [][]string{nil, {ageKeyOne, ageKeyOne}} {
		q := newQuorum(t, rootAttempt(func(p *ceremony.Params) {
			p.Kind, p.Recipient, p.Parameters = ceremony.Rekey, "", rekeyParameters(t, keys...)
		}))
		q.keys = keys
		q.answers["POST sys/ceremonies/"+nonceA+"/approve"] = func(w http.ResponseWriter, _ *http.Request) {
			info := q.info()
			info.State, info.KeysBase64 = stateVerifying, []string{bareShare(3, 1), bareShare(3, 2)}
			reply(w, 200, map[string]any{"data": info})
		}
		q.stdin = bareShare(2, 1)
		got := q.ok("ceremony", "approve", "-words="+q.words(), nonceA, "-")
		armour := armouredShare(t, 2, func(a *holder.Armour) { a.Generation, a.Share = 3, shareOf(3, 2) })
		if (keys == nil) != strings.Contains(got.out, armour) || (keys != nil) != strings.Contains(got.out, bareShare(3, 2)) {
			t.Errorf("%s%s", got.out, got.err)
		}
		if keys != nil {
			continue
		}
		q.tables = func(table map[string]any) { table["generations"] = table["generations"].([]map[string]any)[:2] }
		got = q.ok("ceremony", "approve", "-words="+q.words(), nonceA, "-")
		if !strings.Contains(got.err, "warning: the new shares are printed without their armour") || !strings.Contains(got.out, bareShare(3, 1)) {
			t.Errorf("the shares are lost: %s%s", got.out, got.err)
		}
	}
}

const ageKeyOne = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"

// ageKey is another one.
func ageKey(t *testing.T) string {
	t.Helper()
	const two = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	if _, err := delivery.RecipientOf(delivery.Age, two); err != nil {
		t.Fatal(err)
	}
	return two
}

func ageRecipientName(t *testing.T, key string) string {
	t.Helper()
	name, err := delivery.RecipientOf(delivery.Age, key)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func rekeyParameters(t *testing.T, keys ...string) []ceremony.Parameter {
	t.Helper()
	list := []ceremony.Parameter{
		{Name: "backup", Value: "false"},
		{Name: "require_verification", Value: "true"},
		{Name: "rotate", Value: "false"},
		{Name: "secret_shares", Value: "2"},
		{Name: "secret_threshold", Value: "2"},
		{Name: "verify_all", Value: "true"},
	}
	for i, key := range keys {
		list = append(list, ceremony.Parameter{Name: "recipient.00" + string(rune('1'+i)), Value: ageRecipientName(t, key)})
	}
	return list
}
