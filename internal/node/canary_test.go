package node

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

// overheard is randomness of which a copy is kept.
type overheard struct{ read []byte }

func (o *overheard) Read(p []byte) (int, error) {
	n, err := rand.Read(p)
	o.read = append(o.read, p[:n]...)
	return n, err
}

// pieces are the ways in which eight bytes of a key may be written.
func pieces(key []byte) [][]byte {
	all := [][]byte{key[8:16], []byte(hex.EncodeToString(key[8:16])), bytes.ToUpper([]byte(hex.EncodeToString(key[8:16]))), bytes.Trim(fmt.Append(nil, key[8:16]), "[]")}
	for before := range 3 {
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, before), key...))
		all = append(all, []byte(encoded[8:24]))
	}
	return all
}

// T52: the root key and the unseal key of a server whose randomness is known, looked for in its log, its errors and its
// store, after a life with everything that uses them and with damage.
func TestNoKeyInLogOrStore(t *testing.T) {
	random := &overheard{}
	c := &cluster{t: t, st: anystore.New(t), clock: newClock(), log: &syncBuffer{}}
	c.boot()
	c.node.Rand = random
	c.init(3, 2)
	// The order in which package seal draws: the cluster ID, the root key, the unseal key.
	root, unseal := random.read[16:48], random.read[48:80]
	c.unseal()
	c.isRootKey(root)
	var texts [][]byte
	note := func(err error) {
		if err != nil {
			texts = append(texts, []byte(err.Error()))
		}
	}
	c.generate()
	nonce := c.start(GenerateRoot, local, StartRequest{}).Nonce
	_, err := c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, secret.Copy(unseal))
	note(err)
	_, err = c.node.ApproveRoot(t.Context(), GenerateRoot, string(root), c.share(0))
	note(err)
	for _, key := range []string{attemptKey, "seal/record"} {
		c.damage(key, 20)
		_, err = c.node.RootStatus(t.Context())
		note(err)
		_, err = c.node.ApproveRoot(t.Context(), GenerateRoot, nonce, c.share(0))
		note(err)
		note(c.node.sweep(t.Context(), c.node.active.Load()))
	}
	c.node.Close()
	c.boot()
	for i := range 2 {
		_, err = c.node.Unseal(t.Context(), c.share(i), true, "")
		note(err)
	}
	if len(texts) < 5 {
		t.Fatalf("only %d errors: the test does not test", len(texts))
	}
	texts = append(texts, []byte(c.log.String()))
	err = c.st.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			texts = append(texts, slices.Concat([]byte(e.Key), e.Value))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"root key": root, "unseal key": unseal} {
		for _, piece := range pieces(key) {
			for _, text := range texts {
				if bytes.Contains(text, piece) {
					t.Errorf("the %s is in %.300q", name, text)
				}
			}
		}
	}
}

// isRootKey makes sure that what is looked for is the key in use: it opens the same barrier.
func (c *cluster) isRootKey(key []byte) {
	c.t.Helper()
	derived := c.node.active.Load().Barrier.DeriveKey("test")
	if !derived.Equal(barrier.Derive(secret.Copy(key), "test")) {
		c.t.Fatal("the root key was drawn in another order: the test looks for something else")
	}
}
