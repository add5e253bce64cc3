// Package wire replays golden wire vectors against a real server: what goes over the wire, byte for byte.
//
// A file in testdata is a txtar archive. Its comment says what it shows, and may hold lines "server: key=value ...":
// shares, threshold, ceremonies, proxy (a trusted network), max_request_size, state=uninitialised|sealed, nodes=1 (see
// harness.Options.OneNode). Then come:
//
//	-- NAME > -- and -- NAME < --      a request and the reply it must get
//	-- NAME >> -- and -- NAME << --    requests sent at the same time, and their replies, in any order; lines "==" between
//	-- NAME ! --                       what happens to the server or in the hands of its people: see deeds
//
// A request is a line "METHOD path", headers, an empty line, the body. A reply is a status code, headers to check, an
// empty line, the body. Every reply must also have the headers of every reply, and errors must hold nothing secret.
//
// "${x}" in a reply captures what stands there between quotes or commas; later, and in requests, it stands for what was
// captured. "${*}" in a reply is anything, "${ab*32}" in a request is ab 32 times. From the start there are "${root}",
// "${share1}" (hex), "${SHARE1}" (the same in upper case), "${share1.base64}", "${share1.unpadded}" and "${forged1}",
// which is share 1 with one bit turned over. The clock stands at noon of 1 August 2026 UTC until a deed moves it.
//
// A name begins with the rows of the reference that its section shows, as in "checklist 3, 3.4 failure #1: start again".
// TestRowsAreCovered holds the list of rows.
package wire

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

func TestWire(t *testing.T) {
	for _, file := range vectorFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			replay(t, a)
		})
	}
}

func vectorFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	return files
}

// halfMarker is a line that a reader takes for a section and txtar doesn't.
var halfMarker = regexp.MustCompile(`(?m)^-- .*[^-]$`)

func replay(t *testing.T, a *txtar.Archive) {
	if len(a.Files) == 0 || halfMarker.Match(txtar.Format(a)) {
		t.Fatal("no sections, or a line that looks like one: they end in \" --\" too")
	}
	p := newPlayer(t, string(a.Comment))
	for i := 0; i < len(a.Files); i++ {
		name, text := a.Files[i].Name, string(a.Files[i].Data)
		if deed, ok := strings.CutSuffix(name, " !"); ok {
			p.deed(t, deed, text)
			continue
		}
		reply := ""
		if i+1 < len(a.Files) {
			reply = string(a.Files[i+1].Data)
		}
		switch next := nameAt(a, i+1); {
		case strings.HasSuffix(name, " >>") && next == strings.TrimSuffix(name, " >>")+" <<":
			p.race(t, strings.TrimSuffix(name, " >>"), text, reply)
		case strings.HasSuffix(name, " >") && next == strings.TrimSuffix(name, " >")+" <":
			p.step(t, strings.TrimSuffix(name, " >"), text, reply)
		default:
			t.Fatalf("section %q is neither a deed nor a request followed by its reply", name)
		}
		i++
	}
}

func nameAt(a *txtar.Archive, i int) string {
	if i < len(a.Files) {
		return a.Files[i].Name
	}
	return ""
}

// TestPlayerFails: a player that takes every reply for the right one would show nothing.
func TestPlayerFails(t *testing.T) {
	p := &player{vars: map[string]string{"nonce": "n-1"}}
	good := reply{code: 200, header: everyHeader(), body: "{\"nonce\":\"n-1\",\"otp\":\"x\",\"progress\":1}\n"}
	want := "200\nContent-Type: application/json\n\n" + `{"nonce":"${nonce}","otp":"${otp}","progress":1}`
	if problem := p.compare(good, want); problem != "" || p.vars["otp"] != "x" {
		t.Fatal("refuses the right reply:", problem)
	}
	for what, bad := range map[string]reply{
		"status":             {code: 400, header: good.header, body: good.body},
		"header":             {code: 200, header: without("Cache-Control"), body: good.body},
		"content type":       {code: 200, header: without("Content-Type"), body: good.body},
		"no newline":         {code: 200, header: good.header, body: strings.TrimSpace(good.body)},
		"another nonce":      {code: 200, header: good.header, body: strings.Replace(good.body, "n-1", "n-2", 1)},
		"what was captured":  {code: 200, header: good.header, body: strings.Replace(good.body, `"x"`, `"y"`, 1)},
		"a field more":       {code: 200, header: good.header, body: strings.Replace(good.body, "}", `,"a":1}`, 1)},
		"another order":      {code: 200, header: good.header, body: `{"otp":"x","nonce":"n-1","progress":1}` + "\n"},
		"progress":           {code: 200, header: good.header, body: strings.Replace(good.body, "1}", "2}", 1)},
		"an empty body":      {code: 200, header: good.header},
		"something after it": {code: 200, header: good.header, body: good.body + "x\n"},
	} {
		if p.compare(bad, want) == "" {
			t.Errorf("does not notice %s", what)
		}
	}
	twice := reply{code: 200, header: good.header, body: "{\"a\":\"1\",\"b\":\"2\"}\n"}
	if p.compare(twice, "200\n\n"+`{"a":"${new}","b":"${new}"}`) == "" {
		t.Error("does not notice that one name captured two things")
	}
	p.vars["otp"] = "the-password-that-nobody-sees"
	leak := reply{code: 400, header: good.header, body: "{\"errors\":[\"not the-password-that-nobody-sees\"]}\n"}
	if p.compare(leak, "400\n\n${*}") == "" {
		t.Error("does not notice a secret in an error")
	}
}
