package httpapi

import (
	"net/netip"
	"sync"
	"sync/atomic"
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
	b := l.bucket(client)
	if b.AllowN(now, 1) {
		return nil
	}
	f := fault.New(fault.Limited, "too many requests from this address: wait, and ask again")
	seconds := 60.0
	if l.rate.Burst > 0 {
		seconds = (1 - b.TokensAt(now)) / l.rate.PerSecond
	}
	f.RetryAfter = time.Duration(max(1, min(seconds, 60)) * float64(time.Second))
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

// Bodies beyond freeBody take room from one of two budgets for the time of their request, so that memory has a bound
// whatever the number of connections: a small one for strangers, a large one for who is local or has a live token.
const (
	freeBody       = 4 << 10
	strangerBudget = 8 << 20
	knownBudget    = 128 << 20
)

// budget counts bytes that are in use. Its users never wait for each other.
type budget struct {
	size int64
	used atomic.Int64
}

var errBusy = &fault.Error{
	Kind: fault.Limited, RetryAfter: time.Second,
	Sentence: "this server is reading as many large requests as it can: ask again in a moment",
}

func (b *budget) take(n int64) error {
	if b.used.Add(n) > b.size {
		b.used.Add(-n)
		return errBusy
	}
	return nil
}

func (b *budget) give(n int64) { b.used.Add(-n) }
