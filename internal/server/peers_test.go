package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

// yard is a store with servers over it, of which only what they say to each other is there.
type yard struct {
	t      *testing.T
	st     store.Store
	ca     *authority
	serial int64
	shares [][]byte
}

func newYard(t *testing.T) *yard {
	return &yard{t: t, st: inmem.New(), ca: newAuthority(t), serial: 100}
}

// config is a server's, with a certificate that ca has signed.
func (y *yard) config(name string, ca *authority, change func(*x509.Certificate)) *config.Config {
	y.t.Helper()
	dir := y.t.TempDir()
	cfg := config.Dev()
	cfg.Storage = config.Storage{Type: config.StorageEtcd}
	cfg.APIAddr = "https://" + name + ".example:8200"
	cfg.Cluster = config.Cluster{
		Address: freeAddress(y.t), NodeName: name, ShareUnseal: true,
		TLSCertFile: filepath.Join(dir, "cert.pem"), TLSKeyFile: filepath.Join(dir, "key.pem"), TLSCAFile: filepath.Join(dir, "ca.pem"),
	}
	cfg.Cluster.Advertise = cfg.Cluster.Address
	y.serial++
	ca.write(y.t, config.Listener{TLSCertFile: cfg.Cluster.TLSCertFile, TLSKeyFile: cfg.Cluster.TLSKeyFile}, y.serial, change)
	writePEM(y.t, cfg.Cluster.TLSCAFile, "CERTIFICATE", y.ca.cert.Raw)
	return cfg
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a sealed server's part of a cluster until the test ends.
func (y *yard) start(cfg *config.Config) (*server, *sink) {
	y.t.Helper()
	log := newSink()
	s := &server{cfg: cfg, log: slog.New(slog.NewTextHandler(log, nil)), Options: Options{Version: "1.0"}}
	m, err := s.membership()
	if err != nil {
		y.t.Fatal(err)
	}
	m.Interval = 5 * time.Millisecond
	if s.node, err = node.New(node.Options{Store: y.st, Logger: s.log, Cluster: m}); err != nil {
		y.t.Fatal(err)
	}
	s.onClose(func(context.Context) error { s.node.Close(); return nil })
	if s.peers != nil {
		s.peers.node = s.node
	}
	y.t.Cleanup(func() {
		if err := s.close(); err != nil {
			y.t.Error(err)
		}
	})
	if err := s.startPeers(y.t.Context()); err != nil {
		y.t.Fatal(err)
	}
	return s, log
}

// unsealed is a first server, which holds the keys.
func (y *yard) unsealed(cfg *config.Config) (*server, *sink) {
	y.t.Helper()
	s, log := y.start(cfg)
	res, err := s.node.Init(y.t.Context(), node.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		y.t.Fatal(err)
	}
	if _, err := s.node.Unseal(y.t.Context(), secret.Copy(res.Keys[0]), true, ""); err != nil {
		y.t.Fatal(err)
	}
	y.shares = res.Keys
	return s, log
}

// handedOver counts how often keys were.
func (y *yard) handedOver() (n int) {
	y.t.Helper()
	err := y.st.View(y.t.Context(), func(r store.Reader) error {
		head, err := transcript.ReadHead(r)
		if err != nil {
			return err
		}
		leaves, err := transcript.Read(r, 0, int(head.Size))
		for _, leaf := range leaves {
			n += strings.Count(string(leaf), `"handed-over"`)
		}
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return n
}

// asker is a sealed node, as the store shows it, whose keys nobody has: what matters is whether it is answered at all.
func (y *yard) asker() (id string) {
	y.t.Helper()
	sealed, err := node.New(node.Options{Store: y.st, Cluster: &node.Membership{
		Name: "asker", Ask: func(context.Context, string, string) ([]byte, error) { return nil, io.ErrUnexpectedEOF },
	}})
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(y.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); sealed.RunMembership(ctx) }()
	y.t.Cleanup(func() { cancel(); <-done })
	eventually(y.t, "the asker shows itself", func() (shown bool) {
		err := y.st.View(ctx, func(r store.Reader) error {
			values, err := r.Get(seal.PresencePrefix + sealed.Self().ID)
			shown = err == nil && values[0] != nil
			return err
		})
		return err == nil && shown
	})
	return sealed.Self().ID
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// client asks as the server with that configuration would.
func (y *yard) client(cfg *config.Config, change func(*tls.Config)) *http.Client {
	y.t.Helper()
	files, err := loadPeerTLS(cfg.Cluster)
	if err != nil {
		y.t.Fatal(err)
	}
	change(files)
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: files, DisableKeepAlives: true}}
}

func send(t *testing.T, c *http.Client, method, url, body string) (code int, text string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// A sealed server gets the keys of one that isn't, over TLS with certificates on both sides, and serves.
func TestPeersHandOver(t *testing.T) {
	y := newYard(t)
	a, _ := y.unsealed(y.config("a", y.ca, plain))
	b, log := y.start(y.config("b", y.ca, plain))
	eventually(t, "b is unsealed", func() bool { return !b.node.Sealed() })
	if st, err := b.node.SealStatus(t.Context()); err != nil || st.Sealed || y.handedOver() != 1 {
		t.Errorf("%+v, %v, handed over %d times", st, err, y.handedOver())
	}
	log.await(t, "with the keys of", 1)
	for _, n := range []*node.Node{a.node, b.node} {
		eventually(t, "both know of each other", func() bool {
			list, err := n.Nodes(t.Context())
			return err == nil && len(list) == 2 && list[0].APIAddr == "https://a.example:8200" && list[0].ClusterAddr == a.cfg.Cluster.Address &&
				list[1].Name == "b" && list[1].Version == "1.0" && !list[0].Sealed && !list[1].Sealed
		})
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	if list, err := a.node.Nodes(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("after the end of b: %+v, %v", list, err)
	}
	if _, err := net.Dial("tcp", b.cfg.Cluster.Address); err == nil {
		t.Error("b still listens")
	}
}

// Who has no certificate of the cluster's that holds is told nothing.
func TestPeersTellStrangersNothing(t *testing.T) {
	y := newYard(t)
	other := newAuthority(t)
	cfg := y.config("a", y.ca, plain)
	y.unsealed(cfg)
	id := y.asker()
	url, ask := "https://"+cfg.Cluster.Address+handOverPath, fmt.Sprintf(`{"id":%q}`, id)
	for name, row := range map[string]struct {
		ca     *authority
		cert   func(*x509.Certificate)
		change func(*tls.Config)
	}{
		"no certificate":           {y.ca, plain, func(c *tls.Config) { c.Certificates = nil }},
		"one of another authority": {other, plain, asIs},
		"one that is over":         {y.ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, asIs},
		"one that isn't good yet":  {y.ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, asIs},
		"one that is for servers":  {y.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, asIs},
		"an old version of TLS":    {y.ca, plain, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		"one without its key": {y.ca, plain, func(c *tls.Config) {
			c.Certificates[0] = tls.Certificate{Certificate: [][]byte{y.ca.cert.Raw}, PrivateKey: other.key}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := y.client(y.config("stranger", row.ca, row.cert), row.change)
			if code, text, err := send(t, c, http.MethodPost, url, ask); err == nil {
				t.Errorf("answered with %d %s", code, text)
			}
			if n := y.handedOver(); n != 0 {
				t.Fatalf("the keys were handed over")
			}
		})
	}
	c := y.client(y.config("b", y.ca, plain), asIs)
	if code, text, err := send(t, c, http.MethodPost, url, ask); code != 200 || len(text) < 1000 || err != nil || y.handedOver() != 1 {
		t.Fatalf("with a good certificate: %d, %d bytes, %v", code, len(text), err)
	}
}

// There is one question, and all else is refused without an effect.
func TestPeersAnswerOneQuestion(t *testing.T) {
	y := newYard(t)
	cfg := y.config("a", y.ca, plain)
	a, _ := y.unsealed(cfg)
	id := y.asker()
	c := y.client(y.config("b", y.ca, plain), asIs)
	good := fmt.Sprintf(`{"id":%q}`, id)
	const unknown = `{"id":"3b2fdd1c-2c59-4f45-9d0f-0a4d5a1d7f43"}`
	for name, row := range map[string]struct {
		method, path, body string
		code               int
		says               string
	}{
		"another path":   {http.MethodPost, "/v1/sys/seal-status", good, 404, "not found"},
		"the root":       {http.MethodPost, "/", good, 404, "not found"},
		"a longer path":  {http.MethodPost, handOverPath + "/", good, 404, "not found"},
		"a read":         {http.MethodGet, handOverPath, "", 404, "not found"},
		"a put":          {http.MethodPut, handOverPath, good, 404, "not found"},
		"no body":        {http.MethodPost, handOverPath, "", 400, "JSON object"},
		"no JSON":        {http.MethodPost, handOverPath, "id=" + id, 400, "JSON object"},
		"another type":   {http.MethodPost, handOverPath, `{"id":7}`, 400, "JSON object"},
		"a long body":    {http.MethodPost, handOverPath, `{"x":"` + strings.Repeat("x", maxHandOver) + `","id":"` + id + `"}`, 400, "JSON object"},
		"no id":          {http.MethodPost, handOverPath, "{}", 403, "no sealed server"},
		"an unknown id":  {http.MethodPost, handOverPath, unknown, 403, "no sealed server"},
		"the server's":   {http.MethodPost, handOverPath, fmt.Sprintf(`{"id":%q}`, a.node.Self().ID), 403, "no sealed server"},
		"an evil record": {http.MethodPost, handOverPath, `{"id":"../seal"}`, 403, "no sealed server"},
	} {
		t.Run(name, func(t *testing.T) {
			code, text, err := send(t, c, row.method, "https://"+cfg.Cluster.Address+row.path, row.body)
			if err != nil || code != row.code || !strings.Contains(text, row.says) {
				t.Errorf("%d %s, %v; want %d and %q", code, text, err, row.code, row.says)
			}
			if n := y.handedOver(); n != 0 {
				t.Error("the keys were handed over")
			}
		})
	}
	// A server over plain text gets nowhere.
	if code, _, err := send(t, http.DefaultClient, http.MethodPost, "http://"+cfg.Cluster.Address+handOverPath, good); err == nil && code != 400 {
		t.Errorf("without TLS: %d", code)
	}
	if a.node.Close(); y.handedOver() != 0 {
		t.Error("the keys were handed over")
	}
	if code, text, err := send(t, c, http.MethodPost, "https://"+cfg.Cluster.Address+handOverPath, good); code != 403 || !strings.Contains(text, "sealed") || err != nil {
		t.Errorf("a server that is sealed: %d %s, %v", code, text, err)
	}
}

// A server asks only who can show that it is one of the cluster's.
func TestPeersAskNoStranger(t *testing.T) {
	y := newYard(t)
	other := newAuthority(t)
	for name, row := range map[string]struct {
		ca     *authority
		cert   func(*x509.Certificate)
		change func(*tls.Config)
	}{
		"another authority":     {other, plain, asIs},
		"another name":          {y.ca, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, asIs},
		"a certificate is over": {y.ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, asIs},
		"it is for clients":     {y.ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, asIs},
		"an old version of TLS": {y.ca, plain, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		"nothing is wrong":      {y.ca, plain, asIs},
	} {
		t.Run(name, func(t *testing.T) {
			var heard bytes.Buffer
			front := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&heard, r.Body) }))
			front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			files, err := loadPeerTLS(y.config("evil", row.ca, row.cert).Cluster)
			if err != nil {
				t.Fatal(err)
			}
			row.change(files)
			front.TLS = files
			front.StartTLS()
			s := &server{cfg: y.config("b", y.ca, plain), log: slog.New(slog.DiscardHandler)}
			m, err := s.membership()
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Ask(t.Context(), front.Listener.Addr().String(), "an id")
			front.Close()
			want := ""
			if name == "nothing is wrong" {
				want = `{"id":"an id"}`
			}
			if (err == nil) != (want != "") || heard.String() != want {
				t.Errorf("%v, and it heard %q", err, heard.String())
			}
		})
	}
}

// Where keys aren't shared, servers neither ask nor answer.
func TestPeersWithoutSharing(t *testing.T) {
	y := newYard(t)
	cfg := y.config("a", y.ca, plain)
	cfg.Cluster.ShareUnseal = false
	a, _ := y.unsealed(cfg)
	body, _ := json.Marshal(map[string]string{"id": y.asker()})
	c := y.client(y.config("b", y.ca, plain), asIs)
	code, text, err := send(t, c, http.MethodPost, "https://"+cfg.Cluster.Address+handOverPath, string(body))
	if err != nil || code != 403 || !strings.Contains(text, "share_unseal") || y.handedOver() != 0 {
		t.Errorf("%d %s, %v", code, text, err)
	}
	if a.node.Cluster.Ask != nil {
		t.Error("it would ask")
	}
}

// A server that doesn't know what to show others doesn't start.
func TestMembershipOfAServer(t *testing.T) {
	y := newYard(t)
	broken := func(path func(*config.Cluster) *string, text string) func(*config.Config) {
		return func(cfg *config.Config) {
			p := path(&cfg.Cluster)
			if text == "" {
				*p += ".absent"
			} else if err := os.WriteFile(*p, []byte(text), 0o600); err != nil {
				y.t.Fatal(err)
			}
		}
	}
	cert := func(c *config.Cluster) *string { return &c.TLSCertFile }
	ca := func(c *config.Cluster) *string { return &c.TLSCAFile }
	for name, row := range map[string]struct {
		change func(*config.Config)
		says   string
	}{
		"no certificate":          {broken(cert, ""), "the certificate for other servers"},
		"a bad certificate":       {broken(cert, "junk"), "the certificate for other servers"},
		"no authority":            {broken(ca, ""), "tls_ca_file"},
		"a bad authority":         {broken(ca, "junk"), "holds no certificate"},
		"all is well":             {func(*config.Config) {}, ""},
		"nobody is to reach it":   {func(cfg *config.Config) { cfg.Cluster.Address = "" }, ""},
		"nobody shares its store": {func(cfg *config.Config) { cfg.Storage.Type = config.StorageBolt }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{cfg: y.config("a", y.ca, plain), log: slog.New(slog.DiscardHandler)}
			row.change(s.cfg)
			m, err := s.membership()
			if (err != nil) != (row.says != "") || err != nil && !strings.Contains(err.Error(), row.says) {
				t.Fatalf("%v, want %q", err, row.says)
			}
			if err != nil {
				return
			}
			if shared := s.cfg.Storage.Shared(); (m != nil) != shared || m != nil && (m.Ask != nil) != (s.cfg.Cluster.Address != "") {
				t.Errorf("%+v", m)
			}
		})
	}
	s := &server{cfg: y.config("a", y.ca, plain), log: slog.New(slog.DiscardHandler)}
	l, err := net.Listen("tcp", s.cfg.Cluster.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := s.membership(); err != nil {
		t.Fatal(err)
	}
	if err := s.peers.listen(t.Context()); err == nil || !strings.Contains(err.Error(), "the address for other servers") {
		t.Errorf("an address that is taken: %v", err)
	}
}
