package httpapi

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/node"
)

var (
	errMountType       = fault.New(fault.Invalid, "missing type: give it in the field 'type', such as kv or userpass")
	errMountTTL        = fault.New(fault.Invalid, "default_lease_ttl is over max_lease_ttl: lower the one or raise the other")
	errMountVisibility = fault.New(fault.Invalid, "listing_visibility must be unauth or hidden")
	errMountTokenType  = fault.New(fault.Invalid, "token_type must be default-service or service, and only auth methods have one")
	errMountVersion    = fault.New(fault.Invalid, "this server has no plugins: leave plugin_version out")
	errMoveFields      = fault.New(fault.Invalid, "give the path of the mount in the field 'from', and the new one in 'to'")
	errNoMove          = fault.New(fault.NotFound, "no migration with this id: the mount is gone, or never was")
)

const mountConfig = "default_lease_ttl duration, max_lease_ttl duration, force_no_cache bool, token_type, listing_visibility, " +
	"passthrough_request_headers list, allowed_response_headers list, audit_non_hmac_request_keys list, audit_non_hmac_response_keys list"

func mountRoutes() []route {
	const shown = "type description options version config accessor uuid path from to migration_id status source_mount target_mount " +
		"default_lease_ttl max_lease_ttl token_type listing_visibility deprecation_status secret auth"
	var list []route
	for _, f := range []mountFamily{{path: "sys/mounts"}, {path: "sys/auth", auth: true}} {
		list = append(list, ofToken([]route{
			{path: f.path, ops: map[operation]handler{opRead: f.list}, summary: "all that is mounted", clear: shown},
			{
				path: f.path + "/{path...}", sudo: f.auth, ops: map[operation]handler{opRead: f.read, opUpdate: f.write, opDelete: f.disable},
				summary: "one mount: read, enable, disable; with /tune at the end of the path, how it is tuned", clear: shown,
				fields: "type, description, config map, options map, local bool, seal_wrap bool, external_entropy_access bool, plugin_name, plugin_version, " + mountConfig,
			},
		})...)
	}
	list = append(list, ofToken([]route{
		{path: "sys/remount", sudo: true, ops: map[operation]handler{opUpdate: remount}, summary: "give a mount another path", fields: "from, to", clear: shown},
		{path: "sys/remount/status/{id}", ops: map[operation]handler{opRead: remountStatus}, summary: "what a move came to", clear: shown},
		{path: "sys/internal/ui/mounts/{path...}", ops: map[operation]handler{opRead: preflight}, summary: "the mount that a path lies in", clear: shown},
	})...)
	return append(list, route{path: "sys/internal/ui/mounts", limit: tokenBody, ops: map[operation]handler{
		opRead: visibleMounts,
	}, summary: "the mounts in which a token has any right; without one, those that are shown to everybody", clear: shown})
}

// mountFamily is one of the two path families of mounts: secrets engines and auth methods.
type mountFamily struct {
	path string
	auth bool
}

// mountEntry is a mount as the wire shows it. The versions are those of plugins, which there are none of.
type mountEntry struct {
	Accessor              string            `json:"accessor"`
	Config                mountTuning       `json:"config"`
	DeprecationStatus     string            `json:"deprecation_status,omitempty"`
	Description           string            `json:"description"`
	ExternalEntropyAccess bool              `json:"external_entropy_access"`
	Local                 bool              `json:"local"`
	Options               map[string]string `json:"options"`
	Path                  string            `json:"path,omitempty"` // in the preflight
	PluginVersion         string            `json:"plugin_version"`
	RunningPluginVersion  string            `json:"running_plugin_version"`
	RunningSHA256         string            `json:"running_sha256"`
	SealWrap              bool              `json:"seal_wrap"`
	Type                  string            `json:"type"`
	UUID                  string            `json:"uuid"`
}

// mountTuning is the configuration of a mount. Durations are in seconds; 0 is the server's.
type mountTuning struct {
	DefaultLeaseTTL           int64    `json:"default_lease_ttl"`
	MaxLeaseTTL               int64    `json:"max_lease_ttl"`
	ForceNoCache              bool     `json:"force_no_cache"`
	TokenType                 string   `json:"token_type,omitempty"` // of auth methods
	ListingVisibility         string   `json:"listing_visibility,omitempty"`
	PassthroughRequestHeaders []string `json:"passthrough_request_headers,omitempty"`
	AllowedResponseHeaders    []string `json:"allowed_response_headers,omitempty"`
	AuditNonHMACRequestKeys   []string `json:"audit_non_hmac_request_keys,omitempty"`
	AuditNonHMACResponseKeys  []string `json:"audit_non_hmac_response_keys,omitempty"`
}

