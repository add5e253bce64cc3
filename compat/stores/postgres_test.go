package stores

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/postgres"
	"github.com/quorate/quorate/internal/store/storetest"
)

func newTable() string { return "t" + strings.ToLower(rand.Text()) }

// openPostgres opens a store, in a new table unless the options name one.
func openPostgres(t testing.TB, opts postgres.Options) *postgres.Store {
	t.Helper()
	if opts.Table == "" {
		opts.Table = newTable()
	}
	s, err := postgres.Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// refusedPostgres returns what Open says instead of opening.
func refusedPostgres(t *testing.T, opts postgres.Options) string {
	t.Helper()
	s, err := postgres.Open(context.Background(), opts)
	if err == nil {
		s.Close()
		t.Fatal("opened")
	}
	return err.Error()
}

// overBarrier is a barrier that closes the store below with itself.
type overBarrier struct {
	*barrier.Barrier
	below store.Store
}

func (o overBarrier) Close() error { return errors.Join(o.Barrier.Close(), o.below.Close()) }

func newBarrier(t *testing.T, st store.Store) store.Store {
	t.Helper()
	rootKey := func() secret.Bytes {
		sum := sha256.Sum256([]byte("root"))
		return secret.Own(sum[:])
	}
	err := st.Update(context.Background(), func(tx store.Tx) error {
		_, err := barrier.Create(tx, rootKey(), time.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := barrier.Open(context.Background(), st, rootKey())
	if err != nil {
		t.Fatal(err)
	}
	return overBarrier{b, st}
}

func TestPostgresConformance(t *testing.T) {
	url := engines.PostgreSQL(t).URL("postgres")
	t.Run("Store", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return openPostgres(t, postgres.Options{URL: url}) })
	})
	t.Run("Barrier", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return newBarrier(t, openPostgres(t, postgres.Options{URL: url}))
		})
	})
}

func pgPut(s store.Store, key, value string) error {
	return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
}

// pgAdd reads before it writes, as nearly every Update of the product does.
func pgAdd(s store.Store, key, more string) error {
	return s.Update(context.Background(), func(tx store.Tx) error {
		values, err := tx.Get(key)
		if err != nil {
			return err
		}
		return tx.Put(key, append(bytes.Clone(values[0]), more...))
	})
}

func pgGet(s store.Store, key string) (value string, err error) {
	err = s.View(context.Background(), func(r store.Reader) error {
		values, err := r.Get(key)
		if err == nil {
			value = string(values[0])
		}
		return err
	})
	return value, err
}

func wantPostgres(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	if got, err := pgGet(s, key); err != nil || got != want {
		t.Errorf("%q reads %q, %v; want %q", key, got, err, want)
	}
}

// wantUnavailable checks an error that a client is told as 503, of a write that certainly was not made.
func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable {
		t.Errorf("without the database: %v, want an Unavailable fault", err)
	}
	if errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("nothing was sent, and yet: %v", err)
	}
}

func TestPostgresRefusesServersThatLoseWrites(t *testing.T) {
	server := engines.OwnPostgreSQL(t, "fsync=off")
	if got := refusedPostgres(t, postgres.Options{URL: server.URL("postgres")}); !strings.Contains(got, "fsync = off") {
		t.Errorf("fsync=off is refused with %q", got)
	}
	shared := engines.PostgreSQL(t)
	for name, opts := range map[string]postgres.Options{
		"by the URL": {URL: shared.URL("postgres") + "&synchronous_commit=off"},
		"by the database": func() postgres.Options {
			name := shared.NewDatabase(t)
			shared.Exec(t, "postgres", "alter database "+name+" set synchronous_commit = off")
			return postgres.Options{URL: shared.URL(name)}
		}(),
	} {
		if got := refusedPostgres(t, opts); !strings.Contains(got, "synchronous_commit = off") {
			t.Errorf("synchronous_commit=off %s is refused with %q", name, got)
		}
	}
	readOnly := postgres.Options{URL: shared.URL("postgres") + "&default_transaction_read_only=on"}
	if got := refusedPostgres(t, readOnly); !strings.Contains(got, "takes no writes") {
		t.Errorf("a database that is read-only is refused with %q", got)
	}
}

