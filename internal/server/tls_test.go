package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/config"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, 1, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	return a
}

// sign makes a certificate for 127.0.0.1 and its key; an authority that is still empty signs itself.
func (a *authority) sign(t *testing.T, serial int64, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: "test"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	change(cert)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func plain(*x509.Certificate) {}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// write puts a certificate and its key where the listener looks for them.
func (a *authority) write(t *testing.T, l config.Listener, serial int64, change func(*x509.Certificate)) {
	t.Helper()
	cert, key := a.sign(t, serial, change)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, l.TLSCertFile, "CERTIFICATE", cert.Raw)
	writePEM(t, l.TLSKeyFile, "PRIVATE KEY", der)
}

// trusting is a client that believes a.
func (a *authority) trusting(change func(*tls.Config)) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool}
	change(c)
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
}

func asIs(*tls.Config) {}

// overTLS is memory with a certificate from a.
func overTLS(t *testing.T, a *authority) *config.Config {
	t.Helper()
	cfg := memory()
	dir := t.TempDir()
	l := &cfg.Listeners[0]
	l.TLSCertFile, l.TLSKeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.write(t, *l, 100, plain)
	return cfg
}

// serial is the serial number of the certificate that the server shows.
func serial(t *testing.T, c *http.Client, r *running) int64 {
	t.Helper()
	res, err := c.Get("https://" + r.addrs[0].String() + "/v1/sys/seal-status")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 {
		t.Errorf("%s, status %d", res.Proto, res.StatusCode)
	}
	return res.TLS.PeerCertificates[0].SerialNumber.Int64()
}

