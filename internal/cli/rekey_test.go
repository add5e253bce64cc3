package cli

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// rekeyServer is a server that speaks sys/rekey as wire reference 4.1 describes it, or sys/rotate/root as 4.2 does, with
// a present threshold of 2.
type rekeyServer struct {
	*rig
	name, base         string // of the command; of its paths
	wrap               bool   // answers in envelopes
	nonce, verifyNonce string
	n, t               int
	given, proven      []string // slots
	fresh              []string // the new shares
	verify, all        bool
	encrypted          bool
	starts             int
	drop               int // so many replies to shares are lost, the shares are not
	refuseStart        bool
	result             map[string]any
}

func newRekeyServer(t *testing.T) *rekeyServer {
	s := &rekeyServer{rig: newRig(t), name: "rekey", base: "sys/rekey"}
	s.serveOn(http.MethodPut)
	return s
}

func newRotateKeysServer(t *testing.T) *rekeyServer {
	s := &rekeyServer{rig: newRig(t), name: "rotate-keys", base: "sys/rotate/root", wrap: true}
	s.serveOn(http.MethodPost)
	t.Setenv("BAO_TOKEN", "q.user")
	return s
}

func (s *rekeyServer) serveOn(write string) {
	for endpoint, answer := range map[string]func(*http.Request) (int, any){
		"GET /init":      func(*http.Request) (int, any) { return 200, s.show() },
		write + " /init": s.start,
		"DELETE /init": func(*http.Request) (int, any) {
			s.nonce, s.verifyNonce = "", ""
			return 204, nil
		},
		write + " /update": s.update,
		"GET /verify":      func(*http.Request) (int, any) { return s.showVerify() },
		write + " /verify": s.prove,
		"DELETE /verify": func(*http.Request) (int, any) {
			s.restart()
			return s.showVerify()
		},
	} {
		method, path, _ := strings.Cut(endpoint, " ")
		s.answers[method+" "+s.base+path] = func(w http.ResponseWriter, r *http.Request) {
			status, body := answer(r)
			if s.wrap && status == 200 {
				body = map[string]any{"request_id": "r", "data": body}
			}
			if status >= 400 {
				body = map[string]any{"errors": []any{body}}
			}
			reply(w, status, body)
		}
	}
	s.answers[holdersTable] = func(w http.ResponseWriter, _ *http.Request) {
		table := []map[string]any{generation(s.rig.t, 1, genActive, 2, share(1), share(2), share(3))}
		if s.fresh != nil {
			table = append(table, generation(s.rig.t, 2, genPending, s.t, s.fresh...))
		}
		reply(w, 200, tableOf(table...))
	}
}

func (s *rekeyServer) show() map[string]any {
	st := map[string]any{"nonce": s.nonce, "started": s.nonce != "", "t": 0, "n": 0, "progress": len(s.given), "required": 2, "pgp_fingerprints": nil, "backup": false, "verification_required": false}
	if s.nonce != "" {
		st["t"], st["n"], st["verification_required"] = s.t, s.n, s.verify
	}
	if s.verifyNonce != "" {
		st["verification_nonce"] = s.verifyNonce
	}
	return st
}

func (s *rekeyServer) showVerify() (int, any) {
	if s.nonce == "" {
		return 400, "no rekey configuration found"
	}
	st := map[string]any{"nonce": s.verifyNonce, "started": s.verifyNonce != "", "t": s.t, "n": s.n, "progress": len(s.proven)}
	if s.all && s.n > s.t { // ours
		st["required"] = s.n
	}
	return 200, st
}

func (s *rekeyServer) restart() {
	s.proven, s.verifyNonce = nil, strings.Replace(s.verifyNonce, "f", "e", 1)
}

