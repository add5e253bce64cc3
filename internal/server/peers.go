package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

// The one thing that servers of a cluster say to each other, over TLS 1.3 with certificates on both sides: a sealed one
// asks for the root key. Everything else goes through the store.
const (
	handOverPath  = "/hand-over"
	maxHandOver   = 16 << 10
	peerPatience  = 10 * time.Second
	maxPeerPlaces = 64
)

// peers is the side of a server that other servers of its cluster see.
type peers struct {
	cfg    config.Cluster
	log    *slog.Logger
	node   *node.Node
	client *http.Client
	front  *http.Server
}

// startPeers listens for the other servers, where the configuration says so, and shows this one to them.
func (s *server) startPeers(ctx context.Context) error {
	if s.node.Cluster == nil {
		return nil
	}
	if p := s.peers; p != nil {
		if err := p.listen(ctx); err != nil {
			return err
		}
		s.onClose(func(ctx context.Context) error { return p.close(ctx) })
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.node.RunMembership(ctx) })
	s.onClose(func(context.Context) error {
		cancel()
		wg.Wait()
		return nil
	})
	return nil
}

// membership is what the node is told of its cluster: nil for a store that no other server shares.
func (s *server) membership() (*node.Membership, error) {
	if !s.cfg.Storage.Shared() {
		return nil, nil
	}
	c := s.cfg.Cluster
	m := &node.Membership{Name: c.NodeName, APIAddr: s.cfg.APIAddr, Version: s.Version}
	if m.Name == "" {
		m.Name, _ = os.Hostname() // or the node's ID stands for it
	}
	if c.Address == "" {
		return m, nil
	}
	files, err := loadPeerTLS(c)
	if err != nil {
		return nil, err
	}
	s.peers = &peers{cfg: c, log: s.log, client: &http.Client{
		Timeout:   peerPatience,
		Transport: &http.Transport{TLSClientConfig: files, DisableKeepAlives: true, Proxy: nil},
	}}
	m.Addr = c.Advertise
	if m.Addr == "" {
		m.Addr = c.Address
	}
	if c.ShareUnseal {
		m.Share, m.Ask = true, s.peers.ask
	}
	return m, nil
}

// loadPeerTLS is what both sides of a connection between servers use.
func loadPeerTLS(c config.Cluster) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.TLSCertFile, c.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate for other servers (cluster block) can't be used: %w", err)
	}
	pool, err := loadPool(c.TLSCAFile)
	if err != nil {
		return nil, fmt.Errorf("the tls_ca_file of the cluster block can't be read, or holds no certificate in PEM form: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

func (p *peers) listen(ctx context.Context) error {
	files, err := loadPeerTLS(p.cfg)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.cfg.Address)
	if err != nil {
		return fmt.Errorf("the address for other servers (cluster block) can't be used: %w", err)
	}
	p.front = &http.Server{
		Handler: http.HandlerFunc(p.answer), ReadHeaderTimeout: peerPatience, ReadTimeout: peerPatience, WriteTimeout: 2 * peerPatience,
		MaxHeaderBytes: maxHandOver, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := p.front.Serve(tls.NewListener(netutil.LimitListener(l, maxPeerPlaces), files)); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("other servers can't reach this one any more", "error", err)
		}
	}()
	p.log.Info("listening for other servers", "address", l.Addr().String(), "share_unseal", p.cfg.ShareUnseal)
	return nil
}

func (p *peers) close(ctx context.Context) error {
	p.client.CloseIdleConnections()
	return p.front.Shutdown(ctx)
}

// answer hands the root key over. Who can connect has a certificate of the cluster's; whether that is enough is for
// the node to say.
func (p *peers) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != handOverPath {
		http.NotFound(w, r)
		return
	}
	var ask struct {
		ID string `json:"id"`
	}
	if json.NewDecoder(io.LimitReader(r.Body, maxHandOver)).Decode(&ask) != nil {
		http.Error(w, "the request must be a JSON object with an id", http.StatusBadRequest)
		return
	}
	message, err := p.node.HandOver(r.Context(), ask.ID, certificateOf(r.TLS))
	switch f := fault.As(err); {
	case f != nil:
		p.log.Warn("the keys were not handed over", "to", r.RemoteAddr, "error", err)
		http.Error(w, f.Sentence, http.StatusForbidden)
	case err != nil:
		p.log.Error("the keys were not handed over", "to", r.RemoteAddr, "error", err)
		http.Error(w, "it failed: see the log of this server", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(message)
	}
}

// certificateOf names the certificate that the other side has shown.
func certificateOf(c *tls.ConnectionState) string {
	sum := sha256.Sum256(c.PeerCertificates[0].Raw)
	return "certificate sha256:" + hex.EncodeToString(sum[:8])
}

// ask is the other side of answer.
func (p *peers) ask(ctx context.Context, addr, id string) ([]byte, error) {
	body, err := json.Marshal(map[string]string{"id": id})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+handOverPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	rep, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer rep.Body.Close()
	text, err := io.ReadAll(io.LimitReader(rep.Body, maxHandOver))
	if err == nil && rep.StatusCode != http.StatusOK {
		err = fmt.Errorf("it refused: %s", bytes.TrimSpace(text))
	}
	return text, err
}
