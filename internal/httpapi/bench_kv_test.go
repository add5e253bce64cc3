package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
)

// connections is how many clients ask at once.
const connections = 64

// kvServer is an unsealed server over a bolt file, with key/value version 2 at secret/ and a token whose policy allows it.
func kvServer(b *testing.B) (url, root, token string) {
	b.Helper()
	st, err := bolt.Open(filepath.Join(b.TempDir(), "quorate.db"), bolt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	url, root, _ = serveBench(b, st)
	send(b, "POST", url+"/v1/sys/mounts/secret", root, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}, 204)
	send(b, "POST", url+"/v1/sys/policies/acl/app", root, map[string]any{"policy": `path "secret/*" { capabilities = ["create", "read", "update", "list"] }`}, 204)
	created := send(b, "POST", url+"/v1/auth/token/create", root, map[string]any{"policies": []string{"app"}}, 200)
	return url, root, created["auth"].(map[string]any)["client_token"].(string)
}

func serveBench(b *testing.B, st store.Store) (url, root string, n *node.Node) {
	b.Helper()
	n, err := node.New(node.Options{Store: st, SweepInterval: 24 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	res, err := n.Init(b.Context(), node.InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := n.Unseal(b.Context(), secret.Copy(res.Keys[0]), true, ""); err != nil {
		b.Fatal(err)
	}
	api := New(Options{Node: n, Logger: slog.New(slog.DiscardHandler), Version: "0.1.0", StorageType: "bolt", Limits: unlimited})
	s := httptest.NewServer(api.Handler(Listener{Name: "bench", APIAddrLoopback: true}))
	b.Cleanup(s.Close)
	return s.URL, string(res.RootToken.Reveal()), n
}

// hammer sends n requests over so many connections at once, and returns how long that took. make returns the i-th one.
func hammer(b *testing.B, n int, request func(i int) *http.Request) time.Duration {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range connections {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				res, err := client.Do(request(i))
				if err != nil {
					b.Error(err)
					return
				}
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode >= 300 {
					b.Errorf("%d %s", res.StatusCode, text)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

func newRequest(method, url, token string, body []byte) *http.Request {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set("X-Vault-Token", token)
	return r
}

// BenchmarkKVRead reads secrets over 64 connections, against a bare net/http handler that encodes a reply of the same size,
// in turns. ratio is our rate as a part of the bare one.
func BenchmarkKVRead(b *testing.B) {
	url, _, token := kvServer(b)
	const secrets = 100
	for i := range secrets {
		send(b, "POST", fmt.Sprintf("%s/v1/secret/data/app/%d", url, i), token, map[string]any{"data": map[string]string{"password": "correct horse battery staple", "user": "app"}}, 200)
	}
	reply := send(b, "GET", url+"/v1/secret/data/app/1", token, nil, 200)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(reply)
	}))
	defer bare.Close()
	var ours, theirs time.Duration
	for b.Loop() {
		ours += hammer(b, 10*connections, func(i int) *http.Request {
			return newRequest("GET", fmt.Sprintf("%s/v1/secret/data/app/%d", url, i%secrets), token, nil)
		})
		theirs += hammer(b, 10*connections, func(int) *http.Request { return newRequest("GET", bare.URL, token, nil) })
	}
	b.ReportMetric(float64(theirs)/float64(ours), "ratio")
}

// BenchmarkKVWrite writes secrets over 64 connections, each durable when it is answered, against a bare handler that puts
// as many records, as long, into bbolt with the same grouping of commits. ratio is our rate as a part of the bare one.
func BenchmarkKVWrite(b *testing.B) {
	url, _, token := kvServer(b)
	bare := httptest.NewServer(bareWriter(b))
	defer bare.Close()
	body, _ := json.Marshal(map[string]any{"data": map[string]string{"password": "correct horse battery staple", "user": "app"}})
	var ours, theirs time.Duration
	round := 0
	for b.Loop() {
		round++
		ours += hammer(b, 4*connections, func(i int) *http.Request {
			return newRequest("POST", fmt.Sprintf("%s/v1/secret/data/%d/%d", url, round, i), token, body)
		})
		theirs += hammer(b, 4*connections, func(i int) *http.Request {
			return newRequest("POST", fmt.Sprintf("%s/%d/%d", bare.URL, round, i), token, body)
		})
	}
	b.ReportMetric(float64(theirs)/float64(ours), "ratio")
}

// bareWriter puts two records for each request, as long as those of a new secret, with one commit for all that wait.
func bareWriter(b *testing.B) http.Handler {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	type put struct {
		path string
		done chan error
	}
	queue := make(chan put, connections)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	b.Cleanup(func() {
		cancel()
		wg.Wait()
		db.Close()
	})
	value := make([]byte, 300)
	wg.Go(func() {
		for {
			var batch []put
			select {
			case p := <-queue:
				batch = append(batch, p)
			case <-ctx.Done():
				return
			}
			for len(queue) > 0 {
				batch = append(batch, <-queue)
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				bucket, err := tx.CreateBucketIfNotExists([]byte("b"))
				for _, p := range batch {
					if err == nil {
						err = bucket.Put([]byte("meta"+p.path), value)
					}
					if err == nil {
						err = bucket.Put([]byte("data"+p.path), value)
					}
				}
				return err
			})
			for _, p := range batch {
				p.done <- err
			}
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v map[string]any
		if json.NewDecoder(r.Body).Decode(&v) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p := put{r.URL.Path, make(chan error, 1)}
		queue <- p
		if <-p.done != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	})
}