func (s *rekeyServer) start(r *http.Request) (int, any) {
	var body struct {
		Secret_Shares, Secret_Threshold  int
		Require_Verification, Verify_All bool
		PGP_Keys, Age_Recipients         []string
		Key                              string
	}
	json.NewDecoder(r.Body).Decode(&body)
	switch {
	case s.refuseStart && body.Key == "":
		return 403, "starting needs authority"
	case s.nonce != "":
		return 400, "rekey already in progress"
	}
	s.starts++
	s.nonce, s.given, s.proven, s.fresh = fmt.Sprintf("00000000-0000-4000-8000-%012d", s.starts), nil, nil, nil
	s.n, s.t, s.verify, s.all = body.Secret_Shares, body.Secret_Threshold, body.Require_Verification, body.Verify_All
	s.encrypted = len(body.PGP_Keys)+len(body.Age_Recipients) > 0
	return 200, s.show()
}

func (s *rekeyServer) update(r *http.Request) (int, any) {
	var body struct{ Key, Nonce string }
	json.NewDecoder(r.Body).Decode(&body)
	slot := body.Key[len(body.Key)-2:]
	switch {
	case s.result != nil && body.Nonce == s.result["nonce"]:
		return 200, s.result
	case s.nonce == "":
		return 400, "no barrier rekey in progress"
	case body.Nonce != s.nonce:
		return 400, "incorrect nonce supplied"
	case body.Key == canary:
		return 400, "the share for slot 1 is not valid"
	case slices.Contains(s.given, slot):
		return 400, "given key has already been provided during this operation"
	}
	s.given = append(s.given, slot)
	st := s.show()
	if len(s.given) == 2 {
		st = s.complete()
	}
	if s.drop > 0 {
		s.drop--
		panic(http.ErrAbortHandler)
	}
	return 200, st
}

func (s *rekeyServer) complete() map[string]any {
	var texts []string
	s.fresh = nil
	for slot := range s.n {
		s.fresh = append(s.fresh, next(2, slot+1))
		b := []byte(strings.Repeat("encrypted", 20))
		if !s.encrypted {
			b = rawShare(s.rig.t, s.fresh[slot]).Reveal()
		}
		texts = append(texts, base64.StdEncoding.EncodeToString(b))
	}
	s.result = map[string]any{
		"nonce": s.nonce, "complete": true, "keys": s.fresh, "keys_base64": texts, "backup": false, "verification_required": s.verify,
	}
	if s.encrypted {
		s.result["pgp_fingerprints"] = slices.Repeat([]string{"abcd"}, s.n)
	}
	if s.verify {
		s.verifyNonce = "f" + s.nonce[1:]
		s.result["verification_nonce"] = s.verifyNonce
	} else {
		s.nonce = ""
	}
	return s.result
}

func (s *rekeyServer) prove(r *http.Request) (int, any) {
	var body struct{ Key, Nonce string }
	json.NewDecoder(r.Body).Decode(&body)
	switch {
	case s.verifyNonce == "":
		return 400, "no rekey in progress"
	case body.Nonce != s.verifyNonce:
		return 400, "incorrect nonce supplied; nonce for this verify operation is " + s.verifyNonce
	case !slices.Contains(s.fresh, body.Key):
		return 400, "the share is not one of the new ones"
	case slices.Contains(s.proven, body.Key):
		return 400, "given key has already been provided during this operation"
	}
	s.proven = append(s.proven, body.Key)
	if len(s.proven) == s.t && !s.all || len(s.proven) == s.n {
		nonce := s.verifyNonce
		s.nonce, s.verifyNonce = "", ""
		return 200, map[string]any{"nonce": nonce, "complete": true}
	}
	return s.showVerify()
}

// give runs the command with a share on standard input.
func (s *rekeyServer) give(text string, args ...string) result {
	s.rig.t.Helper()
	s.stdin = text
	return s.ok(append(append([]string{"operator", s.name}, args...), "-")...)
}

const idleRekey = "Key        Value\n---        -----\nNonce      \nStarted    false\n"

