package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/etcd"
	"github.com/quorate/quorate/internal/store/postgres"
)

const (
	connections = 64 // of all clients together
	bareWorkers = 16 // for each node, which has as many connections to PostgreSQL
	secrets     = 100
	readRound   = 640
	writeRound  = 256
)

// bare is an engine's own client, doing what the store must do for a request to the mount of key/value 2.
type bare interface {
	// read reads four records of one snapshot: those of the change stamp, a token, a secret and its version.
	read(ctx context.Context, worker int, secret string) error
	// write reads them and writes two, if none has changed meanwhile.
	write(ctx context.Context, worker int, secret string) error
}

// BenchmarkCluster reads and writes secrets over 64 connections to 1, 2 and 3 nodes over one engine, each write durable when
// it is answered, and in turns sends the same to one node on bolt, and lets the engine's own client do the same
// transactions without a server around it. x-bolt and x-bare are our rate as a multiple of theirs.
func BenchmarkCluster(b *testing.B) {
	for name, start := range map[string]func(*testing.B) (func(context.Context, int) (store.Store, error), bare){
		"postgresql": startBarePostgres, "etcd": startBareEtcd,
	} {
		b.Run(name, func(b *testing.B) {
			open, own := start(b)
			shared, local := newBenchmark(b, 3, open), newBenchmark(b, 1, func(context.Context, int) (store.Store, error) {
				return bolt.Open(filepath.Join(b.TempDir(), "quorate.db"), bolt.Options{})
			})
			for n := 1; n <= 3; n++ {
				b.Run(fmt.Sprintf("read/nodes=%d", n), func(b *testing.B) {
					compare(b, shared, readRound, n*bareWorkers, func(worker int) error {
						return own.read(b.Context(), worker, fmt.Sprint(serial.Add(1)%secrets))
					}, func(count int) time.Duration { return shared.reads(b, n, count) },
						func(count int) time.Duration { return local.reads(b, 1, count) })
				})
				for _, folder := range []folder{same, another} {
					b.Run(fmt.Sprintf("write-%s/nodes=%d", folder, n), func(b *testing.B) {
						compare(b, shared, writeRound, n*bareWorkers, func(worker int) error {
							return own.write(b.Context(), worker, folder.newPath())
						}, func(count int) time.Duration { return shared.writes(b, n, count, folder) },
							func(count int) time.Duration { return local.writes(b, 1, count, folder) })
					})
				}
			}
		})
	}
}

// folder is where new secrets go: all into one, where they lie side by side in the store, or each into its own.
type folder string

const (
	same    folder = "same"
	another folder = "another"
)

func (f folder) newPath() string {
	path := fmt.Sprintf("write/%d", serial.Add(1))
	if f == another {
		path = rand.Text() + "/" + path
	}
	return path
}

// compare lets the three take turns.
func compare(b *testing.B, shared *benchmark, count, workers int, own func(worker int) error, ours, local func(count int) time.Duration) {
	b.Helper()
	before := shared.retries()
	var here, there, plain time.Duration
	rounds := 0
	for b.Loop() {
		here += ours(count)
		there += local(count)
		plain += inParallel(b, count, workers, func(worker, _ int) error { return own(worker) })
		rounds++
	}
	b.ReportMetric(float64(rounds*count)/here.Seconds(), "requests/s")
	b.ReportMetric(float64(shared.retries()-before)/float64(rounds*count), "retries/request")
	b.ReportMetric(there.Seconds()/here.Seconds(), "x-bolt")
	b.ReportMetric(plain.Seconds()/here.Seconds(), "x-bare")
	b.ReportMetric(0, "ns/op")
}

