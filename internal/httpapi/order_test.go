package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func withBody(t *testing.T, length int64) option {
	return func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(unread{t}), length }
}

// T63: limiter, route, size, then the parser; what comes earlier costs nothing of what comes later.
func TestOrder(t *testing.T) {
	s := newServer(t)
	s.init(1, 1)
	for _, length := range []int64{100, -1} {
		body := withBody(t, length)
		s.do("PUT", "auth/token/create", "", body).want(503)                                      // sealed
		s.do("PUT", "sys/health", "", body).want(405)                                             // method
		s.do("GET", "sys/health", "", body).want(503)                                             // a read has no body
		s.do("PUT", "sys//init", "", body).want(307)                                              // path
		s.do("PUT", "sys/%2e/init", "", body).want(400)                                           // path
		s.do("PUT", "sys/init", "", body, withHeader("X-Vault-Namespace", "a")).want(400)         // namespace
		s.do("PUT", "sys/init", "", body, withHeader("Origin", "https://evil.example")).want(403) // page
		s.do("PUT", "nope/x", "", body).want(503)                                                 // no route
		s.do("PATCH", "sys/init", "", body).want(415)                                             // content type
		s.l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		s.do("PUT", "sys/unseal", "", body, withHeader("X-Forwarded-For", "nonsense")).want(400, "X-Forwarded-For") // address
		s.l.TrustedProxies = nil
	}
	s.do("PUT", "sys/unseal", "", withBody(t, 4097)).want(400, "at most 4096 bytes")
	s.do("PUT", "sys/init", "", withBody(t, 1<<30)).want(413, "larger than this server takes")
	s.l.MaxRequestSize = 1000
	s.do("PUT", "sys/unseal", "", withBody(t, 1001)).want(413, "at most 1000 bytes")
	s.l.MaxRequestSize = 0
	s.unseal(1)
	s.do("PUT", "nope/x", "", withBody(t, 100), withToken(s.root)).want(404)

	s.api.openLimit = newLimiter(Rate{PerSecond: 0.5, Burst: 1}, 10)
	s.api.tokenLimit = newLimiter(Rate{PerSecond: 0.5, Burst: 1}, 10)
	s.do("PUT", "sys/unseal", "{}").want(400)
	for _, length := range []int64{100, 1 << 40, -1} {
		got := s.do("PUT", "sys/unseal", "", withBody(t, length)).want(429, "too many requests")
		if got.header.Get("Retry-After") != "2" {
			t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
		}
		s.do("PUT", "sys//unseal", "", withBody(t, length)).want(429)
		s.do("PUT", "nope", "", withBody(t, length)).want(429)
		s.do("PUT", "sys/unseal", "", withBody(t, length), withHeader("Origin", "https://evil.example")).want(429)
	}
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200) // a bucket of its own
	s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(429)
	s.do("PUT", "sys/unseal", "{}", stranger).want(400)                                                // and everybody has theirs
	s.do("PUT", "sys/unseal", "{}", stranger, withHeader("X-Forwarded-For", "198.51.100.9")).want(429) // T61
	s.clock.step(2 * time.Second)
	s.do("PUT", "sys/unseal", "{}").want(400)
	s.l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s.do("PUT", "sys/unseal", "{}", withHeader("X-Forwarded-For", "nonsense")).want(429) // at the proxy's expense
	s.do("PUT", "sys/unseal", "{}", withHeader("X-Forwarded-For", "198.51.100.9")).want(400, "must be specified")
}

// T59: a body without an end is cut off at the limit of its route.
func TestBodyIsBounded(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		path  string
		limit int64
	}{{"sys/unseal", smallBody}, {"sys/init", initBody}} {
		count := &counted{}
		s.do("PUT", c.path, "", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(count), -1 }).want(400, "at most")
		if count.n > c.limit+1 {
			t.Errorf("%s: %d bytes were read, the limit is %d", c.path, count.n, c.limit)
		}
	}
	exact := `{"x":"` + strings.Repeat("x", smallBody-8) + `"}`
	s.do("PUT", "sys/unseal", exact).want(400, "'key' must be specified")
	s.do("PUT", "sys/unseal", exact+" ").want(400, "at most 4096 bytes")
	s.do("PUT", "sys/unseal", "", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(exact), strings.NewReader(" "))), -1
	}).want(400, "at most 4096 bytes")
	s.do("PUT", "sys/unseal", "", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(`{"key`), broken{})), -1
	}).want(400, "could not be read")
}

type counted struct{ n int64 }

