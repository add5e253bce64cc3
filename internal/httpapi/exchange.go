package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
)

var (
	errCrossOrigin   = fault.New(fault.Denied, "cross-origin requests are refused: a page in a browser may not act on this server for somebody else's site")
	errNoNamespace   = fault.New(fault.NotFound, "namespace not found")
	errRootNamespace = fault.New(fault.Invalid, "operation unavailable in namespaces")
	errBodyRead      = fault.New(fault.Invalid, "the request body could not be read to its end")
)

// exchange is one request and its reply.
type exchange struct {
	*API
	listener *Listener
	w        http.ResponseWriter
	r        *http.Request
	began    time.Time

	client client
	target
	op     operation
	token  secret.Bytes // empty if there is none or the route doesn't look at it
	body   []byte
	budget *budget // from which taken bytes of body came; nil for a small one
	taken  int64
	fields body.Fields
	wrap   time.Duration // for which the reply shall be kept for its reader; 0: it isn't
	trail  trail         // what audit devices were told

	requestID string
	status    int // of the reply; 0 before it was sent
}

// id names the exchange in replies and in the log.
func (x *exchange) id() string {
	if x.requestID == "" {
		x.requestID = uuid.NewString()
	}
	return x.requestID
}

// serve answers, whatever happens, and leaves no secret behind.
func (x *exchange) serve() {
	defer x.finish()
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	maps.Copy(h, x.listener.ResponseHeaders)
	rep, err := x.answer()
	x.respond(x.audited(rep, err))
}

// finish wipes, recovers from a panic and writes the log line. Of a panic only its type and place are told: its text
// may hold anything.
func (x *exchange) finish() {
	x.wipe()
	defer x.count()
	if p := recover(); p != nil {
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		x.Logger.Error("panic while serving a request", "request_id", x.id(), "route", x.routeName(),
			"type", fmt.Sprintf("%T", p), "stack", stack())
		if x.status == 0 {
			x.writeErrors(http.StatusInternalServerError, "internal error, request "+x.id())
		}
	}
	if ctx := x.r.Context(); x.Logger.Enabled(ctx, slog.LevelDebug) {
		x.Logger.LogAttrs(ctx, slog.LevelDebug, "request", slog.String("request_id", x.id()),
			slog.String("listener", x.listener.Name), slog.Any("client", x.client.addr), slog.Bool("local", x.client.local()),
			slog.String("route", x.routeName()),
			slog.String("operation", x.op.String()), slog.Int("status", x.status),
			slog.Duration("took", x.Now().Sub(x.began)))
	}
}

// wipe overwrites what the request brought and what the reply took out.
func (x *exchange) wipe() {
	x.token.Wipe()
	clear(x.body)
	if x.budget != nil {
		x.budget.give(x.taken)
	}
	x.fields.Wipe()
}

// routeName is the route as the table has it: a request's own path stays out of the log.
func (x *exchange) routeName() string {
	if x.route == nil || x.route.path == "" {
		return "unknown"
	}
	return x.route.path
}

// stack lists functions and lines. Unlike debug.Stack it shows no arguments.
func stack() []string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	var list []string
	for {
		f, more := frames.Next()
		list = append(list, fmt.Sprintf("%s:%d", f.Function, f.Line))
		if !more {
			return list
		}
	}
}

// answer holds the order in which a request is looked at. The table lookup came before the rate limit: it reads nothing
// but the path, and decides only which limit it is and how long the request may take.
func (x *exchange) answer() (*reply, error) {
	var errClient error
	x.client, errClient = x.listener.identify(x.r)
	if err := x.limiter().take(x.client.bucket(), x.Now()); err != nil {
		return nil, err
	}
	if errClient != nil {
		return nil, errClient
	}
	if preflight, err := x.checkOrigin(); preflight || err != nil {
		return &reply{}, err
	}
	switch {
	case x.outside:
		return &reply{status: http.StatusNotFound, plain: "404 page not found\n"}, nil
	case x.redirect != "":
		x.w.Header().Set("Location", x.redirect)
		return &reply{status: http.StatusTemporaryRedirect}, nil
	case x.err != nil:
		return nil, x.err
	}
	if err := x.withinQuotas(); err != nil {
		return nil, err
	}
	handle, err := x.routed()
	if err != nil {
		return nil, err
	}
	if x.reads() {
		if err := x.decode(); err != nil {
			return nil, err
		}
	}
	if err := x.auditOpen(); err != nil {
		return nil, err
	}
	rep, err := x.again(handle)
	if err != nil {
		return nil, err
	}
	if warning := x.ignored(); warning != "" && rep.raw == nil && rep.stream == nil && rep.plain == "" {
		rep.warnings = append(slices.Clip(rep.warnings), warning)
	}
	return x.wrapped(rep)
}

