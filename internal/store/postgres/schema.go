package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// schemaVersion is of the tables that this program makes and understands.
const schemaVersion = 1

// migrate makes the tables unless they are there, over a connection of its own.
func (p *pool) migrate(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	c, err := p.dial(limited)
	if err != nil {
		return p.judge(ctx, err).err
	}
	defer c.discard()
	version, err := p.table.readVersion(limited, c)
	if err == nil && version == 0 {
		if err = c.Exec(limited, p.table.create()).Close(); err == nil {
			version, err = p.table.readVersion(limited, c)
		}
	}
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &answer) && (answer.Code == "42501" || answer.Code == "3F000"):
		return fmt.Errorf("the database user may not make the table of the store: grant usage and create on an existing "+
			"schema, or make the tables yourself with: %s", p.table.definition())
	case err != nil:
		return p.judge(ctx, err).err
	case version != schemaVersion:
		return fmt.Errorf("the table of the store has version %d and this server knows %d: run a newer server",
			version, schemaVersion)
	}
	return nil
}

// readVersion returns 0 when there is no table.
func (t table) readVersion(ctx context.Context, c *conn) (int, error) {
	results, err := c.Exec(ctx, "select to_regclass('"+t.version()+"') is not null and to_regclass('"+t.records()+
		"') is not null").ReadAll()
	if err != nil || string(results[0].Rows[0][0]) != "t" {
		return 0, err
	}
	results, err = c.Exec(ctx, "select coalesce(max(version), 0) from "+t.version()).ReadAll()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(results[0].Rows[0][0]))
}

// create is one transaction. The lock makes processes that begin at once do it one after the other.
func (t table) create() string {
	return "begin; select pg_advisory_xact_lock(hashtextextended('quorate/'||'" + t.records() + "', 0)); " +
		t.definition() + " commit"
}

// definition leaves some room in each page, so that most updates stay in theirs and change no index, and values as
// they are: they are encrypted, and nothing would be gained by compressing them.
//
// Records are found by the hash of their key. A serialisable read of what isn't there locks the leaf of the index where it
// would be, against everything that is inserted into that leaf. In the order of the keys these would be its neighbours,
// which are written at the same time; in the order of the hashes they are anybody. Only scans go by the primary key.
func (t table) definition() string {
	return fmt.Sprintf(`create table if not exists %[1]s (key bytea primary key, value bytea not null) with (fillfactor = 80); `+
		`alter table %[1]s alter column value set storage external; `+
		`create index if not exists %[4]s on %[1]s (sha256(key)); `+
		`create table if not exists %[2]s (version integer not null); `+
		`insert into %[2]s select %[3]d where not exists (select from %[2]s);`, t.records(), t.version(), schemaVersion, `"`+t.name+`_hash"`)
}
