package bolt

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
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
			bare := openBare(b)
			defer bare.close()
			value := make([]byte, 400)
			putOurs := func(key string) error {
				return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(key, value) })
			}
			putBare := func(key string) error { return bare.put([]byte(key), value) }

			var ours, theirs time.Duration
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; { // short turns: what else the disk does meets both
				n := min(left, 16*writers)
				left -= n
				ours += timeWrites(b, writers, n, putOurs)
				b.StopTimer()
				theirs += timeWrites(b, writers, n, putBare)
				b.StartTimer()
			}
			b.StopTimer()
			b.ReportMetric(float64(b.N)/ours.Seconds(), "writes/s")
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "writes/commit")
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
		})
	}
}

// timeWrites makes n writes from several writers, each waiting for its own, and returns how long all took.
func timeWrites(b *testing.B, writers, n int, put func(key string) error) time.Duration {
	var left atomic.Int64
	left.Store(int64(n))
	begin := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := put(randomKey(rand.Uint64())); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

func randomKey(n uint64) string {
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return "token/id/" + hex.EncodeToString(raw[:])
}

// bareLoop is group commit by hand: no functions, no snapshot of their own for them, no rollback of one without the
// others, no contexts.
type bareLoop struct {
	db   *bbolt.DB
	puts chan barePut
	done chan struct{}
}

type barePut struct {
	key, value []byte
	result     chan error
}

func openBare(b *testing.B) *bareLoop {
	db, err := openDB(filepath.Join(b.TempDir(), "bare.db"), openFile)
	if err != nil {
		b.Fatal(err)
	}
	l := &bareLoop{db: db, puts: make(chan barePut, 1024), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *bareLoop) put(key, value []byte) error {
	p := barePut{key, value, make(chan error, 1)}
	l.puts <- p
	return <-p.result
}

func (l *bareLoop) run() {
	defer close(l.done)
	for first := range l.puts {
		group := []barePut{first}
		err := l.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte(bucketName))
			for i := 0; i < len(group); i++ {
				if err := bucket.Put(group[i].key, group[i].value); err != nil {
					return err
				}
				if i+1 == len(group) {
					group = l.drain(group)
				}
			}
			return nil
		})
		for _, p := range group {
			p.result <- err
		}
	}
}

// drain yields once like the store does, so that both get groups of the same size.
func (l *bareLoop) drain(group []barePut) []barePut {
	for range 2 {
		for more := true; more; {
			select {
			case p := <-l.puts:
				group = append(group, p)
			default:
				more = false
			}
		}
		runtime.Gosched()
	}
	return group
}

func (l *bareLoop) close() {
	close(l.puts)
	<-l.done
	l.db.Close()
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
