package cli

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

const (
	thisCluster  = "7c3f1e0a-5b1d-4c7e-9a52-0d6f3b8e4a11"
	thatCluster  = "11111111-2222-4333-8444-555555555555"
	holdersTable = "GET sys/ceremonies/holders"
)

func rawShare(t *testing.T, text string) secret.Bytes {
	t.Helper()
	raw, err := holder.ParseShare([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func armoured(t *testing.T, cluster string, generation uint64, slot, threshold int, text string) string {
	t.Helper()
	b, err := holder.Armour{ClusterID: cluster, Generation: generation, Slot: slot, Threshold: threshold, Share: rawShare(t, text)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// typo changes one character of an armoured share.
func typo(text string) string {
	const at = 20
	c := byte('q')
	if text[at] == c {
		c = 'p'
	}
	return text[:at] + string(c) + text[at+1:]
}

// generation is an entry of the table of holders, with the verifiers of shares given as text.
func generation(t *testing.T, number uint64, state string, threshold int, shares ...string) map[string]any {
	t.Helper()
	var holders []map[string]any
	for i, text := range shares {
		key := holder.Derive(rawShare(t, text), thisCluster, number)
		v, _ := key.Verifier().MarshalText()
		holders = append(holders, map[string]any{"slot": i + 1, "label": fmt.Sprintf("holder %d", i+1), "verifier": string(v)})
	}
	return map[string]any{"generation": number, "state": state, "threshold": threshold, "shares": len(shares), "holders": holders}
}

func tableOf(generations ...map[string]any) map[string]any {
	return map[string]any{"data": map[string]any{"cluster_id": thisCluster, "generations": generations}}
}

// next is a well-formed share of another generation than share.
func next(generation, slot int) string {
	return fmt.Sprintf("%064x%02x", generation*1000003+slot, slot)
}

func TestShareCheck(t *testing.T) {
	r := newRig(t)
	active := generation(t, 3, genActive, 2, next(3, 1), next(3, 2))
	active["holders"].([]map[string]any)[1]["last_proven"] = "2026-01-02T03:04:05.000Z"
	r.on(holdersTable, 200, tableOf(active,
		generation(t, 2, genRetiring, 1, next(2, 1)), generation(t, 1, genFormer, 1, next(1, 1)),
		generation(t, 4, genPending, 1, next(4, 1)), generation(t, 5, "odd", 1, next(5, 1))))
	r.tty = &fakeTTY{answers: []string{next(3, 2)}}
	got := r.ok("share", "check")
	want(t, "table", got.out, `Key             Value
---             -----
Cluster ID      `+thisCluster+`
State           active
Generation      3
Slot            2
Label           holder 2
Total Shares    2
Threshold       2
Last Proven     2026-01-02T03:04:05.000Z
`)
	want(t, "stderr", got.err, "this share is in force\n")
	for _, text := range []string{
		strings.ToUpper(next(3, 1)), armoured(t, thisCluster, 3, 1, 2, next(3, 1)), strings.ToUpper(armoured(t, thisCluster, 3, 1, 2, next(3, 1))),
		base64.StdEncoding.EncodeToString(rawShare(t, next(3, 1)).Reveal()),
	} {
		r.stdin = text + "\n"
		if got := r.ok("share", "check", "-format=json", "-"); !strings.Contains(got.out, `"slot": 1`) || !strings.Contains(got.out, `"state": "active"`) {
			t.Errorf("%s: %s", text, got.out)
		}
	}
	for _, c := range []struct{ share, state, text string }{
		{next(2, 1), genRetiring, "it can still unseal, and nothing else"},
		{next(1, 1), genFormer, "of an old generation"},
		{next(4, 1), genPending, "not in force yet"},
		{next(5, 1), "odd", "doesn't know"},
		{canary, "unknown", "of no generation that this cluster knows"},
		{next(3, 3), "unknown", "of no generation"},
		{armoured(t, thatCluster, 3, 1, 2, next(9, 1)), "other-cluster", "names " + thatCluster + ", the server is of " + thisCluster},
		{armoured(t, thisCluster, 3, 1, 2, next(9, 1)), "unknown", "of no generation"},
	} {
		r.stdin = c.share
		got := r.fails(exitServer, []string{c.text}, "share", "check", "-")
		hides(t, got.out, got.err)
		if !strings.Contains(got.out, "State") || !strings.Contains(got.out, c.state) {
			t.Errorf("%s: %s", c.state, got.out)
		}
	}
	for _, req := range r.seen {
		if req.method != "GET" || req.body != "" || req.path != "/v1/sys/ceremonies/holders" || req.header.Get("X-Vault-Token") != "" {
			t.Errorf("something was sent: %+v", req)
		}
	}
}

// A share that is good in an armour that is not: the share decides.
func TestShareCheckWrongArmour(t *testing.T) {
	r := newRig(t)
	r.on(holdersTable, 200, tableOf(generation(t, 3, genActive, 2, next(3, 1))))
	for _, text := range []string{
		armoured(t, thatCluster, 3, 1, 2, next(3, 1)), armoured(t, thisCluster, 2, 1, 2, next(3, 1)),
	} {
		r.stdin = text
		if got := r.ok("share", "check", "-"); !strings.Contains(got.err, "warning: the share is good, but its armour names another") {
			t.Errorf("%s", got.err)
		}
	}
}

func TestShareCommandRefusals(t *testing.T) {
	r := newRig(t)
	r.tty = &fakeTTY{answers: []string{canary}}
	for _, name := range []string{"check", "armour", "raw"} {
		for _, args := range [][]string{{canary}, {"-", canary}, {canary, "-"}} {
			got := r.fails(exitLocal, []string{"does not belong on the command line"}, append([]string{"share", name}, args...)...)
			hides(t, got.out, got.err)
		}
	}
	got := r.fails(exitLocal, []string{"no such command of share: it has check, armour, raw"}, "share", canary)
	hides(t, got.err)
	if len(r.seen)+len(r.tty.prompts) > 0 {
		t.Errorf("sent %v, asked %q", r.seen, r.tty.prompts)
	}
	r.fails(exitLocal, []string{"error reading the table of holders:", "permission denied"}, "share", "check")
	r.on(holdersTable, 200, `{"data":{"cluster_id":"x","generations":[{"holders":[{"verifier":"AAAA"}]}]}}`)
	r.fails(exitLocal, []string{"not the JSON expected"}, "share", "check")
	if len(r.tty.prompts) > 0 {
		t.Errorf("asked %q for nothing", r.tty.prompts)
	}
	r.on(holdersTable, 200, tableOf(generation(t, 1, genActive, 1, next(1, 1))))
	good := armoured(t, thisCluster, 1, 1, 1, next(1, 1))
	r.tty = nil
	for _, name := range []string{"check", "armour", "raw"} {
		r.stdin = ""
		r.fails(exitLocal, []string{"nothing was given"}, "share", name, "-")
		r.stdin = "abcd"
		r.fails(exitLocal, []string{"that is not a key share"}, "share", name, "-")
		r.stdin = typo(good)
		got := r.fails(exitLocal, []string{"has a typing error"}, "share", name, "-")
		if strings.Contains(got.err, good[30:60]) {
			t.Errorf("%s", got.err)
		}
		r.fails(exitLocal, []string{"not a terminal"}, "share", name)
		r.fails(exitLocal, []string{"-non-interactive"}, "share", name, "-non-interactive")
	}
	r.stdin = canary
	got = r.fails(exitServer, []string{"nothing can be said in an armour"}, "share", "armour", "-")
	want(t, "stdout", got.out, "")
	t.Setenv("BAO_FORMAT", "xml")
	r.fails(exitLocal, []string{"must be table, json or yaml"}, "share", "check", "-")
}

func TestShareArmour(t *testing.T) {
	r := newRig(t)
	r.on(holdersTable, 200, tableOf(generation(t, 7, genActive, 2, next(7, 1), next(7, 2))))
	r.stdin = next(7, 2)
	full := armoured(t, thisCluster, 7, 2, 2, next(7, 2))
	want(t, "armour", r.ok("share", "armour", "-").out, full)
	r.seen = nil
	r.stdin = full
	b, _ := hex.DecodeString(next(7, 2))
	want(t, "raw", r.ok("share", "raw", "-").out, base64.StdEncoding.EncodeToString(b))
	if len(r.seen) > 0 {
		t.Errorf("asked a server: %v", r.seen)
	}
	if got := r.ok("share", "check", "-output-curl-string"); !strings.Contains(got.out, "/v1/sys/ceremonies/holders") {
		t.Errorf("%s", got.out)
	}
}

// T56: an armoured share goes over the wire bare, as every server of the family takes it, and only to its own cluster.
func TestArmouredShares(t *testing.T) {
	r := newRig(t)
	r.status(sealedStatus)
	r.on("PUT sys/unseal", 200, sealedStatus)
	sent := func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, req := range r.seen {
			if req.method == "PUT" {
				return req.body
			}
		}
		return ""
	}
	good := armoured(t, thisCluster, 1, 2, 2, next(1, 2))
	for name, answer := range map[string]http.HandlerFunc{
		"this cluster":    func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, tableOf()) },
		"no such path":    func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404) },
		"no such access":  nil,
		"it doesn't tell": func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, `{"data":{}}`) },
	} {
		r.answers[holdersTable] = answer
		r.seen, r.stdin = nil, " "+good+"\r\n"
		r.ok("operator", "unseal", "-")
		want(t, name, sent(), `{"key":"`+next(1, 2)+`"}`)
	}
	r.on(holdersTable, 200, tableOf())
	r.seen = nil
	for text, why := range map[string]string{
		armoured(t, thatCluster, 1, 2, 2, next(1, 2)): "this share belongs to another cluster: its armour names " + thatCluster,
		typo(good):                              "has a typing error",
		good[:len(good)-1]:                      "has a typing error",
		"Q" + good[1:]:                          "all in lower case or all in upper case",
		"qsharel" + good[7:]:                    "that is not a key share",
		strings.Repeat("ab", holder.MaxShare+1): "that is not a key share",
	} {
		r.stdin = text
		got := r.fails(exitLocal, []string{why}, "operator", "unseal", "-")
		r.tty = &fakeTTY{answers: []string{text}}
		r.fails(exitLocal, []string{why}, "operator", "unseal")
		if strings.Contains(got.err, text[40:60]) || sent() != "" {
			t.Errorf("%s: sent %q, said %s", text, sent(), got.err)
		}
	}
}

