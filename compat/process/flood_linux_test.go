package process

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clientAt is a client at a loopback address of its own, with one connection. Only Linux has all of 127.0.0.0/8.
func clientAt(addr string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1},
		Timeout:   time.Minute,
	}
}

// approve sends one share and says what came of it, and after how long.
func (s *server) approve(ctx context.Context, c *http.Client, share, nonce string) (code int, reply string, took time.Duration, err error) {
	body, err := json.Marshal(map[string]string{"key": share, "nonce": nonce})
	if err != nil {
		return 0, "", 0, err
	}
	req, err := http.NewRequestWithContext(ctx, "PUT", "http://"+s.addr+"/v1/sys/generate-root/update", bytes.NewReader(body))
	if err != nil {
		return 0, "", 0, err
	}
	began := time.Now()
	res, err := c.Do(req)
	if err != nil {
		return 0, "", 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), time.Since(began), err
}

// junkFlood is clients that send junk shares with the public nonce for as long as they are let.
type junkFlood struct {
	mu    sync.Mutex
	took  []time.Duration
	codes map[int]int
	errs  []error

	stop  context.CancelFunc
	works sync.WaitGroup
}

// flood begins with as many parallel updates as there are clients: five at each of the other addresses, and some at the
// holders' own, which stay far below its limit. It returns when every client has had an answer.
func (s *server) flood(t *testing.T, nonce string, clients, atHome int) *junkFlood {
	ctx, cancel := context.WithCancel(t.Context())
	f := &junkFlood{codes: map[int]int{}, stop: cancel}
	var first sync.WaitGroup
	start := make(chan struct{})
	for i := range clients {
		addr, turns := fmt.Sprintf("127.0.0.%d", 2+i/5), 1_000
		if i < atHome {
			addr, turns = "127.0.0.1", 3
		}
		c := clientAt(addr)
		junk := strings.Repeat(fmt.Sprintf("%04x", i), 16) + fmt.Sprintf("%02x", 1+i%5)
		first.Add(1)
		f.works.Go(func() {
			defer c.CloseIdleConnections()
			<-start
			for n := range turns {
				code, _, took, err := s.approve(ctx, c, junk, nonce)
				f.note(ctx, code, took, err)
				if n == 0 {
					first.Done()
				}
				if ctx.Err() != nil {
					return
				}
			}
		})
	}
	close(start)
	first.Wait()
	return f
}

func (f *junkFlood) note(ctx context.Context, code int, took time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.codes[code]++
		f.took = append(f.took, took)
	case ctx.Err() == nil:
		f.errs = append(f.errs, err)
	}
}

// end stops the flood and returns what all but the slowest hundredth of its answers took.
func (f *junkFlood) end() (p99 time.Duration) {
	f.stop()
	f.works.Wait()
	slices.Sort(f.took)
	return f.took[len(f.took)*99/100]
}

// T07: a thousand clients send junk shares all the time; three holders send theirs. The ceremony completes, and a valid
// share waits for its share of the machine, not behind the junk: it takes no more than a few times what junk takes.
func TestJunkFlood(t *testing.T) {
	s := newServer(t)
	s.start()
	p := s.init(5, 3)
	s.unseal(p)
	holder := clientAt("127.0.0.1")
	generate := func(beside func(nonce string) func()) (slowest time.Duration) {
		st := s.must("PUT", "sys/generate-root/attempt", "", nil)
		nonce := st["nonce"].(string)
		end := beside(nonce)
		defer end()
		for i, share := range p.shares[:3] {
			code, reply, took, err := s.approve(t.Context(), holder, share, nonce)
			if want := fmt.Sprintf(`"progress":%d,`, i+1); err != nil || code != 200 || !strings.Contains(reply, want) {
				t.Fatalf("share %d: %d %s %v", i+1, code, reply, err)
			}
			slowest = max(slowest, took)
		}
		return slowest
	}
	quiet := generate(func(string) func() { return func() {} })
	var f *junkFlood
	var junk time.Duration
	loud := generate(func(nonce string) func() {
		f = s.flood(t, nonce, 1000, 100)
		return func() { junk = f.end() }
	})
	t.Logf("a valid share took %v, and %v beside the flood; junk %v (p99 of %d answers), codes %v", quiet, loud, junk, len(f.took), f.codes)
	if loud > 50*quiet+3*junk {
		t.Errorf("a valid share took %v, and %v when all is quiet; junk took %v", loud, quiet, junk)
	}
	if len(f.errs) > 0 {
		t.Errorf("%d clients were cut off, the first by: %v", len(f.errs), f.errs[0])
	}
	if f.codes[400] < 1000 || len(f.took) != f.codes[400]+f.codes[429] {
		t.Errorf("the answers to junk: %v", f.codes)
	}
	if n := s.tokens(p.root); n != 3 {
		t.Errorf("%d tokens, want the first and one for each of two ceremonies", n)
	}
}
