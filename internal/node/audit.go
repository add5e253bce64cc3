package node

import (
	"context"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// auditKey → the key of the audit devices' HMACs
const auditKey = "audit/key"

var (
	errAuditPath       = fault.New(fault.Invalid, "the path of an audit device must be a name of lower-case letters, digits, - and _")
	errAuditInUse      = fault.New(fault.Invalid, "path already in use: an audit device has this name")
	errAuditConfigured = fault.New(fault.Invalid, "this audit device is in the server's configuration: take it out there and restart")
)

// startAudit gives the audit devices their key, which is made when it is first needed.
func (n *Node) startAudit(ctx context.Context, act *active) error {
	var key []byte
	err := act.Barrier.View(ctx, func(r store.Reader) error {
		values, err := r.Get(auditKey)
		key = append(key[:0], values[0]...)
		return err
	})
	if err != nil {
		return err
	}
	if len(key) == 0 {
		key = make([]byte, 32)
		if _, err := n.Rand.Read(key); err != nil {
			return err
		}
		err := act.Barrier.Update(ctx, func(tx store.Tx) error {
			values, err := tx.Get(auditKey)
			switch {
			case err != nil:
				return err
			case values[0] == nil:
				return tx.Put(auditKey, key)
			}
			copy(key, values[0]) // another server was first
			return nil
		})
		if err != nil {
			return err
		}
	}
	act.auditKey = secret.Own(key)
	n.Audit.SetKey(act.auditKey)
	return nil
}

// stopAudit takes away what only an open store gives: the key, and the devices that were made over the API. Those of the
// configuration go on.
func (n *Node) stopAudit() {
	n.Audit.SetStored(nil)
	n.Audit.SetKey(secret.Bytes{})
}

// auditName is the name of a device, without the slash that it is shown with.
func auditName(path string) (string, error) {
	name := strings.TrimSuffix(path, "/")
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		return "", errAuditPath
	}
	return name, nil
}

// EnableAudit adds an audit device, once it has taken a test entry.
func (n *Node) EnableAudit(ctx context.Context, a Access, d audit.Device) error {
	if err := n.admit(ctx, a); err != nil {
		return err
	}
	name, refused := n.tryAudit(ctx, &d)
	return n.Update(ctx, a, func(c *Call) error {
		if refused != nil {
			return refused
		}
		values, err := c.Tx.Get(auditPrefix + name)
		if err != nil {
			return err
		}
		if values[0] != nil {
			return errAuditInUse
		}
		if err := putJSON(c.Tx, auditPrefix+name, d); err != nil {
			return err
		}
		return c.changedSystem()
	})
}

// tryAudit gives a new device the path that it is shown with, and makes sure that it takes entries.
func (n *Node) tryAudit(ctx context.Context, d *audit.Device) (name string, err error) {
	if name, err = auditName(d.Path); err != nil {
		return "", err
	}
	d.Path = name + "/"
	if slices.ContainsFunc(n.Audit.Devices(), func(other audit.Device) bool { return other.Path == d.Path }) {
		return "", errAuditInUse
	}
	if err := n.Audit.Check(*d, false); err != nil {
		return "", err
	}
	return name, n.Audit.Test(ctx, *d)
}

// DisableAudit removes an audit device that was added by EnableAudit; that there is none is no error.
func (c *Call) DisableAudit(path string) error {
	name, err := auditName(path)
	if err != nil {
		return err
	}
	values, err := c.Tx.Get(auditPrefix + name)
	if err != nil {
		return err
	}
	if values[0] == nil {
		for _, d := range c.node.Audit.Devices() {
			if d.Path == name+"/" {
				return errAuditConfigured
			}
		}
		return nil
	}
	if err := c.Tx.Delete(auditPrefix + name); err != nil {
		return err
	}
	return c.changedSystem()
}
