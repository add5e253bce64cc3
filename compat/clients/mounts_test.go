package clients

import (
	"net/http"
	"slices"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

func TestMounts(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		list := must[map[string]*bao.MountOutput](t)
		at := list(c.sys.ListMounts())
		if at["cubbyhole/"] == nil || at["sys/"] == nil || at["secret/"] != nil {
			t.Errorf("mounts of a new server: %v", at)
		}
		succeed(t, c.sys.Mount("team/secret", &bao.MountInput{
			Type: "kv", Description: "of the team", Options: map[string]string{"version": "2"},
			Config: bao.MountConfigInput{DefaultLeaseTTL: "1h", MaxLeaseTTL: "24h"},
		}))
		got := list(c.sys.ListMounts())["team/secret/"]
		if got == nil || got.Type != "kv" || got.Description != "of the team" || got.Options["version"] != "2" || got.UUID == "" || got.Accessor == "" ||
			got.Config.DefaultLeaseTTL != 3600 || got.Config.MaxLeaseTTL != 86400 {
			t.Errorf("the mount: %+v", got)
		}
		if one := must[*bao.MountOutput](t)(c.sys.MountInfo("team/secret")); one.UUID != got.UUID {
			t.Errorf("alone: %+v", one)
		}
		for path, info := range map[string]*bao.MountInput{
			"team/secret": {Type: "kv"}, "team": {Type: "kv"}, "team/secret/below": {Type: "kv"}, "sys/x": {Type: "kv"}, "fresh": {Type: "no-such-engine"}, "other": {},
		} {
			c.want(t, c.sys.Mount(path, info), http.StatusBadRequest, "")
		}
		_, err := c.sys.MountInfo("nothing/here")
		c.want(t, err, http.StatusBadRequest, "")
		succeed(t, c.sys.Unmount("team/secret"))
		succeed(t, c.sys.Unmount("team/secret"))
		if _, there := list(c.sys.ListMounts())["team/secret/"]; there {
			t.Error("still there")
		}
	})
}

func TestTune(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "kv", "1")
		config := must[*bao.MountConfigOutput](t)
		if got := config(c.sys.MountConfig("kv")); got.DefaultLeaseTTL != 2764800 || got.MaxLeaseTTL != 2764800 || got.ForceNoCache {
			t.Errorf("untuned: %+v", got)
		}
		text := "tuned"
		succeed(t, c.sys.TuneMount("kv", bao.MountConfigInput{
			DefaultLeaseTTL: "30m", MaxLeaseTTL: "1h", Description: &text, ListingVisibility: "unauth", AuditNonHMACRequestKeys: []string{"name"},
		}))
		got := config(c.sys.MountConfig("kv"))
		if got.DefaultLeaseTTL != 1800 || got.MaxLeaseTTL != 3600 || got.ListingVisibility != "unauth" || !slices.Equal(got.AuditNonHMACRequestKeys, []string{"name"}) {
			t.Errorf("tuned: %+v", got)
		}
		if info := must[*bao.MountOutput](t)(c.sys.MountInfo("kv")); info.Description != text {
			t.Errorf("description %q", info.Description)
		}
		// From version 1 to version 2, as `kv enable-versioning` does it.
		succeed(t, c.sys.TuneMount("kv", bao.MountConfigInput{Options: map[string]string{"version": "2"}}))
		holds(t, must[*bao.KVSecret](t)(c.kv2("kv").Put(t.Context(), "a", object{"v": "1"})), 1, nil)
	})
}

func TestRemount(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "from", "1")
		mountKV(t, c, "taken", "1")
		succeed(t, c.kv1("from").Put(t.Context(), "a", object{"v": "1"}))
		c.want(t, c.sys.Remount("from", "taken"), http.StatusBadRequest, "")
		succeed(t, c.sys.Remount("from", "to/there")) // asks for the status until it is done
		if got := must[*bao.KVSecret](t)(c.kv1("to/there").Get(t.Context(), "a")); got.Data["v"] != "1" {
			t.Errorf("moved: %+v", got.Data)
		}
		_, err := c.logical.Read("from/a")
		if err != nil {
			c.want(t, err, http.StatusNotFound, "")
		}
	})
}

func TestAuthMounts(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		list := must[map[string]*bao.AuthMount](t)
		if got := list(c.sys.ListAuth()); got["token/"] == nil || got["token/"].Type != "token" {
			t.Errorf("of a new server: %v", got)
		}
		succeed(t, c.sys.EnableAuth("people", "userpass", "everybody"))
		succeed(t, c.sys.EnableAuthWithOptions("machines", &bao.EnableAuthOptions{Type: "approle", Config: bao.AuthConfigInput{DefaultLeaseTTL: "10m", ListingVisibility: "unauth"}}))
		got := list(c.sys.ListAuth())
		if p, m := got["people/"], got["machines/"]; p == nil || p.Description != "everybody" || p.Type != "userpass" || p.Config.TokenType != "default-service" ||
			m == nil || m.Config.DefaultLeaseTTL != 600 {
			t.Errorf("auth methods: %+v", got)
		}
		c.want(t, c.sys.EnableAuth("people", "userpass", ""), http.StatusBadRequest, "path is already in use")
		c.want(t, c.sys.EnableAuth("x", "kv", ""), http.StatusBadRequest, "")
		c.want(t, c.sys.DisableAuth("token"), http.StatusBadRequest, "")
		succeed(t, c.sys.TuneMount("auth/people", bao.MountConfigInput{MaxLeaseTTL: "2h"}))
		if got := must[*bao.MountConfigOutput](t)(c.sys.MountConfig("auth/people")); got.MaxLeaseTTL != 7200 {
			t.Errorf("tuned: %+v", got)
		}

		// What somebody without a token may see, and the question before each `kv` command.
		visible := must[*bao.Secret](t)(c.fresh().logical.Read("sys/internal/ui/mounts"))
		auth, _ := visible.Data["auth"].(object)
		if auth["machines/"] == nil || auth["people/"] != nil {
			t.Errorf("visible to all: %v", visible.Data)
		}
		mountKV(t, c, "secret", "2")
		succeed(t, c.sys.PutPolicy("app", appPolicy))
		user := c.as(t, "app")
		flight := must[*bao.Secret](t)(user.logical.Read("sys/internal/ui/mounts/secret/app/a")).Data
		if options, _ := flight["options"].(object); flight["path"] != "secret/" || options["version"] != "2" || flight["type"] != "kv" {
			t.Errorf("preflight: %v", flight)
		}
		for _, none := range []*client{c.as(t), c.fresh()} {
			_, err := none.logical.Read("sys/internal/ui/mounts/secret/app/a")
			c.want(t, err, http.StatusForbidden, "")
		}

		// Logins die with the method.
		must[*bao.Secret](t)(c.logical.Write("auth/people/users/ann", object{"password": "correct horse"}))
		ann := c.fresh()
		must[*bao.Secret](t)(ann.login(method{"auth/people/login/ann", object{"password": "correct horse"}}))
		succeed(t, c.sys.DisableAuth("people"))
		succeed(t, c.sys.DisableAuth("people"))
		_, err := ann.tokens.LookupSelf()
		c.want(t, err, http.StatusForbidden, "permission denied")
	})
}
