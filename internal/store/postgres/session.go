package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/fault"
)

// conn is one session that was found fit.
type conn struct {
	*pgconn.PgConn
	made   time.Time
	epoch  int
	warned bool // the server has sent a warning
}

// connKey is where a driver's connection keeps its conn.
const connKey = "quorate"

// Types of parameters.
const (
	oidBytea      = 17
	oidByteaArray = 1001
	oidInt8       = 20
)

// Prepared statements.
const (
	getStatement    = "quorate_get"
	scanStatement   = "quorate_scan"
	putStatement    = "quorate_put"
	deleteStatement = "quorate_delete"
)

// dial makes a connection and looks whether its server keeps our promises.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	c := &conn{made: time.Now(), epoch: p.epoch}
	p.mu.Unlock()
	var err error
	if c.PgConn, err = pgconn.ConnectConfig(ctx, p.config); err != nil {
		return nil, err
	}
	c.CustomData()[connKey] = c
	if err := p.inspect(ctx, c); err != nil {
		c.discard()
		return nil, err
	}
	p.reached()
	return c, nil
}

// inspection also makes synchronous_commit the session's own, so that a change of the server's configuration doesn't
// reach it.
const inspection = `select current_setting('server_version_num'), current_setting('fsync'),
	set_config('synchronous_commit', current_setting('synchronous_commit'), false),
	pg_is_in_recovery(), current_setting('transaction_read_only'),
	(extract(epoch from clock_timestamp()) * 1000000)::bigint`

func (p *pool) inspect(ctx context.Context, c *conn) error {
	sent := time.Now()
	results, err := c.Exec(ctx, inspection).ReadAll()
	if err != nil {
		return err
	}
	row := results[0].Rows[0]
	if err := fit(string(row[0]), string(row[1]), string(row[2]), string(row[3]), string(row[4])); err != nil {
		return err
	}
	micros, err := strconv.ParseInt(string(row[5]), 10, 64)
	if err != nil {
		return fmt.Errorf("read the clock of the database: %w", err)
	}
	p.clock.measured(time.UnixMicro(micros), sent, time.Now())
	return nil
}

// fit refuses a server that could lose what it acknowledged, or that can't write.
func fit(version, fsync, synchronous, recovery, readOnly string) error {
	number, err := strconv.Atoi(version)
	switch {
	case err != nil || number < 130000:
		return fault.New(fault.Unavailable, "the database server is older than PostgreSQL 13: upgrade it")
	case recovery != "f":
		return fault.New(fault.Unavailable, "the database server is a standby: connect to the primary")
	case readOnly != "off":
		return errReadOnly
	case fsync != "on":
		return fault.New(fault.Unavailable, "the database server runs with fsync = off and would lose data in a crash: "+
			"switch it on")
	case synchronous == "off":
		return fault.New(fault.Unavailable, "the database acknowledges writes before they are durable "+
			"(synchronous_commit = off): set it to on for this server's database user")
	}
	return nil
}

// prepare prepares the statements. The table must exist.
func (c *conn) prepare(ctx context.Context, t table) error {
	for _, s := range []struct {
		name, sql string
		types     []uint32
	}{
		{getStatement, "select key, value from %s where sha256(key) = any($1)", []uint32{oidByteaArray}},
		{
			scanStatement, "select key, value from %s where key >= $1 and key < $2 order by key limit $3",
			[]uint32{oidBytea, oidBytea, oidInt8},
		},
		{
			putStatement, "insert into %s (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value",
			[]uint32{oidBytea, oidBytea},
		},
		{deleteStatement, "delete from %s where sha256(key) = $1", []uint32{oidBytea}},
	} {
		if _, err := c.Prepare(ctx, s.name, fmt.Sprintf(s.sql, t.records()), s.types); err != nil {
			return err
		}
	}
	return nil
}

// discard closes the connection.
func (c *conn) discard() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	c.Close(ctx) //nolint:errcheck // nothing depends on how a connection ends
}
