package httpapi

import (
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
)

// operation is what a method asks for. POST and PUT are the same everywhere, LIST is GET with ?list=true.
type operation int

const (
	opRead operation = iota + 1
	opUpdate
	opDelete
	opList
	opPatch
	opOther // OPTIONS and what isn't known
)

// capability is what a policy must grant for the operation.
func (op operation) capability() policy.Capability {
	switch op {
	case opRead:
		return policy.Read
	case opUpdate:
		return policy.Update
	case opDelete:
		return policy.Delete
	case opList:
		return policy.List
	}
	return policy.Patch
}

func (op operation) String() string {
	return [...]string{"none", "read", "update", "delete", "list", "patch", "other"}[op]
}

// authority is what a route asks for before it acts.
type authority int

const (
	// byNone: anybody; no token is looked at.
	byNone authority = iota
	// byCeremony: status and approval are anybody's; start and cancel need a local connection, a token or a share.
	byCeremony
	// byToken: a live token whose policies allow the operation on the path.
	byToken
)

// handler answers one operation on one route. It has no effect on the reply but what it returns.
type handler func(*exchange) (*reply, error)

// route is one path of the wire contract, and all that is to be known about it before its handler runs.
type route struct {
	path      string // below /v1/, without a slash at either end; parts may vary: "{nonce}", and the last one "{path...}"
	raw       bool   // fields at the top level; otherwise the envelope
	authority authority
	withToken bool  // looks at the token all the same, where it needs none
	sudo      bool  // needs sudo in addition
	sealed    bool  // works without the keys; all others answer 503 then, before they look at anything else
	rootOnly  bool  // says 400, not 404, when asked in a namespace
	anywhere  bool  // answers in any namespace: there is only one server behind them all
	endless   bool  // its reply takes as long as it takes
	quiet     bool  // reads of it aren't audited: they tell how the server is, to whoever asks
	limit     int64 // bytes of body
	ops       map[operation]handler

	// For people and for the OpenAPI document.
	summary string
	fields  string          // of the body of an update: "name type, ...", the type a string if there is none
	query   string          // the same of a read's query
	media   string          // content type of its replies, if it isn't JSON
	clear   string          // names of fields, in requests and replies, that audit devices may show as they are
	known   map[string]bool // the names in fields, by index; nil: anything
	shown   map[string]bool // those in clear

	dropFields string // the same of a delete's body, beside the credential of a ceremony
}

// index makes sets of the lists of names, once, for what each request asks of them.
func (r *route) index() {
	r.known, r.shown = namesOf(r.fields), make(map[string]bool)
	for name := range strings.FieldsSeq(r.clear) {
		r.shown[name] = true
	}
}

var (
	errDots          = fault.New(fault.Invalid, "relative paths are refused: ask for the path itself, without encoded dots or slashes in the place of its parts")
	errTrailingSlash = fault.New(fault.Invalid, "cannot write to a path ending in '/'")
	errMergePatch    = fault.New(fault.MediaType, "PATCH needs the content type application/merge-patch+json")
	errUnsupported   = fault.New(fault.Unsupported, "unsupported operation")
	errNoSuchMethod  = fault.New(fault.Unsupported, "")
	errBadQuery      = fault.New(fault.Invalid, "")
)

// target is what a request's URL leads to.
type target struct {
	route    *route
	path     string            // below /v1/; the one that policies see
	params   map[string]string // what stands in the varying parts of the route's path
	place    *node.Place       // where in a mount it leads; nil outside of mounts
	outside  bool              // not below /v1/
	redirect string            // where to ask instead
	err      error
}

// match finds the route of a URL. It allocates nothing for a path that is in the table.
func (a *API) match(u *url.URL) target {
	t := target{route: a.unknown}
	if !printable(u.Path) {
		t.err = errBadQuery
		return t
	}
	if clean, dirty := cleaned(u.EscapedPath()); dirty {
		t.redirect = clean
		if u.RawQuery != "" {
			t.redirect += "?" + u.RawQuery
		}
		return t
	}
	if _, dirty := cleaned(u.Path); dirty {
		t.err = errDots
		return t
	}
	var below bool
	if t.path, below = strings.CutPrefix(u.Path, "/v1/"); !below {
		t.outside = true
		return t
	}
	if r := a.routes[t.path]; r != nil {
		t.route = r
		return t
	}
	path := t.path
	if r := a.routes[strings.TrimSuffix(path, "/")]; r != nil && r.ops[opList] != nil && !r.raw {
		t.route = r // lists are asked for with and without the slash
	} else if found, params := a.varying.Match(strings.TrimSuffix(path, "/")); found != nil {
		if r := a.found[found]; !strings.HasSuffix(path, "/") || r.ops[opList] != nil || strings.HasSuffix(r.path, "...}") {
			t.route, t.params = r, params
		}
	}
	return t
}

// What every path of one ceremony begins with, and what stands for its nonce in the table.
const (
	ceremonies = "sys/ceremonies/"
	anyNonce   = "{nonce}"
)

// nonce is what stands in the place of {nonce}; only a UUID is worth asking the node about.
func (t *target) nonce() string { return t.params["nonce"] }

// isNonce reports the text of a UUID in the one form that the server makes.
func isNonce(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// printable reports whether a path holds nothing that a person couldn't read.
func printable(p string) bool {
	if !utf8.ValidString(p) {
		return false
	}
	for _, r := range p {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// cleaned resolves empty, "." and ".." parts of a path; dirty says whether it had any.
func cleaned(p string) (clean string, dirty bool) {
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p, false
	}
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		dirty = dirty || part == "" || part == "." || part == ".."
	}
	if !dirty && !strings.HasPrefix(p, "//") && !strings.HasSuffix(p, "//") {
		return p, false
	}
	clean = path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean, true
}

// operation tells what a request wants of route.
func (r *route) operation(req *http.Request) (operation, error) {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		if r.raw || !strings.Contains(req.URL.RawQuery, "list") {
			return opRead, nil
		}
		return readOrList(req.URL.Query())
	case http.MethodPost, http.MethodPut:
		return opUpdate, nil
	case http.MethodDelete:
		return opDelete, nil
	case "LIST":
		return opList, nil
	case http.MethodPatch:
		if mediaType(req) != "application/merge-patch+json" {
			return opOther, errMergePatch
		}
		return opPatch, nil
	case http.MethodOptions:
		if !r.raw {
			return opOther, fault.New(fault.Invalid, errUnsupported.Sentence)
		}
	}
	return opOther, errNoSuchMethod
}

func readOrList(q url.Values) (operation, error) {
	if !q.Has("list") {
		return opRead, nil
	}
	list, err := strconv.ParseBool(q.Get("list"))
	switch {
	case err != nil:
		return opOther, errBadQuery
	case list:
		return opList, nil
	}
	return opRead, nil
}
