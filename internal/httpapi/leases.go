package httpapi

import (
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/token"
)

var (
	errNoLeaseID    = fault.New(fault.Invalid, "missing lease_id: give it in the field 'lease_id'")
	errInvalidLease = fault.New(fault.Invalid, "invalid lease: it does not exist, has expired or was revoked")
	errLeaseGone    = fault.New(fault.Invalid, "lease not found: it does not exist, has expired or was revoked")
	errLeaseType    = fault.New(fault.Invalid, "type must be irrevocable or all")
)

// leaseRoutes are about the leases there are: those of tokens.
func leaseRoutes() []route {
	const (
		fields = "lease_id, increment duration"
		shown  = "issue_time expire_time last_renewal increment sync type counts"
	)
	list := []route{
		{path: "sys/leases/lookup", ops: map[operation]handler{
			opUpdate: lookupLease, opList: listLeases,
		}, summary: "look a lease up; what all lease IDs begin with", fields: "lease_id", query: "after, limit int"},
		{path: "sys/leases/lookup/{prefix...}", sudo: true, ops: map[operation]handler{
			opList: listLeases,
		}, summary: "the lease IDs below a prefix", query: "after, limit int"},
		{path: "sys/leases/count", ops: map[operation]handler{opRead: countLeases}, summary: "how many leases there are, by mount", query: "type"},
		{path: "sys/leases/tidy", ops: map[operation]handler{opUpdate: tidyTokens}, summary: "remove what has expired, and what leads to no lease"},
	}
	for _, family := range []string{"sys/leases/", "sys/"} { // the second one is for old clients
		for _, id := range []string{"", "/{lease_id...}"} {
			list = append(
				list,
				route{path: family + "renew" + id, ops: map[operation]handler{opUpdate: renewLease}, summary: "renew a lease", fields: fields},
				route{path: family + "revoke" + id, ops: map[operation]handler{opUpdate: revokeLease}, summary: "revoke a lease", fields: "lease_id, sync bool"},
			)
		}
		for _, verb := range []string{"revoke-prefix", "revoke-force"} {
			list = append(list, route{path: family + verb + "/{prefix...}", sudo: true, ops: map[operation]handler{
				opUpdate: revokeLeases,
			}, summary: "revoke all leases below a prefix", fields: "sync bool"})
		}
	}
	for i := range list {
		list[i].clear = shown
	}
	return ofToken(list)
}

// lease finds the token whose lease is in the path or the body; absent says what it means that there is none.
func (x *exchange) lease(c *node.Call, absent error) (*token.Entry, error) {
	id := x.param("lease_id")
	if id == "" {
		id = x.fields.Str("lease_id")
	}
	switch {
	case x.fields.Err() != nil:
		return nil, x.fields.Err()
	case id == "":
		return nil, errNoLeaseID
	}
	e, err := c.Tokens.ByLease(c.Tx, id)
	if err == nil && e == nil {
		err = absent
	}
	return e, err
}

// leaseData is what a lookup tells.
type leaseData struct {
	ID          string  `json:"id"`
	IssueTime   string  `json:"issue_time"`
	ExpireTime  string  `json:"expire_time"`
	LastRenewal *string `json:"last_renewal"`
	Renewable   bool    `json:"renewable"`
	TTL         int64   `json:"ttl"` // seconds
}

func lookupLease(x *exchange) (*reply, error) {
	var data leaseData
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		e, err := x.lease(c, errInvalidLease)
		if err != nil {
			return err
		}
		data = leaseData{
			ID: e.LeaseID(), IssueTime: rfc3339(e.Created), ExpireTime: rfc3339(e.Expires), Renewable: e.Renewable, TTL: seconds(e.Remaining(x.Now())),
		}
		if !e.LastRenewal.IsZero() {
			renewed := rfc3339(e.LastRenewal)
			data.LastRenewal = &renewed
		}
		return nil
	})
	return &reply{data: data}, err
}

// listLeases needs sudo also on the path that doesn't for a lookup.
func listLeases(x *exchange) (*reply, error) {
	a := x.access()
	a.Sudo = true
	return x.page(a, func(c *node.Call, after string, limit int) ([]string, error) {
		return c.Tokens.Leases(c.Tx, x.param("prefix"), after, limit)
	})
}

// renewLease answers in the envelope itself, and with nothing of the token but its lease.
func renewLease(x *exchange) (*reply, error) {
	increment := x.fields.Duration("increment")
	var e envelope
	err := x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		found, err := x.lease(c, errLeaseGone)
		if err != nil {
			return err
		}
		warnings, err := c.Renew(found, token.Renewal{Increment: increment})
		e = envelope{
			RequestID: x.id(), LeaseID: found.LeaseID(), Renewable: found.Renewable, LeaseDuration: seconds(found.TTL), Warnings: warnings,
		}
		return err
	})
	return &reply{raw: e}, err
}

// revokeLease answers the same whether there is such a lease or not.
func revokeLease(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		e, err := x.lease(c, errLeaseGone)
		switch {
		case err == errLeaseGone:
			return nil
		case err != nil:
			return err
		}
		return c.Revoke(e, false)
	})
}

func revokeLeases(x *exchange) (*reply, error) {
	return &reply{}, x.Node.RevokeLeases(x.r.Context(), x.access(), x.param("prefix"))
}

// countLeases answers for those that can't be revoked, of which there are never any, or for all.
func countLeases(x *exchange) (*reply, error) {
	counts, total := map[string]int{}, 0
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) (err error) {
		switch x.r.URL.Query().Get("type") {
		case "":
			return errNothing
		case "irrevocable":
			return nil
		case "all":
			counts, total, err = c.Tokens.CountLeases(c.Tx, func(path string) string {
				if e := c.MountOf(path); e != nil {
					return e.Path
				}
				return "" // of a mount that is gone
			})
			return err
		}
		return errLeaseType
	})
	return &reply{data: map[string]any{"counts": counts, "lease_count": total}}, err
}
