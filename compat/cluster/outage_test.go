package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// soon is when an answer must have come while the engine is away: long before anybody's patience ends.
const soon = patience / 3

// The engine goes away, all at once or by hanging. Requests are answered, with 503 and a sentence, long before their time is
// up; health says what is wrong; service resumes by itself, and whatever was acknowledged is there.
func TestOutage(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 3, 2, e.open)
		c.mounts()
		var hangs []fault
		for _, f := range e.faults() {
			if strings.HasPrefix(f.name, "hang ") {
				hangs = append(hangs, f)
			}
		}
		hang := fault{name: "hang", inject: func() { each(hangs, func(f fault) { f.inject() }) }, heal: func() { each(hangs, func(f fault) { f.heal() }) }}
		for i, f := range []fault{e.outage(), hang, e.outage()} {
			key := fmt.Sprintf("one/outage-%d", i)
			token := c.newToken(c.nodes[0], c.root, map[string]any{"policies": []string{"app"}})
			revoked := c.newToken(c.nodes[1], c.root, map[string]any{"policies": []string{"app"}})
			c.must(c.nodes[1], "POST", key, token, map[string]string{"v": "acknowledged"}, 204)
			c.must(c.nodes[2], "POST", "auth/token/revoke", c.root, map[string]string{"token": revoked}, 204)
			f.inject()
			var wg sync.WaitGroup
			for _, m := range c.nodes {
				wg.Go(func() { c.unavailable(m, "GET", key, token, nil) })
				wg.Go(func() {
					c.unavailable(m, "POST", "two/data/x", token, map[string]any{"data": map[string]string{"v": "x"}})
				})
				wg.Go(func() { c.unavailable(m, "POST", "auth/token/create", token, map[string]any{}) })
				wg.Go(func() { c.unhealthy(m) })
			}
			wg.Wait()
			f.heal()
			for _, m := range c.nodes {
				c.resumes(m, key, token)
				c.must(m, "GET", key, revoked, nil, 403)
			}
		}
	})
}

func each(list []fault, fn func(fault)) {
	for _, f := range list {
		fn(f)
	}
}

// unavailable asks for something that needs the engine.
func (c *cluster) unavailable(m *machine, method, path, token string, body any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	defer cancel()
	a, err := m.ask(ctx, method, path, token, body)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c.t.Errorf("node %s: %s %s was not answered in %s", m.name, method, path, soon)
	case err != nil:
		c.t.Errorf("node %s: %s %s: %v", m.name, method, path, err)
	case a.code != 503:
		c.t.Errorf("node %s: %s %s: %d %s, want 503", m.name, method, path, a.code, a.text)
	default:
		list, _ := a.body["errors"].([]any)
		if len(list) != 1 || len(list[0].(string)) < 20 || strings.Contains(a.text, "internal error") || strings.Contains(a.text, "127.0.0.1") {
			c.t.Errorf("node %s: %s %s: %s is no sentence for a client", m.name, method, path, a.text)
		}
	}
}

func (c *cluster) unhealthy(m *machine) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), soon)
	defer cancel()
	a, err := m.ask(ctx, "GET", "sys/health", "", nil)
	if err != nil || a.code != 503 || a.body["store_unreachable"] != true || a.body["sealed"] != false {
		c.t.Errorf("node %s: health is %d %s (%v)", m.name, a.code, a.text, err)
	}
}

// resumes waits until a node serves again, and looks at what was acknowledged before.
func (c *cluster) resumes(m *machine, key, token string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*patience)
	defer cancel()
	c.until(ctx, "node "+m.name+" serves again", func() error {
		a, err := m.ask(ctx, "GET", key, token, nil)
		switch {
		case err != nil:
			return err
		case a.code >= 500:
			return fmt.Errorf("%d %s", a.code, a.text)
		case a.code != 200 || a.data("v") != "acknowledged":
			c.t.Errorf("node %s: what was acknowledged is %d %s", m.name, a.code, a.text)
		}
		return nil
	})
	c.until(ctx, "node "+m.name+" writes again", func() error {
		a, err := m.ask(ctx, "POST", "one/after", token, map[string]string{"at": time.Now().String()})
		if err == nil && a.code != 204 {
			err = fmt.Errorf("%d %s", a.code, a.text)
		}
		return err
	})
	if a := c.must(m, "GET", "sys/health", "", nil, 200); a.body["store_unreachable"] != nil {
		c.t.Errorf("node %s: health is %s", m.name, a.text)
	}
}
