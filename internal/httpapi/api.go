// Package httpapi is the wire: the routes below /v1/, who is asking, the shapes of requests and replies, and the one
// place where a fault becomes a status code.
//
// It promises that a request is looked at in one order: client address, rate limit, route, size, syntax, types,
// authority; that what costs little comes first; that nothing of a request's body, token or path comes back in an
// error or enters the log; and that a key share never becomes a string and is wiped with the body it came in. It
// takes no decision about authority: it says what it saw of the connection, and package node decides in the
// transaction that acts. It can't wipe the buffers of net/http, in which header and body also stood, and it sets no
// timeouts on connections: package server does.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/node"
)

// defaultMaxRequestSize is the limit of the Vault family.
const defaultMaxRequestSize = 32 << 20

// Options configures an API. Only Node is required.
type Options struct {
	Node        *node.Node
	Logger      *slog.Logger
	Now         func() time.Time
	Version     string // of the server, as seal-status and health show it
	CommitDate  string // RFC 3339, or empty
	StorageType string // as seal-status shows it
	Limits      Limits
	Audit       *audit.Broker // nil: nobody is told
	// Collector has metrics of what is below the node; may be nil.
	Collector prometheus.Collector
}

// Listener says how one listener admits. The zero value is a TCP listener that takes no proxy's word, on a server
// whose api_addr is published: no connection to it is local.
type Listener struct {
	Name       string // for the log
	Unix       bool
	Ceremonies string // CeremoniesLocal (also if empty), CeremoniesToken or CeremoniesOpen
	// LocalAuthority makes TCP loopback local although api_addr is not loopback.
	LocalAuthority bool
	// APIAddrLoopback is false when api_addr is set to something that isn't loopback.
	APIAddrLoopback bool
	// TrustedProxies are the addresses whose X-Forwarded-For header is believed.
	TrustedProxies     []netip.Prefix
	MaxRequestSize     int64         // bytes; 0 means 32 MiB
	MaxRequestDuration time.Duration // 0 means no limit
	// ResponseHeaders are added to every reply.
	ResponseHeaders http.Header
	// OpenMetrics lets anybody read sys/metrics, also while sealed.
	OpenMetrics bool
}

// API serves a node. It is safe for concurrent use.
type API struct {
	Options
	routes      map[string]*route // :: path below /v1/ → route
	varying     *engine.Table     // of the routes with parts that vary
	found       map[*engine.Route]*route
	mounted     map[*engine.Route]*route // :: route of an engine → the same, as the wire sees it
	unknown     *route                   // for every other path below /v1/
	openLimit   *limiter
	tokenLimit  *limiter
	clients     int // that limits tell apart
	quotas      quotas
	crossOrigin *http.CrossOriginProtection
	strangers   budget // of body bytes
	known       budget
	watchers    *watchers
	meter       *meter
	openMetrics *route // sys/metrics for a listener with OpenMetrics
}

// New returns the wire of o.Node.
func New(o Options) *API {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	limits := o.Limits.withDefaults()
	a := &API{
		Options:     o,
		routes:      make(map[string]*route),
		found:       make(map[*engine.Route]*route),
		mounted:     make(map[*engine.Route]*route),
		unknown:     unknownRoute(),
		openLimit:   newLimiter(limits.Open, limits.Clients),
		tokenLimit:  newLimiter(limits.Token, limits.Clients),
		clients:     limits.Clients,
		crossOrigin: http.NewCrossOriginProtection(),
		strangers:   budget{size: strangerBudget},
		known:       budget{size: knownBudget},
		watchers:    newWatchers(),
		meter:       newMeter(o),
	}
	a.addRoutes(allRoutes())
	a.openMetrics = opened(a.routes[metricsPath])
	for _, kind := range o.Node.Engines() {
		for i := range kind.Routes {
			a.mounted[&kind.Routes[i]] = mountedRoute(&kind.Routes[i])
		}
	}
	return a
}

// addRoutes fills the table. A pattern that can't be is a mistake in the program, which every test finds.
func (a *API) addRoutes(all []route) {
	var patterns []engine.Route
	var varying []*route
	for i := range all {
		r := &all[i]
		r.index()
		if !strings.Contains(r.path, "{") {
			a.routes[r.path] = r
			continue
		}
		patterns = append(patterns, engine.Route{Path: r.path, Ops: map[engine.Operation]engine.Handler{
			engine.Read: func(context.Context, *engine.Request) (*engine.Response, error) { return nil, nil },
		}})
		varying = append(varying, r)
	}
	var err error
	if a.varying, err = engine.NewTable(patterns); err != nil {
		panic("httpapi: " + err.Error())
	}
	for i := range patterns {
		a.found[&patterns[i]] = varying[i]
	}
}

// EndWatches ends all replies that would go on for long, and refuses new ones, so that a server can shut down without
// waiting for them. It may be called more than once.
func (a *API) EndWatches() { a.watchers.end() }

// Handler serves what comes in through l.
func (a *API) Handler(l Listener) http.Handler {
	if l.MaxRequestSize == 0 {
		l.MaxRequestSize = defaultMaxRequestSize
	}
	headers := make(http.Header, len(l.ResponseHeaders)) // whose values a reply may add to, each in memory of its own
	for name, values := range l.ResponseHeaders {
		headers[name] = slices.Clip(slices.Clone(values))
	}
	l.ResponseHeaders = headers
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{API: a, listener: &l, w: w, r: r, began: a.Now(), target: a.match(r.URL)}
		if l.OpenMetrics && x.route == a.routes[metricsPath] {
			x.route = a.openMetrics
		}
		x.locate()
		if l.MaxRequestDuration > 0 && !x.route.endless {
			ctx, cancel := context.WithTimeout(r.Context(), l.MaxRequestDuration)
			defer cancel()
			x.r = r.WithContext(ctx)
		}
		x.serve()
	})
}
