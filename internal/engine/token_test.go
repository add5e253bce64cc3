package engine

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
)

func read(t testing.TB, text string, p TokenParams) (TokenParams, error) {
	t.Helper()
	f, err := body.Decode([]byte(text), false)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	ReadTokenParams(&f, &p)
	return p, f.Err()
}

func cidrs(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

func TestReadTokenParams(t *testing.T) {
	before := TokenParams{Policies: []string{"old"}, TTL: time.Hour, NumUses: 3, BoundCIDRs: cidrs("10.0.0.0/8"), NoDefaultPolicy: true}
	changed := func(change func(*TokenParams)) TokenParams {
		p := before
		change(&p)
		return p
	}
	for _, c := range []struct {
		body string
		want TokenParams
	}{
		{`{}`, before},
		{`{"token_policies":null,"token_ttl":null,"token_ttl_x":1}`, before},
		{`{"token_policies":["B"," a","b"]}`, changed(func(p *TokenParams) { p.Policies = []string{"a", "b"} })},
		{`{"token_policies":"x,y"}`, changed(func(p *TokenParams) { p.Policies = []string{"x", "y"} })},
		{`{"policies":"x"}`, changed(func(p *TokenParams) { p.Policies = []string{"x"} })},
		{`{"policies":"x","token_policies":"y"}`, changed(func(p *TokenParams) { p.Policies = []string{"y"} })},
		{`{"token_policies":[]}`, changed(func(p *TokenParams) { p.Policies = nil })},
		{`{"token_ttl":"2h","token_max_ttl":7200}`, changed(func(p *TokenParams) { p.TTL, p.MaxTTL = 2*time.Hour, 2*time.Hour })},
		{`{"ttl":60,"max_ttl":"1h","period":"1d"}`, changed(func(p *TokenParams) { p.TTL, p.MaxTTL, p.Period = time.Minute, time.Hour, 24*time.Hour })},
		{`{"token_ttl":0}`, changed(func(p *TokenParams) { p.TTL = 0 })},
		{`{"token_explicit_max_ttl":5}`, changed(func(p *TokenParams) { p.ExplicitMaxTTL = 5 * time.Second })},
		{`{"token_num_uses":"7"}`, changed(func(p *TokenParams) { p.NumUses = 7 })},
		{`{"num_uses":0}`, changed(func(p *TokenParams) { p.NumUses = 0 })},
		{`{"token_bound_cidrs":["192.0.2.77/24","2001:db8::1","::ffff:192.0.2.1","::ffff:198.51.100.0/120"]}`, changed(func(p *TokenParams) {
			p.BoundCIDRs = cidrs("192.0.2.0/24", "2001:db8::1/128", "192.0.2.1/32", "198.51.100.0/24")
		})},
		{`{"bound_cidrs":"192.0.2.1, 10.0.0.0/8"}`, changed(func(p *TokenParams) { p.BoundCIDRs = cidrs("192.0.2.1/32", "10.0.0.0/8") })},
		{`{"token_bound_cidrs":""}`, changed(func(p *TokenParams) { p.BoundCIDRs = nil })},
		{`{"token_no_default_policy":false}`, changed(func(p *TokenParams) { p.NoDefaultPolicy = false })},
		{`{"token_type":"service"}`, changed(func(p *TokenParams) { p.Type = "service" })},
		{`{"token_type":"default-service"}`, changed(func(p *TokenParams) { p.Type = "default" })},
		{`{"token_strictly_bind_ip":false}`, before},
	} {
		got, err := read(t, c.body, before)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.body, got, err, c.want)
		}
	}
}