func TestRekeyStock(t *testing.T) {
	s := newRekeyServer(t)
	want(t, "idle", s.ok("operator", "rekey", "-status").out, idleRekey)
	got := s.ok("operator", "rekey", "-init", "-n=3", "-t", "2")
	want(t, "start", got.out, `Key                      Value
---                      -----
Nonce                    00000000-0000-4000-8000-000000000001
Started                  true
Rekey Progress           0/2
New Shares               3
New Threshold            2
Verification Required    true
`)
	want(t, "advice", got.err, "holders give their present shares with: quorate operator rekey -nonce=00000000-0000-4000-8000-000000000001\n")
	wantBody(t, s.last(), `{"secret_shares":3,"secret_threshold":2,"pgp_keys":null,"backup":false,"require_verification":true,"verify_all":true}`)
	got = s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	want(t, "advice", got.err, "operation nonce: 00000000-0000-4000-8000-000000000001\n")
	if !strings.Contains(got.out, "Rekey Progress           1/2\n") {
		t.Errorf("%s", got.out)
	}
	got = s.give(armoured(t, thisCluster, 1, 2, 2, share(2)), "-nonce=00000000-0000-4000-8000-000000000001")
	var keys string
	for slot := 1; slot <= 3; slot++ {
		keys += fmt.Sprintf("# holder %d\nKey %d: %s\n", slot, slot, armoured(t, thisCluster, 2, slot, 2, next(2, slot)))
	}
	want(t, "result", got.out, keys+"\nOperation nonce: 00000000-0000-4000-8000-000000000001\n")
	if !strings.Contains(got.err, "not in force yet") || !strings.Contains(got.err, "quorate operator rekey -verify -nonce=f0000000-0000-4000-8000-000000000001") {
		t.Errorf("%s", got.err)
	}
	if again := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001"); again.out != got.out {
		t.Errorf("the result can't be had again: %s", again.out)
	}
	if got := s.ok("operator", "rekey", "-status"); !strings.Contains(got.out, "2/2 (verification in progress)\n") || !strings.Contains(got.out, "Verification Nonce       f0000000-0000-4000-8000-000000000001\n") {
		t.Errorf("%s", got.out)
	}
	want(t, "verification", s.ok("operator", "rekey", "-verify", "-status").out, `Key                      Value
---                      -----
Started                  true
New Shares               3
New Threshold            2
Verification Nonce       f0000000-0000-4000-8000-000000000001
Verification Progress    0/3
`)
	for slot := 1; slot <= 2; slot++ {
		got = s.give(next(2, slot), "-verify", "-nonce=f0000000-0000-4000-8000-000000000001")
		if !strings.Contains(got.out, fmt.Sprintf("Verification Progress    %d/3\n", slot)) {
			t.Errorf("%s", got.out)
		}
	}
	got = s.give(next(2, 3), "-verify", "-nonce=f0000000-0000-4000-8000-000000000001", "-format=json")
	want(t, "end", got.out, "{\n  \"nonce\": \"f0000000-0000-4000-8000-000000000001\",\n  \"complete\": true\n}\n")
	want(t, "advice", got.err, "verification nonce: f0000000-0000-4000-8000-000000000001\n"+inForce+"\n")
}

func TestRekeyAsJSON(t *testing.T) {
	s := newRekeyServer(t)
	var st map[string]any
	if err := json.Unmarshal([]byte(s.ok("operator", "rekey", "-init", "-n=1", "-t=1", "-no-verification", "-format=json").out), &st); err != nil || st["nonce"] != "00000000-0000-4000-8000-000000000001" || st["required"] != 2.0 {
		t.Errorf("%v, %v", st, err)
	}
	wantBody(t, s.last(), `{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"backup":false,"require_verification":false}`)
	s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001", "-format=json")
	want(t, "result", got.out, `{
  "nonce": "00000000-0000-4000-8000-000000000001",
  "complete": true,
  "keys": [
    "`+next(2, 1)+`"
  ],
  "keys_base64": [
    "`+base64.StdEncoding.EncodeToString(rawShare(t, next(2, 1)).Reveal())+`"
  ],
  "pgp_fingerprints": null,
  "backup": false,
  "verification_required": false,
  "keys_armoured": [
    "`+armoured(t, thisCluster, 2, 1, 1, next(2, 1))+`"
  ]
}
`)
	if !strings.Contains(got.err, "the new shares are in force; until a quorum of them has been used, the ones before can still unseal") {
		t.Errorf("%s", got.err)
	}
}

