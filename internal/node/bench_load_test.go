package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/token"
)

// loaded is how many secrets and how many tokens there are: a million with QUORATE_LOAD=1000000.
func loaded(b *testing.B) int {
	if n, err := strconv.Atoi(os.Getenv("QUORATE_LOAD")); err == nil {
		return n
	}
	return 2000
}

// folder is how many secrets there are in one folder.
const folder = 1000

// BenchmarkLoaded is a server with many secrets and as many tokens: the time to open the store and unseal (ns/op), memory,
// lists, and a read while all tokens expire at once and are swept.
func BenchmarkLoaded(b *testing.B) {
	count := loaded(b)
	path := filepath.Join(b.TempDir(), "quorate.db")
	at := &atomic.Int64{} // Unix nanoseconds of the clock
	at.Store(time.Now().UnixNano())
	options := Options{SweepInterval: 24 * time.Hour, Now: func() time.Time { return time.Unix(0, at.Load()) }}

	st, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	options.Store = st
	n, err := New(options)
	if err != nil {
		b.Fatal(err)
	}
	res, err := n.Init(b.Context(), InitRequest{Shares: 1, Threshold: 1})
	if err != nil {
		b.Fatal(err)
	}
	unsealed(b, n, res.Keys[0])
	fill(b, n, res.RootToken, count)
	for b.Loop() {
		n.Close()
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
		if st, err = bolt.Open(path, bolt.Options{}); err != nil {
			b.Fatal(err)
		}
		options.Store = st
		if n, err = New(options); err != nil {
			b.Fatal(err)
		}
		unsealed(b, n, res.Keys[0])
	}
	defer func() {
		n.Close()
		st.Close()
	}()
	b.ReportMetric(resident(b), "MB-resident")
	b.ReportMetric(list(b, n, res.RootToken, "secret/metadata/").Seconds()*1000, "ms/list-folders")
	b.ReportMetric(list(b, n, res.RootToken, "secret/metadata/0/").Seconds()*1000, "ms/list-1000")
	storm(b, n, res.RootToken, at, count)
}

func unsealed(b *testing.B, n *Node, key []byte) {
	b.Helper()
	if _, err := n.Unseal(b.Context(), secret.Copy(key), true, ""); err != nil {
		b.Fatal(err)
	}
}

// fill writes the secrets and the tokens, many in one transaction.
func fill(b *testing.B, n *Node, root secret.Bytes, count int) {
	b.Helper()
	const batch = 500
	a := Access{Token: root, Path: "sys/mounts/secret", Capability: policy.Update}
	err := n.Update(b.Context(), a, func(c *Call) error {
		return c.Enable(mount.Entry{Path: "secret/", Type: "kv", Options: map[string]string{"version": "2"}})
	})
	if err != nil {
		b.Fatal(err)
	}
	data := map[string]any{"data": map[string]any{"user": "app", "password": "correct horse battery staple"}}
	for from := 0; from < count; from += batch {
		err := n.Update(b.Context(), a, func(c *Call) error {
			for i := from; i < min(from+batch, count); i++ {
				q := SetupRequest{Path: fmt.Sprintf("secret/data/%d/%d", i/folder, i%folder), Data: data}
				if err := n.setupRequest(b.Context(), c.Tx, q); err != nil {
					return err
				}
				_, _, _, err := c.Create(token.Spec{Path: "auth/token/create", Orphan: true, Policies: []string{"default"}, TTL: time.Hour})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func serve(b *testing.B, n *Node, root secret.Bytes, op engine.Operation, want policy.Capability, path string) {
	b.Helper()
	a := Access{Token: root, Path: strings.TrimSuffix(path, "/"), Capability: want}
	resp, _, err := n.Serve(b.Context(), a, n.Locate(path), EngineRequest{Op: op})
	if err != nil || resp.Data == nil {
		b.Fatal(path, resp, err)
	}
}

func list(b *testing.B, n *Node, root secret.Bytes, path string) time.Duration {
	b.Helper()
	begin := time.Now()
	serve(b, n, root, engine.List, policy.List, path)
	return time.Since(begin)
}

// storm lets all tokens expire at once, and reads on while they are swept.
func storm(b *testing.B, n *Node, root secret.Bytes, at *atomic.Int64, count int) {
	b.Helper()
	quiet := reads(b, n, root, count, func() bool { return true })
	at.Add(int64(2 * time.Hour))
	act := n.active.Load()
	done := make(chan time.Duration, 1)
	go func() {
		begin := time.Now()
		if err := n.sweepTokens(context.Background(), act); err != nil {
			b.Error(err)
		}
		done <- time.Since(begin)
	}()
	var took time.Duration
	busy := reads(b, n, root, count, func() bool {
		select {
		case took = <-done:
			return true
		default:
			return false
		}
	})
	if took == 0 {
		took = <-done
	}
	var left int
	err := act.Barrier.View(b.Context(), func(r store.Reader) (err error) {
		_, left, err = act.tokens.CountLeases(r, func(string) string { return "" })
		return err
	})
	if err != nil || left != 0 {
		b.Fatalf("%d leases are left, %v", left, err)
	}
	b.ReportMetric(took.Seconds(), "s/storm")
	b.ReportMetric(float64(busy)/float64(quiet), "p99-read-in-storm/quiet")
}

// reads returns the 99th percentile of reading secrets: at least a thousand, and until over says so.
func reads(b *testing.B, n *Node, root secret.Bytes, count int, over func() bool) time.Duration {
	b.Helper()
	var took []time.Duration
	for i := 0; ; i++ {
		begin := time.Now()
		serve(b, n, root, engine.Read, policy.Read, fmt.Sprintf("secret/data/%d/%d", i*7919%count/folder, i*7919%count%folder))
		took = append(took, time.Since(begin))
		if i >= 1000 && over() {
			break
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// resident is the memory of this process that is in the machine's, in MB; 0 where the system doesn't say.
func resident(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}
