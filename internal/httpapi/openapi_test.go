package httpapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/ceremony"
)

// The document says what the table says: every path, every operation, who may, and what a body holds.
func TestOpenAPI(t *testing.T) {
	s := ready(t, 1, 1)
	for _, token := range []string{"", "junk"} {
		s.do("GET", "sys/internal/specs/openapi", "", withToken(token)).want(403)
	}
	doc := s.do("GET", "sys/internal/specs/openapi", "", withToken(s.root)).want(200)
	doc.is("openapi", "3.0.2")
	paths := doc.in("paths")
	ids := map[string]bool{}
	for _, r := range allRoutes() {
		item := paths.in("/" + strings.ReplaceAll(r.path, "...}", "}"))
		for op, method := range map[operation]string{opRead: "get", opUpdate: "post", opDelete: "delete"} {
			_, there := item.body[method]
			listed := op == opRead && r.ops[opList] != nil
			if there != (r.ops[op] != nil || listed) {
				t.Errorf("%s: %s is there: %v", r.path, method, there)
			}
			if !there {
				continue
			}
			o := item.in(method)
			if o.str("summary") == "" || ids[o.str("operationId")] {
				t.Errorf("%s: summary %q, id %q", r.path, o.str("summary"), o.str("operationId"))
			}
			ids[o.str("operationId")] = true
			o.in("responses").in("200")
			if got := strings.Contains(o.text, `"security":[{"token":[]}]`); got != (r.authority == byToken) {
				t.Errorf("%s: a token is needed: %v", r.path, got)
			}
		}
		if names := item.body["parameters"]; (names != nil) != strings.Contains(r.path, "{") {
			t.Errorf("%s: parameters %v", r.path, names)
		}
	}
	mounted := len(s.node.Locate("cubbyhole/x").Kind.Routes)
	if got := len(paths.body); got != len(allRoutes())+mounted {
		t.Errorf("%d paths, want %d and those of one mount, %d", got, len(allRoutes()), mounted)
	}
	body := bodyOf(paths, "sys/ceremonies", "post")
	for name, kind := range map[string]string{
		"kind": "string", "key": "string", "slot": "integer", "signature": "string", "signed_at": "string", "secret_shares": "integer",
		"holders": "array", "rotate": "boolean", "root_token_ttl": "string",
	} {
		if got := body.in(name).str("type"); got != kind {
			t.Errorf("%s is %s, want %s", name, got, kind)
		}
	}
	// What a handler reads is in the document.
	const lines = `{"oneOf":[{"type":"string"},{"items":{"type":"string"},"type":"array"}]}`
	const list = `{"items":{"type":"string"},"type":"array"}`
	for _, c := range [][4]string{
		{"sys/ceremonies", "post", "age_recipients", lines},
		{"sys/generate-root/attempt", "post", "age_recipients", lines},
		{"sys/generate-root-token/attempt", "post", "age_recipients", lines},
		{"sys/init", "post", "root_token_age_recipients", lines},
		{"sys/init", "post", "age_recipients", list},
		{"sys/rekey/init", "post", "age_recipients", list},
		{"sys/rekey/init", "delete", "nonce", `{"type":"string"}`},
		{"sys/rotate/root/init", "delete", "nonce", `{"type":"string"}`},
		{"sys/rekey/init", "delete", "signature", `{"type":"string"}`},
		{"sys/ceremonies/{nonce}/result", "delete", "signed_at", `{"format":"date-time","type":"string"}`},
		{"sys/ceremonies/{nonce}/result", "delete", "slot", `{"type":"integer"}`},
	} {
		if body := bodyOf(paths, c[0], c[1]); !strings.Contains(body.text, `"`+c[2]+`":`+c[3]) {
			t.Errorf("%s %s: %s, want %s to be %s", c[1], c[0], body.text, c[2], c[3])
		}
	}
	for _, c := range [][3]string{
		{"sys/ceremonies/{nonce}", "delete", "signed_at"},
		{"sys/ceremonies/{nonce}", "delete", "nonce"},
		{"sys/rekey/verify", "delete", "nonce"},
		{"sys/rekey/init", "delete", "holders"},
	} {
		if body := bodyOf(paths, c[0], c[1]); body.body[c[2]] != nil {
			t.Errorf("%s %s has %s", c[1], c[0], c[2])
		}
	}
}

// bodyOf are the fields of a request's body.
func bodyOf(paths *response, path, method string) *response {
	return paths.in("/" + path).in(method).in("requestBody").in("content").in("application/json").in("schema").in("properties")
}

// startFields and the table of fields by kind name what startRequest reads.
func TestOwnFields(t *testing.T) {
	all := ownFields("")
	for _, kind := range []string{"root-token", "rekey", "rotate-root", "holders", "drill"} {
		for _, f := range ownFields(ceremony.Kind(kind)) {
			if !slices.Contains(all, f) {
				t.Errorf("%s: %s is in no list of all", kind, f)
			}
		}
	}
}
