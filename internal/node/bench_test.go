package node

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
	"github.com/quorate/quorate/internal/token"
)

// BenchmarkTokenCreation is durable, acknowledged creation of service tokens on bolt by 1, 8 and 64 writers, against
// the bare loop that writes as many records of about the same size. ratio is ours in units of the bare loop's.
func BenchmarkTokenCreation(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			st, err := bolt.Open(filepath.Join(b.TempDir(), "quorate.db"), bolt.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close()
			n, root := benchNode(b, st)
			bare := storetest.OpenBare(b, filepath.Join(b.TempDir(), "bare.db"))
			same := tokenRecords(b)
			ours, theirs := storetest.Duel(b, writers, b.N,
				func() error { return createToken(b, n, root) },
				func() error { return bare.Put(same()...) })
			b.ReportMetric(float64(b.N)/ours.Seconds(), "tokens/s")
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
		})
	}
}

// tokenRecords returns random records that are as many and as long as those that creating one token adds to a store.
func tokenRecords(b *testing.B) func() []store.Entry {
	st := inmem.New()
	n, root := benchNode(b, st)
	before := records(b, st)
	createToken(b, n, root)
	var keys, values []int
	for key, size := range records(b, st) {
		if _, was := before[key]; !was {
			keys, values = append(keys, len(key)), append(values, size)
		}
	}
	return func() []store.Entry {
		entries := make([]store.Entry, len(keys))
		for i := range entries {
			key := make([]byte, keys[i])
			rand.Read(key)
			entries[i] = store.Entry{Key: string(key), Value: make([]byte, values[i])}
		}
		return entries
	}
}

// records :: key → size of its value
func records(b *testing.B, st store.Store) map[string]int {
	all := map[string]int{}
	err := st.View(b.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = len(e.Value)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return all
}

func createToken(b *testing.B, n *Node, root secret.Bytes) error {
	access := Access{Token: root, Path: "auth/token/create", Capability: policy.Update}
	return n.Update(b.Context(), access, func(c *Call) error {
		_, _, _, err := c.Create(token.Spec{
			Path: "auth/token/create", Policies: []string{"default"}, TTL: time.Hour,
		})
		return err
	})
}

func benchNode(b *testing.B, st store.Store) (n *Node, root secret.Bytes) {
	b.Helper()
	n, err := New(Options{Store: st, SweepInterval: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	res, err := n.Init(b.Context(), InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := n.Unseal(b.Context(), secret.Copy(res.Keys[0]), true, ""); err != nil {
		b.Fatal(err)
	}
	return n, res.RootToken
}
