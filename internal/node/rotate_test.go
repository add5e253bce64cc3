package node

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/policy"
)

// The keyring rotates by itself when one term has encrypted enough, or is old enough, and not a moment before.
func TestAutomaticRotation(t *testing.T) {
	day := int64(24 * time.Hour)
	for name, row := range map[string]struct {
		config string
		step   time.Duration
		why    string // empty: it doesn't rotate
	}{
		"enough encryptions":        {fmt.Sprintf(`{"enabled":true,"max_operations":%d}`, 1), 0, "by the number of encryptions"},
		"not enough":                {fmt.Sprintf(`{"enabled":true,"max_operations":%d}`, maxOperations), 0, ""},
		"enough, but switched off":  {fmt.Sprintf(`{"enabled":false,"max_operations":%d}`, 1), 0, ""},
		"old enough":                {fmt.Sprintf(`{"enabled":true,"interval":%d,"max_operations":%d}`, day, maxOperations), 24 * time.Hour, "by time"},
		"a moment too young":        {fmt.Sprintf(`{"enabled":true,"interval":%d,"max_operations":%d}`, day, maxOperations), 24*time.Hour - 1, ""},
		"old, but switched off":     {fmt.Sprintf(`{"enabled":false,"interval":%d,"max_operations":%d}`, day, maxOperations), 48 * time.Hour, ""},
		"old, but no interval":      {fmt.Sprintf(`{"enabled":true,"max_operations":%d}`, maxOperations), 1000 * time.Hour, ""},
		"no configuration was made": {"", 1000 * time.Hour, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 3, 2)
			if row.config != "" {
				c.behind(rotationKey, row.config)
			}
			status := func() (term uint32) {
				st, err := c.node.KeyStatus(t.Context(), c.access(c.root, "sys/key-status", policy.Read))
				if err != nil {
					t.Fatal(err)
				}
				return st.Term
			}
			from := c.size()
			c.clock.step(row.step)
			c.sweepNow()
			if rotated := status() == 2; rotated != (row.why != "") || status() > 2 {
				t.Fatalf("the term is %d", status())
			}
			if row.why == "" {
				if h := c.happened(from); h != "" {
					t.Errorf("recorded %q", h)
				}
				return
			}
			if list := c.entries(from); len(list) != 1 || list[0].Event != "rotate-keyring" || list[0].Detail != row.why {
				t.Errorf("recorded %+v", list)
			}
		})
	}
}