// Where the server has no table of holders, or another one, the shares stay as they came.
func TestRekeyWithoutTable(t *testing.T) {
	for _, answer := range []http.HandlerFunc{nil, func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, tableOf()) }} {
		s := newRekeyServer(t)
		s.answers[holdersTable] = answer
		s.ok("operator", "rekey", "-init", "-n=1", "-t=1")
		s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
		got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001")
		if !strings.HasPrefix(got.out, "Key 1: "+base64.StdEncoding.EncodeToString(rawShare(t, next(2, 1)).Reveal())+"\n") || !strings.Contains(got.err, "warning: the new shares are printed without their armour") {
			t.Errorf("%+v", got)
		}
	}
}

func TestRekeyEncrypted(t *testing.T) {
	s := newRekeyServer(t)
	s.ok("operator", "rekey", "-init", "-n=1", "-t=1", "-backup", "-pgp-keys="+write(t, "key", string(pgpPublic)))
	wantBody(t, s.last(), `{"secret_shares":1,"secret_threshold":1,"pgp_keys":["xgEE"],"backup":true,"require_verification":true,"verify_all":true}`)
	s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001")
	if !strings.HasPrefix(got.out, "Key 1 fingerprint: abcd; value: ZW5jcnlwdGVk") || strings.Contains(got.err, "warning") {
		t.Errorf("%+v", got)
	}
	if got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001", "-format=json"); !strings.Contains(got.out, `"keys_armoured": []`) {
		t.Errorf("%s", got.out)
	}
	s.ok("operator", "rekey", "-cancel")
	s.ok("operator", "rekey", "-init", "-n=1", "-t=1", "-rotate", "-verify-threshold", "-holders=alice", "-reason=why", "-ttl=2h", "-age-recipients="+write(t, "key", "# alice\n"+agePublic+"\n"))
	wantBody(t, s.last(), `{"secret_shares":1,"secret_threshold":1,"pgp_keys":null,"backup":false,"require_verification":true,"verify_all":false,"rotate":true,"holders":["alice"],"reason":"why","ttl":"7200s","age_recipients":["`+agePublic+`"]}`)
}

// A token goes only where it counts, and a holder needs none.
func TestRekeyAuthority(t *testing.T) {
	s := newRekeyServer(t)
	t.Setenv("BAO_TOKEN", "q.user")
	s.ok("operator", "rekey", "-init")
	s.ok("operator", "rekey", "-status")
	s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	s.ok("operator", "rekey", "-cancel", "-nonce=00000000-0000-4000-8000-000000000001")
	wantBody(t, s.rig.given(), `{"nonce":"00000000-0000-4000-8000-000000000001"}`)
	s.refuseStart = true
	s.fails(exitServer, []string{"error starting the rekey:", "hint: a key holder can do this from anywhere and without a token: add -holder"}, "operator", "rekey", "-init")
	s.give(share(1), "-init", "-holder")
	if body := s.last().body; !strings.HasPrefix(body, `{"key":"`+share(1)+`",`) {
		t.Errorf("%s", body)
	}
	s.fails(exitServer, []string{"* rekey already in progress", "hint: see it with quorate operator rekey -status"}, "operator", "rekey", "-init", "-holder", "-")
	s.give(share(1), "-cancel", "-holder")
	wantBody(t, s.rig.given(), `{"key":"`+share(1)+`"}`)
	for _, req := range s.seen {
		token := req.header.Get("X-Vault-Token")
		if asUser := req.path == "/v1/sys/rekey/init" && req.method != "GET"; asUser != (token != "") {
			t.Errorf("%s %s with token %q", req.method, req.path, token)
		}
	}
}

