// Package approle is the auth method for machines: a role ID, and secret IDs that are made for the role.
//
// It promises that a secret ID can be read once, in the reply that makes it, and is kept as a keyed digest only; that
// one with limited uses is used no more often than that, because the use is counted in the transaction that makes the
// token; that one which has expired, or belongs to a role that is gone, admits nobody, swept or not; and that a pair
// that doesn't fit answers the same whatever is wrong with it.
package approle

import (
	"context"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// The records of a mount. A role's secret IDs are found by the serial of the role, which no other role ever has.
const (
	rolePrefix     = "role/"     // + name
	roleIDPrefix   = "role-id/"  // + digest of the role ID → name
	secretPrefix   = "secret/"   // + serial/digest of the secret ID
	accessorPrefix = "accessor/" // + serial/accessor → digest of the secret ID
	expiryPrefix   = "expiry/"   // + Unix seconds/serial/digest of the secret ID
	purgePrefix    = "purge/"    // + serial of a role that is gone, whose secret IDs aren't yet
)

const maxID = 512 // bytes of a role ID or secret ID

var (
	errAbsent   = fault.New(fault.NotFound, "")
	errNoRole   = fault.New(fault.NotFound, "there is no such role: write it to role/ first")
	errGone     = fault.New(fault.Invalid, "the role is gone: log in with another one")
	errRoleID   = fault.Newf(fault.Invalid, "missing role_id: send 1 to %d characters", maxID)
	errTaken    = fault.New(fault.Invalid, "the role_id belongs to another role: choose another one")
	errOpen     = fault.New(fault.Invalid, "a role without bind_secret_id needs secret_id_bound_cidrs or token_bound_cidrs: nothing else would bind it")
	errLocal    = fault.New(fault.Invalid, "local_secret_ids can only be set when the role is created")
	errNotGiven = fault.New(fault.Invalid, "missing field: send the field that the path names")
)

// role is the record of a role.
type role struct {
	Serial         string             `json:"serial"`
	RoleID         string             `json:"role_id"`
	BindSecretID   bool               `json:"bind_secret_id"`
	LocalSecretIDs bool               `json:"local_secret_ids,omitempty"`
	BoundCIDRs     []netip.Prefix     `json:"secret_id_bound_cidrs,omitempty"`
	NumUses        int                `json:"secret_id_num_uses,omitempty"`
	TTL            time.Duration      `json:"secret_id_ttl,omitempty"`
	Token          engine.TokenParams `json:"token"`
}

// New returns the auth method.
func New() engine.Engine { return method{} }

type method struct{}

// Names implements engine.Namer.
func (method) Names() []string { return []string{"role"} }

// Routes implements engine.Engine.
func (method) Routes() []engine.Route {
	routes := []engine.Route{
		{
			Path: "role", Ops: map[engine.Operation]engine.Handler{engine.List: engine.InView(listRoles)},
			Summary: "the names of the roles", Query: "after, limit int", Clear: "keys",
		},
		{
			Path: "role/{role}", Exists: exists,
			Ops: map[engine.Operation]engine.Handler{
				engine.Read: engine.InView(readRole), engine.Update: engine.InUpdate(writeRole), engine.Delete: engine.InUpdate(deleteRole),
			},
			Summary: "a role: read, write or delete it", Clear: roleClear + " " + engine.TokenClear,
			Fields: "bind_secret_id bool, secret_id_bound_cidrs list, secret_id_num_uses int, secret_id_ttl duration, local_secret_ids bool, " +
				"role_id, bound_cidr_list list, " + engine.TokenFields,
		},
		{
			Path: "role/{role}/role-id", Ops: map[engine.Operation]engine.Handler{
				engine.Read: engine.InView(readRoleID), engine.Update: engine.InUpdate(writeRoleID),
			},
			Summary: "the role ID: read it or choose it", Fields: "role_id",
		},
		{
			Path: "login", Login: true, Ops: map[engine.Operation]engine.Handler{engine.Update: login},
			Summary: "log in with a role ID and a secret ID", Fields: "role_id, secret_id",
		},
		{
			Path: "tidy/secret-id", Ops: map[engine.Operation]engine.Handler{engine.Update: engine.InUpdate(tidy)},
			Summary: "remove secret IDs that have expired",
		},
	}
	return append(append(routes, secretRoutes()...), fieldRoutes()...)
}

const roleClear = "bind_secret_id secret_id_bound_cidrs secret_id_num_uses secret_id_ttl local_secret_ids bound_cidr_list"

// load returns a role by its name in its one form; nil if there is none.
func load(r store.Reader, name string) (*role, error) {
	return engine.GetJSON[role](r, rolePrefix+name)
}

// named returns the role that a path names, nil if there is none, and the name in its one form.
func named(tx store.Reader, r *engine.Request) (string, *role, error) {
	name, err := engine.Name(r.Params["role"])
	if err != nil {
		return "", nil, err
	}
	ro, err := load(tx, name)
	return name, ro, err
}

// needed is named where the role must be there.
func needed(tx store.Reader, r *engine.Request, absent error) (string, *role, error) {
	name, ro, err := named(tx, r)
	if err == nil && ro == nil {
		err = absent
	}
	return name, ro, err
}

func exists(tx store.Reader, r *engine.Request) (bool, error) {
	_, ro, err := named(tx, r)
	if fault.As(err) != nil { // what has no name isn't there
		return false, nil
	}
	return ro != nil, err
}

// put stores a role, after what it must hold in any case.
func put(tx store.Tx, name string, ro *role) error {
	if !ro.BindSecretID && len(ro.BoundCIDRs) == 0 && len(ro.Token.BoundCIDRs) == 0 {
		return errOpen
	}
	if err := ro.Token.Check(); err != nil {
		return err
	}
	return engine.PutJSON(tx, rolePrefix+name, ro)
}

func fresh() *role {
	return &role{Serial: uuid.NewString(), RoleID: uuid.NewString(), BindSecretID: true}
}

func listRoles(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return engine.Keys(tx, r, rolePrefix)
}

func readRole(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, ro, err := needed(tx, r, errAbsent)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: ro.data()}, nil
}

