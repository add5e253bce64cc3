package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/store"
)

const (
	beginView   = "begin isolation level serializable read only"
	beginUpdate = "begin isolation level serializable"
)

// binaryFormat is the wire form of all parameters and results.
var binaryFormat = []int16{1}

// transaction is one attempt. It is the Reader that an Update's overlay lies over, and takes a connection only when
// something is read or written.
type transaction struct {
	ctx    context.Context
	pool   *pool
	begin  string
	conn   *conn    // nil until it is needed
	begun  bool     // BEGIN was sent
	failed *failure // the first; nothing is sent after it
}

// step sends statements in one round trip, with BEGIN in front of the first, and returns their results.
func (t *transaction) step(ctx context.Context, fill func(*pgconn.Batch)) ([]*pgconn.Result, error) {
	if t.failed != nil {
		return nil, t.failed.err
	}
	if t.conn == nil {
		c, err := t.pool.acquire(ctx)
		if err != nil {
			t.failed = t.pool.judge(ctx, err)
			return nil, t.failed.err
		}
		t.conn = c
	}
	var batch pgconn.Batch
	skip := 0
	if !t.begun {
		batch.ExecParams(t.begin, nil, nil, nil, nil)
		t.begun, skip = true, 1
	}
	fill(&batch)
	limited, cancel := context.WithTimeout(ctx, t.pool.timeout)
	defer cancel()
	results, err := t.conn.ExecBatch(limited, &batch).ReadAll()
	if err != nil {
		t.failed = t.pool.judge(ctx, err)
		if ctx.Err() == nil && limited.Err() != nil {
			t.pool.closeIdle() // they may have died as silently, and would cost as much time each
		}
		return nil, t.failed.err
	}
	return results[skip:], nil
}

// Get implements store.Reader.
func (t *transaction) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	if len(keys) == 0 {
		return values, nil
	}
	results, err := t.step(t.ctx, func(b *pgconn.Batch) {
		b.ExecPrepared(getStatement, [][]byte{hashes(keys)}, binaryFormat, binaryFormat)
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string][]byte, len(keys))
	for _, row := range results[0].Rows {
		found[string(row[0])] = row[1]
	}
	for i, key := range keys {
		values[i] = found[key]
	}
	return values, nil
}

// hashes is the binary form of bytea[] with the hash of each key, by which records are found.
func hashes(keys []string) []byte {
	const oneDimension, noNulls, lowerBound = 1, 0, 1
	b := binary.BigEndian.AppendUint32(nil, oneDimension)
	b = binary.BigEndian.AppendUint32(b, noNulls)
	b = binary.BigEndian.AppendUint32(b, oidBytea)
	b = binary.BigEndian.AppendUint32(b, uint32(len(keys)))
	b = binary.BigEndian.AppendUint32(b, lowerBound)
	for _, key := range keys {
		hash := sha256.Sum256([]byte(key))
		b = binary.BigEndian.AppendUint32(b, uint32(len(hash)))
		b = append(b, hash[:]...)
	}
	return b
}

// Scan implements store.Reader. A page is read whole before its first entry is yielded, so that the loop's body may
// use the connection.
func (t *transaction) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		from, to := interval(prefix, after)
		for size := firstPage; from < to; {
			results, err := t.step(t.ctx, func(b *pgconn.Batch) {
				limit := binary.BigEndian.AppendUint64(nil, uint64(size))
				b.ExecPrepared(scanStatement, [][]byte{[]byte(from), []byte(to), limit}, binaryFormat, binaryFormat)
			})
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			rows := results[0].Rows
			biggest := 0
			for _, row := range rows {
				biggest = max(biggest, len(row[0])+len(row[1]))
				if !yield(store.Entry{Key: string(row[0]), Value: row[1]}, nil) {
					return
				}
			}
			if len(rows) < size {
				return
			}
			from, size = string(rows[len(rows)-1][0])+"\x00", nextPage(size, biggest)
		}
	}
}

const (
	firstPage = 32      // entries
	maxPage   = 128     // entries: the biggest may follow the smallest, and all of a page is in memory
	pageBytes = 4 << 20 // about: a guess from the page before
	growth    = 4       // at most, from one page to the next
	keysEnd   = "\xff"  // above every key, because keys are UTF-8
)

// nextPage is how many entries to ask for, after a page of size entries of which the biggest has that many bytes.
func nextPage(size, biggest int) int {
	return max(1, min(size*growth, maxPage, pageBytes/max(biggest, 1)))
}

// interval is the keys of a scan: from is the first possible one, to is above the last.
func interval(prefix, after string) (from, to string) {
	from = prefix
	if after >= prefix {
		from = after + "\x00"
	}
	last := len(prefix) - 1
	for last >= 0 && prefix[last] == 0xff {
		last--
	}
	if last < 0 {
		return from, keysEnd
	}
	return from, prefix[:last] + string([]byte{prefix[last] + 1})
}

// finish ends the attempt after its function returned own. What the function has read, and so also its own error,
// counts only once the transaction is committed. A failure means that there is no result.
func (t *transaction) finish(own error, writes *store.Overlay) (*failure, error) {
	if t.failed != nil {
		if t.failed.kind == final && errors.Is(own, t.failed.err) {
			return nil, own
		}
		return t.failed, nil
	}
	change := own == nil && writes != nil && writes.Changed()
	switch {
	case change && t.ctx.Err() != nil:
		return nil, t.ctx.Err()
	case !change && !t.begun:
		return nil, own
	}
	if err := t.commit(writes, change); err != nil {
		return t.failed, nil
	}
	return nil, own
}

// commit sends the writes and COMMIT in one round trip.
func (t *transaction) commit(writes *store.Overlay, change bool) error {
	ctx := context.WithoutCancel(t.ctx)
	if !t.begun {
		if _, err := t.step(t.ctx, func(*pgconn.Batch) {}); err != nil { // finds out that a connection died in the pool
			return err
		}
	}
	t.conn.warned = false
	results, err := t.step(ctx, func(b *pgconn.Batch) {
		if change {
			for key, value := range writes.Changes() {
				if value == nil {
					hash := sha256.Sum256([]byte(key))
					b.ExecPrepared(deleteStatement, [][]byte{hash[:]}, binaryFormat, nil)
				} else {
					b.ExecPrepared(putStatement, [][]byte{[]byte(key), value}, binaryFormat, nil)
				}
			}
		}
		b.ExecParams("commit", nil, nil, nil, nil)
	})
	switch {
	case err != nil && change:
		t.failed = t.failed.afterCommit()
	case err == nil && results[len(results)-1].CommandTag.String() != "COMMIT":
		t.failed = &failure{kind: conflict, err: errConflict} // the server rolled it back
	case err == nil && change && t.conn.warned:
		// A wait for a synchronous standby was broken off: it is committed here, and maybe nowhere else.
		t.failed = unknown(errNotReplicated)
	}
	if t.failed != nil {
		return t.failed.err
	}
	return nil
}

// release gives the connection back, whichever way the attempt ended.
func (t *transaction) release() {
	if t.conn != nil {
		t.pool.release(t.conn)
	}
}
