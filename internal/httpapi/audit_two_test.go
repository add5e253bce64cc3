package httpapi

import (
	"strings"
	"testing"
)

// A mount, or a login, that another server has made is there at the next request, with its body, and is told of as such.
func TestMountsOfAnotherServer(t *testing.T) {
	s, _ := taped(t)
	s.init(1, 1)
	s.unseal(1)
	other, p := taped(t)
	other.store, other.keys, other.root = s.store, s.keys, s.root
	broker := other.node.Audit
	other.serve(s.store)
	other.node.Audit, other.api.Audit = broker, broker
	other.unseal(1)
	root := withToken(s.root)
	for _, c := range []struct{ mount, kind, path, body string }{
		{"sys/mounts/one", `{"type":"kv"}`, "one/a", `{"v":"1"}`},
		{"sys/mounts/two", `{"type":"kv-v2"}`, "two/data/a", `{"data":{"v":"1"}}`},
		{"sys/auth/userpass", `{"type":"userpass"}`, "auth/userpass/users/alice", `{"password":"correct horse"}`},
	} {
		s.do("POST", c.mount, c.kind, root).want(204)
		p.text()
		if got := other.do("POST", c.path, c.body, root); got.code >= 300 {
			t.Errorf("%s: %d %s", c.path, got.code, got.text)
		}
		list := p.entries(t)
		if n := len(list); n < 2 || list[n-1].Error != "" || list[n-2].Type != "request" || len(list[n-2].Request.Data) == 0 || list[n-2].Request.MountPoint == "" {
			t.Errorf("%s: %+v", c.path, list)
		}
		s.do("GET", c.path, "", root).want(200)
	}
	other.do("POST", "auth/userpass/login/alice", `{"password":"correct horse"}`).want(200)
	// A login whose method the other server has moved: nobody has looked since.
	s.do("POST", "sys/remount", `{"from":"auth/userpass","to":"auth/people"}`, root).want(200)
	p.text()
	other.do("POST", "auth/people/login/alice", `{"password":"correct horse"}`).want(200)
	list := p.entries(t)
	if last := list[len(list)-1]; last.Response == nil || last.Response.Auth["client_token"] == nil || last.Request.MountPoint != "auth/people/" || last.Error != "" {
		t.Errorf("the login: %s", last.line)
	}
	s.do("DELETE", "sys/auth/people", "", root).want(204)
	if got := other.do("POST", "auth/people/login/alice", `{"password":"correct horse"}`); got.code != 403 && got.code != 404 {
		t.Errorf("a login through a method that is gone: %d %s", got.code, got.text)
	}
	s.do("POST", "sys/remount", `{"from":"one","to":"three"}`, root).want(200)
	other.do("GET", "one/a", "", root).want(404)
	other.do("GET", "three/a", "", root).want(200)
}

// What somebody without a token sends is not told, only that it was tried: it is refused unseen, and an entry can be many
// times as long as what it tells of. What a token may not do is told.
func TestStrangersDataIsNotAudited(t *testing.T) {
	s, p := taped(t)
	s.init(1, 1)
	s.unseal(1)
	s.mountAll()
	weak, _ := s.newToken(`{"policies":["default"]}`)
	body := `{"name-canary":[` + strings.Repeat("1,", 5000) + `1]}`
	for token, told := range map[string]bool{"": false, "q.junkjunkjunkjunkjunkju": false, weak: true} {
		p.text()
		s.do("POST", "one/a", body, withToken(token)).want(403)
		list := p.entries(t)
		if len(list) != 2 || list[0].Request.Path != "one/a" || list[0].Error != "permission denied" {
			t.Fatalf("%q: %d entries: %.1000s", token, len(list), list[0].line)
		}
		if (list[0].Request.Data != nil) != told {
			t.Errorf("%q: an entry of %d bytes", token, len(list[0].line))
		}
	}
}
