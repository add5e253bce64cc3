package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// TestOpenStorageTellsNoSecret: what leads into a store that can't be reached is not in the error, nor in the log.
func TestOpenStorageTellsNoSecret(t *testing.T) {
	quick := 300 * time.Millisecond
	for name, s := range map[string]config.Storage{
		"postgresql": {Type: config.StoragePostgreSQL, RequestTimeout: quick, Table: "quorate", MaxConnections: 2, ConnectionURL: secret.Own([]byte("postgres://q:hunter2@127.0.0.1:1/db"))},
		"bad URL":    {Type: config.StoragePostgreSQL, RequestTimeout: quick, Table: "quorate", MaxConnections: 2, ConnectionURL: secret.Own([]byte("postgres://q:hunter2@127.0.0.1:port/db?sslmode=perhaps"))},
		"etcd":       {Type: config.StorageEtcd, RequestTimeout: quick, Endpoints: []string{"127.0.0.1:1"}, Username: "q", Password: secret.Own([]byte("hunter2"))},
	} {
		log := newSink()
		st, err := openStorage(t.Context(), s, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if err == nil || st != nil {
			t.Errorf("%s: opened %v", name, st)
			continue
		}
		if text := err.Error() + log.String(); strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestOpenStorageMakesStateDir: the folder for what this machine has seen of the transcript is as private as the data.
func TestOpenStorageMakesStateDir(t *testing.T) {
	s := config.Storage{Type: config.StorageEtcd, RequestTimeout: 100 * time.Millisecond, Endpoints: []string{"127.0.0.1:1"}, StateDir: filepath.Join(t.TempDir(), "state")}
	_, _ = openStorage(t.Context(), s, slog.New(slog.DiscardHandler))
	info, err := os.Stat(s.StateDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := os.Chmod(s.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openStorage(t.Context(), s, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "open to other accounts") {
		t.Errorf("a folder that others can enter: %v", err)
	}
	if srv := (&server{cfg: &config.Config{Storage: s}}); srv.markKeeper() != fileMark(filepath.Join(s.StateDir, markFile)) {
		t.Errorf("the mark is kept at %v", srv.markKeeper())
	}
	s.StateDir = ""
	if srv := (&server{cfg: &config.Config{Storage: s}}); srv.markKeeper() != nil {
		t.Errorf("the mark is kept at %v", srv.markKeeper())
	}
}

// TestCheckStorage: what can be found without another machine is found, and nothing is made.
func TestCheckStorage(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	absent := filepath.Join(dir, "absent")
	etcd := config.Storage{Type: config.StorageEtcd, RequestTimeout: time.Second, Endpoints: []string{"127.0.0.1:1"}, Prefix: "quorate/", StateDir: absent}
	for want, change := range map[string]func(*config.Storage){
		"":                            func(*config.Storage) {},
		"tls_ca_file for etcd can't":  func(s *config.Storage) { s.TLSCAFile = absent },
		"no certificate in PEM form":  func(s *config.Storage) { s.TLSCAFile = junk },
		"certificate for etcd can't":  func(s *config.Storage) { s.TLSCertFile, s.TLSKeyFile = junk, junk },
		"password_file can't be read": func(s *config.Storage) { s.Username, s.PasswordFile = "q", absent },
		"is not a directory":          func(s *config.Storage) { s.StateDir = junk },
		"connection_url_file can't be rea": func(s *config.Storage) {
			*s = config.Storage{Type: config.StoragePostgreSQL, ConnectionURLFile: absent}
		},
	} {
		s := etcd
		change(&s)
		if err := checkStorage(s); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := os.Stat(absent); err == nil {
		t.Error("a check has made a folder")
	}
}

// brokenStore answers what it is told to.
type brokenStore struct {
	store.Store
	err error
}

func (b *brokenStore) View(context.Context, func(store.Reader) error) error { return b.err }
func (b *brokenStore) Update(context.Context, func(store.Tx) error) error   { return b.err }
func (b *brokenStore) Retries() uint64                                      { return 7 }

// TestMeasure: a store's own failures are told from those of who uses it.
func TestMeasure(t *testing.T) {
	b := &brokenStore{Store: inmem.New()}
	m := measure(b)
	for _, b.err = range []error{
		nil, errors.New("the caller's"), fault.New(fault.Denied, "no"), context.Canceled,
		fault.New(fault.Unavailable, "down"), fmt.Errorf("commit: %w", store.ErrUnknownOutcome), context.DeadlineExceeded,
	} {
		if err := m.View(t.Context(), nil); err != b.err {
			t.Errorf("%v became %v", b.err, err)
		}
		if err := m.Update(t.Context(), nil); err != b.err {
			t.Errorf("%v became %v", b.err, err)
		}
	}
	b.err = nil
	if err := m.View(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, metric := range f.Metric {
			name := f.GetName()
			for _, l := range metric.Label {
				name += " " + l.GetValue()
			}
			got[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"quorate_store_errors_total view": 3, "quorate_store_errors_total update": 3, "quorate_store_retries_total": 7,
		"quorate_store_transaction_duration_seconds view": 8, "quorate_store_transaction_duration_seconds update": 7,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
