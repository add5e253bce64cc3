package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCutSlow(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 3, 2, e.open)
		c.mounts()
		tok := c.newToken(c.nodes[0], c.root, map[string]any{"policies": []string{"app"}})
		c.must(c.nodes[1], "POST", "one/x", tok, map[string]string{"v": "acknowledged"}, 204)
		for _, f := range e.faults() {
			if !strings.HasSuffix(f.name, "of node B") {
				continue
			}
			fmt.Println("==", t.Name(), f.name)
			f.inject()
			var wg sync.WaitGroup
			for k := range 4 {
				wg.Go(func() {
					for i := range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						b := time.Now()
						method, body := "GET", any(nil)
						if k%2 == 0 {
							method, body = "POST", map[string]string{"v": "acknowledged"}
						}
						a, err := c.nodes[1].ask(ctx, method, "one/x", tok, body)
						cancel()
						fmt.Println(k, i, method, time.Since(b).Round(time.Millisecond), a.code, a.text, err)
					}
				})
			}
			wg.Wait()
			f.heal()
			b := time.Now()
			c.resumes(c.nodes[1], "one/x", tok)
			fmt.Println("resumed after", time.Since(b))
		}
	})
}
