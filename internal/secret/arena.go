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
	pages  []byte
	used   int       // bytes of pages that are taken; the place of a wiped secret is not taken again
	held   []*memory // what Close puts out of use
	locked bool
	mapped bool // pages came from the system, and not from the Go heap
}

// NewArena makes an arena for at least size bytes; whole pages are taken.
func NewArena(size int) *Arena {
	page := os.Getpagesize()
	size = (max(size, 1) + page - 1) / page * page
	pages, locked, err := mapPages(size)
	if err != nil {
		return &Arena{pages: make([]byte, size)}
	}
	return &Arena{pages: pages, locked: locked, mapped: true}
}

// Hold moves b into the arena: it copies and wipes b. When there is no room, or the arena is closed, b stays as it is.
func (a *Arena) Hold(b []byte) (Bytes, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pages == nil {
		return Bytes{}, errors.New("the arena is closed")
	}
	if len(b) > len(a.pages)-a.used {
		return Bytes{}, errors.New("the arena is full: make it larger")
	}
	end := a.used + len(b)
	place := a.pages[a.used:end:end]
	a.used = end
	copy(place, b)
	clear(b)
	s := Own(place)
	a.held = append(a.held, s.m)
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
	for _, m := range a.held {
		m.gone.Store(true)
		m.b = nil
	}
	clear(a.pages)
	if a.mapped {
		unmapPages(a.pages)
	}
	a.pages, a.held, a.locked, a.mapped = nil, nil, false, false
}
