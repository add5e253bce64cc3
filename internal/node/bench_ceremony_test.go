package node

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// board is an unsealed node and the keys of its holders.
type board struct {
	*testing.B
	node      *Node
	clusterID string
	shares    [][]byte
	keys      []*holder.Key // of the generation in force
}

func newBoard(b *testing.B, st store.Store, shares, threshold int) *board {
	b.Helper()
	n, err := New(Options{Store: st, SweepInterval: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	res, err := n.Init(b.Context(), InitRequest{Shares: shares, Threshold: threshold})
	if err != nil {
		b.Fatal(err)
	}
	h := &board{B: b, node: n, clusterID: res.ClusterID, shares: res.Keys}
	for i, share := range res.Keys {
		h.keys = append(h.keys, holder.Derive(secret.Copy(share), res.ClusterID, 1))
		if i < threshold {
			if _, err := n.Unseal(b.Context(), secret.Copy(share), true, ""); err != nil {
				b.Fatal(err)
			}
		}
	}
	return h
}

func (h *board) start(req StartRequest) *Ceremony {
	h.Helper()
	c, err := h.node.Start(h.Context(), GenerateRoot, Asker{Credential: Credential{Share: secret.Copy(h.shares[0])}}, req)
	if err != nil {
		h.Fatal(err)
	}
	return c
}

// consent is what the holder of a slot gives; the signature is made elsewhere, so that its cost isn't the server's.
func (h *board) consent(a *ceremony.Attempt, slot int, signed bool) Approver {
	if !signed {
		return Approver{Credential: Credential{Share: secret.Copy(h.shares[slot-1])}}
	}
	return Approver{Credential: Credential{Slot: slot, Signature: h.keys[slot-1].Sign(a.Statement(slot, holder.ModeSignature))}}
}

func (h *board) approve(a *ceremony.Attempt, who Approver) *Ceremony {
	h.Helper()
	c, err := h.node.Approve(h.Context(), a.Kind, GenerateRoot, a.Nonce, who)
	if err != nil {
		h.Fatal(err)
	}
	return c
}

func how(signed bool) string {
	if signed {
		return "signature"
	}
	return "share"
}

// BenchmarkApproval is one holder's approval of an attempt that 10 have approved already. In memory its unit is one
// Ed25519 verification; on bolt the bare loop that writes as many records of the same size, one after the other.
func BenchmarkApproval(b *testing.B) {
	for _, signed := range []bool{false, true} {
		b.Run("inmem/"+how(signed), func(b *testing.B) { benchApproval(b, signed, false) })
		b.Run("bolt/"+how(signed), func(b *testing.B) { benchApproval(b, signed, true) })
	}
}

func benchApproval(b *testing.B, signed, durable bool) {
	var st store.Store = inmem.New()
	var bare *storetest.Bare
	if durable {
		var err error
		if st, err = bolt.Open(filepath.Join(b.TempDir(), "quorate.db"), bolt.Options{}); err != nil {
			b.Fatal(err)
		}
		bare = storetest.OpenBare(b, filepath.Join(b.TempDir(), "bare.db"))
	}
	defer st.Close()
	const holders, before = 40, 10
	h := newBoard(b, st, holders, holders)
	var ours, theirs time.Duration
	n := 0
	for range b.N {
		c := h.start(StartRequest{Kind: ceremony.RootToken})
		for slot := 1; slot <= before; slot++ {
			h.approve(c.Attempt, h.consent(c.Attempt, slot, true))
		}
		for slot := before + 1; slot < before+17; slot++ {
			who := h.consent(c.Attempt, slot, signed)
			var written map[string]int
			if durable {
				written = records(b, st)
			}
			begin := time.Now()
			h.approve(c.Attempt, who)
			ours += time.Since(begin)
			if durable {
				same := changed(written, records(b, st))
				theirs += timed(b, func() error { return bare.Put(same...) })
			} else {
				theirs += h.verification(c.Attempt)
			}
			n++
		}
		if _, _, err := h.node.Cancel(b.Context(), ceremony.RootToken, "", Asker{Credential: Credential{Share: secret.Copy(h.shares[0])}}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(n), "µs/approval")
	b.ReportMetric(float64(ours)/float64(theirs), "x-baseline")
}

// verification is how long one holder's signature takes to verify.
func (h *board) verification(a *ceremony.Attempt) time.Duration {
	const times = 8
	s := a.Statement(1, holder.ModeSignature)
	signature, verifier := h.keys[0].Sign(s), h.keys[0].Verifier()
	begin := time.Now()
	for range times {
		if !holder.Verify(verifier, s, signature) {
			h.Fatal("a valid signature isn't")
		}
	}
	return time.Since(begin) / times
}

func timed(b *testing.B, fn func() error) time.Duration {
	begin := time.Now()
	if err := fn(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}

// changed are records as many and as long as those that were added or got another length; the three records that an approval
// overwrites with as many bytes are small.
func changed(before, after map[string]int) (list []store.Entry) {
	for key, size := range after {
		if was, ok := before[key]; !ok || was != size {
			list = append(list, store.Entry{Key: key, Value: make([]byte, size)})
		}
	}
	return list
}

// BenchmarkLargeCeremony is a whole ceremony with as many holders as there can be, all of whom are needed: the start and 255
// approvals. Its unit is the same with 3 of 3, in the same run: x-each is the cost of one approval in units of one of the small
// ceremony, start included.
func BenchmarkLargeCeremony(b *testing.B) {
	for _, signed := range []bool{false, true} {
		b.Run(how(signed), func(b *testing.B) {
			const many, few = 255, 3
			large, small := newBoard(b, inmem.New(), many, many), newBoard(b, inmem.New(), few, few)
			var took, unit time.Duration
			for range b.N {
				took += large.ceremony(StartRequest{Kind: ceremony.RootToken}, many, signed)
				for range 20 {
					unit += small.ceremony(StartRequest{Kind: ceremony.RootToken}, few, signed) / 20
				}
			}
			report(b, took, unit)
			b.ReportMetric(float64(took)/many/(float64(unit)/few), "x-each")
		})
	}
}

// ceremony is how long the whole of it takes the server.
func (h *board) ceremony(req StartRequest, approvals int, signed bool) (took time.Duration) {
	begin := time.Now()
	c := h.start(req)
	took = time.Since(begin)
	for slot := 1; slot <= approvals; slot++ {
		who := h.consent(c.Attempt, slot, signed)
		begin = time.Now()
		c = h.approve(c.Attempt, who)
		took += time.Since(begin)
	}
	if c.State == Open {
		h.Fatalf("still open with %d approvals", approvals)
	}
	if c.State == Verifying {
		if _, _, err := h.node.Cancel(h.Context(), req.Kind, "", Asker{Credential: Credential{Share: secret.Copy(h.shares[0])}}); err != nil {
			h.Fatal(err)
		}
	}
	return took
}

func report(b *testing.B, took, unit time.Duration) {
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/ceremony")
	b.ReportMetric(float64(unit.Milliseconds())/float64(b.N), "ms/unit")
	b.ReportMetric(float64(took)/float64(unit), "x-small")
}

// BenchmarkLargeRekey is a rekey from 3 holders to 255, up to where the new ones prove their shares. Its unit is one to 3.
func BenchmarkLargeRekey(b *testing.B) {
	h := newBoard(b, inmem.New(), 3, 2)
	recipients, _ := ageKeys(b, 255)
	for _, encrypted := range []bool{false, true} {
		b.Run(fmt.Sprintf("age=%t", encrypted), func(b *testing.B) {
			h.B = b
			rekey := func(shares, threshold int) time.Duration {
				k := RekeyRequest{Shares: shares, Threshold: threshold, Verify: true, VerifyAll: true}
				if encrypted {
					k.Age = recipients[:shares]
				}
				return h.ceremony(StartRequest{Kind: ceremony.Rekey, Rekey: k}, 2, true)
			}
			var took, unit time.Duration
			for range b.N {
				took += rekey(255, 128)
				unit += rekey(3, 2)
			}
			report(b, took, unit)
		})
	}
}
