package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// A node that has heard nothing yet of mounts that another one made serves them all the same, however many ask at once.
func TestFirstRequests(t *testing.T) {
	onEachEngine(t, 2, func(t *testing.T, e engine) {
		c := newIdleCluster(t, 24*time.Hour, 2, 1, 1, e.open)
		c.mounts()
		c.must(c.nodes[0], "POST", "two/data/x", c.root, map[string]any{"data": map[string]string{"v": "1"}}, 200)
		for round := range 5 {
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if a, err := c.nodes[1].ask(ctx, "GET", "two/data/x", c.root, nil); err != nil || a.code != 200 {
						t.Errorf("round %d: %d %s (%v)", round, a.code, a.text, err)
					}
				})
			}
			wg.Wait()
			c.must(c.nodes[0], "POST", fmt.Sprintf("sys/mounts/more%d", round), c.root, map[string]any{"type": "kv"}, 204)
		}
	})
}
