package bolt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
)

var errOwn = errors.New("the function's own error")

// hold starts an Update that has its turn, and stays in it until release is called.
func hold(t *testing.T, s *Store, key string) (release func() error) {
	t.Helper()
	running, goOn, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		result <- s.Update(context.Background(), func(tx store.Tx) error {
			close(running)
			<-goOn
			return tx.Put(key, []byte("held"))
		})
	}()
	<-running
	return func() error {
		close(goOn)
		return <-result
	}
}

// awaitQueue returns when n requests wait behind the one that has its turn.
func awaitQueue(s *Store, n int) {
	for waiting := -1; waiting < n; {
		s.queue.mu.Lock()
		waiting = len(s.queue.waiting)
		s.queue.mu.Unlock()
	}
}

// start runs an Update in the background.
func start(s *Store, ctx context.Context, fn func(store.Tx) error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- s.Update(ctx, fn) }()
	return result
}

func TestWaitingUpdatesShareOneCommit(t *testing.T) {
	s := openTest(t)
	commits := countCommits(s)
	release := hold(t, s, "first")
	const n = 20
	var results []<-chan error
	for i := range n {
		results = append(results, start(s, context.Background(), func(tx store.Tx) error {
			if i%2 == 1 {
				return errOwn
			}
			return tx.Put(fmt.Sprintf("k/%d", i), []byte("v"))
		}))
	}
	awaitQueue(s, n)
	if err := release(); err != nil {
		t.Error(err)
	}
	for i, result := range results {
		if err := <-result; (i%2 == 1) != (err == errOwn) {
			t.Errorf("Update %d returns %v", i, err)
		}
	}
	if got := commits.Load(); got != 1 {
		t.Errorf("%d Updates that waited together took %d commits, want 1", n+1, got)
	}
	wantValue(t, s, "k/18", "v")
	wantValue(t, s, "k/19", "")
}

func TestGroupsAreBounded(t *testing.T) {
	s := openTest(t)
	commits := countCommits(s)
	release := hold(t, s, "first")
	const n = 3 * maxGroupBytes / store.MaxValue
	var results []<-chan error
	for i := range n {
		results = append(results, start(s, context.Background(), func(tx store.Tx) error {
			return tx.Put(fmt.Sprintf("k/%d", i), make([]byte, store.MaxValue))
		}))
	}
	awaitQueue(s, n)
	release()
	for _, result := range results {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	if got := commits.Load(); got < 3 {
		t.Errorf("%d MiB went into %d commits, want 3 or more", n, got)
	}
}

func TestReadOnlyUpdatesDoNotCommit(t *testing.T) {
	s := openTest(t)
	commits := countCommits(s)
	for _, want := range []error{nil, errOwn} {
		err := s.Update(context.Background(), func(tx store.Tx) error {
			_, err := tx.Get("k")
			return errors.Join(err, want)
		})
		if !errors.Is(err, want) {
			t.Errorf("Update returns %v, want %v", err, want)
		}
	}
	if got := commits.Load(); got != 0 {
		t.Errorf("Updates that wrote nothing took %d commits", got)
	}
}

// A function may fail because of what another Update of its group wrote. If that write then fails, the first error
// tells of something that never was.
func TestErrorDependsOnTheCommitItSaw(t *testing.T) {
	s := openTest(t)
	s.commit = func(tx *bbolt.Tx) error {
		tx.Rollback()
		return syscall.ENOSPC
	}
	release := hold(t, s, "already there")
	saw := start(s, context.Background(), func(tx store.Tx) error {
		values, err := tx.Get("already there")
		if err != nil || values[0] != nil {
			return errOwn
		}
		return tx.Put("already there", nil)
	})
	awaitQueue(s, 1)
	if err := release(); !errors.Is(err, errFull) {
		t.Errorf("the Update that wrote returns %v, want %v", err, errFull)
	}
	if err := <-saw; !errors.Is(err, errFull) || errors.Is(err, errOwn) {
		t.Errorf("the Update that saw the write returns %v, want %v", err, errFull)
	}
	wantValue(t, s, "already there", "")
}

func TestViewsDoNotWaitForACommit(t *testing.T) {
	s := openTest(t)
	mustPut(t, s, "k", "before")
	committing, goOn := make(chan struct{}), make(chan struct{})
	s.commit = func(tx *bbolt.Tx) error {
		close(committing)
		<-goOn
		return tx.Commit()
	}
	result := start(s, context.Background(), func(tx store.Tx) error { return tx.Put("k", []byte("after")) })
	<-committing
	wantValue(t, s, "k", "before")

	// Nor does an Update that gives up wait for it.
	ctx, cancel := context.WithCancel(context.Background())
	second := start(s, ctx, func(store.Tx) error {
		t.Error("an Update ran after its context had ended")
		return nil
	})
	awaitQueue(s, 1)
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("an Update cancelled in the queue returns %v", err)
	}
	close(goOn)
	if err := <-result; err != nil {
		t.Error(err)
	}
	wantValue(t, s, "k", "after")
}

// The map of the file is large from the start: growing it would wait for the View, and so would the writer.
func TestLongViewDoesNotHoldUpGrowth(t *testing.T) {
	if mapSize() == 0 {
		t.Skip("no large map on this system")
	}
	s := openTest(t)
	err := s.View(context.Background(), func(store.Reader) error {
		for i := range 12 { // 12 MiB, from nothing
			if err := put(s, fmt.Sprintf("k/%d", i), strings.Repeat("v", store.MaxValue)); err != nil {
				return err
			}
			if got, err := get(s, fmt.Sprintf("k/%d", i)); err != nil || len(got) != store.MaxValue {
				return fmt.Errorf("read back %d bytes, %w", len(got), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestManyWritersAndCancellations(t *testing.T) {
	s := openTest(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			key := fmt.Sprintf("k/%d", w)
			for i := range 40 {
				ctx, cancel := context.WithCancel(context.Background())
				result := start(s, ctx, func(tx store.Tx) error { return tx.Put(key, fmt.Append(nil, i)) })
				if (w+i)%3 == 0 {
					cancel()
				}
				err := <-result
				cancel()
				got, _ := get(s, key)
				switch {
				case err == nil && got != fmt.Sprint(i):
					t.Errorf("acknowledged %d, but %q is there", i, got)
				case err != nil && (!errors.Is(err, context.Canceled) || got == fmt.Sprint(i)):
					t.Errorf("Update returns %v, and %q is there", err, got)
				}
			}
		})
	}
	wg.Wait()
}
