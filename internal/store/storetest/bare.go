package storetest

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
)

// Bare is the yardstick of the write benchmarks: the least that group commit over bbolt can be. One goroutine drains a
// channel of puts into one transaction: no functions, no snapshot of their own for them, no rollback of one without
// the others, no contexts, no encryption.
type Bare struct {
	db   *bbolt.DB
	puts chan barePut
	done chan struct{}
}

type barePut struct {
	entries []store.Entry
	result  chan error
}

var bareBucket = []byte("bare")

// OpenBare creates a file at path and runs the loop over it until the benchmark ends.
func OpenBare(b testing.TB, path string) *Bare {
	b.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bareBucket)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	l := &Bare{db: db, puts: make(chan barePut, 1024), done: make(chan struct{})}
	go l.run()
	b.Cleanup(func() {
		close(l.puts)
		<-l.done
		db.Close()
	})
	return l
}

// Put writes entries together and returns once they are durable.
func (l *Bare) Put(entries ...store.Entry) error {
	p := barePut{entries, make(chan error, 1)}
	l.puts <- p
	return <-p.result
}

func (l *Bare) run() {
	defer close(l.done)
	for first := range l.puts {
		group := []barePut{first}
		err := l.db.Update(func(tx *bbolt.Tx) error {
			bucket := tx.Bucket(bareBucket)
			for i := 0; i < len(group); i++ {
				for _, e := range group[i].entries {
					if err := bucket.Put([]byte(e.Key), e.Value); err != nil {
						return err
					}
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
func (l *Bare) drain(group []barePut) []barePut {
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

// Duel makes n writes of either kind from several writers, ours and the yardstick's in turns so that both meet the
// same disk, and returns how long each took in all.
func Duel(b *testing.B, writers, n int, ours, bare func() error) (oursTook, bareTook time.Duration) {
	for left := n; left > 0; {
		turn := min(left, 16*writers) // short: what else the disk does meets both
		left -= turn
		oursTook += crowd(b, writers, turn, ours)
		bareTook += crowd(b, writers, turn, bare)
	}
	return oursTook, bareTook
}

// crowd makes n writes from several writers, each waiting for its own.
func crowd(b *testing.B, writers, n int, write func() error) time.Duration {
	var left atomic.Int64
	left.Store(int64(n))
	begin := time.Now()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := write(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}
