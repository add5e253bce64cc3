package clients

import (
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// number is a number in a reply, -1 if it is none.
func number(v any) int64 {
	if n, ok := v.(interface{ Int64() (int64, error) }); ok {
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return -1
}

func TestUserpass(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret, people := must[*bao.Secret](t), c.fresh()
		succeed(t, c.sys.EnableAuth("userpass", "userpass", ""))
		secret(c.logical.Write("auth/userpass/users/Ann", object{"password": "correct horse", "token_policies": "app", "token_ttl": "20m", "token_max_ttl": "1h"}))
		read := secret(c.logical.Read("auth/userpass/users/ann")).Data
		if !reflect.DeepEqual(texts(read["token_policies"]), []string{"app"}) || number(read["token_ttl"]) != 1200 || read["token_type"] != "default" || read["password"] != nil {
			t.Errorf("read back: %v", read)
		}
		s := secret(people.login(method{"auth/userpass/login/ANN", object{"password": "correct horse"}}))
		if a := s.Auth; !slices.Equal(a.Policies, []string{"app", "default"}) || a.LeaseDuration != 1200 || !a.Renewable || !a.Orphan || a.Metadata["username"] != "ann" {
			t.Errorf("login: %+v", a)
		}
		self := secret(people.tokens.LookupSelf()).Data
		if self["display_name"] != "userpass-ann" || self["path"] != "auth/userpass/login/ann" {
			t.Errorf("the token: %v", self)
		}
		if s := secret(people.tokens.RenewSelf(3000)); s.Auth.LeaseDuration != 3000 {
			t.Errorf("renewed: %+v", s.Auth)
		}
		secret(c.logical.Write("auth/userpass/users/ann/password", object{"password": "battery staple"}))
		secret(c.logical.Write("auth/userpass/users/ann/policies", object{"token_policies": []string{"ops"}}))
		for _, bad := range []method{
			{"auth/userpass/login/ann", object{"password": "correct horse"}}, {"auth/userpass/login/nobody", object{"password": "x"}},
		} {
			_, err := c.fresh().login(bad)
			c.want(t, err, http.StatusBadRequest, "invalid username or password")
		}
		if s := secret(people.login(method{"auth/userpass/login/ann", object{"password": "battery staple"}})); !slices.Equal(s.Auth.Policies, []string{"default", "ops"}) {
			t.Errorf("policies: %+v", s.Auth)
		}
		if got := keys(secret(c.logical.List("auth/userpass/users"))); !slices.Equal(got, []string{"ann"}) {
			t.Errorf("users: %q", got)
		}
		secret(c.logical.Delete("auth/userpass/users/ann"))
		if got := secret(c.logical.Read("auth/userpass/users/ann")); got != nil {
			t.Errorf("deleted: %+v", got)
		}
	})
}

func TestAppRole(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret, app := must[*bao.Secret](t), c.fresh()
		const role = "auth/approle/role/web"
		succeed(t, c.sys.EnableAuth("approle", "approle", ""))
		secret(c.logical.Write(role, object{"token_policies": []string{"web"}, "token_ttl": "10m", "secret_id_num_uses": 2, "secret_id_ttl": "1h"}))
		read := secret(c.logical.Read(role)).Data
		if read["bind_secret_id"] != true || number(read["secret_id_num_uses"]) != 2 || number(read["secret_id_ttl"]) != 3600 || number(read["token_ttl"]) != 600 {
			t.Errorf("read back: %v", read)
		}
		id, _ := secret(c.logical.Read(role + "/role-id")).Data["role_id"].(string)
		made := secret(c.logical.Write(role+"/secret-id", object{"metadata": `{"host":"web1"}`})).Data
		if id == "" || number(made["secret_id_num_uses"]) != 2 || number(made["secret_id_ttl"]) != 3600 {
			t.Fatalf("role ID %q, secret ID %v", id, made)
		}
		credentials := method{"auth/approle/login", object{"role_id": id, "secret_id": made["secret_id"]}}
		for range 2 {
			s := secret(app.login(credentials))
			if a := s.Auth; !slices.Equal(a.Policies, []string{"default", "web"}) || a.LeaseDuration != 600 || a.Metadata["role_name"] != "web" || a.Metadata["host"] != "web1" {
				t.Errorf("login: %+v", a)
			}
		}
		_, err := c.fresh().login(credentials) // used up
		c.want(t, err, http.StatusBadRequest, "invalid role or secret ID")
		if self := secret(app.tokens.LookupSelf()).Data; self["display_name"] != "approle" || self["path"] != "auth/approle/login" {
			t.Errorf("the token: %v", self)
		}
		secret(c.logical.Write(role+"/token-num-uses", object{"token_num_uses": 3}))
		if got := secret(c.logical.Read(role + "/token-num-uses")).Data; number(got["token_num_uses"]) != 3 {
			t.Errorf("one field: %v", got)
		}
		if got := keys(secret(c.logical.List("auth/approle/role"))); !slices.Equal(got, []string{"web"}) {
			t.Errorf("roles: %q", got)
		}
		secret(c.logical.Delete(role))
		if got := secret(c.logical.Read(role)); got != nil {
			t.Errorf("deleted: %+v", got)
		}
	})
}

