package approle

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
	"github.com/quorate/quorate/internal/fault"
)

func TestConformance(t *testing.T) { enginetest.Run(t, New) }

// withRole is a server with one role.
func withRole(t *testing.T, fields string) (s *enginetest.Server, roleID string) {
	t.Helper()
	s = enginetest.New(t, New())
	s.Want(204, engine.Update, "role/App", fields)
	return s, s.Want(200, engine.Read, "role/app/role-id", "").Data["role_id"].(string)
}

// secretOf makes a secret ID.
func secretOf(s *enginetest.Server, fields string) (id, accessor string) {
	data := s.Want(200, engine.Update, "role/app/secret-id", fields).Data
	return data["secret_id"].(string), data["secret_id_accessor"].(string)
}

func pair(roleID, secretID string) string {
	text, _ := json.Marshal(map[string]string{"role_id": roleID, "secret_id": secretID})
	return string(text)
}

func TestLogin(t *testing.T) {
	s, roleID := withRole(t, `{"token_policies":"app","token_ttl":"20m"}`)
	id, accessor := secretOf(s, `{"metadata":"{\"host\":\"a\",\"role_name\":\"root\"}"}`)
	want := engine.Login{
		Path: "login", DisplayName: "approle", Metadata: map[string]string{"host": "a", "role_name": "app"},
		Token: engine.TokenParams{Policies: []string{"app"}, TTL: 20 * time.Minute},
	}
	for range 3 {
		if a := s.Want(200, engine.Update, "login", pair(roleID, id)); a.Login == nil || !reflect.DeepEqual(*a.Login, want) {
			t.Fatalf("%+v, want %+v", a.Login, want)
		}
	}
	for key, value := range s.Records() {
		if strings.Contains(key+value, id) || strings.Contains(key, roleID) {
			t.Errorf("record %q tells an ID", key)
		}
	}
	if id == accessor {
		t.Error("the accessor is the secret ID")
	}
	for _, c := range []string{
		pair(roleID, "wrong"), pair("wrong", id), pair(roleID, ""), pair(roleID, accessor), `{"role_id":"` + roleID + `"}`,
		pair(strings.ToUpper(roleID)+"x", id), pair(" "+roleID, id), pair(roleID, strings.Repeat("x", maxID+1)),
	} {
		if a := s.Want(400, engine.Update, "login", c); a.Err != error(errLogin) {
			t.Errorf("%s: %v", c, a.Err)
		}
	}
	s.Want(400, engine.Update, "login", `{"secret_id":"`+id+`"}`)
}

func TestReplyWithSecretID(t *testing.T) {
	s, _ := withRole(t, `{"secret_id_num_uses":7,"secret_id_ttl":"1h"}`)
	a := s.Want(200, engine.Update, "role/app/secret-id", "")
	if a.Response.WrappedAccessor != a.Data["secret_id_accessor"] || a.Data["secret_id_num_uses"] != 7.0 || a.Data["secret_id_ttl"] != 3600.0 || len(a.Data) != 4 {
		t.Errorf("%v, wrapped accessor %q", a.Data, a.Response.WrappedAccessor)
	}
	if len(a.Response.Own) != 1 || strings.Trim(string(a.Response.Own[0]), "\x00") != "" {
		t.Error("the secret ID isn't wiped after the reply")
	}
}

func TestUsesAreCounted(t *testing.T) {
	s, roleID := withRole(t, `{"secret_id_num_uses":2}`)
	id, _ := secretOf(s, "")
	s.Want(200, engine.Update, "login", pair(roleID, id))
	data := s.Want(200, engine.Update, "role/app/secret-id/lookup", `{"secret_id":"`+id+`"}`).Data
	if data["secret_id_num_uses"] != 1.0 {
		t.Errorf("%v uses are left", data["secret_id_num_uses"])
	}
	s.Want(200, engine.Update, "login", pair(roleID, id))
	s.Want(400, engine.Update, "login", pair(roleID, id))
	for key := range s.Records() {
		if strings.HasPrefix(key, secretPrefix) || strings.HasPrefix(key, accessorPrefix) {
			t.Errorf("%q is left of a secret ID that is used up", key)
		}
	}
}

