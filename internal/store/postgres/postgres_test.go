package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func TestTableNames(t *testing.T) {
	for name, want := range map[string]string{
		"":                      `"quorate" "quorate_schema"`,
		"user":                  `"user" "user_schema"`,
		"a.b":                   `"a"."b" "a"."b_schema"`,
		"_x9":                   `"_x9" "_x9_schema"`,
		strings.Repeat("n", 56): `"` + strings.Repeat("n", 56) + `" "` + strings.Repeat("n", 56) + `_schema"`,
		strings.Repeat("n", 57): "",
		"Upper":                 "",
		"9x":                    "",
		`x"; drop table y; --`:  "",
		"x'y":                   "",
		"a.b.c":                 "",
		".b":                    "",
		"a.":                    "",
		"pg_catalog.x":          "",
		"x\n":                   "",
		"naïve":                 "",
	} {
		got, err := parseTable(name)
		if (err == nil) != (want != "") || err == nil && got.records()+" "+got.version() != want {
			t.Errorf("%q: %s %s, %v; want %s", name, got.records(), got.version(), err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	p, err := newPool(Options{URL: "host=a,b user=u dbname=d sslmode=prefer"})
	if err != nil {
		t.Fatal(err)
	}
	if p.config.ValidateConnect == nil {
		t.Error("of several servers, a standby would do")
	}
	if got, want := p.config.ConnectTimeout, p.timeout/4; got != want { // two hosts, each with TLS and without
		t.Errorf("a dead host takes %v, want %v", got, want)
	}
	p, err = newPool(Options{URL: "postgres://u@a/d?sslmode=disable&application_name=mine&connect_timeout=1", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if p.config.ValidateConnect != nil {
		t.Error("a lone standby is refused by the driver, without our sentence")
	}
	params := p.config.RuntimeParams
	if params["application_name"] != "mine" || params["statement_timeout"] != "60000" || p.config.ConnectTimeout != time.Second {
		t.Errorf("settings are %v, %v", params, p.config.ConnectTimeout)
	}
	for _, opts := range []Options{{}, {URL: "postgres://u@a/d", Table: "A"}, {URL: "postgres://u:canary@[::1/d"}} {
		if _, err := newPool(opts); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

func TestFit(t *testing.T) {
	if err := fit("130000", "on", "remote_apply", "f", "off"); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"older":              fit("129999", "on", "on", "f", "off"),
		"fsync":              fit("150000", "off", "on", "f", "off"),
		"synchronous_commit": fit("150000", "on", "off", "f", "off"),
		"standby":            fit("150000", "on", "on", "t", "on"),
		"no writes":          fit("150000", "on", "on", "f", "on"),
	} {
		if fault.As(err) == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
}

func TestInterval(t *testing.T) {
	for _, test := range []struct{ prefix, after, from, to string }{
		{"", "", "\x00", "\xff"},
		{"", "k", "k\x00", "\xff"},
		{"a/", "", "a/", "a0"},
		{"a/", "a/b", "a/b\x00", "a0"},
		{"a/", "b", "b\x00", "a0"}, // empty
		{"a/", "a", "a/", "a0"},
		{"\U0010ffff", "", "\U0010ffff", "\xf4\x8f\xbf\xc0"},
		{"a\xff", "", "a\xff", "b"},
		{"\xff", "", "\xff", "\xff"},
	} {
		if from, to := interval(test.prefix, test.after); from != test.from || to != test.to {
			t.Errorf("interval(%q, %q) is %q, %q", test.prefix, test.after, from, to)
		}
	}
}

func TestPages(t *testing.T) {
	size, read := firstPage, 0
	for range 10 { // the size of small entries grows to a limit
		read += size
		size = nextPage(size, 300)
	}
	if size != maxPage || read > 10*maxPage {
		t.Errorf("after %d small entries a page has %d", read, size)
	}
	if got := nextPage(size, store.MaxValue+store.MaxKey); got < 1 || got > 4 {
		t.Errorf("of the biggest entries a page has %d", got)
	}
	if worst := maxPage * store.MaxValue; worst > 128<<20 {
		t.Errorf("a page can have %d MiB", worst>>20)
	}
	if got := nextPage(1, pageBytes*2); got != 1 {
		t.Errorf("a page of entries that are over its size has %d", got)
	}
}

func TestHashes(t *testing.T) {
	const want = "00000001" + "00000000" + "00000011" + "00000002" + "00000001" +
		"00000020" + "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" +
		"00000020" + "3b64db95cb55c763391c707108489ae18b4112d783300de38e033b4c98c3deaf"
	if got := fmt.Sprintf("%x", hashes([]string{"a", "bb"})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func answer(severity, code string) error {
	return &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: severity, Code: code, Message: "m"}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		err     error
		kind    kind
		say     *fault.Error
		unknown bool // when it comes at COMMIT
	}{
		{answer("ERROR", "40001"), conflict, errConflict, false},
		{answer("ERROR", "40P01"), conflict, errConflict, false},
		{answer("ERROR", "53100"), final, errFull, false},
		{answer("ERROR", "25006"), stale, errReadOnly, false},
		{answer("ERROR", "57014"), final, errSlow, false},
		{answer("ERROR", "42501"), final, errRights, false},
		{answer("ERROR", "XX000"), final, errRefused, false},
		{answer("ERROR", ""), final, errRefused, false},
		{answer("FATAL", "57P01"), stale, errDown, true},
		{answer("FATAL", "25P03"), stale, errLost, true},
		{answer("PANIC", "53100"), final, errFull, true},
		{answer("FATAL", "53300"), final, errTooMany, true},
		{answer("FATAL", "28P01"), final, errLogin, true},
		{io.ErrUnexpectedEOF, stale, errLost, true},
		{context.DeadlineExceeded, final, errSlow, true},
	} {
		f := classify(test.err)
		if f.kind != test.kind || fault.As(f.err) != test.say {
			t.Errorf("%v: kind %d, %v", test.err, f.kind, f.err)
		}
		late := f.afterCommit()
		if errors.Is(late.err, store.ErrUnknownOutcome) != test.unknown {
			t.Errorf("%v at COMMIT: %v", test.err, late.err)
		}
		if test.unknown && (late.kind != final || fault.As(late.err) != errUnsure) {
			t.Errorf("%v at COMMIT: kind %d, %v", test.err, late.kind, late.err)
		}
	}
}

func TestClock(t *testing.T) {
	var c clock
	if apart := time.Since(c.now()); apart.Abs() > time.Minute {
		t.Errorf("before any measurement it is %v off", apart)
	}
	here := time.Now()
	day := 24 * time.Hour
	ahead := func() time.Duration { return time.Until(c.now()).Round(time.Minute) }

	c.measured(here.Add(day), here.Add(-time.Minute), here.Add(time.Minute))
	if got := ahead(); got != day {
		t.Errorf("ahead by %v, want a day", got)
	}
	c.measured(here.Add(day+2*time.Minute), here.Add(-10*time.Minute), here.Add(10*time.Minute)) // agrees, but says less
	if got := ahead(); got != day {
		t.Errorf("a worse measurement made it %v", got)
	}
	c.measured(here.Add(day+time.Minute), here, here) // better
	if got := ahead(); got != day+time.Minute {
		t.Errorf("a better measurement made it %v", got)
	}
	c.measured(here.Add(-day), here.Add(-time.Minute), here.Add(time.Minute)) // somebody has set the database's clock
	if got := ahead(); got != -day {
		t.Errorf("after the clock was set it is %v", got)
	}
}

func TestLaneIsLeft(t *testing.T) { synctest.Test(t, testLaneIsLeft) }

func testLaneIsLeft(t *testing.T) {
	s := &Store{timeout: time.Millisecond, lane: make(chan struct{}, 1), pool: &pool{}}
	s.lane <- struct{}{} // held by somebody who waits for this transaction
	calls := 0
	err := s.run(context.Background(), func() (*failure, error) {
		if calls++; calls <= loserAfter {
			return &failure{kind: conflict, err: errConflict}, nil
		}
		return nil, nil
	})
	if err != nil || calls != loserAfter+1 || s.Retries() != loserAfter {
		t.Errorf("%v after %d calls and %d retries", err, calls, s.Retries())
	}
	<-s.lane
	calls = 0
	if err := s.run(context.Background(), func() (*failure, error) {
		if calls++; calls <= loserAfter {
			return &failure{kind: conflict, err: errConflict}, nil
		}
		if len(s.lane) != 1 {
			t.Error("a loser runs outside the lane")
		}
		return nil, nil
	}); err != nil {
		t.Error(err)
	}
	if len(s.lane) != 0 {
		t.Error("the lane is still held")
	}
}

func TestRunEnds(t *testing.T) { synctest.Test(t, testRunEnds) }

func testRunEnds(t *testing.T) {
	s := &Store{timeout: time.Millisecond, lane: make(chan struct{}, 1), pool: &pool{}}
	for name, test := range map[string]struct {
		kind  kind
		calls int
	}{"final": {final, 1}, "stale": {stale, 2}, "conflict": {conflict, maxAttempts}} {
		calls := 0
		err := s.run(context.Background(), func() (*failure, error) {
			calls++
			return &failure{kind: test.kind, err: errAway}, nil
		})
		if err != errAway || calls != test.calls {
			t.Errorf("%s: %v after %d calls, want %d", name, err, calls, test.calls)
		}
	}
}

// A server that vanished without a word costs one request the time to find out, not one for each connection in the pool.
func TestSilentDeath(t *testing.T) {
	p, err := newPool(Options{URL: "postgres://u@127.0.0.1:1/d?sslmode=disable", Timeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		near, far := net.Pipe() // nobody reads at its far end
		t.Cleanup(func() { near.Close(); far.Close() })
		made, err := pgconn.Construct(&pgconn.HijackedConn{Conn: near, TxStatus: 'I', Frontend: p.config.BuildFrontend(near, near), Config: p.config})
		if err != nil {
			t.Fatal(err)
		}
		p.idle = append(p.idle, &conn{PgConn: made, made: time.Now()})
	}
	s := &Store{pool: p, timeout: p.timeout, lane: make(chan struct{}, 1)}
	for _, want := range []*fault.Error{errSlow, errAway} {
		err := s.View(t.Context(), func(r store.Reader) error {
			_, err := r.Get("k")
			return err
		})
		if fault.As(err) != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
