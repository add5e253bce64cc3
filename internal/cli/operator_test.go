package cli

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	sealedStatus   = `{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"nonce":"n1","version":"1.2.3","commit_date":"2026-01-02T03:04:05Z","migration":false,"recovery_seal":false,"storage_type":"bolt"}`
	unsealedStatus = `{"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0,"nonce":"","version":"1.2.3","storage_type":"bolt","cluster_name":"c","cluster_id":"id"}`
)

func (r *rig) status(body string) {
	r.on("GET sys/seal-status", 200, body)
	r.on("GET sys/leader", 200, `{"ha_enabled":false}`)
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	r.status(sealedStatus)
	got := r.fails(exitServer, nil, "status")
	want(t, "sealed", got.out, `Key                Value
---                -----
Seal Type          shamir
Initialized        true
Sealed             true
Total Shares       5
Threshold          3
Unseal Progress    1/3
Unseal Nonce       n1
Version            1.2.3
Commit Date        2026-01-02T03:04:05Z
Storage Type       bolt
HA Enabled         false
`)
	want(t, "stderr", got.err, "")
	r.status(unsealedStatus)
	want(t, "unsealed", r.ok("status").out, `Key             Value
---             -----
Seal Type       shamir
Initialized     true
Sealed          false
Total Shares    5
Threshold       3
Version         1.2.3
Storage Type    bolt
Cluster Name    c
Cluster ID      id
HA Enabled      false
`)
	if out := r.ok("status", "-format=json").out; !strings.Contains(out, `"ha_enabled": false`) || !strings.Contains(out, `"sealed": false`) {
		t.Errorf("%s", out)
	}
	r.answers["GET sys/seal-status"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "oops") }
	r.fails(exitLocal, []string{"error reading the seal status:", "Code: 500"}, "status")
}

// Whoever looks at the status shows nobody their token.
func TestOpenCallsCarryNoToken(t *testing.T) {
	r := newRig(t)
	r.status(unsealedStatus)
	r.on("GET sys/init", 200, `{"initialized":true}`)
	r.on("PUT sys/init", 200, `{"keys":["00"],"keys_base64":["AA=="],"root_token":"q.r"}`)
	r.on("PUT sys/unseal", 200, sealedStatus)
	r.on("GET sys/generate-root/attempt", 200, `{"nonce":"00000000-0000-4000-8000-000000000001","started":true,"required":3}`)
	r.on("PUT sys/generate-root/update", 200, `{"nonce":"00000000-0000-4000-8000-000000000001","started":true,"progress":1,"required":3}`)
	t.Setenv("BAO_TOKEN", "not\x01printable") // and no broken one is in the way
	r.stdin = canary
	for _, args := range [][]string{
		{"status"},
		{"operator", "init", "-status"},
		{"operator", "init", "-n=1", "-t=1"},
		{"operator", "unseal", "-"},
		{"operator", "unseal", "-reset"},
		{"operator", "generate-root", "-status"},
		{"operator", "generate-root", "-nonce=00000000-0000-4000-8000-000000000001", "-"},
	} {
		r.ok(args...)
	}
	for _, req := range r.seen {
		if token := req.header.Get("X-Vault-Token"); token != "" {
			t.Errorf("%s %s carries a token", req.method, req.path)
		}
	}
}

func TestInit(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/init", 200, `{"keys":["aa","bb"],"keys_base64":["qg==","uw=="],"root_token":"q.r"}`)
	got := r.ok("operator", "init", "-key-shares=2", "-key-threshold", "2")
	want(t, "table", got.out, "Unseal Key 1: qg==\nUnseal Key 2: uw==\n\nInitial Root Token: q.r\n")
	if strings.Contains(got.err, "qg==") || strings.Contains(got.err, "q.r") || !strings.Contains(got.err, "any 2 of them") {
		t.Errorf("advice: %s", got.err)
	}
	wantBody(t, r.last(), `{"secret_shares":2,"secret_threshold":2,"pgp_keys":null,"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"root_token_pgp_key":""}`)
	got = r.ok("operator", "init", "-n=2", "-t=2", "-format=json")
	want(t, "json", got.out, `{
  "unseal_keys_b64": [
    "qg==",
    "uw=="
  ],
  "unseal_keys_hex": [
    "aa",
    "bb"
  ],
  "unseal_shares": 2,
  "unseal_threshold": 2,
  "recovery_keys_b64": [],
  "recovery_keys_hex": [],
  "recovery_keys_shares": 0,
  "recovery_keys_threshold": 0,
  "root_token": "q.r",
  "unseal_keys_armoured": []
}
`)
	got = r.ok("operator", "init", "-n=2", "-t=2", "-format=yaml")
	if !strings.HasPrefix(got.out, "unseal_keys_b64:\n  - qg==\n  - uw==\n") {
		t.Errorf("yaml: %s", got.out)
	}
}

