package httpapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store/inmem"
)

// unlimited keeps the benchmark's one client from meeting its own limits.
var unlimited = Limits{Open: Rate{PerSecond: 1e9, Burst: 1e9}, Token: Rate{PerSecond: 1e9, Burst: 1e9}}

// benchServer is an unsealed 3-of-5 server behind a real loopback connection.
func benchServer(b *testing.B) (url string, keys [][]byte, root string) {
	b.Helper()
	n, err := node.New(node.Options{Store: inmem.New(), SweepInterval: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	res, err := n.Init(b.Context(), node.InitRequest{Shares: 5, Threshold: 3})
	if err != nil {
		b.Fatal(err)
	}
	for _, key := range res.Keys[:3] {
		if _, err := n.Unseal(b.Context(), secret.Copy(key), true, ""); err != nil {
			b.Fatal(err)
		}
	}
	api := New(Options{Node: n, Logger: slog.New(slog.DiscardHandler), Version: "0.1.0", StorageType: "inmem", Limits: unlimited})
	s := httptest.NewServer(api.Handler(Listener{Name: "bench", APIAddrLoopback: true}))
	b.Cleanup(s.Close)
	return s.URL, res.Keys, string(res.RootToken.Reveal())
}

// send asks and expects the status, 200 if none is given.
func send(b *testing.B, method, url, token string, body any, status ...int) (fields map[string]any) {
	b.Helper()
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(text))
	if err != nil {
		b.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	want := http.StatusOK
	if len(status) > 0 {
		want = status[0]
	}
	if err != nil || res.StatusCode != want {
		b.Fatalf("%s %s: %d %s %v", method, url, res.StatusCode, out, err)
	}
	if len(out) == 0 {
		return nil
	}
	if err := json.Unmarshal(out, &fields); err != nil {
		b.Fatal(err)
	}
	return fields
}

// BenchmarkCeremony is a whole root generation of 3 of 5 over HTTP: start, three shares.
func BenchmarkCeremony(b *testing.B) {
	url, keys, _ := benchServer(b)
	for b.Loop() {
		st := send(b, "PUT", url+"/v1/sys/generate-root/attempt", "", nil)
		for _, key := range keys[:3] {
			st = send(b, "PUT", url+"/v1/sys/generate-root/update", "",
				map[string]any{"key": hex.EncodeToString(key), "nonce": st["nonce"]})
		}
		if st["complete"] != true {
			b.Fatal("not complete")
		}
	}
}

// BenchmarkLookupSelf is an authenticated read against a bare net/http JSON handler that sends a reply of the same
// size, in turns in the same run. ratio is how many times the bare handler's time ours takes.
func BenchmarkLookupSelf(b *testing.B) {
	url, _, root := benchServer(b)
	reply := send(b, "GET", url+"/v1/auth/token/lookup-self", root, nil)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(reply)
	}))
	defer bare.Close()
	var ours, theirs time.Duration
	for b.Loop() {
		begin := time.Now()
		send(b, "GET", url+"/v1/auth/token/lookup-self", root, nil)
		middle := time.Now()
		send(b, "GET", bare.URL, root, nil)
		ours += middle.Sub(begin)
		theirs += time.Since(middle)
	}
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}
