package wire

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// row is a line of a table of the API reference, by its number from 1 in the table or by its first word. elsewhere says
// why no vector shows it.
type row struct{ name, gist, elsewhere string }

const (
	noRekey   = "rekey isn't built"
	noLeader  = "every node serves every request: there are no standbys"
	noAudit   = "audit isn't built"
	notOnWire = "shown by the tests of the package that decides it"
)

// checklist is the conformance checklist for root generation.
var checklist = []row{
	{"checklist 1", "status when idle", ""},
	{"checklist 2", "start without a body", ""},
	{"checklist 3", "start again", ""},
	{"checklist 4", "three shares, hex and base64, POST and PUT", ""},
	{"checklist 5", "decode, and the token is valid", ""},
	{"checklist 6", "idle afterwards, the old nonce is dead", ""},
	{"checklist 7", "the same share twice", ""},
	{"checklist 8", "a forged share", ""},
	{"checklist 9", "wrong, empty, missing nonce", ""},
	{"checklist 10", "bad keys", ""},
	{"checklist 11", "cancel midway, start anew", ""},
	{"checklist 12", "cancel when idle", ""},
	{"checklist 13", "own OTP", ""},
	{"checklist 14", "PGP", ""},
	{"checklist 15", "PGP keys that can't receive", ""},
	{"checklist 16", "both OTP and PGP", ""},
	{"checklist 17", "seal midway", ""},
	{"checklist 18", "everything while sealed and before init", ""},
	{"checklist 19", "1 of 1", ""},
	{"checklist 20", "after a rekey", noRekey},
	{"checklist 21", "endpoints switched off: refused without authority", ""},
	{"checklist 22", "seed 1 from start to root", ""},
	{"checklist 23", "seed 1 for a token that exists", ""},
	{"checklist 24", "seed 1 without a token", ""},
	{"checklist 25", "seed 1 cancelled and started for another ID", ""},
	{"checklist 26", "seed 1's ID is never shown", ""},
	{"checklist 27", "races", ""},
	{"checklist 28", "command lines", "compat/cli and compat/clients"},
}

