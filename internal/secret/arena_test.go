package secret

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// both runs a test on memory from the system and on the fallback.
func both(t *testing.T, size int, test func(t *testing.T, a *Arena)) {
	t.Helper()
	for name, a := range map[string]*Arena{"system": NewArena(size), "heap": heapArena(size)} {
		t.Run(name, func(t *testing.T) {
			defer a.Close()
			test(t, a)
		})
	}
}

func mustHold(t *testing.T, a *Arena, b []byte) Bytes {
	t.Helper()
	s, err := a.Hold(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHoldMoves(t *testing.T) {
	both(t, 100, func(t *testing.T, a *Arena) {
		b := []byte(canary)
		s := mustHold(t, a, b)
		if !bytes.Equal(b, make([]byte, len(b))) {
			t.Error("the source isn't wiped")
		}
		if string(s.Reveal()) != canary {
			t.Error("other bytes are held")
		}
		if &s.Reveal()[0] == &b[0] {
			t.Error("it is held where it was")
		}
	})
}

func TestHeldSecretsAreApart(t *testing.T) {
	both(t, 100, func(t *testing.T, a *Arena) {
		first := mustHold(t, a, []byte("first"))
		empty := mustHold(t, a, nil)
		second := mustHold(t, a, []byte("second"))
		_ = append(first.Reveal(), "overflow"...)
		if string(second.Reveal()) != "second" || !empty.Empty() {
			t.Error("growing one secret writes into the next")
		}
		first.Wipe()
		if string(second.Reveal()) != "second" {
			t.Error("wiping one wipes the next")
		}
		again := mustHold(t, a, second.Reveal())
		if string(again.Reveal()) != "second" || string(second.Reveal()) != "\x00\x00\x00\x00\x00\x00" {
			t.Error("a secret can't move inside of its arena")
		}
	})
}

func TestFullArena(t *testing.T) {
	both(t, 1, func(t *testing.T, a *Arena) {
		room := os.Getpagesize() // whole pages are taken
		mustHold(t, a, make([]byte, room-10))
		b := []byte("eleven long")
		s, err := a.Hold(b)
		if err == nil || !s.Empty() {
			t.Fatal("more is held than there is room")
		}
		if string(b) != "eleven long" {
			t.Error("what couldn't be held was wiped: the caller has lost it")
		}
		if strings.Contains(err.Error(), "eleven") {
			t.Error("the error shows the secret")
		}
		if s := mustHold(t, a, b[:10]); string(s.Reveal()) != "eleven lon" {
			t.Error("the last bytes can't be used")
		}
		if _, err := a.Hold([]byte{1}); err == nil {
			t.Error("a full arena takes a byte")
		}
	})
}

func TestArenaSizes(t *testing.T) {
	page := os.Getpagesize()
	for size, want := range map[int]int{-1: page, 0: page, 1: page, page: page, page + 1: 2 * page, 3 * page: 3 * page} {
		both(t, size, func(t *testing.T, a *Arena) {
			if _, err := a.Hold(make([]byte, want+1)); err == nil {
				t.Errorf("size %d: over %d bytes of room", size, want)
			}
			if _, err := a.Hold(make([]byte, want)); err != nil {
				t.Errorf("size %d: under %d bytes of room", size, want)
			}
		})
	}
}

func TestClosedArena(t *testing.T) {
	both(t, 100, func(t *testing.T, a *Arena) {
		s := mustHold(t, a, []byte(canary))
		a.Close()
		a.Close()
		if a.Locked() {
			t.Error("it says that it is locked")
		}
		s.Wipe() // a deferred wipe after the arena's close is no mistake
		if fmt.Sprint(s, closed{s}) == "" {
			t.Error("it can't be printed")
		}
		for name, use := range map[string]func(){
			"Reveal": func() { s.Reveal() },
			"Len":    func() { s.Len() },
			"Equal":  func() { s.Equal(Bytes{}) },
		} {
			if !panics(use) {
				t.Errorf("%s: a secret that is gone passes for an empty one", name)
			}
		}
		b := []byte(canary)
		if _, err := a.Hold(b); err == nil || string(b) != canary {
			t.Errorf("a closed arena took a secret: %v", err)
		}
	})
}

func panics(f func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	f()
	return false
}

// Memory from the system can't be looked at after Close; the fallback's can.
func TestCloseWipes(t *testing.T) {
	a := heapArena(100)
	s := mustHold(t, a, []byte(canary))
	b := s.Reveal()
	a.Close()
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Error("the secret is still in memory")
	}
}

func TestHeapIsNotLocked(t *testing.T) {
	a := heapArena(100)
	defer a.Close()
	if a.Locked() {
		t.Error("heap memory says that it is locked")
	}
}

// T52: an arena in a log line shows nothing.
func TestArenaDoesntPrint(t *testing.T) {
	both(t, 100, func(t *testing.T, a *Arena) {
		mustHold(t, a, []byte(canary))
		in := struct{ a *Arena }{a}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
			if form := leak(fmt.Sprintf(verb+verb+verb, a, in, []*Arena{a})); form != "" {
				t.Errorf("%s shows %q", verb, form)
			}
		}
	})
}

func TestConcurrentHolds(t *testing.T) {
	both(t, 64*16, func(t *testing.T, a *Arena) {
		var wg sync.WaitGroup
		held := make([]Bytes, 64)
		for i := range held {
			wg.Go(func() {
				s, err := a.Hold(bytes.Repeat([]byte{byte(i)}, 16))
				if err != nil {
					t.Error(err)
				}
				held[i] = s
				a.Locked()
			})
		}
		wg.Wait()
		for i, s := range held {
			if !bytes.Equal(s.Reveal(), bytes.Repeat([]byte{byte(i)}, 16)) {
				t.Errorf("secret %d was overwritten by another", i)
			}
		}
	})
}
