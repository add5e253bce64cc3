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

const appPolicy = `
path "secret/data/app/*" { capabilities = ["create", "read", "update"] }
path "secret/data/app/closed" { capabilities = ["deny"] }
path "secret/data/+/shared" { capabilities = ["read"] }
`

// as is another client of the server, with a new token that has these policies and default.
func (c *client) as(t *testing.T, policies ...string) *client {
	t.Helper()
	s := must[*bao.Secret](t)(c.tokens.Create(&bao.TokenCreateRequest{Policies: append(policies, "default"), TTL: "1h"}))
	user := c.fresh()
	user.setToken(s.Auth.ClientToken)
	return user
}

func TestPolicies(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		list := must[[]string](t)
		if got := list(c.sys.ListPolicies()); !slices.Equal(got, []string{"default", "root"}) {
			t.Errorf("policies of a new server: %q", got)
		}
		if text, err := c.sys.GetPolicy("app"); err != nil || text != "" {
			t.Errorf("an absent policy: %q, %v", text, err)
		}
		succeed(t, c.sys.PutPolicy("App", appPolicy))
		if text, err := c.sys.GetPolicy("app"); err != nil || text != appPolicy {
			t.Errorf("read back: %q, %v", text, err)
		}
		if text := must[string](t)(c.sys.GetPolicy("default")); !strings.Contains(text, "auth/token/lookup-self") {
			t.Errorf("default: %q", text)
		}
		if got := list(c.sys.ListPolicies()); !slices.Equal(got, []string{"app", "default", "root"}) {
			t.Errorf("policies: %q", got)
		}
		c.want(t, c.sys.PutPolicy("bad", `path "x" { capabilities = ["fly"] }`), http.StatusBadRequest, "")
		c.want(t, c.sys.PutPolicy("root", appPolicy), http.StatusBadRequest, "")
		c.want(t, c.sys.DeletePolicy("default"), http.StatusBadRequest, "")
		acl := must[*bao.Secret](t)(c.logical.Read("sys/policies/acl/app"))
		if acl.Data["name"] != "app" || acl.Data["policy"] != appPolicy {
			t.Errorf("sys/policies/acl: %+v", acl.Data)
		}
		if got := keys(must[*bao.Secret](t)(c.logical.List("sys/policies/acl"))); !slices.Equal(got, []string{"app", "default", "root"}) {
			t.Errorf("sys/policies/acl: %q", got)
		}
		succeed(t, c.sys.DeletePolicy("app"))
		succeed(t, c.sys.DeletePolicy("app"))
	})
}

// Layouts that people's policies have, because the first version of HCL takes them.
func TestPolicyLayouts(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		user := c.as(t, "app")
		for name, text := range map[string]string{
			"two blocks on a line":      `path "b" { capabilities = ["list"] } path "a" { capabilities = ["read"] }`,
			"two attributes on a line":  `path "a" { capabilities = ["read"] max_wrapping_ttl = "1m" }`,
			"a comma between them":      `path "a" { capabilities = ["read"], max_wrapping_ttl = "1m" }`,
			"the brace on its own line": "path \"a\"\n{\n  capabilities = [\"read\"]\n}\n",
			"lines end as on Windows":   "# x\r\npath \"a\" {\r\n  capabilities = [\"read\"]\r\n}\r\n",
			"all kinds of comments":     "// x\n/* y\n*/\npath \"a\" { # z\n  capabilities = [\"read\",]\n}\n",
			"the older words":           `path "a" { policy = "read" }`,
			"JSON with a list":          `{"path": [{"a": {"capabilities": ["read"]}}, {"b": {"policy": "deny"}}]}`,
		} {
			if err := c.sys.PutPolicy("app", text); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got := must[[]string](t)(user.sys.CapabilitiesSelf("a"))
			if !slices.Contains(got, "read") {
				t.Errorf("%s: %q", name, got)
			}
			if back := must[string](t)(c.sys.GetPolicy("app")); back != text {
				t.Errorf("%s: read back as %q", name, back)
			}
		}
	})
}

