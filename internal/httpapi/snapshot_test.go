package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

const snapshotPath = "sys/storage/snapshot"

// serverOver is an unsealed server over a store.
func serverOver(t *testing.T, st store.Store) *server {
	t.Helper()
	s := newServer(t)
	s.store = st
	s.serve(st)
	s.init(1, 1)
	s.unseal(1)
	return s
}

// grow makes the store so large that a snapshot doesn't fit into what lies between server and client.
func (s *server) grow() {
	s.t.Helper()
	for i := range 24 {
		err := s.store.Update(s.t.Context(), func(tx store.Tx) error {
			return tx.Put(fmt.Sprintf("grown/%02d", i), bytes.Repeat([]byte{byte(i)}, store.MaxValue))
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func fetchSnapshot(t *testing.T, web *httptest.Server, token string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", web.URL+"/v1/"+snapshotPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Vault-Token", token)
	res, err := web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// A snapshot takes longer than other replies may, in either version of HTTP, and nothing that is encrypted in the store is
// in clear in it.
func TestSnapshotIsStreamed(t *testing.T) {
	for name, option := range map[string]func(*httptest.Server){
		"HTTP/1.1": func(*httptest.Server) {}, "HTTP/2": func(w *httptest.Server) { w.EnableHTTP2 = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := serverOver(t, inmem.New())
			s.l.MaxRequestDuration = 50 * time.Millisecond
			s.grow()
			res := fetchSnapshot(t, s.live(option), s.root)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != octets {
				t.Fatal(res.Status, res.Header)
			}
			<-time.After(100 * time.Millisecond) // longer than any other reply may take
			var kept bytes.Buffer
			sum, err := snapshot.Inspect(io.TeeReader(res.Body, &kept))
			if err != nil {
				t.Fatal(err)
			}
			if sum.Header.StorageType != "inmem" || sum.Header.Version != "0.1.0" || sum.Bytes < 24<<20 {
				t.Errorf("%+v", sum)
			}
			if strings.Contains(kept.String(), s.root) {
				t.Error("a token is in the snapshot")
			}
		})
	}
}

// It takes sudo, on the path by which it is asked for.
func TestWhoMaySaveSnapshots(t *testing.T) {
	s := ready(t, 1, 1)
	for path, capabilities := range map[string]string{snapshotPath: `"read","sudo"`, "sys/storage/raft/snapshot": `"read"`} {
		text := fmt.Sprintf(`path %q { capabilities = [%s] }`, path, capabilities)
		s.do("PUT", "sys/policies/acl/"+strings.ReplaceAll(path, "/", "-"), fmt.Sprintf(`{"policy":%q}`, text), withToken(s.root)).want(204)
	}
	operator, _ := s.newToken(`{"policies":["sys-storage-snapshot"]}`)
	weak, _ := s.newToken(`{"policies":["sys-storage-raft-snapshot"]}`)
	s.do("GET", snapshotPath, "", withToken(operator)).want(200)
	s.do("GET", snapshotPath, "", withToken(weak)).wantErrors(403, "permission denied")
	s.do("GET", "sys/storage/raft/snapshot", "", withToken(operator)).wantErrors(403, "permission denied")
	s.do("GET", "sys/storage/raft/snapshot", "", withToken(weak)).wantErrors(403, "permission denied")
	s.do("GET", "sys/storage/raft/snapshot", "", withToken(s.root)).want(200, "quorate snapshot")
}

// breaking is a store whose scans of everything break off, once it is told to, before or after a part has been read.
type breaking struct {
	store.Store
	after atomic.Int64 // bytes; 0: never
}

var errBreaking = errors.New("the disk is gone")

func (b *breaking) View(ctx context.Context, fn func(store.Reader) error) error {
	return b.Store.View(ctx, func(r store.Reader) error { return fn(breakingReader{r, b.after.Load()}) })
}

type breakingReader struct {
	store.Reader
	left int64
}

func (b breakingReader) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	if prefix != "" || b.left == 0 {
		return b.Reader.Scan(prefix, after)
	}
	return func(yield func(store.Entry, error) bool) {
		for e, err := range b.Reader.Scan(prefix, after) {
			if b.left -= int64(len(e.Value)); b.left <= 0 {
				yield(store.Entry{}, errBreaking)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// What can't be finished is an error while nothing has been sent, and a broken connection afterwards.
func TestSnapshotThatBreaksOff(t *testing.T) {
	b := &breaking{Store: inmem.New()}
	s := serverOver(t, b)
	s.grow()
	web := s.live()
	b.after.Store(1)
	res := fetchSnapshot(t, web, s.root)
	if text, err := io.ReadAll(res.Body); res.StatusCode != 500 || err != nil || !bytes.Contains(text, []byte("internal error")) {
		t.Errorf("%s %s, %v", res.Status, text, err)
	}
	b.after.Store(8 << 20)
	res = fetchSnapshot(t, web, s.root)
	if n, err := io.Copy(io.Discard, res.Body); res.StatusCode != 200 || n == 0 || err == nil {
		t.Errorf("%s, %d bytes, %v", res.Status, n, err)
	}
	if !strings.Contains(s.log.String(), errBreaking.Error()) {
		t.Error("the log doesn't say why")
	}
}