// rootGeneration is the part of the reference about root generation.
var rootGeneration = []row{
	{"3.1 #1", "January 2016: seed 1", ""}, {"3.1 #2", "OTPs of 16 bytes in base64", ""},
	{"3.1 #3", "0.5.0: generate-root", ""}, {"3.1 #4", "0.5.1: a start answers 200", ""},
	{"3.1 #5", "0.6.1: base64", ""}, {"3.1 #6", "a duplicate is 400", ""},
	{"3.1 #7", "0.9: encoded_token", ""}, {"3.1 #8", "0.11.2: OTPs are text", ""},
	{"3.1 #9", "1.10: 28 characters", ""}, {"3.1 #10", "1.13: decode-token", ""},
	{"3.1 #11", "off for strangers", ""}, {"3.1 #12", "2.6.0: generate-root-token", ""},
	{"3.1 #13", "2.0: a token needed", ""}, {"3.1 #14", "one state machine", ""},
	{"3.2 #1", "root-generation", ""}, {"3.2 #2", "generate-root", ""}, {"3.2 #3", "generate-root-token", ""},
	{"3.2 #4", "decode-token", ""}, {"3.2 #5", "generate-recovery-token", ""}, {"3.2 #6", "generate-operation-token", ""},
	{"3.3 attempt #1", "GET", ""}, {"3.3 attempt #2", "PUT, POST", ""}, {"3.3 attempt #3", "DELETE", ""}, {"3.3 attempt #4", "others", ""},
	{"3.3 start #1", "no token", ""}, {"3.3 start #2", "in progress", ""}, {"3.3 start #3", "Bearer", ""},
	{"3.3 update", "methods", ""}, {"3.3 field #1", "key", ""}, {"3.3 field #2", "nonce", ""}, {"3.3 success", "five fields", ""},
	{"3.3 update #1", "empty body", ""}, {"3.3 update #2", "bad JSON", ""}, {"3.3 update #3", "no key", ""}, {"3.3 update #4", "not hex", ""},
	{"3.3 update #5", "length", ""}, {"3.3 update #6", "uninitialised", ""}, {"3.3 update #7", "sealed", ""}, {"3.3 update #8", "standby", noLeader},
	{"3.3 update #9", "nothing in progress", ""}, {"3.3 update #10", "nonce", ""}, {"3.3 update #11", "same share", ""}, {"3.3 update #12", "wrong share", ""},
	{"3.3 update #13", "revoking fails", "node: every write fails once"},
	{"3.3 completion #1", "combine", ""}, {"3.3 completion #2", "revoke", ""}, {"3.3 completion #3", "store", ""}, {"3.3 completion #4", "forget", ""},
	{"3.3 side effect", "children", ""},
	{"3.3 other #1", "audit", noAudit}, {"3.3 other #2", "memory", ""}, {"3.3 other #3", "rekey meanwhile", noRekey}, {"3.3 other #4", "threshold 1", ""},
	{"3.3 text #1", "200", ""}, {"3.3 text #2", "progress 0", ""}, {"3.3 text #3", "POST", ""}, {"3.3 text #4", "share twice", ""},
	{"3.3 text #5", "base64", ""}, {"3.3 text #6", "quality of IDs", ""}, {"3.3 text #7", "standby", noLeader},
	{"3.3 security #1", "holders see a nonce", ""}, {"3.3 security #2", "the nonce is open", ""}, {"3.3 security #3", "the ID is not logged", ""},
	{"3.4 GET idle", "", ""}, {"3.4 GET started", "", ""}, {"3.4 start reply", "", ""}, {"3.4 update partial", "", ""}, {"3.4 update complete", "", ""},
	{"3.4 method #1", "GET", ""}, {"3.4 method #2", "PUT, POST", ""}, {"3.4 method #3", "DELETE", ""}, {"3.4 method #4", "others", ""},
	{"3.4 request #1", "otp", ""}, {"3.4 request #2", "pgp_key", ""}, {"3.4 request #3", "neither", ""}, {"3.4 request #4", "both", ""},
	{"3.4 failure #1", "in progress", ""}, {"3.4 failure #2", "OTP length", ""}, {"3.4 failure #3", "PGP key", ""}, {"3.4 failure #4", "types", ""},
	{"3.4 failure #5", "sealed", ""}, {"3.4 failure #6", "namespace", ""}, {"3.4 failure #7", "wrapping", ""},
	{"3.4 pgp #1", "fingerprint", ""}, {"3.4 pgp #2", "armor", ""}, {"3.4 pgp #3", "several keys, secret key", ""}, {"3.4 pgp #4", "can't receive", ""},
	{"3.5 methods", "", ""}, {"3.5 #0", "sealed", ""}, {"3.5 #1", "empty body", ""}, {"3.5 #2", "bad JSON", ""}, {"3.5 #3", "no key", ""},
	{"3.5 #4", "not decodable", ""}, {"3.5 #5", "length", ""}, {"3.5 #6", "nothing in progress", ""}, {"3.5 #7", "nonce", ""}, {"3.5 #8", "already given", ""},
	{"3.5 #9", "same x, lengths", ""}, {"3.5 #10", "wrong share", ""},
	{"3.6 #1", "hex", ""}, {"3.6 #2", "base64", ""}, {"3.6 #3", "400", ""}, {"3.6 white space", "", ""},
	{"3.7 OTP", "", ""}, {"3.7 PGP", "", ""}, {"3.7 examples", "", ""}, {"3.7 decode", "", ""},
	{"3.8 #1", "ID", ""}, {"3.8 #2", "type", ""}, {"3.8 #3", "policies", ""}, {"3.8 #4", "path", ""}, {"3.8 #5", "display_name", ""}, {"3.8 #6", "ttl", ""},
	{"3.8 #7", "expire_time", ""}, {"3.8 #8", "meta", ""}, {"3.8 #9", "orphan", ""}, {"3.8 #10", "entity_id", ""}, {"3.8 #11", "accessor", ""}, {"3.8 #12", "lease", ""},
	{"3.8 #13", "others are not touched", ""},
	{"3.9 #1", "405 becomes 403", ""}, {"3.9 #2", "open", ""}, {"3.9 #3", "a token needed", ""},
	{"3.10 call #1", "GET idle", ""}, {"3.10 call #2", "GET started", ""}, {"3.10 call #3", "start", ""}, {"3.10 call #4", "DELETE", ""},
	{"3.10 call #5", "update", ""}, {"3.10 call #6", "LIST", ""}, {"3.10 failure #1", "missing", ""}, {"3.10 failure #2", "400, not 500", ""}, {"3.10 keys", "trimmed", ""},
	{"3.11", "recovery mode", ""},
	{"3.12 #1", "restart", ""}, {"3.12 #2", "seal and unseal", ""}, {"3.12 #3", "leader change", noLeader}, {"3.12 #4", "rekey", noRekey},
	{"3.12 #5", "tokens revoked", ""}, {"3.12 #6", "timeout", ""},
	{"3.13 #1", "one attempt", ""}, {"3.13 #2", "who may", ""}, {"3.13 #3", "lost reply", ""},
}