func inParallel(b *testing.B, count, workers int, do func(worker, i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := do(w, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// benchmark is a cluster with secrets, and a token that may read and write them.
type benchmark struct {
	*cluster
	token  string
	client *http.Client
}

var (
	secretBody, _ = json.Marshal(map[string]any{"data": map[string]string{"password": "correct horse battery staple", "user": "app"}})
	serial        atomic.Int64 // no secret is written twice
)

func newBenchmark(b *testing.B, nodes int, open func(context.Context, int) (store.Store, error)) *benchmark {
	b.Helper()
	c := newIdleCluster(b, 24*time.Hour, nodes, 1, 1, open)
	c.mounts()
	s := &benchmark{
		cluster: c, token: c.newToken(c.nodes[0], c.root, map[string]any{"policies": []string{"app"}}),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}},
	}
	b.Cleanup(s.client.CloseIdleConnections)
	for i := range secrets {
		if err := s.send(b.Context(), 0, "POST", fmt.Sprintf("read/%d", i), secretBody); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// retries is how often the nodes ran a transaction again because of another one.
func (s *benchmark) retries() (total uint64) {
	for _, m := range s.nodes {
		if meter, ok := m.store.(store.Meter); ok {
			total += meter.Retries()
		}
	}
	return total
}

func (s *benchmark) send(ctx context.Context, node int, method, path string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, method, *s.nodes[node].url.Load()+"/v1/two/data/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("X-Vault-Token", s.token)
	res, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("%d %s", res.StatusCode, text)
	}
	return err
}

func (s *benchmark) reads(b *testing.B, nodes, count int) time.Duration {
	b.Helper()
	return inParallel(b, count, connections, func(_, i int) error {
		return s.send(b.Context(), i%nodes, "GET", fmt.Sprintf("read/%d", i%secrets), nil)
	})
}

func (s *benchmark) writes(b *testing.B, nodes, count int, in folder) time.Duration {
	b.Helper()
	return inParallel(b, count, connections, func(_, i int) error {
		return s.send(b.Context(), i%nodes, "POST", in.newPath(), secretBody)
	})
}

var bareValue = bytes.Repeat([]byte("x"), 300)

// bareKeys are the four records that a request for a secret looks at; the last two are its own.
func bareKeys(secret string) []string {
	return []string{"stamp", "token", "meta/" + secret, "version/" + secret}
}

// barePostgres has a connection for each worker.
type barePostgres struct {
	url string
	mu  sync.Mutex
	own map[int]*pgx.Conn
}

func startBarePostgres(b *testing.B) (func(context.Context, int) (store.Store, error), bare) {
	b.Helper()
	server := engines.PostgreSQL(b)
	url := server.URL(server.NewDatabase(b))
	p := &barePostgres{url: server.URL(server.NewDatabase(b)), own: map[int]*pgx.Conn{}}
	b.Cleanup(func() {
		for _, c := range p.own {
			c.Close(context.Background())
		}
	})
	c := p.connection(b.Context(), 0)
	for _, sql := range []string{
		"create table bare (key bytea primary key, value bytea not null)",
		"insert into bare values ('stamp', repeat('x', 16)::bytea), ('token', repeat('x', 300)::bytea)",
		"insert into bare select (p || i)::bytea, repeat('x', 300)::bytea from generate_series(0, 99) i, (values ('meta/'), ('version/')) v (p)",
		"analyze",
	} {
		if _, err := c.Exec(b.Context(), sql); err != nil {
			b.Fatal(err)
		}
	}
	return func(ctx context.Context, _ int) (store.Store, error) {
		return postgres.Open(ctx, postgres.Options{URL: url})
	}, p
}

func (p *barePostgres) connection(ctx context.Context, worker int) *pgx.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.own[worker]; c != nil {
		return c
	}
	// The plans that the store asks for too: those that look through a small table conflict with every write.
	c, err := pgx.Connect(ctx, p.url+"&enable_seqscan=off&enable_bitmapscan=off")
	if err != nil {
		panic(err)
	}
	p.own[worker] = c
	return c
}

const bareSelect = "select key, value from bare where key = any($1)"

// bytesOf are keys as PostgreSQL wants them.
func bytesOf(keys []string) (list [][]byte) {
	for _, key := range keys {
		list = append(list, []byte(key))
	}
	return list
}

func (p *barePostgres) read(ctx context.Context, worker int, secret string) error {
	var batch pgx.Batch
	batch.Queue("begin isolation level serializable read only")
	batch.Queue(bareSelect, bytesOf(bareKeys(secret)))
	batch.Queue("commit")
	return p.connection(ctx, worker).SendBatch(ctx, &batch).Close()
}

func (p *barePostgres) write(ctx context.Context, worker int, secret string) error {
	c, keys := p.connection(ctx, worker), bytesOf(bareKeys(secret))
	for {
		var look, put pgx.Batch
		look.Queue("begin isolation level serializable")
		look.Queue(bareSelect, keys)
		put.Queue("insert into bare values ($1, $3), ($2, $3) on conflict (key) do update set value = excluded.value", keys[2], keys[3], bareValue)
		put.Queue("commit")
		err := c.SendBatch(ctx, &look).Close()
		if err == nil {
			err = c.SendBatch(ctx, &put).Close()
		}
		var failed *pgconn.PgError
		if !errors.As(err, &failed) || !strings.HasPrefix(failed.Code, "40") {
			return err
		}
		if _, err := c.Exec(ctx, "rollback"); err != nil {
			return err
		}
	}
}

// bareEtcd is one client for all workers, which is how it is meant to be used.
type bareEtcd struct{ *clientv3.Client }

func startBareEtcd(b *testing.B) (func(context.Context, int) (store.Store, error), bare) {
	b.Helper()
	var endpoints []string
	for _, s := range startMembers(b, true).settings {
		endpoints = append(endpoints, "http://"+s.Client)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	for i := range secrets {
		for _, key := range bareKeys(fmt.Sprint(i)) {
			if _, err := client.Put(b.Context(), "bare/"+key, string(bareValue)); err != nil {
				b.Fatal(err)
			}
		}
	}
	return func(ctx context.Context, _ int) (store.Store, error) {
		return etcd.Open(ctx, etcd.Options{Endpoints: endpoints})
	}, bareEtcd{client}
}

// look reads the four records of a secret.
func (e bareEtcd) look(ctx context.Context, secret string) (unchanged []clientv3.Cmp, err error) {
	var gets []clientv3.Op
	for _, key := range bareKeys(secret) {
		gets = append(gets, clientv3.OpGet("bare/"+key))
	}
	found, err := e.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, err
	}
	for n, key := range bareKeys(secret) {
		var revision int64
		if kvs := found.Responses[n].GetResponseRange().Kvs; len(kvs) > 0 {
			revision = kvs[0].ModRevision
		}
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision("bare/"+key), "=", revision))
	}
	return unchanged, nil
}

func (e bareEtcd) read(ctx context.Context, _ int, secret string) error {
	_, err := e.look(ctx, secret)
	return err
}

func (e bareEtcd) write(ctx context.Context, _ int, secret string) error {
	for {
		unchanged, err := e.look(ctx, secret)
		if err != nil {
			return err
		}
		keys := bareKeys(secret)
		done, err := e.Txn(ctx).If(unchanged...).
			Then(clientv3.OpPut("bare/"+keys[2], string(bareValue)), clientv3.OpPut("bare/"+keys[3], string(bareValue))).Commit()
		if err != nil || done.Succeeded {
			return err
		}
	}
}
