package httpapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store/inmem"
)

// benchServer is an unsealed server without a log, and its root token.
func benchServer(b *testing.B) (http.Handler, string) {
	b.Helper()
	n, err := node.New(node.Options{Store: inmem.New(), SweepInterval: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	res, err := n.Init(b.Context(), node.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	root := string(res.RootToken.Reveal())
	h := New(Options{Node: n, Limits: Limits{Token: Rate{PerSecond: 1e9, Burst: 1e9}}}).Handler(Listener{APIAddrLoopback: true})
	w := httptest.NewRecorder()
	body, _ := json.Marshal(map[string][]byte{"key": res.Keys[0]})
	h.ServeHTTP(w, httptest.NewRequest("PUT", "/v1/sys/unseal", bytes.NewReader(body)))
	if n.Sealed() {
		b.Fatal(w.Body.String())
	}
	return h, root
}

func overTCP(b *testing.B, h http.Handler, path, token string) {
	b.Helper()
	web := httptest.NewServer(h)
	defer web.Close()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r, _ := http.NewRequest("GET", web.URL+path, nil)
			r.Header.Set("X-Vault-Token", token)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 {
				b.Error(res.Status)
				return
			}
		}
	})
}

// bare is what a handler costs that knows nothing: the other end of the comparison in docs/benchmarks.md.
func bare() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(envelope{RequestID: "00000000-0000-0000-0000-000000000000", Data: &tokenData{Policies: []string{"root"}}})
	})
}

func BenchmarkLookupSelf(b *testing.B) {
	h, root := benchServer(b)
	b.Run("quorate", func(b *testing.B) { overTCP(b, h, "/v1/auth/token/lookup-self", root) })
	b.Run("bare", func(b *testing.B) { overTCP(b, bare(), "/v1/auth/token/lookup-self", root) })
}

func BenchmarkLookupSelfHandler(b *testing.B) {
	h, root := benchServer(b)
	for name, h := range map[string]http.Handler{"quorate": h, "bare": bare()} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "http://127.0.0.1:8200/v1/auth/token/lookup-self", nil)
			r.Header.Set("X-Vault-Token", root)
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}

func BenchmarkParseObject(b *testing.B) {
	body := []byte(`{"key":"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urqwE=","nonce":"2dbd10f1-8528-6246-09e7-82b25b8aba63"}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseObject(body, true); err != nil {
			b.Fatal(err)
		}
	}
}
