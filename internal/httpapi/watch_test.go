package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/node"
)

// stream reads server-sent events.
type stream struct {
	t      *testing.T
	res    *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

// live serves over a real connection.
func (s *server) live(options ...func(*httptest.Server)) *httptest.Server {
	s.t.Helper()
	s.api.watchers.life = time.Minute
	web := httptest.NewUnstartedServer(s.api.Handler(s.l))
	web.Config.ReadTimeout, web.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	for _, o := range options {
		o(web)
	}
	if web.EnableHTTP2 {
		web.StartTLS()
	} else {
		web.Start()
	}
	s.t.Cleanup(web.Close)
	return web
}

func watch(t *testing.T, web *httptest.Server, nonce string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", web.URL+"/v1/"+native+"/"+nonce+"/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return &stream{t, res, bufio.NewScanner(res.Body), cancel}
}

// next returns the next event; a comment has no name. At the end of the stream everything is empty.
func (s *stream) next() (name string, data map[string]any, comment bool) {
	s.t.Helper()
	for s.lines.Scan() {
		switch line := s.lines.Text(); {
		case line == "":
			return name, data, comment
		case strings.HasPrefix(line, ":"):
			comment = true
		case strings.HasPrefix(line, "event: "):
			name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			if err := json.Unmarshal([]byte(line[len("data: "):]), &data); err != nil {
				s.t.Fatalf("%s: %v", line, err)
			}
		default:
			s.t.Fatalf("no event: %q", line)
		}
	}
	return "", nil, false
}

func (s *stream) want(name string, has map[string]any) {
	s.t.Helper()
	got, data, _ := s.next()
	if got != name {
		s.t.Fatalf("event %q %v, want %q", got, data, name)
	}
	for field, value := range has {
		if data[field] != value {
			s.t.Errorf("%s: %s is %v, want %v", name, field, data[field], value)
		}
	}
}

func (s *stream) wantEnd() {
	s.t.Helper()
	if name, data, comment := s.next(); name != "" || comment {
		s.t.Errorf("after the end: %q %v", name, data)
	}
}

// free waits until so many places are taken.
func (s *server) watching(n int) {
	s.t.Helper()
	w := s.api.watchers
	for range 2000 {
		w.mu.Lock()
		open, clients := w.all.open, len(w.all.byClient)+len(w.strangers.byClient)
		w.mu.Unlock()
		if open == n && (n > 0 || clients == 0) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("never were there %d watches", n)
}

// Who watches is told of every change, over a connection whose timeouts are shorter than the watch, and then of the end.
func TestWatch(t *testing.T) {
	s := ready(t, 3, 2)
	s.l.MaxRequestDuration = 20 * time.Millisecond
	web := s.live()
	nonce := s.begin(`{"kind":"root-token"}`)
	w := watch(t, web, nonce)
	if got := w.res.Header.Get("Content-Type"); w.res.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("%d %s", w.res.StatusCode, got)
	}
	w.want("ceremony", map[string]any{"nonce": nonce, "progress": 0.0, "state": "open"})
	time.Sleep(200 * time.Millisecond)
	for i := range 2 {
		s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[i]+`"}`).want(200)
		w.want("ceremony", map[string]any{"progress": float64(i + 1), "state": []any{"open", "complete"}[i], "encoded_token": nil, "otp": nil})
	}
	w.want("end", map[string]any{"state": "complete"})
	w.wantEnd()
	s.watching(0)
	again := watch(t, web, nonce) // what is over is told at once
	again.want("ceremony", map[string]any{"state": "complete"})
	again.want("end", map[string]any{"state": "complete"})
	again.wantEnd()
}

// Every other way in which a watch ends.
func TestWatchEnds(t *testing.T) {
	for name, end := range map[string]func(*server, string, *stream) (last string, has map[string]any){
		"cancelled": func(s *server, nonce string, _ *stream) (string, map[string]any) {
			s.do("DELETE", native+"/"+nonce, "").want(204)
			return "cancelled", nil
		},
		"gone": func(s *server, _ string, _ *stream) (string, map[string]any) {
			s.clock.step(48 * time.Hour) // nobody has written down that it expired
			return "", map[string]any{"reason": node.ErrNoCeremony.Sentence}
		},
		"sealed": func(s *server, _ string, _ *stream) (string, map[string]any) {
			s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
			return "", map[string]any{"reason": node.ErrSealed.Sentence}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready(t, 3, 2)
			web := s.live()
			nonce := s.begin(`{"kind":"drill","ttl":"1h"}`)
			w := watch(t, web, nonce)
			w.want("ceremony", map[string]any{"state": "open"})
			state, has := end(s, nonce, w)
			event, data, _ := w.next()
			if event == "ceremony" { // sealing may end it first
				if state != "" && data["state"] != state {
					t.Errorf("state %v, want %s", data["state"], state)
				}
				event, data, _ = w.next()
			}
			if event != "end" {
				t.Errorf("%q %v", event, data)
			}
			for field, value := range has {
				if data[field] != value && data["state"] == nil {
					t.Errorf("%v, want %v", data, has)
				}
			}
			w.wantEnd()
			s.watching(0)
		})
	}
}

