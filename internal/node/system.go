package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/store"
)

// Records of how the server is set up. A change to any of them changes the version of its kind, and the stamp.
const (
	systemVersionKey = "sys/version"
	corsKey          = "sys/cors"
	auditPrefix      = "sys/audit/"             // :: path without slash → audit.Device
	quotaPrefix      = "sys/quotas/rate-limit/" // :: name → Quota
	policyVersionKey = "policy/version"
	policyPrefix     = "policy/acl/" // :: name → policyRecord
)

// system is how the server is set up: what is the same for all requests between two changes of the stamp. It is never
// changed once it is in force.
type system struct {
	stamp           string
	version, policy string // of the records it was made from
	mounts          *mount.Table
	devices         []audit.Device
	quotas          []Quota
	cors            CORS
	acls            *acls
}

// CORS says which pages of other origins may use this server with a token of their own.
type CORS struct {
	Enabled bool     `json:"enabled"`
	Origins []string `json:"allowed_origins"`
	Headers []string `json:"allowed_headers"`
}

// system returns what holds in r's snapshot, from memory if the stamp says that nothing has changed.
func (a *active) system(r store.Reader) (*system, error) {
	values, err := r.Get(barrier.StampKey)
	if err != nil {
		return nil, err
	}
	known := a.sys.Load()
	if known != nil && known.stamp == string(values[0]) {
		return known, nil
	}
	now, err := loadSystem(r, string(values[0]), known)
	if err != nil {
		return nil, err
	}
	a.seeing.Lock() // or the devices of an older snapshot could stay beside the system of a newer one
	defer a.seeing.Unlock()
	switch last := a.sys.Load(); {
	case last == nil || now.version != last.version:
		a.broker.SetStored(now.devices)
	case now.stamp == last.stamp: // another request has loaded the same meanwhile
		return last, nil
	default: // one table for each version: who found a mount in it is to find the same one again
		now.mounts, now.devices, now.quotas, now.cors = last.mounts, last.devices, last.quotas, last.cors
	}
	a.sys.Store(now)
	return now, nil
}

// loadSystem reads what has changed since known, which may be nil.
func loadSystem(r store.Reader, stamp string, known *system) (*system, error) {
	values, err := r.Get(systemVersionKey, policyVersionKey)
	if err != nil {
		return nil, err
	}
	s := &system{stamp: stamp, version: string(values[0]), policy: string(values[1])}
	if known != nil && known.policy == s.policy {
		s.acls = known.acls
	} else {
		s.acls = newACLs()
	}
	if known != nil && known.version == s.version {
		s.mounts, s.devices, s.quotas, s.cors = known.mounts, known.devices, known.quotas, known.cors
		return s, nil
	}
	if s.mounts, err = mount.Load(r); err != nil {
		return nil, err
	}
	if s.devices, err = readAll[audit.Device](r, auditPrefix); err != nil {
		return nil, err
	}
	if s.quotas, err = readAll[Quota](r, quotaPrefix); err != nil {
		return nil, err
	}
	return s, getJSON(r, corsKey, &s.cors)
}

// changedSystem and changedPolicies belong to the end of every transaction that changes such a record.
func changedSystem(tx store.Tx) error   { return touched(tx, systemVersionKey) }
func changedPolicies(tx store.Tx) error { return touched(tx, policyVersionKey) }

// changedSystem and changedPolicies do the same for a call, and let this process see the change once it has committed.
func (c *Call) changedSystem() error   { return c.touched(changedSystem) }
func (c *Call) changedPolicies() error { return c.touched(changedPolicies) }

func (c *Call) touched(change func(store.Tx) error) error {
	c.after = append(c.after, func() {
		// A failure costs no more than that the next request has to look itself.
		_, _ = c.act.snapshot(context.Background())
	})
	return change(c.Tx)
}

func touched(tx store.Tx, version string) error {
	if err := tx.Put(version, []byte(rand.Text())); err != nil {
		return err
	}
	return barrier.BumpStamp(tx)
}

// snapshot brings the system up to date outside of any request's own transaction.
func (a *active) snapshot(ctx context.Context) (s *system, err error) {
	err = a.Barrier.View(ctx, func(r store.Reader) (err error) {
		s, err = a.system(r)
		return err
	})
	return s, err
}

// readAll reads the records under a prefix, in the order of their keys.
func readAll[T any](r store.Reader, prefix string) (list []T, err error) {
	for entry, err := range r.Scan(prefix, "") {
		if err != nil {
			return nil, err
		}
		var v T
		if err := json.Unmarshal(entry.Value, &v); err != nil {
			return nil, fmt.Errorf("record %s: %w", entry.Key, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// SetCORS says which pages may use the server.
func (c *Call) SetCORS(cors CORS) error {
	if err := putJSON(c.Tx, corsKey, cors); err != nil {
		return err
	}
	return c.changedSystem()
}

// CORS is what SetCORS said last.
func (c *Call) CORS() CORS { return c.sys.cors }

// CORS is as last seen by this process.
func (n *Node) CORS() CORS {
	if a := n.active.Load(); a != nil {
		return a.sys.Load().cors
	}
	return CORS{}
}
