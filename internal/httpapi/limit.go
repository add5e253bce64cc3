package httpapi

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/quorate/quorate/internal/fault"
)

// Rate is a token bucket: so many requests per second on average, and so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits bounds what one client may ask; the zero value means the defaults.
type Limits struct {
	Open    Rate // routes that need no token: status, unseal, ceremonies, whatever doesn't exist
	Token   Rate // all others
	Clients int  // how many clients are told apart
}

// Generous for people and programs, and low enough that a flood of junk shares, of which each costs the server a key
// derivation, leaves the machine to the others.
var defaultLimits = Limits{
	Open:    Rate{PerSecond: 100, Burst: 1000},
	Token:   Rate{PerSecond: 20_000, Burst: 40_000},
	Clients: 20_000,
}

func (l Limits) withDefaults() Limits {
	if l.Open == (Rate{}) {
		l.Open = defaultLimits.Open
	}
	if l.Token == (Rate{}) {
		l.Token = defaultLimits.Token
	}
	if l.Clients == 0 {
		l.Clients = defaultLimits.Clients
	}
	return l
}

// limiter holds one bucket per client, in two generations: when the young one is full it becomes the old one, and the
// old one, whoever in it was not heard of since, is forgotten. So memory has a hard bound, whatever the number of
// addresses that requests come from.
type limiter struct {
	rate Rate
	size int // of one generation

	mu    sync.Mutex
	young map[netip.Prefix]*rate.Limiter // :: client.bucket() → its tokens
	old   map[netip.Prefix]*rate.Limiter
}

func newLimiter(r Rate, clients int) *limiter {
	return &limiter{rate: r, size: max(1, clients/2), young: make(map[netip.Prefix]*rate.Limiter)}
}

// take asks for one request of a client. A fault says how long to wait.
func (l *limiter) take(client netip.Prefix, now time.Time) error {
	r := l.bucket(client).ReserveN(now, 1)
	delay := r.DelayFrom(now)
	if r.OK() && delay == 0 {
		return nil
	}
	r.CancelAt(now)
	f := fault.New(fault.Limited, "too many requests from this address: wait, and ask again")
	f.RetryAfter = max(time.Second, min(delay, time.Minute))
	return f
}

func (l *limiter) bucket(client netip.Prefix) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.young[client]; b != nil {
		return b
	}
	b := l.old[client]
	if b == nil {
		b = rate.NewLimiter(rate.Limit(l.rate.PerSecond), l.rate.Burst)
	}
	if len(l.young) >= l.size {
		l.old, l.young = l.young, make(map[netip.Prefix]*rate.Limiter)
	}
	l.young[client] = b
	return b
}
