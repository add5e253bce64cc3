//go:build record

package wire

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
)

var volatileKey = regexp.MustCompile(`"(request_id|client_token|accessor|uuid|secret_id|role_id|secret_id_accessor|token|lease_id|id|migration_id|wrapped_accessor|hash|random_bytes)":"([^",]+)"`)

func TestRecord(t *testing.T) {
	files, _ := filepath.Glob("/tmp/q/vec/" + os.Getenv("VEC") + ".src")
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { record(t, f) })
	}
}

func at(v any, path string) string {
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			var i int
			fmt.Sscan(k, &i)
			if i < len(x) {
				v = x[i]
			} else {
				v = nil
			}
		}
	}
	s, _ := v.(string)
	return s
}

func record(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	var out strings.Builder
	var p *player
	var comment []string
	n := 0
	for i := 0; i < len(lines); {
		line := lines[i]
		if strings.HasPrefix(line, "#") {
			i++
			continue
		}
		if !strings.HasPrefix(line, "> ") && !strings.HasPrefix(line, "! ") {
			if p == nil {
				comment = append(comment, line)
			} else if strings.TrimSpace(line) != "" {
				t.Fatalf("%s:%d: stray %q", file, i+1, line)
			}
			i++
			continue
		}
		if p == nil {
			c := strings.TrimSpace(strings.Join(comment, "\n")) + "\n\n"
			out.WriteString(c)
			p = newPlayer(t, c)
		}
		kind, name := line[:1], strings.TrimSpace(line[2:])
		start := i + 1
		i++
		var part []string
		for i < len(lines) && !strings.HasPrefix(lines[i], "> ") && !strings.HasPrefix(lines[i], "! ") {
			if !strings.HasPrefix(lines[i], "#") && strings.TrimSpace(lines[i]) != "" {
				part = append(part, lines[i])
			}
			i++
		}
		if kind == "!" {
			fmt.Fprintf(&out, "-- %s ! --\n%s\n", name, strings.Join(part, "\n"))
			p.deed(t, name, strings.Join(part, "\n"))
			continue
		}
		who, head, body, want, gist := "root", []string{}, "", "", ""
		caps := [][2]string{}
		loose := false
		for k, l := range part {
			switch {
			case k == 0:
				if rest, ok := strings.CutPrefix(l, "as "); ok {
					who, l, _ = strings.Cut(rest, " ")
				}
				head = append(head, l)
			case strings.HasPrefix(l, "< "):
				want, gist, _ = strings.Cut(l[2:], " ~")
				want, gist = strings.TrimSpace(want), strings.TrimSpace(gist)
			case strings.HasPrefix(l, "@"):
				a, bb, _ := strings.Cut(l[1:], " ")
				caps = append(caps, [2]string{a, strings.TrimSpace(bb)})
			case l == "loose":
				loose = true
			case regexp.MustCompile(`^[A-Za-z-]+: `).MatchString(l):
				head = append(head, l)
			default:
				body += l + "\n"
			}
		}
		if who != "none" {
			head = append(head[:1], append([]string{"X-Vault-Token: ${" + who + "}"}, head[1:]...)...)
		}
		req := strings.Join(head, "\n") + "\n"
		if body != "" {
			req += "\n" + body
		}
		got, err := p.do(t, p.request(t, name, req))
		if err != nil {
			t.Fatal(err)
		}
		p.saw(got)
		if want == "" || !strings.HasPrefix(fmt.Sprint(got.code), want) {
			t.Errorf("%s:%d %s: %d, want %s\n%s\n  %s", filepath.Base(file), start, name, got.code, want, req, got.body)
		}
		if gist != "" && !strings.Contains(got.body, gist) {
			t.Errorf("%s:%d %s: no %q in %s", filepath.Base(file), start, name, gist, got.body)
		}
		n++
		text := strings.TrimSuffix(got.body, "\n")
		var parsed any
		json.Unmarshal([]byte(text), &parsed)
		known := map[string]string{}
		for k, v := range p.vars {
			if len(v) >= 11 {
				known[v] = k
			}
		}
		fresh := map[string]string{}
		for _, c := range caps {
			v := at(parsed, c[1])
			if v == "" {
				t.Errorf("%s:%d nothing at %s in %s", filepath.Base(file), start, c[1], text)
				continue
			}
			known[v] = c[0]
			fresh[c[0]] = v
		}
		m := 0
		holds := func(v string) bool {
			for k := range known {
				if k != v && strings.Contains(v, k) {
					return true
				}
			}
			return false
		}
		for _, x := range volatileKey.FindAllStringSubmatch(text, -1) {
			if known[x[2]] == "" && !holds(x[2]) && len(x[2]) > 10 && !strings.Contains(x[2], "built") && !regexp.MustCompile(`^[0-]+$`).MatchString(x[2]) {
				nm := fmt.Sprintf("%s%d", map[bool]string{true: "id", false: x[1]}[x[1] == "request_id"], n)
				if m++; m > 1 {
					nm += fmt.Sprintf("_%d", m)
				}
				known[x[2]] = nm
				fresh[nm] = x[2]
			}
		}
		var vs []string
		for v := range known {
			vs = append(vs, v)
		}
		sort.Slice(vs, func(a, b int) bool { return len(vs[a]) > len(vs[b]) || len(vs[a]) == len(vs[b]) && vs[a] < vs[b] })
		if got.code < 400 || strings.HasPrefix(text, `{"request_id"`) {
			for _, v := range vs {
				text = strings.ReplaceAll(text, v, "${"+known[v]+"}")
			}
		} else if strings.HasPrefix(text, `{"errors":["`) {
			e := strings.TrimSuffix(strings.TrimPrefix(text, `{"errors":["`), `"]}`)
			if gist != "" {
				pre, post := "${*}", "${*}"
				if strings.HasPrefix(e, gist) {
					pre = ""
				}
				if strings.HasSuffix(e, gist) {
					post = ""
				}
				e = pre + gist + post
			} else if at := strings.IndexAny(e, ":;,("); at > 0 {
				e = strings.TrimSpace(e[:at]) + "${*}"
			}
			text = `{"errors":["` + e + `"]}`
		}
		if loose {
			text = "${*}"
		}
		for k, v := range fresh {
			p.vars[k] = v
		}
		fmt.Fprintf(&out, "-- %s > --\n%s-- %s < --\n%d\n", name, req, name, got.code)
		for _, k := range []string{"Retry-After", "Access-Control-Allow-Origin", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Max-Age"} {
			if v := got.header.Get(k); v != "" {
				fmt.Fprintf(&out, "%s: %s\n", k, v)
			}
		}
		if text != "" {
			fmt.Fprintf(&out, "\n%s\n", text)
		} else {
			out.WriteString("\n")
		}
	}
	dst := strings.TrimSuffix(file, ".src") + ".txtar"
	os.WriteFile(dst, []byte(out.String()), 0o644)
}
