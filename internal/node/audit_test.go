package node

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

// beforeUpdate does something before its n-th Update.
type beforeUpdate struct {
	store.Store
	n  int
	do func()
}

func (b *beforeUpdate) Update(ctx context.Context, fn func(store.Tx) error) error {
	if b.n--; b.n == 0 {
		b.do()
	}
	return b.Store.Update(ctx, fn)
}

// Of two servers that are unsealed for the first time at once, both hash with the same key.
func TestOneAuditKey(t *testing.T) {
	reached := true
	for n := 1; reached; n++ {
		c := &cluster{t: t, clock: newClock(), log: &syncBuffer{}, st: anystore.New(t)}
		start := func(st store.Store) {
			broker := audit.New(audit.Options{Logger: slog.New(slog.DiscardHandler), Now: c.clock.now, Stdout: io.Discard})
			if err := broker.SetConfigured([]audit.Device{{Path: "out/", Type: "stdout"}}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { broker.Close() })
			var err error
			if c.node, err = New(Options{Store: st, Now: c.clock.now, Audit: broker, SweepInterval: 24 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.node.Close)
		}
		start(c.st)
		c.init(1, 1)
		one := *c
		reached = false
		start(&beforeUpdate{c.st, n, func() { reached = true; one.unseal() }})
		c.unseal()
		if !reached {
			one.unseal()
		}
		first, err := one.node.Audit.Hash("out/", []byte("x"))
		second, errSecond := c.node.Audit.Hash("out/", []byte("x"))
		if err != nil || errSecond != nil || first != second {
			t.Errorf("update %d: %s, %v and %s, %v", n, first, err, second, errSecond)
		}
		if n > 20 {
			t.Fatal("an unseal has too many updates")
		}
	}
}
