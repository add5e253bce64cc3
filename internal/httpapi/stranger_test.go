package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/store"
)

// onBehalf asks over loopback on behalf of somebody else.
var onBehalf = withHeader("X-Forwarded-For", "198.51.100.9")

// flood sends starts by strangers, of every kind that is cheap to make, and counts the answers.
type flood struct {
	s       *server
	bodies  []string
	options []option
	codes   [600]atomic.Int64
}

func (f *flood) one(i int) {
	r := httptest.NewRequest("PUT", "http://127.0.0.1:8200/v1/"+attempt, strings.NewReader(f.bodies[i%len(f.bodies)]))
	r.RemoteAddr = fmt.Sprintf("127.0.0.%d:40000", 2+i%200)
	r.Header.Set("X-Forwarded-For", "198.51.100.9")
	f.options[i%len(f.options)](r)
	w := httptest.NewRecorder()
	f.s.api.Handler(f.s.l).ServeHTTP(w, r)
	f.codes[w.Code].Add(1)
}

func (f *flood) many(n int) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < n; i += 4 {
				f.one(i)
			}
		})
	}
	wg.Wait()
}

func newFlood(s *server, bodies ...string) *flood {
	limited, _ := s.newToken(`{"policies":["default"]}`)
	return &flood{s: s, bodies: bodies, options: []option{func(*http.Request) {}, withToken("q.deaddeaddeaddeaddeadde"), withToken(limited)}}
}

// holderStarts is a holder on another machine, who must get the slot within a second.
func (s *server) holderStarts() string {
	s.t.Helper()
	began := time.Now()
	nonce := s.do("PUT", attempt, `{"key":"`+s.keys[1]+`"}`, stranger).want(200).str("nonce")
	if took := time.Since(began); took > time.Second {
		s.t.Errorf("the holder's start took %v", took)
	}
	s.do("GET", attempt, "").is("nonce", nonce)
	return nonce
}

// T01: ten thousand starts by strangers, then a holder starts within a second; and so does one beside whom strangers
// go on.
func TestStrangersStarts(t *testing.T) {
	tries := int64(10_000)
	if testing.Short() {
		tries = 1_000 // under the race detector
	}
	s := ready(t, 5, 3)
	f := newFlood(s, "", "{}", `{"otp":"2vPFYG8gUSW9npwzyvxXMug0"}`, `{"pgp_key":"AAAA"}`, `{"key":"`+strings.Repeat("ab", 32)+`01"}`)
	f.many(int(tries))
	if denied, invalid := f.codes[403].Load(), f.codes[400].Load(); denied != tries*4/5 || invalid != tries/5 {
		t.Errorf("%d were denied, %d junk shares refused, of %d", denied, invalid, tries)
	}
	s.do("GET", attempt, "").is("started", false)
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				f.one(i)
			}
		}
	})
	nonce := s.holderStarts()
	for i := range 3 {
		s.do("PUT", update, keyBody(s.keys[i], nonce), stranger).want(200).is("progress", i+1)
	}
	close(stop)
	beside.Wait()
}

// T01, where anyone may start: one of the strangers has the slot, and the holder gets it all the same.
func TestStrangersStartsOnAnOpenListener(t *testing.T) {
	const tries = 2_000
	s := ready(t, 5, 3)
	s.l.Ceremonies = CeremoniesOpen
	f := newFlood(s, "", "{}")
	f.options = f.options[:1]
	f.many(tries)
	if started, refused := f.codes[200].Load(), f.codes[400].Load(); started != 1 || refused != tries-1 {
		t.Errorf("%d started, %d were refused, of %d", started, refused, tries)
	}
	nonce := s.holderStarts()
	f.many(100)
	s.do("GET", attempt, "").is("nonce", nonce)
}

// On an open listener anyone ends what anyone started and nobody has approved; nothing else.
func TestOpenListenerCancel(t *testing.T) {
	s := ready(t, 5, 3)
	s.l.Ceremonies = CeremoniesOpen
	for _, path := range []string{attempt, attemptOne, attemptB} {
		start := func(options ...option) string {
			t.Helper()
			if path == attemptOne {
				options = append(options, withToken(chosenToken))
			}
			s.do("PUT", path, "", options...).want(200)
			return s.do("GET", attempt, "").str("nonce")
		}
		start(stranger)
		s.do("DELETE", path, "", onBehalf).want(204)
		start()
		s.do("DELETE", path, "", stranger).want(403, "key share")
		s.do("DELETE", path, "").want(204)
		nonce := start(stranger)
		approve := strings.TrimSuffix(path, "attempt") + "update"
		s.do("PUT", approve, keyBody(s.keys[0], nonce), stranger).want(200)
		s.do("DELETE", path, "", stranger).want(403, "key share")
		s.do("GET", attempt, "").is("progress", 1)
		s.do("DELETE", path, "").want(204) // an operator
	}
}