func TestReloadCertificates(t *testing.T) {
	ca := newAuthority(t)
	cfg := overTLS(t, ca)
	l := cfg.Listeners[0]
	r := start(t, cfg, Options{})
	c := ca.trusting(asIs)
	if got := serial(t, c, r); got != 100 {
		t.Fatalf("serial %d at start, want 100", got)
	}
	ca.write(t, l, 200, plain)
	if got := serial(t, c, r); got != 100 {
		t.Errorf("serial %d before the reload, want 100", got)
	}
	r.reload()
	if got := serial(t, c, r); got != 200 {
		t.Errorf("serial %d after the reload, want 200", got)
	}

	// Whatever is wrong with the next one, the last good one stays, and the log says so.
	cert, key := readFile(t, l.TLSCertFile), readFile(t, l.TLSKeyFile)
	otherDir := overTLS(t, ca).Listeners[0]
	for i, breakIt := range []func(){
		func() { writeFile(t, l.TLSCertFile, "not a certificate") },
		func() { writeFile(t, l.TLSCertFile, cert[:len(cert)/2]) },
		func() { writeFile(t, l.TLSCertFile, "") },
		func() { writeFile(t, l.TLSKeyFile, "not a key") },
		func() { writeFile(t, l.TLSKeyFile, readFile(t, otherDir.TLSKeyFile)) },
		func() { os.Remove(l.TLSKeyFile) },
		func() { os.Remove(l.TLSCertFile) },
	} {
		writeFile(t, l.TLSCertFile, cert)
		writeFile(t, l.TLSKeyFile, key)
		before := strings.Count(r.stderr.String(), "the certificate stays as it was")
		breakIt()
		r.reload()
		if got := serial(t, c, r); got != 200 {
			t.Errorf("bad certificate %d: serial %d, want the last good one", i, got)
		}
		r.stderr.await(t, "the certificate stays as it was", before+1)
	}
	ca.write(t, l, 300, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	r.reload()
	r.stderr.await(t, "the certificate has expired", 1)
	ca.write(t, l, 400, plain)
	r.reload()
	if got := serial(t, c, r); got != 400 {
		t.Errorf("serial %d after all that, want 400", got)
	}
	if log := r.stderr.String(); strings.Contains(log, "PRIVATE KEY") || strings.Contains(log, key) {
		t.Error("a private key is in the log")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReloadOtherFiles: the configuration may name other files than before.
func TestReloadOtherFiles(t *testing.T) {
	ca := newAuthority(t)
	cfg := overTLS(t, ca)
	other := overTLS(t, ca)
	ca.write(t, other.Listeners[0], 500, plain)
	r := start(t, cfg, Options{Reload: func() (*config.Config, error) { return other, nil }})
	c := ca.trusting(asIs)
	if got := serial(t, c, r); got != 100 {
		t.Errorf("serial %d at start", got)
	}
	r.reload()
	if got := serial(t, c, r); got != 500 {
		t.Errorf("serial %d after the reload, want 500", got)
	}
}

func TestTLSVersions(t *testing.T) {
	ca := newAuthority(t)
	for _, lowest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := overTLS(t, ca)
		cfg.Listeners[0].TLSMinVersion = lowest
		r := start(t, cfg, Options{})
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			c := ca.trusting(func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
			_, err := get(c, "https://"+r.addrs[0].String())
			if (err == nil) != (version >= lowest) {
				t.Errorf("minimum %s: a client with %s got %v", tls.VersionName(lowest), tls.VersionName(version), err)
			}
		}
	}
}

func TestClientCertificates(t *testing.T) {
	ca, clients, strangers := newAuthority(t), newAuthority(t), newAuthority(t)
	cfg := overTLS(t, ca)
	l := &cfg.Listeners[0]
	l.TLSClientCAFile = filepath.Join(t.TempDir(), "clients.pem")
	writePEM(t, l.TLSClientCAFile, "CERTIFICATE", clients.cert.Raw)
	r := start(t, cfg, Options{})
	with := func(a *authority, change func(*x509.Certificate)) error {
		c := ca.trusting(func(c *tls.Config) {
			if a != nil {
				cert, key := a.sign(t, 7, change)
				c.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
			}
		})
		_, err := get(c, "https://"+r.addrs[0].String())
		return err
	}
	if err := with(clients, plain); err != nil {
		t.Errorf("a good client: %v", err)
	}
	if with(nil, plain) == nil {
		t.Error("a client without a certificate was served")
	}
	if with(strangers, plain) == nil {
		t.Error("a client with somebody else's certificate was served")
	}
	if with(clients, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }) == nil {
		t.Error("a client with an expired certificate was served")
	}
	// The reload takes over who may come, too.
	writePEM(t, l.TLSClientCAFile, "CERTIFICATE", strangers.cert.Raw)
	r.reload()
	if with(clients, plain) == nil || with(strangers, plain) != nil {
		t.Error("the client CA was not reloaded")
	}
	writeFile(t, l.TLSClientCAFile, "nothing")
	r.reload()
	r.stderr.await(t, "no PEM certificate", 1)
	if with(clients, plain) == nil || with(strangers, plain) != nil {
		t.Error("a broken client CA changed who may come")
	}
}

func TestPlaintextToTLS(t *testing.T) {
	ca := newAuthority(t)
	r := start(t, overTLS(t, ca), Options{})
	c := dial(t, r.addrs[0], "127.0.0.1", "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer := awaitClosed(t, c); !strings.HasPrefix(answer, "HTTP/1.0 400 ") || !strings.Contains(answer, "use https") {
		t.Errorf("HTTP to the TLS listener: %q", answer)
	}
	if answer := awaitClosed(t, dial(t, r.addrs[0], "127.0.0.1", "\x00\x00\x00\x00\x00\x00\x00\x00")); strings.Contains(answer, "HTTP") {
		t.Errorf("junk to the TLS listener: %q", answer)
	}
	if got := serial(t, ca.trusting(asIs), r); got != 100 {
		t.Errorf("serial %d", got)
	}
}

// TestTLSFilesRefused: a certificate that can't be served with is found at start.
func TestTLSFilesRefused(t *testing.T) {
	ca := newAuthority(t)
	for name, breakIt := range map[string]func(l *config.Listener){
		"garbage":        func(l *config.Listener) { writeFile(t, l.TLSCertFile, "garbage") },
		"no key":         func(l *config.Listener) { os.Remove(l.TLSKeyFile) },
		"other key":      func(l *config.Listener) { l.TLSKeyFile = overTLS(t, ca).Listeners[0].TLSKeyFile },
		"no client CA":   func(l *config.Listener) { l.TLSClientCAFile = filepath.Join(t.TempDir(), "absent") },
		"empty CA":       func(l *config.Listener) { l.TLSClientCAFile = l.TLSKeyFile },
		"key for a cert": func(l *config.Listener) { l.TLSCertFile = l.TLSKeyFile },
	} {
		cfg := overTLS(t, ca)
		breakIt(&cfg.Listeners[0])
		if err := startError(t, cfg, Options{}); err == nil || !strings.Contains(err.Error(), "can't be loaded") {
			t.Errorf("%s: start: %v", name, err)
		}
		if err := Check(cfg); err == nil || !strings.Contains(err.Error(), "can't be loaded") {
			t.Errorf("%s: check: %v", name, err)
		}
	}
}

// TestStopEndsHandshakes: a connection in the middle of a handshake doesn't hold up the end.
func TestStopEndsHandshakes(t *testing.T) {
	r := start(t, overTLS(t, newAuthority(t)), Options{})
	c := dial(t, r.addrs[0], "127.0.0.1", "\x16\x03\x01")
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > shutdownTimeout/2 {
		t.Errorf("the stop took %s", took)
	}
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection: %v", err)
	}
}
