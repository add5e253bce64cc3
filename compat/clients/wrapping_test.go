package clients

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// wrapAll asks for every reply to be wrapped, until it is called with an empty ttl.
func (c *client) wrapAll(ttl string) {
	c.wrapping(func(string, string) string { return ttl })
}

func TestWrapping(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		mountKV(t, c, "secret", "2")
		must[*bao.KVSecret](t)(c.kv2("secret").Put(t.Context(), "a", object{"v": "1"}))
		c.wrapAll("5m")
		first := secret(c.logical.Read("secret/data/a"))
		w := first.WrapInfo
		if first.RequestID != "" || first.Data != nil || w == nil || w.TTL != 300 || w.CreationPath != "secret/data/a" || w.CreationTime.IsZero() || w.Accessor == "" {
			t.Fatalf("wrapped: %+v, %+v", first, w)
		}
		if got, err := c.logical.Read("secret/data/nothing"); err != nil || got != nil {
			t.Errorf("a 404 was wrapped: %+v, %v", got, err)
		}
		c.wrapAll("")

		found := secret(c.fresh().logical.Write("sys/wrapping/lookup", object{"token": w.Token})).Data
		if found["creation_path"] != "secret/data/a" || number(found["creation_ttl"]) != 300 || found["creation_time"] == "" {
			t.Errorf("lookup: %v", found)
		}
		again := secret(c.logical.Write("sys/wrapping/rewrap", object{"token": w.Token})).WrapInfo
		if again == nil || again.CreationPath != "secret/data/a" || again.Token == w.Token {
			t.Fatalf("rewrapped: %+v", again)
		}
		for name, from := range map[string]*client{"with the token that was replaced": c.fresh(), "by somebody who has a token": c} {
			_, err := from.logical.Unwrap(w.Token)
			if code, text := c.failure(err); code != http.StatusBadRequest || !strings.Contains(text, "wrapping token is not valid or does not exist") {
				t.Errorf("%s: %d %s", name, code, text)
			}
		}
		receiver := c.fresh()
		inside := secret(receiver.logical.Unwrap(again.Token))
		if inside.RequestID == "" || inside.WrapInfo != nil || !reflect.DeepEqual(inside.Data["data"], object{"v": "1"}) {
			t.Errorf("unwrapped: %+v", inside)
		}
		_, err := receiver.logical.Unwrap(again.Token)
		c.want(t, err, http.StatusBadRequest, "wrapping token is not valid or does not exist")
	})
}

// Every way to unwrap that the libraries know: the wrapping token as the client's own, and as a field.
func TestUnwrap(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		wrap := func() string {
			c.wrapAll("1m")
			defer c.wrapAll("")
			return secret(c.logical.Write("sys/wrapping/wrap", object{"note": "for you", "n": 1})).WrapInfo.Token
		}
		own := c.fresh()
		own.setToken(wrap())
		field := c.as(t)
		for name, s := range map[string]*bao.Secret{
			"own token":             secret(own.logical.Unwrap("")),
			"field":                 secret(field.logical.Unwrap(wrap())),
			"no token, but a field": secret(c.fresh().logical.Unwrap(wrap())),
			"by hand":               secret(field.logical.Write("sys/wrapping/unwrap", object{"token": wrap()})),
		} {
			if s.Data["note"] != "for you" || number(s.Data["n"]) != 1 {
				t.Errorf("%s: %+v", name, s)
			}
		}
		self := wrap()
		own.setToken(self)
		if got := secret(own.logical.Read("sys/wrapping/lookup")); number(got.Data["creation_ttl"]) != 60 {
			t.Errorf("its own lookup: %+v", got)
		}
		_, err := own.tokens.LookupSelf()
		c.want(t, err, http.StatusForbidden, "")
		_, err = c.logical.Write("sys/wrapping/wrap", object{"note": "without a lifetime"})
		c.want(t, err, http.StatusBadRequest, "")
		_, err = c.fresh().logical.Unwrap("")
		if code, _ := c.failure(err); code != http.StatusForbidden && code != http.StatusBadRequest {
			t.Errorf("nothing to unwrap: %v", err)
		}
	})
}

func TestWrappedToken(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		c.wrapAll("1m")
		wrapped := must[*bao.Secret](t)(c.tokens.Create(&bao.TokenCreateRequest{Policies: []string{"default"}}))
		c.wrapAll("")
		if wrapped.Auth != nil || wrapped.WrapInfo == nil || wrapped.WrapInfo.WrappedAccessor == "" {
			t.Fatalf("wrapped: %+v", wrapped)
		}
		inside := must[*bao.Secret](t)(c.fresh().logical.Unwrap(wrapped.WrapInfo.Token))
		if inside.Auth == nil || inside.Auth.Accessor != wrapped.WrapInfo.WrappedAccessor {
			t.Fatalf("unwrapped: %+v", inside)
		}
		user := c.fresh()
		user.setToken(inside.Auth.ClientToken)
		must[*bao.Secret](t)(user.tokens.LookupSelf())
	})
}

// A policy can force replies to be wrapped.
func TestWrappingLimits(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "kv", "1")
		succeed(t, c.kv1("kv").Put(t.Context(), "a", object{"v": "1"}))
		succeed(t, c.sys.PutPolicy("careful", `path "kv/*" {
			capabilities = ["read"]
			min_wrapping_ttl = "10s"
			max_wrapping_ttl = "1m"
		}`))
		user := c.as(t, "careful")
		for ttl, may := range map[string]bool{"": false, "5s": false, "30s": true, "2m": false} {
			user.wrapAll(ttl)
			s, err := user.logical.Read("kv/a")
			if !may {
				c.want(t, err, http.StatusForbidden, "permission denied")
			} else if err != nil || s.WrapInfo == nil || s.WrapInfo.TTL != 30 {
				t.Errorf("%s: %+v, %v", ttl, s, err)
			}
		}
	})
}

func TestCubbyhole(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		secret := must[*bao.Secret](t)
		user := c.as(t)
		secret(user.logical.Write("cubbyhole/own/note", object{"v": "1"}))
		if got := secret(user.logical.Read("cubbyhole/own/note")); got.Data["v"] != "1" {
			t.Errorf("read: %+v", got)
		}
		if got := keys(secret(user.logical.List("cubbyhole"))); len(got) != 1 || got[0] != "own/" {
			t.Errorf("list: %q", got)
		}
		if got := secret(c.logical.Read("cubbyhole/own/note")); got != nil {
			t.Errorf("root sees it: %+v", got)
		}
		secret(user.logical.Delete("cubbyhole/own/note"))
		if got := secret(user.logical.Read("cubbyhole/own/note")); got != nil {
			t.Errorf("deleted: %+v", got)
		}
	})
}