func TestSecretIDsExpire(t *testing.T) {
	s, roleID := withRole(t, `{"secret_id_ttl":"1h"}`)
	id, accessor := secretOf(s, "")
	longer, _ := secretOf(s, `{"ttl":"1h"}`)
	short, _ := secretOf(s, `{"ttl":"1m"}`)
	s.Now = s.Now.Add(time.Minute)
	s.Want(400, engine.Update, "login", pair(roleID, short))
	s.Want(200, engine.Update, "login", pair(roleID, longer))
	s.Now = s.Now.Add(time.Hour - time.Minute - time.Nanosecond)
	s.Want(200, engine.Update, "login", pair(roleID, id))
	s.Now = s.Now.Add(time.Nanosecond)
	s.Want(400, engine.Update, "login", pair(roleID, id)) // swept or not
	s.Want(204, engine.Update, "role/app/secret-id/lookup", `{"secret_id":"`+id+`"}`)
	s.Want(404, engine.Update, "role/app/secret-id-accessor/lookup", `{"secret_id_accessor":"`+accessor+`"}`)
	before := len(s.Records())
	s.Now = s.Now.Add(time.Second)
	s.Sweep()
	if got := before - len(s.Records()); got != 9 {
		t.Errorf("the sweep removed %d records, want 9", got)
	}
}

func TestTidy(t *testing.T) {
	s, _ := withRole(t, `{}`)
	secretOf(s, `{"ttl":1}`)
	secretOf(s, ``)
	before := len(s.Records())
	s.Now = s.Now.Add(time.Hour)
	if a := s.Want(202, engine.Update, "tidy/secret-id", ""); len(a.Response.Warnings) != 1 || a.Data != nil {
		t.Errorf("%v %v", a.Response.Warnings, a.Data)
	}
	if got := before - len(s.Records()); got != 3 {
		t.Errorf("tidy removed %d records, want 3", got)
	}
}

// TestDeletedRole: its secret IDs are worth nothing from then on, also for a role of the same name and role ID.
func TestDeletedRole(t *testing.T) {
	s, roleID := withRole(t, `{"role_id":"chosen"}`)
	for range 300 {
		secretOf(s, `{"ttl":"1h"}`)
	}
	id, _ := secretOf(s, "")
	login := *s.Want(200, engine.Update, "login", pair(roleID, id)).Login
	s.Want(204, engine.Delete, "role/APP", "")
	s.Want(400, engine.Update, "login", pair(roleID, id))
	if _, err := s.Renew(login); fault.As(err) == nil {
		t.Errorf("renewed: %v", err)
	}
	s.Want(204, engine.Delete, "role/app", "")
	s.Want(204, engine.Update, "role/app", `{"role_id":"chosen","token_ttl":60}`)
	s.Want(400, engine.Update, "login", pair(roleID, id))
	s.Want(404, engine.List, "role/app/secret-id", "")
	if p, err := s.Renew(login); err != nil || p.TTL != time.Minute {
		t.Errorf("%+v, %v", p, err)
	}
	s.Sweep()
	for key := range s.Records() {
		for _, prefix := range []string{secretPrefix, accessorPrefix, expiryPrefix, purgePrefix} {
			if strings.HasPrefix(key, prefix) {
				t.Fatalf("%q is left of a role that is gone", key)
			}
		}
	}
	kept, _ := secretOf(s, "")
	s.Sweep()
	s.Want(200, engine.Update, "login", pair(roleID, kept))
}

func TestLockout(t *testing.T) {
	s, roleID := withRole(t, `{}`)
	id, _ := secretOf(s, "")
	for range engine.LockoutFailures {
		known := s.Want(400, engine.Update, "login", pair(roleID, "wrong"))
		unknown := s.Want(400, engine.Update, "login", pair("unknown", "wrong"))
		if known.Err != unknown.Err {
			t.Errorf("%v for a role, %v for none", known.Err, unknown.Err)
		}
	}
	s.Want(403, engine.Update, "login", pair(roleID, id))
	s.Want(403, engine.Update, "login", pair("unknown", id))
	s.Now = s.Now.Add(engine.LockoutTime)
	s.Want(200, engine.Update, "login", pair(roleID, id))
}

