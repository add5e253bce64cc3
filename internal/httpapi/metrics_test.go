package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/quorate/quorate/internal/store"
)

// scraped reads a scrape as Prometheus would, and returns the names in it.
func scraped(t *testing.T, got *response) map[string]bool {
	t.Helper()
	if media := got.want(200).header.Get("Content-Type"); !strings.HasPrefix(media, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", media)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(got.text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, got.text)
	}
	names := make(map[string]bool)
	for name := range families {
		names[name] = true
	}
	return names
}

func (g *response) lines(lines ...string) {
	g.t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+g.text, "\n"+line) {
			g.t.Errorf("no %q in\n%s", line, g.text)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := ready(t, 3, 2)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	for _, token := range []string{"", "junk", limited} {
		s.do("GET", "sys/metrics", "", withToken(token)).want(403)
	}
	nonce := s.begin(`{"kind":"drill"}`)
	s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[2]+`"}`).want(200)
	got := s.do("GET", "sys/metrics?format=prometheus", "", withToken(s.root))
	families := scraped(t, got)
	for _, name := range []string{
		"quorate_transcript_size", "quorate_ceremonies_open", "quorate_holder_last_proven_timestamp_seconds", "quorate_http_request_duration_seconds",
		"go_goroutines",
	} {
		if !families[name] {
			t.Errorf("no %s in\n%s", name, got.text)
		}
	}
	got.lines(
		`quorate_ceremonies_open{kind="drill"} 1`, `quorate_ceremonies_open{kind="root-token"} 0`,
		`quorate_holder_last_proven_timestamp_seconds{generation="1",slot="3"} 1.7`, `quorate_holders{generation="1",state="active"} 3`,
		`quorate_sealed 0`, `quorate_initialized 1`, `quorate_transcript_events_total{event="start",kind="drill"} 1`,
		`quorate_transcript_events_total{event="start",kind="root-token"} 0`, `quorate_http_requests_total{class="4xx",method="GET"} 3`,
		`quorate_build_info{commit_date="",go="go1`,
	)
	// What began and ended between two looks has left a trace.
	s.do("DELETE", native+"/"+nonce, "").want(204)
	s.do("BREW", "sys/health", "")
	got = s.do("GET", "sys/metrics", "", withToken(s.root)).want(200)
	got.lines(
		`quorate_ceremonies_open{kind="drill"} 0`, `quorate_transcript_events_total{event="cancel",kind="drill"} 1`,
		`quorate_http_requests_total{class="2xx",method="DELETE"} 1`, `quorate_http_requests_total{class="4xx",method="other"} 1`,
	)
}

// TestOpenMetrics: a listener that opens them shows them to anybody, also while the server is sealed; nothing else opens.
func TestOpenMetrics(t *testing.T) {
	s := newServer(t)
	s.l.OpenMetrics = true
	s.do("GET", "sys/metrics", "", stranger).lines(`quorate_sealed 1`, `quorate_initialized 0`)
	s.init(3, 2)
	got := s.do("GET", "sys/metrics", "", stranger)
	got.lines(`quorate_sealed 1`, `quorate_initialized 1`, `quorate_holders{generation="1",state="active"} 3`, `quorate_transcript_size `)
	if families := scraped(t, got); families["quorate_ceremonies_open"] {
		t.Error("sealed, and it knows which ceremonies are open")
	}
	s.unseal(2)
	s.do("GET", "sys/metrics", "", stranger, withToken("junk")).lines(`quorate_sealed 0`, `quorate_ceremonies_open{kind="rekey"} 0`)
	s.do("GET", "sys/internal/specs/openapi", "", stranger).want(403)
	s.do("POST", "sys/metrics", "", stranger).want(405)
	s.l.OpenMetrics = false
	s.do("GET", "sys/metrics", "", stranger).want(403)
}

// downStore fails everything once it is cut.
type downStore struct {
	store.Store
	cut bool
}

func (d *downStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if d.cut {
		return context.DeadlineExceeded
	}
	return d.Store.View(ctx, fn)
}

// TestMetricsWithoutStore: what a server says of itself can be had when its store can't be reached, which is when it is needed.
func TestMetricsWithoutStore(t *testing.T) {
	s := newServer(t)
	d := &downStore{Store: s.store}
	s.serve(d)
	s.init(1, 1)
	s.unseal(1)
	d.cut = true
	s.do("GET", "sys/metrics", "", withToken(s.root)).want(http.StatusServiceUnavailable)
	s.l.OpenMetrics = true
	got := s.do("GET", "sys/metrics", "")
	got.lines(`quorate_sealed 0`, `quorate_http_requests_total{class="5xx",method="GET"} 1`)
	if families := scraped(t, got); families["quorate_initialized"] || families["quorate_transcript_size"] {
		t.Error("it tells of what it can't know")
	}
	d.cut = false
	s.do("GET", "sys/metrics", "").lines(`quorate_initialized 1`, `quorate_transcript_events_total{event="init",kind=""} 1`)
}

// TestMetricsOfDamagedTranscript: an entry that can't be read any more takes the counts of entries away, and nothing else.
func TestMetricsOfDamagedTranscript(t *testing.T) {
	s := ready(t, 1, 1)
	err := s.store.Update(t.Context(), func(tx store.Tx) error { return tx.Put("plain/transcript/record/0000000000000000", []byte("x")) })
	if err != nil {
		t.Fatal(err)
	}
	got := s.do("GET", "sys/metrics", "", withToken(s.root))
	got.lines(`quorate_sealed 0`, `quorate_ceremonies_open{kind="drill"} 0`)
	if families := scraped(t, got); families["quorate_transcript_events_total"] {
		t.Error("it counts entries that it can't read")
	}
}
