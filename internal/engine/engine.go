// Package engine is the contract between the server and what is mounted in it: secrets engines and auth methods.
//
// An engine is a value without state. It lists its routes; everything it knows is in the records of its mount, which it
// reads and writes in the transactions that a Request opens for it. It promises to act only there, and to keep its own
// records within the limits of package store. In return the server promises that a handler runs only within the rate
// limit and the bounds of the body; that what it does in View and Update is done only after the audit entry and, in that
// very transaction, after the token and its policies said yes, but for a login, where the handler decides; that no other
// mount can see its records; and that they go when the mount does.
package engine

import (
	"context"
	"net/netip"
	"net/url"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/store"
)

// Engine is one kind of secrets engine or auth method.
type Engine interface {
	// Routes lists every path below a mount, once at start. No two of them match the same path.
	Routes() []Route
}

// Sweeper is an Engine that has records which expire. Nothing depends on Sweep for being refused.
type Sweeper interface {
	// Sweep removes what has expired in one mount. It finds by View and removes by small Updates.
	Sweep(ctx context.Context, st store.Store, now time.Time) error
}

// Namer is an Engine with names of users or roles in the varying parts of its routes, which mean the same in any case. The
// server hands them over as Name returns them, and that is also the path that policies are asked about: what they say of
// one spelling holds for all.
type Namer interface {
	// Names are the varying parts that are such names.
	Names() []string
}

// Renewer is an auth method that is asked before a token which came from one of its mounts is renewed.
type Renewer interface {
	// Renew returns what a login as the same user or role would make now. A fault refuses the renewal: the user or role
	// is gone. tx reads the mount's records, login is what Tx.Login was once told.
	Renew(tx store.Reader, m Mount, login Login) (TokenParams, error)
}

// Operation is what a request wants of a route.
type Operation int

// The operations. POST and PUT are Update; LIST, and GET with ?list=true, are List.
const (
	Read Operation = iota + 1
	Update
	Delete
	List
	Patch
)

func (op Operation) String() string {
	return [...]string{"none", "read", "update", "delete", "list", "patch"}[op]
}

// Handler answers one operation on one route. Errors that the client shall understand are faults (package fault).
type Handler func(ctx context.Context, r *Request) (*Response, error)

// Route is one path below a mount.
type Route struct {
	// Path has fixed parts, parts that vary ("role/{role}/secret-id") and as the last one perhaps the whole rest of
	// the path ("data/{path...}", which also matches "data/" with an empty rest). A fixed part wins over one that varies.
	Path  string
	Ops   map[Operation]Handler
	Login bool  // needs no token: Tx.Login makes one
	Sudo  bool  // needs the capability sudo beside that of the operation
	Limit int64 // bytes of body; 0 means 16 KiB; a login has 4 KiB
	// Exists tells an update of what is there from the creation of what isn't, which need other capabilities. Nil:
	// everything is an update. It runs in the transaction that decides.
	Exists func(tx store.Reader, r *Request) (bool, error)

	// For people, for the OpenAPI document and for the warning about fields that are ignored.
	Summary string
	Fields  string // of the body of an update: "name type, ...", the type a string if there is none; "*" is any field
	Query   string // the same of a read's query
	// Clear names the fields of requests and replies that audit devices may show as they are, because they are no secrets.
	Clear string
}

// Request is one request to a mount. It is not for concurrent use.
type Request struct {
	Op     Operation
	Params map[string]string // :: name between braces in the route's path → what stands there
	Fields *body.Fields      // of the body; empty where there is none
	Query  url.Values
	Mount  Mount
	Now    time.Time
	Client netip.Addr // of the connection; the zero Addr if it came through a Unix socket
	Txns              // how the mount's records are reached
}

// Txns opens the transactions of one request. On a route that needs a token they fail, before their function runs, where
// the token isn't live or its policies don't allow the request; fn may run more than once and must have no other
// effects.
type Txns interface {
	// View reads the mount's records.
	View(ctx context.Context, fn func(Tx) error) error
	// Update changes the mount's records. Where a token is needed a handler opens one transaction and no more, because each
	// counts as a use of the token.
	Update(ctx context.Context, fn func(Tx) error) error
	// Allowed is nil if View would run its function. It is for what is too slow to be done in a transaction, such as
	// hashing a password, and too costly to be done for just anybody.
	Allowed(ctx context.Context) error
}

// Tx is one transaction on the records of a mount, whose keys are the engine's own. In a View, writes fail.
type Tx interface {
	store.Tx
	// Holder is the record ID of the token that asks; "" at a login. It is not the token, and no secret.
	Holder() string
	// Login makes a token, which the reply gives to the client, in this transaction.
	Login(Login) error
}

// Login is whom an auth method recognised, and what the token for it shall be.
type Login struct {
	Path        string            // below the mount, without secrets: "login/alice"
	DisplayName string            // "userpass-alice"
	Metadata    map[string]string // as the client sees it
	Token       TokenParams
}

// Response is what a handler answers. The zero Response is 204.
type Response struct {
	Data     any // becomes JSON; nil for none
	Warnings []string
	NotFound bool // 404, with the data
	Accepted bool // 202: it goes on in the background
	// LeaseDuration is how long a client may keep what it read; 0 for nothing said.
	LeaseDuration time.Duration
	// WrappedAccessor is told beside the wrapping token when the reply is wrapped.
	WrappedAccessor string
	// Own are secrets in memory of their own, overwritten once the reply is out.
	Own [][]byte
}

// Mount is where a request came in.
type Mount struct {
	Path     string // with a slash at the end, "auth/" included: "secret/", "auth/userpass/"
	Accessor string
	Options  map[string]string
	// DefaultTTL and MaxTTL bound what comes from the mount. They are never 0.
	DefaultTTL, MaxTTL time.Duration
}
