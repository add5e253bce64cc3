package approle

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
)

// roleName is what the metadata of a login calls the role.
const roleName = "role_name"

var (
	errLogin = fault.New(fault.Invalid, "invalid role or secret ID")
	errFrom  = fault.New(fault.Denied, "permission denied: this address is in none of the networks that the role or the secret ID is bound to")
)

// login decides, counts and makes the token in one transaction.
func login(ctx context.Context, r *engine.Request) (*engine.Response, error) {
	roleID, secret := r.Fields.Str("role_id"), r.Fields.Text("secret_id")
	switch {
	case r.Fields.Err() != nil:
		return nil, r.Fields.Err()
	case roleID == "" || len(roleID) > maxID:
		return nil, errRoleID
	case len(secret) > maxID: // nobody has it
		secret = nil
	}
	return engine.Decide(ctx, r, func(tx engine.Tx) (refused, err error) { return decide(tx, r, roleID, secret) })
}

// decide makes the token, or counts the failure and returns what the client is told.
func decide(tx engine.Tx, r *engine.Request, roleID string, secret []byte) (refused, err error) {
	salt, err := engine.NeedSalt(tx)
	if err != nil {
		return nil, err
	}
	lockout := engine.NewLockout(salt, roleID)
	if err := lockout.Check(tx, r.Now); err != nil {
		return nil, err
	}
	name, ro, k, err := match(tx, r, salt, roleID, secret)
	if err != nil {
		return nil, err
	}
	if ro == nil {
		return errLogin, lockout.Fail(tx, r.Now)
	}
	params, ok := ro.tokenFor(k, r)
	if !ok {
		return errFrom, nil
	}
	if err := lockout.Clear(tx); err != nil {
		return nil, err
	}
	meta := map[string]string{}
	if k != nil {
		maps.Copy(meta, k.Metadata)
		if err := k.use(tx, r); err != nil {
			return nil, err
		}
	}
	meta[roleName] = name
	return nil, tx.Login(engine.Login{Path: "login", DisplayName: "approle", Metadata: meta, Token: params})
}

// match finds the role of a pair, and its secret ID if it has one; no role if they don't fit. What it reads doesn't depend
// on what it finds, so that a role ID that nobody has takes the same time.
func match(tx engine.Tx, r *engine.Request, salt []byte, roleID string, secret []byte) (string, *role, *kept, error) {
	owner, err := engine.Get(tx, roleIDKey(salt, roleID))
	if err != nil {
		return "", nil, nil, err
	}
	name := string(owner)
	ro, err := load(tx, name)
	if err != nil {
		return "", nil, nil, err
	}
	of := ro
	if of == nil {
		of = &role{BindSecretID: true}
	}
	k, err := find(tx, of.Serial, secretDigest(salt, of, secret))
	switch {
	case err != nil || ro == nil:
		return "", nil, nil, err
	case !ro.BindSecretID:
		return name, ro, nil, nil
	case k == nil || k.expired(r.Now):
		return "", nil, nil, nil
	}
	return name, ro, k, nil
}

// tokenFor is the token of a login from where the client is; not ok if it may not log in from there. The role may have
// been bound more closely since the secret ID was made, so both count.
func (ro *role) tokenFor(k *kept, r *engine.Request) (p engine.TokenParams, ok bool) {
	p = ro.Token
	ok = engine.AllowedFrom(ro.BoundCIDRs, r.Client) && engine.AllowedFrom(p.BoundCIDRs, r.Client)
	if k == nil || !ok {
		return p, ok
	}
	switch {
	case len(k.TokenCIDRs) == 0:
	case len(p.BoundCIDRs) == 0:
		p.BoundCIDRs = k.TokenCIDRs
	default: // not empty if the client is in both
		closer := slices.DeleteFunc(common(p.BoundCIDRs, k.TokenCIDRs), func(n netip.Prefix) bool { return slices.Contains(k.TokenCIDRs, n) })
		p.BoundCIDRs = append(common(k.TokenCIDRs, p.BoundCIDRs), closer...)
	}
	return p, engine.AllowedFrom(k.BoundCIDRs, r.Client) && engine.AllowedFrom(k.TokenCIDRs, r.Client)
}

// use counts one use of a secret ID.
func (k *kept) use(tx engine.Tx, r *engine.Request) error {
	if !k.Limited {
		return nil
	}
	if k.NumUses--; k.NumUses <= 0 {
		return k.remove(tx)
	}
	k.Updated = r.Now.UTC()
	return engine.PutJSON(tx, k.key(), &k.secretID)
}
