package bolt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

// BenchmarkDurableWrites measures acknowledged, synced writes of a record of a token's size at a random key, by 1, 8
// and 64 writers, against the least that group commit over bbolt can be: a goroutine that drains a channel of puts.
// Both write in turns in the same run, each to a file of its own on the same disk. ratio is our writes per second in
// units of the bare loop's.
func BenchmarkDurableWrites(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openTest(b)
			defer s.Close()
			commits := countCommits(s)
			bare := storetest.OpenBare(b, filepath.Join(b.TempDir(), "bare.db"))
			value := make([]byte, 400)
			b.ReportAllocs()
			ours, theirs := storetest.Duel(b, writers, b.N, func() error {
				key := randomKey(rand.Uint64())
				return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(key, value) })
			}, func() error {
				return bare.Put(store.Entry{Key: randomKey(rand.Uint64()), Value: value})
			})
			b.ReportMetric(float64(b.N)/ours.Seconds(), "writes/s")
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "writes/commit")
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
		})
	}
}

func randomKey(n uint64) string {
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return "token/id/" + hex.EncodeToString(raw[:])
}

// BenchmarkPointRead measures a View that reads one of 100,000 records, alone and from every core.
func BenchmarkPointRead(b *testing.B) {
	const records = 100_000
	s := openTest(b)
	defer s.Close()
	value := make([]byte, 400)
	for from := 0; from < records; from += 10_000 {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			for i := from; i < from+10_000; i++ {
				if err := tx.Put(randomKey(uint64(i)*0x9e3779b97f4a7c15), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	read := func(i uint64) {
		err := s.View(context.Background(), func(r store.Reader) error {
			values, err := r.Get(randomKey(i % records * 0x9e3779b97f4a7c15))
			if err == nil && len(values[0]) != len(value) {
				b.Errorf("record %d has %d bytes", i%records, len(values[0]))
			}
			return err
		})
		if err != nil {
			b.Error(err)
		}
	}
	b.Run("bare", func(b *testing.B) { // the same without the store
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			s.db.View(func(tx *bbolt.Tx) error {
				bucket := tx.Bucket([]byte(bucketName))
				if got := bucket.Get([]byte(randomKey(i * 7919 % records * 0x9e3779b97f4a7c15))); len(got) != len(value) {
					b.Errorf("record %d has %d bytes", i, len(got))
				}
				return nil
			})
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			read(i * 7919)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.Uint64(); pb.Next(); i += 7919 {
				read(i)
			}
		})
	})
	b.Run("one/under-writes", func(b *testing.B) {
		defer keepWriting(s, value)()
		for i := uint64(0); b.Loop(); i++ {
			read(i * 7919)
		}
	})
}

// keepWriting runs 8 writers until the function that it returns is called.
func keepWriting(s *Store, value []byte) (stop func()) {
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := uint64(w); !stopped.Load(); i += 8 {
				s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(randomKey(i), value) })
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}
