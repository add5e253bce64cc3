package promises

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// badShares are what isn't a share of the people given, each with the reason that is told. other is a share of another
// cluster.
func badShares(people []seat, other []byte) map[string]string {
	good := people[2].share
	flipped := bytes.Clone(good)
	flipped[9] ^= 1
	text := hex.EncodeToString(good)
	return map[string]string{ // :: what is sent → the reason
		hex.EncodeToString(flipped): "slot 3",
		hex.EncodeToString(other):   "slot 3",
		text[:64] + "01":            "slot 1",
		text[:64] + "c8":            "slots",
		text[:64] + "00":            "",
		text[:64]:                   "wrong length",
		text[:8]:                    "shorter",
		text + "00":                 "longer",
		"a share that was mislaid":  "hex or base64",
		strings.Repeat("ab", 1900):  "longer",
		"qshare1" + text:            "",
	}
}

// badSignatures are what isn't the signature of the holder of the slot that it names, over the statement that right makes.
func badSignatures(p seat, right func(slot int) holder.Statement, wrong ...holder.Statement) (list []fields) {
	good := p.signs(right(p.slot))
	text := good["signature"].(string)
	b, _ := base64.StdEncoding.DecodeString(text)
	b[40] ^= 1
	for _, change := range []fields{
		{"slot": p.slot%5 + 1},
		{"slot": 0},
		{"slot": -1},
		{"slot": 256},
		{"slot": 200},
		{"slot": nil},
		{"signature": base64.StdEncoding.EncodeToString(b)},
		{"signature": text[:len(text)-4]},
		{"signature": text + "AAAA"},
		{"signature": hex.EncodeToString(b)},
		{"signature": ""},
		{"key": hex.EncodeToString(p.share)},
	} {
		list = append(list, merge(good, change))
	}
	share := right(p.slot)
	share.Mode = holder.ModeShare
	for _, s := range append(wrong, share) {
		list = append(list, p.signs(s))
	}
	for i := range 4 { // another action, cluster, generation, digest
		s := right(p.slot)
		switch i {
		case 0:
			s.Action = holder.ActionStart
		case 1:
			s.ClusterID = strings.ToUpper(s.ClusterID) + "x"
		case 2:
			s.Generation++
		case 3:
			s.Digest[31] ^= 1
		}
		list = append(list, p.signs(s))
	}
	return list
}

// Promise 3, of all ceremonies and all routes that take a share or a signature.
func TestPromise3EveryRoute(t *testing.T) {
	other := harness.Start(t, harness.Options{}).Shares[2]
	for kind, body := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			s := harness.Start(t, harness.Options{OneNode: kind == ceremony.RotateRoot})
			a := operator(t, s)
			c := a.begin(merge(body, fields{"reason": "one"}))
			people := seatsOf(s.Shares, c.ClusterID, c.Generation)
			elsewhere := *c // the same, with another reason
			elsewhere.Reason = "two"
			for i := range 2 {
				a.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", people[i].gives())
			}
			now := a.look(c.Nonce)
			paths := []request{{"POST", ceremonies + "/" + c.Nonce + "/approve", nil}}
			nonce := fields{"nonce": c.Nonce}
			switch kind {
			case ceremony.RootToken:
				paths = append(paths, request{"PUT", update, nonce}, request{"PUT", "sys/generate-root-token/update", nonce})
			case ceremony.Rekey:
				paths = append(paths, request{"PUT", "sys/rekey/update", nonce})
			case ceremony.RotateRoot:
				paths = append(paths, request{"PUT", "sys/rotate/root/update", nonce})
			}
			right := func(slot int) holder.Statement { return now.attempt().Statement(slot, holder.ModeSignature) }
			cancel := func(slot int) holder.Statement { return now.attempt().CancelStatement(slot, holder.ModeSignature) }
			signatures := badSignatures(people[2], right, cancel(3), elsewhere.attempt().Statement(3, holder.ModeSignature))
			for _, r := range paths {
				a.costsNothing(r, now, badShares(people, other), signatures)
			}
			r := request{"POST", ceremonies + "/" + c.Nonce + "/cancel", nil}
			a.stranger().costsNothing(r, now, badShares(people, other), badSignatures(people[2], cancel, right(3), elsewhere.attempt().CancelStatement(3, holder.ModeSignature)))
			for i := 2; i < now.Required; i++ {
				c = asShown(t, a.want(200, "POST", paths[0].path, people[i].approves(now.attempt())))
			}
			if c.Verification != nil {
				a.costsNothingToNewHolders(c, people, other)
			}
		})
	}
}

// costsNothing sends what is bad and looks at what became of the ceremony.
func (a asker) costsNothing(r request, now *shown, shares map[string]string, signatures []fields) {
	a.t.Helper()
	for share, reason := range shares {
		code, _, text := a.ask(r.method, r.path, merge(r.body, fields{"key": share}))
		if code != 400 || !strings.Contains(text, reason) || !strings.Contains(text, `"errors":["`) {
			a.t.Errorf("%s %s with %.10s...: %d %s, want %q", r.method, r.path, share, code, text, reason)
		}
		a.stands(now)
	}
	for i, body := range signatures {
		code, _, text := a.ask(r.method, r.path, merge(r.body, body))
		if code != 400 || !strings.Contains(text, `"errors":["`) {
			a.t.Errorf("%s %s with bad signature %d: %d %s", r.method, r.path, i, code, text)
		}
		a.stands(now)
	}
}

// costsNothingToNewHolders does it with the proofs that new holders have their shares.
func (a asker) costsNothingToNewHolders(c *shown, old []seat, other []byte) {
	a.t.Helper()
	next := seatsOf(unhex(a.t, c.Keys), c.ClusterID, c.Verification.Generation)
	native := request{"POST", ceremonies + "/" + c.Nonce + "/verify", nil}
	family := "sys/rekey/verify"
	if c.Kind == ceremony.RotateRoot {
		family = "sys/rotate/root/verify"
	}
	a.want(200, "POST", native.path, next[0].gives())
	a.want(200, "POST", native.path, next[1].proves(c.Verification.Nonce))
	now := a.look(c.Nonce)
	prove := func(nonce string) func(int) holder.Statement {
		return func(slot int) holder.Statement {
			return ceremony.ProveStatement(c.ClusterID, next[2].generation, slot, holder.ModeSignature, nonce)
		}
	}
	signatures := badSignatures(next[2], prove(c.Verification.Nonce), prove(c.Nonce)(3), prove("")(3), now.attempt().Statement(3, holder.ModeSignature))
	shares := badShares(next, other)
	shares[hex.EncodeToString(old[2].share)] = "" // of the generation in force
	for _, r := range []request{native, {"PUT", family, fields{"nonce": c.Verification.Nonce}}} {
		a.costsNothing(r, now, shares, signatures)
	}
	a.costsNothing(request{"PUT", family, fields{"nonce": c.Nonce}}, now, map[string]string{hex.EncodeToString(next[2].share): "nonce"}, nil)
	if done := asShown(a.t, a.want(200, "POST", native.path, next[2].proves(c.Verification.Nonce))); done.State != "complete" {
		a.t.Errorf("the third good proof: %+v", done)
	}
	// T17, T19: a share of the generation before is bad from now on, and it is told why.
	later := a.begin(fields{"kind": "drill"})
	a.costsNothing(request{"POST", ceremonies + "/" + later.Nonce + "/approve", nil}, later, map[string]string{hex.EncodeToString(old[2].share): "old generation"}, nil)
}
