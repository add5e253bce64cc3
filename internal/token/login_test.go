package token

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

const day = 24 * time.Hour

func aliceLogin(p engine.TokenParams) LoginSpec {
	return LoginSpec{
		Path: "auth/userpass/login/alice", Mount: "a-uuid", DefaultTTL: day, MaxTTL: 10 * day,
		Login: engine.Login{Path: "login/alice", DisplayName: "userpass-alice", Metadata: map[string]string{"username": "alice"}, Token: p},
		Known: func(name string) bool { return name != "unknown" },
	}
}

func (r *rig) tryLogin(spec LoginSpec) (m made, err error) {
	err = r.try(func(tx store.Tx) error {
		id, e, warnings, err := r.Login(tx, spec)
		m = made{e, id.Reveal(), warnings}
		return err
	})
	return m, err
}

func (r *rig) login(p engine.TokenParams) made {
	r.t.Helper()
	m, err := r.tryLogin(aliceLogin(p))
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// TestLogin: what a user or role says of its tokens is what they are.
func TestLogin(t *testing.T) {
	inside := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, test := range map[string]struct {
		params   engine.TokenParams
		policies []string
		ttl      time.Duration
		warnings int
		check    func(*Entry) bool
	}{
		"nothing said":     {engine.TokenParams{}, []string{"default"}, day, 0, func(e *Entry) bool { return e.MaxTTL == 10*day && !e.Limited }},
		"policies":         {engine.TokenParams{Policies: []string{"dev", "APP"}}, []string{"app", "default", "dev"}, day, 0, nil},
		"unknown policy":   {engine.TokenParams{Policies: []string{"unknown"}}, []string{"default", "unknown"}, day, 1, nil},
		"no default":       {engine.TokenParams{Policies: []string{"dev"}, NoDefaultPolicy: true}, []string{"dev"}, day, 0, nil},
		"no policy at all": {engine.TokenParams{NoDefaultPolicy: true}, []string{}, day, 0, nil},
		"ttl":              {engine.TokenParams{TTL: time.Hour}, []string{"default"}, time.Hour, 0, nil},
		"ttl over mount":   {engine.TokenParams{TTL: 11 * day}, []string{"default"}, 10 * day, 1, nil},
		"max ttl":          {engine.TokenParams{TTL: 3 * day, MaxTTL: 2 * day}, []string{"default"}, 2 * day, 1, func(e *Entry) bool { return e.MaxTTL == 2*day }},
		"max over mount":   {engine.TokenParams{MaxTTL: 20 * day}, []string{"default"}, day, 0, func(e *Entry) bool { return e.MaxTTL == 10*day }},
		"explicit max":     {engine.TokenParams{TTL: 3 * day, ExplicitMaxTTL: 2 * day}, []string{"default"}, 2 * day, 1, func(e *Entry) bool { return e.ExplicitMaxTTL == 2*day }},
		"explicit over":    {engine.TokenParams{ExplicitMaxTTL: 20 * day}, []string{"default"}, day, 1, func(e *Entry) bool { return e.ExplicitMaxTTL == 10*day }},
		"period":           {engine.TokenParams{Period: time.Hour, TTL: day}, []string{"default"}, time.Hour, 0, nil},
		"period over max":  {engine.TokenParams{Period: 3 * day, MaxTTL: day}, []string{"default"}, 3 * day, 0, func(e *Entry) bool { return e.MaxTTL == 10*day }},
		"uses":             {engine.TokenParams{NumUses: 3}, []string{"default"}, day, 0, func(e *Entry) bool { return e.Limited && e.NumUses == 3 }},
		"networks":         {engine.TokenParams{BoundCIDRs: inside}, []string{"default"}, day, 0, func(e *Entry) bool { return slices.Equal(e.BoundCIDRs, inside) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m := r.login(test.params)
			if !slices.Equal(m.Policies, test.policies) || m.TTL != test.ttl || m.CreationTTL != test.ttl || len(m.warnings) != test.warnings {
				t.Errorf("policies %q, ttl %v, warnings %q", m.Policies, m.TTL, m.warnings)
			}
			if test.check != nil && !test.check(m.Entry) {
				t.Errorf("odd entry %+v", m.Entry)
			}
			e := r.auth(r.Tokens, m.id)
			if !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("returned\n%+v, stored\n%+v", m.Entry, e)
			}
			if !e.Orphan || !e.Renewable || e.Mount != "a-uuid" || e.Path != "auth/userpass/login/alice" || e.Login.Path != "login/alice" ||
				e.DisplayName != "userpass-alice" || e.Meta["username"] != "alice" || e.Login.Metadata["username"] != "alice" {
				t.Errorf("odd entry %+v", e)
			}
			r.checkSwept()
		})
	}
}