func TestReadTokenParamsRefuses(t *testing.T) {
	for _, text := range []string{
		`{"token_policies":"root"}`,
		`{"token_policies":[" ROOT "]}`,
		`{"policies":["a","root"]}`,
		`{"token_policies":"response-wrapping"}`,
		`{"token_policies":["a b"]}`,
		`{"token_policies":{}}`,
		`{"token_ttl":-1}`,
		`{"token_ttl":"soon"}`,
		`{"token_ttl":"2h","token_max_ttl":"1h"}`,
		`{"token_max_ttl":"1s"}`, // the ttl is an hour
		`{"token_num_uses":-1}`,
		`{"token_num_uses":1.5}`,
		`{"token_bound_cidrs":"10.0.0.0/33"}`,
		`{"token_bound_cidrs":"fe80::1%eth0"}`,
		`{"token_bound_cidrs":"::ffff:0:0/90"}`,
		`{"token_bound_cidrs":"example.com"}`,
		`{"token_bound_cidrs":"` + strings.Repeat("10.0.0.1,", maxCIDRs+1) + `"}`,
		`{"token_type":"batch"}`,
		`{"token_type":"default-batch"}`,
		`{"token_strictly_bind_ip":true}`,
		`{"token_no_default_policy":"perhaps"}`,
	} {
		if _, err := read(t, text, TokenParams{TTL: time.Hour}); fault.As(err) == nil {
			t.Errorf("%s: %v, want a fault", text, err)
		}
	}
}

func TestTokenParamsData(t *testing.T) {
	text, err := json.Marshal((&TokenParams{}).Data())
	want := `{"token_bound_cidrs":[],"token_explicit_max_ttl":0,"token_max_ttl":0,"token_no_default_policy":false,"token_num_uses":0,` +
		`"token_period":0,"token_policies":[],"token_strictly_bind_ip":false,"token_ttl":0,"token_type":"default"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	p := TokenParams{Policies: []string{"a"}, TTL: 90 * time.Second, BoundCIDRs: cidrs("10.0.0.0/8"), Type: "service"}
	data := p.Data()
	if data["token_ttl"] != int64(90) || data["token_type"] != "service" || !reflect.DeepEqual(data["token_bound_cidrs"], []string{"10.0.0.0/8"}) {
		t.Errorf("%v", data)
	}
}

func TestAllowedFrom(t *testing.T) {
	for _, c := range []struct {
		networks []netip.Prefix
		client   string // "": a Unix socket
		want     bool
	}{
		{nil, "", true},
		{nil, "192.0.2.1", true},
		{cidrs("192.0.2.0/24"), "192.0.2.1", true},
		{cidrs("192.0.2.0/24"), "::ffff:192.0.2.1", true},
		{cidrs("192.0.2.0/24"), "192.0.3.1", false},
		{cidrs("192.0.2.0/24"), "", false},
		{cidrs("0.0.0.0/0"), "", false},
		{cidrs("0.0.0.0/0"), "2001:db8::1", false},
		{cidrs("10.0.0.0/8", "fe80::/10"), "fe80::1%eth0", true},
	} {
		var client netip.Addr
		if c.client != "" {
			client = netip.MustParseAddr(c.client)
		}
		if got := AllowedFrom(c.networks, client); got != c.want {
			t.Errorf("%v from %q: %v", c.networks, c.client, got)
		}
	}
}

// FuzzReadTokenParams: whatever is accepted can be read back, holds no policy that opens everything, and repeats nothing.
func FuzzReadTokenParams(f *testing.F) {
	for _, s := range []string{`{"token_policies":"a,b","token_ttl":"1h"}`, `{"token_bound_cidrs":["::ffff:1.2.3.4/100"],"num_uses":1}`, `{"policies":["RooT"]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fields, err := body.Decode(text, false)
		if err != nil {
			return
		}
		var p TokenParams
		ReadTokenParams(&fields, &p)
		if fields.Err() != nil {
			if fault.As(fields.Err()) == nil {
				t.Fatalf("%s: no fault: %v", text, fields.Err())
			}
			return
		}
		for _, name := range p.Policies {
			if strings.EqualFold(name, "root") || name != strings.ToLower(name) {
				t.Fatalf("%s: policy %q", text, name)
			}
		}
		again, err := json.Marshal(p.Data())
		if err != nil {
			t.Fatal(err)
		}
		back, err := read(t, string(again), TokenParams{})
		back.Type, p.Type = "", ""                                                                            // the same by two names
		back.TTL, back.MaxTTL, back.ExplicitMaxTTL, back.Period = p.TTL, p.MaxTTL, p.ExplicitMaxTTL, p.Period // to the second
		if err != nil || !reflect.DeepEqual(back, p) && len(p.Policies)+len(p.BoundCIDRs) > 0 {
			t.Fatalf("%s: %+v, read back %+v, %v", text, p, back, err)
		}
	})
}
