package approle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// Bounds of the metadata of a secret ID, which every token that it makes gets.
const (
	maxMeta     = 64
	maxMetaSize = 8 << 10
)

var (
	errSecretID   = fault.Newf(fault.Invalid, "missing secret_id: send 1 to %d characters", maxID)
	errAccessor   = fault.New(fault.Invalid, "missing secret_id_accessor")
	errExists     = fault.New(fault.Invalid, "the role has such a secret ID already: choose another one")
	errUnbound    = fault.New(fault.Invalid, "the role has no secret IDs, because bind_secret_id is false")
	errLongTTL    = fault.New(fault.Invalid, "ttl can't be longer than the role's secret_id_ttl")
	errManyUses   = fault.New(fault.Invalid, "num_uses can't be higher than the role's secret_id_num_uses")
	errMeta       = fault.Newf(fault.Invalid, "metadata must be a JSON object of strings, at most %d of them and %d bytes", maxMeta, maxMetaSize)
	errCIDRList   = fault.New(fault.Invalid, "cidr_list must lie in the role's secret_id_bound_cidrs")
	errTokenCIDRs = fault.New(fault.Invalid, "token_bound_cidrs must lie in those of the role")
)

// secretID is the record of one secret ID, without the ID.
type secretID struct {
	Accessor   string            `json:"accessor"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	BoundCIDRs []netip.Prefix    `json:"cidr_list,omitempty"`
	TokenCIDRs []netip.Prefix    `json:"token_bound_cidrs,omitempty"`
	Limited    bool              `json:"limited,omitempty"`
	NumUses    int               `json:"num_uses,omitempty"` // left, if Limited
	TTL        time.Duration     `json:"ttl,omitempty"`
	Created    time.Time         `json:"created"`
	Updated    time.Time         `json:"updated"`
	Expires    time.Time         `json:"expires"` // zero: never
}

func (s *secretID) expired(now time.Time) bool { return !s.Expires.IsZero() && !now.Before(s.Expires) }

// kept is a secret ID with where it is kept.
type kept struct {
	secretID
	serial, digest string
}

func (k *kept) key() string { return secretPrefix + k.serial + "/" + k.digest }

func (k *kept) expiryKey() string {
	return fmt.Sprintf("%s%020d/%s/%s", expiryPrefix, k.Expires.Unix(), k.serial, k.digest)
}

// remove destroys a secret ID.
func (k *kept) remove(tx store.Tx) error {
	keys := []string{k.key(), accessorPrefix + k.serial + "/" + k.Accessor}
	if !k.Expires.IsZero() {
		keys = append(keys, k.expiryKey())
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// find returns a secret ID of a role; nil if there is none.
func find(r store.Reader, serial, digest string) (*kept, error) {
	k := &kept{serial: serial, digest: digest}
	s, err := engine.GetJSON[secretID](r, k.key())
	if err != nil || s == nil {
		return nil, err
	}
	k.secretID = *s
	return k, nil
}

func secretDigest(salt []byte, ro *role, id []byte) string {
	return engine.Digest(salt, "secret-id "+ro.Serial, id)
}

func secretRoutes() []engine.Route {
	const made = "metadata, cidr_list list, token_bound_cidrs list, num_uses int, ttl duration"
	const shown = "num_uses ttl cidr_list token_bound_cidrs secret_id_num_uses secret_id_ttl creation_time expiration_time last_updated_time"
	routes := []engine.Route{
		{
			Path: "role/{role}/secret-id", Ops: map[engine.Operation]engine.Handler{
				engine.List: engine.InView(listAccessors), engine.Update: engine.InUpdate(generate),
			},
			Summary: "make a secret ID; the accessors of all", Fields: made, Query: "after, limit int", Clear: shown,
		},
		{
			Path: "role/{role}/custom-secret-id", Ops: map[engine.Operation]engine.Handler{engine.Update: engine.InUpdate(choose)},
			Summary: "keep a secret ID that somebody chose", Fields: "secret_id, " + made, Clear: shown,
		},
	}
	for _, by := range []struct {
		path, field string
		of          finder
	}{
		{"secret-id", "secret_id", byID()},
		{"secret-id-accessor", "secret_id_accessor", byAccessor()},
	} {
		destroy := engine.InUpdate(by.of.destroy)
		routes = append(routes, engine.Route{
			Path: "role/{role}/" + by.path + "/lookup", Ops: map[engine.Operation]engine.Handler{engine.Update: engine.InView(by.of.lookup)},
			Summary: "what is known about a secret ID", Fields: by.field, Clear: shown,
		}, engine.Route{
			Path: "role/{role}/" + by.path + "/destroy", Ops: map[engine.Operation]engine.Handler{engine.Update: destroy, engine.Delete: destroy},
			Summary: "destroy a secret ID", Fields: by.field,
		})
	}
	return routes
}

func listAccessors(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, ro, err := needed(tx, r, errAbsent)
	if err != nil {
		return nil, err
	}
	return engine.Keys(tx, r, accessorPrefix+ro.Serial+"/")
}

func generate(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	id, err := uuid.New().MarshalText()
	if err != nil {
		return nil, err
	}
	return keep(tx, r, id)
}

func choose(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	id := r.Fields.Text("secret_id")
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	if len(id) == 0 || len(id) > maxID {
		return nil, errSecretID
	}
	return keep(tx, r, id)
}

// keep stores a new secret ID, and tells it.
func keep(tx engine.Tx, r *engine.Request, id []byte) (*engine.Response, error) {
	_, ro, err := needed(tx, r, errNoRole)
	if err != nil {
		return nil, err
	}
	s, err := ro.newSecretID(r)
	if err != nil {
		return nil, err
	}
	salt, err := engine.NeedSalt(tx)
	if err != nil {
		return nil, err
	}
	k := &kept{secretID: *s, serial: ro.Serial, digest: secretDigest(salt, ro, id)}
	old, err := find(tx, k.serial, k.digest)
	switch {
	case err != nil:
		return nil, err
	case old != nil && !old.expired(r.Now):
		return nil, errExists
	case old != nil:
		if err := old.remove(tx); err != nil {
			return nil, err
		}
	}
	if err := engine.PutJSON(tx, k.key(), s); err != nil {
		return nil, err
	}
	if err := tx.Put(accessorPrefix+k.serial+"/"+k.Accessor, []byte(k.digest)); err != nil {
		return nil, err
	}
	if !k.Expires.IsZero() {
		if err := tx.Put(k.expiryKey(), []byte("{}")); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(string(id))
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{
		"secret_id":          json.RawMessage(text),
		"secret_id_accessor": s.Accessor,
		"secret_id_num_uses": s.NumUses,
		"secret_id_ttl":      engine.Seconds(s.TTL),
	}, WrappedAccessor: s.Accessor, Own: [][]byte{text}}, nil
}

// newSecretID is what a request wants of a secret ID, within the bounds of the role.
func (ro *role) newSecretID(r *engine.Request) (*secretID, error) {
	f := r.Fields
	s := &secretID{Accessor: uuid.NewString(), Metadata: metadata(f), NumUses: ro.NumUses, TTL: ro.TTL, Created: r.Now.UTC(), Updated: r.Now.UTC()}
	s.BoundCIDRs, s.TokenCIDRs = engine.ReadCIDRs(f, "cidr_list"), engine.ReadCIDRs(f, "token_bound_cidrs")
	if f.Has("num_uses") {
		s.NumUses = engine.ReadUses(f, "num_uses")
	}
	if f.Has("ttl") {
		s.TTL = f.Duration("ttl")
	}
	switch {
	case f.Err() != nil:
		return nil, f.Err()
	case !ro.BindSecretID:
		return nil, errUnbound
	case ro.NumUses > 0 && (s.NumUses == 0 || s.NumUses > ro.NumUses):
		return nil, errManyUses
	case ro.TTL > 0 && (s.TTL == 0 || s.TTL > ro.TTL):
		return nil, errLongTTL
	case !liesIn(s.BoundCIDRs, ro.BoundCIDRs):
		return nil, errCIDRList
	case !liesIn(s.TokenCIDRs, ro.Token.BoundCIDRs):
		return nil, errTokenCIDRs
	}
	s.Limited = s.NumUses > 0
	if s.TTL > 0 {
		s.Expires = s.Created.Add(s.TTL)
	}
	return s, nil
}

// metadata reads the one field that clients send as JSON in a string.
func metadata(f *body.Fields) map[string]string {
	pairs := make(map[string]string)
	if raw := f.Find("metadata"); raw != nil && raw[0] == '"' && bytes.HasPrefix(bytes.TrimSpace(f.Text("metadata")), []byte("{")) {
		object, err := body.Decode(f.Text("metadata"), false)
		for _, name := range object.Names() {
			pairs[name] = object.Str(name)
		}
		if err != nil || object.Err() != nil {
			f.Fail(errMeta)
		}
	} else {
		pairs = f.Pairs("metadata")
	}
	size := 0
	for name, value := range pairs {
		size += len(name) + len(value)
	}
	if len(pairs) > maxMeta || size > maxMetaSize {
		f.Fail(errMeta)
	}
	return pairs
}

// liesIn reports whether every network lies in one of some others. Where those are none, every network does.
func liesIn(inner, outer []netip.Prefix) bool {
	return len(outer) == 0 || len(common(inner, outer)) == len(inner)
}

// common is what of some networks lies in others.
func common(list, outer []netip.Prefix) []netip.Prefix {
	var in []netip.Prefix
	for _, p := range list {
		for _, o := range outer {
			if o.Bits() <= p.Bits() && o.Contains(p.Addr()) {
				in = append(in, p)
				break
			}
		}
	}
	return in
}

// finder answers the requests about one secret ID.
type finder struct {
	find   func(tx store.Reader, f *body.Fields, ro *role) (*kept, error) // nil if the role has none such
	absent engine.Response
}

func byID() finder {
	return finder{find: func(tx store.Reader, f *body.Fields, ro *role) (*kept, error) {
		id := f.Text("secret_id")
		if len(id) == 0 || len(id) > maxID {
			return nil, errSecretID
		}
		salt, err := engine.Salt(tx)
		if err != nil {
			return nil, err
		}
		return find(tx, ro.Serial, secretDigest(salt, ro, id))
	}}
}

func byAccessor() finder {
	return finder{
		find: func(tx store.Reader, f *body.Fields, ro *role) (*kept, error) {
			accessor, err := uuid.Parse(f.Str("secret_id_accessor"))
			if err != nil {
				return nil, errAccessor
			}
			digest, err := engine.Get(tx, accessorPrefix+ro.Serial+"/"+accessor.String())
			if err != nil || digest == nil {
				return nil, err
			}
			return find(tx, ro.Serial, string(digest))
		},
		absent: engine.Response{NotFound: true, Data: map[string]any{"error": "the role has no secret ID with this accessor"}},
	}
}

// look returns the role's secret ID that a request names; nil if there is none, or none that is still in force.
func (by finder) look(tx store.Reader, r *engine.Request) (*kept, error) {
	_, ro, err := needed(tx, r, errNoRole)
	if err != nil {
		return nil, err
	}
	k, err := by.find(tx, r.Fields, ro)
	switch {
	case r.Fields.Err() != nil:
		return nil, r.Fields.Err()
	case err != nil || k == nil || k.expired(r.Now):
		return nil, err
	}
	return k, nil
}

func (by finder) lookup(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	k, err := by.look(tx, r)
	if err != nil {
		return nil, err
	}
	if k == nil {
		resp := by.absent
		return &resp, nil
	}
	meta := k.Metadata
	if meta == nil {
		meta = map[string]string{}
	}
	return &engine.Response{Data: map[string]any{
		"secret_id_accessor": k.Accessor,
		"secret_id_num_uses": k.NumUses,
		"secret_id_ttl":      engine.Seconds(k.TTL),
		"creation_time":      k.Created,
		"last_updated_time":  k.Updated,
		"expiration_time":    k.Expires,
		"metadata":           meta,
		"cidr_list":          engine.CIDRTexts(k.BoundCIDRs),
		"token_bound_cidrs":  engine.CIDRTexts(k.TokenCIDRs),
	}}, nil
}

func (by finder) destroy(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	k, err := by.look(tx, r)
	if err != nil {
		return nil, err
	}
	if k == nil {
		resp := by.absent
		return &resp, nil
	}
	return &engine.Response{}, k.remove(tx)
}
