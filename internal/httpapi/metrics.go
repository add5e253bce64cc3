package httpapi

import (
	"bytes"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// scrape is the state of a node at one look, as a collector.
type scrape struct {
	generations []node.GenerationView
	size        int64 // of the transcript
	open        map[ceremony.Kind]int
}

// metrics answers in the Prometheus text format. Nothing is counted in between: a metric is what the node's records say.
func metrics(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	s, err := x.scrape()
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(s); err != nil {
		return nil, err
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

func (x *exchange) scrape() (*scrape, error) {
	s := &scrape{open: make(map[ceremony.Kind]int)}
	for _, kind := range []ceremony.Kind{ceremony.RootToken, ceremony.Rekey, ceremony.RotateRoot, ceremony.Drill, ceremony.Holders} {
		s.open[kind] = 0
	}
	list, _, err := x.Node.Ceremonies(x.r.Context())
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		s.open[c.Kind]++
	}
	if _, s.generations, err = x.Node.HolderTable(x.r.Context()); err != nil {
		return nil, err
	}
	err = x.Node.TranscriptView(x.r.Context(), func(r store.Reader) error {
		head, err := transcript.ReadHead(r)
		s.size = head.Size
		return err
	})
	return s, err
}

// Describe implements prometheus.Collector.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector. A holder who has never proven their share has no time of it.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	gauge := func(value float64, name, help string, labels []string, values ...string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue, value, values...)
	}
	gauge(float64(s.size), "quorate_transcript_size", "Entries in the transcript.", nil)
	for kind, n := range s.open {
		gauge(float64(n), "quorate_ceremonies_open", "Ceremonies in progress.", []string{"kind"}, string(kind))
	}
	for _, g := range s.generations {
		for _, h := range g.Holders {
			if h.LastProven.IsZero() {
				continue
			}
			gauge(float64(h.LastProven.UnixMilli())/1000, "quorate_holder_last_proven_timestamp_seconds",
				"When a holder last proved to have a working key share.", []string{"generation", "slot"},
				strconv.FormatUint(g.Number, 10), strconv.Itoa(h.Slot))
		}
	}
}