func TestPostgresSurvivesServer(t *testing.T) {
	server := engines.OwnPostgreSQL(t)
	s := openPostgres(t, postgres.Options{URL: server.URL("postgres")})
	for name, end := range map[string]func(){"killed": server.Kill, "stopped": server.Stop} {
		for _, write := range []func(store.Store, string, string) error{pgPut, pgAdd} {
			if err := pgPut(s, "k", name); err != nil {
				t.Fatal(err)
			}
			end()
			_, err := pgGet(s, "k")
			wantUnavailable(t, err)
			wantUnavailable(t, write(s, "k", "never"))
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			wantPostgres(t, s, "k", name) // the first call after the start

			end() // nobody notices this time
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			if err := write(s, "other", "w"); err != nil {
				t.Errorf("%s and started again between two calls: %v", name, err)
			}
		}
	}
}

func TestPostgresSurvivesNetwork(t *testing.T) {
	server := engines.PostgreSQL(t)
	proxy := engines.NewProxy(t, server.Address())
	s := openPostgres(t, postgres.Options{URL: server.URLAt(proxy.Address(), "postgres"), Timeout: 2 * time.Second})
	for name, fail := range map[string]func(){"cut": proxy.Cut, "hang": proxy.Hang} {
		if err := pgPut(s, "k", name); err != nil {
			t.Fatal(err)
		}
		fail()
		_, err := pgGet(s, "k")
		wantUnavailable(t, err)
		wantUnavailable(t, pgAdd(s, "k", "never"))
		wantUnavailable(t, pgPut(s, "k", "never"))
		proxy.Heal()
		wantPostgres(t, s, "k", name)
	}
	proxy.Cut()
	proxy.Heal()
	if err := pgPut(s, "k", "after the cut"); err != nil {
		t.Errorf("a blind write over a connection that died in the pool: %v", err)
	}
	wantPostgres(t, s, "k", "after the cut")
}

