package httpapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// meter is what this process has counted since it began.
type meter struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	always   []prometheus.Collector
	events   eventCounts
}

func newMeter(o Options) *meter {
	labels := []string{"method", "class"}
	m := &meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_http_requests_total", Help: "Requests that were answered.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_http_request_duration_seconds", Help: "Time until a request was answered, without those that follow a ceremony.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, labels),
		events: eventCounts{counts: noEvents()},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "quorate_build_info", Help: "Always 1; the labels say what this server is.",
		ConstLabels: prometheus.Labels{"version": o.Version, "commit_date": o.CommitDate, "storage": o.StorageType, "go": runtime.Version()},
	})
	build.Set(1)
	m.always = []prometheus.Collector{
		m.requests, m.duration, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	if o.Collector != nil {
		m.always = append(m.always, o.Collector)
	}
	return m
}

// namedMethods are those that have a name in the metrics: a client can make up others.
var namedMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, "LIST", http.MethodPatch, http.MethodOptions}

// count is the last thing that is done with a request. One that was cut off has no status.
func (x *exchange) count() {
	method := x.r.Method
	if !slices.Contains(namedMethods, method) {
		method = "other"
	}
	class := [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}[x.status/100]
	x.meter.requests.WithLabelValues(method, class).Inc()
	if x.route == nil || !x.route.endless {
		x.meter.duration.WithLabelValues(method, class).Observe(x.Now().Sub(x.began).Seconds())
	}
}

// what happened, and in which kind of ceremony; no kind outside of one.
type what struct {
	event transcript.Event
	kind  ceremony.Kind
}

// eventCounts counts the entries of the transcript, which all servers share: what begins and ends between two looks is seen too,
// wherever it was done.
type eventCounts struct {
	mu     sync.Mutex
	next   int64 // entry to be read
	counts map[what]int
}

var allKinds = []ceremony.Kind{ceremony.RootToken, ceremony.Rekey, ceremony.RotateRoot, ceremony.Drill, ceremony.Holders}

// noEvents has every start at 0, so that the first one is a change.
func noEvents() map[what]int {
	counts := make(map[what]int)
	for _, kind := range allKinds {
		counts[what{transcript.Start, kind}] = 0
	}
	return counts
}

// eventsAtOnce is how many entries are read in one transaction.
const eventsAtOnce = 1000

// follow reads what is new, page by page, and returns the counts and the size of the transcript. Nothing is locked while it
// reads: of two at once, one has read for nothing.
func (e *eventCounts) follow(view func(func(store.Reader) error) error) (counts map[what]int, size int64, err error) {
	for {
		e.mu.Lock()
		from, counts := e.next, maps.Clone(e.counts)
		e.mu.Unlock()
		var leaves [][]byte
		err := view(func(r store.Reader) error {
			head, err := transcript.ReadHead(r)
			if size = head.Size; err != nil {
				return err
			}
			if from > size { // another store was put in its place
				from, counts = 0, noEvents()
			}
			leaves, err = transcript.Read(r, from, eventsAtOnce)
			return err
		})
		if err != nil || len(leaves) == 0 {
			return counts, size, err
		}
		for _, leaf := range leaves {
			counts[whatOf(leaf)]++
		}
		e.mu.Lock()
		e.next, e.counts = from+int64(len(leaves)), counts
		e.mu.Unlock()
	}
}

// whatOf names nothing that this version doesn't know: labels must stay few.
func whatOf(leaf []byte) what {
	var entry struct {
		Event transcript.Event
		Kind  ceremony.Kind
	}
	if json.Unmarshal(leaf, &entry) != nil || !entry.Event.Known() {
		return what{event: "unknown"}
	}
	if !slices.Contains(allKinds, entry.Kind) {
		entry.Kind = ""
	}
	return what{entry.Event, entry.Kind}
}

// collectEvents sends the counts in an order that stays.
func (s *scrape) collectEvents(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("quorate_transcript_events_total", "Entries in the transcript, by what happened.", []string{"event", "kind"}, nil)
	keys := slices.SortedFunc(maps.Keys(s.events), func(a, b what) int {
		return cmp.Or(cmp.Compare(a.event, b.event), cmp.Compare(a.kind, b.kind))
	})
	for _, k := range keys {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(s.events[k]), string(k.event), string(k.kind))
	}
}
