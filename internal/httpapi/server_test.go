package httpapi

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

// server is the wire over a real node and a store in memory.
type server struct {
	t     *testing.T
	store store.Store
	api   *API
	node  *node.Node
	clock *clock
	log   *logBuffer
	l     Listener
	ttl   time.Duration // of root tokens, by the server's configuration
	// What the people hold, after init.
	keys []string // hex
	root string
}

type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newServer is not initialised. Its listener is the default one of a server on loopback.
func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{
		t: t, store: anystore.New(t), log: &logBuffer{},
		clock: &clock{t: time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)},
		l:     Listener{Name: "test", APIAddrLoopback: true},
	}
	s.serve(s.store)
	return s
}

func (s *server) serve(st store.Store) {
	s.t.Helper()
	logger := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n, err := node.New(node.Options{Store: st, Now: s.clock.now, Logger: logger, ClusterName: "harbour", SweepInterval: 24 * time.Hour, RootTokenTTL: s.ttl})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(n.Close)
	s.node = n
	s.api = New(Options{
		Node: n, Logger: logger, Now: s.clock.now, Version: "0.1.0", StorageType: "inmem",
		Limits: Limits{Open: Rate{PerSecond: 1e6, Burst: 1e6}, Token: Rate{PerSecond: 1e6, Burst: 1e6}},
	})
	s.api.watchers.interval, s.api.watchers.life = time.Millisecond, 10*time.Millisecond
}

// ready is an unsealed server.
func ready(t *testing.T, shares, threshold int) *server {
	t.Helper()
	s := newServer(t)
	s.init(shares, threshold)
	s.unseal(threshold)
	return s
}

func (s *server) init(shares, threshold int) {
	s.t.Helper()
	got := s.do("PUT", "sys/init", fmt.Sprintf(`{"secret_shares":%d,"secret_threshold":%d}`, shares, threshold)).want(200)
	for _, key := range got.body["keys"].([]any) {
		s.keys = append(s.keys, key.(string))
	}
	s.root = got.str("root_token")
}

func (s *server) unseal(threshold int) {
	s.t.Helper()
	for _, key := range s.keys[:threshold] {
		s.do("PUT", "sys/unseal", `{"key":"`+key+`"}`).want(200)
	}
	if s.node.Sealed() {
		s.t.Fatal("still sealed")
	}
}

// option changes a request.
type option func(*http.Request)

func withToken(token string) option {
	return func(r *http.Request) { r.Header.Set("X-Vault-Token", token) }
}

func withHeader(name, value string) option {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// stranger asks from another machine.
func stranger(r *http.Request) { r.RemoteAddr = "203.0.113.7:40000" }

// response is what came back.
type response struct {
	t      *testing.T
	what   string
	code   int
	header http.Header
	text   string
	body   map[string]any // nil if it isn't JSON
}

// do sends a request from loopback, below /v1/.
func (s *server) do(method, path, body string, options ...option) *response {
	s.t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1:8200/v1/"+path, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.RemoteAddr = "127.0.0.1:40000"
	for _, o := range options {
		o(r)
	}
	return s.send(r)
}

func (s *server) send(r *http.Request) *response {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.api.Handler(s.l).ServeHTTP(w, r)
	res := w.Result()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	got := &response{t: s.t, what: r.Method + " " + r.URL.Path, code: res.StatusCode, header: res.Header, text: string(text)}
	_ = json.Unmarshal(text, &got.body)
	got.checkShape(r)
	return got
}

// checkShape holds what is true of every response there is (wire reference 1.3, 1.5).
func (g *response) checkShape(r *http.Request) {
	g.t.Helper()
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Cache-Control": "no-store",
		"Strict-Transport-Security": "max-age=31536000; includeSubDomains",
	} {
		if name == "Content-Type" && (!strings.HasPrefix(r.URL.Path, "/v1/") || g.code == 200 && isText(r.URL.Path)) {
			continue
		}
		if got := g.header.Values(name); len(got) != 1 || got[0] != value {
			g.t.Errorf("%s: header %s is %q", g.what, name, got)
		}
	}
	switch {
	case r.Method == http.MethodHead || g.code == 307 || g.header.Get("Content-Type") != "application/json":
	case g.code == 204 || g.text == "":
		if g.text != "" || g.code != 204 && g.code != 400 {
			g.t.Errorf("%s: %d with body %q", g.what, g.code, g.text)
		}
	case g.body == nil || !strings.HasSuffix(g.text, "\n"):
		g.t.Errorf("%s: the body is no JSON object and a line break: %q", g.what, g.text)
	case g.code >= 400 && r.URL.Path != "/v1/sys/health":
		list, ok := g.body["errors"].([]any)
		if _, enveloped := g.body["request_id"]; enveloped && g.code == 404 { // what is left of something that is gone
			break
		}
		if !ok || len(g.body) != 1 {
			g.t.Errorf("%s: %d without a list of errors: %s", g.what, g.code, g.text)
		}
		for _, e := range list {
			if s, ok := e.(string); !ok || s == "" {
				g.t.Errorf("%s: an error that says nothing: %s", g.what, g.text)
			}
		}
	}
}

