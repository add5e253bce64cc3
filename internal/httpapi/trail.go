package httpapi

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

var (
	// errUnaudited answers a request that no audit device took: nothing was done.
	errUnaudited = errors.New("no audit device took the entry of a request, so nothing was done")
	// errUntold answers one that was carried out, and whose reply no audit device took.
	errUntold = errors.New("no audit device took the entry of a reply: the request was carried out")
)

// trail is what audit devices were told of one exchange.
type trail struct {
	asked   bool // of the request; what follows is due once it has been answered
	auth    *audit.Auth
	request audit.Request
}

// audits reports whether the request concerns audit devices. Reads that tell everybody how the server is don't.
func (x *exchange) audits() bool {
	return x.Audit != nil && !(x.route.quiet && x.op == opRead) && x.Audit.Enabled()
}

// auditOpen tells of a request that no token decides about, before anything is done.
func (x *exchange) auditOpen() error {
	if x.route.authority == byToken || !x.audits() {
		return nil
	}
	return x.auditRequest(nil, nil)
}

// auditToken tells of a request and of its token, once it is known who asks and before anything is done.
func (x *exchange) auditToken(e *token.Entry, denied error) error {
	if !x.audits() {
		return nil
	}
	var auth *audit.Auth
	if e != nil {
		auth = authOf(e, x.token.Reveal())
		auth.PolicyResults = &audit.PolicyResults{Allowed: denied == nil}
	}
	if x.trail.asked { // where the token is one part of what is looked at; the response's entry tells
		x.trail.auth = auth
		return nil
	}
	return x.auditRequest(auth, denied)
}

func (x *exchange) auditRequest(auth *audit.Auth, denied error) error {
	x.trail.auth = auth
	x.trail.request = x.auditedRequest()
	if auth != nil {
		x.trail.request.ClientTokenAccessor = auth.Accessor
	}
	text := x.fields.Object()
	defer clear(text)
	e := audit.Entry{Type: "request", Time: x.Now(), Auth: auth, Request: x.trail.request, Error: sentence(denied)}
	if e.Request.Data = text; len(x.fields.Names()) == 0 || auth == nil && denied != nil {
		e.Request.Data = nil // of who has no token: an entry is much longer than what it tells of, and strangers could fill the disk
	}
	if x.Audit.Write(x.r.Context(), &e) != nil {
		return errUnaudited
	}
	x.trail.asked = true
	return nil
}

func (x *exchange) auditedRequest() audit.Request {
	host, port, err := net.SplitHostPort(x.r.RemoteAddr)
	number, _ := strconv.Atoi(port)
	if err != nil {
		host = ""
	}
	if x.client.addr.IsValid() {
		host = x.client.addr.String()
	}
	q := audit.Request{
		ID: x.id(), Operation: x.op.String(), ClientToken: tokenBytes(x), Path: x.accessPath(), Clear: x.shown(true),
		RemoteAddress: host, RemotePort: number, Headers: x.r.Header, WrapTTL: x.wrap, MountClass: "secret",
	}
	switch first, rest, _ := strings.Cut(x.path, "/"); {
	case x.place != nil:
		q.MountType, q.MountPoint = x.place.Mount.Type, x.place.Mount.Path
	case first == "auth" && strings.HasPrefix(rest, "token/"):
		q.MountType, q.MountPoint = "token", "auth/token/"
	case first == "sys":
		q.MountType, q.MountPoint = "system", "sys/"
	}
	if strings.HasPrefix(q.MountPoint, "auth/") {
		q.MountClass = "auth"
	}
	return q
}

// tokenBytes is the token that the request came with, as devices get it to hash.
func tokenBytes(x *exchange) []byte {
	if !x.token.Empty() {
		return x.token.Reveal()
	}
	return nil
}

// shown is the set of fields that are told as they are: those that the table of routes, or the mount, says are no secrets.
func (x *exchange) shown(request bool) map[string]bool {
	if x.place == nil {
		return x.route.shown
	}
	names := x.place.Mount.Config.AuditNonHMACResponseKeys
	if request {
		names = x.place.Mount.Config.AuditNonHMACRequestKeys
	}
	if len(names) == 0 {
		return x.route.shown
	}
	shown := maps.Clone(x.route.shown)
	for _, name := range names {
		shown[name] = true
	}
	return shown
}

// audited tells of the answer, before it is sent. An answer that nobody took is not sent.
func (x *exchange) audited(rep *reply, err error) (*reply, error) {
	if !x.trail.asked {
		return rep, err
	}
	e := audit.Entry{Type: "response", Time: x.Now(), Auth: x.trail.auth, Request: x.trail.request, Error: sentence(err)}
	if err == nil {
		text, errText := x.auditedData(rep)
		defer clear(text)
		if errText != nil {
			return nil, errText
		}
		e.Response = &audit.Response{Data: text, Clear: x.shown(false), Warnings: rep.warnings}
		if a := rep.auth; a != nil {
			e.Response.Auth = &audit.Auth{
				ClientToken: a.ClientToken, Accessor: a.Accessor, Policies: a.Policies, TokenPolicies: a.TokenPolicies, Metadata: a.Metadata,
				TokenType: a.TokenType,
			}
		}
		if w := rep.wrap; w != nil {
			e.Response.WrapInfo = &audit.WrapInfo{
				TTL: time.Duration(w.TTL) * time.Second, CreationTime: w.created, Token: w.Token, Accessor: w.Accessor, CreationPath: w.CreationPath, WrappedAccessor: w.WrappedAccessor,
			}
		}
	}
	switch {
	case x.Audit.Write(x.r.Context(), &e) == nil:
		return rep, err
	case err != nil:
		return nil, errUnaudited
	}
	x.withdraw(rep)
	if x.op == opRead || x.op == opList {
		return nil, errUnaudited
	}
	return nil, errUntold
}

// withdraw revokes the tokens in a reply that is not sent: nobody will ever know them.
func (x *exchange) withdraw(rep *reply) {
	var unseen [][]byte
	if rep.auth != nil && rep.made {
		unseen = append(unseen, rep.auth.ClientToken)
	}
	if rep.wrap != nil {
		unseen = append(unseen, rep.wrap.Token)
	}
	for _, id := range unseen {
		if err := x.Node.Withdraw(x.r.Context(), secret.Copy(id)); err != nil {
			x.logFailure(fmt.Errorf("a token that nobody knows was not revoked: %w", err))
		}
	}
}

// auditedData is the content of a reply as JSON, nil if it is none.
func (x *exchange) auditedData(rep *reply) ([]byte, error) {
	data := rep.data
	if data == nil {
		data = rep.raw
	}
	if data == nil || rep.stream != nil || rep.plain != "" {
		return nil, nil
	}
	return encodeJSON(data)
}

// authOf is a token as audit devices are told of it.
func authOf(e *token.Entry, id []byte) *audit.Auth {
	return &audit.Auth{
		ClientToken: id, Accessor: e.Accessor, DisplayName: e.DisplayName, Policies: e.Policies, TokenPolicies: e.Policies,
		Metadata: e.Meta, TokenType: e.Type, TokenTTL: e.TTL, TokenIssueTime: e.Created, RemainingUses: e.NumUses,
	}
}

// sentence is what may be told of an error.
func sentence(err error) string {
	switch f := fault.As(err); {
	case err == nil:
		return ""
	case f != nil && f.Sentence != "":
		return f.Sentence
	case f != nil:
		return "refused"
	}
	return "internal error"
}
