package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoPostgreSQL says that the machine has no PostgreSQL.
var ErrNoPostgreSQL = errors.New("PostgreSQL is not installed here (no initdb in pg_config --bindir, /usr/lib/postgresql or PATH)")

// Postgres is a PostgreSQL server of our own.
type Postgres struct {
	bin, data, log string
	port           int
	account        *syscall.SysProcAttr // that of another user when we are root, whom PostgreSQL refuses
	settings       []string
	databases      atomic.Int64

	mu   sync.Mutex
	cmd  *exec.Cmd // nil: not running
	done chan struct{}
}

// PostgresPassword is that of the user postgres.
const PostgresPassword = "canary-pg-password"

var sharedPostgres struct {
	mu     sync.Mutex
	users  int
	server *Postgres
	dir    string
}

// PostgreSQL returns a server that all tests of the process share: each takes a database of its own with NewDatabase,
// or a table, and must leave the server alone. Without PostgreSQL on the machine the test is skipped, or fails when
// the environment variable QUORATE_ENGINES names postgresql.
func PostgreSQL(t testing.TB) *Postgres {
	t.Helper()
	server, release, err := HoldPostgreSQL()
	must(t, err)
	t.Cleanup(release)
	return server
}

// OwnPostgreSQL returns a server for one test, which may do to it what it wants. Settings are as in "fsync=off".
func OwnPostgreSQL(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	dir, err := tempDir("quorate-postgresql-")
	must(t, err)
	server, err := StartPostgreSQL(dir, settings...)
	if err != nil {
		os.RemoveAll(dir)
	}
	must(t, err)
	t.Cleanup(func() {
		server.Kill()
		os.RemoveAll(dir)
	})
	return server
}

func must(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrNoPostgreSQL) && !strings.Contains(os.Getenv("QUORATE_ENGINES"), "postgresql"):
		t.Skipf("!!! NOT TESTED: %v", err)
	case err != nil:
		t.Fatal(err)
	}
}

// HoldPostgreSQL is PostgreSQL for a TestMain or a command.
func HoldPostgreSQL() (*Postgres, func(), error) {
	shared := &sharedPostgres
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		dir, err := tempDir("quorate-postgresql-")
		if err != nil {
			return nil, nil, err
		}
		server, err := StartPostgreSQL(dir)
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(dir))
		}
		shared.server, shared.dir = server, dir
	}
	shared.users++
	return shared.server, sync.OnceFunc(func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users == 0 {
			shared.server.Kill()
			os.RemoveAll(shared.dir)
		}
	}), nil
}

// StartPostgreSQL makes a cluster in dir, which is empty, and starts its server.
func StartPostgreSQL(dir string, settings ...string) (*Postgres, error) {
	bin := postgresBin()
	if bin == "" {
		return nil, ErrNoPostgreSQL
	}
	p := &Postgres{bin: bin, data: filepath.Join(dir, "data"), log: filepath.Join(dir, "log"), settings: settings}
	if err := p.chooseAccount(dir); err != nil {
		return nil, err
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(PostgresPassword+"\n"), 0o644); err != nil {
		return nil, err
	}
	initdb := p.command("initdb", "--pgdata="+p.data, "--username=postgres", "--pwfile="+password, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	return p, p.Start()
}

// postgresBin is the directory of PostgreSQL's programs, of the newest version.
func postgresBin() string {
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(versions, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		versions = append(versions, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		versions = append(versions, filepath.Dir(path))
	}
	for _, dir := range versions {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir
		}
	}
	return ""
}

func majorVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// chooseAccount finds the user to run as, and gives dir to them.
func (p *Postgres) chooseAccount(dir string) error {
	p.account = newGroup()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("PostgreSQL doesn't run as root: %w", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	p.account = asUser(uid, gid)
	return os.Chown(dir, uid, gid)
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir, cmd.SysProcAttr = filepath.Dir(p.data), p.account
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	return cmd
}

// Start starts a server that isn't running and waits until it answers.
func (p *Postgres) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return errors.New("the server is running already")
	}
	args := []string{
		"-D", p.data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=600", "-c", "shared_buffers=32MB",
	}
	for _, s := range p.settings {
		args = append(args, "-c", s)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		cmd.Wait() // how it ends is in the log
		close(done)
	}()
	p.cmd, p.done = cmd, done
	if err := p.await(done); err != nil {
		p.cmd = nil
		crash(cmd)
		<-done
		said, _ := os.ReadFile(p.log)
		return fmt.Errorf("start PostgreSQL: %w\n%s", err, said)
	}
	return nil
}

func (p *Postgres) await(done chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		c, err := pgconn.Connect(ctx, p.URL("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server in order, breaking off what is running.
func (p *Postgres) Stop() { p.end(func(cmd *exec.Cmd) { cmd.Process.Signal(os.Interrupt) }) }

// Kill ends the server and its sessions where they stand, as a crash would, and returns when all of them are gone.
func (p *Postgres) Kill() { p.end(crash) }

func (p *Postgres) end(signal func(*exec.Cmd)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	signal(p.cmd)
	<-p.done
	p.cmd = nil
}

// Address is where the server listens.
func (p *Postgres) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// URL is that of a database, for the superuser.
func (p *Postgres) URL(database string) string { return p.URLAt(p.Address(), database) }

// URLAt is URL by way of another address, such as a proxy's.
func (p *Postgres) URLAt(address, database string) string {
	return "postgres://postgres:" + PostgresPassword + "@" + address + "/" + database + "?sslmode=disable"
}

// NewDatabase makes an empty database and returns its name.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("db%d", p.databases.Add(1))
	p.Exec(t, "postgres", "create database "+name)
	return name
}

// Exec runs SQL in a database and returns the last statement's rows.
func (p *Postgres) Exec(t testing.TB, database, sql string) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := pgconn.Connect(ctx, p.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	results, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var rows [][]string
	for _, row := range results[len(results)-1].Rows {
		var texts []string
		for _, value := range row {
			texts = append(texts, string(value))
		}
		rows = append(rows, texts)
	}
	return rows
}