func tuningOf(e *mount.Entry) mountTuning {
	c := e.Config
	t := mountTuning{
		DefaultLeaseTTL: seconds(c.DefaultLeaseTTL), MaxLeaseTTL: seconds(c.MaxLeaseTTL), ForceNoCache: c.ForceNoCache,
		ListingVisibility: c.ListingVisibility, PassthroughRequestHeaders: c.PassthroughRequestHeaders, AllowedResponseHeaders: c.AllowedResponseHeaders,
		AuditNonHMACRequestKeys: c.AuditNonHMACRequestKeys, AuditNonHMACResponseKeys: c.AuditNonHMACResponseKeys,
	}
	if e.Auth() {
		t.TokenType = cmp.Or(c.TokenType, "default-service")
	}
	return t
}

func shownMount(e *mount.Entry) *mountEntry {
	return &mountEntry{
		Accessor: e.Accessor, Config: tuningOf(e), DeprecationStatus: "supported", Description: e.Description,
		ExternalEntropyAccess: e.ExternalEntropyAccess, Local: e.Local, Options: e.Options, SealWrap: e.SealWrap, Type: e.Type, UUID: e.UUID,
	}
}

// below is a mount's path as its own family shows it.
func below(e *mount.Entry) string { return strings.TrimPrefix(e.Path, "auth/") }

func (f mountFamily) list(x *exchange) (*reply, error) {
	data := map[string]*mountEntry{}
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		clear(data)
		for _, e := range c.Mounts(f.auth) {
			data[below(e)] = shownMount(e)
		}
		return nil
	})
	return injected(data), err
}

// of takes the path of a request apart: which mount, whether an auth method, and whether it is about its tuning. That of
// an auth method is there below sys/mounts/auth, too.
func (f mountFamily) of(x *exchange) (path string, auth, tune bool) {
	path, tune = strings.CutSuffix(x.param("path"), "/tune")
	rest, under := strings.CutPrefix(path, "auth/")
	if tune && under && !f.auth {
		return rest, true, true
	}
	return path, f.auth, tune
}

// tuneData is the tuning with what is in force where nothing is set.
type tuneData struct {
	mountTuning
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
}

func (f mountFamily) read(x *exchange) (*reply, error) {
	path, auth, tune := f.of(x)
	var e *mount.Entry
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) (err error) {
		e, err = c.Mount(path, auth)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !tune:
		return injected(shownMount(e)), nil
	}
	data := tuneData{tuningOf(e), e.Description, e.Options}
	data.DefaultLeaseTTL, data.MaxLeaseTTL = x.Node.MountTTLs(e)
	return injected(data), nil
}

// write enables a mount, or tunes one.
func (f mountFamily) write(x *exchange) (*reply, error) {
	path, auth, tune := f.of(x)
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		if tune {
			return x.tune(c, path, auth)
		}
		e, err := x.newMount(path, auth)
		if err != nil {
			return err
		}
		return c.Enable(e)
	})
}

func (x *exchange) newMount(path string, auth bool) (e mount.Entry, err error) {
	f := &x.fields
	e = mount.Entry{
		Type: f.Str("type"), Description: f.Str("description"), Options: f.Pairs("options"), Local: f.Flag("local", false),
		SealWrap: f.Flag("seal_wrap", false), ExternalEntropyAccess: f.Flag("external_entropy_access", false),
	}
	if e.Type == "" || e.Type == "plugin" {
		e.Type = f.Str("plugin_name")
	}
	version := f.Str("plugin_version")
	if e.Path, err = mount.NormalizePath(path, auth); err != nil {
		return e, err
	}
	config := new(body.Fields)
	if text := f.Find("config"); text != nil {
		if text[0] != '{' {
			f.Wrong("config", "an object")
		} else if *config, err = body.Decode(text, false); err != nil {
			return e, err
		}
	}
	switch {
	case f.Err() != nil:
		return e, f.Err()
	case e.Type == "":
		return e, errMountType
	case version != "":
		return e, errMountVersion
	}
	return e, x.readTuning(config, &e)
}

// tune changes what is given, and leaves the rest of a mount as it is.
func (x *exchange) tune(c *node.Call, path string, auth bool) error {
	found, err := c.Mount(path, auth)
	if err != nil {
		return err
	}
	f := &x.fields
	e := *found
	if f.Has("description") {
		e.Description = f.Str("description")
	}
	if options := f.Pairs("options"); options != nil {
		e.Options = merged(e.Options, options)
	}
	if err := x.readTuning(f, &e); err != nil {
		return err
	}
	return c.Tune(e)
}

