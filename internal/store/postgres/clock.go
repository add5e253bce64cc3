package postgres

import (
	"sync"
	"time"
)

// clock is the database's, as far as this process knows: between measurements it goes as fast as the local monotonic
// clock. The zero value is the local clock.
type clock struct {
	mu    sync.Mutex
	there time.Time     // the database's time
	here  time.Time     // at this local one
	error time.Duration // at most
}

// measured notes that the database's clock stood at there sometime between sent and received. Of two measurements that
// agree the more exact one is kept.
func (c *clock) measured(there, sent, received time.Time) {
	here, bound := sent.Add(received.Sub(sent)/2), received.Sub(sent)/2
	c.mu.Lock()
	defer c.mu.Unlock()
	apart := there.Sub(c.there) - here.Sub(c.here)
	if c.here.IsZero() || bound <= c.error || apart.Abs() > bound+c.error {
		c.there, c.here, c.error = there, here, bound
	}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.here.IsZero() {
		return time.Now()
	}
	return c.there.Add(time.Since(c.here))
}
