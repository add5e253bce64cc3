package httpapi

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/fault"
)

// Values of Listener.Ceremonies: who, besides a token and a holder, may start and cancel an attempt.
const (
	CeremoniesLocal = "local" // a local connection
	CeremoniesToken = "token" // nobody
	CeremoniesOpen  = "open"  // anyone
)

// maxHops bounds the chain of addresses that a trusted proxy may report.
const maxHops = 32

var errForwarded = fault.New(fault.Invalid, "the X-Forwarded-For header is not a list of addresses: look at the configuration of the proxy in front of this server")

// client is the peer of a request as far as it can be told.
type client struct {
	addr   netip.Addr // invalid on a Unix socket
	remote string     // why the connection has no local authority; empty if it has
}

func (c client) local() bool { return c.remote == "" }

// bucket is what the client is limited by: its IPv4 address, its IPv6 /64, or the Unix socket as a whole.
func (c client) bucket() netip.Prefix {
	bits := 32
	if c.addr.Is6() {
		bits = 64
	}
	p, _ := c.addr.Prefix(bits) // the zero prefix for the zero address
	return p
}

// identify tells who the client is and whether the connection is local. Only a proxy that the listener trusts may say
// that the client is somebody else; what others say about that is not believed, but nobody who says it is local. With an
// error, the client is the proxy.
func (l *Listener) identify(r *http.Request) (client, error) {
	if l.Unix {
		return client{remote: throughOthers(r)}, nil
	}
	peer := peerAddr(r.RemoteAddr)
	if !l.trusts(peer) {
		return client{addr: peer, remote: cmp.Or(l.notLocal(r, peer), throughOthers(r))}, nil
	}
	lines := r.Header.Values("X-Forwarded-For")
	if len(lines) == 0 {
		return client{addr: peer, remote: "it came through a trusted proxy that does not say for whom"}, nil
	}
	hops, err := parseHops(lines)
	if err != nil {
		return client{addr: peer, remote: "it came through a proxy"}, errForwarded
	}
	c := client{addr: hops[0], remote: l.notLocal(r, peer)}
	if throughBrowser(r) || hidesOrigin(r) {
		c.remote = throughOthers(r)
	}
	for i := len(hops) - 1; i >= 0; i-- {
		if !l.trusts(hops[i]) {
			c.addr = hops[i]
			break
		}
	}
	if slices.ContainsFunc(hops, func(hop netip.Addr) bool { return !hop.IsLoopback() }) {
		c.remote = "it came through a proxy from another machine"
	}
	return c, nil
}

// notLocal says why a TCP connection isn't local, but for the headers that proxies and browsers add; empty if it is:
// from loopback, to a loopback name, on a server that is not published elsewhere. HTTP/1.0 is what simple proxies speak
// upstream, and no client of ours.
func (l *Listener) notLocal(r *http.Request, peer netip.Addr) string {
	switch {
	case !peer.IsLoopback():
		return "it comes from another machine"
	case !l.APIAddrLoopback && !l.LocalAuthority:
		return "api_addr is not a loopback address, so only a unix socket is local, or a listener with local_authority = true"
	case !isLoopbackHost(r.Host):
		return "it asks for another host than this machine"
	case !r.ProtoAtLeast(1, 1):
		return "it speaks HTTP/1.0, as proxies do"
	}
	return ""
}

// throughOthers says through whom a request came that says so itself.
func throughOthers(r *http.Request) string {
	switch {
	case throughBrowser(r):
		return "a web page made it"
	case forwarded(r):
		return "it came through a proxy"
	}
	return ""
}

func (l *Listener) trusts(a netip.Addr) bool {
	for _, p := range l.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// throughBrowser reports a request that a page made: the person at the browser may not know of it.
func throughBrowser(r *http.Request) bool {
	site := r.Header.Values("Sec-Fetch-Site")
	return len(r.Header.Values("Origin")) > 0 || len(site) > 0 && (len(site) > 1 || site[0] != "none")
}

// forwarded reports a request that says it came through a proxy.
func forwarded(r *http.Request) bool {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return hidesOrigin(r)
}

// proxyHeaders are what proxies say who their client is with, beside X-Forwarded-*.
var proxyHeaders = [...]string{
	"Forwarded", "X-Real-Ip", "Via", "Cf-Connecting-Ip", "True-Client-Ip", "X-Client-Ip", "X-Envoy-External-Address",
}

// hidesOrigin reports headers of proxies that a chain of X-Forwarded-For addresses doesn't account for.
func hidesOrigin(r *http.Request) bool {
	for _, name := range proxyHeaders {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	for _, host := range r.Header["X-Forwarded-Host"] {
		if !isLoopbackHost(host) {
			return true
		}
	}
	return false
}

// isLoopbackHost reports a Host header, with or without a port, that names this machine.
func isLoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// peerAddr is the address of the other end of the connection; the zero address, which is nobody's, if it has none.
func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddr(ap.Addr())
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// parseHops reads the addresses of X-Forwarded-For, the client first. Some proxies add a port.
func parseHops(lines []string) ([]netip.Addr, error) {
	var hops []netip.Addr
	for text := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		text = strings.Trim(text, " \t")
		a, err := netip.ParseAddr(text)
		if err != nil {
			var ap netip.AddrPort
			if ap, err = netip.ParseAddrPort(text); err != nil {
				return nil, err
			}
			a = ap.Addr()
		}
		if hops = append(hops, plainAddr(a)); len(hops) > maxHops {
			return nil, errors.New("too many hops")
		}
	}
	return hops, nil
}
