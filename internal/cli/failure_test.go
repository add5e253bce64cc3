package cli

import (
	"errors"
	"fmt"
	"net/http"
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
	r.on("GET sys/generate-root/attempt", 200, "<html>")
	r.fails(exitServer, []string{"not the JSON expected"}, "operator", "generate-root", "-status")
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
