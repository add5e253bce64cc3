package node

import (
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
)

var (
	errQuotaRate  = fault.New(fault.Invalid, "rate must be over 0, and interval at least a second: leave interval out for one second")
	errQuotaPath  = fault.New(fault.Invalid, "another rate limit has this path: change that one")
	errQuotaMount = fault.New(fault.Invalid, "nothing is mounted at the path of this rate limit, so it would limit nothing: give the path of a mount, or below one, or none for all")
	errQuotaBlock = fault.New(fault.Invalid, "block_interval can't be negative: leave it out")
)

// Quota bounds how often a path may be asked, for each client address.
type Quota struct {
	Name     string        `json:"name"`
	Path     string        `json:"path"` // "" is all; "secret/" a mount; anything else that path and what is below
	Rate     float64       `json:"rate"` // requests per Interval
	Interval time.Duration `json:"interval"`
	Block    time.Duration `json:"block_interval"` // how long a client that went over it is refused everything
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

// PutRateLimit writes a rate limit. One with the name or the path of another takes its place, or is refused.
func (c *Call) PutRateLimit(q Quota) error {
	var err error
	if q.Name, err = policy.NormalizeName(q.Name); err != nil {
		return err
	}
	if q.Interval == 0 {
		q.Interval = time.Second
	}
	switch {
	case q.Rate <= 0 || q.Interval < time.Second:
		return errQuotaRate
	case q.Block < 0:
		return errQuotaBlock
	}
	q.Path = strings.TrimPrefix(q.Path, "/")
	if _, _, mounted := c.sys.mounts.Find(q.Path); q.Path != "" && !mounted {
		return errQuotaMount
	}
	for _, other := range c.sys.quotas {
		if strings.TrimSuffix(other.Path, "/") == strings.TrimSuffix(q.Path, "/") && other.Name != q.Name {
			return errQuotaPath
		}
	}
	if err := putJSON(c.Tx, quotaPrefix+q.Name, q); err != nil {
		return err
	}
	return c.changedSystem()
}

// DeleteRateLimit removes a rate limit; that there is none is no error.
func (c *Call) DeleteRateLimit(name string) error {
	name, err := policy.NormalizeName(name)
	if err != nil {
		return err
	}
	if err := c.Tx.Delete(quotaPrefix + name); err != nil {
		return err
	}
	return c.changedSystem()
}

// Quotas are the rate limits for a path, as last seen by this process: a limit that counts per process and second
// needs no exacter one.
func (n *Node) Quotas(path string) (list []Quota) {
	a := n.active.Load()
	if a == nil {
		return nil
	}
	for _, q := range a.sys.Load().quotas {
		if q.covers(path) {
			list = append(list, q)
		}
	}
	return list
}

func (q Quota) covers(path string) bool {
	return q.Path == "" || path == strings.TrimSuffix(q.Path, "/") || strings.HasPrefix(path, strings.TrimSuffix(q.Path, "/")+"/")
}
