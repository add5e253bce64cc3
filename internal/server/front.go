package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/config"
)

const (
	maxHeader = 32 << 10 // bytes of a request's headers
	// replyTime is what a client has to take the reply, after the longest time that making it may last.
	replyTime = 10 * time.Second
	maxStream = 64 // requests at once on one HTTP/2 connection
)

// front is one listener and what serves on it.
type front struct {
	cfg     config.Listener
	places  *listener
	tls     *atomic.Pointer[tls.Config] // nil: plaintext
	http    *http.Server
	log     *slog.Logger
	serving chan struct{} // closed when serve's goroutine has ended; nil before serve
}

// openFront binds the listener's address. Connections wait until serve.
func openFront(l config.Listener, h http.Handler, log *slog.Logger) (*front, error) {
	f := &front{cfg: l, log: log}
	if l.TLS() {
		c, err := loadTLS(l, time.Now())
		if err != nil {
			return nil, err
		}
		f.tls = new(atomic.Pointer[tls.Config])
		f.setTLS(c)
	}
	raw, err := bind(l)
	if err != nil {
		return nil, err
	}
	f.places = listen(raw, f.tls, limits{connections: l.MaxConnections, handshake: l.ReadHeaderTimeout, trusted: l.TrustedProxies}, log)
	f.http = &http.Server{
		Handler:                      countWork(h),
		ConnContext:                  withPlace,
		ReadHeaderTimeout:            l.ReadHeaderTimeout,
		ReadTimeout:                  l.ReadTimeout,
		WriteTimeout:                 l.MaxRequestDuration + replyTime,
		IdleTimeout:                  l.IdleTimeout,
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(quiet{log.Handler()}, slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStream,
			// What a peer may send before a handler reads it: the memory of a connection, whatever its streams.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			SendPingTimeout:               l.IdleTimeout,
			PingTimeout:                   l.ReadHeaderTimeout,
			WriteByteTimeout:              replyTime,
		},
	}
	return f, nil
}

// bind opens the socket, and makes sure that what was taken for loopback is.
func bind(l config.Listener) (net.Listener, error) {
	if l.Type == config.Unix {
		return listenUnix(l.Address, l.SocketMode)
	}
	raw, err := net.Listen("tcp", l.Address)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("another program listens on %s: stop it, or name another address in a listener block of the file given with -config", l.Address)
		}
		return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	if addr, ok := raw.Addr().(*net.TCPAddr); !l.TLS() && !l.TLSDisable && !(ok && addr.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("%s is not on loopback, and plaintext needs tls_disable = true there", raw.Addr()), raw.Close())
	}
	return raw, nil
}

// serve starts to answer requests. If that ends before close, the reason goes to failed, which must have room.
func (f *front) serve(failed chan<- error) {
	f.serving = make(chan struct{})
	go func() {
		defer close(f.serving)
		if err := f.http.Serve(f.places); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve on %s: %w", f.cfg.Address, err)
		}
	}()
}

// close stops accepting, waits for requests until ctx ends, and cuts off the rest.
func (f *front) close(ctx context.Context) error {
	err := f.http.Shutdown(ctx)
	if err != nil {
		f.http.Close()
	}
	if f.serving == nil {
		return f.places.Close()
	}
	<-f.serving
	return err
}

// reload takes over the certificates that fresh names for this listener, or else loads the same files again.
func (f *front) reload(fresh *config.Config) error {
	if f.tls == nil {
		return nil
	}
	l := f.cfg
	for _, other := range fresh.Listeners {
		if other.Address == l.Address && other.TLS() {
			l = other
		}
	}
	c, err := loadTLS(l, time.Now())
	if err != nil {
		return err
	}
	f.setTLS(c)
	return nil
}

func (f *front) setTLS(c *loadedTLS) {
	for _, w := range c.warnings {
		f.log.Warn(w, "listener", f.cfg.Address)
	}
	f.tls.Store(c.config)
}

// url is how a client on this machine reaches the listener.
func (f *front) url() string {
	addr := f.places.Addr()
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "unix://" + addr.String()
	}
	host := tcp.IP.String()
	switch {
	case tcp.IP.IsUnspecified():
		host = "127.0.0.1"
	case tcp.IP.IsLoopback() && strings.HasPrefix(f.cfg.Address, "localhost:"):
		host = "localhost"
	}
	scheme := "http"
	if f.cfg.TLS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, fmt.Sprint(tcp.Port))
}

// placeKey finds a connection's place in the context of its requests.
type placeKey struct{}

func withPlace(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if c, ok := c.(*conn); ok {
		ctx = context.WithValue(ctx, placeKey{}, c.place)
	}
	return ctx
}

// countWork keeps the place of a connection as long as a request is worked on that has arrived whole. One whose body is
// still on its way may lose it, and is then not carried out.
func countWork(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(placeKey{}).(*place)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		b := &body{ReadCloser: r.Body, place: p}
		defer b.finish()
		if r.ContentLength == 0 {
			if !b.arrived() {
				panic(http.ErrAbortHandler)
			}
		} else {
			r.Body = b
		}
		next.ServeHTTP(w, r)
	})
}

// body tells the place when the whole of it has been read.
type body struct {
	io.ReadCloser
	place *place
	begun bool
}

func (b *body) Read(to []byte) (int, error) {
	n, err := b.ReadCloser.Read(to)
	if err == io.EOF && !b.arrived() {
		return 0, net.ErrClosed
	}
	return n, err
}

func (b *body) arrived() bool {
	if !b.begun {
		b.begun = true
		return b.place.begin()
	}
	return true
}

func (b *body) finish() {
	if b.begun {
		b.place.end()
	}
}
