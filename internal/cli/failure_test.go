package cli

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRefusalLayout(t *testing.T) {
	r := newRig(t)
	r.answers["GET secret/a"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "permission denied", "and \x1b[31mmore")
	}
	got := r.fails(exitServer, nil, "read", "secret/a")
	want(t, "stderr", got.err, `error reading:

URL: GET `+r.url+`/v1/secret/a
Code: 403. Errors:

* permission denied
* and `+"\uFFFD"+`[31mmore
hint: no token is set: quorate login keeps one, or set BAO_TOKEN
`)
	want(t, "stdout", got.out, "")
}

func TestSealedHint(t *testing.T) {
	r := newRig(t)
	r.answers["GET secret/a"] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
	}
	r.fails(exitServer, []string{"Code: 503", "hint: unseal it first"}, "read", "secret/a")
}

// A refusal for want of permission says what may be wrong with the token that was sent, or that none was.
func TestPermissionHints(t *testing.T) {
	const dead, none = "hint: the server doesn't know the token: it is mistyped, expired or revoked", "hint: no token is set: quorate login"
	r := newRig(t)
	for _, args := range [][]string{{"read", "secret/a"}, {"token", "lookup"}, {"operator", "seal"}, {"list", "secret"}} {
		r.fails(exitServer, []string{none}, args...)
	}
	t.Setenv("BAO_TOKEN", "q.some")
	for _, args := range [][]string{{"read", "secret/a"}, {"operator", "seal"}, {"list", "secret"}} {
		r.fails(exitServer, []string{dead}, args...)
	}
	r.fails(exitServer, []string{"hint: the token may be expired or revoked, or lack a policy"}, "token", "lookup")
	r.stdin = "q.other"
	r.fails(exitServer, []string{"hint: the server doesn't know this token"}, "login", "-")
	// Where no token counts, and where something else is denied, it is no advice.
	if got := r.run("operator", "init"); strings.Contains(got.err, "hint:") {
		t.Errorf("%s", got.err)
	}
	r.answers["GET secret/a"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "not from there") }
	if got := r.run("read", "secret/a"); strings.Contains(got.err, "hint:") {
		t.Errorf("%s", got.err)
	}
}

func TestUnknownAuthorityHint(t *testing.T) {
	cleanEnvironment(t)
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	r := &rig{t: t, ctx: t.Context()}
	for _, args := range [][]string{{"read", "secret/a"}, {"status"}, {"operator", "unseal", "-"}} {
		r.stdin = canary
		if got := r.run(append(args, "-address="+srv.URL)...); got.code == 0 || !strings.Contains(got.err, "hint: to trust the authority that signed the server's certificate: -ca-cert=FILE or BAO_CACERT\n") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// Nothing found is exit code 2 and nothing on standard output, in json too: scripts tell it from an empty answer.
func TestNothingFound(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/none", 404, `{"errors":[]}`)
	r.on("GET secret", 404, `{"errors":[]}`)
	for _, verb := range [][]string{{"read", "secret/none"}, {"list", "secret"}} {
		for _, format := range []string{"table", "json", "yaml"} {
			got := r.fails(exitServer, []string{"error: no value found at " + verb[1] + "\n"}, verb[0], "-format="+format, verb[1])
			want(t, "stdout", got.out, "")
		}
	}
}

// What isn't our JSON comes from something in between, and may be long.
func TestForeignError(t *testing.T) {
	r := newRig(t)
	r.answers["GET secret/a"] = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "<html>", strings.Repeat("é", 1<<16))
	}
	got := r.fails(exitServer, []string{"Code: 502. Raw Message:", "* <html>"}, "read", "secret/a")
	if len(got.err) > 3000 {
		t.Errorf("%d bytes of error", len(got.err))
	}
}

func TestEmptyErrors(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/a", http.StatusMethodNotAllowed, `{"errors":[]}`)
	got := r.fails(exitServer, []string{"Code: 405. Errors:"}, "read", "secret/a")
	if strings.Contains(got.err, "* ") {
		t.Errorf("%s", got.err)
	}
}

func TestNotJSON(t *testing.T) {
	r := newRig(t)
	for _, text := range []string{"<html>", "", "{}", "[]", "null"} {
		r.on("GET sys/generate-root/attempt", 200, text)
		r.fails(exitServer, []string{"unexpected answer: is this a Quorate or Vault server?"}, "operator", "generate-root", "-status")
	}
}

func TestFailure(t *testing.T) {
	inner := errors.New("inner")
	for _, c := range []struct {
		err  error
		want string
	}{
		{asking("acting", inner), "acting: inner"},
		{localf("wrong %w", inner), "wrong inner"},
		{asking("acting", localf("wrong %w", inner)), "wrong inner"}, // what is local stays local
	} {
		if c.err.Error() != c.want || !errors.Is(c.err, inner) {
			t.Errorf("%q, want %q", c.err.Error(), c.want)
		}
	}
	if asking("acting", nil) != nil {
		t.Error("nil became an error")
	}
	want(t, "silent", silent(2).Error(), "exit code 2")
}
