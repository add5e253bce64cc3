package cluster

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

const (
	// What the nemesis waits for: a fault lasts until clients have tried so much, and the next begins when they were
	// answered so often since the last one ended.
	faultTries  = 24
	calmAnswers = 150
)

// operations is how many of them a test waits for: QUORATE_CLUSTER_OPS for a long run.
func operations(t *testing.T, usual, short int) int {
	t.Helper()
	if s := os.Getenv("QUORATE_CLUSTER_OPS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return usual
}

// kills are the ends of single nodes.
func (c *cluster) kills() []fault {
	var list []fault
	for _, m := range c.nodes {
		list = append(list, fault{"kill node " + m.name, m.kill, func() { c.revive(m) }, 1})
	}
	return list
}

// tell logs what happens, so that a history can be held against it.
func (w *workload) tell(t *testing.T, what string) {
	t.Logf("%.3fs: %s", time.Duration(w.history.now()).Seconds(), what)
}

// nemesis makes faults until the clients are done: each kind in its turn, in random order, often two at once.
func (w *workload) nemesis(t *testing.T, faults []fault) {
	t.Helper()
	rng := rand.New(rand.NewPCG(w.seed, 1000))
	var turn []fault
	next := func() fault {
		if len(turn) == 0 {
			for _, i := range rng.Perm(len(faults)) {
				turn = append(turn, faults[i])
			}
		}
		f := turn[0]
		turn = turn[1:]
		return f
	}
	for w.progress.wait(0, calmAnswers) {
		now := []fault{next()}
		if second := next(); rng.IntN(3) == 0 && second.name != now[0].name {
			now = append(now, second)
		}
		for _, f := range now {
			w.tell(t, f.name)
			f.inject()
			w.progress.wait(faultTries, 0)
		}
		slices.SortStableFunc(now, func(a, b fault) int { return a.order - b.order })
		for _, f := range now {
			f.heal()
		}
		w.tell(t, "all is well")
	}
}

// Clients ask all nodes at once while nodes, connections and the engine fail. Whatever they were told fits into one order
// of all that happened, secrets and tokens together; nothing that was acknowledged is lost; no revoked token is good for
// anything.
func TestLinearizable(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 3, 2, e.open)
		w := newWorkload(t, c, operations(t, 4000, 800))
		ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
		defer cancel()
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			w.run(ctx)
		}()
		w.nemesis(t, slices.Concat(e.faults(), e.faults()[:1], c.kills())) // the first is the engine's own
		<-finished
		if ctx.Err() != nil {
			t.Errorf("service did not resume; the last failure: %v", w.progress.last)
		}
		for _, problem := range append(w.settle(t), w.history.afterRevocation()...) {
			t.Error(problem)
		}
		w.history.check(t)
		for node, n := range w.progress.byNode {
			if n == 0 {
				t.Errorf("node %c answered nothing", 'A'+node)
			}
		}
		unknown := 0
		for _, op := range w.history.ops {
			if op.Output.(result).unknown {
				unknown++
			}
		}
		t.Logf("answers of each node: %v, failures: %v, cells: %d, changes of unknown outcome: %d", w.progress.byNode, w.progress.failedNode, len(w.cells), unknown)
	})
}
