package httpapi

import (
	"cmp"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

var (
	errBadToken     = fault.New(fault.Denied, "bad token")
	errNoToken      = fault.New(fault.Invalid, "missing token: give it in the field 'token'")
	errTokenGone    = fault.New(fault.Invalid, "token not found: it does not exist, has expired or was revoked")
	errNoAccessor   = fault.New(fault.Invalid, "missing accessor: give it in the field 'accessor'")
	errAccessorGone = fault.New(fault.Invalid, "invalid accessor: no live token has it")
	errListLimit    = fault.New(fault.Invalid, "limit must be a whole number that isn't negative: leave it out for the whole list")
)

const warnNoAccessor = "no token found with this accessor"

// tokenData is what a lookup tells.
type tokenData struct {
	Accessor        string            `json:"accessor"`
	CreationTime    int64             `json:"creation_time"` // Unix seconds
	CreationTTL     int64             `json:"creation_ttl"`  // seconds
	DisplayName     string            `json:"display_name"`
	EntityID        string            `json:"entity_id"`
	ExpireTime      *string           `json:"expire_time"`
	ExplicitMaxTTL  int64             `json:"explicit_max_ttl"`
	ID              text              `json:"id"` // empty when it was found by its accessor
	IssueTime       string            `json:"issue_time,omitempty"`
	LastRenewal     string            `json:"last_renewal,omitempty"`
	LastRenewalTime int64             `json:"last_renewal_time,omitempty"`
	Meta            map[string]string `json:"meta"`
	NumUses         int               `json:"num_uses"`
	Orphan          bool              `json:"orphan"`
	Path            string            `json:"path"`
	BoundCIDRs      []netip.Prefix    `json:"bound_cidrs,omitempty"`
	Role            string            `json:"role,omitempty"`
	Period          int64             `json:"period,omitempty"`
	Policies        []string          `json:"policies"`
	Renewable       *bool             `json:"renewable,omitempty"`
	TTL             int64             `json:"ttl"`
	Type            string            `json:"type"`
}

func newTokenData(e *token.Entry, id []byte, now time.Time) *tokenData {
	d := &tokenData{
		Accessor: e.Accessor, CreationTime: e.Created.Unix(), CreationTTL: seconds(e.CreationTTL), DisplayName: e.DisplayName,
		ExplicitMaxTTL: seconds(e.ExplicitMaxTTL), ID: id, Meta: e.Meta, NumUses: e.NumUses, Orphan: e.Orphan,
		BoundCIDRs: e.BoundCIDRs, Role: e.Role,
		Path: e.Path, Period: seconds(e.Period), Policies: e.Policies, TTL: seconds(e.Remaining(now)), Type: e.Type,
	}
	if !e.NeverExpires {
		expires := rfc3339(e.Expires)
		d.ExpireTime, d.IssueTime, d.Renewable = &expires, rfc3339(e.Created), &e.Renewable
	}
	if !e.LastRenewal.IsZero() {
		d.LastRenewal, d.LastRenewalTime = rfc3339(e.LastRenewal), e.LastRenewal.Unix()
	}
	return d
}

// newAuth is how a token looks to who made or renewed it.
func newAuth(e *token.Entry, id []byte) *authBlock {
	return &authBlock{
		ClientToken: id, Accessor: e.Accessor, Policies: e.Policies, TokenPolicies: e.Policies, Metadata: e.Meta,
		LeaseDuration: seconds(e.TTL), Renewable: e.Renewable, TokenType: e.Type, Orphan: e.Orphan, NumUses: e.NumUses,
	}
}

// seconds is how durations look in replies.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// tokenFinder reads the token that a request is about, with its ID as far as the request told it. It runs once the
// request has been found to be allowed: what is wrong with the body isn't told to who may not ask.
type tokenFinder func(x *exchange, c *node.Call) (e *token.Entry, id []byte, err error)

// self finds the request's own token.
func self(x *exchange, c *node.Call) (*token.Entry, []byte, error) {
	return c.Token, x.token.Reveal(), x.fields.Err()
}

// byID finds the token in the body; absent says what it means that there is none of this ID.
func byID(absent error) tokenFinder {
	return func(x *exchange, c *node.Call) (*token.Entry, []byte, error) {
		id := x.fields.Text("token")
		switch {
		case x.fields.Err() != nil:
			return nil, nil, x.fields.Err()
		case len(id) == 0:
			return nil, nil, errNoToken
		}
		e, err := c.Tokens.Authenticate(c.Tx, id)
		if errors.Is(err, token.ErrDead) {
			err = absent
		}
		return e, id, err
	}
}

// byIDOrSelf is byID, but with no ID in the body it means the request's own token.
func byIDOrSelf(x *exchange, c *node.Call) (*token.Entry, []byte, error) {
	e, id, err := byID(errBadToken)(x, c)
	if errors.Is(err, errNoToken) {
		return self(x, c)
	}
	return e, id, err
}

func byAccessor(x *exchange, c *node.Call) (*token.Entry, []byte, error) {
	accessor := x.fields.Str("accessor")
	switch {
	case x.fields.Err() != nil:
		return nil, nil, x.fields.Err()
	case accessor == "":
		return nil, nil, errNoAccessor
	}
	e, err := c.Tokens.ByAccessor(c.Tx, accessor)
	if err == nil && e == nil {
		err = errAccessorGone
	}
	return e, nil, err
}

func lookup(find tokenFinder) handler {
	return func(x *exchange) (*reply, error) {
		var data *tokenData
		err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
			e, id, err := find(x, c)
			if err == nil {
				data = newTokenData(e, id, x.Now())
			}
			return err
		})
		return &reply{data: data}, err
	}
}