func TestLoginRefuses(t *testing.T) {
	r := newRig(t)
	before := r.dump()
	for name, test := range map[string]struct {
		change func(*LoginSpec)
		want   error
	}{
		"root":             {func(s *LoginSpec) { s.Login.Token.Policies = []string{"dev", "root"} }, errLoginRoot},
		"root in capitals": {func(s *LoginSpec) { s.Login.Token.Policies = []string{" ROOT"} }, errLoginRoot},
		"wrapping":         {func(s *LoginSpec) { s.Login.Token.Policies = []string{"response-wrapping"} }, errWrapping},
		"odd policy":       {func(s *LoginSpec) { s.Login.Token.Policies = []string{"a b"} }, nil},
		"much metadata":    {func(s *LoginSpec) { s.Login.Metadata = map[string]string{"k": strings.Repeat("v", maxMetaSize)} }, errMeta},
	} {
		spec := aliceLogin(engine.TokenParams{})
		test.change(&spec)
		m, err := r.tryLogin(spec)
		wantFault(t, err, test.want, fault.Invalid)
		if len(m.id) > 0 || m.Entry != nil {
			t.Errorf("%s: a token came with the refusal", name)
		}
	}
	if !reflect.DeepEqual(before, r.dump()) {
		t.Error("a refusal changed the store")
	}
}

