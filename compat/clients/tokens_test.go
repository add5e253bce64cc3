package clients

import (
	"net/http"
	"slices"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

func TestTokens(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		made := secret(c.tokens.Create(&bao.TokenCreateRequest{Policies: []string{"ops"}, TTL: "1h", DisplayName: "job", Metadata: map[string]string{"team": "a"}})).Auth
		found := secret(c.tokens.Lookup(made.ClientToken)).Data
		if found["id"] != made.ClientToken || found["display_name"] != "token-job" || found["orphan"] != false || number(found["creation_ttl"]) != 3600 {
			t.Errorf("lookup: %v", found)
		}
		if got := secret(c.tokens.Renew(made.ClientToken, 7200)).Auth.LeaseDuration; got != 7200 {
			t.Errorf("renewed to %d", got)
		}
		if got := secret(c.tokens.RenewAccessor(made.Accessor, 1800)).Auth; got.LeaseDuration != 1800 || got.ClientToken != "" {
			t.Errorf("renewed by accessor: %+v", got)
		}
		parent := c.fresh()
		parent.setToken(made.ClientToken)
		_, err := parent.tokens.Create(&bao.TokenCreateRequest{})
		c.want(t, err, http.StatusForbidden, "permission denied")
		succeed(t, c.sys.PutPolicy("ops", `path "auth/token/create" { capabilities = ["update"] }`))
		child := secret(parent.tokens.Create(&bao.TokenCreateRequest{})).Auth
		orphan := secret(c.tokens.CreateOrphan(&bao.TokenCreateRequest{Policies: []string{"default"}})).Auth
		if !orphan.Orphan || child.Orphan || !slices.Equal(child.Policies, []string{"default", "ops"}) {
			t.Errorf("orphan %+v, child %+v", orphan, child)
		}
		succeed(t, c.tokens.RevokeTree(made.ClientToken))
		for _, dead := range []string{made.ClientToken, child.ClientToken} {
			_, err := c.tokens.Lookup(dead)
			c.want(t, err, http.StatusForbidden, "bad token")
		}
		other := c.fresh()
		other.setToken(orphan.ClientToken)
		succeed(t, other.tokens.RevokeSelf(""))
		_, err = other.tokens.LookupSelf()
		c.want(t, err, http.StatusForbidden, "permission denied")
		succeed(t, c.tokens.RevokeTree("nobody's"))
	})
}

// The n-th request of a token with n uses is its last.
func TestTokenUses(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		made := must[*bao.Secret](t)(c.tokens.Create(&bao.TokenCreateRequest{Policies: []string{"default"}, NumUses: 2})).Auth
		user := c.fresh()
		user.setToken(made.ClientToken)
		for range 2 {
			must[*bao.Secret](t)(user.tokens.LookupSelf())
		}
		_, err := user.tokens.LookupSelf()
		c.want(t, err, http.StatusForbidden, "permission denied")
	})
}

func TestRevokeOrphan(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		succeed(t, c.sys.PutPolicy("ops", `path "auth/token/create" { capabilities = ["update"] }`))
		parent := c.as(t, "ops")
		child := secret(parent.tokens.Create(&bao.TokenCreateRequest{})).Auth
		succeed(t, c.tokens.RevokeOrphan(parent.token()))
		if got := secret(c.tokens.LookupAccessor(child.Accessor)).Data; got["orphan"] != true || got["id"] != "" {
			t.Errorf("the child: %v", got)
		}
		succeed(t, c.tokens.RevokeAccessor(child.Accessor))
		_, err := c.tokens.LookupAccessor(child.Accessor)
		c.want(t, err, http.StatusBadRequest, "invalid accessor")
	})
}

func TestTokenRoles(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		secret(c.logical.Write("auth/token/roles/job", object{
			"allowed_policies": "job,app", "orphan": true, "token_period": "30m", "path_suffix": "night", "renewable": true, "token_num_uses": 9,
		}))
		got := secret(c.logical.Read("auth/token/roles/job")).Data
		if !slices.Equal(texts(got["allowed_policies"]), []string{"app", "job"}) && !slices.Equal(texts(got["allowed_policies"]), []string{"job", "app"}) ||
			got["orphan"] != true || number(got["token_period"]) != 1800 || got["path_suffix"] != "night" || got["name"] != "job" || number(got["token_num_uses"]) != 9 {
			t.Errorf("read back: %v", got)
		}
		made := secret(c.tokens.CreateWithRole(&bao.TokenCreateRequest{Policies: []string{"job"}}, "job")).Auth
		if !made.Orphan || made.LeaseDuration != 1800 || !slices.Equal(made.Policies, []string{"default", "job"}) {
			t.Errorf("made: %+v", made)
		}
		found := secret(c.tokens.Lookup(made.ClientToken)).Data
		if found["role"] != "job" || found["path"] != "auth/token/create/job/night" || number(found["period"]) != 1800 {
			t.Errorf("the token: %v", found)
		}
		_, err := c.tokens.CreateWithRole(&bao.TokenCreateRequest{Policies: []string{"ops"}}, "job")
		c.want(t, err, http.StatusBadRequest, "")
		_, err = c.tokens.CreateWithRole(&bao.TokenCreateRequest{}, "nothing")
		c.want(t, err, http.StatusBadRequest, "")
		if got := keys(secret(c.logical.List("auth/token/roles"))); !slices.Equal(got, []string{"job"}) {
			t.Errorf("roles: %q", got)
		}
		secret(c.logical.Delete("auth/token/roles/job"))
		if got := secret(c.logical.List("auth/token/roles")); got != nil {
			t.Errorf("roles: %+v", got)
		}
		if s := secret(c.logical.Write("auth/token/tidy", nil)); s == nil || len(s.Warnings) == 0 {
			t.Errorf("tidy: %+v", s)
		}
	})
}

// A renewal by the library's own watcher, which asks at once, and then at two thirds of what is left.
func TestLifetimeWatcher(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		made := must[*bao.Secret](t)(c.tokens.Create(&bao.TokenCreateRequest{Policies: []string{"default"}, TTL: "1h"}))
		user := c.fresh()
		user.setToken(made.Auth.ClientToken)
		w := must[*watcher](t)(user.watch(&bao.LifetimeWatcherInput{Secret: made, Increment: 7200}))
		go w.start()
		defer w.stop()
		got := w.renewed()
		if got == nil || got.Auth == nil || got.Auth.LeaseDuration != 7200 || !got.Auth.Renewable {
			t.Fatalf("renewed: %+v", got)
		}
	})
}