// general is what parts 1, 2, 4 and 5 say about the endpoints there are.
var general = []row{
	{"1.1 #1", "prefix", ""}, {"1.1 #2", "outside", ""}, {"1.1 #3", "unknown, no token", ""}, {"1.1 #4", "unknown, token", ""}, {"1.1 #5", "mount, no token", ""},
	{"1.1 #6", "mount, token", ""}, {"1.1 #7", "// and ..", ""}, {"1.1 #8", "encoded dots", ""}, {"1.1 #9", "not printable", ""}, {"1.1 #10", "slash, write", ""}, {"1.1 #11", "slash, raw", ""},
	{"1.2 #1", "GET", ""}, {"1.2 #2", "POST, PUT", ""}, {"1.2 #3", "PATCH", ""}, {"1.2 #4", "DELETE", ""}, {"1.2 #5", "LIST", ""},
	{"1.2 #6", "SCAN", "nothing has a tree to list"}, {"1.2 #7", "HELP", "there are no help texts"}, {"1.2 #8", "HEAD", ""}, {"1.2 #9", "OPTIONS", ""}, {"1.2 #10", "others", ""}, {"1.2 #11", "list=", ""},
	{"1.3 #1", "Content-Type", ""}, {"1.3 #2", "Cache-Control", ""}, {"1.3 #3", "Strict-Transport-Security", ""},
	{"1.4 #1", "format", ""}, {"1.4 #2", "form", ""}, {"1.4 #3", "raw", ""}, {"1.4 #4", "logical", ""}, {"1.4 #5", "empty", ""}, {"1.4 #6", "null", ""},
	{"1.4 #7", "list, scalar", ""}, {"1.4 #8", "truncated", ""}, {"1.4 #9", "size", ""}, {"1.4 strict", "our own rules", ""},
	{"1.5 204", "", ""}, {"1.5 307", "", ""}, {"1.5 403", "", ""}, {"1.5 404", "", ""}, {"1.5 405", "", ""}, {"1.5 413", "", ""}, {"1.5 415", "", ""},
	{"1.5 429", "", notOnWire}, {"1.5 500", "", notOnWire}, {"1.5 501", "", ""}, {"1.5 503", "", ""},
	{"1.6 #1", "X-Vault-Token", ""}, {"1.6 #2", "Bearer", ""}, {"1.6 #3", "X-Vault-Request", ""}, {"1.6 #4", "namespace", ""}, {"1.6 #5", "wrapping", ""},
	{"1.6 #6", "wrap format", "wrapping isn't built"}, {"1.6 #7", "forwarding", ""}, {"1.6 #8", "MFA", ""}, {"1.6 #9", "index", ""}, {"1.6 #10", "inline auth", "optional"},
	{"1.7 envelope", "", ""}, {"1.7 auth", "", ""}, {"1.8 raw", "", ""}, {"1.8 injected", "", ""}, {"1.9 #1", "sealed", ""},
	{"2.1 #1", "GET", ""}, {"2.1 #2", "PUT, POST", ""}, {"2.1 #3", "others", ""}, {"2.1 failures", "", ""}, {"2.1 pgp", "", ""}, {"2.1 replace", "ours", ""},
	{"2.1 shares", "", ""}, {"2.1 sealed", "", ""}, {"2.2", "seal-status", ""}, {"2.2 nonce", "", ""},
	{"2.3 methods", "", ""}, {"2.3 fields", "", ""}, {"2.3 #1", "uninitialised", ""}, {"2.3 #2", "neither", ""}, {"2.3 #3", "undecodable", ""}, {"2.3 #4", "length", ""},
	{"2.3 #5", "same share", ""}, {"2.3 #6", "fewer", ""}, {"2.3 #7", "last", ""}, {"2.3 #8", "wrong", ""}, {"2.3 #9", "unequal", ""}, {"2.3 #10", "unsealed", ""},
	{"2.3 #11", "white space", ""}, {"2.3 #12", "follower", noLeader}, {"2.3 reset", "ours", ""}, {"2.3 idle", "ours", ""},
	{"2.4 #1", "token", ""}, {"2.4 #2", "no token", ""}, {"2.4 #3", "sealed", ""}, {"2.4 #4", "standby", noLeader}, {"2.4 #5", "methods", ""}, {"2.4 #6", "audit", noAudit},
	{"2.4 step-down", "", ""}, {"2.5 #1", "active", ""}, {"2.5 #2", "standby", ""}, {"2.5 #3", "uninitialised", ""}, {"2.5 #4", "sealed", ""}, {"2.5 bad", "", ""},
	{"2.5 fields", "", ""}, {"2.5 methods", "", ""}, {"2.6", "leader", ""}, {"4.3", "key-status", ""},
	{"5.1", "forms", ""}, {"5.2", "create", ""}, {"5.3", "lookup", ""}, {"5.4", "renew", ""}, {"5.5", "revoke", ""}, {"5.6", "accessors", ""},
}

