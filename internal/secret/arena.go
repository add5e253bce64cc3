package secret

import (
	"errors"
	"os"
	"sync"
)

// Arena is a few pages of memory for keys that live long: locked, so that they don't reach the swap, kept out of core
// dumps, and wiped on Close. Where the system refuses that, it is ordinary memory and still wiped; Locked tells. It is
// safe for concurrent use.
type Arena struct {
	mu     sync.Mutex
	pages  Bytes   // empty once closed
	used   int     // bytes of pages that are taken; the place of a wiped secret is not taken again
	held   []Bytes // what Close puts out of use
	locked bool
	mapped bool // pages came from the system, and not from the Go heap
}

// NewArena makes an arena for at least size bytes; whole pages are taken.
func NewArena(size int) *Arena {
	size = wholePages(size)
	pages, locked, err := mapPages(size)
	if err != nil {
		return heapArena(size)
	}
	return &Arena{pages: Own(pages), locked: locked, mapped: true}
}

// heapArena is what NewArena falls back to.
func heapArena(size int) *Arena { return &Arena{pages: Own(make([]byte, wholePages(size)))} }

func wholePages(size int) int {
	page := os.Getpagesize()
	return (max(size, 1) + page - 1) / page * page
}

// Hold moves b into the arena: it copies and wipes b. When there is no room, or the arena is closed, b stays as it is.
func (a *Arena) Hold(b []byte) (Bytes, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pages.Empty() {
		return Bytes{}, errors.New("the arena is closed: make another one")
	}
	if len(b) > a.pages.Len()-a.used {
		return Bytes{}, errors.New("the arena is full: make it larger")
	}
	end := a.used + len(b)
	place := a.pages.Reveal()[a.used:end:end]
	a.used = end
	copy(place, b)
	clear(b)
	s := Own(place)
	a.held = append(a.held, s)
	return s, nil
}

// Locked reports whether the system keeps the arena in memory, and out of core dumps where it can.
func (a *Arena) Locked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locked
}

// Close wipes and releases the arena. Every Bytes it held panics when it is revealed from now on; a slice that was
// revealed before must not be in use any more. Closing again does nothing.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.held {
		(*s.m).gone.Store(true)
	}
	a.pages.Wipe()
	if a.mapped {
		unmapPages(a.pages.Reveal())
	}
	a.pages, a.held, a.locked, a.mapped = Bytes{}, nil, false, false
}
