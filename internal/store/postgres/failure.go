package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// kind says what may be done about a failure.
type kind int

const (
	final    kind = iota // it is the caller's
	conflict             // the same again may succeed
	stale                // the same again over a new connection may succeed
)

// failure is why an attempt has no result. answered means that the server said so itself, and went on to live.
type failure struct {
	kind     kind
	err      error
	answered bool
}

func unavailable(sentence string) *fault.Error { return fault.New(fault.Unavailable, sentence) }

var (
	errAway = unavailable("the database can't be reached: try again, and if this goes on look at the database server " +
		"and the network")
	errSlow = unavailable("the database doesn't answer in time: try again, and if this goes on look at its load and " +
		"the network")
	errBusy = unavailable("all connections to the database are in use: try again, or allow more in the storage " +
		"configuration")
	errLost     = unavailable("the connection to the database was lost: try again")
	errConflict = unavailable("too many transactions changed the same records at once: try again")
	errUnsure   = unavailable("the connection to the database was lost during the write; whether the write took effect " +
		"is unknown: look before you try again")
	errNotReplicated = unavailable("the database stopped waiting for its standby; whether the write will stay is " +
		"unknown: look before you try again")
	errFull     = unavailable("the disk of the database server is full: make room there, then try again")
	errReadOnly = unavailable("the database takes no writes: connect to the primary server, or end its read-only mode")
	errTooMany  = unavailable("the database has no connection left for this server: raise max_connections there, or " +
		"allow fewer here")
	errDown       = unavailable("the database server is starting up or shutting down: try again")
	errNoDatabase = unavailable("the server has no such database: create it, with this login as its owner, or name another in the connection URL")
	errLogin      = unavailable("the database refuses this server's login: check user, password and pg_hba.conf")
	errRights     = unavailable("the database user lacks a right on the table: grant select, insert, update and delete")
	errNoTable    = unavailable("the table of the store is gone or changed: restore it, or restart this server to make " +
		"an empty one")
	errSession = unavailable("the database has forgotten the session: connect to it directly, or through a pooler that " +
		"keeps sessions apart")
	errRefused = unavailable("the database refused a statement: look into its log")
)

// sentences for what a server says, by SQLSTATE or its class.
var sentences = map[string]*fault.Error{
	"40001": errConflict, "40P01": errConflict,
	"57014": errSlow, "55P03": errSlow,
	"53100": errFull, "53300": errTooMany, "25006": errReadOnly,
	"57P01": errDown, "57P02": errDown, "57P03": errDown,
	"28": errLogin, "42501": errRights, "42P01": errNoTable, "3D000": errNoDatabase,
	"08": errLost, "25P03": errLost, "57P05": errLost, "26000": errSession, "0A000": errSession,
}

// judge makes a failure of an error of the driver. ctx is the caller's.
func (p *pool) judge(ctx context.Context, err error) *failure {
	if ctx.Err() != nil {
		return &failure{kind: final, err: fmt.Errorf("a transaction was broken off: %w", ctx.Err())}
	}
	f := classify(err)
	if f.kind == final && !f.answered {
		p.lost(f.err)
	}
	return f
}

func classify(err error) *failure {
	var known *fault.Error
	var answer *pgconn.PgError
	var connect *pgconn.ConnectError
	connecting := errors.As(err, &connect)
	switch {
	case errors.As(err, &known):
		return &failure{kind: final, err: err, answered: true}
	case errors.As(err, &answer):
		f := &failure{err: because(sentence(answer.Code), err), answered: answer.SeverityUnlocalized == "ERROR"}
		switch say := sentence(answer.Code); {
		case connecting:
		case say == errConflict:
			f.kind = conflict
		case say == errLost, say == errDown, say == errReadOnly, say == errSession:
			f.kind = stale
		}
		return f
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return &failure{kind: final, err: because(errSlow, err)}
	case connecting:
		return &failure{kind: final, err: because(errAway, err)}
	}
	return &failure{kind: stale, err: because(errLost, err)}
}

func sentence(code string) *fault.Error {
	if f := sentences[code]; f != nil {
		return f
	}
	if len(code) >= 2 && sentences[code[:2]] != nil {
		return sentences[code[:2]]
	}
	return errRefused
}

// because adds the cause as text only: the driver's errors hold its configuration, the password with it.
func because(say *fault.Error, cause error) error {
	var connect *pgconn.ConnectError
	if errors.As(cause, &connect) {
		cause = connect.Unwrap()
	}
	return fmt.Errorf("%w (%s)", say, strings.ReplaceAll(cause.Error(), "\n", "; "))
}

// afterCommit is what a failure means when COMMIT was on its way. Only a server that goes on to live and says no has
// certainly not written; what it says while it ends a session may come after the commit.
func (f *failure) afterCommit() *failure {
	if f.answered {
		return f
	}
	return unknown(fmt.Errorf("%w (%v)", errUnsure, f.err))
}

func unknown(err error) *failure {
	return &failure{kind: final, err: fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)}
}

// unusableURL hides what the driver says of a URL, which may quote it, but for the name of a file.
func unusableURL(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("the connection URL of the database names a file that can't be used: %w", file)
	}
	return errors.New("the connection URL of the database can't be understood: write it as " +
		"postgres://user@host:5432/database?sslmode=verify-full")
}
