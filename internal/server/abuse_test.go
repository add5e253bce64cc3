package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/quorate/quorate/internal/config"
)

// short are timeouts that a test can wait for, and few places.
func short(cfg *config.Config) *config.Config {
	l := &cfg.Listeners[0]
	l.ReadHeaderTimeout, l.ReadTimeout, l.IdleTimeout = 1500*time.Millisecond, 2*time.Second, 1500*time.Millisecond
	l.MaxConnections = 16
	return cfg
}

// patient is short with timeouts that never strike during a test: what helps then is only the limit of places.
func patient(cfg *config.Config) *config.Config {
	l := &short(cfg).Listeners[0]
	l.ReadHeaderTimeout, l.ReadTimeout, l.IdleTimeout = time.Hour, time.Hour, time.Hour
	return cfg
}

// stranger is one of several addresses that only Linux lets a test come from.
func stranger(t *testing.T, n int) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the loopback network has one address here")
	}
	return fmt.Sprintf("127.0.1.%d", 1+n)
}

// slow are ways to hold a connection by sending little.
var slow = map[string]string{
	"idle":    "GET /v1/sys/seal-status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	"silence": "",
	"headers": "GET /v1/sys/health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
	"body":    "PUT /v1/sys/unseal HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"key\":",
	"chunked": "PUT /v1/sys/unseal HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"key\":\r\n",
}

// T08: slowloris on headers and body. Each way has one timeout that strikes, and an honest client is served all the
// while.
func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	header := func(l *config.Listener) { l.ReadHeaderTimeout = time.Second }
	whole := func(l *config.Listener) { l.ReadTimeout = time.Second }
	for name, strike := range map[string]func(*config.Listener){
		"silence": header, "headers": header, "body": whole, "chunked": whole,
		"idle": func(l *config.Listener) { l.IdleTimeout = time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := patient(memory())
			strike(&cfg.Listeners[0])
			r := start(t, cfg, Options{})
			c := dial(t, r.addrs[0], "127.0.0.1", slow[name])
			stop := make(chan struct{})
			defer close(stop)
			if name != "silence" && name != "idle" {
				go drip(c, stop)
			}
			mustGet(t, from("127.0.0.1"), r.url(0))
			if answer := awaitClosed(t, c); strings.Contains(answer, "200 OK") != (name == "idle") {
				t.Errorf("answer %q", answer)
			}
		})
	}
}

// drip sends one byte after the other, which keeps nothing alive.
func drip(c net.Conn, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
		}
	}
}

// TestHeaderLimit: headers that no client needs are refused, and ordinary ones are not.
func TestHeaderLimit(t *testing.T) {
	r := start(t, memory(), Options{})
	for size, want := range map[int]string{maxHeader - 1024: "HTTP/1.1 200 ", 2 * maxHeader: "HTTP/1.1 431 "} {
		c := dialLoose(t, r.addrs[0], "127.0.0.1")
		io.WriteString(c, "GET /v1/sys/seal-status HTTP/1.0\r\nHost: 127.0.0.1\r\nX: "+strings.Repeat("x", size)+"\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if !strings.HasPrefix(strings.Replace(line, "HTTP/1.0", "HTTP/1.1", 1), want) {
			t.Errorf("headers of %d bytes: %q, %v", size, line, err)
		}
	}
}