func TestRekeyCancel(t *testing.T) {
	s := newRekeyServer(t)
	got := s.ok("operator", "rekey", "-cancel")
	want(t, "cancel", got.out+got.err, "the rekey is cancelled, if one was in progress\nin force are the key shares of generation 1\n")
	s.answers["GET sys/ceremonies/holders"] = nil // another server of the family
	got = s.ok("operator", "rekey", "-cancel")
	want(t, "cancel", got.out+got.err, "the rekey is cancelled, if one was in progress\n")
	s.on("DELETE sys/rekey/init", 200, `{"started":true,"nonce":"n","required":2,"t":2,"n":3,"warnings":["only\u0007 an objection"]}`)
	got = s.fails(exitServer, []string{"warning: only\ufffd an objection\n"}, "operator", "rekey", "-cancel")
	if !strings.Contains(got.out, "Rekey Progress           0/2") {
		t.Errorf("%s", got.out)
	}
	s.answers["DELETE sys/rekey/init"] = nil
	s.fails(exitServer, []string{"error cancelling:", "add -holder"}, "operator", "rekey", "-cancel")
	s.ok("operator", "rekey", "-init", "-n=2", "-t=2")
	s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001")
	s.give(next(2, 1), "-verify", "-nonce=f0000000-0000-4000-8000-000000000001")
	got = s.ok("operator", "rekey", "-verify", "-cancel")
	if !strings.Contains(got.out, "Verification Nonce       e0000000-0000-4000-8000-000000000001\nVerification Progress    0/2\n") || !strings.Contains(got.err, "begins anew") {
		t.Errorf("%+v", got)
	}
}

func TestRekeyBackup(t *testing.T) {
	s := newRekeyServer(t)
	t.Setenv("BAO_TOKEN", "q.user")
	s.on("GET sys/rekey/backup", 200, `{"data":{"nonce":"n","keys":{"abcd":["00"]},"keys_base64":{"abcd":["AA=="]}}}`)
	got := s.ok("operator", "rekey", "-backup-retrieve", "-format=json")
	if !strings.Contains(got.out, `"abcd"`) || s.last().header.Get("X-Vault-Token") != "q.user" {
		t.Errorf("%s", got.out)
	}
	s.on("DELETE sys/rekey/backup", 204, nil)
	if got := s.ok("operator", "rekey", "-backup-delete"); got.err != "the kept shares are deleted, if there were any\n" {
		t.Errorf("%+v", got)
	}
	s.answers = map[string]http.HandlerFunc{}
	s.fails(exitServer, []string{"error reading the kept shares:"}, "operator", "rekey", "-backup-retrieve")
	s.fails(exitServer, []string{"error deleting the kept shares:"}, "operator", "rekey", "-backup-delete")
	s.on("GET sys/rekey/backup", 404, `{"errors":[]}`)
	s.fails(exitServer, []string{"no value found at sys/rekey/backup"}, "operator", "rekey", "-backup-retrieve")
}

