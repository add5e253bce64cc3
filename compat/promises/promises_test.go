// Package promises holds one test for each promise of the product, in its own words: what the promise says must be what
// the test shows. The other packages look closer, each at its part.
package promises

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// Promise 1: some quorum always opens the store. After a crash at any write of init, a quorum of shares that holders
// already have in their hands unseals it; and so it does after a crash at any write that follows.
// (Rekey and rotation, of which the promise speaks too, aren't built yet.)
func TestPromise1(t *testing.T) {
	crashes(t, func(t *testing.T, st *storetest.Faulty, crashed func()) {
		boot := func(shares [][]byte) asker {
			s := harness.Start(t, harness.Options{Uninitialised: true, Store: st})
			s.Shares = shares
			return operator(t, s)
		}
		a := boot(nil)
		code, res, _ := a.ask("PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2})
		if code != 200 { // the process is gone, and nobody has a share
			crashed()
			a = boot(nil)
			res = a.want(200, "PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2, "replace": true})
		}
		for _, text := range res["keys"].([]any) {
			share, err := hex.DecodeString(text.(string))
			if err != nil {
				t.Fatal(err)
			}
			a.server.Shares = append(a.server.Shares, share)
		}
		a.server.Root = res["root_token"].(string)
		for _, step := range []func() int{
			func() int { code, _, _ := a.ask("PUT", "sys/unseal", fields{"key": a.server.Hex(2)}); return code },
			func() int { code, _, _ := a.ask("PUT", "sys/unseal", fields{"key": a.server.Hex(0)}); return code },
			func() int { code, _, _ := a.ask("PUT", attempt, nil); return code },
			func() int { code, _, _ := a.with(a.server.Root).ask("POST", "auth/token/create", nil); return code },
			func() int { code, _, _ := a.with(a.server.Root).ask("PUT", "sys/seal", nil); return code },
		} {
			if code := step(); code >= 500 {
				crashed()
				break
			}
		}
		root := a.server.Root
		a = boot(a.server.Shares)
		a.server.Root = root
		a.server.Unseal(t)
		if !a.lives(root) {
			t.Error("unsealed, and the first root token is dead")
		}
		// From now on no init takes the cluster away from its holders.
		a.want(400, "PUT", "sys/init", fields{"secret_shares": 3, "secret_threshold": 2, "replace": true})
	})
}

// Promise 2: nobody without authority changes a ceremony. A stranger cannot start, block, cancel, reset or wear down an
// attempt or an unseal.
func TestPromise2(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	stranger := a.stranger()
	for _, path := range []string{attempt, "sys/generate-root-token/attempt", "sys/root-generation/attempt"} {
		stranger.want(403, "PUT", path, nil)
		stranger.with("a-token-that-is-none").want(403, "PUT", path, nil)
		stranger.want(400, "PUT", path, fields{"key": strings.Repeat("ab", 32) + "01"})
	}
	nonce, otp := a.start()
	a.approve(0, nonce)
	a.approve(1, nonce)
	for range 20 {
		stranger.want(403, "DELETE", attempt, nil)
		stranger.want(400, "DELETE", attempt, fields{"key": strings.Repeat("ab", 32) + "03"})
		stranger.want(403, "PUT", attempt, nil)
		stranger.want(400, "PUT", update, fields{"key": strings.Repeat("ab", 32) + "03", "nonce": nonce})
		stranger.want(400, "PUT", update, fields{"key": s.Hex(0), "nonce": nonce})
	}
	a.unchanged(nonce, 2)
	last := stranger.approve(2, nonce) // a holder may be anywhere
	if !a.lives(decode(t, last["encoded_token"], otp)) {
		t.Error("the holders did not get their token")
	}

	stranger.want(403, "PUT", "sys/seal", nil)
	a.with(s.Root).want(204, "PUT", "sys/seal", nil)
	a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(0)})
	a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(1)})
	for range 20 {
		stranger.want(403, "PUT", "sys/unseal", fields{"reset": true})
		stranger.want(400, "PUT", "sys/unseal", fields{"key": strings.Repeat("ab", 32) + "03"})
		stranger.want(400, "PUT", "sys/init", fields{"secret_shares": 1, "secret_threshold": 1})
		stranger.want(403, "PUT", "sys/init", fields{"secret_shares": 1, "secret_threshold": 1, "replace": true})
	}
	if st := a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(2)}); st["sealed"] != false {
		t.Errorf("three valid shares, and %v", st)
	}
}

