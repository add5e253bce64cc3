package httpapi

import (
	"strings"
	"testing"
)

func TestMounts(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	got := s.do("GET", "sys/mounts", "", root).want(200)
	got.in("data").fieldsAre("cubbyhole/", "sys/")
	got.in("cubbyhole/").is("type", "cubbyhole")
	got = s.do("GET", "sys/auth", "", root).want(200)
	got.in("data").fieldsAre("token/")
	got.in("token/").in("config").is("token_type", "default-service")

	s.do("POST", "sys/mounts/secret", `{"type":"kv","description":"ours","options":{"version":"2"},"config":{"max_lease_ttl":"2h","listing_visibility":"hidden"}}`, root).want(204)
	got = s.do("GET", "sys/mounts/secret", "", root).want(200)
	for _, entry := range []*response{got, got.in("data"), s.do("GET", "sys/mounts", "", root).want(200).in("secret/")} {
		entry.is("type", "kv")
		entry.is("description", "ours")
		entry.is("options", "map[version:2]")
		entry.is("local", false)
		entry.in("config").is("max_lease_ttl", 2*hour)
		entry.in("config").is("default_lease_ttl", 0)
		entry.in("config").is("listing_visibility", "hidden")
	}
	got.in("data").fieldsAre("accessor", "config", "deprecation_status", "description", "external_entropy_access", "local", "options", "plugin_version",
		"running_plugin_version", "running_sha256", "seal_wrap", "type", "uuid")
	got.in("data").in("config").fieldsAre("default_lease_ttl", "max_lease_ttl", "force_no_cache", "listing_visibility")
	s.do("PUT", "sys/mounts/team/one", `{"type":"kv-v2"}`, root).want(204)
	s.do("GET", "sys/mounts/team/one", "", root).want(200).is("options", "map[version:2]")
	s.do("PUT", "sys/mounts/plain", `{"type":"plugin","plugin_name":"kv"}`, root).want(204)
	s.do("GET", "sys/mounts/plain", "", root).want(200).is("options", "map[version:1]")
	for path, body := range map[string]string{"secret": `{"data":{"a":1}}`, "team/one": `{"data":{"a":1}}`} {
		s.do("POST", path+"/data/x", body, root).want(200)
	}

	s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root).want(204)
	got = s.do("GET", "sys/auth/userpass", "", root).want(200)
	got.is("type", "userpass")
	got.in("config").is("token_type", "default-service")
	got.is("options", nil)
	s.do("GET", "sys/auth", "", root).want(200).in("data").fieldsAre("token/", "userpass/")

	for range 2 {
		s.do("DELETE", "sys/mounts/secret", "", root).want(204)
		s.do("DELETE", "sys/auth/userpass", "", root).want(204)
		s.do("GET", "sys/mounts/secret", "", root).want(400, "no secret engine mount")
		s.do("GET", "sys/auth/userpass", "", root).want(400, "no auth method")
	}
	s.do("GET", "secret/data/x", "", root).want(404, "no handler for route")
}