// traps are those of the reference's traps that are about what there is: 1 to 30, 36 to 39, 43 to 46.
var traps = []row{
	{"trap 1", "otp_length 0 in updates", ""}, {"trap 2", "padding", ""}, {"trap 3", "OTP length", ""}, {"trap 4", "both", ""}, {"trap 5", "OTP once", ""}, {"trap 6", "progress 0", ""},
	{"trap 7", "wrong share", ""}, {"trap 8", "duplicates", ""}, {"trap 9", "nonce", ""}, {"trap 10", "DELETE is 204", ""}, {"trap 11", "switched off", ""}, {"trap 12", "sealed", ""},
	{"trap 13", "order", ""}, {"trap 14", "PGP at the start", ""}, {"trap 15", "400, not 500", ""}, {"trap 16", "one attempt", ""}, {"trap 17", "seal", ""}, {"trap 18", "revokes nothing else", ""},
	{"trap 19", "the token is data", ""}, {"trap 20", "text of seed 1", ""}, {"trap 21", "complete", ""}, {"trap 22", "decoding", ""}, {"trap 23", "several nodes", noLeader}, {"trap 24", "hex text", ""},
	{"trap 25", "never 401", ""}, {"trap 26", "seal twice", ""}, {"trap 27", "seal-status", ""}, {"trap 28", "health", ""}, {"trap 29", "names in any case", ""}, {"trap 30", "content type", ""},
	{"trap 36", "empty and absent", ""}, {"trap 37", "envelope", ""}, {"trap 38", "injected", ""}, {"trap 39", "LIST, POST, PATCH", ""},
	{"trap 43", "no lease", ""}, {"trap 44", "create by root", ""}, {"trap 45", "no 202 or 429", ""}, {"trap 46", "last use", ""},
}

// reference is how a section's name begins if it names rows.
var reference = regexp.MustCompile(`^(checklist|trap|\d\.\d+) ?[^:]*: `)

// TestRowsAreCovered: each row of the reference has a vector or a reason to have none, and no section names a row that
// isn't there.
func TestRowsAreCovered(t *testing.T) {
	shown := map[string]bool{} // :: row's name → a section shows it
	for _, file := range vectorFiles(t) {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range a.Files {
			rows := strings.TrimSuffix(reference.FindString(section.Name), ": ")
			if rows == "" {
				t.Errorf("%s: the section %q names no row of the reference", file, section.Name)
				continue
			}
			for name := range strings.SplitSeq(rows, ", ") {
				shown[name] = true
			}
		}
	}
	for _, r := range slices.Concat(checklist, rootGeneration, general, traps) {
		switch {
		case !shown[r.name] && r.elsewhere == "":
			t.Errorf("no vector shows %s: %s", r.name, r.gist)
		case shown[r.name] && r.elsewhere != "":
			t.Errorf("%s has a vector, and a reason to have none: %s", r.name, r.elsewhere)
		}
		delete(shown, r.name)
	}
	for name := range shown {
		t.Errorf("the reference has no row %q", name)
	}
}