// data is a role as it is read back.
func (ro *role) data() map[string]any {
	data := ro.Token.Data()
	data["bind_secret_id"] = ro.BindSecretID
	data["local_secret_ids"] = ro.LocalSecretIDs
	data["secret_id_num_uses"] = ro.NumUses
	data["secret_id_ttl"] = engine.Seconds(ro.TTL)
	data["secret_id_bound_cidrs"] = nil
	if len(ro.BoundCIDRs) > 0 {
		data["secret_id_bound_cidrs"] = engine.CIDRTexts(ro.BoundCIDRs)
	}
	return data
}

// set changes what is given in a request, and leaves the rest.
func (ro *role) set(f *body.Fields) {
	ro.BindSecretID = f.Flag("bind_secret_id", ro.BindSecretID)
	for _, name := range []string{"bound_cidr_list", "secret_id_bound_cidrs"} { // the older name first, so that the newer one wins
		if f.Has(name) {
			ro.BoundCIDRs = engine.ReadCIDRs(f, name)
		}
	}
	if f.Has("secret_id_num_uses") {
		ro.NumUses = engine.ReadUses(f, "secret_id_num_uses")
	}
	if f.Has("secret_id_ttl") {
		ro.TTL = f.Duration("secret_id_ttl")
	}
	engine.ReadTokenParams(f, &ro.Token)
}

func writeRole(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, ro, err := named(tx, r)
	if err != nil {
		return nil, err
	}
	local := r.Fields.Flag("local_secret_ids", ro != nil && ro.LocalSecretIDs)
	roleID := ""
	switch {
	case ro == nil:
		ro = fresh()
		ro.LocalSecretIDs, roleID = local, ro.RoleID
	case local != ro.LocalSecretIDs:
		return nil, errLocal
	}
	if r.Fields.Has("role_id") {
		roleID = r.Fields.Str("role_id")
	}
	ro.set(r.Fields)
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	if roleID != "" {
		if err := identify(tx, name, ro, roleID); err != nil {
			return nil, err
		}
	}
	return &engine.Response{}, put(tx, name, ro)
}

// identify gives a role its role ID.
func identify(tx engine.Tx, name string, ro *role, roleID string) error {
	if roleID == "" || len(roleID) > maxID {
		return errRoleID
	}
	salt, err := engine.NeedSalt(tx)
	if err != nil {
		return err
	}
	key := roleIDKey(salt, roleID)
	owner, err := engine.Get(tx, key)
	switch {
	case err != nil:
		return err
	case owner != nil && string(owner) != name:
		return errTaken
	}
	if err := tx.Delete(roleIDKey(salt, ro.RoleID)); err != nil {
		return err
	}
	ro.RoleID = roleID
	return tx.Put(key, []byte(name))
}

func roleIDKey(salt []byte, roleID string) string {
	return roleIDPrefix + engine.Digest(salt, "role-id", []byte(roleID))
}

func deleteRole(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, ro, err := named(tx, r)
	if err != nil || ro == nil {
		return &engine.Response{}, err
	}
	salt, err := engine.NeedSalt(tx)
	if err != nil {
		return nil, err
	}
	if err := tx.Delete(roleIDKey(salt, ro.RoleID)); err != nil {
		return nil, err
	}
	if err := tx.Put(purgePrefix+ro.Serial, []byte("{}")); err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Delete(rolePrefix + name)
}

func readRoleID(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, ro, err := needed(tx, r, errAbsent)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"role_id": ro.RoleID}}, nil
}

func writeRoleID(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, ro, err := needed(tx, r, errNoRole)
	if err != nil {
		return nil, err
	}
	roleID := r.Fields.Str("role_id")
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	if err := identify(tx, name, ro, roleID); err != nil {
		return nil, err
	}
	return &engine.Response{}, put(tx, name, ro)
}

// Renew implements engine.Renewer.
func (method) Renew(tx store.Reader, _ engine.Mount, login engine.Login) (engine.TokenParams, error) {
	ro, err := load(tx, login.Metadata[roleName])
	if err != nil {
		return engine.TokenParams{}, err
	}
	if ro == nil {
		return engine.TokenParams{}, errGone
	}
	return ro.Token, nil
}

// Sweep implements engine.Sweeper.
func (method) Sweep(ctx context.Context, st store.Store, now time.Time) error {
	if err := engine.SweepLockouts(ctx, st, now); err != nil {
		return err
	}
	if err := sweepExpired(ctx, st, now); err != nil {
		return err
	}
	return sweepPurged(ctx, st)
}