// Our own server says what the armour needs.
func TestInitArmoured(t *testing.T) {
	r := newRig(t)
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString(rawShare(t, text).Reveal()) }
	answer := map[string]any{
		"keys": []string{share(1), share(2)}, "keys_base64": []string{b64(share(1)), b64(share(2))}, "root_token": "q.r",
		"cluster_id": thisCluster, "generation": 1,
	}
	r.on("PUT sys/init", 200, answer)
	one, two := armoured(t, thisCluster, 1, 1, 2, share(1)), armoured(t, thisCluster, 1, 2, 2, share(2))
	want(t, "table", r.ok("operator", "init", "-n=2", "-t=2").out, "Unseal Key 1: "+one+"\nUnseal Key 2: "+two+"\n\nInitial Root Token: q.r\n")
	got := r.ok("operator", "init", "-n=2", "-t=2", "-holders=alice, bob")
	want(t, "with labels", got.out, "# alice\nUnseal Key 1: "+one+"\n# bob\nUnseal Key 2: "+two+"\n\nInitial Root Token: q.r\n")
	wantBody(t, r.last(), `{"secret_shares":2,"secret_threshold":2,"pgp_keys":null,"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"root_token_pgp_key":"","holders":["alice","bob"]}`)
	got = r.ok("operator", "init", "-n=2", "-t=2", "-format=json")
	if !strings.Contains(got.out, `  "unseal_keys_b64": [
    "`+b64(share(1))+`",`) || !strings.HasSuffix(got.out, `  "unseal_keys_armoured": [
    "`+one+`",
    "`+two+`"
  ],
  "cluster_id": "`+thisCluster+`",
  "generation": 1
}
`) {
		t.Errorf("%s", got.out)
	}
	// What can't be put into an armour stays as it is, all of it.
	for name, change := range map[string]func(){
		"no share":       func() { answer["keys_base64"] = []string{b64(share(1)), "AA=="} },
		"another slot":   func() { answer["keys_base64"] = []string{b64(share(1)), b64(share(3))} },
		"no generation":  func() { answer["generation"] = 0 },
		"no cluster":     func() { delete(answer, "cluster_id") },
		"no UUID for it": func() { answer["cluster_id"] = "here" },
	} {
		change()
		if got := r.ok("operator", "init", "-n=2", "-t=2"); strings.Contains(got.out, "qshare1") || !strings.Contains(got.out, "Unseal Key 1: "+b64(share(1))) {
			t.Errorf("%s: %s", name, got.out)
		}
	}
}

// agePublic is a recipient that nobody has the key of.
const agePublic = "age1yzcs6s0yshlx59hpx9j5jd4pftjw5hzs6nuujyf8tdp8qj75pd2qgt3tgy"

