package httpapi

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

var (
	limitStart = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	enemy      = netip.MustParsePrefix("203.0.113.7/32")
	friend     = netip.MustParsePrefix("198.51.100.1/32")
)

func TestLimiter(t *testing.T) {
	l := newLimiter(Rate{PerSecond: 10, Burst: 5}, 100)
	for i := range 5 {
		if err := l.take(enemy, limitStart); err != nil {
			t.Fatalf("request %d of the burst: %v", i+1, err)
		}
	}
	for range 1000 { // what is refused doesn't make it longer
		err := l.take(enemy, limitStart)
		if f := fault.As(err); f == nil || f.Kind != fault.Limited || f.RetryAfter != time.Second {
			t.Fatalf("over the limit: %v", err)
		}
	}
	if err := l.take(friend, limitStart); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if err := l.take(enemy, limitStart.Add(99*time.Millisecond)); err == nil {
		t.Error("a tenth of a second isn't over yet")
	}
	if err := l.take(enemy, limitStart.Add(100*time.Millisecond)); err != nil {
		t.Errorf("after a tenth of a second: %v", err)
	}
	if err := l.take(enemy, limitStart.Add(-time.Hour)); err == nil {
		t.Error("a clock that is set back gives new requests")
	}
}

func TestLimiterSaysHowLong(t *testing.T) {
	l := newLimiter(Rate{PerSecond: 0.1, Burst: 1}, 100)
	if err := l.take(enemy, limitStart); err != nil {
		t.Fatal(err)
	}
	if f := fault.As(l.take(enemy, limitStart)); f == nil || f.RetryAfter != 10*time.Second {
		t.Errorf("%+v, want to wait 10 s", f)
	}
	closed := newLimiter(Rate{PerSecond: 1}, 100)
	if f := fault.As(closed.take(enemy, limitStart)); f == nil || f.RetryAfter != time.Minute {
		t.Errorf("%+v from a limiter that lets nobody in, want a minute", f)
	}
}

// However many addresses ask, so many are remembered; and who keeps asking is not forgotten among them.
func TestLimiterIsBounded(t *testing.T) {
	const clients = 100
	l := newLimiter(Rate{PerSecond: 0.001, Burst: 1}, clients)
	if err := l.take(enemy, limitStart); err != nil {
		t.Fatal(err)
	}
	for i := range 50 * clients {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if err := l.take(netip.PrefixFrom(addr, 32), limitStart); err != nil {
			t.Fatal(err)
		}
		if n := len(l.young) + len(l.old); n > clients {
			t.Fatalf("%d clients are remembered, want at most %d", n, clients)
		}
		if i%(clients/4) == 0 && l.take(enemy, limitStart) == nil {
			t.Fatalf("after %d others the enemy was forgotten", i)
		}
	}
}

func TestLimiterIsSafeForConcurrentUse(t *testing.T) {
	const burst = 100
	l := newLimiter(Rate{PerSecond: 0.001, Burst: burst}, 10)
	var passed sync.Map
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range burst {
				if l.take(enemy, limitStart) == nil {
					passed.Store(fmt.Sprint(g, i), true)
				}
			}
		})
	}
	wg.Wait()
	n := 0
	passed.Range(func(any, any) bool { n++; return true })
	if n != burst {
		t.Errorf("%d requests passed, want %d", n, burst)
	}
}

func TestLimitsDefaults(t *testing.T) {
	if got := (Limits{}).withDefaults(); got != defaultLimits {
		t.Errorf("%+v", got)
	}
	mine := Limits{Open: Rate{1, 2}, Token: Rate{3, 4}, Clients: 5}
	if got := mine.withDefaults(); got != mine {
		t.Errorf("%+v, want %+v", got, mine)
	}
}