func TestRoles(t *testing.T) {
	s, _ := withRole(t, `{"token_policies":"a","secret_id_ttl":60,"bound_cidr_list":"10.0.0.0/8"}`)
	want := map[string]any{
		"bind_secret_id": true, "local_secret_ids": false, "secret_id_bound_cidrs": []any{"10.0.0.0/8"}, "secret_id_num_uses": 0.0, "secret_id_ttl": 60.0,
		"token_bound_cidrs": []any{}, "token_explicit_max_ttl": 0.0, "token_max_ttl": 0.0, "token_no_default_policy": false, "token_num_uses": 0.0,
		"token_period": 0.0, "token_policies": []any{"a"}, "token_strictly_bind_ip": false, "token_ttl": 0.0, "token_type": "default",
	}
	if got := s.Want(200, engine.Read, "role/APP", "").Data; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s.Want(204, engine.Update, "role/app", `{"secret_id_bound_cidrs":[],"secret_id_num_uses":3}`)
	want["secret_id_bound_cidrs"], want["secret_id_num_uses"] = nil, 3.0
	if got := s.Want(200, engine.Read, "role/app", "").Data; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s.Want(204, engine.Update, "role/b", `{"local_secret_ids":true}`)
	if got := s.Want(200, engine.List, "role", "").Data["keys"]; !reflect.DeepEqual(got, []any{"app", "b"}) {
		t.Errorf("%v", got)
	}
	for _, c := range []struct {
		status     int
		path, body string
	}{
		{400, "role/a b", `{}`},
		{400, "role/app", `{"local_secret_ids":true}`},
		{400, "role/app", `{"bind_secret_id":false}`},
		{400, "role/app", `{"secret_id_num_uses":-1}`},
		{400, "role/app", `{"secret_id_ttl":-1}`},
		{400, "role/app", `{"secret_id_bound_cidrs":"x"}`},
		{400, "role/app", `{"token_policies":"root"}`},
		{400, "role/app/role-id", `{}`},
		{400, "role/app/role-id", `{"role_id":"` + strings.Repeat("x", maxID+1) + `"}`},
		{404, "role/none/role-id", `{"role_id":"x"}`},
		{404, "role/none/secret-id", `{}`},
	} {
		s.Want(c.status, engine.Update, c.path, c.body)
	}
	for _, path := range []string{"role/none", "role/none/role-id", "role/none/policies"} {
		s.Want(404, engine.Read, path, "")
	}
	s.Want(404, engine.List, "role/none/secret-id", "")
}

func TestRoleID(t *testing.T) {
	s, first := withRole(t, `{}`)
	id, _ := secretOf(s, "")
	s.Want(204, engine.Update, "role/app/role-id", `{"role_id":"mine"}`)
	s.Want(400, engine.Update, "login", pair(first, id))
	s.Want(200, engine.Update, "login", pair("mine", id))
	s.Want(204, engine.Update, "role/app/role-id", `{"role_id":"mine"}`)
	s.Want(204, engine.Update, "role/other", `{}`)
	s.Want(400, engine.Update, "role/other/role-id", `{"role_id":"mine"}`)
	s.Want(400, engine.Update, "role/third", `{"role_id":"mine"}`)
	s.Want(404, engine.Read, "role/third", "")
	s.Want(204, engine.Update, "role/other/role-id", `{"role_id":"`+first+`"}`) // it is free again
}

// TestFieldPaths: each path reads, writes and resets its own field, and touches no other.
func TestFieldPaths(t *testing.T) {
	samples := map[string]string{
		"policies": `["x"]`, "bind-secret-id": `false`, "bound-cidr-list": `["10.1.0.0/16"]`, "secret-id-bound-cidrs": `["10.2.0.0/16"]`,
		"secret-id-num-uses": `9`, "secret-id-ttl": `77`, "period": `78`, "token-bound-cidrs": `["10.3.0.0/16"]`, "token-num-uses": `8`,
		"token-ttl": `79`, "token-max-ttl": `8000`,
	}
	for _, f := range roleFields() {
		s, _ := withRole(t, `{"token_bound_cidrs":"192.0.2.0/24","token_ttl":5,"token_max_ttl":100}`)
		before := s.Want(200, engine.Read, "role/app", "").Data
		path := "role/app/" + f.path
		if f.take == nil {
			s.Want(200, engine.Read, path, "")
			s.Want(405, engine.Update, path, `{}`)
			continue
		}
		for name := range strings.SplitSeq(f.name+","+f.older, ",") {
			if name == "" {
				continue
			}
			// What doesn't belong there is left alone, whatever else the request says.
			s.Want(204, engine.Update, path, `{"`+name+`":`+samples[f.path]+`,"token_explicit_max_ttl":1,"token_type":"service"}`)
			got, _ := json.Marshal(s.Want(200, engine.Read, path, "").Data)
			if want := `{"` + f.name + `":` + samples[f.path] + `}`; string(got) != want {
				t.Errorf("%s: %s, want %s", f.path, got, want)
			}
		}
		s.Want(204, engine.Update, path, `{"`+f.name+`":`+samples[f.path]+`}`)
		field := strings.Replace(f.name, "bound_cidr_list", "secret_id_bound_cidrs", 1)
		for name, value := range s.Want(200, engine.Read, "role/app", "").Data {
			if name != field && !reflect.DeepEqual(value, before[name]) {
				t.Errorf("%s changed %s to %v", f.path, name, value)
			}
		}
		s.Want(400, engine.Update, path, `{"token_explicit_max_ttl":1}`)
		s.Want(404, engine.Update, "role/none/"+f.path, `{"`+f.name+`":`+samples[f.path]+`}`)
		s.Want(204, engine.Delete, path, "")
		s.Want(404, engine.Delete, "role/none/"+f.path, "")
	}
	s, _ := withRole(t, `{"token_max_ttl":100}`)
	s.Want(400, engine.Update, "role/app/token-ttl", `{"token_ttl":200,"token_max_ttl":300}`)
}

