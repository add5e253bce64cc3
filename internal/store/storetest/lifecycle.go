package storetest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func testCancelledBefore(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.Update(ctx, func(tx store.Tx) error {
		t.Error("Update ran its function under a cancelled context")
		return tx.Put("k", nil)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update returns %v, want context.Canceled", err)
	}
	if errors.Is(err, store.ErrUnknownOutcome) {
		t.Error("an Update that did not run was marked as an unknown outcome")
	}
	err = s.View(ctx, func(store.Reader) error {
		t.Error("View ran its function under a cancelled context")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("View returns %v, want context.Canceled", err)
	}
	wantValue(t, s, "k", "<absent>")
}

// letOthersRun gives every goroutine that can go on the time to do so. No test's verdict on a correct store depends on it.
func letOthersRun() {
	for range 1000 {
		runtime.Gosched()
	}
}

// testCancelledWaiting: an Update behind another one that doesn't end. A store may run the two side by side or make the
// second wait; either way it ends with its context, not with the first.
func testCancelledWaiting(t *testing.T, s store.Store) {
	running, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		var once atomic.Bool
		first <- s.Update(context.Background(), func(tx store.Tx) error {
			if once.CompareAndSwap(false, true) {
				close(running)
			}
			<-release
			return tx.Put("first", []byte("done"))
		})
	}()
	<-running
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go func() {
		second <- s.Update(ctx, func(tx store.Tx) error {
			<-ctx.Done()
			return errors.Join(ctx.Err(), tx.Put("second", []byte("done")))
		})
	}()
	letOthersRun() // most probably the second waits for its turn now
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("an Update cancelled while waiting returns %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the Update in front of it returns %v", err)
	}
	wantValue(t, s, "first", "done")
	wantValue(t, s, "second", "<absent>")
}

func testClosed(t *testing.T, s store.Store) {
	put(t, s, "k", "v")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	err := s.View(context.Background(), func(store.Reader) error {
		t.Error("View ran its function on a closed store")
		return nil
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("View on a closed store returns %v, want store.ErrClosed", err)
	}
	err = s.Update(context.Background(), func(store.Tx) error {
		t.Error("Update ran its function on a closed store")
		return nil
	})
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update on a closed store returns %v, want store.ErrClosed", err)
	}
}

func testCloseWaits(t *testing.T, s store.Store) {
	put(t, s, "k", "v")
	running, closing := make(chan struct{}), make(chan struct{})
	var ended [2]atomic.Bool
	var once [2]sync.Once // a function may run more than once
	transaction := func(i int) {
		ended[i].Store(false)
		once[i].Do(func() { running <- struct{}{} })
		<-closing
		letOthersRun() // a Close that doesn't wait returns here
		ended[i].Store(true)
	}
	results := make(chan error, 2)
	go func() {
		results <- s.View(context.Background(), func(r store.Reader) error {
			if _, err := get(r, "k"); err != nil { // which chooses the snapshot, at the latest
				return err
			}
			transaction(0)
			got, err := get(r, "k")
			if got != "v" {
				t.Errorf("a View that runs while the store closes reads %q", got)
			}
			return err
		})
	}()
	go func() {
		results <- s.Update(context.Background(), func(tx store.Tx) error {
			transaction(1)
			return tx.Put("k", []byte("last"))
		})
	}()
	<-running
	<-running
	closed := make(chan error)
	go func() {
		close(closing)
		err := s.Close()
		if !ended[0].Load() || !ended[1].Load() {
			t.Error("Close returned while transactions were running")
		}
		closed <- err
	}()
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a transaction that ran while the store closed: %v", err)
		}
	}
}
