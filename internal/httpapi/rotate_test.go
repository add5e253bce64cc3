package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/ceremony"
)

const (
	rotateInit   = "sys/rotate/root/init"
	rotateUpdate = "sys/rotate/root/update"
	rotateVerify = "sys/rotate/root/verify"
)

func (s *server) term() int {
	s.t.Helper()
	return s.do("GET", "sys/key-status", "", withToken(s.root)).want(200).num("term")
}

// Wire reference 4.2: the same in the envelope, in a slot of its own, with a new root key.
func TestRotateRoot(t *testing.T) {
	s := ready(t, 5, 3)
	idle := s.do("GET", rotateInit, "").want(200)
	idle.fieldsAre("request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth")
	idle.in("data").wantJSON(`{"n":0,"required":3,"started":false,"t":0}`)
	s.do("GET", rotateVerify, "").want(400, "no rekey configuration found")
	s.do("GET", "sys/rotate/root/backup", "", withToken(s.root)).wantErrors(400, "no backed-up keys found")
	s.do("LIST", rotateInit, "").wantErrors(405, "unsupported operation")
	s.do("GET", rotateUpdate, "").wantErrors(405, "unsupported operation")
	s.do("GET", rotateInit, "", withHeader("X-Vault-Namespace", "a")).wantErrors(404, "namespace not found")

	started := []string{"n", "nonce", "progress", "required", "started", "t", "verification_nonce", "verification_required"}
	start := s.do("POST", rotateInit, `{"secret_shares":"3","secret_threshold":2,"pgp_keys":"","require_verification":"true"}`, withToken(s.root)).want(200).in("data")
	start.fieldsAre(started...)
	nonce := start.str("nonce")
	s.do("PUT", rekeyInit, `{"secret_shares":3,"secret_threshold":2}`).want(200) // a slot of its own
	s.do("DELETE", rekeyInit, "").want(204)
	s.do("POST", rotateInit, `{"secret_shares":3,"secret_threshold":2}`).want(400, "already in progress")
	s.do("POST", rekeyUpdate, keyBody(s.keys[0], nonce)).want(400, "no barrier rekey in progress")
	for i := range 2 {
		part := s.do("POST", rotateUpdate, "nonce="+nonce+"&key="+s.keys[i], withHeader("Content-Type", "application/x-www-form-urlencoded"), stranger).want(200).in("data")
		part.fieldsAre(started...)
		part.is("progress", i+1)
	}
	s.do("POST", rotateUpdate, keyBody(s.keys[1], nonce)).want(400, "already been provided")
	s.do("POST", rotateUpdate, keyBody(s.keys[2], "x")).want(400, "incorrect nonce")
	before := s.term()
	done := s.do("POST", rotateUpdate, keyBody(s.keys[2], nonce)).want(200)
	last := done.in("data")
	last.fieldsAre("complete", "keys", "keys_base64", "nonce", "verification_nonce", "verification_required")
	last.is("nonce", nonce)
	last.is("complete", true)
	if again := s.do("POST", rotateUpdate, keyBody(s.keys[2], nonce)).want(200).in("data"); again.text != last.text {
		t.Errorf("the reply again is %s, it was %s", again.text, last.text)
	}
	verification := last.str("verification_nonce")
	s.takeKeys(last, 3)
	s.do("GET", rotateVerify, "").want(200).in("data").wantJSON(`{"nonce":"` + verification + `","started":true,"t":2,"n":3,"progress":0}`)
	verification = s.do("DELETE", rotateVerify, "", withToken(s.root)).want(200).in("data").str("nonce")
	s.do("POST", rotateVerify, keyBody(s.keys[0], verification)).want(200).in("data").is("progress", 1)
	if s.term() != before {
		t.Error("the keys changed before the commit")
	}
	s.do("POST", rotateVerify, keyBody(s.keys[2], verification)).want(200).in("data").wantJSON(`{"nonce":"` + verification + `","complete":true}`)
	if got := s.term(); got != before+1 {
		t.Errorf("term %d after %d", got, before)
	}
	s.sealAndUnseal(s.keys, 2)
	s.do("GET", rotateInit, "").want(200).in("data").wantJSON(`{"n":0,"required":2,"started":false,"t":0}`)
}

