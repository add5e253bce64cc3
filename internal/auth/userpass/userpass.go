// Package userpass is the auth method for people: a name and a password.
//
// It promises that a password is kept as its bcrypt hash only; that a login under a name that nobody has costs and
// answers what a wrong password does, and so tells nothing about who exists; and that a name is one name in whatever
// case and with whatever spaces around it, for users and for the lockout alike. It doesn't judge how good a password is.
package userpass

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const userPrefix = "user/"

var (
	errAbsent  = fault.New(fault.NotFound, "")
	errNoUser  = fault.New(fault.NotFound, "there is no such user: write it to users/ first")
	errGone    = fault.New(fault.Invalid, "the user is gone: log in as another one")
	errLogin   = fault.New(fault.Invalid, "invalid username or password")
	errMissing = fault.New(fault.Invalid, "missing password")
)

// user is the record of a user.
type user struct {
	Hash  []byte             `json:"hash"`
	Token engine.TokenParams `json:"token"`
}

// New returns the auth method.
func New() engine.Engine {
	return newMethod(bcrypt.DefaultCost)
}

func newMethod(cost int) *method {
	return &method{cost: cost, slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
}

type method struct {
	cost  int           // of the hashes that are made
	slots chan struct{} // full while as many hash as may: a processor stays free for those who have logged in
}

// Names implements engine.Namer.
func (*method) Names() []string { return []string{"username"} }

// Routes implements engine.Engine.
func (m *method) Routes() []engine.Route {
	const passwordFields = "password, password_hash"
	return []engine.Route{
		{
			Path: "users", Ops: map[engine.Operation]engine.Handler{engine.List: engine.InView(list)},
			Summary: "the names of the users", Query: "after, limit int", Clear: "keys",
		},
		{
			Path: "users/{username}", Exists: exists,
			Ops: map[engine.Operation]engine.Handler{
				engine.Read: engine.InView(read), engine.Update: m.write, engine.Delete: engine.InUpdate(remove),
			},
			Summary: "a user: read, write or delete it", Fields: passwordFields + ", " + engine.TokenFields, Clear: engine.TokenClear,
		},
		{
			Path: "users/{username}/password", Ops: map[engine.Operation]engine.Handler{engine.Update: m.writePassword},
			Summary: "give a user another password", Fields: passwordFields,
		},
		{
			Path: "users/{username}/policies", Ops: map[engine.Operation]engine.Handler{engine.Update: engine.InUpdate(writePolicies)},
			Summary: "give a user other policies", Fields: "token_policies list, policies list", Clear: "token_policies policies",
		},
		{
			Path: "login/{username}", Login: true, Ops: map[engine.Operation]engine.Handler{engine.Update: m.login},
			Summary: "log in with a password", Fields: "password",
		},
	}
}

// get returns a user; nil if there is none.
func get(r store.Reader, name string) (*user, error) { return engine.GetJSON[user](r, userPrefix+name) }

func put(tx store.Tx, name string, u *user) error { return engine.PutJSON(tx, userPrefix+name, u) }

// named returns the user that a path names, nil if there is none, and the name in its one form.
func named(tx store.Reader, r *engine.Request) (string, *user, error) {
	name, err := engine.Name(r.Params["username"])
	if err != nil {
		return "", nil, err
	}
	u, err := get(tx, name)
	return name, u, err
}

// needed is named where the user must be there.
func needed(tx store.Reader, r *engine.Request, absent error) (string, *user, error) {
	name, u, err := named(tx, r)
	if err == nil && u == nil {
		err = absent
	}
	return name, u, err
}

func exists(tx store.Reader, r *engine.Request) (bool, error) {
	_, u, err := named(tx, r)
	if fault.As(err) != nil { // what has no name isn't there
		return false, nil
	}
	return u != nil, err
}

func list(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return engine.Keys(tx, r, userPrefix)
}

func read(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, u, err := needed(tx, r, errAbsent)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: u.Token.Data()}, nil
}

func remove(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, err := engine.Name(r.Params["username"])
	if err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Delete(userPrefix + name)
}

// write creates or changes a user. What isn't given stays; a new user needs a password.
func (m *method) write(ctx context.Context, r *engine.Request) (*engine.Response, error) {
	return m.withHash(ctx, r, func(tx engine.Tx, name string, u *user, hash []byte) error {
		if u == nil && hash == nil {
			return errMissing
		}
		if u == nil {
			u = new(user)
		}
		if hash != nil {
			u.Hash = hash
		}
		engine.ReadTokenParams(r.Fields, &u.Token)
		if err := r.Fields.Err(); err != nil {
			return err
		}
		return put(tx, name, u)
	})
}

func (m *method) writePassword(ctx context.Context, r *engine.Request) (*engine.Response, error) {
	return m.withHash(ctx, r, func(tx engine.Tx, name string, u *user, hash []byte) error {
		switch {
		case hash == nil:
			return errMissing
		case u == nil:
			return errNoUser
		}
		u.Hash = hash
		return put(tx, name, u)
	})
}

// withHash runs fn with the user of the path and the hash that the request gives or makes, nil if it has none.
func (m *method) withHash(ctx context.Context, r *engine.Request, fn func(tx engine.Tx, name string, u *user, hash []byte) error) (*engine.Response, error) {
	if err := r.Allowed(ctx); err != nil {
		return nil, err
	}
	hash, refused := m.hashOf(ctx, r.Fields)
	return engine.InUpdate(func(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
		if refused != nil { // here, because what is refused uses its token, too
			return nil, refused
		}
		name, u, err := named(tx, r)
		if err != nil {
			return nil, err
		}
		if hash != nil {
			if err := m.raiseCost(tx, hash); err != nil {
				return nil, err
			}
		}
		return &engine.Response{}, fn(tx, name, u, hash)
	})(ctx, r)
}

func writePolicies(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, u, err := needed(tx, r, errNoUser)
	if err != nil {
		return nil, err
	}
	field := "token_policies"
	if !r.Fields.Has(field) {
		field = "policies"
	}
	u.Token.Policies = engine.ReadPolicies(r.Fields, field)
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	return &engine.Response{}, put(tx, name, u)
}

// Renew implements engine.Renewer.
func (*method) Renew(tx store.Reader, _ engine.Mount, login engine.Login) (engine.TokenParams, error) {
	u, err := get(tx, login.Metadata["username"])
	if err != nil {
		return engine.TokenParams{}, err
	}
	if u == nil {
		return engine.TokenParams{}, errGone
	}
	return u.Token, nil
}

// Sweep implements engine.Sweeper.
func (*method) Sweep(ctx context.Context, st store.Store, now time.Time) error {
	return engine.SweepLockouts(ctx, st, now)
}
