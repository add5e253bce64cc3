package node

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/storetest"
)

// Of all who take out what was wrapped, or move it to another token, one gets it: also with several servers, and also
// where transactions run twice.
func TestOneUnwraps(t *testing.T) {
	st := anystore.New(t)
	c := newClusterOver(t, st, 1, 1)
	second := c.other()
	second.st = storetest.Rerun(st)
	second = second.other()
	for round := range 20 {
		w := &Wrapped{TTL: time.Minute, Path: "secret/a", Response: json.RawMessage(`{"data":"canary"}`)}
		if err := c.node.Wrap(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		var got, moved atomic.Int32
		var fresh sync.Map
		var wg sync.WaitGroup
		for i := range 12 {
			n := []*Node{c.node, second.node}[i%2]
			id := secret.Copy(w.Token.Reveal())
			wg.Go(func() {
				take, count := n.Unwrap, &got
				if i%4 > 1 && round%2 == 1 {
					take, count = n.Rewrap, &moved
				}
				w, err := take(context.Background(), id)
				switch {
				case err == nil && string(w.Response) == `{"data":"canary"}`:
					count.Add(1)
					if count == &moved {
						fresh.Store(string(w.Token.Reveal()), true)
					}
				case err == nil:
					t.Errorf("unwrapped %s", w.Response)
				case !errors.Is(err, ErrWrapping):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got.Load()+moved.Load() != 1 {
			t.Fatalf("%d took it out, %d moved it", got.Load(), moved.Load())
		}
		for id := range fresh.Range {
			w, err := second.node.Unwrap(t.Context(), secret.Copy([]byte(id.(string))))
			if err != nil || string(w.Response) != `{"data":"canary"}` {
				t.Errorf("what was moved: %v", err)
			}
		}
		if _, err := c.node.Unwrap(t.Context(), w.Token); !errors.Is(err, ErrWrapping) {
			t.Errorf("once more: %v", err)
		}
	}
	if n := c.countBehind(mount.CubbyholeRecords); n != 0 {
		t.Errorf("%d responses are left", n)
	}
}

// A wrapping token is good for nothing else, and for no longer than it says.
func TestWrappingTokenIsGoodForNothingElse(t *testing.T) {
	c := withPeople(t)
	w := &Wrapped{TTL: time.Minute, Path: "secret/a", Response: json.RawMessage(`{}`)}
	if err := c.node.Wrap(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	id := string(w.Token.Reveal())
	for _, path := range []string{"auth/token/lookup-self", "cubbyhole/response", "secret/a", "auth/token/renew-self"} {
		for _, want := range []policy.Capability{policy.Read, policy.Update, policy.List} {
			if err := c.node.see(t.Context(), c.access(id, path, want), nil); !errors.Is(err, ErrDenied) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if _, err := c.node.LookupWrapped(t.Context(), w.Token); err != nil {
		t.Errorf("a look: %v", err)
	}
	if _, err := c.node.Unwrap(t.Context(), secret.Copy([]byte(c.login("auth/userpass/")))); !errors.Is(err, ErrWrapping) {
		t.Errorf("a token that wraps nothing: %v", err)
	}
	c.clock.step(time.Minute)
	if _, err := c.node.Unwrap(t.Context(), w.Token); !errors.Is(err, ErrWrapping) {
		t.Errorf("too late: %v", err)
	}
	c.sweepAll()
	if n := c.countBehind(mount.CubbyholeRecords); n != 0 {
		t.Errorf("%d responses are left", n)
	}
}
