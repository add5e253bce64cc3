package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func asked(remote, host string, headers ...string) *http.Request {
	r := &http.Request{RemoteAddr: remote, Host: host, Header: http.Header{}, ProtoMajor: 1, ProtoMinor: 1}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// Local authority is the weakest there is, and still nobody gets it by a header, a page or a proxy.
func TestLocal(t *testing.T) {
	const loop, host = "127.0.0.1:50000", "127.0.0.1:8200"
	here := Listener{APIAddrLoopback: true}
	unix := Listener{Unix: true}
	proxied := Listener{APIAddrLoopback: true, TrustedProxies: prefixes("127.0.0.1/32")}
	for _, c := range []struct {
		name string
		l    Listener
		r    *http.Request
		want bool
	}{
		{"loopback", here, asked(loop, host), true},
		{"loopback by name", here, asked(loop, "localhost:8200"), true},
		{"loopback by name without port", here, asked(loop, "LocalHost"), true},
		{"other loopback address", here, asked("127.8.8.8:1", "127.8.8.8"), true},
		{"IPv6 loopback", here, asked("[::1]:50000", "[::1]:8200"), true},
		{"IPv6 host without port", here, asked("[::1]:50000", "[::1]"), true},
		{"mapped loopback", here, asked("[::ffff:127.0.0.1]:50000", host), true},
		{"typed into a browser", here, asked(loop, host, "Sec-Fetch-Site", "none"), true},
		{"Unix socket", unix, asked("@", "any.example"), true},
		{"Unix socket without a name", unix, asked("", ""), true},
		{"api_addr elsewhere, but the listener says so", Listener{LocalAuthority: true}, asked(loop, host), true},

		{"other address", here, asked("203.0.113.7:1", host), false},
		{"private address", here, asked("10.0.0.1:1", host), false},
		{"no address", here, asked("", host), false},
		{"nonsense for an address", here, asked("127.0.0.1", host), false},
		{"no Host", here, asked(loop, ""), false},
		{"Host of another", here, asked(loop, "vault.example:8200"), false},
		{"Host that begins like loopback", here, asked(loop, "localhost.example"), false},
		{"Host that ends like loopback", here, asked(loop, "x.localhost"), false},
		{"Host 127.0.0.1.example", here, asked(loop, "127.0.0.1.example"), false},
		{"Host 0.0.0.0", here, asked(loop, "0.0.0.0:8200"), false},
		{"short form of an address", here, asked(loop, "127.1:8200"), false},
		{"page of another site", here, asked(loop, host, "Origin", "https://evil.example"), false},
		{"page of this site", here, asked(loop, host, "Origin", "http://127.0.0.1:8200"), false},
		{"null origin", here, asked(loop, host, "Origin", "null"), false},
		{"empty origin", here, asked(loop, host, "Origin", ""), false},
		{"fetched across sites", here, asked(loop, host, "Sec-Fetch-Site", "cross-site"), false},
		{"fetched by the same origin", here, asked(loop, host, "Sec-Fetch-Site", "same-origin"), false},
		{"two words about the site", here, asked(loop, host, "Sec-Fetch-Site", "none", "Sec-Fetch-Site", "cross-site"), false},
		{"X-Forwarded-For", here, asked(loop, host, "X-Forwarded-For", "127.0.0.1"), false},
		{"empty X-Forwarded-For", here, asked(loop, host, "X-Forwarded-For", ""), false},
		{"X-Forwarded-Proto", here, asked(loop, host, "X-Forwarded-Proto", "https"), false},
		{"X-Forwarded-Anything", here, asked(loop, host, "x-forwarded-anything", "1"), false},
		{"Forwarded", here, asked(loop, host, "Forwarded", "for=127.0.0.1"), false},
		{"X-Real-IP", here, asked(loop, host, "X-Real-IP", "127.0.0.1"), false},
		{"Via", here, asked(loop, host, "Via", "1.1 proxy"), false},
		{"HTTP/1.0", here, http10(asked(loop, host)), false},
		{"X-Client-IP", here, asked(loop, host, "X-Client-IP", "127.0.0.1"), false},
		{"True-Client-IP", here, asked(loop, host, "True-Client-IP", "127.0.0.1"), false},
		{"CF-Connecting-IP", here, asked(loop, host, "CF-Connecting-IP", "127.0.0.1"), false},
		{"Envoy", here, asked(loop, host, "X-Envoy-External-Address", "127.0.0.1"), false},
		{"api_addr elsewhere", Listener{}, asked(loop, host), false},
		{"api_addr elsewhere and a proxy", Listener{LocalAuthority: true}, asked(loop, host, "Via", "1.1 proxy"), false},
		{"Unix socket through a proxy", unix, asked("@", "x", "X-Forwarded-For", "127.0.0.1"), false},
		{"Unix socket from a page", unix, asked("@", "x", "Origin", "http://x"), false},

		{"all hops here", proxied, asked(loop, host, "X-Forwarded-For", "127.0.0.1", "X-Forwarded-Proto", "https"), true},
		{"trusted proxy that hides its client", proxied, asked(loop, host), false},
		{"client elsewhere", proxied, asked(loop, host, "X-Forwarded-For", "203.0.113.7"), false},
		{"client elsewhere that claims to be here", proxied, asked(loop, host, "X-Forwarded-For", "127.0.0.1, 203.0.113.7"), false},
		{"first hop elsewhere", proxied, asked(loop, host, "X-Forwarded-For", "203.0.113.7, 127.0.0.1"), false},
		{"all hops here, for another host", proxied, asked(loop, host, "X-Forwarded-For", "127.0.0.1", "X-Forwarded-Host", "vault.example"), false},
		{"all hops here, says one header only", proxied, asked(loop, host, "X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "203.0.113.7"), false},
		{"all hops here, but from a page", proxied, asked(loop, host, "X-Forwarded-For", "127.0.0.1", "Origin", "http://a.example"), false},
		{"all hops here, api_addr elsewhere", Listener{TrustedProxies: prefixes("127.0.0.1/32")}, asked(loop, host, "X-Forwarded-For", "127.0.0.1"), false},
		{"proxy elsewhere, all hops here", Listener{APIAddrLoopback: true, TrustedProxies: prefixes("10.0.0.0/8")}, asked("10.0.0.1:1", host, "X-Forwarded-For", "127.0.0.1"), false},
	} {
		got, err := c.l.identify(c.r)
		if err != nil || got.local() != c.want {
			t.Errorf("%s: local %v, %v, want %v", c.name, got.local(), err, c.want)
		}
	}
}

// http10 is a request as a simple proxy sends it on.
func http10(r *http.Request) *http.Request {
	r.ProtoMinor = 0
	return r
}

// T61: who isn't trusted can't be somebody else, and who is trusted can't be talked into it by the client.
func TestClientAddress(t *testing.T) {
	plain := Listener{}
	behind := Listener{TrustedProxies: prefixes("10.0.0.0/8", "fd00::/8")}
	for _, c := range []struct {
		name   string
		l      Listener
		remote string
		lines  []string
		want   string
	}{
		{"no header", plain, "203.0.113.7:1", nil, "203.0.113.7"},
		{"untrusted header", plain, "203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		{"untrusted nonsense", plain, "203.0.113.7:1", []string{"nonsense"}, "203.0.113.7"},
		{"peer outside of the trusted", behind, "203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		{"one hop", behind, "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"no header from a proxy", behind, "10.0.0.1:1", nil, "10.0.0.1"},
		{"client that adds a hop", behind, "10.0.0.1:1", []string{"192.0.2.9, 198.51.100.1"}, "198.51.100.1"},
		{"client that adds a line", behind, "10.0.0.1:1", []string{"192.0.2.9", "198.51.100.1"}, "198.51.100.1"},
		{"client that names a proxy", behind, "10.0.0.1:1", []string{"10.0.0.9, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", behind, "10.0.0.1:1", []string{"192.0.2.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"nothing but proxies", behind, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"IPv6", behind, "[fd00::1]:1", []string{"2001:db8::7"}, "2001:db8::7"},
		{"with a port", behind, "10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6 with a port", behind, "10.0.0.1:1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"mapped", behind, "10.0.0.1:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"mapped peer", behind, "[::ffff:10.0.0.1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"with a zone", behind, "10.0.0.1:1", []string{"fe80::1%eth0"}, "fe80::1"},
	} {
		r := asked(c.remote, "vault.example")
		r.Header["X-Forwarded-For"] = c.lines
		if c.lines == nil {
			delete(r.Header, "X-Forwarded-For")
		}
		got, err := c.l.identify(r)
		if err != nil || got.addr != netip.MustParseAddr(c.want) || got.local() {
			t.Errorf("%s: %v, local %v, %v, want %s", c.name, got.addr, got.local(), err, c.want)
		}
	}
	for _, line := range []string{
		"", " ", "nonsense", "198.51.100.1,", ",198.51.100.1", "198.51.100.1,,10.0.0.2", "198.51.100", "unknown", "_hidden",
		"198.51.100.1 10.0.0.2", `"198.51.100.1"`, "for=198.51.100.1", "198.51.100.1:99999", strings.Repeat("10.0.0.1,", maxHops) + "10.0.0.1",
	} {
		if _, err := behind.identify(asked("10.0.0.1:1", "x", "X-Forwarded-For", line)); err != errForwarded {
			t.Errorf("%q from a trusted proxy: %v, want %v", line, err, errForwarded)
		}
	}
}

// A client is an IPv4 address or an IPv6 network: whoever has one address of that has them all.
func TestBucket(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"203.0.113.7", "203.0.113.7", true},
		{"203.0.113.7", "203.0.113.8", false},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"::1", "127.0.0.1", false},
	} {
		a, b := client{addr: netip.MustParseAddr(c.a)}, client{addr: netip.MustParseAddr(c.b)}
		if (a.bucket() == b.bucket()) != c.same {
			t.Errorf("%s and %s: %v, %v, want same %v", c.a, c.b, a.bucket(), b.bucket(), c.same)
		}
	}
	if (client{}).bucket() == (client{addr: netip.MustParseAddr("0.0.0.0")}).bucket() {
		t.Error("the Unix socket shares a bucket with an address")
	}
}
