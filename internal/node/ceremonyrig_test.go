package node

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

// byShare asks with the share of a holder, counted from 0.
func (c *cluster) byShare(i int) Asker { return Asker{Credential: Credential{Share: c.share(i)}} }

// begin starts an attempt of any kind.
func (c *cluster) begin(who Asker, req StartRequest) *Ceremony {
	c.t.Helper()
	got, err := c.node.Start(c.t.Context(), GenerateRoot, who, req)
	if err != nil {
		c.t.Fatalf("start %s: %v", req.Kind, err)
	}
	return got
}

// give approves with a share, as client.
func (c *cluster) give(o *Ceremony, share []byte, client string) (*Ceremony, error) {
	return c.node.Approve(c.t.Context(), o.Kind, GenerateRoot, o.Attempt.Nonce,
		Approver{Credential: Credential{Share: secret.Copy(share)}, Client: client})
}

func (c *cluster) mustGive(o *Ceremony, i int) *Ceremony {
	c.t.Helper()
	got, err := c.give(o, c.shares[i], "")
	if err != nil {
		c.t.Fatalf("%s: share %d: %v", o.Kind, i, err)
	}
	return got
}

// finish gives shares until the attempt isn't open any more, beginning with the one of index from.
func (c *cluster) finish(o *Ceremony, from int) *Ceremony {
	c.t.Helper()
	got := o
	for i := from; got.State == Open; i++ {
		got = c.mustGive(o, i)
	}
	return got
}

// send approves with a signature that was made elsewhere.
func (c *cluster) send(o *Ceremony, nonce string, slot int, signature []byte) (*Ceremony, error) {
	return c.node.Approve(c.t.Context(), o.Kind, GenerateRoot, nonce,
		Approver{Credential: Credential{Slot: slot, Signature: signature}})
}

// signs approves as a holder does whose share stays at home.
func (c *cluster) signs(o *Ceremony, i int) (*Ceremony, error) {
	return c.send(o, o.Attempt.Nonce, i+1, signed(c.shares[i], o.Attempt.Statement(i+1, holder.ModeSignature)))
}

// signed is a statement signed with the key of a share.
func signed(share []byte, s holder.Statement) []byte {
	key := holder.Derive(secret.Copy(share), s.ClusterID, s.Generation)
	defer key.Wipe()
	return key.Sign(s)
}

