package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
)

var (
	errWrapHeader = fault.New(fault.Invalid, `X-Vault-Wrap-TTL must be a duration: seconds, or text such as "90s", "30m" or "1h"`)
	errWrapNone   = fault.New(fault.Invalid, "say for how long in the X-Vault-Wrap-TTL header")
	errWrapOpen   = fault.New(fault.Invalid, "replies of a path that needs no token are not wrapped: leave the X-Vault-Wrap-TTL header out")
	errWrapFormat = fault.New(fault.Invalid, "wrapping tokens have one format on this server: leave the X-Vault-Wrap-Format header out")
)

func wrappingRoutes() []route {
	list := []route{
		{path: "sys/wrapping/wrap", authority: byToken, limit: createBody, ops: map[operation]handler{
			opUpdate: wrapThis,
		}, summary: "wrap the fields of the request", fields: "*"},
		{path: "sys/wrapping/lookup", withToken: true, limit: tokenBody, ops: map[operation]handler{
			opRead: lookupWrapped, opUpdate: lookupWrapped,
		}, summary: "what a wrapping token is for", fields: "token", clear: "creation_path creation_time creation_ttl"},
		{path: "sys/wrapping/unwrap", withToken: true, limit: tokenBody, ops: map[operation]handler{
			opUpdate: unwrap,
		}, summary: "take out what was wrapped, once", fields: "token"},
		{path: "sys/wrapping/rewrap", authority: byToken, limit: tokenBody, ops: map[operation]handler{
			opUpdate: rewrap,
		}, summary: "move what was wrapped to a new wrapping token", fields: "token"},
	}
	return list
}

// wrapInfo is what a client gets in place of a wrapped reply.
type wrapInfo struct {
	Token           text   `json:"token"`
	Accessor        string `json:"accessor"`
	TTL             int64  `json:"ttl"` // seconds
	CreationTime    string `json:"creation_time"`
	CreationPath    string `json:"creation_path"`
	WrappedAccessor string `json:"wrapped_accessor,omitempty"`

	created time.Time
}

// wrapping reads how long the reply shall be kept for its reader; 0: it goes out in clear, as that of raw endpoints
// always does.
func (x *exchange) wrapping() (time.Duration, error) {
	h := x.r.Header.Get("X-Vault-Wrap-TTL")
	if h == "" || x.route.raw {
		return 0, nil
	}
	d, ok := body.ParseDuration(h)
	switch {
	case !ok:
		return 0, errWrapHeader
	case d > node.MaxWrapTTL:
		return 0, node.ErrWrapLong
	case d > 0 && x.route.authority != byToken && !x.route.withToken && x.place == nil: // or strangers could fill the store
		return 0, errWrapOpen
	case d > 0 && x.r.Header.Get("X-Vault-Wrap-Format") != "":
		return 0, errWrapFormat
	}
	return d, nil
}

// wrapped keeps a reply with content, if that was asked for, and returns what goes out in its place.
func (x *exchange) wrapped(rep *reply) (*reply, error) {
	if x.wrap == 0 || rep.wrap != nil || rep.status != 0 && rep.status != http.StatusOK ||
		rep.plain != "" || rep.stream != nil || rep.raw != nil || rep.data == nil && rep.auth == nil {
		return rep, nil
	}
	text, err := encodeJSON(x.envelope(rep))
	defer clear(text)
	if err != nil {
		return nil, err
	}
	w := &node.Wrapped{TTL: x.wrap, Path: x.accessPath(), Inner: rep.inner, Response: json.RawMessage(bytes.TrimSpace(text))}
	if err := x.Node.Wrap(x.r.Context(), w); err != nil {
		return nil, err
	}
	return x.wrapReply(w), nil
}

func (x *exchange) wrapReply(w *node.Wrapped) *reply {
	x.fields.Own(w.Token.Reveal())
	return &reply{wrap: &wrapInfo{
		Token: w.Token.Reveal(), Accessor: w.Accessor, TTL: seconds(w.TTL), CreationTime: rfc3339(w.Created), CreationPath: w.Path,
		WrappedAccessor: w.Inner, created: w.Created,
	}}
}

// wrapThis answers with what it was sent, for the wrapping that must be asked for.
func wrapThis(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	if x.wrap == 0 {
		return nil, errWrapNone
	}
	object := x.fields.Object()
	x.fields.Own(object)
	return &reply{data: json.RawMessage(object)}, nil
}

// wrappingToken is the token in the body, or else the one that the request came with.
func (x *exchange) wrappingToken() (id secret.Bytes, own bool, err error) {
	given := x.fields.Text("token")
	switch {
	case x.fields.Err() != nil:
		return id, false, x.fields.Err()
	case len(given) > 0:
		return secret.Copy(given), false, nil
	}
	return secret.Copy(x.token.Reveal()), true, nil
}

func lookupWrapped(x *exchange) (*reply, error) {
	id, _, err := x.wrappingToken()
	defer id.Wipe()
	if err != nil {
		return nil, err
	}
	w, err := x.Node.LookupWrapped(x.r.Context(), id)
	if err != nil {
		return nil, err
	}
	return &reply{data: map[string]any{"creation_path": w.Path, "creation_time": rfc3339(w.Created), "creation_ttl": seconds(w.TTL)}}, nil
}

// unwrap returns the original reply as it was. A wrapping token in the body needs a live token beside it, so that it is
// known who took it; a wrapping token alone is its own authority.
func unwrap(x *exchange) (*reply, error) {
	id, own, err := x.wrappingToken()
	defer id.Wipe()
	switch {
	case err != nil:
		return nil, err
	case own && id.Empty():
		return nil, node.ErrDenied
	case !own:
		if same := x.token.Equal(id); !same {
			if err := x.allowed(); err != nil {
				return nil, err
			}
		}
	}
	w, err := x.Node.Unwrap(x.r.Context(), id)
	if err != nil {
		return nil, err
	}
	x.fields.Own(w.Response)
	return &reply{raw: w.Response}, nil
}

func rewrap(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	id := secret.Copy(x.fields.Text("token"))
	defer id.Wipe()
	if x.fields.Err() != nil {
		return nil, x.fields.Err()
	}
	w, err := x.Node.Rewrap(x.r.Context(), id)
	if err != nil {
		return nil, err
	}
	clear(w.Response)
	return x.wrapReply(w), nil
}
