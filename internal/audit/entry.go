package audit

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/secret"
)

// Entry is all that may be told of a request ("request": before it is carried out) or of a response ("response": before
// it is sent). What is not a field here is not logged. Nothing in it is kept after Write.
type Entry struct {
	Type     string
	Time     time.Time
	Auth     *Auth // nil without a token
	Request  Request
	Response *Response
	Error    string // the sentence of a fault, and never the text of another error
}

// Auth is the token that asks, or the one that a login made.
type Auth struct {
	ClientToken    []byte // HMAC
	Accessor       string // HMAC
	DisplayName    string
	Policies       []string
	TokenPolicies  []string
	PolicyResults  *PolicyResults
	Metadata       map[string]string
	EntityID       string
	TokenType      string
	TokenTTL       time.Duration
	TokenIssueTime time.Time
	RemainingUses  int
}

// PolicyResults says what the policies decided, and which of them granted it.
type PolicyResults struct {
	Allowed  bool
	Granting []string
}

// Request is what was asked.
type Request struct {
	ID                  string
	Operation           string // "read", "create", "update", "patch", "delete", "list"
	ClientID            string
	ClientToken         []byte // HMAC
	ClientTokenAccessor string // HMAC
	Path                string
	Data                []byte          // JSON: all values but true, false and null as HMACs
	Clear               map[string]bool // :: outermost field of Data → its whole value is no secret
	MountType           string
	MountPoint          string
	MountClass          string
	RemoteAddress       string
	RemotePort          int
	Headers             map[string][]string // as net/http has them; only those of shownHeaders are told
	WrapTTL             time.Duration
}

// Response is what was answered.
type Response struct {
	Auth     *Auth           // of a new token
	Data     []byte          // as Request.Data
	Clear    map[string]bool // as Request.Clear
	LeaseID  string
	WrapInfo *WrapInfo
	Warnings []string
}

// WrapInfo is the wrapping token that was given instead of a response.
type WrapInfo struct {
	TTL             time.Duration
	Token           []byte // HMAC
	Accessor        string // HMAC
	CreationTime    time.Time
	CreationPath    string
	WrappedAccessor string // HMAC
}

// shownHeaders are those that help to find a request again and hold no credentials. Others are not told.
var shownHeaders = [...]struct{ key, name string }{
	{"Traceparent", "traceparent"},
	{"User-Agent", "user-agent"},
	{"X-Correlation-Id", "x-correlation-id"},
	{"X-Request-Id", "x-request-id"},
}

// maxHeader is how much of a header is told.
const maxHeader = 256

// line builds the JSON of one entry. Members that are empty are left out, as log shippers expect.
type line struct {
	buf  []byte
	hash *hasher // nil while sealed
	s    *settings
}

// appendLine appends the whole line, with the device's prefix and a newline.
func appendLine(buf []byte, e *Entry, s *settings, salt secret.Bytes) []byte {
	l := &line{buf: append(buf, s.prefix...), s: s}
	if !salt.Empty() {
		l.hash = newHasher(salt)
	}
	l.buf = append(l.buf, '{')
	l.instant("time", e.Time)
	l.text("type", e.Type)
	if e.Auth != nil {
		l.auth(e.Auth)
	} else {
		l.auth(&Auth{TokenType: "default"})
	}
	l.request(&e.Request)
	if e.Response != nil {
		l.response(e.Response, e.Request.Operation == "list" && s.elide)
	}
	l.text("error", e.Error)
	return append(l.buf, "}\n"...)
}

func (l *line) auth(a *Auth) {
	l.open("auth")
	l.hmac("client_token", a.ClientToken)
	l.accessor("accessor", a.Accessor)
	l.text("display_name", a.DisplayName)
	l.texts("policies", a.Policies)
	l.texts("token_policies", a.TokenPolicies)
	if r := a.PolicyResults; r != nil {
		l.open("policy_results")
		l.name("allowed")
		l.buf = strconv.AppendBool(l.buf, r.Allowed)
		if len(r.Granting) > 0 {
			l.name("granting_policies")
			l.buf = append(l.buf, '[')
			for _, p := range r.Granting {
				l.element()
				l.buf = append(l.buf, '{')
				l.text("name", p)
				l.text("namespace_id", "root")
				l.text("type", "acl")
				l.buf = append(l.buf, '}')
			}
			l.buf = append(l.buf, ']')
		}
		l.close()
	}
	l.metadata(a.Metadata)
	l.text("entity_id", a.EntityID)
	l.number("remaining_uses", a.RemainingUses)
	l.seconds("token_ttl", a.TokenTTL)
	l.instant("token_issue_time", a.TokenIssueTime)
	l.text("token_type", a.TokenType)
	l.close()
}

