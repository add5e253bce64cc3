package httpapi

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

// What a page of an allowed origin may send, beside what every page may.
const (
	corsMethods = "DELETE, GET, OPTIONS, POST, PUT, LIST, PATCH"
	corsHeaders = "Content-Type, X-Requested-With, X-Vault-Namespace, X-Vault-Token, X-Vault-Wrap-TTL, X-Vault-Wrap-Format, X-Vault-Policy-Override, Authorization"
	corsMaxAge  = 300 // seconds
)

// checkOrigin refuses what a page of another origin asks, unless sys/config/cors allows that origin; preflight says that
// all there is to answer was in the headers. Such a page has no local authority in any case.
func (x *exchange) checkOrigin() (preflight bool, err error) {
	origin := x.r.Header.Get("Origin")
	cors := x.Node.CORS()
	if origin == "" || !cors.Enabled || !slices.Contains(cors.Origins, origin) && !slices.Contains(cors.Origins, "*") {
		if x.crossOrigin.Check(x.r) != nil {
			return false, errCrossOrigin
		}
		return false, nil
	}
	h := x.w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	if x.r.Method != http.MethodOptions || x.r.Header.Get("Access-Control-Request-Method") == "" {
		return false, nil
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", strings.Join(append([]string{corsHeaders}, cors.Headers...), ", "))
	h.Set("Access-Control-Max-Age", strconv.Itoa(corsMaxAge))
	return true, nil
}

// quotas are the buckets of the rate limits that operators set. They count for this process.
type quotas struct {
	mu      sync.Mutex
	limited map[string]*quotaLimiter // :: name → its buckets
}

type quotaLimiter struct {
	quota   node.Quota
	limiter *limiter
	blocked *limiter // a bucket that is empty is that of a blocked client
}

// of returns the buckets of a rate limit, new ones if it has changed.
func (q *quotas) of(quota node.Quota, clients int) *quotaLimiter {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.limited[quota.Name]
	if l != nil && l.quota == quota {
		return l
	}
	per := quota.Rate / quota.Interval.Seconds()
	l = &quotaLimiter{quota: quota, limiter: newLimiter(Rate{PerSecond: per, Burst: max(1, int(quota.Rate))}, clients)}
	if quota.Block > 0 {
		l.blocked = newLimiter(Rate{PerSecond: 1 / quota.Block.Seconds(), Burst: 1}, clients)
	}
	if q.limited == nil {
		q.limited = make(map[string]*quotaLimiter)
	}
	q.limited[quota.Name] = l
	return l
}

// take counts one request. Once a client is over the limit, and the limit says so, it is refused everything for a time.
func (l *quotaLimiter) take(client netip.Prefix, now time.Time) error {
	if l.blocked != nil {
		if left := 1 - l.blocked.bucket(client).TokensAt(now); left > 0 {
			return over(time.Duration(left * float64(l.quota.Block)))
		}
	}
	switch err := l.limiter.take(client, now); {
	case err == nil:
		return nil
	case l.blocked == nil:
		return over(fault.As(err).RetryAfter)
	}
	l.blocked.bucket(client).AllowN(now, 1)
	return over(l.quota.Block)
}

func over(wait time.Duration) error {
	return &fault.Error{
		Kind: fault.Limited, RetryAfter: max(wait, time.Second),
		Sentence: "request path is over its rate limit quota: wait, and ask again",
	}
}

// withinQuotas holds what needs a token, and logins, to the rate limits for their path. What holders and load balancers
// need is left out, so that no limit can lock a quorum out.
func (x *exchange) withinQuotas() error {
	if x.place == nil && x.route.authority != byToken {
		return nil
	}
	for _, q := range x.Node.Quotas(x.accessPath()) {
		if err := x.quotas.of(q, x.clients).take(x.client.bucket(), x.Now()); err != nil {
			return err
		}
	}
	return nil
}