// With keys to encrypt to, the status says so; an objection is a warning in the envelope.
func TestRotateRootForPGPKeys(t *testing.T) {
	s := ready(t, 3, 2)
	ada, key, fingerprint := keyPair(t, s.clock.now())
	s.do("POST", rotateInit, `{"secret_shares":1,"secret_threshold":1,"backup":true}`).want(400, "backup")
	start := s.do("POST", rotateInit, `{"secret_shares":1,"secret_threshold":1,"pgp_keys":"`+key+`","backup":true}`).want(200).in("data")
	start.is("pgp_fingerprints", "["+fingerprint+"]")
	start.is("backup", true)
	nonce := start.str("nonce")
	s.do("POST", rotateUpdate, signed(t, s.keys[0], nonce, s.approval(ceremony.RotateRoot, 1)), stranger).want(200).in("data").is("progress", 1)
	objection := s.do("DELETE", rotateInit, `{"key":"`+s.keys[2]+`"}`, stranger).want(200, "objection is recorded")
	objection.in("data").is("nonce", nonce)
	last := s.do("POST", rotateUpdate, keyBody(s.keys[1], nonce)).want(200).in("data")
	last.fieldsAre("backup", "complete", "keys", "keys_base64", "nonce", "pgp_fingerprints", "verification_nonce", "verification_required")
	message := last.list("keys")[0]
	backup := s.do("GET", "sys/rotate/root/backup", "", withToken(s.root)).want(200)
	backup.is("keys", fmt.Sprintf("map[%s:[%s]]", fingerprint, message))
	s.do("GET", "sys/rekey/backup", "", withToken(s.root)).want(400)
	s.do("DELETE", "sys/rotate/root/backup", "", withToken(s.root)).want(204)
	s.do("GET", "sys/rotate/root/backup", "", withToken(s.root)).want(400)
	s.sealAndUnseal([]string{decryptPGP(t, ada, unhex(t, message), s.clock.now())}, 1)
}

// Wire reference 4.2 and 4.3: new keys with the shares there are.
func TestRotateKeys(t *testing.T) {
	s := ready(t, 3, 2)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	old, _ := s.newToken(`{"policies":["default"]}`)
	for _, path := range []string{"sys/rotate", "sys/rotate/keyring", "sys/rotate/root"} {
		for _, token := range []string{"", "junk", limited} {
			s.do("PUT", path, "", withToken(token)).wantErrors(403, "permission denied")
		}
		s.do("GET", path, "", withToken(s.root)).want(405, "unsupported operation")
		before := s.term()
		s.do("POST", path, "", withToken(s.root)).want(204)
		if got := s.term(); got != before+1 {
			t.Errorf("%s: term %d after %d", path, got, before)
		}
		s.do("GET", "auth/token/lookup-self", "", withToken(old)).want(200)
		s.sealAndUnseal(s.keys, 2)
		s.do("GET", "auth/token/lookup-self", "", withToken(old)).want(200)
	}
}

// Wire reference 4.3.
func TestRotationConfig(t *testing.T) {
	s := ready(t, 1, 1)
	const byDefault = `{"enabled":true,"interval":0,"max_operations":3865470566}`
	for _, path := range []string{"sys/rotate/config", "sys/rotate/keyring/config"} {
		for _, method := range []string{"GET", "PUT"} {
			s.do(method, path, "{}").wantErrors(403, "permission denied")
		}
		s.do("GET", path, "", withToken(s.root)).want(200).in("data").wantJSON(byDefault)
		s.do("DELETE", path, "", withToken(s.root)).want(405)
		for body, sentence := range map[string]string{
			`{"interval":"23h59m"}`:                         "interval",
			`{"interval":3600}`:                             "interval",
			`{"interval":-1}`:                               "interval",
			`{"interval":"soon"}`:                           "interval",
			`{"max_operations":999999}`:                     "max_operations",
			`{"max_operations":3865470567}`:                 "max_operations",
			`{"max_operations":-1}`:                         "max_operations",
			`{"max_operations":0}`:                          "max_operations",
			`{"max_operations":18446744073709551617}`:       "max_operations",
			`{"enabled":"perhaps"}`:                         "enabled",
			`{"interval":"48h","max_operations":"a few"}`:   "max_operations",
			`{"interval":"48h","enabled":true,"enabled":1}`: "twice",
		} {
			s.do("POST", path, body, withToken(s.root)).want(400, sentence)
		}
		s.do("GET", path, "", withToken(s.root)).in("data").wantJSON(byDefault) // nothing of it by halves
		s.do("POST", path, `{"interval":"48h","max_operations":1000000}`, withToken(s.root)).want(204)
		s.do("POST", path, "{}", withToken(s.root)).want(204)
		s.do("POST", path, "enabled=false", withToken(s.root), withHeader("Content-Type", "application/x-www-form-urlencoded")).want(204)
		s.do("GET", path, "", withToken(s.root)).in("data").wantJSON(`{"enabled":false,"interval":"48h0m0s","max_operations":1000000}`)
		s.do("POST", path, `{"enabled":true,"interval":0,"max_operations":"3865470566"}`, withToken(s.root)).want(204)
	}
	if log := s.log.String(); strings.Contains(log, s.root) {
		t.Error("the token is in the log")
	}
}
