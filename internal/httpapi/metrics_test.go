package httpapi

import (
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestMetrics(t *testing.T) {
	s := ready(t, 3, 2)
	limited, _ := s.newToken(`{"policies":["default"]}`)
	for _, token := range []string{"", "junk", limited} {
		s.do("GET", "sys/metrics", "", withToken(token)).want(403)
	}
	nonce := s.begin(`{"kind":"drill"}`)
	s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[2]+`"}`).want(200)
	got := s.do("GET", "sys/metrics?format=prometheus", "", withToken(s.root)).want(200)
	if media := got.header.Get("Content-Type"); !strings.HasPrefix(media, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", media)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(got.text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, got.text)
	}
	for _, name := range []string{
		"quorate_transcript_size", "quorate_ceremonies_open", "quorate_holder_last_proven_timestamp_seconds",
	} {
		if families[name] == nil {
			t.Errorf("no %s in\n%s", name, got.text)
		}
	}
	if families["quorate_sealed"] != nil { // a sealed server answers 503: it could never be anything but 0
		t.Error("quorate_sealed says nothing")
	}
	for _, line := range []string{
		`quorate_ceremonies_open{kind="drill"} 1`, `quorate_ceremonies_open{kind="root-token"} 0`,
		`quorate_holder_last_proven_timestamp_seconds{generation="1",slot="3"} 1.7`,
	} {
		if !strings.Contains(got.text, "\n"+line) {
			t.Errorf("no %q in\n%s", line, got.text)
		}
	}
	if got.text != s.do("GET", "sys/metrics", "", withToken(s.root)).text {
		t.Error("it isn't the same text twice")
	}
}
