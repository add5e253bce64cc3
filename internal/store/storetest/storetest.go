// Package storetest is the contract of store.Store as tests: the conformance suite that every store and every layer
// over a store passes, and wrappers that make a store misbehave in the ways it is allowed to.
//
// It promises that a store which passes Run is serialisable and atomic as far as a test in one process can see. It does
// not test durability over a crash, which needs a process to kill: each durable store does that itself.
package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

// Run runs the whole suite. open makes an empty store for one test, which Run closes; what else it needs is cleaned up
// with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	sideBySide := sync.OnceValue(func() bool {
		s := open(t)
		defer s.Close()
		return runsSideBySide(t, s)
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, store.Store)
	}{
		{"Get/OrderAndAbsence", testGet},
		{"Put/CopiesValue", testPutCopies},
		{"Put/EmptyValueIsNotAbsent", testEmptyValue},
		{"Put/BigValues", testBigValues},
		{"Delete/AbsentIsNoError", testDelete},
		{"Rules/Keys", testKeyRules},
		{"Rules/ValueSize", testValueRules},
		{"Scan/ByteOrder", testScanOrder},
		{"Scan/PrefixAndAfter", testScanEdges},
		{"Scan/StopsAndReads", testScanStops},
		{"Scan/Long", testScanLong},
		{"Scan/UnderWriters", testScanUnderWriters},
		{"Tx/SeesOwnWrites", testOwnWrites},
		{"Tx/ErrorWritesNothing", testErrorWritesNothing},
		{"Tx/PanicReachesCaller", testPanic},
		{"Tx/GoexitLeavesStoreUsable", testGoexit},
		{"Tx/WithoutWrites", testNoWrites},
		{"Tx/Model", testModel},
		{"Tx/LargeIsAtomic", testLarge},
		{"Isolation/SnapshotStays", testSnapshot},
		{"Isolation/LostUpdate", testLostUpdate},
		{"Isolation/WriteSkew", testWriteSkew},
		{"Isolation/Phantom", testPhantom},
		{"Isolation/DeletionPhantom", testDeletionPhantom},
		{"Isolation/DeletionSkew", testDeletionSkew},
		{"Isolation/ReadersSeeWholeTransactions", testWholeTransactions},
		{"Isolation/LaterViewSeesAcknowledged", testAcknowledged},
		{"Isolation/FailureDoesNotSpread", testFailureDoesNotSpread},
		{"Isolation/ConflictsEnd", testConflictsEnd},
		{"Context/CancelledBefore", testCancelledBefore},
		{"Context/CancelledWhileWaiting", testCancelledWaiting},
		{"Context/CancelledInConflict", testCancelledInConflict},
		{"Close/RefusesLaterCalls", testClosed},
		{"Close/WaitsForRunning", testCloseWaits},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := tested{open(t), sideBySide}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test.run(t, s)
		})
	}
}

// errOwn is an error that a function under test returns itself.
var errOwn = errors.New("the function's own error")

func update(t *testing.T, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func view(t *testing.T, s store.Store, fn func(store.Reader) error) {
	t.Helper()
	if err := s.View(context.Background(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// put writes keys and values given in turn.
func put(t *testing.T, s store.Store, pairs ...string) {
	t.Helper()
	update(t, s, func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
}

// get reads one key; an absent one gives "<absent>".
func get(r store.Reader, key string) (string, error) {
	values, err := r.Get(key)
	switch {
	case err != nil:
		return "", err
	case values[0] == nil:
		return "<absent>", nil
	}
	return string(values[0]), nil
}

// wantValue checks one key in a View of its own.
func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	view(t, s, func(r store.Reader) error {
		got, err := get(r, key)
		if err == nil && got != want {
			t.Errorf("value of %q is %.40q, want %.40q", key, got, want)
		}
		return err
	})
}

// scanKeys collects the keys of a scan.
func scanKeys(r store.Reader, prefix, after string) ([]string, error) {
	var keys []string
	for e, err := range r.Scan(prefix, after) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, e.Key)
	}
	return keys, nil
}
