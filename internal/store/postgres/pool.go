package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxAge      = 15 * time.Minute // of a connection: then settings, names and the clock are looked at again
	idleSession = time.Minute      // a transaction whose function does nothing for so long is ended by the server
	closeWait   = time.Second
)

// pool holds the connections. It has no goroutine of its own.
type pool struct {
	config  *pgconn.Config
	table   table
	timeout time.Duration
	log     *slog.Logger
	clock   clock
	away    atomic.Bool   // the database can't be reached, and the log knows
	slots   chan struct{} // one token for each connection in use

	mu    sync.Mutex // guards what follows
	idle  []*conn    // the one used last is at the end
	epoch int        // of connections that may be used; flush begins the next
}

func newPool(opts Options) (*pool, error) {
	p := &pool{timeout: opts.Timeout, log: opts.Logger}
	if p.timeout <= 0 {
		p.timeout = 5 * time.Second
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	limit := opts.MaxConnections
	if limit <= 0 {
		limit = 16
	}
	p.slots = make(chan struct{}, limit)
	var err error
	if p.table, err = parseTable(opts.Table); err != nil {
		return nil, err
	}
	if opts.URL == "" {
		return nil, errors.New("the connection URL of the database is missing: set it")
	}
	if p.config, err = pgconn.ParseConfig(opts.URL); err != nil {
		return nil, unusableURL(err)
	}
	p.configure()
	return p, nil
}

// configure sets what every session needs. With sequential and bitmap scans off, a plan takes predicate locks on the
// entries it reads and on their place in the index. Otherwise the planner would read a small table as a whole, and
// every writer would conflict with every reader.
func (p *pool) configure() {
	params := p.config.RuntimeParams
	params["enable_seqscan"], params["enable_bitmapscan"] = "off", "off"
	params["plan_cache_mode"] = "force_generic_plan"
	params["statement_timeout"] = milliseconds(p.timeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(max(idleSession, p.timeout))
	params["client_min_messages"] = "warning" // a commit that warns isn't one: see transaction.commit
	if params["application_name"] == "" {
		params["application_name"] = "quorate"
	}
	hosts := map[string]bool{p.config.Host: true}
	for _, other := range p.config.Fallbacks {
		hosts[other.Host] = true
	}
	if len(hosts) > 1 && p.config.ValidateConnect == nil {
		p.config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	each := p.timeout / time.Duration(len(p.config.Fallbacks)+1) // so that a dead host leaves time for the next
	if p.config.ConnectTimeout == 0 || p.config.ConnectTimeout > each {
		p.config.ConnectTimeout = each
	}
	p.config.OnNotice = func(c *pgconn.PgConn, n *pgconn.Notice) {
		if own, ok := c.CustomData()[connKey].(*conn); ok && n.SeverityUnlocalized == "WARNING" {
			own.warned = true
		}
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// acquire takes an idle connection, or makes one.
func (p *pool) acquire(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errBusy
	}
	c := p.takeIdle()
	if c != nil {
		return c, nil
	}
	c, err := p.dial(ctx)
	if err == nil {
		err = c.prepare(ctx, p.table)
	}
	if err != nil {
		if c != nil {
			c.discard()
		}
		<-p.slots
		return nil, err
	}
	return c, nil
}

func (p *pool) takeIdle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(c.made) < maxAge {
			return c
		}
		go c.discard()
	}
	return nil
}

// release ends what transaction may be open on a connection and keeps it. One whose state isn't known is closed.
func (p *pool) release(c *conn) {
	defer func() { <-p.slots }()
	if c.TxStatus() != 'I' && !c.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
		defer cancel()
		if c.Exec(ctx, "rollback").Close() != nil {
			c.discard()
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.IsClosed() || c.IsBusy() || c.TxStatus() != 'I' || c.epoch != p.epoch {
		go c.discard()
		return
	}
	p.idle = append(p.idle, c)
	if eldest := p.idle[0]; time.Since(eldest.made) > maxAge {
		p.idle = p.idle[1:]
		go eldest.discard()
	}
}

// flush closes the idle connections now and those in use when they are released.
func (p *pool) flush() {
	p.mu.Lock()
	p.epoch++ // first, so that none of before is released into the pool again
	p.mu.Unlock()
	p.closeIdle()
}

func (p *pool) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		go c.discard()
	}
	p.idle = nil
}

// close is for a pool that nobody uses any more.
func (p *pool) close() {
	var wg sync.WaitGroup
	for _, c := range p.idle {
		wg.Go(c.discard)
	}
	wg.Wait()
	p.idle = nil
}

// lost tells the log that the database is away, once.
func (p *pool) lost(err error) {
	if !p.away.Swap(true) {
		p.log.Error("the database is away", "error", err)
	}
}

func (p *pool) reached() {
	if p.away.Swap(false) {
		p.log.Info("the database is back")
	}
}

// table is a checked name.
type table struct{ schema, name string }

var tableName = regexp.MustCompile(`^(?:([a-z_][a-z0-9_]{0,62})\.)?([a-z_][a-z0-9_]{0,55})$`)

func parseTable(name string) (table, error) {
	if name == "" {
		name = "quorate"
	}
	parts := tableName.FindStringSubmatch(name)
	if parts == nil || strings.HasPrefix(parts[1], "pg_") {
		return table{}, fmt.Errorf("the table name %q can't be used: choose lower-case letters, digits and _, at most 56, "+
			"perhaps after the name of a schema and a dot", name)
	}
	return table{parts[1], parts[2]}, nil
}

// records and version are the quoted names of the two tables.
func (t table) records() string { return t.quote("") }
func (t table) version() string { return t.quote("_schema") }

func (t table) quote(suffix string) string {
	name := `"` + t.name + suffix + `"`
	if t.schema != "" {
		name = `"` + t.schema + `".` + name
	}
	return name
}