func TestPostgresCallerGoesAway(t *testing.T) {
	server := engines.PostgreSQL(t)
	proxy := engines.NewProxy(t, server.Address())
	s := openPostgres(t, postgres.Options{URL: server.URLAt(proxy.Address(), "postgres"), Timeout: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	proxy.Filter(func(toServer bool, data []byte) bool {
		if toServer && bytes.Contains(data, []byte("begin")) {
			cancel() // while the read is under way
			proxy.Hang()
		}
		return true
	})
	err := s.View(ctx, func(r store.Reader) error {
		_, err := r.Get("k")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a View that its caller leaves returns %v", err)
	}
	proxy.Heal()
	wantPostgres(t, s, "k", "")
}

// A connection that dies around COMMIT: the caller is told the truth, which may be that nobody knows.
func TestPostgresCommitIsCut(t *testing.T) {
	server := engines.PostgreSQL(t)
	for name, test := range map[string]struct {
		afterwards string
		answer     bool // the server gets COMMIT, and its answer is lost
	}{
		"request lost": {"before", false},
		"answer lost":  {"before and more", true},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := engines.NewProxy(t, server.Address())
			s := openPostgres(t, postgres.Options{URL: server.URLAt(proxy.Address(), "postgres")})
			if err := pgPut(s, "k", "before"); err != nil {
				t.Fatal(err)
			}
			var committing atomic.Bool
			proxy.Filter(func(toServer bool, data []byte) bool {
				if toServer && bytes.Contains(data, []byte("commit\x00")) && bytes.Contains(data, []byte("quorate_put")) {
					committing.Store(true)
					return test.answer
				}
				return toServer || !committing.Load()
			})
			err := pgAdd(s, "k", " and more")
			proxy.Heal()
			if !committing.Load() {
				t.Fatal("the proxy has not seen the commit")
			}
			if f := fault.As(err); !errors.Is(err, store.ErrUnknownOutcome) || f == nil || f.Kind != fault.Unavailable ||
				!strings.Contains(f.Sentence, "is unknown: look") {
				t.Errorf("the commit returns %v", err)
			}
			wantPostgres(t, s, "k", test.afterwards)
		})
	}
}

// The server ends a session that is in a transaction: read again over another connection, and write once.
func TestPostgresSessionEnded(t *testing.T) {
	server := engines.PostgreSQL(t)
	s := openPostgres(t, postgres.Options{URL: server.URL(server.NewDatabase(t))})
	runs := 0
	err := s.Update(context.Background(), func(tx store.Tx) error {
		runs++
		if _, err := tx.Get("k"); err != nil {
			return err
		}
		if runs == 1 {
			server.Exec(t, "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'quorate' "+
				"and state = 'idle in transaction' and datname <> 'postgres'")
			if _, err := tx.Get("k"); err == nil {
				t.Error("the session is still there")
			}
			return nil // hides the error: it must not count as success
		}
		return tx.Put("k", []byte(strconv.Itoa(runs)))
	})
	if err != nil {
		t.Fatal(err)
	}
	wantPostgres(t, s, "k", "2")
}

// A report that saw a batch closed, and so complete, must stay right: no receipt comes into that batch afterwards. The
// two writers alone have an order; only with the reader there is none.
func TestPostgresReadOnlyAnomaly(t *testing.T) {
	url := engines.PostgreSQL(t).URL("postgres")
	s := openPostgres(t, postgres.Options{URL: url})
	err := s.Update(context.Background(), func(tx store.Tx) error {
		for i := range 2000 { // keeps the other keys apart in the index, whose pages are locked too
			if err := tx.Put(fmt.Sprintf("between/%04d", i), nil); err != nil {
				return err
			}
		}
		return errors.Join(tx.Put("batch", []byte("1")), tx.Put("receipt/0/x", nil))
	})
	if err != nil {
		t.Fatal(err)
	}
	var report []string
	runs := 0
	err = s.Update(context.Background(), func(tx store.Tx) error { // adds a receipt to the open batch
		runs++
		values, err := tx.Get("batch")
		if err != nil {
			return err
		}
		if runs == 1 {
			if err := pgPut(s, "batch", "2"); err != nil { // closes it
				t.Fatal(err)
			}
			err := s.View(context.Background(), func(r store.Reader) error {
				report = nil
				if values, err := r.Get("batch"); err != nil || string(values[0]) != "2" {
					return fmt.Errorf("the report sees batch %q, %w", values[0], err)
				}
				for e, err := range r.Scan("receipt/1/", "") {
					if err != nil {
						return err
					}
					report = append(report, e.Key)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return tx.Put("receipt/"+string(values[0])+"/x", nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report) != 0 || runs < 2 || s.Retries() == 0 {
		t.Errorf("the report has %q, and the receipt was written at attempt %d (%d retries)", report, runs, s.Retries())
	}
	err = s.View(context.Background(), func(r store.Reader) error {
		for e := range r.Scan("receipt/1/", "") {
			t.Errorf("%s was added to the batch after the report", e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPostgresManyOpenAtOnce(t *testing.T) {
	server := engines.PostgreSQL(t)
	name := server.NewDatabase(t)
	server.Exec(t, name, "create schema some_schema")
	opts := postgres.Options{URL: server.URL(name), Table: "some_schema.records"}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			s, err := postgres.Open(context.Background(), opts)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := pgPut(s, strconv.Itoa(i), "v"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := server.Exec(t, name, "select (select count(*) from some_schema.records), count(*), max(version) from some_schema.records_schema")
	if fmt.Sprint(got) != "[[12 1 1]]" {
		t.Errorf("records, versions, version: %v", got)
	}
}

func TestPostgresNewerVersionIsRefused(t *testing.T) {
	server := engines.PostgreSQL(t)
	opts := postgres.Options{URL: server.URL("postgres"), Table: newTable()}
	openPostgres(t, opts)
	server.Exec(t, "postgres", "update "+opts.Table+"_schema set version = 2")
	if got := refusedPostgres(t, opts); !strings.Contains(got, "run a newer server") {
		t.Errorf("refused with %q", got)
	}
}

func TestPostgresRights(t *testing.T) {
	server := engines.PostgreSQL(t)
	name := server.NewDatabase(t)
	server.Exec(t, name, "revoke create on schema public from public; create role weak login password 'weak'")
	opts := postgres.Options{URL: strings.Replace(server.URL(name), "postgres:"+engines.PostgresPassword, "weak:weak", 1)}
	if got := refusedPostgres(t, opts); !strings.Contains(got, "make the tables yourself with: create table") {
		t.Errorf("without the right to create, refused with %q", got)
	} else {
		_, sql, _ := strings.Cut(got, "yourself with: ")
		server.Exec(t, name, sql+"; grant select on quorate, quorate_schema to weak")
	}
	opts.Table = "quorate"
	s := openPostgres(t, opts)
	if err := pgPut(s, "k", "v"); fault.As(err) == nil || !strings.Contains(err.Error(), "grant select, insert") {
		t.Errorf("a write without the right to says %v", err)
	}
	server.Exec(t, name, "grant insert, update, delete on quorate to weak")
	if err := pgPut(s, "k", "v"); err != nil {
		t.Error(err)
	}
}

// Neither errors nor the log give away how to get into the database.
func TestPostgresKeepsItsURL(t *testing.T) {
	server := engines.OwnPostgreSQL(t)
	var log bytes.Buffer
	opts := postgres.Options{URL: server.URL("postgres"), Logger: slog.New(slog.NewJSONHandler(&log, nil))}
	s := openPostgres(t, opts)
	said := []string{}
	for _, url := range []string{
		"postgres://postgres:" + engines.PostgresPassword + "wrong@" + server.Address() + "/postgres?sslmode=disable",
		"postgres://postgres:" + engines.PostgresPassword + "@" + server.Address() + "/postgres?sslmode=nonsense",
		"postgres://postgres:" + engines.PostgresPassword + "@" + server.Address() + "/postgres?sslmode=verify-full&sslrootcert=/absent.pem",
		"postgres://postgres:" + engines.PostgresPassword + "/x@[::1/postgres",
		"postgres://postgres:" + engines.PostgresPassword + "@127.0.0.1:1/postgres?connect_timeout=x",
		"postgres://postgres:" + engines.PostgresPassword + "@127.0.0.1:1/postgres",
		"host=127.0.0.1 port=1 user=postgres password=" + engines.PostgresPassword + " sslmode=require'",
		server.URL("absent"),
	} {
		bad := opts
		bad.URL = url
		said = append(said, refusedPostgres(t, bad))
	}
	server.Kill()
	_, err := pgGet(s, "k")
	said = append(said, fmt.Sprintf("%+v %#v", err, err), log.String())
	if log.Len() == 0 {
		t.Error("the log has nothing about the outage")
	}
	for _, text := range said {
		if strings.Contains(text, engines.PostgresPassword) || strings.Contains(text, "postgres://postgres") {
			t.Errorf("the database's password or URL is in: %s", text)
		}
	}
}

// A reader of a small table locks what it has read and not the table: else every two transactions would conflict.
func TestPostgresLocksNoTable(t *testing.T) {
	server := engines.PostgreSQL(t)
	name := server.NewDatabase(t)
	s := openPostgres(t, postgres.Options{URL: server.URL(name), Table: "records"})
	for i := range 5 {
		if err := pgPut(s, fmt.Sprintf("k/%d", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	server.Exec(t, name, "analyze records") // now the planner knows how small it is
	err := s.Update(context.Background(), func(tx store.Tx) error {
		if _, err := tx.Get("k/1", "k/9"); err != nil {
			return err
		}
		for _, err := range tx.Scan("k/", "k/2") {
			if err != nil {
				return err
			}
		}
		locks := server.Exec(t, name, "select locktype, relation::regclass from pg_locks where mode = 'SIReadLock' and "+
			"database = (select oid from pg_database where datname = current_database())")
		if len(locks) == 0 {
			t.Error("no predicate locks at all: is the transaction serialisable?")
		}
		for _, lock := range locks {
			if lock[0] == "relation" {
				t.Errorf("all of %s is locked", lock[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
