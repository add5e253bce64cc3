package promises

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/compat/harness"
)

// asker talks to a server over its wire.
type asker struct {
	t      *testing.T
	server *harness.Server
	header http.Header
}

// operator asks from the server's own machine; stranger, as far as the server can tell, from elsewhere.
func operator(t *testing.T, s *harness.Server) asker { return asker{t, s, http.Header{}} }

func (a asker) stranger() asker {
	return asker{a.t, a.server, http.Header{"X-Forwarded-For": {"198.51.100.9"}}}
}

func (a asker) with(token string) asker {
	h := a.header.Clone()
	h.Set("X-Vault-Token", token)
	return asker{a.t, a.server, h}
}

// fields of a request or a reply.
type fields map[string]any

func (a asker) ask(method, path string, body fields) (code int, reply fields, text string) {
	a.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.server.URL+"/v1/"+path, strings.NewReader(string(b)))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = a.header.Clone()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err = io.ReadAll(res.Body); err != nil {
		a.t.Fatal(err)
	}
	_ = json.Unmarshal(b, &reply) // some replies have no body
	return res.StatusCode, reply, string(b)
}

// want asks and demands a status code.
func (a asker) want(code int, method, path string, body fields) fields {
	a.t.Helper()
	got, reply, text := a.ask(method, path, body)
	if got != code {
		a.t.Fatalf("%s %s: %d %s, want %d", method, path, got, text, code)
	}
	return reply
}

const attempt, update = "sys/generate-root/attempt", "sys/generate-root/update"

// start starts an attempt and returns its nonce and one-time password.
func (a asker) start() (nonce, otp string) {
	a.t.Helper()
	st := a.want(200, "PUT", attempt, nil)
	return st["nonce"].(string), st["otp"].(string)
}

func (a asker) approve(i int, nonce string) fields {
	a.t.Helper()
	return a.want(200, "PUT", update, fields{"key": a.server.Hex(i), "nonce": nonce})
}

// unchanged demands that the attempt stands where it stood.
func (a asker) unchanged(nonce string, progress int) {
	a.t.Helper()
	if st := a.want(200, "GET", attempt, nil); st["nonce"] != nonce || st["progress"] != float64(progress) {
		a.t.Fatalf("the attempt is now %v, want progress %d of %s", st, progress, nonce)
	}
}

// tokens counts the live tokens, by the eyes of the first root token.
func (a asker) tokens() int {
	a.t.Helper()
	reply := a.with(a.server.Root).want(200, "LIST", "auth/token/accessors", nil)
	return len(reply["data"].(map[string]any)["keys"].([]any))
}

// lives reports whether a token is alive.
func (a asker) lives(token string) bool {
	a.t.Helper()
	code, _, _ := a.with(token).ask("GET", "auth/token/lookup-self", nil)
	return code == 200
}

func decode(t *testing.T, encoded any, otp string) string {
	t.Helper()
	text, _ := encoded.(string)
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) != len(otp) || len(b) == 0 {
		t.Fatalf("%q is no encoded token: %v", text, err)
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	return string(b)
}