// TestNothingOfAPanicIsLogged: net/http would print its value.
func TestNothingOfAPanicIsLogged(t *testing.T) {
	const canary = "hvs.CANARY0123456789"
	log := newSink()
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(canary) })
	f, err := openFront(memory().Listeners[0], h, newLogger(log, config.FormatStandard, config.LevelTrace))
	if err != nil {
		t.Fatal(err)
	}
	f.serve(make(chan error, 1))
	defer f.close(t.Context())
	awaitClosed(t, dial(t, f.places.Addr(), "127.0.0.1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	log.await(t, "net/http had something to say", 1)
	if strings.Contains(log.String(), canary) {
		t.Errorf("the log has the value of the panic:\n%s", log)
	}
}

// T08: with all places taken by slow clients, from one address or from as many as there are places, an honest client is
// served at once: those give way who have no request worked on.
func TestSlowClientsDontKeepOthersOut(t *testing.T) {
	t.Parallel()
	for name, text := range slow {
		t.Run(name+" from the same address", func(t *testing.T) {
			r := start(t, patient(memory()), Options{})
			for range 40 {
				answered(t, dial(t, r.addrs[0], "127.0.0.1", text), name == "idle")
			}
			mustGet(t, from("127.0.0.1"), r.url(0))
		})
		t.Run(name+" from many addresses", func(t *testing.T) {
			r := start(t, patient(memory()), Options{})
			for n := range 40 {
				answered(t, dial(t, r.addrs[0], stranger(t, n%20), text), name == "idle")
			}
			mustGet(t, from("127.0.0.1"), r.url(0))
		})
	}
}

// answered waits for the answer to a whole request, if it is one: only then is its connection idle. A connection may also
// have been refused, because others were not idle yet.
func answered(t *testing.T, c net.Conn, whole bool) {
	t.Helper()
	if !whole {
		return
	}
	c.SetReadDeadline(time.Now().Add(patience))
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("no answer")
	}
}

// T08: the same in the TLS handshake.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" // the beginning of a ClientHello
	t.Run("cut off", func(t *testing.T) {
		t.Parallel()
		r := start(t, short(overTLS(t, ca)), Options{})
		c := dial(t, r.addrs[0], "127.0.0.1", hello)
		mustGet(t, ca.trusting(asIs), "https://"+r.addrs[0].String())
		awaitClosed(t, c)
	})
	t.Run("don't keep others out", func(t *testing.T) {
		r := start(t, patient(overTLS(t, ca)), Options{})
		for n := range 60 {
			dial(t, r.addrs[0], stranger(t, n%30), hello)
		}
		mustGet(t, ca.trusting(asIs), "https://"+r.addrs[0].String())
	})
	t.Run("after the handshake", func(t *testing.T) {
		t.Parallel()
		r := start(t, short(overTLS(t, ca)), Options{})
		raw := dial(t, r.addrs[0], "127.0.0.1", "")
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		mustGet(t, ca.trusting(asIs), "https://"+r.addrs[0].String())
		awaitClosed(t, raw)
	})
}

// TestConnectionsOfOneClientAreLimited: a client whose requests are all being worked on gets no more places, and others
// don't notice.
func TestConnectionsOfOneClientAreLimited(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 100)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
	})
	log := newSink()
	f, err := openFront(patient(memory()).Listeners[0], h, newLogger(log, config.FormatStandard, slog.LevelInfo))
	if err != nil {
		t.Fatal(err)
	}
	f.serve(make(chan error, 1))
	defer f.close(t.Context())
	defer close(release)
	slowRequest := "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
	greedy := stranger(t, 0)
	for range 4 { // a quarter of 16
		dial(t, f.places.Addr(), greedy, slowRequest)
		<-entered
	}
	for range 20 {
		if answer := awaitClosed(t, dialLoose(t, f.places.Addr(), greedy)); answer != "" {
			t.Errorf("over the limit, and answered: %q", answer)
		}
	}
	res, err := from("127.0.0.1").Get(f.url() + "/fast")
	if err != nil {
		t.Fatalf("another client: %v", err)
	}
	res.Body.Close()
	if n := strings.Count(log.String(), "too many are open"); n != 1 {
		t.Errorf("20 refusals make %d log lines, want 1", n)
	}
	if len(entered) > 0 {
		t.Error("more requests than places are worked on")
	}
}

