package server

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
)

func client(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32)
}

// visitor enters a gate and knows whether it was evicted.
type visitor struct {
	*place
	evicted bool
}

func visit(g *gate, n int) *visitor {
	v := &visitor{}
	v.place = g.enter(client(n), false, func() { v.evicted = true })
	return v
}

func (v *visitor) admitted() bool { return v.place != nil }

func TestGateLimitsOneClient(t *testing.T) {
	g := newGate(100, 2)
	a, b := visit(g, 1), visit(g, 1)
	if !a.admitted() || !b.admitted() {
		t.Fatal("not even the allowed number gets in")
	}
	// A third one takes the place of the first, which is not having anything worked on.
	c := visit(g, 1)
	if !c.admitted() || !a.evicted || b.evicted {
		t.Errorf("third: in %v, first evicted %v, second evicted %v", c.admitted(), a.evicted, b.evicted)
	}
	// Those who are having requests worked on keep their places, and then nobody else gets in.
	if !b.begin() || !c.begin() {
		t.Fatal("places that were not lost can't be used")
	}
	if d := visit(g, 1); d.admitted() || b.evicted || c.evicted {
		t.Errorf("over the limit with everybody working: in %v, evicted %v %v", d.admitted(), b.evicted, c.evicted)
	}
	// Another client doesn't notice.
	if !visit(g, 2).admitted() {
		t.Error("another client is kept out")
	}
	// One that is done can be evicted again.
	b.end()
	if e := visit(g, 1); !e.admitted() || !b.evicted {
		t.Errorf("after the end of a request: in %v, evicted %v", e.admitted(), b.evicted)
	}
}

func TestGateTakesFromTheGreediest(t *testing.T) {
	g := newGate(6, 4)
	greedy := []*visitor{visit(g, 1), visit(g, 1), visit(g, 1), visit(g, 1)}
	modest := []*visitor{visit(g, 2), visit(g, 3)}
	greedy[0].begin()
	late := visit(g, 4)
	if !late.admitted() {
		t.Fatal("a new client is kept out")
	}
	if greedy[0].evicted || !greedy[1].evicted || greedy[2].evicted || modest[0].evicted || modest[1].evicted {
		t.Error("somebody else than the oldest idle connection of the greediest client gave way")
	}
	// Those who sit and send nothing give way in the order in which they came.
	g = newGate(3, 4)
	sitting := []*visitor{visit(g, 1), visit(g, 2), visit(g, 3)}
	for i, v := range sitting {
		if !visit(g, 10+i).admitted() || !v.evicted {
			t.Errorf("newcomer %d: the one that sat longest did not give way", i)
		}
	}
}

func TestGateGreedyClientTakesFromNobody(t *testing.T) {
	g := newGate(4, 10)
	own := []*visitor{visit(g, 1), visit(g, 1), visit(g, 1)}
	other := visit(g, 2)
	for _, v := range own {
		v.begin()
	}
	if v := visit(g, 1); v.admitted() || other.evicted {
		t.Errorf("the client with three of four places: in %v, the other one evicted %v", v.admitted(), other.evicted)
	}
}

func TestGateUnlimitedPeer(t *testing.T) {
	g := newGate(3, 1)
	var proxied []*place
	for range 3 {
		if p := g.enter(client(1), true, func() {}); p != nil {
			proxied = append(proxied, p)
		}
	}
	if len(proxied) != 3 {
		t.Fatalf("%d connections of a trusted proxy got in, want 3", len(proxied))
	}
	for _, p := range proxied {
		p.begin()
	}
	if g.enter(client(1), true, func() {}) != nil {
		t.Error("a trusted proxy got in over the total")
	}
}

func TestGateLostPlace(t *testing.T) {
	g := newGate(1, 1)
	a := visit(g, 1)
	b := visit(g, 1)
	if !a.evicted || a.begin() {
		t.Error("a request is carried out on a connection that lost its place")
	}
	a.end()
	g.leave(a.place) // as its Close does: must not give away b's
	if g.open != 1 || len(g.byClient) != 1 {
		t.Errorf("open %d, clients %d after the loser left", g.open, len(g.byClient))
	}
	g.leave(b.place)
	g.leave(b.place)
	if g.open != 0 || len(g.byClient) != 0 {
		t.Errorf("open %d, clients %d after everybody left", g.open, len(g.byClient))
	}
}

// TestGateModel plays random visits and checks after each that the numbers hold and that nobody who works was evicted.
func TestGateModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		g := newGate(1+r.IntN(20), 1+r.IntN(6))
		var in []*visitor
		working := map[*visitor]bool{}
		for range 2000 {
			switch i := r.IntN(4); {
			case i < 2:
				if v := visit(g, r.IntN(8)); v.admitted() {
					in = append(in, v)
				}
			case len(in) == 0:
			case i == 2:
				v := in[r.IntN(len(in))]
				if working[v] {
					v.end()
				} else if v.begin() == v.evicted {
					t.Fatalf("seed %d: begin says %v of a place that was lost: %v", seed, !v.evicted, v.evicted)
				}
				working[v] = !working[v] && !v.evicted
			default:
				at := r.IntN(len(in))
				g.leave(in[at].place)
				delete(working, in[at])
				in = append(in[:at], in[at+1:]...)
			}
			in = stillIn(t, seed, in, working)
			checkGate(t, seed, g, len(in))
		}
	}
}

func stillIn(t *testing.T, seed uint64, in []*visitor, working map[*visitor]bool) []*visitor {
	t.Helper()
	kept := in[:0]
	for _, v := range in {
		if !v.evicted {
			kept = append(kept, v)
		} else if working[v] {
			t.Fatalf("seed %d: somebody who works was evicted", seed)
		}
	}
	return kept
}

func checkGate(t *testing.T, seed uint64, g *gate, want int) {
	t.Helper()
	sum := 0
	for c, places := range g.byClient {
		if sum += len(places); len(places) > g.perClient || len(places) == 0 {
			t.Fatalf("seed %d: client %s has %d places of %d", seed, c, len(places), g.perClient)
		}
	}
	if g.open != want || sum != want || g.open > g.total {
		t.Fatalf("seed %d: open %d, counted %d, want %d of %d", seed, g.open, sum, want, g.total)
	}
}

func TestGateConcurrently(t *testing.T) {
	g := newGate(16, 4)
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for n := range 16 {
		wg.Go(func() {
			for range 2000 {
				var mu sync.Mutex
				evicted := false
				p := g.enter(client(n%5), false, func() { mu.Lock(); evicted = true; mu.Unlock() })
				if p == nil {
					continue
				}
				if p.begin() {
					mu.Lock()
					if evicted {
						errs <- fmt.Errorf("evicted before it began to work")
						mu.Unlock()
						return
					}
					mu.Unlock()
				}
				p.end()
				g.leave(p)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if g.open != 0 || len(g.byClient) != 0 {
		t.Errorf("open %d, clients %d at the end", g.open, len(g.byClient))
	}
}

func BenchmarkGate(b *testing.B) {
	g := newGate(1024, 256)
	for b.Loop() {
		p := g.enter(client(1), false, func() {})
		p.begin()
		p.end()
		g.leave(p)
	}
}

// BenchmarkGateFull is the price of a connection when every place is taken by a client of its own.
func BenchmarkGateFull(b *testing.B) {
	g := newGate(1024, 256)
	n := 0
	for ; n < 1024; n++ {
		visit(g, n)
	}
	for b.Loop() {
		visit(g, n%65536)
		n++
	}
}
