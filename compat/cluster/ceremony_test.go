package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/delivery"
)

// begin starts a root token ceremony and returns its nonce and one-time password.
func (c *cluster) begin(m *machine) (nonce, otp string) {
	c.t.Helper()
	a := c.must(m, "PUT", "sys/generate-root/attempt", "", map[string]any{}, 200)
	return a.body["nonce"].(string), a.body["otp"].(string)
}

// approve gives share i at a node.
func (c *cluster) approve(m *machine, nonce string, i int) answer {
	c.t.Helper()
	return c.must(m, "PUT", "sys/generate-root/update", "", map[string]string{"key": c.shares[i], "nonce": nonce}, 200)
}

func (c *cluster) decode(encoded, otp string) string {
	c.t.Helper()
	token, err := delivery.Decode([]byte(encoded), []byte(otp))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(token)
}

// rootTokens counts the root tokens that live, as each node tells it.
func (c *cluster) rootTokens() int {
	c.t.Helper()
	count := -1
	for _, m := range c.nodes {
		a := c.must(m, "GET", "sys/ceremonies/root-tokens", c.root, nil, 200)
		n := strings.Count(a.text, `"accessor"`)
		if count >= 0 && n != count {
			c.t.Errorf("node %s knows of %d root tokens, another one of %d", m.name, n, count)
		}
		count = n
	}
	return count
}

// Started at A, approved at B, B killed, completed at C: one token, which is good at every node.
func TestCeremonyMoves(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 5, 3, e.open)
		a, b, last := c.nodes[0], c.nodes[1], c.nodes[2]
		before := c.rootTokens()
		nonce, otp := c.begin(a)
		c.approve(b, nonce, 0)
		c.approve(b, nonce, 1)
		b.kill()
		status := c.must(last, "GET", "sys/generate-root/attempt", "", nil, 200)
		if status.body["progress"] != 2.0 || status.body["nonce"] != nonce {
			t.Errorf("node C knows another attempt: %s", status.text)
		}
		done := c.approve(last, nonce, 2)
		if done.body["complete"] != true {
			t.Fatalf("not complete: %s", done.text)
		}
		c.revive(b)
		token := c.decode(done.body["encoded_token"].(string), otp)
		for _, m := range c.nodes {
			if got := c.must(m, "GET", "auth/token/lookup-self", token, nil, 200).data("policies"); fmt.Sprint(got) != "[root]" {
				t.Errorf("at node %s the token has %v", m.name, got)
			}
		}
		if after := c.rootTokens(); after != before+1 {
			t.Errorf("there were %d root tokens, and then %d", before, after)
		}
	})
}

// Three shares complete the same attempt at three nodes at the same moment: one quorum, one token.
func TestOneQuorumOneToken(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 5, 3, e.open)
		for round := range 5 {
			before := c.rootTokens()
			nonce, otp := c.begin(c.nodes[round%3])
			c.approve(c.nodes[0], nonce, 0)
			c.approve(c.nodes[1], nonce, 1)
			replies := make([]answer, 3)
			errs := make([]error, 3)
			var wg sync.WaitGroup
			for i, m := range c.nodes {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					body := map[string]string{"key": c.shares[2+i], "nonce": nonce}
					replies[i], errs[i] = m.ask(ctx, "PUT", "sys/generate-root/update", "", body)
				})
			}
			wg.Wait()
			complete := 0
			for i, a := range replies {
				switch {
				case errs[i] != nil:
					t.Fatal(errs[i])
				case a.code == 200 && a.body["complete"] == true && a.body["encoded_token"] != "":
					complete++
					c.must(c.nodes[(i+1)%3], "GET", "auth/token/lookup-self", c.decode(a.body["encoded_token"].(string), otp), nil, 200)
				case a.code != 400:
					t.Errorf("round %d, node %s: %d %s", round, c.nodes[i].name, a.code, a.text)
				}
			}
			if complete != 1 {
				t.Errorf("round %d: %d replies have a token: %v", round, complete, replies)
			}
			if after := c.rootTokens(); after != before+1 {
				t.Errorf("round %d: there were %d root tokens, and then %d", round, before, after)
			}
		}
	})
}

// sys/seal at A: every node refuses at once, whether it is asked for something or idle.
func TestSealReachesAll(t *testing.T) {
	onEachEngine(t, 3, func(t *testing.T, e engine) {
		c := newCluster(t, 3, 3, 2, e.open)
		c.mounts()
		c.must(c.nodes[1], "POST", "one/x", c.root, map[string]string{"v": "1"}, 204)
		refuses := func(m *machine) {
			t.Helper()
			for _, method := range []string{"GET", "POST"} {
				a := c.must(m, method, "one/x", c.root, map[string]string{"v": "2"}, 503)
				if !strings.Contains(a.text, "Vault is sealed") {
					t.Errorf("node %s: %s", m.name, a.text)
				}
			}
		}
		c.must(c.nodes[0], "PUT", "sys/seal", c.root, nil, 204)
		for _, m := range c.nodes {
			refuses(m)
			c.awaitSealed(m)
		}
		for _, m := range c.nodes {
			if err := m.unseal(t.Context(), c.shares); err != nil {
				t.Fatal(err)
			}
			if got := c.must(m, "GET", "one/x", c.root, nil, 200).data("v"); got != "1" {
				t.Errorf("node %s: a write that was refused has %v", m.name, got)
			}
		}
		c.must(c.nodes[2], "PUT", "sys/seal", c.root, nil, 204) // nobody asks the others for anything now
		for _, m := range c.nodes {
			c.awaitSealed(m)
		}
		if err := c.nodes[1].unseal(t.Context(), c.shares); err != nil { // the others stay sealed
			t.Fatal(err)
		}
		c.must(c.nodes[1], "GET", "one/x", c.root, nil, 200)
		refuses(c.nodes[0])

		for _, m := range []*machine{c.nodes[0], c.nodes[2]} {
			if err := m.unseal(t.Context(), c.shares); err != nil {
				t.Fatal(err)
			}
		}
		c.must(c.nodes[0], "PUT", "sys/seal", c.root, map[string]bool{"node_only": true}, 204)
		refuses(c.nodes[0])
		c.must(c.nodes[1], "GET", "one/x", c.root, nil, 200)
		c.must(c.nodes[2], "GET", "one/x", c.root, nil, 200)
	})
}

// awaitSealed waits until a node has taken its keys away, without asking it for anything that needs them.
func (c *cluster) awaitSealed(m *machine) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	c.until(ctx, "node "+m.name+" is sealed", func() error {
		a, err := m.ask(ctx, "GET", "sys/health", "", nil)
		if err == nil && a.body["sealed"] != true {
			err = fmt.Errorf("%d %s", a.code, a.text)
		}
		return err
	})
}