func renew(find tokenFinder) handler {
	return func(x *exchange) (*reply, error) {
		increment := x.fields.Duration("increment")
		rep := &reply{}
		err := x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
			e, id, err := find(x, c)
			if err != nil {
				return err
			}
			if rep.warnings, err = c.Renew(e, token.Renewal{Increment: increment}); err != nil {
				return err
			}
			rep.auth = newAuth(e, id)
			return nil
		})
		return rep, err
	}
}

// revocation is what differs between the ways to end a token.
type revocation struct {
	find           tokenFinder
	orphanChildren bool
	// absent is what find says where it is no mistake that there is no such token; the reply is then 204, or warning.
	absent  error
	warning string
}

func (r revocation) handle(x *exchange) (*reply, error) {
	rep := &reply{}
	err := x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		rep.warnings = nil
		e, _, err := r.find(x, c)
		switch {
		case r.absent != nil && errors.Is(err, r.absent):
			if r.warning != "" {
				rep.warnings = []string{r.warning}
			}
			return nil
		case err != nil:
			return err
		}
		return c.Revoke(e, r.orphanChildren)
	})
	return rep, err
}

// create makes a token below the request's own, or an orphan.
func create(orphan bool) handler {
	return func(x *exchange) (*reply, error) {
		spec := x.tokenSpec()
		spec.Orphan = orphan
		var id secret.Bytes
		rep := &reply{}
		err := x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
			if x.fields.Err() != nil {
				return x.fields.Err()
			}
			id.Wipe()
			var e *token.Entry
			var err error
			if spec.Role, err = x.tokenRole(c); err != nil {
				return err
			}
			if id, e, rep.warnings, err = c.Create(spec); err != nil {
				return err
			}
			rep.auth, rep.inner, rep.made = newAuth(e, id.Reveal()), e.Accessor, true
			return nil
		})
		x.fields.Own(id.Reveal())
		return rep, err
	}
}

// tokenSpec reads what a new token shall be.
func (x *exchange) tokenSpec() token.Spec {
	f := &x.fields
	spec := token.Spec{
		Path: x.accessPath(),
		ID:   f.Text("id"), Policies: f.Strs("policies"), NoDefaultPolicy: f.Flag("no_default_policy", false),
		NoParent: f.Flag("no_parent", false), NotRenewable: !f.Flag("renewable", true),
		TTL: f.Duration("ttl"), ExplicitMaxTTL: f.Duration("explicit_max_ttl"), Period: f.Duration("period"),
		NumUses: f.Int("num_uses"), DisplayName: f.Str("display_name"), Meta: f.Pairs("meta"), Type: f.Str("type"),
	}
	if !f.Has("ttl") {
		spec.TTL = f.Duration("lease") // its old name
	}
	return spec
}

// listAccessors takes after and limit from the query, so that a long list can be read in parts.
func listAccessors(x *exchange) (*reply, error) {
	q := x.r.URL.Query()
	limit, errLimit := strconv.Atoi(cmp.Or(q.Get("limit"), "0"))
	var list []string
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) (err error) {
		if errLimit != nil || limit < 0 {
			return errListLimit
		}
		list, err = c.Tokens.Accessors(c.Tx, q.Get("after"), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return listed(list)
}