// A watch that lasts too long, a server that shuts down, a client that goes away: the place is free at once.
func TestWatchPlacesComeBack(t *testing.T) {
	s := ready(t, 3, 2)
	web := s.live()
	nonce := s.begin(`{"kind":"root-token"}`)
	gone := watch(t, web, nonce)
	gone.want("ceremony", nil)
	s.watching(1)
	gone.cancel()
	s.watching(0)

	s.api.watchers.life = 20 * time.Millisecond
	short := watch(t, web, nonce)
	short.want("ceremony", nil)
	short.wantEnd()
	s.watching(0)

	s.api.watchers.life = time.Minute
	down := watch(t, web, nonce)
	down.want("ceremony", nil)
	stopped := make(chan error, 1)
	go func() {
		s.api.EndWatches()
		stopped <- web.Config.Shutdown(t.Context())
	}()
	down.wantEnd()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a watch holds the shutdown")
	}
	s.do("GET", native+"/"+nonce+"/watch", "").want(503, "shutting down")
}

// As long as nothing happens there is a sign of life, and in HTTP/2, where a deadline that passes ends the stream, none
// passes.
func TestWatchHeartbeat(t *testing.T) {
	for _, version := range []int{1, 2} {
		s := ready(t, 3, 2)
		s.api.watchers.heartbeat, s.api.watchers.patience = 40*time.Millisecond, 200*time.Millisecond
		w := watch(t, s.live(func(web *httptest.Server) { web.EnableHTTP2 = version == 2 }), s.begin(`{"kind":"root-token"}`))
		if w.res.ProtoMajor != version {
			t.Fatalf("it is %s", w.res.Proto)
		}
		w.want("ceremony", nil)
		for range 10 {
			if name, _, comment := w.next(); name != "" || !comment {
				t.Fatalf("HTTP/%d: %q, want a comment", version, name)
			}
		}
		w.cancel()
		s.watching(0)
	}
}

// Strangers can have so many watches and no more, each and all together; who has a token, or is local, gets in beside
// them, from the same address too, but nobody gets all the places.
func TestWatchIsBounded(t *testing.T) {
	s := ready(t, 3, 2)
	nonce := s.begin(`{"kind":"root-token"}`)
	path := native + "/" + nonce + "/watch"
	limited, _ := s.newToken(`{"policies":["default"]}`)
	w := newWatchers()
	w.life = 10 * time.Millisecond
	s.api.watchers = w
	var leave []func()
	client := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)
	}
	mine := netip.MustParsePrefix("203.0.113.7/32")
	take := func(n int, stranger bool, client netip.Prefix) {
		t.Helper()
		for range n {
			l, err := w.enter(client, stranger)
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, l)
		}
	}
	take(8, true, mine)
	got := s.do("GET", path, "", stranger).want(429)
	if got.header.Get("Retry-After") == "" {
		t.Error("it isn't said when to ask again")
	}
	s.do("GET", path, "", stranger, withToken("q.deaddeaddeaddeaddeadde")).want(429)
	s.do("GET", path, "", stranger, withToken(limited)).want(200)
	for i := range 15 {
		take(8, true, client(i))
	}
	if _, err := w.enter(client(200), true); err == nil {
		t.Error("strangers have more than half of all places")
	}
	s.do("GET", path, "", stranger, withToken(limited)).want(200)
	s.do("GET", path, "").want(200) // local
	s.do("GET", path, "", onBehalf).want(429)

	take(56, false, mine)
	s.do("GET", path, "", stranger, withToken(limited)).want(429)
	s.do("GET", path, "").want(200)
	take(64, false, client(300))
	take(8, false, client(301))
	s.do("GET", path, "").want(429) // there are no more places
	s.view(nonce)                   // but it can be read
	for _, l := range leave {
		l()
	}
	s.watching(0)
	s.do("GET", native+"/"+neverNonce+"/watch", "", stranger).want(404)
	s.watching(0) // a refused watch keeps no place
	s.do("HEAD", path, "").want(200)
}