// What contradicts itself is refused before anything is asked or sent.
func TestRekeyRefusals(t *testing.T) {
	for _, s := range []*rekeyServer{newRekeyServer(t), newRotateKeysServer(t)} {
		s.tty = &fakeTTY{answers: []string{canary}}
		key := write(t, "key", string(pgpPublic))
		age := write(t, "age", agePublic)
		for _, c := range []struct {
			want string
			args []string
		}{
			{"does not belong on the command line", []string{canary}},
			{"does not belong on the command line", []string{"-nonce=n", canary}},
			{"does not belong on the command line", []string{"-verify", "-nonce=n", canary}},
			{"does not belong on the command line", []string{"-", canary}},
			{"does not belong on the command line", []string{"-init", canary}},
			{"there are no recovery keys", []string{"-target=recovery", "-status"}},
			{"exclude each other", []string{"-init", "-cancel"}},
			{"exclude each other", []string{"-status", "-backup-delete"}},
			{"exclude each other", []string{"-backup-retrieve", "-backup-delete"}},
			{"have no effect here", []string{"-status", map[string]string{"rekey": "-rotate", "rotate-keys": "-rotate=false"}[s.name]}},
			{"have no effect here", []string{"-cancel", "-reason=x"}},
			{"have no effect here", []string{"-nonce=n", "-no-verification"}},
			{"have no effect here", []string{"-verify", "-verify-threshold"}},
			{"have no effect here", []string{"-holders=a,b,c,d,e", "-"}},
			{"have no effect here", []string{"-nonce=n", "-ttl=1h"}},
			{"-no-verification excludes", []string{"-init", "-no-verification", "-verify"}},
			{"-no-verification excludes", []string{"-init", "-no-verification", "-verify-threshold"}},
			{"-backup keeps encrypted shares only", []string{"-init", "-backup"}},
			{"-pgp-keys and -age-recipients exclude", []string{"-init", "-n=1", "-t=1", "-pgp-keys=" + key, "-age-recipients=" + age}},
			{"-age-recipients names 1 files for 5 shares", []string{"-init", "-age-recipients=" + age}},
			{"-holders names 2 for 5 shares", []string{"-init", "-holders=a,b"}},
			{"-holders", []string{"-init", "-n=1", "-t=1", "-holders=a\x1b[2J"}},
			{"-ttl", []string{"-init", "-ttl=soon"}},
			{"needs -nonce", []string{"-"}},
			{"needs -nonce", []string{"-verify", "-"}},
			{"must be table, json or yaml", []string{"-format=xml", "-status"}},
		} {
			got := s.fails(exitLocal, []string{c.want}, append([]string{"operator", s.name}, c.args...)...)
			hides(t, got.out, got.err)
		}
		s.fails(exitLocal, []string{"-non-interactive forbids", "hint: to give one share from standard input: -nonce=NONCE"}, "operator", s.name, "-non-interactive")
		if len(s.seen)+len(s.tty.prompts) > 0 {
			t.Errorf("sent %v, asked %q", s.seen, s.tty.prompts)
		}
	}
	s := newRekeyServer(t)
	s.fails(exitLocal, []string{"-holder has no effect here"}, "operator", "rekey", "-status", "-holder")
	s = newRotateKeysServer(t)
	s.give(share(1), "-init", "-holder")
	if body := s.last().body; !strings.HasPrefix(body, `{"key":"`+share(1)+`",`) {
		t.Errorf("%s", body)
	}
}

