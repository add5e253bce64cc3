// Package harness starts a real Quorate for the tests of this module: the product's own listener handler over a node
// over a store, on a loopback port.
package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// Options says what kind of server a test wants. The zero value is 3 of 5, sealed again after nothing, local ceremonies.
type Options struct {
	Shares, Threshold int
	Uninitialised     bool // leave it without a cluster
	Sealed            bool // initialise, but don't unseal
	Listener          httpapi.Listener
	Limits            httpapi.Limits
	Store             store.Store
	Now               func() time.Time
	Audit             *audit.Broker // stays its owner's; nil: there are no audit devices
}

// Server is a running server and what its people hold.
type Server struct {
	URL    string
	Node   *node.Node
	Shares [][]byte // raw
	Root   string
	Log    *Buffer
	HTTP   *httptest.Server
}

// Buffer is a log that can be read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Shares == 0 {
		o.Shares, o.Threshold = 5, 3
	}
	if o.Store == nil {
		o.Store = inmem.New()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Listener.Ceremonies == "" {
		o.Listener.Ceremonies = "local"
	}
	o.Listener.APIAddrLoopback = true
	s := &Server{Log: &Buffer{}}
	logger := slog.New(slog.NewTextHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	var err error
	if s.Node, err = node.New(node.Options{Store: o.Store, Logger: logger, Now: o.Now, ClusterName: "test", Audit: o.Audit}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Node.Close)
	api := httpapi.New(httpapi.Options{Node: s.Node, Logger: logger, Version: "1.0.0", StorageType: "inmem", Now: o.Now, Limits: o.Limits, Audit: o.Audit})
	s.HTTP = httptest.NewServer(api.Handler(o.Listener))
	t.Cleanup(s.HTTP.Close)
	s.URL = s.HTTP.URL
	if !o.Uninitialised {
		s.init(t, o)
	}
	return s
}

func (s *Server) init(t testing.TB, o Options) {
	t.Helper()
	res, err := s.Node.Init(t.Context(), node.InitRequest{Shares: o.Shares, Threshold: o.Threshold})
	if err != nil {
		t.Fatal(err)
	}
	s.Shares, s.Root = res.Keys, string(res.RootToken.Reveal())
	if !o.Sealed {
		s.Unseal(t)
	}
}

// Unseal gives shares until the node is unsealed.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	for i := 0; s.Node.Sealed(); i++ {
		if _, err := s.Node.Unseal(t.Context(), secret.Copy(s.Shares[i]), true, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// Hex is share i, from 0, as hex text.
func (s *Server) Hex(i int) string { return hex.EncodeToString(s.Shares[i]) }

// Base64 is share i, from 0, as base64 text.
func (s *Server) Base64(i int) string { return base64.StdEncoding.EncodeToString(s.Shares[i]) }
