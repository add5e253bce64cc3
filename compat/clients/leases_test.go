package clients

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// people is a server's userpass method with so many logins; it returns the lease IDs of their tokens, and clients that
// have them.
func people(t *testing.T, c *client, names ...string) (ids []string, users []*client) {
	t.Helper()
	secret := must[*bao.Secret](t)
	succeed(t, c.sys.EnableAuth("userpass", "userpass", ""))
	for _, name := range names {
		secret(c.logical.Write("auth/userpass/users/"+name, object{"password": "correct horse", "token_ttl": "10m"}))
		user := c.fresh()
		secret(user.login(method{"auth/userpass/login/" + name, object{"password": "correct horse"}}))
		list := keys(secret(c.logical.List("sys/leases/lookup/auth/userpass/login/" + name)))
		if len(list) != 1 {
			t.Fatalf("leases of %s: %q", name, list)
		}
		ids, users = append(ids, "auth/userpass/login/"+name+"/"+list[0]), append(users, user)
	}
	return ids, users
}

func (c *client) dead(t *testing.T) {
	t.Helper()
	_, err := c.tokens.LookupSelf()
	c.want(t, err, http.StatusForbidden, "permission denied")
}

func TestLeases(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		ids, users := people(t, c, "ann", "bob")
		found := secret(c.sys.Lookup(ids[0])).Data
		expires, err := time.Parse(time.RFC3339Nano, found["expire_time"].(string))
		if left := number(found["ttl"]); found["id"] != ids[0] || found["renewable"] != true || left < 590 || left > 600 || err != nil || time.Until(expires) > 10*time.Minute {
			t.Errorf("lookup: %v, %v", found, err)
		}
		if got := secret(c.sys.Renew(ids[0], 1200)); got.LeaseID != ids[0] && got.Auth == nil || got.LeaseDuration != 1200 && (got.Auth == nil || got.Auth.LeaseDuration != 1200) {
			t.Errorf("renewed: %+v, %+v", got, got.Auth)
		}
		_, err = c.sys.Lookup("auth/userpass/login/ann/hnothing")
		c.want(t, err, http.StatusBadRequest, "invalid lease")
		_, err = c.sys.Renew("auth/userpass/login/ann/hnothing", 0)
		c.want(t, err, http.StatusBadRequest, "lease not found")
		succeed(t, c.sys.Revoke(ids[0]))
		users[0].dead(t)
		succeed(t, c.sys.Revoke(ids[0]))
		must[*bao.Secret](t)(users[1].tokens.LookupSelf())
	})
}

func TestLeasesByPrefix(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		_, users := people(t, c, "ann", "bob", "bobby", "cid")
		if got := keys(must[*bao.Secret](t)(c.logical.List("sys/leases/lookup/auth/userpass/login"))); !slices.Equal(got, []string{"ann/", "bob/", "bobby/", "cid/"}) {
			t.Errorf("leases: %q", got)
		}
		succeed(t, c.sys.RevokePrefix("auth/userpass/login/bob"))
		users[1].dead(t)
		for _, alive := range []*client{users[0], users[2], users[3]} {
			must[*bao.Secret](t)(alive.tokens.LookupSelf())
		}
		succeed(t, c.sys.RevokeWithOptions(&bao.RevokeOptions{LeaseID: "auth/userpass/login/cid", Prefix: true, Sync: true}))
		users[3].dead(t)
		succeed(t, c.sys.RevokeForce("auth/userpass"))
		for _, user := range users {
			user.dead(t)
		}
		_, err := c.as(t).logical.Write("sys/leases/revoke-prefix/auth/userpass", nil)
		c.want(t, err, http.StatusForbidden, "permission denied")
		count := must[*bao.Secret](t)(c.logical.ReadWithData("sys/leases/count", map[string][]string{"type": {"irrevocable"}}))
		if number(count.Data["lease_count"]) != 0 {
			t.Errorf("leases that can't be revoked: %v", count.Data)
		}
		if s := must[*bao.Secret](t)(c.logical.Write("sys/leases/tidy", nil)); s == nil || len(s.Warnings) == 0 {
			t.Errorf("tidy: %+v", s)
		}
	})
}

// The default policy lets everybody look their own lease up, and renew it.
func TestOwnLease(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		ids, users := people(t, c, "ann")
		if got := must[*bao.Secret](t)(users[0].sys.Lookup(ids[0])); !strings.HasPrefix(got.Data["id"].(string), "auth/userpass/login/ann/") {
			t.Errorf("lookup: %v", got.Data)
		}
		must[*bao.Secret](t)(users[0].sys.Renew(ids[0], 60))
		users[0].want(t, users[0].sys.Revoke(ids[0]), http.StatusForbidden, "permission denied")
	})
}