// merged is a copy of options with some of them changed; those that are empty are taken away.
func merged(options, changes map[string]string) map[string]string {
	all := make(map[string]string)
	for _, m := range []map[string]string{options, changes} {
		for name, value := range m {
			if all[name] = value; value == "" {
				delete(all, name)
			}
		}
	}
	return all
}

// readTuning changes in a mount's configuration what is given.
func (x *exchange) readTuning(f *body.Fields, e *mount.Entry) error {
	c := &e.Config
	for name, d := range map[string]*time.Duration{"default_lease_ttl": &c.DefaultLeaseTTL, "max_lease_ttl": &c.MaxLeaseTTL} {
		if text := f.Find(name); string(text) == `"system"` {
			*d = 0
		} else if text != nil {
			*d = f.Duration(name)
		}
	}
	c.ForceNoCache = f.Flag("force_no_cache", c.ForceNoCache)
	for name, s := range map[string]*string{"token_type": &c.TokenType, "listing_visibility": &c.ListingVisibility} {
		if f.Has(name) {
			*s = f.Str(name)
		}
	}
	for name, list := range map[string]*[]string{
		"passthrough_request_headers": &c.PassthroughRequestHeaders, "allowed_response_headers": &c.AllowedResponseHeaders,
		"audit_non_hmac_request_keys": &c.AuditNonHMACRequestKeys, "audit_non_hmac_response_keys": &c.AuditNonHMACResponseKeys,
	} {
		if f.Has(name) {
			*list = f.Strs(name)
		}
	}
	switch {
	case f.Err() != nil:
		return f.Err()
	case c.DefaultLeaseTTL > cmp.Or(c.MaxLeaseTTL, x.Node.MaxTTL):
		return errMountTTL
	case !slices.Contains([]string{"", "hidden", "unauth"}, c.ListingVisibility):
		return errMountVisibility
	case c.TokenType != "" && (!e.Auth() || c.TokenType != "default-service" && c.TokenType != "service"):
		return errMountTokenType
	}
	return nil
}

func (f mountFamily) disable(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Disable(x.r.Context(), x.access(), x.param("path"), f.auth)
}

// remount moves at once; the ID by which clients ask what became of it is the mount's own.
func remount(x *exchange) (*reply, error) {
	var id string
	err := x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		from, to := x.fields.Str("from"), x.fields.Str("to")
		switch {
		case x.fields.Err() != nil:
			return x.fields.Err()
		case from == "" || to == "":
			return errMoveFields
		}
		from, auth := strings.CutPrefix(strings.TrimPrefix(from, "/"), "auth/")
		e, err := c.Mount(from, auth)
		if err != nil {
			return err
		}
		to, toAuth := strings.CutPrefix(strings.TrimPrefix(to, "/"), "auth/")
		if to, err = mount.NormalizePath(to, toAuth); err != nil {
			return err
		}
		id = e.UUID
		return c.Move(e, to)
	})
	return injected(map[string]any{"migration_id": id}), err
}

func remountStatus(x *exchange) (*reply, error) {
	var moved *mount.Entry
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		if moved = c.MountByUUID(x.param("id")); moved == nil {
			return errNoMove
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &reply{data: map[string]any{
		"migration_id":   moved.UUID,
		"migration_info": map[string]any{"target_mount": moved.Path, "status": "success"},
	}}, nil
}

// preflight is what clients of kv ask before anything else.
func preflight(x *exchange) (*reply, error) {
	e, err := x.Node.Preflight(x.r.Context(), x.access(), x.params["path"])
	if err != nil {
		return nil, err
	}
	data := shownMount(e)
	data.Path = e.Path
	data.Config.DefaultLeaseTTL, data.Config.MaxLeaseTTL = x.Node.MountTTLs(e)
	return &reply{data: data}, nil
}

func visibleMounts(x *exchange) (*reply, error) {
	a := x.access()
	a.Token = tokenOf(x.r.Header)
	defer a.Token.Wipe()
	list, known, err := x.Node.VisibleMounts(x.r.Context(), a)
	if err != nil {
		return nil, err
	}
	data := map[bool]map[string]any{true: {}, false: {}} // :: auth → path → entry
	for _, e := range list {
		var shown any = shownMount(e)
		if !known {
			shown = map[string]any{"type": e.Type, "description": e.Description, "options": e.Options}
		}
		data[e.Auth()][below(e)] = shown
	}
	return &reply{data: map[string]any{"auth": data[true], "secret": data[false]}}, nil
}