func TestInitAge(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/init", 200, map[string]any{
		"keys": []string{share(1)}, "keys_base64": []string{"ZW5j"}, "root_token": "ZW5j", "cluster_id": thisCluster, "generation": 1,
	})
	age := write(t, "age", "# alice, and her spare key\n"+agePublic+"\n")
	got := r.ok("operator", "init", "-n=1", "-t=1", "-age-recipients="+age, "-root-token-age-recipients=@"+age, "-root-token-ttl=8h", "-format=json")
	wantBody(t, r.last(), `{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"root_token_pgp_key":"",
		"age_recipients":["`+agePublic+`"],"root_token_age_recipients":"`+agePublic+`","root_token_ttl":"28800s"}`)
	if !strings.Contains(got.out, `"unseal_keys_armoured": []`) || !strings.Contains(got.err, "encrypted to the key of -age-recipients: whoever has its private key "+ageHint) {
		t.Errorf("%+v", got)
	}
	r.fails(exitServer, []string{"2 key shares were asked for, and the server answers with 1"}, "operator", "init", "-n=2", "-t=2", "-age-recipients="+age+","+age)
	r.seen = nil
	for _, c := range []struct {
		want string
		args []string
	}{
		{"takes one file", []string{"-root-token-age-recipients=" + age + "," + age}},
		{"exclude each other", []string{"-root-token-age-recipients=" + age, "-root-token-pgp-key=" + write(t, "k", string(pgpPublic))}},
		{"exclude each other", []string{"-age-recipients=" + age, "-pgp-keys=" + write(t, "k", string(pgpPublic))}},
		{"names 1 files for 5 shares", []string{"-age-recipients=" + age}},
		{"names 2 for 5 shares", []string{"-holders=a,b"}},
		{"-root-token-ttl", []string{"-root-token-ttl=long"}},
		{"-holders", []string{"-n=1", "-t=1", "-holders=a\nb"}},
		{"-holders", []string{"-n=1", "-t=1", "-holders=" + strings.Repeat("a", 201)}},
		{"no such file", []string{"-age-recipients=/nonexistent"}},
	} {
		r.fails(exitLocal, []string{c.want}, append([]string{"operator", "init"}, c.args...)...)
	}
	for _, c := range []struct{ content, want string }{
		{"", "there is none"},
		{"# nobody\n", "there is none"},
		{"age1qqqq", "damaged"},
		{"age1yubikey1qqqq", "never run here"},
		{"age-secret-key-1qqqq", "holds a private key, which must not leave its owner"},
		{agePublic + "\nAGE-SECRET-KEY-1QQQQ", "holds a private key"},
		{"-----BEGIN OPENSSH PRIVATE KEY-----", "holds a private key"},
		{strings.Repeat("#", maxKeyFile+1), "too large"},
	} {
		got := r.fails(exitLocal, []string{"-age-recipients", c.want}, "operator", "init", "-n=1", "-t=1", "-age-recipients="+write(t, "age", c.content))
		if strings.Contains(strings.ToLower(got.err), "qqqq") {
			t.Errorf("%s", got.err)
		}
	}
	if len(r.seen) > 0 {
		t.Error("what was refused reached the server")
	}
}

// An init whose output was lost can be repeated: -replace says so to the server, and a refusal names it.
func TestInitReplace(t *testing.T) {
	r := newRig(t)
	answer := "Vault is already initialized"
	r.answers["PUT sys/init"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, answer) }
	r.fails(exitServer, []string{"* " + answer, "hint: if the key shares of that init are lost", "quorate operator init -replace"}, "operator", "init")
	if strings.Contains(r.last().body, "replace") {
		t.Errorf("stock servers don't know it: %s", r.last().body)
	}
	answer = "Vault is already initialized, and has been unsealed since: replace is possible only before the first unseal"
	got := r.fails(exitServer, []string{"* " + answer}, "operator", "init", "-replace")
	if strings.Contains(got.err, "hint:") {
		t.Errorf("the same advice again: %s", got.err)
	}
	answer = "the threshold is larger than the number of shares"
	if got := r.fails(exitServer, []string{answer}, "operator", "init"); strings.Contains(got.err, "hint:") {
		t.Errorf("%s", got.err)
	}
	r.on("PUT sys/init", 200, `{"keys":["aa"],"keys_base64":["qg=="],"root_token":"q.r"}`)
	r.ok("operator", "init", "-n=1", "-t=1", "-replace")
	if got := r.ok("operator", "init", "-n=1", "-t=1", "-replace"); !strings.Contains(got.err, "initialized with one key share") || strings.Contains(got.err, "each") {
		t.Errorf("advice for one: %s", got.err)
	}
	wantBody(t, r.last(), `{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"root_token_pgp_key":"","replace":true}`)
}

func TestInitDefaults(t *testing.T) {
	r := newRig(t)
	r.fails(exitServer, []string{"error initializing:", "permission denied"}, "operator", "init")
	if body := r.last().body; !strings.Contains(body, `"secret_shares":5,"secret_threshold":3`) {
		t.Errorf("%s", body)
	}
	// A wrong format is found before the shares are made: they could not be shown again.
	r.seen = nil
	t.Setenv("BAO_FORMAT", "xml")
	r.fails(exitLocal, nil, "operator", "init")
	if len(r.seen) > 0 {
		t.Error("asked for shares that can't be printed")
	}
}

func TestInitStatus(t *testing.T) {
	r := newRig(t)
	r.on("GET sys/init", 200, `{"initialized":true}`)
	r.ok("operator", "init", "-status")
	r.on("GET sys/init", 200, `{"initialized":false}`)
	r.fails(exitServer, []string{"not initialized"}, "operator", "init", "-status")
	want(t, "json", r.run("operator", "init", "-status", "-format=json").out, "{\n  \"initialized\": false\n}\n")
	r.on("GET sys/init", 500, `{"errors":[]}`)
	r.fails(exitLocal, []string{"Code: 500"}, "operator", "init", "-status")
}

