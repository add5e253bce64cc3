package httpapi

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// pgpKey makes a key at a time, changes it, and returns the base64 of its public part.
func pgpKey(t *testing.T, at time.Time, lifetime uint32, change func(e *openpgp.Entity, c *packet.Config) error) string {
	t.Helper()
	c := &packet.Config{Time: func() time.Time { return at }, Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: lifetime}
	e, err := openpgp.NewEntity("holder", "", "holder@example.com", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := change(e, c); err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(public.Bytes())
}

// rsaSubkey puts an RSA key of so many bits in the place of the key to encrypt to. It is properly bound; that no prime is
// in it can't be seen.
func rsaSubkey(bits int) func(*openpgp.Entity, *packet.Config) error {
	return func(e *openpgp.Entity, c *packet.Config) error {
		b := make([]byte, bits/8)
		rand.NewChaCha8([32]byte{31}).Read(b)
		b[0], b[len(b)-1] = b[0]|0x80, b[len(b)-1]|1
		key := packet.NewRSAPublicKey(c.Now(), &rsa.PublicKey{N: new(big.Int).SetBytes(b), E: 65537})
		key.IsSubkey = true
		e.Subkeys[0].PublicKey = key
		return e.Subkeys[0].Bindings[0].Packet.SignKey(key, e.PrivateKey, c)
	}
}

// T31: a key to which the token could not be sent is refused at the start, by what it lacks, and no attempt is left.
func TestUselessPGPKeys(t *testing.T) {
	s := ready(t, 3, 2)
	now := s.clock.now()
	fine := func(*openpgp.Entity, *packet.Config) error { return nil }
	good := pgpKey(t, now, 0, fine)
	keys := map[string]string{
		"sign-only": pgpKey(t, now, 0, func(e *openpgp.Entity, _ *packet.Config) error { e.Subkeys = nil; return nil }),
		"expired":   pgpKey(t, now.Add(-time.Hour), 60, fine),
		"revoked": pgpKey(t, now.Add(-time.Hour), 0, func(e *openpgp.Entity, c *packet.Config) error {
			return e.Revoke(packet.KeyCompromised, "lost", c)
		}),
		"16k bit":         pgpKey(t, now, 0, rsaSubkey(16384)),
		"garbage":         base64.StdEncoding.EncodeToString([]byte(strings.Repeat("garbage", 99))),
		"not base64":      "%%%%",
		"half":            good[:len(good)/2/4*4],
		"1 MB":            strings.Repeat("A", 1<<20),
		"64 KiB of zeros": strings.Repeat("A", 64<<10),
		"good, then 1 MB": good + strings.Repeat("A", 1<<20),
	}
	for _, path := range []string{attempt, attemptB} {
		for name, key := range keys {
			got := s.do("PUT", path, `{"pgp_key":"`+key+`"}`).want(400)
			if !strings.Contains(got.text, "PGP key") && !strings.Contains(name, "1 MB") {
				t.Errorf("%s: %s does not say what is wrong", name, got.text)
			}
			if strings.Contains(got.text, key[:4]) {
				t.Errorf("%s: %s echoes the key", name, got.text)
			}
			idle := s.do("GET", attempt, "").want(200)
			idle.is("started", false)
			idle.is("pgp_fingerprint", "")
		}
		for _, key := range []string{good, pgpKey(t, now, 0, rsaSubkey(4096))} { // or the refusals would prove nothing
			s.do("PUT", path, `{"pgp_key":"`+key+`"}`).want(200)
			s.do("DELETE", path, "").want(204)
		}
	}
	// At init a useless key costs nobody a share either.
	empty := newServer(t)
	for name, key := range keys {
		if strings.Contains(name, "1 MB") {
			continue // the whole body may be larger there
		}
		empty.do("PUT", "sys/init", `{"secret_shares":2,"secret_threshold":2,"pgp_keys":["`+good+`","`+key+`"]}`).want(400, "pgp_keys[1]")
		empty.do("PUT", "sys/init", `{"secret_shares":1,"secret_threshold":1,"root_token_pgp_key":"`+key+`"}`).want(400, "root_token_pgp_key")
	}
	empty.do("GET", "sys/init", "").want(200).is("initialized", false)
}

// full is a store whose disk is full for a while.
type full struct {
	store.Store
	now bool
}

func (f *full) Update(ctx context.Context, fn func(store.Tx) error) error {
	return f.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx); err != nil || !f.now {
			return err
		}
		return fault.New(fault.Unavailable, "the disk is full: make room, then try again")
	})
}