func TestSecretIDsRefuse(t *testing.T) {
	s, _ := withRole(t, `{"secret_id_num_uses":3,"secret_id_ttl":60,"secret_id_bound_cidrs":"10.0.0.0/8","token_bound_cidrs":"10.1.0.0/16"}`)
	before := s.Records()
	for _, text := range []string{
		`{"num_uses":4}`, `{"num_uses":0}`, `{"num_uses":-1}`, `{"ttl":61}`, `{"ttl":0}`, `{"cidr_list":"10.0.0.0/7"}`, `{"cidr_list":["10.1.0.0/16","11.0.0.0/8"]}`,
		`{"token_bound_cidrs":"10.0.0.0/8"}`, `{"metadata":"{"}`, `{"metadata":"[]"}`, `{"metadata":"{\"a\":{}}"}`, `{"metadata":7}`,
		`{"metadata":"{\"a\":\"` + strings.Repeat("x", maxMetaSize) + `\"}"}`,
	} {
		s.Want(400, engine.Update, "role/app/secret-id", text)
		s.Want(400, engine.Update, "role/app/custom-secret-id", strings.Replace(text, "{", `{"secret_id":"x",`, 1))
	}
	s.Want(400, engine.Update, "role/app/custom-secret-id", `{}`)
	s.Want(400, engine.Update, "role/app/custom-secret-id", `{"secret_id":"`+strings.Repeat("x", maxID+1)+`"}`)
	if !reflect.DeepEqual(before, s.Records()) {
		t.Error("something was written")
	}
	s.Want(204, engine.Update, "role/app/bind-secret-id", `{"bind_secret_id":false}`)
	s.Want(400, engine.Update, "role/app/secret-id", "")
}

