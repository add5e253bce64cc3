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

// T32 for new shares: a store that takes no writes hands none out, and changes nothing; then the same share works.
func TestStoreIsFullAtRekey(t *testing.T) {
	for _, verify := range []bool{false, true} {
		s := newServer(t)
		st := &full{Store: s.store}
		s.serve(st)
		s.init(3, 2)
		s.unseal(2)
		nonce := s.do("PUT", rekeyInit, fmt.Sprintf(`{"secret_shares":2,"secret_threshold":2,"rotate":true,"require_verification":%v}`, verify)).want(200).str("nonce")
		s.do("PUT", rekeyUpdate, keyBody(s.keys[0], nonce)).want(200)
		st.now = true
		for range 2 {
			if got := s.do("PUT", rekeyUpdate, keyBody(s.keys[1], nonce)).want(503, "the disk is full: make room"); strings.Contains(got.text, "keys") {
				t.Errorf("an error with shares: %s", got.text)
			}
			s.do("GET", rekeyInit, "").want(200).is("progress", 1)
		}
		st.now = false
		s.asBefore(nonce)
		last := s.do("PUT", rekeyUpdate, keyBody(s.keys[1], nonce)).want(200, `"complete":true`)
		s.takeKeys(last, 2)
		if verify {
			nonce = last.str("verification_nonce")
			s.do("PUT", rekeyVerify, keyBody(s.keys[0], nonce)).want(200)
			st.now = true
			s.do("PUT", rekeyVerify, keyBody(s.keys[1], nonce)).want(503, "the disk is full")
			s.do("GET", rekeyVerify, "").want(200).is("progress", 1)
			st.now = false
			s.do("PUT", rekeyVerify, keyBody(s.keys[1], nonce)).want(200, `"complete":true`)
		}
		s.sealAndUnseal(s.keys, 2)
		s.do("GET", "auth/token/lookup-self", "", withToken(s.root)).want(200)
	}
}

// asBefore says that the present shares are in force, and the attempt is as it was.
func (s *server) asBefore(nonce string) {
	s.t.Helper()
	got := s.do("GET", rekeyInit, "").want(200)
	got.is("nonce", nonce)
	got.is("required", 2)
	if text := s.do("GET", "sys/seal-status", "").text; strings.Contains(text, "retiring") {
		s.t.Errorf("half a rekey: %s", text)
	}
}

// T33 for new shares: whoever gave the last share gets them, however far the server came before their client was gone.
func TestClientGoneBeforeTheNewShares(t *testing.T) {
	s := ready(t, 3, 2)
	web := httptest.NewServer(s.api.Handler(s.l))
	defer web.Close()
	addr := web.Listener.Addr().String()
	for round := range 10 {
		nonce := s.do("PUT", rekeyInit, `{"secret_shares":3,"secret_threshold":2}`).want(200).str("nonce")
		s.do("PUT", rekeyUpdate, keyBody(s.keys[0], nonce)).want(200)
		body := keyBody(s.keys[2], nonce)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /v1/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", rekeyUpdate, addr, len(body), body)
		time.Sleep(time.Duration(round*round) * 20 * time.Microsecond)
		c.Close()
		last := s.do("PUT", rekeyUpdate, body).want(200)
		s.do("PUT", rekeyUpdate, body).wantText(200, strings.TrimSpace(last.text))
		s.takeKeys(last, 3)
		s.sealAndUnseal(s.keys, 2)
	}
}

// T23 and T26: of two starts one wins; however many shares come at once there is one new generation; and a root
// generation that the old holders approve beside it either came to its end before it, or never does.
func TestRekeyRaces(t *testing.T) {
	const crowd = 6
	for range 5 {
		s := ready(t, crowd, 3)
		at := func(n int, f func(i int) *response) (good []*response) {
			all := make([]*response, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { all[i] = f(i) })
			}
			wg.Wait()
			for _, r := range all {
				if r.code == 200 {
					good = append(good, r)
				} else if r.code != 400 {
					t.Errorf("%s: %d %s", r.what, r.code, r.text)
				}
			}
			return good
		}
		started := at(crowd, func(int) *response { return s.do("PUT", rekeyInit, `{"secret_shares":4,"secret_threshold":3}`) })
		if len(started) != 1 {
			t.Fatalf("%d starts won", len(started))
		}
		nonce := started[0].str("nonce")
		root := s.do("PUT", attempt, "").want(200)
		var tokens []string
		var last *response
		for _, r := range at(2*crowd, func(i int) *response {
			if i%2 == 0 {
				return s.do("PUT", rekeyUpdate, keyBody(s.keys[i/2], nonce))
			}
			return s.do("PUT", update, keyBody(s.keys[i/2], root.str("nonce")))
		}) {
			switch {
			case r.body["complete"] != true:
			case r.body["keys"] == nil:
				tokens = append(tokens, xorDecode(t, r.str("encoded_token"), root.str("otp")))
			case last != nil:
				t.Error("two sets of shares")
			default:
				last = r
			}
		}
		if last == nil || len(tokens) > 1 {
			t.Fatalf("no new shares, or %d tokens", len(tokens))
		}
		s.takeKeys(last, 4)
		if n := s.rootTokens(); n != 1+len(tokens) {
			t.Errorf("%d tokens, but %d replies with one", n-1, len(tokens))
		}
		s.do("GET", attempt, "").want(200).is("started", false)
		s.sealAndUnseal(s.keys, 3)
	}
}

// T52 for new shares: they are in the reply that hands them out and nowhere else; nothing of them is left in the
// server's own memory once it is out.
func TestNewSharesLeakNowhere(t *testing.T) {
	s := ready(t, 2, 2)
	var handed [][]byte
	update := s.api.routes[rekeyUpdate].ops[opUpdate]
	s.api.routes[rekeyUpdate].ops[opUpdate] = func(x *exchange) (*reply, error) {
		rep, err := update(x)
		if r, ok := rep.raw.(rekeyResult); ok {
			handed = append(handed, r.KeysBase64...)
			for _, key := range r.KeysBase64 {
				if len(bytes.Trim(key, "\x00")) == 0 {
					t.Error("nothing was there to begin with")
				}
			}
		}
		return rep, err
	}
	last, nonce := s.rekeyed(`{"secret_shares":3,"secret_threshold":2,"require_verification":true}`, 2)
	s.do("PUT", rekeyUpdate, keyBody(s.keys[1], nonce)).want(200)
	if len(handed) != 6 {
		t.Fatalf("%d shares were handed out, want 6", len(handed))
	}
	for i, key := range handed {
		if len(bytes.Trim(key, "\x00")) > 0 {
			t.Errorf("share %d is still there", i)
		}
	}
	for _, key := range last.list("keys") {
		c := newCanaries(t, key, s.root, "there-is-no-one-time-password")
		for _, path := range []string{rekeyInit, rekeyVerify, "sys/ceremonies", "sys/ceremonies/" + nonce, "sys/ceremonies/holders"} {
			c.sing(t, path, s.do("GET", path, "").text)
		}
		for _, method := range []string{"GET", "PUT"} {
			c.sing(t, "result", s.do(method, "sys/ceremonies/"+nonce+"/result", "", withToken(s.root)).text)
		}
		c.sing(t, "the backup", s.do("GET", "sys/rekey/backup", "", withToken(s.root)).want(400).text)
		c.sing(t, "the transcript", s.do("GET", "sys/transcript/entries?limit=1000", "").want(200).text)
		c.sing(t, "the log", s.log.String())
	}
}
