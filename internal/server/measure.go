package server

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// measured is a store that counts and times what is done with it. It is a prometheus.Collector.
type measured struct {
	store.Store
	duration     *prometheus.HistogramVec
	errors       *prometheus.CounterVec
	view, update transactions
}

// transactions are those of one kind. Both are there from the start, so that a first error is a change.
type transactions struct {
	duration prometheus.Observer
	errors   prometheus.Counter
}

func measure(st store.Store) *measured {
	m := &measured{
		Store: st,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "quorate_store_transaction_duration_seconds", Help: "Duration of store transactions, with all that was done again.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}, []string{"transaction"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "quorate_store_errors_total", Help: "Store transactions that failed because of the store.",
		}, []string{"transaction"}),
	}
	m.view = transactions{m.duration.WithLabelValues("view"), m.errors.WithLabelValues("view")}
	m.update = transactions{m.duration.WithLabelValues("update"), m.errors.WithLabelValues("update")}
	return m
}

// View implements store.Store.
func (m *measured) View(ctx context.Context, fn func(store.Reader) error) error {
	began := time.Now()
	err := m.Store.View(ctx, fn)
	m.view.record(began, err)
	return err
}

// Update implements store.Store.
func (m *measured) Update(ctx context.Context, fn func(store.Tx) error) error {
	began := time.Now()
	err := m.Store.Update(ctx, fn)
	m.update.record(began, err)
	return err
}

// record tells the store's failures from fn's own errors by what only stores say.
func (t transactions) record(began time.Time, err error) {
	t.duration.Observe(time.Since(began).Seconds())
	if err == nil {
		return
	}
	if f := fault.As(err); f != nil && f.Kind == fault.Unavailable || errors.Is(err, store.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) {
		t.errors.Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *measured) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *measured) Collect(ch chan<- prometheus.Metric) {
	m.duration.Collect(ch)
	m.errors.Collect(ch)
	var retries uint64 // of a store that never has conflicts
	if meter, ok := m.Store.(store.Meter); ok {
		retries = meter.Retries()
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(
		"quorate_store_retries_total", "Store transactions that were run again after a conflict.", nil, nil,
	), prometheus.CounterValue, float64(retries))
}
