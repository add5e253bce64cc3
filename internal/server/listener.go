package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Pauses after an error of accept, such as having run out of file descriptors.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// listener accepts connections, finds them a place and shakes hands with them, each on its own goroutine. Its Accept
// returns only connections that are ready for a request, and fails only once the listener was closed.
type listener struct {
	net.Listener
	conns      *gate
	handshakes *gate
	tls        *atomic.Pointer[tls.Config] // nil: plaintext
	timeout    time.Duration               // for a handshake
	trusted    []netip.Prefix              // proxies, which speak for many
	log        *slog.Logger
	sometimes  rate.Sometimes // for what strangers can make happen often

	ready   chan net.Conn
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	working sync.WaitGroup // the accept loop and the handshakes
}

// limits of a listener.
type limits struct {
	connections int
	handshake   time.Duration
	trusted     []netip.Prefix
}

// listen starts to accept on raw. Close also closes raw.
func listen(raw net.Listener, config *atomic.Pointer[tls.Config], l limits, log *slog.Logger) *listener {
	ctx, cancel := context.WithCancel(context.Background())
	ln := &listener{
		Listener: raw,
		conns:    newGate(l.connections, l.connections/4),
		// A handshake costs more than it costs the client: less room for it.
		handshakes: newGate(max(l.connections/2, 1), l.connections/8),
		tls:        config,
		timeout:    l.handshake,
		trusted:    l.trusted,
		log:        log,
		sometimes:  rate.Sometimes{Interval: time.Minute},
		ready:      make(chan net.Conn),
		ctx:        ctx,
		cancel:     cancel,
	}
	ln.working.Go(ln.acceptAll)
	return ln
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It waits until nothing of the listener runs any more; connections that Accept returned
// live on.
func (l *listener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.working.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// acceptAll ends only with the listener: an error of accept is about one connection, or passes when others end.
func (l *listener) acceptAll() {
	var pause time.Duration
	for {
		raw, err := l.Listener.Accept()
		switch {
		case l.ctx.Err() != nil:
			if err == nil {
				raw.Close()
			}
			return
		case err != nil:
			pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
			l.sometimes.Do(func() { l.log.Warn("a connection could not be accepted", "listener", l.Addr(), "error", err) })
			select {
			case <-time.After(pause):
			case <-l.ctx.Done():
			}
		default:
			pause = 0
			l.admit(raw)
		}
	}
}

// admit finds raw a place, or closes it.
func (l *listener) admit(raw net.Conn) {
	client, unlimited := l.clientOf(raw)
	p := l.conns.enter(client, unlimited, func() { raw.Close() })
	if p == nil {
		l.refuse(raw, client)
		return
	}
	c := &conn{Conn: raw, place: p, gate: l.conns}
	if l.tls == nil {
		l.hand(c)
		return
	}
	hand := l.handshakes.enter(client, unlimited, func() { raw.Close() })
	if hand == nil {
		c.Close()
		l.refuse(raw, client)
		return
	}
	l.working.Go(func() {
		defer l.handshakes.leave(hand)
		l.shakeHands(c)
	})
}

func (l *listener) refuse(raw net.Conn, client netip.Prefix) {
	raw.Close()
	l.sometimes.Do(func() {
		l.log.Warn("a connection was refused: too many are open (max_connections)", "listener", l.Addr(), "client", client)
	})
}

// hand gives a connection to Accept.
func (l *listener) hand(c net.Conn) {
	select {
	case l.ready <- c:
	case <-l.ctx.Done():
		c.Close()
	}
}

// shakeHands makes c a TLS connection, or closes it.
func (l *listener) shakeHands(c *conn) {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	secure := tls.Server(c, l.tls.Load())
	err := secure.HandshakeContext(ctx)
	if err == nil {
		l.hand(secure)
		return
	}
	l.log.Debug("TLS handshake ended", "client", c.RemoteAddr(), "error", err)
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && speaksHTTP(plain.RecordHeader) {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\nthis listener speaks TLS: use https\n")
	}
	c.Close()
}

// speaksHTTP reports the beginning of a request in plaintext.
func speaksHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "DELET", "LIST ", "PATCH", "OPTIO":
		return true
	}
	return false
}

// clientOf tells whose places a connection counts against: those of its IPv4 address or IPv6 /64. All of a Unix socket
// is one client, and is as little limited as a trusted proxy.
func (l *listener) clientOf(c net.Conn) (client netip.Prefix, unlimited bool) {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}, true
	}
	addr := ap.Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	for _, p := range l.trusted {
		unlimited = unlimited || p.Contains(addr)
	}
	client, _ = addr.Prefix(bits) // fails for no address
	return client, unlimited
}

// conn is a connection with a place.
type conn struct {
	net.Conn
	place *place
	gate  *gate
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.gate.leave(c.place)
	return c.Conn.Close()
}
