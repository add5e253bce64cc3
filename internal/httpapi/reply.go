package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/store"
)

// reply is what a handler answers. With nothing in it, it is 204.
type reply struct {
	status int    // 0: 200, or 204 if there is nothing to send
	plain  string // sent as text
	media  string // content type of plain, if it is not simply text
	raw    any    // sent as it is
	stream func() // writes the reply itself, status and all

	// The envelope's content.
	data     any
	lease    time.Duration // how long data may be kept
	auth     *authBlock
	made     bool      // auth is of a token that nobody has seen before
	inner    string    // accessor of what is in it, told beside a wrapping token
	wrap     *wrapInfo // in place of all that
	warnings []string
	inject   func(envelope) any // repeats the fields of data at the top level
}

// envelope is the shape of every reply of a logical endpoint.
type envelope struct {
	RequestID     string     `json:"request_id"`
	LeaseID       string     `json:"lease_id"`
	Renewable     bool       `json:"renewable"`
	LeaseDuration int64      `json:"lease_duration"` // seconds
	Data          any        `json:"data"`
	WrapInfo      *wrapInfo  `json:"wrap_info"`
	Warnings      []string   `json:"warnings"`
	Auth          *authBlock `json:"auth"`
}

// authBlock is a token as the one who got or renewed it sees it.
type authBlock struct {
	ClientToken    text              `json:"client_token"` // empty when it was found by its accessor
	Accessor       string            `json:"accessor"`
	Policies       []string          `json:"policies"`
	TokenPolicies  []string          `json:"token_policies,omitempty"`
	Metadata       map[string]string `json:"metadata"`
	LeaseDuration  int64             `json:"lease_duration"` // seconds
	Renewable      bool              `json:"renewable"`
	EntityID       string            `json:"entity_id"`
	TokenType      string            `json:"token_type"`
	Orphan         bool              `json:"orphan"`
	MFARequirement any               `json:"mfa_requirement"`
	NumUses        int               `json:"num_uses"`
}

// respond sends a reply or an error.
func (x *exchange) respond(rep *reply, err error) {
	if err != nil {
		x.respondError(err)
		return
	}
	body := rep.raw
	switch {
	case rep.stream != nil:
		rep.stream()
		return
	case rep.plain != "":
		x.w.Header().Set("Content-Type", cmp.Or(rep.media, "text/plain; charset=utf-8"))
		x.write(cmp.Or(rep.status, http.StatusOK), []byte(rep.plain))
		return
	case body == nil && (rep.data != nil || rep.auth != nil || rep.wrap != nil || rep.warnings != nil || rep.status == http.StatusNotFound):
		body = x.envelope(rep)
	case body == nil:
		if rep.status == 0 {
			rep.status = http.StatusNoContent
		}
		x.write(rep.status, nil)
		return
	}
	if rep.status == 0 {
		rep.status = http.StatusOK
	}
	x.writeJSON(rep.status, body)
}

// envelope is the shape of a reply of a logical endpoint, with its data repeated at the top level where that is due.
func (x *exchange) envelope(rep *reply) any {
	e := envelope{RequestID: x.id(), LeaseDuration: seconds(rep.lease), Data: rep.data, Warnings: rep.warnings, Auth: rep.auth, WrapInfo: rep.wrap}
	switch {
	case rep.wrap != nil:
		e.RequestID = ""
	case rep.inject != nil:
		return rep.inject(e)
	}
	return e
}

// statusOf is the one place where a fault's kind becomes a status code.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Unsupported:
		return http.StatusMethodNotAllowed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.MediaType:
		return http.StatusUnsupportedMediaType
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Sealed, fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// explained adds, where a local connection would have helped, why this one isn't local.
func (x *exchange) explained(f *fault.Error) string {
	switch {
	case !f.LocalHelps:
		return f.Sentence
	case x.route.authority == byCeremony && x.listener.Ceremonies == CeremoniesToken:
		return f.Sentence + ". this listener takes tokens and key shares only"
	case x.client.local():
		return f.Sentence
	}
	return f.Sentence + ". this connection is not local: " + x.client.remote
}

// respondError sends a fault's sentence; of any other error only that there was one, and where to look it up.
func (x *exchange) respondError(err error) {
	f := fault.As(err)
	switch {
	case err == errBadQuery && x.target.err == err: // a path that can't be read: nothing at all is said about it
		x.write(http.StatusBadRequest, nil)
	case errors.Is(err, errUntold):
		x.logFailure(err)
		x.writeErrors(http.StatusInternalServerError, "the request was carried out, but no audit device could take the entry of its reply: look what has become of it before you repeat it, request "+x.id())
	case errors.Is(err, errUnaudited):
		x.logFailure(errUnaudited)
		x.writeErrors(http.StatusInternalServerError, "no audit device could take the entry of this request: see the server's log, request "+x.id())
	case f != nil:
		if f.RetryAfter > 0 {
			x.w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
		}
		if f.Kind == fault.Unsupported && x.route != nil && x.route.raw {
			x.writeErrors(statusOf(f.Kind))
			return
		}
		x.writeErrors(statusOf(f.Kind), x.explained(f))
	case errors.Is(err, node.ErrMoved):
		x.writeErrors(http.StatusServiceUnavailable, "the mounts are being changed: ask again")
	case errors.Is(err, store.ErrUnknownOutcome):
		x.logFailure(err)
		x.writeErrors(http.StatusInternalServerError, "the outcome of the write is unknown: look what has become of it before you repeat it, request "+x.id())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		x.writeErrors(http.StatusServiceUnavailable, "the request was given up before it was done: look what has become of it, and repeat it")
	default:
		x.logFailure(err)
		x.writeErrors(http.StatusInternalServerError, "internal error, request "+x.id())
	}
}

func (x *exchange) logFailure(err error) {
	x.Logger.Error("request failed", "request_id", x.id(), "route", x.routeName(), "error", err)
}

// writeErrors sends the error envelope; sentences that are empty are left out.
func (x *exchange) writeErrors(status int, sentences ...string) {
	list := []string{}
	for _, s := range sentences {
		if s != "" {
			list = append(list, s)
		}
	}
	x.writeJSON(status, struct {
		Errors []string `json:"errors"`
	}{list})
}

// writeJSON encodes before it writes, so that a reply is sent whole or not at all.
func (x *exchange) writeJSON(status int, v any) {
	text, err := encodeJSON(v)
	defer clear(text)
	if err != nil {
		x.logFailure(err)
		x.write(http.StatusInternalServerError, []byte(`{"errors":["internal error"]}`+"\n"))
		return
	}
	x.write(status, text)
}

// encodeJSON returns v as JSON with a newline, in memory that the caller wipes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

// write sends the reply. That a client has gone is not an error of the server's.
func (x *exchange) write(status int, body []byte) {
	x.status = status
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
}