func (c *counted) Read(p []byte) (int, error) {
	c.n += int64(len(p))
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset, canary") }

// withRoute puts a handler of the test's into the table.
func (s *server) withRoute(h handler) {
	s.api.routes["test"] = &route{path: "test", authority: byCeremony, sealed: true, limit: 1 << 20, ops: map[operation]handler{opUpdate: h, opRead: h}}
}

// T52: of a panic neither the client nor the log learns what was in it.
func TestPanic(t *testing.T) {
	const canary = "canaryCANARY"
	s := newServer(t)
	var body []byte
	s.withRoute(func(x *exchange) (*reply, error) {
		body = x.body
		panic(errors.New("with " + canary + " in it"))
	})
	got := s.do("PUT", "test", `{"key":"`+canary+`"}`, withToken(canary)).want(500, "internal error, request ")
	if strings.Contains(got.text+s.log.String(), canary) {
		t.Errorf("the canary sings: %s\n%s", got.text, s.log)
	}
	for _, want := range []string{`"type":"*errors.errorString"`, "TestPanic", "request_id"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%q is not in the log: %s", want, s.log)
		}
	}
	if len(body) == 0 || len(bytes.Trim(body, "\x00")) > 0 {
		t.Errorf("the body was not wiped: %q", body)
	}
	s.withRoute(func(*exchange) (*reply, error) { panic(http.ErrAbortHandler) })
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("the wish to abort the connection was swallowed")
		}
	}()
	s.do("GET", "test", "")
}

// T52: when the reply is out, nothing of the request is left in the server's own memory.
func TestRequestIsWiped(t *testing.T) {
	s := newServer(t)
	var kept [][]byte
	s.withRoute(func(x *exchange) (*reply, error) {
		kept = append(kept, x.body, x.token.Reveal(), x.fields.Text("key"), x.fields.Text("escaped"))
		for _, k := range kept {
			if len(k) == 0 {
				t.Error("nothing was there to begin with")
			}
		}
		return &reply{}, nil
	})
	big := strings.Repeat("x", 5000) // the buffer has to grow, and what it grew out of is wiped too
	in := &watched{Reader: strings.NewReader(`{"key":"share","escaped":"sh\/are","pad":"` + big + `"}`)}
	s.do("PUT", "test", "", withToken("token"), func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(in), -1 }).want(204)
	if len(in.buffers) < 3 {
		t.Errorf("the body was read into %d buffers", len(in.buffers))
	}
	kept = append(kept, in.buffers...)
	form := withHeader("Content-Type", "application/x-www-form-urlencoded")
	s.do("PUT", "test", "key=share&escaped=sh%2fa%22re", withToken("token"), form).want(204)
	for i, k := range kept {
		if len(bytes.Trim(k, "\x00")) > 0 {
			t.Errorf("slice %d is still %q", i, k)
		}
	}
}

// watched remembers where it was read to.
type watched struct {
	io.Reader
	buffers [][]byte
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.buffers = append(w.buffers, p[:n])
	}
	return n, err
}

// One place maps what went wrong to a status code; what isn't a fault is told to nobody but the log.
func TestErrorMapping(t *testing.T) {
	const canary = "canaryCANARY"
	s := newServer(t)
	for _, c := range []struct {
		err      error
		code     int
		contains string
	}{
		{fault.New(fault.Invalid, "say"), 400, `{"errors":["say"]}`},
		{fault.New(fault.Denied, "say"), 403, "say"},
		{fault.New(fault.NotFound, "say"), 404, "say"},
		{fault.New(fault.NotFound, ""), 404, `{"errors":[]}`},
		{fault.New(fault.Unsupported, "say"), 405, "say"},
		{fault.New(fault.TooLarge, "say"), 413, "say"},
		{fault.New(fault.MediaType, "say"), 415, "say"},
		{fault.New(fault.Limited, "say"), 429, "say"},
		{fault.New(fault.Sealed, "say"), 503, "say"},
		{fault.New(fault.Unavailable, "say"), 503, "say"},
		{fault.New(fault.Kind(99), "say"), 500, "say"},
		{fmt.Errorf("wrapped %s: %w", canary, fault.New(fault.Invalid, "say")), 400, `{"errors":["say"]}`},
		{errors.New(canary), 500, "internal error, request "},
		{fmt.Errorf("%s: %w", canary, store.ErrUnknownOutcome), 500, "outcome of the write is unknown"},
	} {
		s.withRoute(func(*exchange) (*reply, error) { return &reply{data: 1}, c.err })
		got := s.do("GET", "test", "").want(c.code, c.contains)
		if strings.Contains(got.text, canary) {
			t.Errorf("the canary sings: %s", got.text)
		}
	}
	s.withRoute(func(*exchange) (*reply, error) { return &reply{data: func() {}}, nil })
	s.do("GET", "test", "").want(500)
}

// A client that went away before the body was read breaks nothing.
func TestClientGone(t *testing.T) {
	s := ready(t, 1, 1)
	r := httptest.NewRequest("GET", "http://127.0.0.1:8200/v1/auth/token/lookup-self", nil)
	r.Header.Set("X-Vault-Token", s.root)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.send(r.WithContext(ctx)).want(503, "given up")
}