// T32: the store takes no writes at completion: 503 and the reason, no token, progress as it was; then the same share
// works.
func TestStoreIsFullAtCompletion(t *testing.T) {
	s := newServer(t)
	st := &full{Store: s.store}
	s.serve(st)
	s.init(3, 3)
	s.unseal(3)
	for _, path := range []string{attempt, attemptOne, attemptB} {
		approve := strings.TrimSuffix(path, "attempt") + "update"
		st.now = true
		s.do("PUT", path, "", withToken(chosenToken)).want(503, "the disk is full")
		s.do("GET", attempt, "").is("started", false)
		st.now = false
		s.do("PUT", path, "", withToken(chosenToken)).want(200)
		nonce := s.do("GET", attempt, "").str("nonce")
		for _, key := range s.keys[:2] {
			s.do("PUT", approve, keyBody(key, nonce)).want(200)
		}
		before := s.rootTokens()
		st.now = true
		for range 3 {
			got := s.do("PUT", approve, keyBody(s.keys[2], nonce)).want(503, "the disk is full: make room")
			if strings.Contains(got.text, "encoded") {
				t.Errorf("an error with a token: %s", got.text)
			}
			status := s.do("GET", attempt, "").want(200)
			status.is("progress", 2)
			status.is("nonce", nonce)
		}
		if n := s.rootTokens(); n != before {
			t.Errorf("%d tokens, want %d", n, before)
		}
		st.now = false
		s.do("PUT", approve, keyBody(s.keys[2], nonce)).want(200, `"complete":true`)
		if n := s.rootTokens(); n != before+1 {
			t.Errorf("%d tokens, want %d", n, before+1)
		}
	}
}

// rootTokens counts the live tokens.
func (s *server) rootTokens() int {
	s.t.Helper()
	return len(s.do("LIST", "auth/token/accessors", "", withToken(s.root)).want(200).in("data").body["keys"].([]any))
}

// T28: whoever polls beside the last approval never sees a completion without a token, on no path.
func TestPollingBesideCompletion(t *testing.T) {
	s := ready(t, 2, 2)
	for range 10 {
		start := s.do("PUT", attempt, "").want(200)
		s.do("PUT", update, keyBody(s.keys[0], start.str("nonce"))).want(200)
		stop := make(chan struct{})
		polling := make(chan struct{}, 3)
		var pollers sync.WaitGroup
		for _, path := range []string{attempt, attemptOne, attemptB} {
			pollers.Go(func() {
				for n := 0; ; n++ {
					got := s.do("GET", path, "", stranger)
					if got.code != 200 || !strings.Contains(got.text, `"complete":false`) ||
						strings.Contains(got.text, `"started":true`) != strings.Contains(got.text, `"progress":1`) {
						t.Errorf("%s: %d %s", path, got.code, got.text)
						n = 0
					}
					if n == 0 {
						polling <- struct{}{}
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for range 3 {
			<-polling
		}
		last := s.do("PUT", update, keyBody(s.keys[1], start.str("nonce"))).want(200)
		last.is("complete", true)
		xorDecode(t, last.str("encoded_token"), start.str("otp"))
		close(stop)
		pollers.Wait()
	}
}

// T33: a client that is gone before the reply to the last share can be made. However far the server came, the same
// share gets the result, and there is one token per ceremony.
func TestClientGoneBeforeTheReply(t *testing.T) {
	s := ready(t, 3, 2)
	web := httptest.NewServer(s.api.Handler(s.l))
	defer web.Close()
	addr := web.Listener.Addr().String()
	const rounds = 30
	for round := range rounds {
		start := s.do("PUT", attempt, "").want(200)
		nonce := start.str("nonce")
		s.do("PUT", update, keyBody(s.keys[0], nonce)).want(200)
		body := keyBody(s.keys[1], nonce)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /v1/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", update, addr, len(body), body)
		// At once, and up to a few milliseconds later, by when the reply is on its way: no delay is waited for.
		time.Sleep(time.Duration(round*round) * 2 * time.Microsecond)
		c.Close()
		again := s.do("PUT", update, body).want(200)
		again.is("complete", true)
		token := xorDecode(t, again.str("encoded_token"), start.str("otp"))
		s.do("GET", "auth/token/lookup-self", "", withToken(token)).want(200)
		s.do("GET", attempt, "").is("started", false)
		if n := s.rootTokens(); n != round+2 {
			t.Fatalf("%d tokens after %d ceremonies", n, round+1)
		}
	}
}
