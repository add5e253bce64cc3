package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// canary stands for a share in places where none may be. It is well-formed, so that nothing refuses it for its looks.
const canary = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee0001"

// request is what the fake server saw.
type request struct {
	method, path, query, body string
	header                    http.Header
}

// rig is a command line in front of a fake server, with an environment of its own.
type rig struct {
	t         *testing.T
	url       string
	answers   map[string]http.HandlerFunc // :: "METHOD path" → answer
	mu        sync.Mutex
	answering sync.Mutex // one request at a time
	seen      []request
	tty       *fakeTTY // nil: no terminal
	stdin     string
	stdout    io.Writer // nil: the result's
	serve     serveFunc
	ctx       context.Context
}

func newRig(t *testing.T) *rig {
	t.Helper()
	cleanEnvironment(t)
	r := &rig{t: t, answers: map[string]http.HandlerFunc{}, ctx: t.Context()}
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	r.url = srv.URL
	t.Setenv("BAO_ADDR", srv.URL)
	return r
}

// cleanEnvironment takes away what the developer's own environment says.
func cleanEnvironment(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "BAO_") || strings.HasPrefix(name, "VAULT_") {
			t.Setenv(name, "") // so that it is restored
			os.Unsetenv(name)
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("BAO_MAX_RETRIES", "0")
}

func (r *rig) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.seen = append(r.seen, request{req.Method, req.URL.Path, req.URL.RawQuery, string(body), req.Header})
	answer := r.answers[req.Method+" "+strings.TrimPrefix(req.URL.Path, "/v1/")]
	r.mu.Unlock()
	if answer == nil {
		refuse(w, http.StatusForbidden, "permission denied")
		return
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.answering.Lock()
	defer r.answering.Unlock()
	answer(w, req)
}

// on makes the server answer with a status and, if there is one, a JSON body.
func (r *rig) on(endpoint string, status int, body any) {
	r.answers[endpoint] = func(w http.ResponseWriter, _ *http.Request) { reply(w, status, body) }
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if text, ok := body.(string); ok {
		io.WriteString(w, text)
	} else if body != nil {
		json.NewEncoder(w).Encode(body)
	}
}

func refuse(w http.ResponseWriter, status int, texts ...string) {
	reply(w, status, map[string]any{"errors": texts})
}

// result is how a run ended.
type result struct {
	code     int
	out, err string
}

func (r *rig) run(args ...string) result {
	r.t.Helper()
	var out, err bytes.Buffer
	a := &app{stdin: strings.NewReader(r.stdin), stdout: &out, stderr: &err, serve: r.serve}
	if r.stdout != nil {
		a.stdout = r.stdout
	}
	a.openTTY = func() (terminal, error) {
		if r.tty == nil {
			return nil, errNoTerminal
		}
		return r.tty, nil
	}
	code := a.main(r.ctx, args)
	if r.tty != nil {
		for _, prompt := range r.tty.prompts {
			if len(prompt) > 79 {
				r.t.Errorf("a prompt of %d characters: %s", len(prompt), prompt)
			}
		}
	}
	return result{code, out.String(), err.String()}
}

// ok runs a command that must succeed.
func (r *rig) ok(args ...string) result {
	r.t.Helper()
	got := r.run(args...)
	if got.code != 0 {
		r.t.Fatalf("%v: exit %d\n%s%s", args, got.code, got.out, got.err)
	}
	return got
}

// fails runs a command that must end with this code and say all of these.
func (r *rig) fails(code int, texts []string, args ...string) result {
	r.t.Helper()
	got := r.run(args...)
	if got.code != code {
		r.t.Errorf("%v: exit %d, want %d\n%s%s", args, got.code, code, got.out, got.err)
	}
	for _, text := range texts {
		if !strings.Contains(got.err, text) {
			r.t.Errorf("%v: no %q in:\n%s", args, text, got.err)
		}
	}
	return got
}

// last is the last request that the server saw.
func (r *rig) last() request {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) == 0 {
		r.t.Fatal("the server saw no request")
	}
	return r.seen[len(r.seen)-1]
}

// given is the last request that was no question.
func (r *rig) given() (last request) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, seen := range r.seen {
		if seen.method != "GET" {
			last = seen
		}
	}
	return last
}

// fakeTTY is a person who has prepared their answers. An answer of "^C" interrupts, one of "^D" ends the input.
type fakeTTY struct {
	answers []string
	prompts []string
	shown   []string
	hushed  int                 // how often the echo was switched off and not on again
	deaf    error               // why it shows nothing
	before  func(prompt string) // called before each answer
}

func (f *fakeTTY) Secret(_ context.Context, prompt string) ([]byte, error) {
	f.prompts = append(f.prompts, prompt)
	if f.before != nil {
		f.before(prompt)
	}
	if len(f.answers) == 0 {
		return nil, io.EOF
	}
	answer := f.answers[0]
	f.answers = f.answers[1:]
	return readLine(strings.NewReader(strings.NewReplacer("^C", "\x03", "^D", "\x04").Replace(answer) + "\r"))
}

func (f *fakeTTY) Show(line string) error {
	if f.deaf != nil {
		return f.deaf
	}
	f.shown = append(f.shown, line)
	return nil
}

func (f *fakeTTY) Hush() (loud func() error, err error) {
	f.hushed++
	return func() error { f.hushed--; return nil }, nil
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func wantBody(t *testing.T, got request, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got.body), &g); err != nil {
		t.Fatalf("body %q: %v", got.body, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(g)
	b, _ := json.Marshal(w)
	if string(a) != string(b) {
		t.Errorf("body %s, want %s", a, b)
	}
}

// hides fails if any of the texts shows the canary, in whole or in a piece long enough to tell something.
func hides(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(strings.ToLower(text), canary[:12]) {
			t.Errorf("the share shows in:\n%s", text)
		}
	}
}