// A share goes only to what its holder means.
func TestRekeyOtherAttempt(t *testing.T) {
	s := newRekeyServer(t)
	s.stdin = share(1)
	got := s.fails(exitLocal, []string{"no rekey is in progress", "* no barrier rekey in progress"}, "operator", "rekey", "-nonce=n", "-")
	want(t, "stdout", got.out, "")
	s.fails(exitServer, []string{"* no rekey configuration found"}, "operator", "rekey", "-verify", "-nonce=n", "-")
	s.fails(exitServer, []string{"* no rekey configuration found"}, "operator", "rekey", "-verify", "-status")
	s.ok("operator", "rekey", "-init", "-n=2", "-t=2")
	s.seen = nil
	s.fails(exitLocal, []string{"you mean 00000000-0000-4000-8000-000000000000, in progress is 00000000-0000-4000-8000-000000000001", "hint: ask whoever started it"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000000", "-")
	s.fails(exitLocal, []string{"there are no new shares to verify"}, "operator", "rekey", "-verify", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = armoured(t, thatCluster, 1, 1, 2, share(1))
	s.fails(exitLocal, []string{"this share belongs to another cluster"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = canary + "!"
	s.fails(exitLocal, []string{"that is not a key share"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	for _, req := range s.seen {
		if req.method != "GET" {
			t.Errorf("something was sent: %v", req)
		}
	}
	s.stdin = canary
	got = s.fails(exitServer, []string{"error giving the key share:", "* the share for slot 1 is not valid"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	hides(t, got.out, got.err)
	s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001")
	s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001")
	s.seen = nil
	s.stdin = next(2, 1)
	s.fails(exitLocal, []string{"this is the nonce of the verification: add -verify"}, "operator", "rekey", "-nonce=f0000000-0000-4000-8000-000000000001", "-")
	s.fails(exitLocal, []string{"you mean 00000000-0000-4000-8000-000000000001, in progress is f0000000-0000-4000-8000-000000000001"}, "operator", "rekey", "-verify", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	for _, req := range s.seen {
		if req.method != "GET" {
			t.Errorf("something was sent: %v", req)
		}
	}
}

func TestRekeyAsCurl(t *testing.T) {
	s := newRekeyServer(t)
	s.stdin = canary
	got := s.ok("operator", "rekey", "-nonce=n", "-output-curl-string", "-")
	hides(t, got.out, got.err)
	if !strings.Contains(got.out, "/v1/sys/rekey/update") || !strings.Contains(got.err, `{"key":"<the share>","nonce":"n"}`) {
		t.Errorf("%+v", got)
	}
	if got := s.ok("operator", "rekey", "-init", "-output-curl-string"); !strings.Contains(got.out, `"secret_shares":5`) {
		t.Errorf("%s", got.out)
	}
	if len(s.seen) > 0 {
		t.Errorf("sent %v", s.seen)
	}
}

// The same in envelopes, with a token for everything.
func TestRotateKeys(t *testing.T) {
	s := newRotateKeysServer(t)
	s.ok("operator", "rotate-keys", "-init", "-n=1", "-t=1")
	if got := s.give(share(1), "-nonce=00000000-0000-4000-8000-000000000001"); !strings.Contains(got.out, "Rotation Progress        1/2\n") {
		t.Errorf("%s", got.out)
	}
	got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001")
	want(t, "result", got.out, "# holder 1\nKey 1: "+armoured(t, thisCluster, 2, 1, 1, next(2, 1))+"\n\nOperation nonce: 00000000-0000-4000-8000-000000000001\n")
	s.give(next(2, 1), "-verify", "-nonce=f0000000-0000-4000-8000-000000000001")
	want(t, "idle", s.ok("operator", "rotate-keys", "-status").out, idleRekey)
	for _, req := range s.seen {
		if strings.Contains(req.path, "rotate") && req.header.Get("X-Vault-Token") != "q.user" {
			t.Errorf("%s %s without a token", req.method, req.path)
		}
	}
	s.ok("operator", "rotate-keys", "-init", "-rotate")
	wantBody(t, s.last(), `{"secret_shares":5,"secret_threshold":3,"pgp_keys":null,"backup":false,"require_verification":true,"verify_all":true}`)
	s.ok("operator", "rotate-keys", "-cancel")
	s.ok("operator", "rotate-keys", "-init", "-rotate=false")
	if !strings.Contains(s.last().body, `"rotate":false`) {
		t.Errorf("%s", s.last().body)
	}
	s.on("DELETE sys/rotate/root/init", 200, `{"data":{"started":true},"warnings":["an objection"]}`)
	s.fails(exitServer, []string{"warning: an objection"}, "operator", "rotate-keys", "-cancel")
	s.answers = map[string]http.HandlerFunc{}
	if got := s.fails(exitServer, []string{"permission denied", "the server doesn't know the token"}, "operator", "rotate-keys", "-status"); strings.Contains(got.err, "-holder") {
		t.Errorf("%s", got.err)
	}
}

func TestUnwrittenRekey(t *testing.T) {
	s := newRekeyServer(t)
	s.stdout = full(t)
	s.fails(exitLocal, []string{notWritten, "hint: it is started: quorate operator rekey -status"}, "operator", "rekey", "-init", "-n=2", "-t=2")
	s.stdin = share(1)
	s.fails(exitLocal, []string{notWritten, "hint: the share was accepted"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = share(2)
	s.fails(exitLocal, []string{notWritten, "the last share brings them again: quorate operator rekey -nonce=00000000-0000-4000-8000-000000000001"}, "operator", "rekey", "-nonce=00000000-0000-4000-8000-000000000001", "-")
	s.stdin = next(2, 1)
	s.fails(exitLocal, []string{notWritten, "hint: the share was verified"}, "operator", "rekey", "-verify", "-nonce=f0000000-0000-4000-8000-000000000001", "-")
	s.stdout = nil
	if got := s.give(share(2), "-nonce=00000000-0000-4000-8000-000000000001"); !strings.Contains(got.out, "Key 2: qshare1") {
		t.Errorf("what the hint says doesn't bring it: %+v", got)
	}
}
