package server

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// gate hands out the places for connections, of which there are so many in all and so many for one client. When there
// is none left, somebody who is not having a request worked on gives way: of the client with the most places, the one
// that came first. So those who send slowly, or nothing, lose their places to those who come with a request.
type gate struct {
	total, perClient int

	mu    sync.Mutex
	open  int
	count uint64
	// byClient holds the places in the order they were taken. :: client → places
	byClient map[netip.Prefix][]*place
}

// place belongs to one connection.
type place struct {
	client netip.Prefix
	number uint64 // in order of arrival
	evict  func() // closes the connection
	// working counts the whole requests that are being worked on; far below zero once the place is lost.
	working atomic.Int32
}

const lost = -1 << 30

func newGate(total, perClient int) *gate {
	return &gate{total: total, perClient: max(perClient, 1), byClient: make(map[netip.Prefix][]*place)}
}

// enter takes a place for a client, or returns nil when there is none. unlimited lifts the limit per client: the peer
// speaks for many.
func (g *gate) enter(client netip.Prefix, unlimited bool, evict func()) *place {
	p := &place{client: client, evict: evict}
	g.mu.Lock()
	loser, ok := g.room(client, unlimited)
	if ok {
		g.count++
		p.number = g.count
		g.open++
		g.byClient[client] = append(g.byClient[client], p)
	}
	g.mu.Unlock()
	if loser != nil {
		loser.evict()
	}
	if !ok {
		return nil
	}
	return p
}

// room makes sure that one more can be let in; whoever gave way has lost its place already.
func (g *gate) room(client netip.Prefix, unlimited bool) (loser *place, ok bool) {
	own := g.byClient[client]
	switch {
	case !unlimited && len(own) >= g.perClient:
		loser = first(own)
	case g.open >= g.total:
		loser = g.fromTheGreediest()
		// Nobody gives way to a client that has as many places itself.
		if loser != nil && loser.client != client && len(own) >= len(g.byClient[loser.client]) {
			loser = nil
		}
	default:
		return nil, true
	}
	if loser == nil || !loser.working.CompareAndSwap(0, lost) {
		return nil, false
	}
	g.remove(loser)
	return loser, true
}

// fromTheGreediest picks who gives way: idle, of the client with the most places, the one that came first.
func (g *gate) fromTheGreediest() (loser *place) {
	most := 0
	for _, places := range g.byClient {
		p := first(places)
		if p == nil || len(places) < most || len(places) == most && p.number > loser.number {
			continue
		}
		loser, most = p, len(places)
	}
	return loser
}

// first is the oldest place of those that nothing is worked on for.
func first(places []*place) *place {
	for _, p := range places {
		if p.working.Load() == 0 {
			return p
		}
	}
	return nil
}

// leave gives the place back. It may be called after the place was lost.
func (g *gate) leave(p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(p)
}

// remove does nothing if p is not there any more. The caller holds mu.
func (g *gate) remove(p *place) {
	places := g.byClient[p.client]
	for i, other := range places {
		if other != p {
			continue
		}
		g.open--
		if len(places) == 1 {
			delete(g.byClient, p.client)
		} else {
			g.byClient[p.client] = append(places[:i], places[i+1:]...)
		}
		return
	}
}

// begin says that a whole request has arrived, and reports whether its connection may still be used.
func (p *place) begin() bool { return p.working.Add(1) > 0 }

// end says that the request was answered.
func (p *place) end() { p.working.Add(-1) }