// isText reports a path whose replies are text.
func isText(path string) bool {
	return strings.HasSuffix(path, "/watch") || path == "/v1/sys/metrics" || path == "/v1/sys/transcript/checkpoint" || strings.HasPrefix(path, "/v1/sys/storage/")
}

func (g *response) want(code int, contains ...string) *response {
	g.t.Helper()
	if g.code != code {
		g.t.Fatalf("%s: %d %s, want %d", g.what, g.code, g.text, code)
	}
	for _, s := range contains {
		if !strings.Contains(g.text, s) {
			g.t.Errorf("%s: %s, want it to contain %q", g.what, g.text, s)
		}
	}
	return g
}

// wantErrors says that the error list is exactly this.
func (g *response) wantErrors(code int, sentences ...string) {
	g.t.Helper()
	g.want(code)
	want, _ := json.Marshal(struct {
		Errors []string `json:"errors"`
	}{append([]string{}, sentences...)})
	if strings.TrimSpace(g.text) != string(want) {
		g.t.Errorf("%s: %s, want %s", g.what, g.text, want)
	}
}

// wantText says that the body is exactly this and a line break.
func (g *response) wantText(code int, text string) *response {
	g.t.Helper()
	if g.want(code); g.text != text+"\n" {
		g.t.Errorf("%s: %s, want %s", g.what, g.text, text)
	}
	return g
}

// wantJSON is wantText for an object inside.
func (g *response) wantJSON(text string) {
	g.t.Helper()
	if g.text != text {
		g.t.Errorf("%s: %s, want %s", g.what, g.text, text)
	}
}

func (g *response) str(name string) string {
	g.t.Helper()
	s, ok := g.body[name].(string)
	if !ok {
		g.t.Fatalf("%s: no text %q in %s", g.what, name, g.text)
	}
	return s
}

func (g *response) num(name string) int {
	g.t.Helper()
	f, ok := g.body[name].(float64)
	if !ok {
		g.t.Fatalf("%s: no number %q in %s", g.what, name, g.text)
	}
	return int(f)
}

func (g *response) is(name string, want any) {
	g.t.Helper()
	got, ok := g.body[name]
	if f, isNumber := got.(float64); isNumber {
		got = int64(f)
	}
	if !ok || fmt.Sprint(got) != fmt.Sprint(want) {
		g.t.Errorf("%s: %s is %v, want %v", g.what, name, got, want)
	}
}

// in goes down to an object inside.
func (g *response) in(name string) *response {
	g.t.Helper()
	body, ok := g.body[name].(map[string]any)
	if !ok {
		g.t.Fatalf("%s: no object %q in %s", g.what, name, g.text)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(g.text), &raw); err != nil {
		g.t.Fatal(err)
	}
	return &response{t: g.t, what: g.what, code: g.code, text: string(raw[name]), body: body}
}

// fieldsAre says which fields there are, in their order on the wire.
func (g *response) fieldsAre(names ...string) {
	g.t.Helper()
	if got := slices.Sorted(maps.Keys(g.body)); !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		g.t.Errorf("%s: fields %v, want %v", g.what, got, names)
	}
	at := -1
	for _, name := range names {
		next := strings.Index(g.text, `"`+name+`":`)
		if next < at {
			g.t.Errorf("%s: %s is not in its place: %s", g.what, name, g.text)
		}
		at = next
	}
}

func keyBody(key, nonce string) string { return fmt.Sprintf(`{"key":%q,"nonce":%q}`, key, nonce) }

// list is a list of texts in the reply.
func (g *response) list(name string) (texts []string) {
	g.t.Helper()
	values, ok := g.body[name].([]any)
	if !ok {
		g.t.Fatalf("%s: no list %q in %s", g.what, name, g.text)
	}
	for _, v := range values {
		texts = append(texts, v.(string))
	}
	return texts
}

// signed is the body of a holder who keeps the share at home: key is its hex, statement what it signs.
func signed(t *testing.T, key, nonce string, statement holder.Statement) string {
	t.Helper()
	share := secret.Own(unhex(t, key))
	k := holder.Derive(share, statement.ClusterID, statement.Generation)
	return fmt.Sprintf(`{"slot":%d,"signature":%q,"nonce":%q}`, statement.Slot, base64.StdEncoding.EncodeToString(k.Sign(statement)), nonce)
}

// approval is what the holder of slot signs to approve what is open.
func (s *server) approval(kind ceremony.Kind, slot int) holder.Statement {
	s.t.Helper()
	c, err := s.node.CeremonyOf(s.t.Context(), kind)
	if err != nil || c.Attempt == nil {
		s.t.Fatal("nothing to approve", err)
	}
	return c.Attempt.Statement(slot, holder.ModeSignature)
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newToken makes a token as root and returns its ID and accessor.
func (s *server) newToken(spec string, parent ...string) (id, accessor string) {
	s.t.Helper()
	by := s.root
	if len(parent) > 0 {
		by = parent[0]
	}
	auth := s.do("POST", "auth/token/create", spec, withToken(by)).want(200).in("auth")
	return auth.str("client_token"), auth.str("accessor")
}
