package promises

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/cli"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// Promise 5: holders know what they approve. What an attempt will do, for whom and why has one digest; every approval by
// signature is bound to it. Wire clients that send a share are bound by the nonce.
func TestPromise5(t *testing.T) {
	share := secret.Copy(append(bytes.Repeat([]byte{5}, 32), 1))
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	base := ceremony.Params{
		Nonce: "n", Kind: ceremony.RootToken, ClusterID: "c", Generation: 1, Threshold: 2, Holders: 3, Recipient: "ada", Reason: "because",
		Initiator: ceremony.Initiator{By: ceremony.ByToken, Token: "t", Slot: 1}, Parameters: []ceremony.Parameter{{Name: "root_token_ttl", Value: "60"}}, Limits: ceremony.DefaultLimits(), Now: now,
	}
	key := holder.Derive(share, base.ClusterID, base.Generation)
	verifier := func(int) (holder.Verifier, bool) { return key.Verifier(), true }
	signature := key.Sign(ceremony.New(base).Statement(1, holder.ModeSignature))
	approve := func(p ceremony.Params, slot int, mode holder.Mode) error {
		_, err := ceremony.New(p).Approve(ceremony.Approval{Slot: slot, Mode: mode, Signature: signature}, verifier, now)
		return err
	}
	if err := approve(base, 1, holder.ModeSignature); err != nil {
		t.Fatalf("the attempt that was signed: %v", err)
	}
	if approve(base, 2, holder.ModeSignature) == nil || approve(base, 1, holder.ModeShare) == nil {
		t.Error("one holder's signature counts for another, or for a share")
	}
	changed := 0
	eachChange(reflect.ValueOf(&base).Elem(), "", func(field string) {
		changed++
		if err := approve(base, 1, holder.ModeSignature); err == nil {
			t.Errorf("the signature is good for an attempt with another %s", field)
		}
	})
	if changed < 12 {
		t.Errorf("only %d fields were changed", changed)
	}

	// By share: the same attempt with another recipient is another nonce.
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	st := a.want(200, "PUT", attempt, fields{"otp": "the-otp-of-who-began-it!"})
	before := st["nonce"].(string)
	a.approve(0, before)
	a.want(204, "DELETE", attempt, nil)
	after, _ := a.start()
	code, _, text := a.ask("PUT", update, fields{"key": s.Hex(1), "nonce": before})
	if code != 400 || strings.Contains(text, after) {
		t.Errorf("a share for the attempt that is no more: %d %s", code, text)
	}
	a.unchanged(after, 0)
}

// eachChange changes one field after the other, calls fn, and puts the field back.
func eachChange(v reflect.Value, name string, fn func(field string)) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		old := v.Interface().(time.Time)
		v.Set(reflect.ValueOf(old.Add(time.Second)))
		fn(name)
		v.Set(reflect.ValueOf(old))
		return
	}
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			eachChange(v.Field(i), name+"."+v.Type().Field(i).Name, fn)
		}
		return
	}
	old := reflect.ValueOf(v.Interface())
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + int64(time.Millisecond))
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Slice: // one more, and each of those there are changed
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		fn(name)
		v.Set(old)
		for i := range v.Len() {
			eachChange(v.Index(i), fmt.Sprintf("%s[%d]", name, i), fn)
		}
		return
	default:
		panic("a field of a new kind: " + name)
	}
	fn(name)
	v.Set(old)
}

// Promise 5, on the wire and of all kinds: a signature over anything but what the server will do is refused, and the one
// over what it shows is not.
func TestPromise5EveryKind(t *testing.T) {
	for kind, body := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			a := operator(t, s)
			c := a.begin(merge(body, fields{"reason": "because"}))
			a1 := c.attempt()
			if a1.Digest != c.Digest {
				t.Fatalf("what is shown makes the digest %x, and the server says %x", a1.Digest, c.Digest)
			}
			if words := a1.Digest.Words(); len(words) != 8 {
				t.Errorf("the words are %q", words)
			}
			p := seatsOf(s.Shares, c.ClusterID, c.Generation)[0]
			lie := *a1
			changed := 0
			for i := range reflect.TypeFor[ceremony.Attempt]().NumField() {
				name := reflect.TypeFor[ceremony.Attempt]().Field(i).Name
				switch name {
				case "Digest", "Approvals", "Objections", "Outcome":
					continue // not what is approved
				}
				eachChange(reflect.ValueOf(&lie).Elem().Field(i), "."+name, func(field string) {
					if field == ".Limits.Total" {
						return // it is Expires less Started
					}
					changed++
					lie.Digest = lie.ComputeDigest()
					if code, _, text := a.ask("POST", ceremonies+"/"+c.Nonce+"/approve", p.approves(&lie)); code != 400 {
						t.Errorf("a signature for another %s: %d %s", field, code, text)
					}
				})
			}
			if changed < 16 {
				t.Errorf("only %d fields were changed", changed)
			}
			a.stands(c)
			a.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", p.approves(a1))
		})
	}
}

// liar stands between the command line and the server, and changes what the server says of ceremonies.
type liar struct {
	url string

	mu   sync.Mutex
	lie  func(c map[string]any, n int) // n counts the ceremonies that were shown
	n    int
	sent bytes.Buffer // all that went to the server
}

