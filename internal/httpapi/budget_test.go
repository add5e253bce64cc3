package httpapi

import (
	"bytes"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// stalling is a body of spaces that stops before its end, until it is let go.
type stalling struct {
	left    int
	stalled chan<- struct{}
	release <-chan struct{}
}

func (b *stalling) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.stalled <- struct{}{}
		<-b.release
		return 0, io.EOF
	}
	n := copy(p, bytes.Repeat([]byte{' '}, min(len(p), b.left)))
	b.left -= n
	return n, nil
}

// Strangers can't make the server hold more of their bodies than a fixed amount, whatever the number of connections;
// who is local, or has a live token, still gets through; and what was taken is given back.
func TestBodiesHaveABudget(t *testing.T) {
	s := ready(t, 1, 1)
	h := s.api.Handler(s.l)
	stalled, release := make(chan struct{}), make(chan struct{})
	const size = 1 << 20
	codes := make(chan int, 64)
	var wg sync.WaitGroup
	ask := func() {
		wg.Go(func() {
			r := httptest.NewRequest("PUT", "http://127.0.0.1:8200/v1/sys/init", &stalling{size, stalled, release})
			r.RemoteAddr = "203.0.113.7:4000"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			codes <- w.Code
		})
	}
	held, refused := 0, 0
	for range 64 {
		ask()
		select {
		case <-stalled:
			held++
		case code := <-codes:
			if code != 429 {
				t.Fatalf("a body over the budget: %d", code)
			}
			refused++
		}
	}
	if held == 0 || held > strangerBudget/size || refused == 0 {
		t.Errorf("%d bodies held, %d refused", held, refused)
	}
	big := `{"policies":["default"],"display_name":"x","meta":{"k":"` + strings.Repeat("v", 60<<10) + `"}}`
	r := httptest.NewRequest("POST", "http://127.0.0.1:8200/v1/auth/token/create", strings.NewReader(big))
	r.RemoteAddr = "203.0.113.8:4000"
	r.Header.Set("X-Vault-Token", s.root)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("a large request with a live token: %d %s", w.Code, w.Body)
	}
	r = httptest.NewRequest("POST", "http://127.0.0.1:8200/v1/auth/token/create", strings.NewReader(big))
	r.RemoteAddr = "203.0.113.8:4000"
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 429 {
		t.Errorf("the same without a token: %d %s", w.Code, w.Body)
	}
	close(release)
	wg.Wait()
	if used := s.api.strangers.used.Load() + s.api.known.used.Load(); used != 0 {
		t.Errorf("%d bytes were never given back", used)
	}
}

// A body as long as its route takes is charged for what it holds, not for a buffer of twice the size.
func TestBodiesAreChargedForWhatTheyHold(t *testing.T) {
	s := ready(t, 1, 1)
	stalled, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		r := httptest.NewRequest("PUT", "http://127.0.0.1:8200/v1/sys/init", &stalling{initBody, stalled, release})
		r.RemoteAddr = "203.0.113.7:4000"
		w := httptest.NewRecorder()
		if s.api.Handler(s.l).ServeHTTP(w, r); w.Code != 400 { // it was read, and the server is initialised
			t.Errorf("a body of the full size: %d %s", w.Code, w.Body)
		}
	})
	<-stalled
	if used := s.api.strangers.used.Load(); used > initBody {
		t.Errorf("%d bytes are charged for %d", used, initBody)
	}
	close(release)
	wg.Wait()
}
