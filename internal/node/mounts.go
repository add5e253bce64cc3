package node

import (
	"context"
	"maps"
	"slices"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/store"
)

var (
	errMountType   = fault.New(fault.Invalid, "plugin not found in the catalog: this server has the secrets engines kv (options version=1 or version=2), and the auth methods userpass and approle")
	errMountOnce   = fault.New(fault.Invalid, "this engine is mounted from the start and can't be mounted again, moved or disabled")
	errNoMount     = fault.New(fault.Invalid, "no secret engine mount at this path: sys/mounts lists them")
	errNoAuthMount = fault.New(fault.Invalid, "no auth method at this path: sys/auth lists them")
	errMountChange = fault.New(fault.Invalid, "the version of a mount can be raised from 1 to 2 only while it is empty: enable another mount and copy the secrets")
)

// Mounts lists the secrets engines or the auth methods, sorted by path.
func (c *Call) Mounts(auth bool) []*mount.Entry { return c.sys.mounts.List(auth) }

// AllMounts lists the secrets engines and the auth methods, sorted by path.
func (c *Call) AllMounts() []*mount.Entry { return c.sys.mounts.All() }

// MountTTLs are the effective lifetimes of what comes from a mount.
func (n *Node) MountTTLs(e *mount.Entry) (defaultTTL, maxTTL int64) {
	m := n.engineMount(e)
	return int64(m.DefaultTTL.Seconds()), int64(m.MaxTTL.Seconds())
}

// Mount returns the mount at a path as NormalizePath knows it, which may be written without the slash.
func (c *Call) Mount(path string, auth bool) (*mount.Entry, error) {
	full, err := mount.NormalizePath(path, auth)
	if err != nil {
		return nil, err
	}
	if e := c.sys.mounts.At(full); e != nil && e.Auth() == auth {
		return e, nil
	}
	if auth {
		return nil, errNoAuthMount
	}
	return nil, errNoMount
}

// MountOf returns the mount that a path lies in, nil if none.
func (c *Call) MountOf(path string) *mount.Entry {
	e, _, _ := c.sys.mounts.Find(path)
	return e
}

// MountByUUID returns the mount of this UUID, nil if there is none.
func (c *Call) MountByUUID(uuid string) *mount.Entry { return c.sys.mounts.ByUUID(uuid) }

// Seen reports whether the token has any right in a mount.
func (c *Call) Seen(e *mount.Entry) bool { return c.acl.Below(e.Path) }

// Enable adds a mount.
func (c *Call) Enable(e mount.Entry) error {
	if err := c.node.enable(c.Tx, c.sys.mounts, e); err != nil {
		return err
	}
	return c.changedSystem()
}

func (n *Node) enable(tx store.Tx, t *mount.Table, e mount.Entry) error {
	e.Options = maps.Clone(e.Options)
	if e.Type == "kv-v2" {
		e.Type, e.Options = "kv", with(e.Options, "version", "2")
	}
	if e.Type == "generic" || e.Type == "kv-v1" {
		e.Type = "kv"
	}
	if e.Type == "kv" && e.Options["version"] == "" {
		e.Options = with(e.Options, "version", "1")
	}
	k := n.KindOf(&e)
	switch {
	case k == nil:
		return errMountType
	case k.Once:
		return errMountOnce
	}
	e.Created = n.Now().UTC().Round(0)
	return mount.Add(tx, t, e)
}

func with(options map[string]string, name, value string) map[string]string {
	if options == nil {
		options = make(map[string]string)
	}
	options[name] = value
	return options
}

// Tune stores a mount whose description, configuration or options were changed.
func (c *Call) Tune(e mount.Entry) error {
	old := c.sys.mounts.At(e.Path)
	if old.Options["version"] != e.Options["version"] {
		if k := c.node.KindOf(&e); k == nil {
			return errMountType
		}
		for _, err := range c.Tx.Scan(e.Records(), "") {
			if err == nil {
				err = errMountChange
			}
			return err
		}
	}
	if err := mount.Put(c.Tx, e); err != nil {
		return err
	}
	return c.changedSystem()
}

// Move gives a mount another path. Its records stay where they are.
func (c *Call) Move(e *mount.Entry, to string) error {
	if k := c.node.KindOf(e); k == nil || k.Once {
		return errMountOnce
	}
	if err := mount.Move(c.Tx, c.sys.mounts, *e, to); err != nil {
		return err
	}
	return c.changedSystem()
}

// Disable takes a mount away with all that is in it; tokens that came from it are dead at once, with their trees. That
// there is none is no error.
func (n *Node) Disable(ctx context.Context, a Access, path string, auth bool) error {
	return n.use(ctx, func(ctx context.Context, act *active) error {
		var gone *mount.Entry
		err := n.update(ctx, act, a, func(c *Call) error {
			e, err := c.Mount(path, auth)
			if gone = e; err == errNoMount || err == errNoAuthMount {
				return nil
			}
			if err != nil {
				return err
			}
			if k := n.KindOf(e); k == nil || k.Once {
				return errMountOnce
			}
			if err := mount.Remove(c.Tx, *e); err != nil {
				return err
			}
			return c.changedSystem()
		})
		if err != nil || gone == nil {
			return err
		}
		n.Logger.Info("mount disabled", "path", gone.Path, "type", gone.Type)
		return n.revokeGone(ctx, act, gone)
	})
}

// revokeGone revokes the tokens that came from a mount which is gone. They are dead already; what is below them isn't.
func (n *Node) revokeGone(ctx context.Context, act *active, e *mount.Entry) error {
	if !e.Auth() {
		return nil
	}
	for _, path := range append([]string{e.Path}, e.Former...) {
		if err := n.revokeLeases(ctx, act, path, func(mount string) bool { return mount == e.UUID }); err != nil {
			return err
		}
	}
	return nil
}

// sweepMounts ends what Disable began.
func (n *Node) sweepMounts(ctx context.Context, act *active) error {
	gone, err := mount.Removed(ctx, act.Barrier)
	if err != nil {
		return err
	}
	for _, e := range gone {
		if err := n.revokeGone(ctx, act, e); err != nil {
			return err
		}
	}
	return mount.Purge(ctx, act.Barrier, gone)
}

var errPreflight = fault.New(fault.Denied, "preflight capability check returned 403: ensure that the token's policies grant access to this path, and that there is a mount")

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
		list = slices.DeleteFunc(j.sys.mounts.All(), func(e *mount.Entry) bool {
			return e.Config.ListingVisibility != "unauth" && !(known && j.acl.Below(e.Path))
		})
		return nil
	})
	return list, known, err
}