// ignored warns of fields that mean nothing here, most likely typing errors. It names those that do mean something: what
// was sent doesn't come back.
func (x *exchange) ignored() string {
	r := x.route
	if r.raw || r.authority == byCeremony || r.known == nil || x.op != opUpdate && x.op != opPatch {
		return ""
	}
	n := 0
	for _, name := range x.fields.Names() {
		if !r.known[name] {
			n++
		}
	}
	switch {
	case n == 0:
		return ""
	case len(r.known) == 0:
		return fmt.Sprintf("%d of the fields that were sent mean nothing here and were ignored: it takes none", n)
	}
	return fmt.Sprintf("%d of the fields that were sent mean nothing here and were ignored; it takes: %s", n,
		strings.Join(slices.Sorted(maps.Keys(r.known)), ", "))
}

// reads reports whether the request may have a body that means something.
func (x *exchange) reads() bool { return x.op != opRead && x.op != opList && x.route != x.unknown }

func (x *exchange) limiter() *limiter {
	if x.route.authority == byToken && x.route != x.unknown { // a login is open to all
		return x.tokenLimit
	}
	return x.openLimit
}

// routed checks all that needs no body, and finds the handler.
func (x *exchange) routed() (handler, error) {
	if ns := strings.Trim(x.r.Header.Get("X-Vault-Namespace"), "/"); ns != "" && ns != "root" && !x.route.anywhere {
		if x.route.rootOnly {
			return nil, errRootNamespace
		}
		return nil, errNoNamespace
	}
	if !x.route.sealed && x.Node.Sealed() {
		return nil, node.ErrSealed
	}
	var err error
	if x.op, err = x.route.operation(x.r); err != nil {
		return nil, err
	}
	// A delete may name a mount as lists show it, with its slash.
	if strings.HasSuffix(x.path, "/") && x.op != opRead && x.op != opList && !(x.op == opDelete && strings.HasSuffix(x.route.path, "...}")) {
		return nil, errTrailingSlash
	}
	if (x.route.authority != byNone || x.route.withToken) && x.token.Empty() {
		x.token = tokenOf(x.r.Header)
	}
	if x.wrap, err = x.wrapping(); err != nil {
		return nil, err
	}
	handle := x.route.ops[x.op]
	switch {
	case handle == nil && x.route.raw:
		return nil, errNoSuchMethod
	case handle == nil && x.route.authority == byToken:
		return nothingHere(errUnsupported), nil
	case handle == nil:
		return nil, errUnsupported
	case x.nonce() != "" && !isNonce(x.nonce()):
		return nil, node.ErrNoCeremony
	}
	return handle, nil
}

// nothingHere tells that an operation or a path doesn't exist, but only to who would be allowed to use it.
func nothingHere(err error) handler {
	return func(x *exchange) (*reply, error) {
		return nil, x.Node.View(x.r.Context(), x.access(), func(*node.Call) error { return err })
	}
}

// tokenOf returns the token of a request, empty if it has none.
func tokenOf(h http.Header) secret.Bytes {
	if t := h.Get("X-Vault-Token"); t != "" {
		return secret.Copy([]byte(t))
	}
	t, _ := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if len(t) == len(h.Get("Authorization")) {
		return secret.Bytes{}
	}
	return secret.Copy([]byte(t))
}