func (l *line) request(r *Request) {
	l.open("request")
	l.text("id", r.ID)
	l.text("client_id", r.ClientID)
	l.text("operation", r.Operation)
	l.text("mount_point", r.MountPoint)
	l.text("mount_type", r.MountType)
	l.text("mount_class", r.MountClass)
	l.hmac("client_token", r.ClientToken)
	l.accessor("client_token_accessor", r.ClientTokenAccessor)
	l.open("namespace")
	l.text("id", "root")
	l.close()
	l.text("path", r.Path)
	l.data(r.Data, r.Clear, false)
	l.text("remote_address", r.RemoteAddress)
	l.number("remote_port", r.RemotePort)
	l.seconds("wrap_ttl", r.WrapTTL)
	l.headers(r.Headers)
	l.close()
}

func (l *line) response(r *Response, elide bool) {
	l.open("response")
	if r.Auth != nil {
		l.auth(r.Auth)
	}
	l.data(r.Data, r.Clear, elide)
	if r.LeaseID != "" {
		l.open("secret")
		l.text("lease_id", r.LeaseID)
		l.close()
	}
	if w := r.WrapInfo; w != nil {
		l.open("wrap_info")
		l.seconds("ttl", w.TTL)
		l.hmac("token", w.Token)
		l.accessor("accessor", w.Accessor)
		l.instant("creation_time", w.CreationTime)
		l.text("creation_path", w.CreationPath)
		l.accessor("wrapped_accessor", w.WrappedAccessor)
		l.close()
	}
	l.texts("warnings", r.Warnings)
	l.close()
}

func (l *line) headers(all map[string][]string) {
	opened := false
	for _, h := range shownHeaders {
		if len(all[h.key]) == 0 {
			continue
		}
		if !opened {
			l.open("headers")
			opened = true
		}
		value := all[h.key][0]
		l.texts(h.name, []string{value[:min(len(value), maxHeader)]})
	}
	if opened {
		l.close()
	}
}

func (l *line) metadata(m map[string]string) {
	if len(m) == 0 {
		return
	}
	l.open("metadata")
	for _, k := range sortedKeys(m) {
		l.name(k)
		l.buf = appendQuoted(l.buf, m[k])
	}
	l.close()
}

func (l *line) data(raw []byte, clear map[string]bool, elide bool) {
	if len(raw) == 0 {
		return
	}
	l.name("data")
	l.buf = appendHashed(l.buf, raw, clear, l.hash, elide)
}

// element separates what follows from what was before it.
func (l *line) element() {
	if c := l.buf[len(l.buf)-1]; c != '{' && c != '[' {
		l.buf = append(l.buf, ',')
	}
}

func (l *line) name(name string) {
	l.element()
	l.buf = append(appendQuoted(l.buf, name), ':')
}

func (l *line) open(name string) {
	l.name(name)
	l.buf = append(l.buf, '{')
}

func (l *line) close() { l.buf = append(l.buf, '}') }

func (l *line) text(name, value string) {
	if value != "" {
		l.name(name)
		l.buf = appendQuoted(l.buf, value)
	}
}

func (l *line) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	l.name(name)
	l.buf = append(l.buf, '[')
	for _, v := range values {
		l.element()
		l.buf = appendQuoted(l.buf, v)
	}
	l.buf = append(l.buf, ']')
}

func (l *line) number(name string, n int) {
	if n != 0 {
		l.name(name)
		l.buf = strconv.AppendInt(l.buf, int64(n), 10)
	}
}

func (l *line) seconds(name string, d time.Duration) { l.number(name, int(d/time.Second)) }

func (l *line) instant(name string, t time.Time) {
	if !t.IsZero() {
		l.name(name)
		l.buf = append(t.UTC().AppendFormat(append(l.buf, '"'), time.RFC3339Nano), '"')
	}
}

func (l *line) hmac(name string, value []byte) {
	if len(value) > 0 {
		l.name(name)
		l.buf = l.hash.appendQuoted(l.buf, value)
	}
}

func (l *line) accessor(name, value string) {
	if l.s.clearAccessor {
		l.text(name, value)
	} else {
		l.hmac(name, []byte(value))
	}
}

// appendQuoted appends s as a string of JSON, whatever is in it.
func appendQuoted(buf []byte, s string) []byte {
	buf = append(buf, '"')
	if !strings.ContainsFunc(s, odd) {
		return append(append(buf, s...), '"')
	}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			buf = append(buf, '\\', byte(r))
		case r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029':
			buf = append(buf, '\\', 'u')
			buf = hex.AppendEncode(buf, []byte{byte(r >> 8), byte(r)})
		default: // what is not valid UTF-8 has become U+FFFD
			buf = utf8.AppendRune(buf, r)
		}
	}
	return append(buf, '"')
}

// odd reports whether r can't just be copied into a string of JSON.
func odd(r rune) bool { return r < ' ' || r == '"' || r == '\\' || r >= 0x7f }