// TestRenewLogin: what the user or role says now is what counts, but a token never outlives what it was made for.
func TestRenewLogin(t *testing.T) {
	dev := []string{"dev"}
	for name, test := range map[string]struct {
		made engine.TokenParams
		now  *engine.TokenParams
		ask  Renewal
		want time.Duration
		err  error
	}{
		"not asked":              {engine.TokenParams{TTL: 2 * time.Hour}, nil, Renewal{DefaultTTL: day, MaxTTL: 10 * day}, 2 * time.Hour, nil},
		"no ttl":                 {engine.TokenParams{TTL: time.Hour}, &engine.TokenParams{}, Renewal{DefaultTTL: 2 * day}, 2 * day, nil},
		"another ttl":            {engine.TokenParams{TTL: time.Hour}, &engine.TokenParams{TTL: 3 * time.Hour}, Renewal{DefaultTTL: day}, 3 * time.Hour, nil},
		"increment":              {engine.TokenParams{}, &engine.TokenParams{TTL: time.Hour}, Renewal{Increment: 5 * time.Hour}, 5 * time.Hour, nil},
		"shorter max":            {engine.TokenParams{}, &engine.TokenParams{MaxTTL: 3 * time.Hour}, Renewal{Increment: day}, 2 * time.Hour, nil},
		"shorter max of mount":   {engine.TokenParams{}, &engine.TokenParams{}, Renewal{Increment: day, MaxTTL: 3 * time.Hour}, 2 * time.Hour, nil},
		"longer max of mount":    {engine.TokenParams{}, &engine.TokenParams{}, Renewal{Increment: 20 * day, MaxTTL: 30 * day}, 20 * day, nil},
		"max is over":            {engine.TokenParams{}, &engine.TokenParams{MaxTTL: time.Minute}, Renewal{}, 0, errPastMax},
		"period given":           {engine.TokenParams{}, &engine.TokenParams{Period: 30 * time.Hour, MaxTTL: time.Hour}, Renewal{}, 30 * time.Hour, nil},
		"period taken":           {engine.TokenParams{Period: 30 * time.Hour}, &engine.TokenParams{TTL: time.Hour}, Renewal{}, time.Hour, nil},
		"explicit max stays":     {engine.TokenParams{ExplicitMaxTTL: 3 * time.Hour}, &engine.TokenParams{}, Renewal{Increment: day}, 2 * time.Hour, nil},
		"more policies":          {engine.TokenParams{Policies: dev}, &engine.TokenParams{Policies: []string{"dev", "ops"}}, Renewal{Increment: time.Hour}, time.Hour, nil},
		"fewer policies":         {engine.TokenParams{Policies: dev}, &engine.TokenParams{Policies: []string{"ops"}}, Renewal{}, 0, errFewerPolicies},
		"no default any more":    {engine.TokenParams{}, &engine.TokenParams{NoDefaultPolicy: true}, Renewal{}, 0, errFewerPolicies},
		"nonsense from a method": {engine.TokenParams{}, &engine.TokenParams{Policies: []string{"root"}}, Renewal{}, 0, errLoginRoot},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			m := r.login(test.made)
			r.clock = epoch.Add(time.Hour - 1)
			before := r.dump()
			test.ask.Params = test.now
			err := r.try(func(tx store.Tx) error {
				_, err := r.Renew(tx, m.Entry, test.ask)
				return err
			})
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err != nil {
				if !reflect.DeepEqual(before, r.dump()) {
					t.Error("the refusal changed the store")
				}
				return
			}
			if got := m.TTL.Round(time.Second); got != test.want {
				t.Errorf("renewed for %v, want %v", got, test.want)
			}
			if e := r.auth(r.Tokens, m.id); !reflect.DeepEqual(e, m.Entry) {
				t.Errorf("returned\n%+v, stored\n%+v", m.Entry, e)
			}
			r.checkSwept()
		})
	}
}

// TestWrap: wire reference 5.7.
func TestWrap(t *testing.T) {
	r := newRig(t)
	for _, ttl := range []time.Duration{time.Second, 5 * time.Minute, 2 * DefaultTTL} {
		var m made
		r.update(func(tx store.Tx) error {
			id, e, err := r.Wrap(tx, "secret/data/app", ttl)
			m = made{Entry: e, id: id.Reveal()}
			return err
		})
		e := r.auth(r.Tokens, m.id)
		if !reflect.DeepEqual(e, m.Entry) {
			t.Errorf("returned\n%+v, stored\n%+v", m.Entry, e)
		}
		if !slices.Equal(e.Policies, []string{"response-wrapping"}) || !e.Limited || e.NumUses != 1 || e.Renewable || !e.Orphan ||
			e.Path != "secret/data/app" || e.TTL != ttl || e.CreationTTL != ttl || !e.Expires.Equal(e.Created.Add(ttl)) {
			t.Errorf("odd entry %+v", e)
		}
		_, err := r.renew(e, time.Hour)
		wantFault(t, err, errNotRenewable, fault.Invalid)
		_, err = r.create(e, Spec{})
		wantFault(t, err, errParentLimited, fault.Invalid)
		r.clock = r.clock.Add(ttl)
		r.wantLife(m, false, "after its ttl")
	}
	for _, ttl := range []time.Duration{0, -1} {
		err := r.try(func(tx store.Tx) error {
			_, _, err := r.Wrap(tx, "secret/data/app", ttl)
			return err
		})
		wantFault(t, err, errWrapTTL, fault.Invalid)
	}
	if n := r.sweep(); n != 3 {
		t.Errorf("swept %d", n)
	}
	r.checkSwept()
}