func TestRetiringStatus(t *testing.T) {
	r := newRig(t)
	r.status(strings.TrimSuffix(sealedStatus, "}") + `,"retiring_t":2,"retiring_n":4,"retiring_progress":1}`)
	got := r.fails(exitServer, nil, "status")
	if !strings.Contains(got.out, "Retiring Shares       4\nRetiring Threshold    2\nRetiring Progress     1/2\n") {
		t.Errorf("%s", got.out)
	}
	if got := r.run("status", "-format=json"); !strings.Contains(got.out, `"retiring_n": 4`) {
		t.Errorf("%s", got.out)
	}
	r.status(strings.TrimSuffix(unsealedStatus, "}") + `,"retiring_t":2,"retiring_n":4}`)
	if got := r.ok("status"); !strings.Contains(got.out, "Retiring Threshold    2\nVersion") {
		t.Errorf("%s", got.out)
	}
	r.status(unsealedStatus)
	for _, format := range []string{"table", "json"} {
		if got := r.ok("status", "-format="+format); strings.Contains(strings.ToLower(got.out), "retiring") {
			t.Errorf("%s", got.out)
		}
	}
	// A share of the retiring generation counts too.
	before := strings.TrimSuffix(strings.Replace(sealedStatus, `"progress":1`, `"progress":0`, 1), "}") + `,"retiring_t":2,"retiring_n":4`
	r.stdin = canary
	r.status(before + `}`)
	r.on("PUT sys/unseal", 200, before+`,"retiring_progress":1}`)
	if got := r.ok("operator", "unseal", "-"); strings.Contains(got.err, "counted already") {
		t.Errorf("%s", got.err)
	}
	r.status(before + `,"retiring_progress":1}`)
	if got := r.ok("operator", "unseal", "-"); !strings.Contains(got.err, "counted already") {
		t.Errorf("%s", got.err)
	}
}

// Whatever is typed, only hex and base64 come out, and never the armour.
func FuzzReadGiven(f *testing.F) {
	f.Add([]byte(canary))
	f.Add([]byte(" wP/uAMD/7gDA/+4AwP/uAMD/7gDA/+4AwP/uAMD/7gA=\r\n"))
	b, err := holder.Armour{ClusterID: thisCluster, Generation: 1, Slot: 1, Threshold: 2, Share: secret.Own(append(make([]byte, 32), 1))}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(strings.ToUpper(string(b))))
	f.Fuzz(func(t *testing.T, line []byte) {
		text := string(line)
		given, err := readGiven(line)
		switch out := string(given.text.Reveal()); {
		case err != nil:
			if out != "" || given.armour != nil {
				t.Errorf("%q is refused, and not", text)
			}
		case out == "" || strings.Trim(out, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=") != "":
			t.Errorf("%q became %q", text, out)
		case given.armour == nil && out != strings.TrimSpace(text), given.armour != nil && (len(out) > 66 || !given.armour.Share.Empty()):
			t.Errorf("%q became %q", text, out)
		}
	})
}
