package cli

import (
	"net/http"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	r := newRig(t)
	r.on("GET secret/a", 200, `{"data":{"x":"1"}}`)
	want(t, "table", r.ok("read", "/secret/a").out, "Key    Value\n---    -----\nx      1\n")
	r.ok("read", "secret/a", "version=2", "version=3", "q=a b")
	want(t, "query", r.last().query, "q=a+b&version=2&version=3")
	// Endpoints without the envelope are shown the same way.
	r.on("GET sys/seal-status", 200, sealedStatus)
	want(t, "raw", r.ok("read", "-field=progress", "sys/seal-status").out, "1")
	r.on("GET secret/none", 404, `{"errors":[]}`)
	got := r.fails(exitServer, []string{"error: no value found at secret/none"}, "read", "-format=json", "secret/none")
	want(t, "stdout", got.out, "")
	r.fails(exitLocal, []string{"no such field"}, "read", "-field=y", "secret/a")
	r.fails(exitServer, []string{"Code: 403"}, "read", "secret/b")
}

func TestWrite(t *testing.T) {
	r := newRig(t)
	r.on("PUT secret/a", 204, nil)
	file := write(t, "value", "from file\n")
	object := write(t, "object", `{"big":12345678901234567890,"list":[1]}`)
	for _, c := range []struct {
		name, stdin string
		args        []string
		body        string
	}{
		{"pairs", "", []string{"x=1", "y=a=b", "z="}, `{"x":"1","y":"a=b","z":""}`},
		{"the same key again", "", []string{"x=1", "x=2", "x=3"}, `{"x":["1","2","3"]}`},
		{"a file", "", []string{"x=@" + file}, `{"x":"from file\n"}`},
		{"a literal @", "", []string{`x=\@home`}, `{"x":"@home"}`},
		{"stdin as a value", "typed\n", []string{"x=-"}, `{"x":"typed\n"}`},
		{"a value named key elsewhere", "typed\n", []string{"key=-"}, `{"key":"typed\n"}`},
		{"stdin as JSON", `{"n":1,"s":"t"}`, []string{"-"}, `{"n":1,"s":"t"}`},
		{"a file as JSON", "", []string{"@" + object}, `{"big":12345678901234567890,"list":[1]}`},
		{"nothing", "", []string{"-f"}, `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.stdin = c.stdin
			got := r.ok(append([]string{"write", "secret/a"}, c.args...)...)
			want(t, "body", r.last().body, c.body)
			if got.out != "" || got.err != "written\n" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The end of a line in a pipe or a file is not part of a password, which nobody could type then.
func TestWritePassword(t *testing.T) {
	r := newRig(t)
	r.on("PUT auth/userpass/users/ann", 204, nil)
	r.on("PUT secret/a", 204, nil)
	r.stdin = " hunter2 \r\n"
	r.ok("write", "auth/userpass/users/ann", "password=-")
	wantBody(t, r.last(), `{"password":" hunter2 "}`)
	r.ok("write", "secret/a", "password=-")
	wantBody(t, r.last(), `{"password":" hunter2 \r\n"}`)
	if got := r.ok("write", "auth/userpass/users/ann", "password=hunter2"); !strings.Contains(got.err, "warning: a secret on the command line") {
		t.Errorf("%s", got.err)
	}
	if got := r.ok("write", "auth/userpass/users/ann", "token_ttl=1h"); strings.Contains(got.err, "warning") {
		t.Errorf("%s", got.err)
	}
}

// What names the wrong kind of mount is answered with a warning, and is a failure.
func TestWarnedFailures(t *testing.T) {
	r := newRig(t)
	const answer = `{"data":null,"warnings":["this is a versioned mount"]}`
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		r.on(method+" secret/a", 404, answer)
	}
	r.fails(exitServer, []string{"warning: this is a versioned mount\n", "no value found at secret/a"}, "read", "secret/a")
	r.fails(exitServer, []string{"warning: this is a versioned mount\n", "error writing:"}, "write", "secret/a", "x=y")
	r.fails(exitServer, []string{"warning: this is a versioned mount\n", "no value found at secret/a"}, "list", "secret/a")
}

func TestWriteRefusals(t *testing.T) {
	r := newRig(t)
	r.stdin = canary
	for _, args := range [][]string{{"-"}, {"@/nonexistent"}, {"x=@/nonexistent"}, {"=x"}, {"x"}, {"x=1", "-nope"}} {
		got := r.run(append([]string{"write", "secret/a"}, args...)...)
		if got.code != exitLocal {
			t.Errorf("%v: exit %d", args, got.code)
		}
		hides(t, got.out, got.err) // T53: what can't be parsed is not shown
	}
	for _, text := range []string{`[1]`, `{"a":`, ``, `"x"`} {
		r.stdin = text
		r.fails(exitLocal, []string{"must be one JSON object"}, "write", "secret/a", "-")
	}
	if len(r.seen) > 0 {
		t.Errorf("sent %v", r.seen)
	}
}

func TestWriteAnswer(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/decode-token", 200, `{"data":{"token":"q.t"}}`)
	want(t, "field", r.ok("write", "-field=token", "sys/decode-token", "encoded_token=x", "otp=y").out, "q.t")
	r.answers["PUT sys/decode-token"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "no") }
	r.fails(exitServer, []string{"error writing:", "* no"}, "write", "sys/decode-token", "x=y")
}

// A share may come through a pipe, in a file or as a whole body, and loses its end of line on the way.
func TestWriteShare(t *testing.T) {
	r := newRig(t)
	r.on("PUT sys/unseal", 200, sealedStatus)
	r.stdin = canary + "\n"
	if got := r.ok("write", "sys/unseal", "key=-"); !strings.Contains(got.out, "progress         1\n") {
		t.Errorf("%s", got.out)
	}
	want(t, "stdin", r.last().body, `{"key":"`+canary+`"}`)
	r.ok("write", "sys/unseal", "key=@"+write(t, "share", canary+"\r\n"))
	want(t, "file", r.last().body, `{"key":"`+canary+`"}`)
	r.stdin = `{"key":"` + canary + `"}`
	r.ok("write", "sys/unseal", "-")
	want(t, "body", r.last().body, r.stdin)
	r.ok("write", "sys/unseal", "reset=true") // no share, no refusal
}

func TestListAndDelete(t *testing.T) {
	r := newRig(t)
	r.on("GET secret", 200, `{"data":{"keys":["a","b/"]}}`)
	want(t, "list", r.ok("list", "secret").out, "Keys\n----\na\nb/\n")
	want(t, "query", r.last().query, "list=true")
	want(t, "json", r.ok("list", "-format=json", "secret").out, "[\n  \"a\",\n  \"b/\"\n]\n")
	r.on("GET none", 404, `{"errors":[]}`)
	r.fails(exitServer, []string{"no value found at none"}, "list", "none")
	r.on("GET odd", 200, `{"data":{"names":["a"]}}`)
	r.fails(exitServer, []string{"no value found at odd"}, "list", "odd")

	r.on("DELETE secret/a", 204, nil)
	if got := r.ok("delete", "secret/a", "versions=1"); got.out != "" || got.err != "deleted, if it existed\n" {
		t.Errorf("%+v", got)
	}
	want(t, "query", r.last().query, "versions=1")
	r.fails(exitServer, []string{"error deleting:"}, "delete", "secret/b")
}