// dialLoose opens a connection that may be closed at any moment.
func dialLoose(t *testing.T, to net.Addr, from string) net.Conn {
	t.Helper()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestLostPlaceIsNotCarriedOut: a request whose connection gave way before all of it had arrived has no effect.
func TestLostPlaceIsNotCarriedOut(t *testing.T) {
	g := newGate(1, 1)
	for name, body := range map[string]io.Reader{"without body": http.NoBody, "with body": strings.NewReader("{}")} {
		carriedOut := false
		h := countWork(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			carriedOut = err == nil
		}))
		p := g.enter(client(1), false, func() {})
		g.enter(client(1), false, func() {})
		req, err := http.NewRequest("PUT", "/", body)
		if err != nil {
			t.Fatal(err)
		}
		ctx := withPlace(req.Context(), &conn{place: p, gate: g})
		func() {
			defer func() {
				if reason := recover(); reason != nil && reason != http.ErrAbortHandler {
					panic(reason)
				}
			}()
			h.ServeHTTP(nil, req.WithContext(ctx))
		}()
		if carriedOut {
			t.Errorf("%s: the request was carried out", name)
		}
	}
}

// scripted is a net.Listener whose Accept does what a test wants.
type scripted struct {
	net.Listener
	errs  chan error
	fails atomic.Int32
}

func (s *scripted) Accept() (net.Conn, error) {
	select {
	case err := <-s.errs:
		s.fails.Add(1)
		return nil, err
	default:
		return s.Listener.Accept()
	}
}

// T61: no error of one connection stops the listener.
func TestAcceptSurvivesErrors(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{Listener: raw, errs: make(chan error, 10)}
	for _, e := range []error{
		errors.New("accept4: too many open files"), errors.New("a malformed PROXY header"), net.ErrWriteToConnected,
	} {
		s.errs <- e
	}
	log := newSink()
	l := listen(s, nil, limits{connections: 4}, newLogger(log, config.FormatStandard, slog.LevelInfo))
	dial(t, raw.Addr(), "127.0.0.1", "")
	c, err := l.Accept()
	if err != nil || s.fails.Load() != 3 {
		t.Fatalf("accept after %d errors: %v", s.fails.Load(), err)
	}
	c.Close()
	if n := strings.Count(log.String(), "could not be accepted"); n != 1 {
		t.Errorf("three errors in a row make %d log lines, want 1", n)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// T61, T59: what is no HTTP at all costs its connection only, and none of it is in the log.
func TestJunkOnTheWire(t *testing.T) {
	t.Parallel()
	cfg := short(memory())
	cfg.LogLevel = config.LevelTrace
	r := start(t, cfg, Options{})
	const canary = "hvs.CANARY0123456789"
	junk := map[string]string{
		"PROXY header":      "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: " + canary + "\r\n\r\n",
		"PROXY v2":          "\r\n\r\n\x00\r\nQUIT\n" + canary,
		"no HTTP":           canary + "\r\n\r\n",
		"TLS to plaintext":  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + canary,
		"bad header":        "GET / HTTP/1.1\r\nHost: x\r\nX-Vault-Token " + canary + "\r\n\r\n",
		"no host":           "GET /" + canary + " HTTP/1.1\r\n\r\n",
		"bad length":        "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + canary + "\r\n\r\n",
		"smuggling":         "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n" + canary,
		"version":           "GET /" + canary + " HTTP/9.9\r\nHost: x\r\n\r\n",
		"huge header":       "GET / HTTP/1.1\r\nHost: x\r\nX-Vault-Token: " + canary + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n",
		"many headers":      "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Y: "+canary+"\r\n", maxHeader/8) + "\r\n",
		"huge request line": "GET /" + canary + strings.Repeat("x", 2*maxHeader) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"HTTP/2 preface":    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + canary,
	}
	t.Run("sent", func(t *testing.T) {
		for name, text := range junk {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := dialLoose(t, r.addrs[0], "127.0.0.1")
				io.WriteString(c, text) // the other end may hang up at any moment
				c.SetReadDeadline(time.Now().Add(patience))
				answer, _ := io.ReadAll(c) // a reset may follow the answer
				if strings.Contains(string(answer), "200 OK") {
					t.Errorf("answered %q", answer)
				}
				if strings.Contains(string(answer), canary) {
					t.Errorf("echoed: %q", answer)
				}
				mustGet(t, from("127.0.0.1"), r.url(0))
			})
		}
	})
	if strings.Contains(r.stderr.String(), canary) {
		t.Errorf("the log has it:\n%s", r.stderr)
	}
}