// Promise 3: a bad share costs nothing. It is refused when it arrives, with the reason, and progress stays what it was.
func TestPromise3(t *testing.T) {
	s, other := harness.Start(t, harness.Options{}), harness.Start(t, harness.Options{})
	a := operator(t, s)
	damaged := bytes.Clone(s.Shares[2])
	damaged[9] ^= 1
	bad := map[string]string{ // :: share → the reason
		hex.EncodeToString(damaged): "slot 3",
		other.Hex(2):                "slot 3", // of another cluster
		s.Hex(2)[:64] + "05":        "slot 5",
		s.Hex(2)[:64] + "c8":        "none of this cluster's 5 slots",
		s.Hex(2)[:64]:               "wrong length",
		s.Hex(2)[:8]:                "shorter",
		s.Hex(2) + "00":             "longer",
		"a share that was mislaid":  "hex or base64",
	}
	nonce, _ := a.start()
	a.approve(0, nonce)
	a.approve(1, nonce)
	for share, reason := range bad {
		code, _, text := a.ask("PUT", update, fields{"key": share, "nonce": nonce})
		if code != 400 || !strings.Contains(text, reason) {
			t.Errorf("%.10s...: %d %s, want %q", share, code, text, reason)
		}
		a.unchanged(nonce, 2)
	}
	if last := a.approve(2, nonce); last["complete"] != true {
		t.Errorf("the third good share: %v", last)
	}

	a.with(s.Root).want(204, "PUT", "sys/seal", nil)
	a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(0)})
	a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(1)})
	for share, reason := range bad {
		code, _, text := a.ask("PUT", "sys/unseal", fields{"key": share})
		if code != 400 || !strings.Contains(text, reason) {
			t.Errorf("unseal with %.10s...: %d %s, want %q", share, code, text, reason)
		}
		if st := a.want(200, "GET", "sys/seal-status", nil); st["progress"] != 2.0 {
			t.Errorf("unseal with %.10s...: progress is now %v", share, st["progress"])
		}
	}
	if st := a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(2)}); st["sealed"] != false {
		t.Errorf("the third good share: %v", st)
	}
}

// Promise 4: one quorum, at most one token. A completed ceremony leaves exactly one new root token, an unfinished or
// failed one leaves none; the token exists only if the reply that carries it could be made.
func TestPromise4(t *testing.T) {
	st := storetest.NewFaulty(inmem.New())
	s := harness.Start(t, harness.Options{Store: st})
	a := operator(t, s)
	nonce, otp := a.start()
	var holders sync.WaitGroup
	replies := make([]fields, 10) // each of the five holders sends their share twice
	for i := range replies {
		holders.Go(func() { _, replies[i], _ = a.ask("PUT", update, fields{"key": s.Hex(i / 2), "nonce": nonce}) })
	}
	holders.Wait()
	encoded := map[any]bool{} // the tokens in the replies
	for _, reply := range replies {
		if reply["complete"] == true {
			encoded[reply["encoded_token"]] = true
		}
	}
	if len(encoded) != 1 || a.tokens() != 2 {
		t.Fatalf("%d different completions and %d tokens, want 1 and the first root token beside it", len(encoded), a.tokens())
	}
	for token := range encoded {
		if !a.lives(decode(t, token, otp)) {
			t.Error("the token of the completed ceremony is dead")
		}
	}
	// Unfinished.
	nonce, _ = a.start()
	a.approve(0, nonce)
	a.approve(1, nonce)
	a.want(204, "DELETE", attempt, nil)
	a.want(400, "PUT", update, fields{"key": s.Hex(2), "nonce": nonce})
	// Failed: the store is gone just then. What the holders approved stands; the token comes with the reply, or not at all.
	nonce, otp = a.start()
	a.approve(0, nonce)
	a.approve(1, nonce)
	st.FailCommit(1, storetest.Lost)
	code, reply, _ := a.ask("PUT", update, fields{"key": s.Hex(2), "nonce": nonce})
	if code < 500 || reply["encoded_token"] != nil {
		t.Fatalf("a completion that was not written: %d %v", code, reply)
	}
	st.Recover()
	if n := a.tokens(); n != 2 {
		t.Errorf("%d tokens after an unfinished and a failed ceremony, want 2", n)
	}
	a.unchanged(nonce, 2)
	last := a.approve(2, nonce)
	again := a.approve(2, nonce) // the reply was lost
	if last["encoded_token"] != again["encoded_token"] || !a.lives(decode(t, last["encoded_token"], otp)) || a.tokens() != 3 {
		t.Errorf("%v, again %v, %d tokens", last, again, a.tokens())
	}
}

