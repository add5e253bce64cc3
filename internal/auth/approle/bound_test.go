package approle

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/engine"
)

// TestBoundOnce: a token is bound to what is in the networks of both the role and the secret ID, each of them named once.
func TestBoundOnce(t *testing.T) {
	networks := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	client := &engine.Request{Client: netip.MustParseAddr("10.1.0.1")}
	for _, c := range []struct{ role, secret, want []netip.Prefix }{
		{networks("10.1.0.0/16"), networks("10.1.0.0/16"), networks("10.1.0.0/16")},
		{networks("10.0.0.0/8"), networks("10.1.0.0/16"), networks("10.1.0.0/16")},
		{networks("10.1.0.0/16"), networks("10.0.0.0/8"), networks("10.1.0.0/16")},
		{networks("10.1.0.0/16", "10.2.0.0/16"), networks("10.0.0.0/8"), networks("10.1.0.0/16", "10.2.0.0/16")},
		{networks("10.1.0.0/16", "10.1.0.0/24"), networks("10.1.0.0/16"), networks("10.1.0.0/16", "10.1.0.0/24")},
		{nil, networks("10.1.0.0/16"), networks("10.1.0.0/16")},
		{networks("10.1.0.0/16"), nil, networks("10.1.0.0/16")},
	} {
		ro := &role{Token: engine.TokenParams{BoundCIDRs: c.role}}
		p, ok := ro.tokenFor(&kept{secretID: secretID{TokenCIDRs: c.secret}}, client)
		if !ok || !slices.Equal(p.BoundCIDRs, c.want) {
			t.Errorf("role %v, secret ID %v: %v %v, want %v", c.role, c.secret, p.BoundCIDRs, ok, c.want)
		}
	}
}