// T59: a body without end is cut off, whatever it is sent to.
func TestBodyWithoutEnd(t *testing.T) {
	t.Parallel()
	r := start(t, short(memory()), Options{})
	for _, path := range []string{"/v1/sys/unseal", "/v1/sys/init", "/v1/unknown", "/elsewhere"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			c := dialLoose(t, r.addrs[0], "127.0.0.1")
			io.WriteString(c, "PUT "+path+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
			chunk := append(append([]byte("10000\r\n"), bytes.Repeat([]byte{'x'}, 1<<16)...), "\r\n"...)
			sent := 0
			for sent < 256<<20 {
				c.SetWriteDeadline(time.Now().Add(patience))
				n, err := c.Write(chunk)
				if sent += n; err != nil {
					break
				}
			}
			if sent >= 256<<20 {
				t.Errorf("took %d bytes", sent)
			}
			mustGet(t, from("127.0.0.1"), r.url(0))
		})
	}
}

// T59: pipelined requests are answered in their order, and one that expects 100-continue gets it or a refusal.
func TestPipelining(t *testing.T) {
	r := start(t, short(memory()), Options{})
	one := "GET /v1/sys/seal-status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	c := dial(t, r.addrs[0], "127.0.0.1", strings.Repeat(one, 50)+
		"PUT /v1/sys/unseal HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	in := bufio.NewReader(c)
	c.SetReadDeadline(time.Now().Add(patience))
	for i := range 50 {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		io.Copy(io.Discard, res.Body)
		if res.StatusCode != http.StatusOK {
			t.Errorf("answer %d: status %d", i, res.StatusCode)
		}
	}
	line, err := in.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Errorf("after Expect: %q, %v", line, err)
	}
}

// T59: HTTP/2 rapid reset. Thousands of requests that are taken back at once end the connection or change nothing.
func TestRapidReset(t *testing.T) {
	ca := newAuthority(t)
	r := start(t, overTLS(t, ca), Options{})
	c := tls.Client(dial(t, r.addrs[0], stranger(t, 0), ""), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, c)
	framer := http2.NewFramer(c, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "127.0.0.1"}, {":path", "/v1/sys/seal-status"}} {
		enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1], Sensitive: true})
	}
	before := runtime.NumGoroutine()
	err := framer.WriteSettings()
	for id := uint32(1); id < 40_000 && err == nil; id += 2 {
		c.SetWriteDeadline(time.Now().Add(patience))
		if err = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err == nil {
			err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if n := runtime.NumGoroutine(); n > before+4*maxStream {
			t.Fatalf("%d goroutines, %d before", n, before)
		}
	}
	mustGet(t, ca.trusting(asIs), "https://"+r.addrs[0].String())
}

// TestClientOf: whose places a connection counts against.
func TestClientOf(t *testing.T) {
	l := &listener{trusted: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}}
	for addr, want := range map[string]struct {
		client    string
		unlimited bool
	}{
		"192.0.2.7:1":           {"192.0.2.7/32", false},
		"[::ffff:192.0.2.7]:1":  {"192.0.2.7/32", false},
		"[2001:db8:1:2:3::4]:1": {"2001:db8:1:2::/64", false},
		"[fe80::1%eth0]:1":      {"fe80::/64", false},
		"10.9.1.1:1":            {"10.9.1.1/32", true},
		"@":                     {"invalid Prefix", true},
	} {
		got, unlimited := l.clientOf(addressed{addr: addr})
		if got.String() != want.client || unlimited != want.unlimited {
			t.Errorf("%s: %s, %v, want %v", addr, got, unlimited, want)
		}
	}
}

// addressed is a connection from somewhere.
type addressed struct {
	net.Conn
	addr string
}

func (a addressed) RemoteAddr() net.Addr { return named(a.addr) }

type named string

func (named) Network() string  { return "tcp" }
func (n named) String() string { return string(n) }
