package node

import (
	"bytes"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// putRaw writes below the barrier, as who can write to the storage does; nil deletes.
func (c *cluster) putRaw(key string, value []byte) {
	c.t.Helper()
	err := c.st.Update(c.t.Context(), func(tx store.Tx) error {
		if value == nil {
			return tx.Delete(key)
		}
		return tx.Put(key, value)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// rawBelow are the stored records under a prefix.
func (c *cluster) rawBelow(prefix string) map[string][]byte {
	found := map[string][]byte{}
	err := c.st.View(c.t.Context(), func(r store.Reader) error {
		clear(found)
		for e, err := range r.Scan(prefix, "") {
			if err != nil {
				return err
			}
			found[e.Key] = bytes.Clone(e.Value)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return found
}

// putBack puts records of an attempt that ended in the place of those of the open one, under their own keys and under
// the open one's.
func (c *cluster) putBack(prefix string, stolen map[string][]byte, from, to string) {
	for key, value := range stolen {
		c.putRaw(key, value)
		c.putRaw(prefix+string(bytes.ReplaceAll([]byte(key[len(prefix):]), []byte(from), []byte(to))), value)
	}
}

// Promise 5: who can write to the storage can't have a quorum's token or shares encoded for themselves, by putting
// back what an attempt of theirs left.
func TestRecipientsPutBack(t *testing.T) {
	t.Run("OTP", func(t *testing.T) {
		c := newCluster(t, 5, 3)
		const mallory = "abcdefghijklmnopqrstuvwx"
		evil := c.begin(local, StartRequest{Kind: ceremony.RootToken, OTP: []byte(mallory)})
		stolen := c.rawBelow(otpPrefix)
		if len(stolen) != 1 {
			t.Fatalf("%d OTPs are stored", len(stolen))
		}
		if _, _, err := c.node.Cancel(t.Context(), ceremony.RootToken, "", local); err != nil {
			t.Fatal(err)
		}
		o := c.begin(bearer(c.root), StartRequest{Kind: ceremony.RootToken})
		c.mustGive(o, 0)
		c.mustGive(o, 1)
		c.putBack(otpPrefix, stolen, evil.Attempt.Nonce, o.Attempt.Nonce)
		got, err := c.signs(o, 2)
		if err == nil {
			text, _ := delivery.Decode([]byte(got.EncodedToken), []byte(mallory))
			if bytes.HasPrefix(text, []byte("q.")) {
				t.Error("the token is encoded for somebody else")
			}
		}
		if c.accessors(c.root) != 1 && err != nil {
			t.Error("there is a token without a reply")
		}
	})
	t.Run("new shares", func(t *testing.T) {
		c := newCluster(t, 3, 2)
		bad, _ := ageKeys(t, 3)
		good, ids := ageKeys(t, 3)
		verify := func(to []string) StartRequest {
			return rekeyTo(3, 2, func(k *RekeyRequest) { k.Age, k.Verify = to, true })
		}
		evil := c.begin(local, verify(bad))
		stolen := c.rawBelow(recipientPrefix)
		if len(stolen) != 3 {
			t.Fatalf("%d recipients are stored", len(stolen))
		}
		if _, _, err := c.node.Cancel(t.Context(), ceremony.Rekey, "", local); err != nil {
			t.Fatal(err)
		}
		o := c.begin(bearer(c.root), verify(good))
		if _, err := c.signs(o, 0); err != nil {
			t.Fatal(err)
		}
		c.putBack(recipientPrefix, stolen, evil.Attempt.Nonce, o.Attempt.Nonce)
		got, err := c.signs(o, 1)
		if err != nil {
			return // refused: nothing was made for anybody
		}
		for i, key := range got.Keys {
			if len(openAge(t, key, ids[i])) == 0 {
				t.Errorf("share %d is not for who was approved", i+1)
			}
		}
	})
}

// One quorum, at most one token: an attempt that is put back after it completed yields none.
func TestCompletedAttemptPutBack(t *testing.T) {
	c := newCluster(t, 5, 3)
	good, _ := ageKeys(t, 1)
	o := c.begin(bearer(c.root), StartRequest{Kind: ceremony.RootToken, Age: good[0]})
	for i := range 2 {
		if _, err := c.signs(o, i); err != nil {
			t.Fatal(err)
		}
	}
	before := c.raw(attemptKey)
	sig := signed(c.shares[2], o.Attempt.Statement(3, holder.ModeSignature))
	if _, err := c.send(o, o.Attempt.Nonce, 3, sig); err != nil {
		t.Fatal(err)
	}
	c.putRaw(attemptKey, before)
	if got, err := c.send(o, o.Attempt.Nonce, 3, sig); err == nil {
		t.Errorf("completed twice: %+v", got)
	}
	if n := c.accessors(c.root); n != 2 {
		t.Errorf("%d root tokens", n)
	}
}

// One holder can't take the new shares from the others; who may, is recorded.
func TestAcknowledgeByOneHolder(t *testing.T) {
	c := newCluster(t, 3, 2)
	good, _ := ageKeys(t, 3)
	o := c.begin(bearer(c.root), rekeyTo(3, 2, func(k *RekeyRequest) { k.Age, k.Verify, k.VerifyAll = good, true, true }))
	c.finish(o, 0)
	from := c.size()
	nonce := o.Attempt.Nonce
	signedAt := c.clock.now()
	reads := ceremony.ResultStatement(o.Attempt.ClusterID, 1, 1, holder.ModeSignature, nonce, signedAt)
	destroys := ceremony.AcknowledgeStatement(o.Attempt.ClusterID, 1, 1, holder.ModeSignature, nonce, signedAt)
	bySignature := func(s holder.Statement) Asker {
		return Asker{Credential: Credential{Slot: 1, Signature: signed(c.shares[0], s)}, SignedAt: signedAt}
	}
	for name, who := range map[string]Asker{
		"share": c.byShare(2), "signature": bySignature(destroys), "signature of a read": bySignature(reads), "stranger": {}, "local": local,
	} {
		if err := c.node.Acknowledge(t.Context(), nonce, who); fault.As(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.node.Result(t.Context(), nonce, bySignature(destroys)); fault.As(err) == nil {
		t.Errorf("read by the signature of an acknowledgement: %v", err)
	}
	if got, err := c.node.Result(t.Context(), nonce, bySignature(reads)); err != nil || len(got.Keys) != 3 {
		t.Errorf("the result is not what it was: %v", err)
	}
	if h := c.happened(from); h != "" {
		t.Errorf("recorded %q", h)
	}
	if err := c.node.Acknowledge(t.Context(), nonce, bearer(c.root)); err != nil {
		t.Fatal(err)
	}
	if h := c.happened(from); h != "acknowledge" {
		t.Errorf("recorded %q", h)
	}
}

// A signed start asks for a token that never expires only if that was signed.
func TestSignedStartCoversNoLifetime(t *testing.T) {
	c := newCluster(t, 3, 2)
	c.node.RootTokenTTL = time.Hour
	s := c.signedStart(ceremony.RootToken)
	s.Recipient = "otp"
	never := StartRequest{Kind: ceremony.RootToken, Reason: s.Reason, TTL: s.TTL, RootTokenTTL: -time.Second}
	_, err := c.node.Start(t.Context(), GenerateRoot, c.startBy(0, s), never)
	c.refused(err, fault.Invalid, "")
	s.Parameters = []ceremony.Parameter{{Name: "root_token_ttl", Value: "0"}}
	got, err := c.node.Start(t.Context(), GenerateRoot, c.startBy(0, s), never)
	if err != nil || len(got.Attempt.Parameters) != 0 {
		t.Errorf("signed as asked: %+v, %v", got, err)
	}
}

// Strangers on an open listener can't use up what the server's own machine may start, nor with starts that fail.
func TestWeakStarts(t *testing.T) {
	c := newCluster(t, 3, 2)
	anyone := Asker{Open: true}
	for range weakStartBurst {
		c.clock.step(time.Nanosecond)
		c.begin(anyone, StartRequest{Kind: ceremony.RootToken})
		if _, _, err := c.node.Cancel(t.Context(), ceremony.RootToken, "", anyone); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.node.Start(t.Context(), GenerateRoot, anyone, StartRequest{Kind: ceremony.RootToken})
	c.refused(err, fault.Limited, "too many ceremonies")
	c.begin(local, StartRequest{Kind: ceremony.RootToken})
	for range 2 * weakStartBurst {
		c.clock.step(time.Nanosecond)
		_, err := c.node.Start(t.Context(), GenerateRoot, local, StartRequest{Kind: ceremony.RootToken})
		c.refused(err, fault.Invalid, "already in progress")
	}
	c.begin(local, StartRequest{Kind: ceremony.Drill})
}

// An attempt ends with the token that started it, also when seed 1 replaces that token.
func TestReplacedTokenOwnsNothing(t *testing.T) {
	c := newCluster(t, 3, 2)
	id, _ := c.create(c.root, token.Spec{Policies: []string{"root"}})
	c.begin(bearer(id), rekeyTo(3, 2, verified))
	st := c.start(RootGeneration, local, StartRequest{TokenID: []byte(id)})
	c.approve(RootGeneration, st.Nonce, 0)
	c.approve(RootGeneration, st.Nonce, 1)
	if got := c.look(ceremony.Rekey); got.State != Idle {
		t.Errorf("the rekey of the replaced token is %s", got.State)
	}
}