// Promise 5: holders know what they approve. What an attempt will do, for whom and why has one digest; every approval by
// signature is bound to it. Wire clients that send a share are bound by the nonce.
func TestPromise5(t *testing.T) {
	share := secret.Copy(append(bytes.Repeat([]byte{5}, 32), 1))
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	base := ceremony.Params{
		Nonce: "n", Kind: ceremony.RootToken, ClusterID: "c", Generation: 1, Threshold: 2, Holders: 3, Recipient: "ada", Reason: "because",
		Initiator: ceremony.Initiator{By: ceremony.ByToken, Token: "t", Slot: 1}, Limits: ceremony.DefaultLimits(), Now: now,
	}
	key := holder.Derive(share, base.ClusterID, base.Generation)
	verifier := func(int) (holder.Verifier, bool) { return key.Verifier(), true }
	signature := key.Sign(ceremony.New(base).Statement(1, holder.ModeSignature))
	approve := func(p ceremony.Params, slot int, mode holder.Mode) error {
		_, err := ceremony.New(p).Approve(ceremony.Approval{Slot: slot, Mode: mode, Signature: signature}, verifier, now)
		return err
	}
	if err := approve(base, 1, holder.ModeSignature); err != nil {
		t.Fatalf("the attempt that was signed: %v", err)
	}
	if approve(base, 2, holder.ModeSignature) == nil || approve(base, 1, holder.ModeShare) == nil {
		t.Error("one holder's signature counts for another, or for a share")
	}
	changed := 0
	eachChange(reflect.ValueOf(&base).Elem(), "", func(field string) {
		switch field {
		case ".Holders", ".Limits.Unapproved", ".Limits.Idle", ".Initiator.Connection":
			return // how long it waits for holders, and how many there are, is not what they approve
		}
		changed++
		if err := approve(base, 1, holder.ModeSignature); err == nil {
			t.Errorf("the signature is good for an attempt with another %s", field)
		}
	})
	if changed < 12 {
		t.Errorf("only %d fields were changed", changed)
	}

	// By share: the same attempt with another recipient is another nonce.
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	st := a.want(200, "PUT", attempt, fields{"otp": "the-otp-of-who-began-it!"})
	before := st["nonce"].(string)
	a.approve(0, before)
	a.want(204, "DELETE", attempt, nil)
	after, _ := a.start()
	code, _, text := a.ask("PUT", update, fields{"key": s.Hex(1), "nonce": before})
	if code != 400 || strings.Contains(text, after) {
		t.Errorf("a share for the attempt that is no more: %d %s", code, text)
	}
	a.unchanged(after, 0)
}

// eachChange changes one field after the other, calls fn, and puts the field back.
func eachChange(v reflect.Value, name string, fn func(field string)) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		old := v.Interface().(time.Time)
		v.Set(reflect.ValueOf(old.Add(time.Second)))
		fn(name)
		v.Set(reflect.ValueOf(old))
		return
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			eachChange(v.Field(i), name+"."+v.Type().Field(i).Name, fn)
		}
		return
	}
	old := reflect.ValueOf(v.Interface())
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + int64(time.Millisecond))
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	default:
		panic("a field of a new kind: " + name)
	}
	fn(name)
	v.Set(old)
}

