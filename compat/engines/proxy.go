package engines

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy between a test and an engine, with the faults of a network.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	pairs   map[*pair]bool
	cut     bool
	delay   time.Duration
	blocked chan struct{} // closed when bytes may pass
	filter  func(toServer bool, data []byte) bool
}

// pair is one connection through the proxy.
type pair struct{ client, server net.Conn }

func (p *pair) close() {
	p.client.Close()
	p.server.Close()
}

// NewProxy starts a proxy to target, a host and port, for one test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: l, pairs: map[*pair]bool{}, blocked: make(chan struct{})}
	close(p.blocked)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Cut closes every connection and each new one at once, until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for one := range p.pairs {
		one.close()
	}
	p.pass()
}

// Hang accepts connections and passes nothing on in either direction, until Heal or Cut.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass()
	p.blocked = make(chan struct{})
}

// Delay holds up whatever passes in either direction.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Filter asks fn before bytes pass, as they come out of the socket; false closes that connection instead.
func (p *Proxy) Filter(fn func(toServer bool, data []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filter = fn
}

// Heal ends all faults.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.delay, p.filter = false, 0, nil
	p.pass()
}

// pass lets go what Hang holds. p.mu must be held.
func (p *Proxy) pass() {
	select {
	case <-p.blocked:
	default:
		close(p.blocked)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	one := &pair{client, server}
	defer one.close()
	p.mu.Lock()
	cut := p.cut
	p.pairs[one] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.pairs, one)
	}()
	if cut {
		return
	}
	p.running.Go(func() {
		defer one.close()
		p.copy(client, server, false)
	})
	p.copy(server, client, true)
}

func (p *Proxy) copy(to io.Writer, from io.Reader, toServer bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay, blocked := p.delay, p.blocked
		p.mu.Unlock()
		time.Sleep(delay)
		<-blocked
		p.mu.Lock()
		cut, filter := p.cut, p.filter
		p.mu.Unlock()
		if cut || filter != nil && !filter(toServer, buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
