package clients

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

func TestTools(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		random, _ := secret(c.logical.Write("sys/tools/random/16", object{"format": "hex"})).Data["random_bytes"].(string)
		if b, err := hex.DecodeString(random); err != nil || len(b) != 16 {
			t.Errorf("random bytes %q, %v", random, err)
		}
		input := base64.StdEncoding.EncodeToString([]byte("abc"))
		sum := secret(c.as(t).logical.Write("sys/tools/hash/sha2-256", object{"input": input})).Data["sum"]
		if sum != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
			t.Errorf("sum %v", sum)
		}
	})
}

func TestCORS(t *testing.T) {
	eachClientOf(t, oneNode, func(t *testing.T, s *harness.Server, c *client) {
		state := must[*bao.CORSResponse](t)
		if got := state(c.sys.CORSStatus()); got.Enabled {
			t.Errorf("of a new server: %+v", got)
		}
		const origin = "https://ui.example.com"
		succeed(t, c.sys.ConfigureCORS(&bao.CORSRequest{AllowedOrigins: []string{origin}, Enabled: true}))
		if got := state(c.sys.CORSStatus()); !got.Enabled || !slices.Equal(got.AllowedOrigins, []string{origin}) {
			t.Errorf("configured: %+v", got)
		}
		asked := func() string {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/sys/health", nil)
			r.Header.Set("Origin", origin)
			return must[*http.Response](t)(http.DefaultClient.Do(r)).Header.Get("Access-Control-Allow-Origin")
		}
		if got := asked(); got != origin {
			t.Errorf("allowed: %q", got)
		}
		succeed(t, c.sys.DisableCORS())
		if got := asked(); got != "" {
			t.Errorf("still allowed: %q", got)
		}
	})
}

func TestRateLimit(t *testing.T) {
	eachClientOf(t, oneNode, func(t *testing.T, s *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		mountKV(t, c, "kv", "1")
		succeed(t, c.kv1("kv").Put(t.Context(), "a", object{"v": "1"}))
		secret(c.logical.Write("sys/quotas/rate-limit/slow", object{"path": "kv", "rate": 1, "interval": "1h"}))
		got := secret(c.logical.Read("sys/quotas/rate-limit/slow")).Data
		if got["name"] != "slow" || got["type"] != "rate-limit" || number(got["rate"]) != 1 || number(got["interval"]) != 3600 {
			t.Errorf("the quota: %v", got)
		}
		if got := keys(secret(c.logical.List("sys/quotas/rate-limit"))); !slices.Equal(got, []string{"slow"}) {
			t.Errorf("quotas: %q", got)
		}
		_, err := c.logical.Write("sys/quotas/rate-limit/typo", object{"path": "kw", "rate": 1})
		c.want(t, err, http.StatusBadRequest, "")
		c.retries(0)
		err = nil
		for i := 0; i < 3 && err == nil; i++ {
			_, err = c.kv1("kv").Get(t.Context(), "a")
		}
		c.want(t, err, http.StatusTooManyRequests, "quota")
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/kv/a", nil)
		r.Header.Set("X-Vault-Token", s.Root)
		res := must[*http.Response](t)(http.DefaultClient.Do(r))
		if wait, err := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 3600 {
			t.Errorf("%d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
		}
		secret(c.logical.Read("sys/mounts")) // elsewhere it goes on
		secret(c.logical.Delete("sys/quotas/rate-limit/slow"))
		must[*bao.KVSecret](t)(c.kv1("kv").Get(t.Context(), "a"))
	})
}

// With their usual settings the libraries wait as Retry-After says, and their callers notice nothing.
func TestRateLimitIsWaitedFor(t *testing.T) {
	eachClientOf(t, oneNode, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "kv", "1")
		succeed(t, c.kv1("kv").Put(t.Context(), "a", object{"v": "1"}))
		must[*bao.Secret](t)(c.logical.Write("sys/quotas/rate-limit/slow", object{"path": "kv", "rate": 1, "interval": "1s"}))
		for range 3 {
			must[*bao.KVSecret](t)(c.kv1("kv").Get(t.Context(), "a"))
		}
	})
}

// Every list comes in pages, for whoever asks so.
func TestBaoPages(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newBao(t, s.URL).(baoLibrary).Client
	c.SetToken(s.Root)
	succeed(t, c.Sys().EnableAuth("userpass", "userpass", ""))
	succeed(t, c.Sys().EnableAuth("approle", "approle", ""))
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		succeed(t, c.Sys().PutPolicy(name, `path "x" { capabilities = ["read"] }`))
		for path, data := range map[string]object{
			"auth/userpass/users/" + name: {"password": "correct horse"}, "auth/approle/role/" + name: {}, "auth/token/roles/" + name: {},
			"cubbyhole/" + name: {"v": "1"}, "sys/quotas/rate-limit/" + name: {"path": "cubbyhole/" + name, "rate": 1000}, "auth/token/create": {"ttl": "1h"},
		} {
			must[*bao.Secret](t)(c.Logical().Write(path, data))
		}
	}
	for _, path := range []string{
		"sys/policies/acl", "auth/userpass/users", "auth/approle/role", "auth/token/roles", "cubbyhole", "sys/quotas/rate-limit", "auth/token/accessors",
		"sys/leases/lookup/auth/token/create",
	} {
		whole := keys(must[*bao.Secret](t)(c.Logical().List(path)))
		var paged []string
		for after, more := "", true; more; {
			page := keys(must[*bao.Secret](t)(c.Logical().ListPage(path, after, 2)))
			if more = len(page) > 0; more {
				after, paged = page[len(page)-1], append(paged, page...)
			}
			if len(page) > 2 || len(paged) > len(whole) {
				t.Fatalf("%s: a page %q after %q", path, page, paged)
			}
		}
		if len(whole) < 5 || !slices.Equal(paged, whole) {
			t.Errorf("%s: %q, in pages %q", path, whole, paged)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "team/secret", "2")
		got := must[*bao.Secret](t)(c.logical.Read("sys/internal/specs/openapi"))
		paths, _ := got.Data["paths"].(object)
		if got.Data["openapi"] == nil || paths["/sys/mounts"] == nil || paths["/auth/token/lookup-self"] == nil {
			t.Errorf("%v with %d paths", got.Data["openapi"], len(paths))
		}
	})
}