// look reads the ceremony in a slot.
func (c *cluster) look(kind ceremony.Kind) *Ceremony {
	c.t.Helper()
	got, err := c.node.CeremonyOf(c.t.Context(), kind)
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

func (c *cluster) progress(kind ceremony.Kind) int {
	c.t.Helper()
	got := c.look(kind)
	if got.Attempt == nil {
		return -1
	}
	return got.Attempt.Progress()
}

func (c *cluster) identity() Identity {
	c.t.Helper()
	_, id, err := c.node.Ceremonies(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *cluster) drop(kind ceremony.Kind) {
	c.t.Helper()
	who := bearer(c.root)
	if _, ended, err := c.node.Cancel(c.t.Context(), kind, "", who); err != nil || !ended {
		c.t.Fatalf("cancel: %v, %v", ended, err)
	}
}

func (c *cluster) sweepNow() {
	c.t.Helper()
	if err := c.node.sweep(c.t.Context(), c.node.active.Load()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) table() map[string]GenerationView {
	c.t.Helper()
	_, list, err := c.node.HolderTable(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	found := map[string]GenerationView{} // :: state → generation
	for _, g := range list {
		found[g.State] = g
	}
	return found
}

// prove gives a new share to the verification.
func (c *cluster) prove(o *Ceremony, share []byte) (*Ceremony, error) {
	return c.node.Verify(c.t.Context(), o.Kind, o.Verification.Nonce, Approver{Credential: Credential{Share: secret.Copy(share)}})
}

// opens reports whether a new process over the store unseals with shares, and nothing less.
func (c *cluster) opens(shares [][]byte) bool {
	c.t.Helper()
	n, err := New(Options{Store: c.st, Now: c.clock.now, SweepInterval: 24 * time.Hour})
	if err != nil {
		c.t.Fatal(err)
	}
	defer n.Close()
	for _, share := range shares {
		if _, err := n.Unseal(c.t.Context(), secret.Copy(share), false, ""); err != nil {
			return false
		}
	}
	return !n.Sealed()
}

func cloned(keys [][]byte) (list [][]byte) {
	for _, k := range keys {
		list = append(list, bytes.Clone(k))
	}
	return list
}

func rekeyTo(shares, threshold int, more func(*RekeyRequest)) StartRequest {
	req := StartRequest{Kind: ceremony.Rekey, Rekey: RekeyRequest{Shares: shares, Threshold: threshold}}
	if more != nil {
		more(&req.Rekey)
	}
	return req
}

func verified(k *RekeyRequest)    { k.Verify = true }
func verifiedAll(k *RekeyRequest) { k.Verify, k.VerifyAll = true, true }

// rekeyed does a whole rekey without verification and lets the people have their new shares.
func (c *cluster) rekeyed(shares, threshold int) (old [][]byte) {
	c.t.Helper()
	old = c.shares
	got := c.finish(c.begin(local, rekeyTo(shares, threshold, nil)), 0)
	c.shares = cloned(got.Keys)
	return old
}

// ageKeys makes a key pair for each of n holders.
func ageKeys(t testing.TB, n int) (recipients []string, identities []*age.X25519Identity) {
	t.Helper()
	for range n {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		recipients, identities = append(recipients, id.Recipient().String()), append(identities, id)
	}
	return recipients, identities
}

func openAge(t testing.TB, message []byte, id *age.X25519Identity) []byte {
	t.Helper()
	r, err := age.Decrypt(bytes.NewReader(message), id)
	if err != nil {
		t.Fatal(err)
	}
	return unhex(t, r)
}

func pgpKeys(t testing.TB, n int, now time.Time) (keys [][]byte, entities []*openpgp.Entity) {
	t.Helper()
	at := now.Add(-time.Hour)
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return at }}
	for range n {
		e, err := openpgp.NewEntity("Ada", "", "ada@example.org", config)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		keys, entities = append(keys, []byte(base64.StdEncoding.EncodeToString(b.Bytes()))), append(entities, e)
	}
	return keys, entities
}

func openPGP(t testing.TB, message []byte, e *openpgp.Entity, now time.Time) []byte {
	t.Helper()
	md, err := openpgp.ReadMessage(bytes.NewReader(message), openpgp.EntityList{e}, nil, &packet.Config{Time: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return unhex(t, md.UnverifiedBody)
}

func unhex(t testing.TB, r io.Reader) []byte {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verify checks the whole transcript offline, as an auditor does who has the verifier key from elsewhere.
func (c *cluster) audit(key string) *transcript.Report {
	c.t.Helper()
	var out bytes.Buffer
	err := c.st.View(c.t.Context(), func(r store.Reader) error {
		out.Reset()
		head, err := transcript.ReadHead(r)
		if err != nil {
			return err
		}
		leaves, err := transcript.Read(r, 0, int(head.Size))
		if err != nil {
			return err
		}
		check, err := transcript.Checkpoint(r)
		if err != nil {
			return err
		}
		id, _, _, err := c.node.TranscriptState(c.t.Context())
		if err != nil {
			return err
		}
		return transcript.WriteExport(&out, transcript.ExportHeader{ClusterID: id, VerifierKey: key, Checkpoint: string(check)},
			func(yield func([]byte, error) bool) {
				for _, leaf := range leaves {
					if !yield(leaf, nil) {
						return
					}
				}
			})
	})
	if err != nil {
		c.t.Fatal(err)
	}
	rep, err := transcript.VerifyExport(&out, transcript.VerifyOptions{VerifierKey: key})
	if err != nil {
		c.t.Fatal(err)
	}
	return rep
}

func (c *cluster) verifierKey() string {
	c.t.Helper()
	_, key, _, err := c.node.TranscriptState(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

// entries are those of the transcript from index from on.
func (c *cluster) entries(from int) (list []*transcript.Entry) {
	c.t.Helper()
	for i, e := range c.audit(c.verifierKey()).Entries {
		if i >= from {
			list = append(list, e.Entry)
		}
	}
	return list
}

// happened returns the events since from, separated by blanks.
func (c *cluster) happened(from int) string {
	c.t.Helper()
	var list []string
	for _, e := range c.entries(from) {
		list = append(list, string(e.Event))
	}
	return strings.Join(list, " ")
}

func (c *cluster) size() int {
	c.t.Helper()
	var head transcript.Head
	err := c.node.TranscriptView(c.t.Context(), func(r store.Reader) (err error) {
		head, err = transcript.ReadHead(r)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return int(head.Size)
}

// copyOf is a snapshot of a store, as a backup has it.
func copyOf(t testing.TB, st store.Store) store.Store {
	t.Helper()
	to := inmem.New()
	var all []store.Entry
	err := st.View(t.Context(), func(r store.Reader) error {
		all = nil
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all = append(all, store.Entry{Key: strings.Clone(e.Key), Value: slices.Clone(e.Value)})
		}
		return nil
	})
	if err == nil {
		err = to.Update(t.Context(), func(tx store.Tx) error {
			for _, e := range all {
				if err := tx.Put(e.Key, e.Value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// countBehind counts the records under a prefix, through the barrier.
func (c *cluster) countBehind(prefix string) (n int) {
	c.t.Helper()
	err := c.node.active.Load().Barrier.View(c.t.Context(), func(r store.Reader) error {
		n = 0
		for _, err := range r.Scan(prefix, "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}