func TestPoliciesDecide(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "secret", "2")
		succeed(t, c.sys.PutPolicy("app", appPolicy))
		for _, path := range []string{"app/a", "app/closed", "other/shared", "other/own"} {
			must[*bao.KVSecret](t)(c.kv2("secret").Put(t.Context(), path, object{"v": "1"}))
		}
		user := c.as(t, "app")
		kv := user.kv2("secret")
		for path, may := range map[string]bool{"app/a": true, "app/closed": false, "other/shared": true, "other/own": false} {
			_, err := kv.Get(t.Context(), path)
			if may {
				succeed(t, err)
			} else {
				user.want(t, err, http.StatusForbidden, "permission denied")
			}
		}
		user.want(t, kv.Delete(t.Context(), "app/a"), http.StatusForbidden, "permission denied")
		_, err := kv.Put(t.Context(), "other/shared", object{"v": "2"})
		user.want(t, err, http.StatusForbidden, "permission denied")
		_, err = user.sys.ListMounts()
		user.want(t, err, http.StatusForbidden, "permission denied")

		// Changed for the tokens that are out there.
		succeed(t, c.sys.PutPolicy("app", `{"path": {"secret/data/other/own": {"capabilities": ["read"]}}}`))
		must[*bao.KVSecret](t)(kv.Get(t.Context(), "other/own"))
		_, err = kv.Get(t.Context(), "app/a")
		user.want(t, err, http.StatusForbidden, "permission denied")
	})
}

func TestPolicyParameters(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "kv", "1")
		succeed(t, c.sys.PutPolicy("form", `path "kv/form" {
			capabilities = ["create", "update"]
			required_parameters = ["name"]
			allowed_parameters = { "name" = [], "size" = ["small", "big*"] }
		}`))
		user := c.as(t, "form").kv1("kv")
		succeed(t, user.Put(t.Context(), "form", object{"name": "x", "size": "bigger"}))
		for _, bad := range []object{{"size": "small"}, {"name": "x", "size": "medium"}, {"name": "x", "more": "1"}} {
			c.want(t, user.Put(t.Context(), "form", bad), http.StatusForbidden, "permission denied")
		}
	})
}

func TestCapabilities(t *testing.T) {
	eachClient(t, func(t *testing.T, server *harness.Server, c *client) {
		succeed(t, c.sys.PutPolicy("app", appPolicy))
		s := must[*bao.Secret](t)(c.tokens.Create(&bao.TokenCreateRequest{Policies: []string{"app"}}))
		user := c.fresh()
		user.setToken(s.Auth.ClientToken)
		for path, want := range map[string][]string{
			"secret/data/app/a":      {"create", "read", "update"},
			"secret/data/app/closed": {"deny"},
			"secret/data/x/shared":   {"read"},
			"secret/data/x":          {"deny"},
		} {
			byToken := must[[]string](t)(c.sys.Capabilities(s.Auth.ClientToken, path))
			self := must[[]string](t)(user.sys.CapabilitiesSelf(path))
			byAccessor := must[*bao.Secret](t)(c.logical.Write("sys/capabilities-accessor", object{"accessor": s.Auth.Accessor, "path": path}))
			if !slices.Equal(byToken, want) || !slices.Equal(self, want) || !reflect.DeepEqual(texts(byAccessor.Data[path]), want) {
				t.Errorf("%s: %q, %q, %v, want %q", path, byToken, self, byAccessor.Data, want)
			}
		}
		if got := must[[]string](t)(c.sys.CapabilitiesSelf("any/thing")); !slices.Equal(got, []string{"root"}) {
			t.Errorf("of root: %q", got)
		}
		_, err := c.sys.Capabilities("nobody's", "secret/x")
		c.want(t, err, http.StatusBadRequest, "")
		_, err = user.sys.Capabilities(server.Root, "secret/x")
		c.want(t, err, http.StatusForbidden, "permission denied")
	})
}

func TestVaultCapabilitiesByAccessor(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newVault(t, s.URL).(vaultLibrary).Client
	c.SetToken(s.Root)
	self, err := c.Auth().Token().LookupSelf()
	succeed(t, err)
	accessor, err := self.TokenAccessor()
	succeed(t, err)
	if got, err := c.Sys().CapabilitiesAccessor(accessor, "any/thing"); err != nil || !slices.Equal(got, []string{"root"}) {
		t.Errorf("got %q, %v", got, err)
	}
}