// access is what the request asks of a token.
func (x *exchange) access() node.Access {
	return node.Access{
		Token: x.token, Client: x.client.addr, Path: x.accessPath(), Capability: x.op.capability(), Sudo: x.route.sudo,
		Data: x.decoded, Wrap: node.Wrap{TTL: x.wrap}, Note: x.auditToken,
	}
}

// accessPath is the path of the request as policies name it.
func (x *exchange) accessPath() string {
	if x.place != nil && x.place.Path != "" {
		return x.place.Path
	}
	return strings.TrimSuffix(x.path, "/")
}

// decoded is the body as policies compare it. What can't be decoded was refused before.
func (x *exchange) decoded() map[string]any {
	text := x.fields.Object()
	defer clear(text)
	var data map[string]any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if dec.Decode(&data) != nil {
		return nil
	}
	return data
}

// allowed is nil if the request's token allows it, for what is not read or written in one transaction with that.
func (x *exchange) allowed() error {
	return x.Node.View(x.r.Context(), x.access(), func(*node.Call) error { return nil })
}

// stranger reports who is neither local nor has a live token.
func (x *exchange) stranger() bool {
	return !x.client.local() && !x.Node.Live(x.r.Context(), x.token)
}

// decode reads the body, which stays in one buffer that finish wipes, and finds its fields.
func (x *exchange) decode() error {
	if err := x.readBody(); err != nil {
		return err
	}
	text, form := x.body, !x.route.raw && isForm(x.r, x.body)
	if form {
		var err error
		if text, err = body.FormToJSON(text); err != nil {
			return err
		}
	}
	fields, err := body.Decode(text, x.route.raw)
	if x.fields = fields; form {
		x.fields.Own(text)
	}
	return err
}

// isForm reports a body that says it is a form and doesn't begin like JSON: curl sends JSON under that type.
func isForm(r *http.Request, body []byte) bool {
	text := bytes.TrimLeft(body, " \t\r\n")
	return len(text) > 0 && text[0] != '{' && text[0] != '[' && mediaType(r) == "application/x-www-form-urlencoded"
}

func mediaType(r *http.Request) string {
	t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return t
}

// readBody reads at most as much as the route takes. A buffer that became too small is wiped.
func (x *exchange) readBody() error {
	limit := min(x.route.limit, x.listener.MaxRequestSize)
	if x.r.ContentLength > limit {
		return x.tooLarge(x.r.ContentLength)
	}
	if x.r.Body == nil || x.r.ContentLength == 0 {
		return nil
	}
	in := http.MaxBytesReader(x.w, x.r.Body, limit)
	// What is only announced costs nothing yet: the buffer grows with what comes.
	x.body = make([]byte, 0, max(512, min(x.r.ContentLength+1, freeBody)))
	for {
		if len(x.body) == cap(x.body) {
			if err := x.growBody(limit + 1); err != nil {
				return err
			}
		}
		n, err := in.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		var over *http.MaxBytesError
		switch {
		case errors.As(err, &over):
			return x.tooLarge(limit + 1)
		case err == io.EOF:
			return nil
		case err != nil:
			return errBodyRead
		}
	}
}

// growBody doubles the buffer, to at most so many bytes, within the budget of who is asking.
func (x *exchange) growBody(most int64) error {
	size := int(min(2*int64(cap(x.body)), most))
	if size > freeBody {
		if x.budget == nil {
			x.budget = &x.known
			if x.stranger() {
				x.budget = &x.strangers
			}
		}
		if err := x.budget.take(int64(size - cap(x.body))); err != nil {
			return err
		}
		x.taken += int64(size - cap(x.body))
	}
	grown := append(make([]byte, 0, size), x.body...)
	clear(x.body)
	x.body = grown
	return nil
}

// tooLarge tells a body that no endpoint takes from one that only this endpoint doesn't.
func (x *exchange) tooLarge(size int64) error {
	if size > x.listener.MaxRequestSize {
		return fault.Newf(fault.TooLarge, "the request body is larger than this server takes: at most %d bytes", x.listener.MaxRequestSize)
	}
	return fault.Newf(fault.Invalid, "the request body is larger than this endpoint takes: at most %d bytes", x.route.limit)
}
