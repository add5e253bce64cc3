package node

import (
	"context"
	"slices"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/store"
)

var errPreflight = fault.New(fault.Denied, "preflight capability check returned 403: ensure that the token's policies grant access to this path, and that there is a mount")

// see finds out who asks, and lets what say what that one sees, instead of a policy for the path. It counts no use of the
// token: no more is told than what is mounted where.
func (n *Node) see(ctx context.Context, a Access, what func(judgement) error) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			j, err := act.judge(r, a)
			if err != nil {
				return err
			}
			j.denied = what(j)
			if err := a.note(j); err != nil {
				return err
			}
			return j.denied
		})
	})
}

// Preflight finds the mount that a path lies in, for every live token that has any right in that mount.
func (n *Node) Preflight(ctx context.Context, a Access, path string) (e *mount.Entry, err error) {
	err = n.see(ctx, a, func(j judgement) error {
		if j.token == nil {
			return ErrDenied
		}
		found, _, ok := j.sys.mounts.Find(path)
		if !ok || !j.acl.Below(found.Path) {
			return errPreflight
		}
		e = found
		return nil
	})
	return e, err
}

// VisibleMounts are the mounts in which a token has any right, and those that are shown to everybody. known says whether
// the token lives.
func (n *Node) VisibleMounts(ctx context.Context, a Access) (list []*mount.Entry, known bool, err error) {
	err = n.see(ctx, a, func(j judgement) error {
		known = j.token != nil
		list = slices.Concat(j.sys.mounts.List(false), j.sys.mounts.List(true))
		list = slices.DeleteFunc(list, func(e *mount.Entry) bool {
			return e.Config.ListingVisibility != "unauth" && !(known && j.acl.Below(e.Path))
		})
		return nil
	})
	return list, known, err
}

// RateLimit returns a rate limit by any spelling of its name, nil if there is none.
func (c *Call) RateLimit(name string) (*Quota, error) {
	name, err := policy.NormalizeName(name)
	if err != nil {
		return nil, err
	}
	for _, q := range c.sys.quotas {
		if q.Name == name {
			return &q, nil
		}
	}
	return nil, nil
}

// RateLimitNames returns the names of the rate limits, sorted: those behind after, at most limit of them unless limit is 0.
func (c *Call) RateLimitNames(after string, limit int) []string {
	var names []string
	for _, q := range c.sys.quotas {
		names = append(names, q.Name)
	}
	return paged(names, after, limit)
}
