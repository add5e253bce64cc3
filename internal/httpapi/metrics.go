package httpapi

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

const metricsPath = "sys/metrics"

// opened is a route that anybody may read, and that answers while the server is sealed.
func opened(r *route) *route {
	o := *r
	o.authority, o.sealed, o.quiet = byNone, true, true
	return &o
}

// scrape is the state of a node at one look, as a collector. What isn't known is nil.
type scrape struct {
	sealed      bool
	initialised *bool
	generations []node.GenerationView
	size        int64 // of the transcript
	events      map[what]int
	open        map[ceremony.Kind]int
}

// metrics answers in the Prometheus text format.
func metrics(x *exchange) (*reply, error) {
	if x.route.authority == byToken {
		if err := x.allowed(); err != nil {
			return nil, err
		}
	}
	s, err := x.scrape()
	if err != nil && x.route.authority == byToken {
		return nil, err // otherwise what is known is told: that is when it is looked at
	}
	registry := prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{s}, x.meter.always...) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	families, err := registry.Gather()
	if err != nil {
		return nil, err
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var out bytes.Buffer
	enc := expfmt.NewEncoder(&out, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return nil, err
		}
	}
	return &reply{plain: out.String(), media: string(format)}, nil
}

// scrapePatience is for all that a scrape asks of the store, below the ten seconds after which Prometheus gives up: what the
// process knows is wanted most while the store hangs.
const scrapePatience = 4 * time.Second

// scrape returns what it could find out, and why not all of it.
func (x *exchange) scrape() (*scrape, error) {
	ctx, cancel := context.WithTimeout(x.r.Context(), scrapePatience)
	defer cancel()
	s := &scrape{sealed: x.Node.Sealed()}
	initialised, errInit := x.Node.Initialized(ctx)
	if errInit == nil {
		s.initialised = &initialised
	}
	var errTable, errEvents, errOpen error
	_, s.generations, errTable = x.Node.HolderTable(ctx)
	s.events, s.size, errEvents = x.meter.events.follow(func(fn func(store.Reader) error) error { return x.Node.TranscriptView(ctx, fn) })
	if errEvents != nil {
		s.events = nil
	}
	if errors.Is(errEvents, transcript.ErrDamaged) { // for good; all else is needed the more
		errEvents = nil
	}
	if !s.sealed {
		s.open, errOpen = x.openCeremonies(ctx)
	}
	return s, errors.Join(errInit, errTable, errEvents, errOpen)
}

func (x *exchange) openCeremonies(ctx context.Context) (map[ceremony.Kind]int, error) {
	list, _, err := x.Node.Ceremonies(ctx)
	if err != nil {
		return nil, err
	}
	open := make(map[ceremony.Kind]int)
	for _, kind := range allKinds {
		open[kind] = 0
	}
	for _, c := range list {
		open[c.Kind]++
	}
	return open, nil
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector. A holder who has never proven their share has no time of it.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	gauge := func(value float64, name, help string, labels []string, values ...string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value, values...)
	}
	truth := map[bool]float64{true: 1}
	gauge(truth[s.sealed], "quorate_sealed", "Whether this server is sealed.", nil)
	if s.initialised != nil {
		gauge(truth[*s.initialised], "quorate_initialized", "Whether the cluster is initialised.", nil)
	}
	if s.events != nil {
		gauge(float64(s.size), "quorate_transcript_size", "Entries in the transcript.", nil)
		s.collectEvents(ch)
	}
	for kind, n := range s.open {
		gauge(float64(n), "quorate_ceremonies_open", "Ceremonies in progress.", []string{"kind"}, string(kind))
	}
	for _, g := range s.generations {
		number := strconv.FormatUint(g.Number, 10)
		gauge(float64(len(g.Holders)), "quorate_holders", "Key holders of a generation of shares.", []string{"generation", "state"}, number, g.State)
		for _, h := range g.Holders {
			if h.LastProven.IsZero() {
				continue
			}
			gauge(float64(h.LastProven.UnixMilli())/1000, "quorate_holder_last_proven_timestamp_seconds",
				"When a holder last proved to have a working key share.", []string{"generation", "slot"}, number, strconv.Itoa(h.Slot))
		}
	}
}