// Promise 6: nothing happens unseen. Until there is a transcript, what is recorded before it is answered is the approval
// itself, in the store, and a line in the log.
func TestPromise6(t *testing.T) {
	st := inmem.New()
	s := harness.Start(t, harness.Options{Store: st})
	a := operator(t, s)
	seen := func(what string, do func()) {
		t.Helper()
		before := s.Log.String()
		do()
		if lines := strings.TrimPrefix(s.Log.String(), before); !strings.Contains(lines, what) {
			t.Errorf("%q is not in the log after it was answered: %q", what, lines)
		}
	}
	var nonce string
	seen(`msg="root generation started"`, func() { nonce, _ = a.start() })
	seen(`msg="root generation approved" nonce=`+nonce+` slot=1 progress=1`, func() { a.approve(0, nonce) })
	seen(`msg="root generation cancel" nonce=`+nonce, func() { a.want(204, "DELETE", attempt, nil) })
	nonce, _ = a.start()
	for i := range 2 {
		a.approve(i, nonce)
	}
	// The process is gone: what it answered is recorded.
	next := harness.Start(t, harness.Options{Store: st, Uninitialised: true})
	next.Shares, next.Root = s.Shares, s.Root
	next.Unseal(t)
	operator(t, next).unchanged(nonce, 2)
	seen(`slot=3 progress=3 required=3 complete=true`, func() { a.approve(2, nonce) })
	seen(`msg=sealed`, func() { a.with(s.Root).want(204, "PUT", "sys/seal", nil) })
	seen(`msg="share accepted" at=unseal progress=1`, func() { a.want(200, "PUT", "sys/unseal", fields{"key": s.Hex(0)}) })
	t.Skip("SKIPPED LOUDLY: the rest of promise 6. There is no transcript yet, so that nothing is recorded durably that can be verified offline; " +
		"an expiry is in the log only once it is swept, which package node tests")
}

// Promise 7: no secret leaks sideways. No share, token, one-time password or key appears in a log line, an error or a
// record. (The real binary, its files and its log at the lowest level are searched in compat/process; the process list
// in compat/cli, where a share on the command line is refused.)
func TestPromise7(t *testing.T) {
	st := inmem.New()
	s := harness.Start(t, harness.Options{Store: st})
	a := operator(t, s)
	nonce, otp := a.start()
	secrets := []string{s.Root, otp}
	for i := range s.Shares {
		secrets = append(secrets, s.Hex(i), s.Base64(i), string(s.Shares[i]), string(s.Shares[i][:32]))
	}
	absent := func(where, text string) {
		t.Helper()
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), hex.EncodeToString([]byte(secret))) {
				t.Errorf("%s holds a secret: %.200q", where, text)
			}
		}
	}
	for _, secret := range []string{s.Root, otp, s.Hex(0), s.Base64(1)} {
		for _, body := range []fields{
			{"key": secret + "x", "nonce": secret},
			{"key": []string{secret}},
			{secret: secret},
			{"otp": secret + "x"},
			{"pgp_key": secret},
			{"encoded_token": secret, "otp": secret + "x"},
			{"token": secret + "x"},
			{"accessor": secret},
		} {
			for _, path := range []string{attempt, update, "sys/root-generation/update", "sys/unseal", "sys/init", "sys/decode-token", "auth/token/lookup", "auth/token/" + secret[:9]} {
				if code, _, text := a.stranger().with(secret+"x").ask("PUT", path, body); code >= 400 {
					absent("the error of "+path, text)
				}
			}
		}
	}
	a.unchanged(nonce, 0)
	for i := range 3 {
		if last := a.approve(i, nonce); i == 2 {
			secrets = append(secrets, decode(t, last["encoded_token"], otp))
		}
	}
	absent("the log", s.Log.String())
	records := 0
	err := st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			records++
			absent("the record "+e.Key, e.Key+string(e.Value))
		}
		return nil
	})
	if err != nil || records < 8 || !strings.Contains(s.Log.String(), nonce) {
		t.Errorf("%d records and this log were searched, %v: %s", records, err, s.Log)
	}
}

