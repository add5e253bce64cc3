package wire

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/store/anystore"
)

// player sends requests to one server and remembers what its people would.
type player struct {
	server  *harness.Server
	options harness.Options
	clock   *clock
	vars    map[string]string          // :: name → what it stands for
	keys    map[string]*openpgp.Entity // :: name → key pair made by a deed
	seen    strings.Builder            // every reply, and the logs of servers that were stopped
	trail   *trail                     // what audit devices wrote
}

// clock stands still unless it is moved: replies are then the same in every run.
type clock struct{ seconds atomic.Int64 }

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time { return noon.Add(time.Duration(c.seconds.Load()) * time.Second) }

func newPlayer(t *testing.T, comment string) *player {
	p := &player{clock: &clock{}, vars: map[string]string{}, keys: map[string]*openpgp.Entity{}, trail: &trail{}}
	p.options = options(t, comment)
	p.options.Now, p.options.Store = p.clock.now, anystore.New(t)
	p.options.Audit = p.brokers(t)
	p.server = harness.Start(t, p.options)
	if !p.options.Uninitialised {
		p.vars["root"] = p.server.Root
	}
	for i, share := range p.server.Shares {
		name := fmt.Sprintf("share%d", i+1)
		p.vars[name] = p.server.Hex(i)
		p.vars[strings.ToUpper(name)] = strings.ToUpper(p.server.Hex(i))
		p.vars[name+".base64"] = p.server.Base64(i)
		p.vars[name+".unpadded"] = strings.TrimRight(p.server.Base64(i), "=")
		forged := slices.Clone(share)
		forged[0] ^= 1
		p.vars[fmt.Sprintf("forged%d", i+1)] = fmt.Sprintf("%x", forged)
	}
	return p
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
				o.Shares = number(t, value)
			case "threshold":
				o.Threshold = number(t, value)
			case "max_request_size":
				o.Listener.MaxRequestSize = int64(number(t, value))
			case "ceremonies":
				o.Listener.Ceremonies = value
			case "proxy":
				o.Listener.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(value)}
			case "nodes":
				o.OneNode = value == "1"
			case "state":
				o.Uninitialised, o.Sealed = value == "uninitialised", value == "sealed"
			default:
				t.Fatalf("unknown server setting %q", key)
			}
		}
	}
	return o
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reply is what came back.
type reply struct {
	code   int
	header http.Header
	body   string
}

func (p *player) step(t *testing.T, name, request, want string) {
	t.Helper()
	got, err := p.do(t, p.request(t, name, request))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	p.saw(got)
	if problem := p.compare(got, want); problem != "" {
		t.Fatalf("%s: %s", name, problem)
	}
}

// race sends requests at the same time; the replies may come to any of them.
func (p *player) race(t *testing.T, name, requests, wants string) {
	t.Helper()
	texts := strings.Split(requests, "==\n")
	replies := make([]reply, len(texts))
	errs := make([]error, len(texts))
	start := make(chan struct{})
	var racers sync.WaitGroup
	for i, text := range texts {
		req := p.request(t, name, text)
		racers.Go(func() {
			<-start
			replies[i], errs[i] = p.do(t, req)
		})
	}
	close(start)
	racers.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p.saw(replies[i])
	}
	for _, want := range strings.Split(wants, "==\n") {
		at := slices.IndexFunc(replies, func(r reply) bool { return p.compare(r, want) == "" })
		if at < 0 {
			t.Fatalf("%s: no reply is\n%s\nof those left\n%+v", name, want, replies)
		}
		replies = slices.Delete(replies, at, at+1)
	}
	if len(replies) > 0 {
		t.Fatalf("%s: replies too many: %+v", name, replies)
	}
}

func (p *player) request(t *testing.T, name, text string) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("%s: %q is not a request line", name, lines[0])
	}
	body = p.fill(t, strings.TrimSpace(body))
	req, err := http.NewRequestWithContext(t.Context(), method, p.server.URL+p.fill(t, path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ":")
		value = p.fill(t, strings.TrimSpace(value))
		if key == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(key, value)
	}
	return req
}

func (p *player) do(t *testing.T, req *http.Request) (reply, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(b)}, err
}

func (p *player) saw(r reply) { fmt.Fprintln(&p.seen, r.header, r.body) }

var (
	variable = regexp.MustCompile(`\$\{([A-Za-z0-9_.*-]+)\}`)
	repeat   = regexp.MustCompile(`^(.+)\*([0-9]+)$`)
)

func (p *player) fill(t *testing.T, text string) string {
	t.Helper()
	return variable.ReplaceAllStringFunc(text, func(ref string) string {
		ref = ref[2 : len(ref)-1]
		if m := repeat.FindStringSubmatch(ref); m != nil {
			return strings.Repeat(m[1], number(t, m[2]))
		}
		value, ok := p.vars[ref]
		if !ok {
			t.Fatalf("%s is not known yet", ref)
		}
		return value
	})
}

// everyHeader is what every reply has, wire reference 1.3.
func everyHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "Cache-Control": {"no-store"},
		"Strict-Transport-Security": {"max-age=31536000; includeSubDomains"},
	}
}

func without(name string) http.Header {
	h := everyHeader()
	h.Del(name)
	return h
}

// compare says what is wrong with a reply, or "" and then remembers what it captured.
func (p *player) compare(got reply, want string) string {
	head, body, _ := strings.Cut(want, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	if fmt.Sprint(got.code) != lines[0] {
		return fmt.Sprintf("status %d, want %s; the body is %s", got.code, lines[0], got.body)
	}
	header := everyHeader()
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, ": ")
		header.Set(key, value)
	}
	for key, values := range header {
		if !slices.Equal(got.header.Values(key), values) {
			return fmt.Sprintf("header %s is %q, want %q", key, got.header.Values(key), values)
		}
	}
	if got.code >= 400 {
		for name, value := range p.vars {
			if len(value) >= 16 && strings.Contains(got.body, value) {
				return fmt.Sprintf("the error holds ${%s}: %s", name, got.body)
			}
		}
	}
	if got.body != "" && !strings.HasSuffix(got.body, "\n") {
		return "the body does not end with a newline: " + got.body
	}
	return p.match(strings.TrimSuffix(got.body, "\n"), strings.TrimSpace(body))
}

// match compares byte for byte but for variables.
func (p *player) match(got, want string) string {
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
		return fmt.Sprintf("the body is\n%s\nwant\n%s", got, want)
	}
	values := map[string]string{} // :: name → what it captured
	for i, ref := range captured {
		if before, twice := values[ref]; twice && before != found[i+1] {
			return fmt.Sprintf("${%s} is both %q and %q", ref, before, found[i+1])
		}
		values[ref] = found[i+1]
	}
	maps.Copy(p.vars, values)
	return ""
}