func TestMountsRefuse(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/mounts/secret", `{"type":"kv"}`, root).want(204)
	for _, c := range []struct{ method, path, body, sentence string }{
		{"POST", "sys/mounts/secret", `{"type":"kv"}`, "path is already in use at secret/"},
		{"POST", "sys/mounts/secret/below", `{"type":"kv"}`, "path is already in use at secret/"},
		{"POST", "sys/mounts/a", `{}`, "missing type"},
		{"POST", "sys/mounts/a", `{"type":"canary"}`, "plugin not found in the catalog"},
		{"POST", "sys/mounts/a", `{"type":"userpass"}`, "plugin not found in the catalog"},
		{"POST", "sys/auth/a", `{"type":"kv"}`, "plugin not found in the catalog"},
		{"POST", "sys/mounts/a", `{"type":"cubbyhole"}`, "can't be mounted again"},
		{"POST", "sys/mounts/a", `{"type":"kv","plugin_version":"v1"}`, "no plugins"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":["canary"]}`, "an object"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":{"max_lease_ttl":"canary"}}`, "duration"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":{"default_lease_ttl":"2h","max_lease_ttl":"1h"}}`, "over max_lease_ttl"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":{"default_lease_ttl":"1000d"}}`, "over max_lease_ttl"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":{"listing_visibility":"canary"}}`, "unauth or hidden"},
		{"POST", "sys/mounts/a", `{"type":"kv","config":{"token_type":"service"}}`, "only auth methods"},
		{"POST", "sys/auth/a", `{"type":"userpass","config":{"token_type":"batch"}}`, "default-service or service"},
		{"POST", "sys/mounts/a", `{"type":"kv","options":["canary"]}`, "name=value"},
		{"POST", "sys/mounts/sys", `{"type":"kv"}`, ""},
		{"POST", "sys/mounts/identity", `{"type":"kv"}`, "reserved"},
		{"POST", "sys/mounts/auth", `{"type":"kv"}`, "sys/auth"},
		{"POST", "sys/mounts/a%20b", `{"type":"kv"}`, "the path of a mount"},
		{"POST", "sys/mounts/+", `{"type":"kv"}`, "the path of a mount"},
		{"DELETE", "sys/mounts/cubbyhole", "", "can't be mounted again, moved or disabled"},
		{"DELETE", "sys/auth/token", "", "can't be mounted again, moved or disabled"},
		{"POST", "sys/mounts/cubbyhole/tune", `{"description":"x"}`, "part of the server"},
		{"POST", "sys/mounts/none/tune", `{"description":"x"}`, "no secret engine mount"},
		{"GET", "sys/mounts/auth/none/tune", "", "no auth method"},
		{"GET", "sys/mounts/auth/token", "", "sys/auth"},
		{"POST", "sys/remount", `{"from":"secret"}`, "'to'"},
		{"POST", "sys/remount", `{"from":"none","to":"a"}`, "no secret engine mount"},
		{"POST", "sys/remount", `{"from":"secret","to":"auth/a"}`, "must stay"},
		{"POST", "sys/remount", `{"from":"secret","to":"cubbyhole"}`, "in use"},
		{"POST", "sys/remount", `{"from":"sys","to":"a"}`, "can't be mounted again, moved"},
		{"POST", "sys/remount", `{"from":"secret","to":["canary"]}`, "string"},
	} {
		got := s.do(c.method, c.path, c.body, root).want(400, c.sentence)
		if strings.Contains(got.text, "canary") {
			t.Errorf("the body comes back: %s", got.text)
		}
	}
	s.do("GET", "sys/mounts", "", root).want(200).in("data").fieldsAre("cubbyhole/", "secret/", "sys/")
	s.do("GET", "sys/auth", "", root).want(200).in("data").fieldsAre("token/")
}

func TestTune(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/mounts/secret", `{"type":"kv"}`, root).want(204)
	s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root).want(204)
	got := s.do("GET", "sys/mounts/secret/tune", "", root).want(200)
	for _, at := range []*response{got, got.in("data")} {
		at.is("default_lease_ttl", defaultTTL)
		at.is("max_lease_ttl", defaultTTL)
		at.is("force_no_cache", false)
		at.is("description", "")
		at.is("options", "map[version:1]")
	}
	for _, path := range []string{"sys/auth/userpass/tune", "sys/mounts/auth/userpass/tune"} {
		s.do("POST", path, `{"max_lease_ttl":"3h","default_lease_ttl":"1h","token_type":"service","audit_non_hmac_request_keys":"a,b"}`, root).want(204)
		got = s.do("GET", path, "", root).want(200)
		for name, want := range map[string]any{"max_lease_ttl": 3 * hour, "default_lease_ttl": hour, "token_type": "service", "audit_non_hmac_request_keys": "[a b]"} {
			got.is(name, want)
		}
		s.do("POST", path, `{"default_lease_ttl":"4h"}`, root).want(400, "over max_lease_ttl")
		s.do("POST", path, `{"description":"people","default_lease_ttl":"system","max_lease_ttl":""}`, root).want(204)
		got = s.do("GET", path, "", root).want(200)
		for name, want := range map[string]any{"max_lease_ttl": defaultTTL, "default_lease_ttl": defaultTTL, "token_type": "service", "description": "people"} {
			got.is(name, want)
		}
	}
	// The version is raised while the mount is empty, and then no more.
	s.do("POST", "sys/mounts/secret/tune", `{"options":{"version":"2"}}`, root).want(204)
	s.do("POST", "secret/data/x", `{"data":{"a":1}}`, root).want(200)
	s.do("POST", "sys/mounts/secret/tune", `{"options":{"version":"1"}}`, root).want(400, "copy the secrets")
	s.do("POST", "sys/mounts/secret/tune", `{"options":{"version":"3"}}`, root).want(400, "plugin not found")
	s.do("POST", "sys/mounts/secret/tune", `{"options":{"other":"1"}}`, root).want(204)
	s.do("GET", "sys/mounts/secret", "", root).want(200).is("options", "map[other:1 version:2]")
	s.do("POST", "sys/mounts/secret/tune", `{"options":{"other":""}}`, root).want(204)
	s.do("GET", "sys/mounts/secret", "", root).want(200).is("options", "map[version:2]")
	s.do("DELETE", "sys/mounts/secret/tune", "", root).want(204) // there is no mount of this name
	s.do("GET", "secret/data/x", "", root).want(200)
}

func TestRemount(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/mounts/secret", `{"type":"kv-v2"}`, root).want(204)
	s.do("POST", "sys/auth/userpass", `{"type":"userpass"}`, root).want(204)
	s.do("POST", "secret/data/x", `{"data":{"a":1}}`, root).want(200)
	got := s.do("POST", "sys/remount", `{"from":"secret/","to":"/team/kv"}`, root).want(200)
	id := got.str("migration_id")
	got.in("data").is("migration_id", id)
	data := s.do("GET", "sys/remount/status/"+id, "", root).want(200).in("data")
	data.is("migration_id", id)
	data.in("migration_info").is("status", "success")
	data.in("migration_info").is("target_mount", "team/kv/")
	s.do("GET", "team/kv/data/x", "", root).want(200, `"a":1`)
	s.do("GET", "secret/data/x", "", root).want(404)
	s.do("POST", "sys/remount", `{"from":"auth/userpass","to":"auth/people/"}`, root).want(200)
	s.do("GET", "sys/auth", "", root).want(200).in("data").fieldsAre("people/", "token/")
	s.do("POST", "sys/remount", `{"from":"auth/people","to":"people"}`, root).want(400, "must stay")
	s.do("GET", "sys/remount/status/"+neverNonce, "", root).want(404, "no migration")
}

func TestPreflight(t *testing.T) {
	s := ready(t, 1, 1)
	root := withToken(s.root)
	s.do("POST", "sys/mounts/secret", `{"type":"kv-v2"}`, root).want(204)
	s.do("POST", "sys/mounts/other", `{"type":"kv"}`, root).want(204)
	s.do("POST", "sys/auth/userpass", `{"type":"userpass","config":{"listing_visibility":"unauth"}}`, root).want(204)
	s.withPolicy("app", `path "secret/data/app/*" { capabilities = ["read"] }
path "other/*" { capabilities = ["deny"] }`)
	id, _ := s.newToken(`{"policies":["app"],"num_uses":2}`)
	const path = "sys/internal/ui/mounts"
	for range 3 { // it uses nothing up
		data := s.do("GET", path+"/secret/data/app/x", "", withToken(id)).want(200).in("data")
		data.is("path", "secret/")
		data.is("type", "kv")
		data.is("options", "map[version:2]")
		data.in("config").is("max_lease_ttl", defaultTTL)
	}
	s.do("GET", path+"/secret", "", withToken(id)).want(200)
	for _, at := range []string{"/other/x", "/none/x", "/auth/userpass/login"} {
		s.do("GET", path+at, "", withToken(id)).want(403, "preflight capability check")
	}
	s.do("GET", path+"/none", "", root).want(403, "preflight capability check")
	for _, none := range []string{"", "junk"} {
		s.do("GET", path+"/secret/data/app/x", "", withToken(none)).wantErrors(403, "permission denied")
		data := s.do("GET", path, "", withToken(none)).want(200).in("data")
		data.in("secret").fieldsAre()
		data.in("auth").fieldsAre("userpass/")
		data.in("auth").in("userpass/").fieldsAre("description", "options", "type")
	}
	data := s.do("GET", path, "", withToken(id)).want(200).in("data")
	data.in("secret").fieldsAre("cubbyhole/", "secret/", "sys/")
	data.in("auth").fieldsAre("token/", "userpass/")
	data.in("secret").in("secret/").in("config")
	s.do("GET", path, "", root).want(200).in("data").in("secret").fieldsAre("cubbyhole/", "other/", "secret/", "sys/")
	s.do("GET", "sys/mounts", "", withToken(id)).wantErrors(403, "permission denied")
	s.do("GET", "auth/token/lookup-self", "", withToken(id)).want(200).in("data").is("num_uses", 0)
}
