package transcript

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/inmem"
)

// BenchmarkAppend measures one approval, written and signed, against a bare Put of as many bytes in the same run.
func BenchmarkAppend(b *testing.B) {
	a := newAttempt(ceremony.RootToken, "nonce-root", 2)
	e, s := approve(a, 1, holder.ModeShare), signer(b)
	leaf, err := e.encode()
	if err != nil {
		b.Fatal(err)
	}
	size := len(leaf) + 2*tlog.HashSize + 10*tlog.HashSize + 200 // the record, the head and the checkpoint
	for _, where := range []string{"inmem", "bolt"} {
		b.Run(where, func(b *testing.B) {
			var st store.Store = inmem.New()
			if where == "bolt" {
				var err error
				if st, err = bolt.Open(b.TempDir()+"/db", bolt.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			defer st.Close()
			var ours, bare time.Duration
			value := make([]byte, size)
			for i := 0; b.Loop(); i++ {
				begin := time.Now()
				appendAll(b, st, s, e)
				middle := time.Now()
				update(b, st, func(tx store.Tx) error { return tx.Put("bare/"+strconv.Itoa(i), value) })
				ours, bare = ours+middle.Sub(begin), bare+time.Since(middle)
			}
			b.ReportMetric(float64(ours)/float64(bare), "x-bare-put")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N), "ns/append")
		})
	}
}

// million is a log of attempts, four entries each: one in 25 completes by two approvals, the others expire.
func million(b *testing.B, n int) (*inmem.Store, *Signer) {
	b.Helper()
	st, s := inmem.New(), signer(b)
	appendAll(b, st, s, story()[0])
	for i := 1; i < n; {
		update(b, st, func(tx store.Tx) error {
			for range 25_000 {
				a := newAttempt(ceremony.RootToken, fmt.Sprint("nonce-", i), 2)
				list := []Entry{start(a), step(Duplicate, a), step(VerificationReset, a), step(Expire, a)}
				if i%100 == 1 { // signing a million times would take longer than all else
					list = []Entry{start(a), approve(a, 1, holder.ModeShare), approve(a, 2, holder.ModeSignature), step(Complete, a)}
				}
				list = list[:min(len(list), n-i)]
				if i += len(list); len(list) == 0 {
					return nil
				}
				if _, err := Append(tx, nil, list...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	update(b, st, func(tx store.Tx) error { return sign(tx, s) })
	return st, s
}

// BenchmarkMillion measures what is read from a log of 1,000,000 entries. In VerifyExport one attempt in 25 has its
// signatures, so that it shows the cost of the log; a signature costs as much as holder.Verify.
func BenchmarkMillion(b *testing.B) {
	if testing.Short() {
		b.Skip("a million entries take their time")
	}
	const n = 1_000_000
	st, s := million(b, n)
	defer st.Close()
	proof := func(fn func(r store.Reader, i int64) error) func(b *testing.B) {
		return func(b *testing.B) {
			for i := int64(0); b.Loop(); i++ {
				at := 1 + i*7919%(n-1)
				if err := st.View(context.Background(), func(r store.Reader) error { return fn(r, at) }); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("append", func(b *testing.B) {
		for b.Loop() {
			err := st.Update(context.Background(), func(tx store.Tx) error {
				if _, err := Append(tx, s, Entry{Time: epoch, Event: Sealed}); err != nil {
					return err
				}
				return ErrDamaged // what copying a store of this size in memory costs is not the point
			})
			if err != ErrDamaged {
				b.Fatal(err)
			}
		}
	})
	b.Run("inclusion", proof(func(r store.Reader, at int64) error {
		_, err := Inclusion(r, at, n)
		return err
	}))
	b.Run("consistency", proof(func(r store.Reader, at int64) error {
		_, err := Consistency(r, at, n)
		return err
	}))
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			view(b, st, func(r store.Reader) error {
				problems, err := Verify(b.Context(), r)
				if len(problems) > 0 {
					b.Fatal(problems)
				}
				return err
			})
		}
	})
	b.Run("verify-export", func(b *testing.B) {
		for b.Loop() {
			verifyMillion(b, st, s, n)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	})
}

// verifyMillion streams the export, as a file would be read, into the check.
func verifyMillion(b *testing.B, st store.Store, s *Signer, n int64) {
	b.Helper()
	in, out := io.Pipe()
	go func() {
		err := st.View(context.Background(), func(r store.Reader) error {
			checkpoint, err := Checkpoint(r)
			if err != nil {
				return err
			}
			h := ExportHeader{ClusterID: cluster, VerifierKey: s.VerifierKey(), Checkpoint: string(bytes.Clone(checkpoint))}
			return WriteExport(out, h, func(yield func([]byte, error) bool) {
				index := int64(0)
				for item, err := range r.Scan(recordPrefix, "") {
					_, leaf, _ := decodeRecord(index, item.Value)
					if index++; !yield(leaf, err) {
						return
					}
				}
			})
		})
		out.CloseWithError(err)
	}()
	r, err := VerifyExport(in, VerifyOptions{Discard: true})
	if err != nil {
		b.Fatal(err)
	}
	if r.Size != n || r.Signed != n || r.Signatures < n/60 || len(r.Problems) > 0 {
		b.Fatalf("%d entries, %d signed, %d signatures, %q", r.Size, r.Signed, r.Signatures, r.Problems)
	}
}