// T55: a nonce that was completed, one that was cancelled and one that never was look the same to whoever has no share;
// so do the slots, but for their number: which of them have approved is nobody's business.
func TestNoncesAndSlotsLookTheSame(t *testing.T) {
	const never = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
	s := ready(t, 3, 2)
	cancelled := s.do("PUT", attempt, "").want(200).str("nonce")
	s.do("DELETE", attempt, "").want(204)
	done := s.do("PUT", attempt, "").want(200).str("nonce")
	for _, key := range s.keys[:2] {
		s.do("PUT", update, keyBody(key, done)).want(200)
	}
	junk := func(slot int) string { return strings.Repeat("ab", 32) + fmt.Sprintf("%02x", slot) }
	for _, open := range []bool{false, true} {
		nonce := never
		if open {
			nonce = s.do("PUT", attempt, "").want(200).str("nonce")
			s.do("PUT", update, keyBody(s.keys[0], nonce)).want(200)
		}
		for _, key := range []string{junk(1), junk(2), junk(3), junk(77), s.keys[0], s.keys[2]} {
			want := s.do("PUT", update, keyBody(key, never), stranger).want(400)
			for _, old := range []string{done, cancelled, "not a nonce"} {
				if got := s.do("PUT", update, keyBody(key, old), stranger); got.text != want.text {
					t.Errorf("open %v, share %.4s: %s and %s", open, key[64:], got.text, want.text)
				}
			}
		}
		if !open {
			continue
		}
		text := func(slot int) string {
			got := s.do("PUT", update, keyBody(junk(slot), nonce), stranger).want(400)
			return strings.ReplaceAll(got.text, fmt.Sprintf("slot %d ", slot), "slot N ")
		}
		if text(1) != text(2) || text(2) != text(3) {
			t.Errorf("a slot that has approved looks different:\n%s%s%s", text(1), text(2), text(3))
		}
		if text(4) != text(77) || text(77) != text(0) {
			t.Errorf("slots that don't exist look different:\n%s%s%s", text(4), text(77), text(0))
		}
	}
}

// What a token is granted doesn't depend on how long it took to make it.
func TestLeaseIsWhatWasAsked(t *testing.T) {
	s := ready(t, 1, 1)
	s.api.Now = func() time.Time { return s.clock.now().Add(300 * time.Millisecond) }
	for body, want := range map[string]int{
		`{"ttl":"1h"}`: 3600, `{"ttl":"1s"}`: 1, `{"ttl":90}`: 90, `{"period":"2h"}`: 7200, `{"ttl":"2h","explicit_max_ttl":"1h"}`: 3600,
	} {
		auth := s.do("POST", "auth/token/create", body, withToken(s.root)).want(200).in("auth")
		auth.is("lease_duration", want)
		if want > 1 {
			s.do("POST", "auth/token/renew-self", `{"increment":"30m"}`, withToken(auth.str("client_token"))).want(200).in("auth").
				is("lease_duration", map[bool]int{true: want, false: 1800}[strings.Contains(body, "period")])
		}
	}
}

// Whoever asks how the seal is gets an answer, in whatever state the record of the key holders is.
func TestSealStatusAlways(t *testing.T) {
	spoil := func(s *server, value string) {
		err := s.store.Update(t.Context(), func(tx store.Tx) error { return tx.Put("plain/seal", []byte(value)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sealed := range []bool{true, false} {
		for _, value := range []string{"", "x", "{", `{"version":1}`, "\x00\xff", "[]\n[]\n{}"} {
			s := newServer(t)
			s.init(3, 2)
			if !sealed {
				s.unseal(2)
			}
			spoil(s, value)
			for _, path := range []string{"sys/seal-status", "sys/init"} {
				got := s.do("GET", path, "", stranger).want(200)
				got.is("initialized", true)
				if path == "sys/seal-status" {
					got.is("sealed", sealed)
				}
			}
			s.do("PUT", "sys/init", `{"secret_shares":1,"secret_threshold":1}`).want(400, "already initialized")
			want := 503 // no share can be checked against it
			if !sealed {
				want = 200 // it is ignored
			}
			s.do("PUT", "sys/unseal", `{"key":"`+s.keys[0]+`"}`, stranger).want(want)
		}
	}
	// In a namespace too: there is one server behind them all.
	s := ready(t, 3, 2)
	for _, namespace := range []string{"team/a", "root", "/", "a/b/c/"} {
		s.do("GET", "sys/seal-status", "", withHeader("X-Vault-Namespace", namespace)).want(200).is("t", 2)
	}
	s.do("PUT", "sys/unseal", `{"reset":true}`, withHeader("X-Vault-Namespace", "team/a")).want(400, "unavailable in namespaces")
}
