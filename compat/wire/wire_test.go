// Package wire replays golden wire vectors against a real server: what goes over the wire, byte for byte.
//
// A file in testdata is a txtar archive. Its comment may hold lines of the form "server: key=value ..." (shares,
// threshold, ceremonies, state=uninitialised|sealed). Each pair of sections "NAME >" and "NAME <" is a request and the reply
// it must get. A request is a line "METHOD path", headers, an empty line, the body. A reply is a status code, headers to
// check, an empty line, the body. "${x}" in a reply captures what stands there between quotes or commas; later, and in
// requests, it stands for what was captured. "${root}", "${share1}" (hex) and "${share1.base64}" exist from the start.
package wire

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/quorate/quorate/compat/harness"
)

func TestWire(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			replay(t, a)
		})
	}
}

func replay(t *testing.T, a *txtar.Archive) {
	s := harness.Start(t, options(t, string(a.Comment)))
	p := &player{server: s, vars: map[string]string{"root": s.Root}}
	for i := range s.Shares {
		p.vars[fmt.Sprintf("share%d", i+1)] = s.Hex(i)
		p.vars[fmt.Sprintf("SHARE%d", i+1)] = strings.ToUpper(s.Hex(i))
		p.vars[fmt.Sprintf("share%d.base64", i+1)] = s.Base64(i)
	}
	if len(a.Files)%2 != 0 {
		t.Fatal("a request without a reply, or the other way round")
	}
	for i := 0; i < len(a.Files); i += 2 {
		name, ok := strings.CutSuffix(a.Files[i].Name, " >")
		if !ok || a.Files[i+1].Name != name+" <" {
			t.Fatalf("section %q is not a request followed by its reply", a.Files[i].Name)
		}
		p.step(t, name, string(a.Files[i].Data), string(a.Files[i+1].Data))
	}
}

func options(t *testing.T, comment string) (o harness.Options) {
	for line := range strings.Lines(comment) {
		settings, ok := strings.CutPrefix(line, "server:")
		if !ok {
			continue
		}
		for _, setting := range strings.Fields(settings) {
			key, value, _ := strings.Cut(setting, "=")
			switch key {
			case "shares":
				fmt.Sscan(value, &o.Shares)
			case "threshold":
				fmt.Sscan(value, &o.Threshold)
			case "ceremonies":
				o.Listener.Ceremonies = value
			case "state":
				o.Uninitialised, o.Sealed = value == "uninitialised", value == "sealed"
			default:
				t.Fatalf("unknown server setting %q", key)
			}
		}
	}
	return o
}

type player struct {
	server *harness.Server
	vars   map[string]string
}

var variable = regexp.MustCompile(`\$\{([A-Za-z0-9_.*]+)\}`)

func (p *player) step(t *testing.T, name, request, reply string) {
	t.Helper()
	code, header, body := p.do(t, name, request)
	wantHead, wantBody, _ := strings.Cut(reply, "\n\n")
	lines := strings.Split(strings.TrimSpace(wantHead), "\n")
	if fmt.Sprint(code) != lines[0] {
		t.Fatalf("%s: status %d, want %s; body %s", name, code, lines[0], body)
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ": ")
		if got := header.Get(key); got != value {
			t.Errorf("%s: header %s is %q, want %q", name, key, got, value)
		}
	}
	p.match(t, name, strings.TrimSpace(body), strings.TrimSpace(wantBody))
}

func (p *player) do(t *testing.T, name, request string) (int, http.Header, string) {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("%s: %q is not a request line", name, lines[0])
	}
	req, err := http.NewRequestWithContext(t.Context(), method, p.server.URL+p.fill(t, path), strings.NewReader(p.fill(t, strings.TrimSpace(body))))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ": ")
		if key == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(key, p.fill(t, value))
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return res.StatusCode, res.Header, string(b)
}

func (p *player) fill(t *testing.T, text string) string {
	return variable.ReplaceAllStringFunc(text, func(ref string) string {
		value, ok := p.vars[ref[2:len(ref)-1]]
		if !ok {
			t.Fatalf("%s is not known yet", ref)
		}
		return value
	})
}

// match compares byte for byte but for variables, which it captures.
func (p *player) match(t *testing.T, name, got, want string) {
	t.Helper()
	var pattern strings.Builder
	var captured []string
	rest := want
	for {
		at := variable.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		ref := rest[at[2]:at[3]]
		if value, known := p.vars[ref]; known {
			pattern.WriteString(regexp.QuoteMeta(value))
		} else if ref == "*" {
			pattern.WriteString(`.*`)
		} else {
			pattern.WriteString(`([^",]+)`)
			captured = append(captured, ref)
		}
		rest = rest[at[1]:]
	}
	pattern.WriteString(regexp.QuoteMeta(rest))
	found := regexp.MustCompile(`(?s)^` + pattern.String() + `$`).FindStringSubmatch(got)
	if found == nil {
		t.Errorf("%s: the body is\n%s\nwant\n%s", name, got, want)
		return
	}
	for i, ref := range captured {
		p.vars[ref] = found[i+1]
	}
}