func TestMetadata(t *testing.T) {
	s, _ := withRole(t, `{}`)
	for text, want := range map[string]map[string]any{
		`{}`:                                   {},
		`{"metadata":""}`:                      {},
		`{"metadata":"{\"a\":\"b\",\"n\":1}"}`: {"a": "b", "n": "1"},
		`{"metadata":{"a":"b"}}`:               {"a": "b"},
		`{"metadata":"a=b,c=d"}`:               {"a": "b", "c": "d"},
	} {
		id, _ := secretOf(s, text)
		if got := s.Want(200, engine.Update, "role/app/secret-id/lookup", `{"secret_id":"`+id+`"}`).Data["metadata"]; !reflect.DeepEqual(got, any(want)) {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestLookupAndDestroy(t *testing.T) {
	s, roleID := withRole(t, `{}`)
	s.Want(204, engine.Update, "role/other", `{}`)
	for _, by := range []struct {
		path, field string
		absent      int
	}{{"secret-id", "secret_id", 204}, {"secret-id-accessor", "secret_id_accessor", 404}} {
		id, accessor := secretOf(s, `{"cidr_list":"192.0.2.0/24","num_uses":5}`)
		text := `{"` + by.field + `":"` + map[string]string{"secret_id": id, "secret_id_accessor": accessor}[by.field] + `"}`
		want := map[string]any{
			"cidr_list": []any{"192.0.2.0/24"}, "creation_time": "2026-01-02T03:04:05Z", "expiration_time": "0001-01-01T00:00:00Z",
			"last_updated_time": "2026-01-02T03:04:05Z", "metadata": map[string]any{}, "secret_id_accessor": accessor, "secret_id_num_uses": 5.0,
			"secret_id_ttl": 0.0, "token_bound_cidrs": []any{},
		}
		lookup, destroy := "role/app/"+by.path+"/lookup", "role/app/"+by.path+"/destroy"
		if got := s.Want(200, engine.Update, lookup, text).Data; !reflect.DeepEqual(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if got := s.Want(200, engine.List, "role/app/secret-id", "").Data["keys"]; !reflect.DeepEqual(got, []any{accessor}) {
			t.Errorf("%v", got)
		}
		s.Want(by.absent, engine.Update, "role/other/"+by.path+"/lookup", text) // it belongs to its role
		s.Want(by.absent, engine.Update, "role/other/"+by.path+"/destroy", text)
		s.Want(200, engine.Update, "login", pair(roleID, id))
		s.Want(204, engine.Update, destroy, text)
		s.Want(400, engine.Update, "login", pair(roleID, id))
		s.Want(by.absent, engine.Update, lookup, text)
		s.Want(by.absent, engine.Update, destroy, text)
		s.Want(400, engine.Update, lookup, `{}`)
		s.Want(404, engine.Update, "role/none/"+by.path+"/lookup", text)
	}
}

func TestCustomSecretID(t *testing.T) {
	s, roleID := withRole(t, `{}`)
	const chosen = `{"secret_id":"chosen \"by\" hand","ttl":60}`
	if got := s.Want(200, engine.Update, "role/app/custom-secret-id", chosen).Data["secret_id"]; got != `chosen "by" hand` {
		t.Errorf("%v", got)
	}
	s.Want(400, engine.Update, "role/app/custom-secret-id", chosen)
	s.Want(200, engine.Update, "login", pair(roleID, `chosen "by" hand`))
	s.Now = s.Now.Add(time.Minute)
	s.Want(400, engine.Update, "login", pair(roleID, `chosen "by" hand`))
	s.Want(200, engine.Update, "role/app/custom-secret-id", chosen) // the one before has expired
	s.Want(200, engine.Update, "login", pair(roleID, `chosen "by" hand`))
	s.Now = s.Now.Add(2 * time.Minute)
	s.Sweep()
	if s.Want(404, engine.List, "role/app/secret-id", ""); len(s.Records()) != 3 { // the role, its role ID, the salt
		t.Errorf("%d records are left", len(s.Records()))
	}
}

func TestNetworks(t *testing.T) {
	const inside, outside, socket = "10.1.2.3", "10.9.9.9", ""
	for _, c := range []struct {
		role, secret string
		from         map[string]int
		bound        []string // the token
	}{
		{`{}`, `{}`, map[string]int{inside: 200, outside: 200, socket: 200}, nil},
		{`{"secret_id_bound_cidrs":"10.1.0.0/16"}`, `{}`, map[string]int{inside: 200, outside: 403, socket: 403}, nil},
		{`{}`, `{"cidr_list":"10.1.0.0/16"}`, map[string]int{inside: 200, outside: 403, socket: 403}, nil},
		{`{"token_bound_cidrs":"10.1.0.0/16"}`, `{}`, map[string]int{inside: 200, outside: 403, socket: 403}, []string{"10.1.0.0/16"}},
		{`{}`, `{"token_bound_cidrs":"10.1.0.0/16"}`, map[string]int{inside: 200, outside: 403, socket: 403}, []string{"10.1.0.0/16"}},
		{`{"token_bound_cidrs":"10.0.0.0/8"}`, `{"token_bound_cidrs":"10.1.2.0/24"}`, map[string]int{inside: 200, outside: 403}, []string{"10.1.2.0/24"}},
	} {
		s, roleID := withRole(t, c.role)
		id, _ := secretOf(s, c.secret)
		for from, status := range c.from {
			s.Client = netip.Addr{}
			if from != socket {
				s.Client = netip.MustParseAddr(from)
			}
			a := s.Want(status, engine.Update, "login", pair(roleID, id))
			if a.Login != nil && strings.Join(engine.CIDRTexts(a.Login.Token.BoundCIDRs), ",") != strings.Join(c.bound, ",") {
				t.Errorf("%s %s: the token is bound to %v", c.role, c.secret, a.Login.Token.BoundCIDRs)
			}
			s.Want(400, engine.Update, "login", pair(roleID, "wrong"))
		}
	}
}

// TestRoleBoundMoreClosely: what a role is bound to later counts for the secret IDs that it has.
func TestRoleBoundMoreClosely(t *testing.T) {
	s, roleID := withRole(t, `{"token_bound_cidrs":"10.0.0.0/8"}`)
	id, _ := secretOf(s, `{"token_bound_cidrs":"10.0.0.0/9"}`)
	s.Want(204, engine.Update, "role/app", `{"token_bound_cidrs":"10.1.0.0/16,192.0.2.0/24"}`)
	for from, status := range map[string]int{"10.1.0.1": 200, "10.2.0.1": 403, "192.0.2.1": 403} {
		s.Client = netip.MustParseAddr(from)
		a := s.Want(status, engine.Update, "login", pair(roleID, id))
		if a.Login != nil && strings.Join(engine.CIDRTexts(a.Login.Token.BoundCIDRs), ",") != "10.1.0.0/16" {
			t.Errorf("the token is bound to %v", a.Login.Token.BoundCIDRs)
		}
	}
	s.Want(204, engine.Update, "role/app", `{"token_bound_cidrs":"192.0.2.0/24"}`)
	s.Client = netip.MustParseAddr("10.1.0.1")
	s.Want(403, engine.Update, "login", pair(roleID, id))
}

func TestRoleWithoutSecretIDs(t *testing.T) {
	s, roleID := withRole(t, `{"bind_secret_id":false,"secret_id_bound_cidrs":"192.0.2.0/24"}`)
	s.Want(200, engine.Update, "login", `{"role_id":"`+roleID+`"}`)
	s.Client = netip.MustParseAddr("198.51.100.1")
	s.Want(403, engine.Update, "login", `{"role_id":"`+roleID+`"}`)
	s.Want(400, engine.Delete, "role/app/secret-id-bound-cidrs", "")
}

// TestRoleIDGoesWithItsRole: a role ID leads to no later role, and another one may have it.
func TestRoleIDGoesWithItsRole(t *testing.T) {
	s, roleID := withRole(t, `{}`)
	s.Want(204, engine.Delete, "role/app", "")
	s.Want(204, engine.Update, "role/app", `{}`)
	id, _ := secretOf(s, "")
	s.Want(400, engine.Update, "login", pair(roleID, id))
	s.Want(204, engine.Update, "role/other/", `{"role_id":"`+roleID+`"}`)
}

// TestKeysDoNotTellEqualSecrets: the same secret ID of two roles has two digests.
func TestKeysDoNotTellEqualSecrets(t *testing.T) {
	s, _ := withRole(t, `{}`)
	s.Want(204, engine.Update, "role/other", `{}`)
	seen := make(map[string]bool)
	for _, role := range []string{"app", "other"} {
		s.Want(200, engine.Update, "role/"+role+"/custom-secret-id", `{"secret_id":"the same"}`)
	}
	for key := range s.Records() {
		if strings.HasPrefix(key, secretPrefix) {
			seen[key[strings.LastIndexByte(key, '/'):]] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d digests", len(seen))
	}
}

// FuzzMetadata: whatever is accepted is within bounds, and comes back from the record as it was.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{`{"a":"b"}`, `a=b,c=d`, `{"a":{}}`, ` {"a":1}`, `{`, "{\"a\":\"\\ud83d\\ude00\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := json.Marshal(map[string]string{"metadata": text})
		if err != nil {
			t.Fatal(err)
		}
		fields, err := body.Decode(raw, false)
		if err != nil {
			return
		}
		pairs := metadata(&fields)
		if fields.Err() != nil {
			if fault.As(fields.Err()) == nil {
				t.Fatalf("%q: no fault: %v", text, fields.Err())
			}
			return
		}
		size := 0
		for name, value := range pairs {
			size += len(name) + len(value)
		}
		if len(pairs) > maxMeta || size > maxMetaSize {
			t.Fatalf("%q: %d entries of %d bytes", text, len(pairs), size)
		}
		var back secretID
		record, err := json.Marshal(secretID{Metadata: pairs})
		if err == nil {
			err = json.Unmarshal(record, &back)
		}
		if err != nil || len(pairs) > 0 && !reflect.DeepEqual(back.Metadata, pairs) {
			t.Fatalf("%q: %v, from the record %v, %v", text, pairs, back.Metadata, err)
		}
	})
}
