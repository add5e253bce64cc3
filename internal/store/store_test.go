package store_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

func TestCheckKey(t *testing.T) {
	for key, ok := range map[string]bool{
		"":                                  false,
		"\x00":                              false,
		"a\x00":                             false,
		"\xff":                              false,
		"a\xc3":                             false, // half a letter
		"\xed\xa0\x80":                      false, // a surrogate
		"\xc0\x80":                          false, // NUL, spelled too long
		strings.Repeat("k", store.MaxKey+1): false,
		strings.Repeat("é", store.MaxKey):   false, // counted in bytes
		strings.Repeat("k", store.MaxKey):   true,
		strings.Repeat("é", store.MaxKey/2): true,
		"a":                                 true,
		"/":                                 true,
		"a/b\n\t c":                         true,
		"\U0010ffff":                        true,
	} {
		err := store.CheckKey(key)
		if (err == nil) != ok {
			t.Errorf("CheckKey(%.20q): %v", key, err)
		}
		if err != nil && len(key) > 3 && strings.Contains(err.Error(), key) {
			t.Errorf("the error for %.20q shows the key", key)
		}
	}
}

func TestCheckValue(t *testing.T) {
	for size, ok := range map[int]bool{0: true, 1: true, store.MaxValue: true, store.MaxValue + 1: false} {
		if err := store.CheckValue(make([]byte, size)); (err == nil) != ok {
			t.Errorf("CheckValue of %d bytes: %v", size, err)
		}
	}
}

func TestGateWaitsAndRefuses(t *testing.T) {
	var g store.Gate
	for range 3 {
		if err := g.Enter(); err != nil {
			t.Fatal(err)
		}
	}
	var left atomic.Int32
	var closers sync.WaitGroup
	var first atomic.Int32
	for range 4 {
		closers.Go(func() {
			if g.Close() {
				first.Add(1)
			}
			if left.Load() != 3 {
				t.Error("Close returned before everybody had left")
			}
		})
	}
	for g.Enter() == nil { // until a Close has begun
		g.Leave()
	}
	for range 3 {
		if err := g.Enter(); err != store.ErrClosed {
			t.Errorf("Enter of a closing gate returns %v", err)
		}
		left.Add(1)
		g.Leave()
	}
	closers.Wait()
	if first.Load() != 1 {
		t.Errorf("%d calls of Close were the first", first.Load())
	}
	if g.Close() || g.Enter() != store.ErrClosed {
		t.Error("a closed gate opened again")
	}
}
