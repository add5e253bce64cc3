package httpapi

import (
	"math"
	"strconv"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/node"
)

// maxRate is more than any server answers in the shortest interval there is.
const maxRate = 1e9

func quotaRoutes() []route {
	const shown = "name path rate interval block_interval type keys"
	return ofToken([]route{
		{path: "sys/quotas/rate-limit", ops: map[operation]handler{
			opList: listQuotas,
		}, summary: "the names of the rate limits", query: "after, limit int", clear: shown},
		{path: "sys/quotas/rate-limit/{name}", ops: map[operation]handler{
			opRead: readQuota, opUpdate: putQuota, opDelete: deleteQuota,
		}, summary: "a rate limit for a path: read, write, delete", fields: "path, rate, interval duration, block_interval duration", clear: shown},
		{path: "sys/quotas/config", ops: map[operation]handler{opRead: quotaConfig}, summary: "what holds for all rate limits"},
	})
}

func listQuotas(x *exchange) (*reply, error) {
	return x.page(x.access(), func(c *node.Call, after string, limit int) ([]string, error) {
		return c.RateLimitNames(after, limit), nil
	})
}

func readQuota(x *exchange) (*reply, error) {
	var q *node.Quota
	err := x.Node.View(x.r.Context(), x.accessNamed(), func(c *node.Call) (err error) {
		q, err = c.RateLimit(x.param("name"))
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case q == nil:
		return nil, errNothing
	}
	return &reply{data: map[string]any{
		"name": q.Name, "type": "rate-limit", "path": q.Path, "rate": q.Rate, "interval": seconds(q.Interval), "block_interval": seconds(q.Block),
	}}, nil
}

func putQuota(x *exchange) (*reply, error) {
	f := &x.fields
	q := node.Quota{
		Name: x.param("name"), Path: f.Str("path"), Rate: number(f, "rate"), Interval: f.Duration("interval"), Block: f.Duration("block_interval"),
	}
	return &reply{}, x.Node.Update(x.r.Context(), x.accessNamed(), func(c *node.Call) error {
		if f.Err() != nil {
			return f.Err()
		}
		return c.PutRateLimit(q)
	})
}

// number reads a number that need not be whole, 0 if it isn't given.
func number(f *body.Fields, name string) float64 {
	text := f.Str(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > maxRate {
		f.Wrong(name, "a number of at most 1000000000")
		return 0
	}
	return n
}

func deleteQuota(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.accessNamed(), func(c *node.Call) error { return c.DeleteRateLimit(x.param("name")) })
}

func quotaConfig(x *exchange) (*reply, error) {
	return &reply{data: map[string]any{
		"enable_rate_limit_audit_logging": false, "enable_rate_limit_response_headers": false, "rate_limit_exempt_paths": []string{},
	}}, x.allowed()
}