// Promise 8: the wire contract holds. The unmodified Go clients of both products do a root generation, one half each.
// (compat/clients goes further with both and with curl, compat/wire holds the vectors.)
func TestPromise8(t *testing.T) {
	s := harness.Start(t, harness.Options{Shares: 3, Threshold: 2})
	baoConfig, vaultConfig := bao.DefaultConfig(), vault.DefaultConfig()
	baoConfig.Address, vaultConfig.Address = s.URL, s.URL
	b, err := bao.NewClient(baoConfig)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.NewClient(vaultConfig)
	if err != nil {
		t.Fatal(err)
	}
	b.ClearToken()
	v.ClearToken()
	begun, err := b.Sys().GenerateRootInit("", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Sys().GenerateRootUpdate(s.Hex(0), begun.Nonce); err != nil {
		t.Fatal(err)
	}
	done, err := b.Sys().GenerateRootUpdate(s.Base64(1), begun.Nonce)
	if err != nil || !done.Complete {
		t.Fatalf("%+v, %v", done, err)
	}
	v.SetToken(decode(t, done.EncodedToken, begun.OTP))
	if self, err := v.Auth().Token().LookupSelf(); err != nil || fmt.Sprint(self.Data["policies"]) != "[root]" {
		t.Errorf("the new token: %+v, %v", self, err)
	}
	t.Log("NOT TESTED HERE: the bao and vault command lines, hvac and node-vault; their libraries' wire is")
}

// Promise 9: every node tells the truth. With a shared store, what one node acknowledged every other honours at once.
// (The distributed stores aren't built: two nodes share one in memory.)
func TestPromise9(t *testing.T) {
	st := inmem.New()
	one := harness.Start(t, harness.Options{Store: st})
	two := harness.Start(t, harness.Options{Store: st, Uninitialised: true})
	two.Shares, two.Root = one.Shares, one.Root
	two.Unseal(t)
	a, b := operator(t, one), operator(t, two)
	for i := range 20 {
		spec := fields{"ttl": "1h"}
		if i%2 == 0 {
			spec = nil // a root token, whose children look only at the list of the dead
		}
		made := a.with(one.Root).want(200, "POST", "auth/token/create", spec)["auth"].(map[string]any)
		token := made["client_token"].(string)
		child := b.with(token).want(200, "POST", "auth/token/create", fields{"ttl": "1h"})["auth"].(map[string]any)["client_token"].(string)
		if !b.lives(token) || !a.lives(child) {
			t.Fatal("what one node made is unknown to the other")
		}
		a.with(one.Root).want(204, "POST", "auth/token/revoke", fields{"token": token})
		if b.lives(token) || b.lives(child) {
			t.Fatal("what one node revoked lives on at the other")
		}
	}
	nonce, otp := a.start()
	b.want(400, "PUT", attempt, nil)
	b.approve(0, nonce)
	a.approve(1, nonce)
	b.unchanged(nonce, 2)
	var completed atomic.Int32
	var holders sync.WaitGroup
	var encoded atomic.Value
	for i, node := range []asker{a, b} { // two last shares, at two nodes, at the same time
		holders.Go(func() {
			if code, reply, _ := node.ask("PUT", update, fields{"key": node.server.Hex(2 + i), "nonce": nonce}); code == 200 && reply["complete"] == true {
				completed.Add(1)
				encoded.Store(reply["encoded_token"])
			}
		})
	}
	holders.Wait()
	if token := decode(t, encoded.Load(), otp); completed.Load() != 1 || !a.lives(token) || !b.lives(token) || a.tokens() != 2 || b.tokens() != 2 {
		t.Errorf("%d completions, %d tokens", completed.Load(), a.tokens())
	}
	a.start()
	b.with(two.Root).want(204, "DELETE", attempt, nil)
	if a.want(200, "GET", attempt, nil)["started"] != false {
		t.Error("what one node cancelled goes on at the other")
	}
}