// pgpPublic is the beginning of a public key packet: enough for the command line, which leaves the rest to the server.
var pgpPublic = []byte{0xc6, 0x01, 0x04}

const pgpPublicBase64 = "xgEE"

func armored(kind string) string {
	return "-----BEGIN PGP " + kind + " KEY BLOCK-----\n\nxgEE\n-----END PGP " + kind + " KEY BLOCK-----\n"
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPGPKeyFiles(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/init", 200, `{"keys":["aa","bb"],"keys_base64":["qg==","uw=="],"root_token":"q.r"}`)
	binary := write(t, "binary", string(pgpPublic))
	text := write(t, "base64", "xg\nEE\n")
	armor := write(t, "armor", armored("PUBLIC"))
	got := r.ok("operator", "init", "-n=2", "-t=2", "-pgp-keys="+binary+", "+text, "-root-token-pgp-key=@"+armor)
	wantBody(t, r.last(), `{"secret_shares":2,"secret_threshold":2,"pgp_keys":["xgEE","xgEE"],"recovery_shares":0,"recovery_threshold":0,"recovery_pgp_keys":null,"root_token_pgp_key":"xgEE"}`)
	if !strings.Contains(got.err, "encrypted to the key in the same place") {
		t.Errorf("advice: %s", got.err)
	}
	r.on("PUT sys/init", 200, `{"keys":["aa"],"keys_base64":["qg=="],"root_token":"q.r"}`)
	if got := r.ok("operator", "init", "-n=1", "-t=1", "-pgp-keys="+binary); !strings.Contains(got.err, "the share is encrypted to the key of -pgp-keys") {
		t.Errorf("advice for one: %s", got.err)
	}
	r.seen = nil
	r.fails(exitLocal, []string{"takes one file"}, "operator", "init", "-root-token-pgp-key="+armor+","+binary)
	for _, c := range []struct{ name, content, want string }{
		{"empty", "", "no OpenPGP public key"},
		{"text", "hello there", "no OpenPGP public key"},
		{"base64 of text", "aGVsbG8gdGhlcmU=", "no OpenPGP public key"},
		{"broken armor", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nx", "no OpenPGP public key"},
		{"a message", "\xc1\x00", "no OpenPGP public key"},
		{"a private key", "\xc5\x01\x04", "private key, which must not leave"},
		{"an old private key", "\x95\x01\x04", "private key, which must not leave"},
		{"too large", strings.Repeat("x", maxKeyFile+1), "too large"},
	} {
		r.fails(exitLocal, []string{"-pgp-key", c.want}, "operator", "generate-root", "-init", "-pgp-key="+write(t, "key", c.content))
	}
	r.fails(exitLocal, []string{"no such file"}, "operator", "init", "-pgp-keys=/nonexistent")
	r.fails(exitLocal, []string{"export the key into a file"}, "operator", "init", "-pgp-keys=keybase:someone")
	if len(r.seen) > 0 {
		t.Error("a refused key reached the server")
	}
}

func TestBinaryKey(t *testing.T) {
	for name, in := range map[string]string{
		"binary":          string(pgpPublic),
		"old format":      "\x99\x01\x04",
		"base64":          " xgEE\r\n",
		"armor":           "\n" + armored("PUBLIC"),
		"base64 of armor": "LS0tLS1CRUdJTiBQR1AgUFVCTElDIEtFWSBCTE9DSy0tLS0tCgp4Z0VFCi0tLS0tRU5EIFBHUCBQVUJMSUMgS0VZIEJMT0NLLS0tLS0K",
	} {
		if got, err := binaryKey([]byte(in)); err != nil || len(got) != 3 {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func FuzzBinaryKey(f *testing.F) {
	for _, s := range []string{string(pgpPublic), pgpPublicBase64, armored("PUBLIC"), armored("PRIVATE"), "\xc5", "LS0tLS1CRUdJTg=="} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		key, err := binaryKey(b)
		if err != nil {
			return
		}
		again, err := binaryKey(key)
		if err != nil || string(again) != string(key) {
			t.Errorf("%x is a key, but not twice: %v", key, err)
		}
		if _, err := publicPacket(key); err != nil {
			t.Errorf("%x passed: %v", key, err)
		}
	})
}

func TestUnseal(t *testing.T) {
	r := newRig(t)
	r.status(sealedStatus)
	r.on("PUT sys/unseal", 200, sealedStatus)
	r.tty = &fakeTTY{answers: []string{"  " + canary + " "}}
	got := r.ok("operator", "unseal")
	if !strings.Contains(got.out, "Unseal Progress    1/3") {
		t.Errorf("%s", got.out)
	}
	want(t, "prompt", strings.Join(r.tty.prompts, "|"), "unseal key share (will be hidden): ")
	body := func() string { // of the request before the one for the leader
		return r.seen[len(r.seen)-2].body
	}
	want(t, "body", body(), `{"key":"`+canary+`"}`)
	r.tty = nil
	r.stdin = canary + "\nignored"
	r.ok("operator", "unseal", "-")
	want(t, "from stdin", body(), `{"key":"`+canary+`"}`)
	r.ok("operator", "unseal", "-reset")
	want(t, "reset", body(), `{"reset":true}`)
	r.ok("operator", "unseal", "-reset", "-holder", "-")
	want(t, "reset by a holder", body(), `{"key":"`+canary+`","reset":true}`)
}

// The share counts, whatever becomes of the question that follows.
func TestUnsealWithoutLeader(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/unseal", 200, sealedStatus)
	r.on("GET sys/seal-status", 200, sealedStatus)
	r.answers["GET sys/leader"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 429, "too many requests") }
	r.stdin = canary
	got := r.ok("operator", "unseal", "-")
	if !strings.Contains(got.out, "Unseal Progress    1/3") || strings.Contains(got.out, "HA Enabled") ||
		!strings.Contains(got.err, "warning: whether the server is one of several can't be told: too many requests") {
		t.Errorf("%+v", got)
	}
	if got := r.ok("operator", "unseal", "-format=json", "-"); strings.Contains(got.out, "ha_enabled") {
		t.Errorf("made up: %s", got.out)
	}
	r.fails(exitServer, []string{"warning: "}, "status")
}

func TestUnsealRefusals(t *testing.T) {
	r := newRig(t)
	r.status(sealedStatus)
	r.answers["PUT sys/unseal"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "the share for slot 1 is not valid") }
	r.stdin = canary
	got := r.fails(exitServer, []string{"error unsealing:", "* the share for slot 1 is not valid"}, "operator", "unseal", "-")
	hides(t, got.out, got.err)
	r.answers["PUT sys/unseal"] = nil
	r.fails(exitServer, []string{"hint: over a connection that isn't local, a reset needs a key share: add -holder"}, "operator", "unseal", "-reset")

	r.seen = nil
	r.stdin = ""
	r.fails(exitLocal, []string{"nothing was given"}, "operator", "unseal", "-")
	r.stdin = canary + "!"
	got = r.fails(exitLocal, []string{"that is not a key share"}, "operator", "unseal", "-")
	hides(t, got.err)
	r.stdin = strings.Repeat("a", maxLine+1)
	r.fails(exitLocal, []string{"too long"}, "operator", "unseal", "-")
	r.fails(exitLocal, []string{"not a terminal", "hint: to read it from standard input, give - as the argument"}, "operator", "unseal")
	r.tty = &fakeTTY{answers: []string{canary}}
	r.fails(exitLocal, []string{"-non-interactive"}, "operator", "unseal", "-non-interactive")
	r.tty = &fakeTTY{answers: []string{"^C"}}
	r.fails(exitLocal, []string{"interrupted"}, "operator", "unseal")
	for _, req := range r.seen {
		if req.method != "GET" {
			t.Errorf("something was sent: %v", req)
		}
	}
}

// A share is asked for only where one is needed.
func TestUnsealLooksFirst(t *testing.T) {
	r := newRig(t)
	r.tty = &fakeTTY{answers: []string{canary}}
	r.stdin = canary
	for _, args := range [][]string{{"operator", "unseal"}, {"operator", "unseal", "-"}} {
		r.status(`{"type":"shamir","initialized":false,"sealed":true}`)
		got := r.fails(exitServer, []string{"error unsealing: the server is not initialized\n", "hint: make its keys first: quorate operator init"}, args...)
		want(t, "stdout", got.out, "")
		r.status(unsealedStatus)
		got = r.ok(args...)
		want(t, "stdout", got.out, r.ok("status").out)
		want(t, "stderr", got.err, "the server is unsealed already\n")
		r.answers["GET sys/seal-status"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 500, "oops") }
		r.fails(exitServer, []string{"error reading the seal status:", "* oops"}, args...)
	}
	for _, req := range r.seen {
		if req.method != "GET" {
			t.Errorf("something was sent: %v", req)
		}
	}
	if len(r.tty.prompts) > 0 {
		t.Errorf("asked %q", r.tty.prompts)
	}
}