func newLiar(t *testing.T, s *harness.Server) *liar {
	to, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(res *http.Response) error {
		if !strings.Contains(res.Request.URL.Path, "/"+ceremonies) || res.StatusCode != 200 {
			return nil
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		var reply map[string]any
		if err := json.Unmarshal(b, &reply); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if data, _ := reply["data"].(map[string]any); data["nonce"] != nil && l.lie != nil {
			l.n++
			l.lie(data, l.n)
		}
		b, err = json.Marshal(reply)
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		res.Header.Set("Content-Length", fmt.Sprint(len(b)))
		return err
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		l.mu.Lock()
		fmt.Fprintf(&l.sent, "%s %s %s\n", r.Method, r.URL, b)
		l.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(b))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	return l
}

// consistent makes the digest fit what is said.
func consistent(c map[string]any) {
	b, _ := json.Marshal(c)
	var s shown
	if json.Unmarshal(b, &s) == nil {
		text, _ := s.attempt().Digest.MarshalText()
		c["digest"] = string(text)
	}
}

// Promise 5: somebody who holds the line between the holder's command line and the server, and says what he likes, gets
// no signature that does what the holder didn't mean, and never the share.
func TestPromise5LyingProxy(t *testing.T) {
	t.Setenv("QUORATE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	_, recipients := identities(t, 2)
	c := a.begin(fields{"kind": "root-token", "age_recipients": recipients[0], "reason": "because", "root_token_ttl": "1h"})
	meant := strings.Join(c.attempt().Digest.Words(), " ")
	type lie = func(map[string]any, int)
	lies := map[string]lie{
		"the reason": func(c map[string]any, _ int) { c["reason"] = "a drill, nothing more" },
		"the key":    func(c map[string]any, _ int) { c["recipient_key"] = recipients[1] },
		"the kind":   func(c map[string]any, _ int) { c["kind"] = "drill" },
		"the lifetime": func(c map[string]any, _ int) {
			c["parameters"] = []any{map[string]any{"name": "root_token_ttl", "value": "60"}}
		},
		"no lifetime":       func(c map[string]any, _ int) { c["parameters"] = []any{} },
		"the initiator":     func(c map[string]any, _ int) { c["initiator"] = map[string]any{"by": "holder", "slot": 2} },
		"the expiry":        func(c map[string]any, _ int) { c["expires"] = "2099-01-01T00:00:00.000Z" },
		"the threshold":     func(c map[string]any, _ int) { c["threshold"] = 2.0 },
		"the generation":    func(c map[string]any, _ int) { c["generation"] = 2.0 },
		"the cluster":       func(c map[string]any, _ int) { c["cluster_id"] = "c4f6ba2e-0000-4000-8000-000000000000" },
		"the digest":        func(c map[string]any, _ int) { c["digest"] = strings.Repeat("0", 64) },
		"no digest":         func(c map[string]any, _ int) { delete(c, "digest") },
		"the second time":   func(c map[string]any, n int) { c["reason"] = fmt.Sprint("because", n) },
		"words of its own":  func(c map[string]any, _ int) { c["words"], c["reason"] = strings.Fields(meant), "a drill" },
		"another recipient": func(c map[string]any, _ int) { c["recipient"] = "age:" + strings.Repeat("0", 64) },
	}
	for name, l := range lies {
		for _, fits := range []bool{false, true} { // the digest, to the lie
			if fits && strings.Contains(name, "digest") {
				continue
			}
			proxy := newLiar(t, s)
			believed := c.attempt()
			proxy.lie = func(c map[string]any, n int) {
				l(c, n)
				if fits {
					consistent(c)
				}
			}
			// What the holder compares the words with: what was meant, or, in the worst case, what is shown.
			saw := a.seen(proxy, c.Nonce)
			for _, words := range []string{meant, strings.Join(saw.Digest.Words(), " ")} {
				proxy.n = 0
				code, out := runCLI(s.Hex(0), "ceremony", "approve", "-address="+proxy.url, "-words="+words, c.Nonce, "-")
				if code == 0 && a.look(c.Nonce).Progress > 0 {
					t.Fatalf("%s (digest made to fit: %t), believed: the approval counted\n%s", name, fits, out)
				}
				if code == 0 {
					t.Errorf("%s: the command line says that all is well\n%s", name, out)
				}
			}
			for _, form := range []string{s.Hex(0), s.Base64(0)} {
				if strings.Contains(proxy.sent.String(), form) {
					t.Fatalf("%s: the share was sent", name)
				}
			}
			if believed.Digest == saw.Digest && fits && name != "the key" && name != "words of its own" && name != "the second time" {
				t.Errorf("%s: this was no lie", name)
			}
		}
	}
	a.stands(c)
	honest := newLiar(t, s)
	if code, out := runCLI(s.Hex(0), "ceremony", "approve", "-address="+honest.url, "-words="+meant, c.Nonce, "-"); code != 0 {
		t.Fatalf("without a lie: %d\n%s", code, out)
	}
	if now := a.look(c.Nonce); now.Progress != 1 || strings.Contains(honest.sent.String(), s.Hex(0)) || !strings.Contains(honest.sent.String(), `"signature":`) {
		t.Errorf("an approval by signature: %+v", now)
	}
}

// seen is the ceremony as it is shown through a proxy.
func (a asker) seen(l *liar, nonce string) *ceremony.Attempt {
	a.t.Helper()
	res, err := http.Get(l.url + "/v1/" + ceremonies + "/" + nonce)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	var reply fields
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil {
		a.t.Fatal(err)
	}
	return asShown(a.t, reply).attempt()
}

// runCLI is the product's command line, with a share on its standard input.
func runCLI(stdin string, args ...string) (code int, out string) {
	var b bytes.Buffer
	code = cli.Main(args, strings.NewReader(stdin+"\n"), &b, &b)
	return code, b.String()
}