func TestAppRoleSecretIDs(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		const role = "auth/machines/role/web"
		succeed(t, c.sys.EnableAuth("machines", "approle", ""))
		secret(c.logical.Write(role, nil))
		secret(c.logical.Write(role+"/role-id", object{"role_id": "web"}))
		secret(c.logical.Write(role+"/custom-secret-id", object{"secret_id": "of our own making"}))
		found := secret(c.logical.Write(role+"/secret-id/lookup", object{"secret_id": "of our own making"})).Data
		accessor, _ := found["secret_id_accessor"].(string)
		if accessor == "" || found["expiration_time"] != "0001-01-01T00:00:00Z" {
			t.Fatalf("lookup: %v", found)
		}
		if got := keys(secret(c.logical.List(role + "/secret-id"))); !slices.Equal(got, []string{accessor}) {
			t.Errorf("accessors: %q", got)
		}
		if got := secret(c.logical.Write(role+"/secret-id-accessor/lookup", object{"secret_id_accessor": accessor})).Data; got["secret_id_accessor"] != accessor {
			t.Errorf("by accessor: %v", got)
		}
		secret(c.fresh().login(method{"auth/machines/login", object{"role_id": "web", "secret_id": "of our own making"}}))
		secret(c.logical.Write(role+"/secret-id-accessor/destroy", object{"secret_id_accessor": accessor}))
		_, err := c.fresh().login(method{"auth/machines/login", object{"role_id": "web", "secret_id": "of our own making"}})
		c.want(t, err, http.StatusBadRequest, "invalid role or secret ID")
		if got := secret(c.logical.Write(role+"/secret-id/lookup", object{"secret_id": "of our own making"})); got != nil {
			t.Errorf("found after it was destroyed: %+v", got)
		}
		// Delivered as it should be: wrapped, so that nobody sees it on the way unnoticed.
		c.wrapping(func(_, path string) string {
			if strings.HasSuffix(path, "/secret-id") {
				return "60s"
			}
			return ""
		})
		wrapped := secret(c.logical.Write(role+"/secret-id", nil))
		if w := wrapped.WrapInfo; w == nil || w.TTL != 60 || w.WrappedAccessor == "" || w.CreationPath != role+"/secret-id" {
			t.Fatalf("wrapped: %+v", wrapped.WrapInfo)
		}
		app := c.fresh()
		inside := secret(app.logical.Unwrap(wrapped.WrapInfo.Token)).Data
		if inside["secret_id_accessor"] != wrapped.WrapInfo.WrappedAccessor {
			t.Errorf("unwrapped: %v", inside)
		}
		secret(app.login(method{"auth/machines/login", object{"role_id": "web", "secret_id": inside["secret_id"]}}))
		if s := secret(c.logical.Write("auth/machines/tidy/secret-id", nil)); s == nil || len(s.Warnings) == 0 {
			t.Errorf("tidy: %+v", s)
		}
	})
}

// Five failures lock the name out for a while, whether there is such a user or not.
func TestLockout(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		succeed(t, c.sys.EnableAuth("userpass", "userpass", ""))
		must[*bao.Secret](t)(c.logical.Write("auth/userpass/users/ann", object{"password": "correct horse"}))
		for _, name := range []string{"ann", "nobody"} {
			for range 5 {
				_, err := c.fresh().login(method{"auth/userpass/login/" + name, object{"password": "wrong"}})
				c.want(t, err, http.StatusBadRequest, "invalid username or password")
			}
			_, err := c.fresh().login(method{"auth/userpass/login/" + strings.ToUpper(name), object{"password": "correct horse"}})
			c.want(t, err, http.StatusForbidden, "permission denied")
		}
	})
}