// The same share twice is no error, but whoever gives it should know.
func TestUnsealSameShare(t *testing.T) {
	const told = "this share was counted already\n"
	r := newRig(t)
	r.stdin = canary
	r.status(sealedStatus)
	r.on("PUT sys/unseal", 200, sealedStatus)
	want(t, "the same", r.ok("operator", "unseal", "-").err, told)
	for _, after := range []string{
		strings.Replace(sealedStatus, `"progress":1`, `"progress":2`, 1),
		strings.Replace(sealedStatus, `"nonce":"n1"`, `"nonce":"n2"`, 1), // forgotten in between, and begun again
		unsealedStatus,
	} {
		r.on("PUT sys/unseal", 200, after)
		want(t, "progress", r.ok("operator", "unseal", "-").err, "")
	}
}

// T56: a share on the command line is refused with the reason, is not sent and not repeated.
func TestShareOnTheCommandLine(t *testing.T) {
	r := newRig(t)
	r.tty = &fakeTTY{answers: []string{canary}}
	for _, args := range [][]string{
		{"operator", "unseal", canary},
		{"operator", "unseal", "-reset", "-holder", canary},
		{"operator", "unseal", canary, "-"},
		{"operator", "unseal", "-output-curl-string", canary},
		{"operator", "generate-root", canary},
		{"operator", "generate-root", "-nonce=n", canary},
		{"operator", "generate-root", "-init", "-holder", canary},
		{"operator", "generate-root", "-cancel", "-holder", canary},
		{"operator", "generate-root", "-status", canary},
		{"operator", "generate-root", "-", canary},
		{"write", "sys/unseal", "key=" + canary},
		{"write", "-f", "sys/unseal", "KEY=" + canary},
		{"write", "/sys/unseal", "key=" + canary},
		{"write", "sys//unseal/", "reset=true", "key=" + canary},
		{"write", "SYS/Unseal", "key=" + canary},
		{"write", "../v1/sys/unseal", "key=" + canary},
		{"write", "x/../sys/unseal", "key=" + canary},
		{"write", "sys/generate-root/update", "nonce=n", "key=" + canary},
		{"write", "sys/generate-root/attempt", "key=" + canary},
		{"write", "sys/generate-root-token/update", "nonce=n", "key=" + canary},
		{"write", "sys/root-generation/update", "nonce=n", "key=" + canary},
		{"delete", "sys/generate-root/attempt", "key=" + canary},
		{"read", "sys/generate-root/attempt", "key=" + canary},
	} {
		got := r.fails(exitLocal, []string{"does not belong on the command line", "process list", "history"}, args...)
		hides(t, got.out, got.err)
	}
	if len(r.seen) > 0 || len(r.tty.prompts) > 0 {
		t.Errorf("sent %v, asked %q", r.seen, r.tty.prompts)
	}
}

func TestSealAndKeyStatus(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.root")
	r.on("PUT sys/seal", 204, nil)
	if got := r.ok("operator", "seal"); got.out != "" || !strings.Contains(got.err, "the server is sealed") {
		t.Errorf("%+v", got)
	}
	if r.last().header.Get("X-Vault-Token") != "q.root" {
		t.Error("no token")
	}
	r.on("GET sys/key-status", 200, `{"request_id":"r","data":{"term":2,"install_time":"2026-01-02T03:04:05.678Z","encryptions":7},"term":2}`)
	want(t, "rows", r.ok("operator", "key-status").out, "Key Term            2\nInstall Time        02 Jan 26 03:04 UTC\nEncryption Count    7\n")
	want(t, "json", r.ok("operator", "key-status", "-format=json").out, "{\n  \"term\": 2,\n  \"install_time\": \"2026-01-02T03:04:05.678Z\",\n  \"encryptions\": 7\n}\n")
	r.answers = map[string]http.HandlerFunc{}
	r.fails(exitServer, []string{"error sealing:", "permission denied"}, "operator", "seal")
	r.fails(exitServer, []string{"error reading the key status:"}, "operator", "key-status")
}
