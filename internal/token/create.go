package token

import (
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// Limits of one token, so that its record stays small and a request reads few others to know whether it lives.
const (
	maxAncestors   = 32
	maxMeta        = 256      // entries
	maxMetaSize    = 64 << 10 // bytes of keys and values together
	maxDisplayName = 256      // bytes
)

// Spec is what a new token shall be, and what is known of who asks. The zero value, with a Path, asks for what the
// parent's policies give, for the default time.
type Spec struct {
	Path   string // the path of the request, which policies name and the record keeps: "auth/token/create"
	Orphan bool   // the path makes orphans: that the parent may use it is all the authority needed

	ID              []byte   // wanted ID; needs sudo on Path; stays the caller's
	Policies        []string // none: the parent's
	NoDefaultPolicy bool
	NoParent        bool // an orphan by a field of the request; needs sudo on Path
	NotRenewable    bool
	TTL             time.Duration
	ExplicitMaxTTL  time.Duration
	Period          time.Duration // needs sudo on Path
	NumUses         int           // 0 is no limit
	DisplayName     string
	Meta            map[string]string
	Type            string // "" or Service

	Sudo               bool                   // policies allow the parent sudo on Path
	Role               *Role                  // which the path names
	DefaultTTL, MaxTTL time.Duration          // of the mount of the path; 0: the server's
	Known              func(name string) bool // whether a policy exists; nil: nobody is warned
}

var (
	errParentLimited = fault.New(fault.Invalid,
		"a token with a limited number of uses can't create another: use one without that limit")
	errUses     = fault.New(fault.Invalid, "num_uses can't be negative: give 0 for no limit")
	errNegative = fault.New(fault.Invalid, "a duration can't be negative: leave out ttl, explicit_max_ttl or period instead")
	errBatch    = fault.New(fault.Invalid, "batch tokens aren't supported: leave out type, or set it to service")
	errType     = fault.New(fault.Invalid, "the token type isn't known: leave out type, or set it to service")
	errDepth    = fault.Newf(fault.Invalid,
		"the token would have over %d ancestors: create it with a token nearer to the root, or as an orphan", maxAncestors)
	errMeta = fault.Newf(fault.Invalid, "meta can have at most %d entries and %d bytes: shorten it", maxMeta, maxMetaSize)
	errName = fault.Newf(fault.Invalid, "display_name is over %d bytes: shorten it", maxDisplayName)

	errSudoID = fault.New(fault.Invalid,
		"only a root token, or one with sudo on this path, can choose an id: leave it out")
	errSudoOrphan = fault.New(fault.Invalid,
		"only a root token, or one with sudo on this path, can set no_parent: leave it out, or use auth/token/create-orphan")
	errSudoPeriod = fault.New(fault.Invalid,
		"only a root token, or one with sudo on this path, can set a period: leave it out")
	errDotID  = fault.New(fault.Invalid, "the id of a token can't have a dot in it: choose another")
	errExists = fault.New(fault.Invalid, "a token with this id exists: choose another, or revoke it first")

	errSubset      = fault.New(fault.Invalid, "the policies must be among those of the token that creates it: leave the others out")
	errRoot        = fault.New(fault.Invalid, "only a root token can create a root token: leave out the policy root")
	errWrapping    = fault.New(fault.Invalid, "the policy response-wrapping can't be given to a token: leave it out")
	errRootForever = fault.New(fault.Invalid,
		"a root token that expires can't create one that doesn't: give it a ttl")
)

// Create makes a token below parent (or an orphan, if spec says so) by the rules of the wire contract. It returns the ID,
// which is kept nowhere else, and what the caller should be warned of. Errors that are the caller's are faults.
func (t *Tokens) Create(tx store.Tx, parent *Entry, spec Spec) (id secret.Bytes, e *Entry, warnings []string, err error) {
	s, parent, err := t.parent(tx, parent)
	if err != nil {
		return id, nil, nil, err
	}
	if err := spec.check(); err != nil {
		return id, nil, nil, err
	}
	e = t.fresh("")
	if spec.Role != nil {
		spec.Role.apply(&spec)
		e.Role, e.BoundCIDRs = spec.Role.Name, spec.Role.BoundCIDRs
	}
	e.Path, e.Meta, e.DisplayName = spec.Path, spec.Meta, displayName(spec.DisplayName)
	e.NumUses, e.Limited = spec.NumUses, spec.NumUses > 0
	if e.Policies, err = spec.policies(parent); err != nil {
		return id, nil, nil, err
	}
	if len(e.BoundCIDRs) == 0 {
		e.BoundCIDRs = parent.BoundCIDRs // or what leaks outside could be made inside
	}
	if !spec.Orphan && !spec.NoParent {
		if e.Ancestors = parent.child(); len(e.Ancestors) > maxAncestors {
			return id, nil, nil, errDepth
		}
	}
	if warnings, err = t.bornWith(e, spec, parent); err != nil {
		return id, nil, nil, err
	}
	warnings = append(warnings, warnUnknown(e.Policies, spec.Known)...)
	if len(spec.ID) == 0 {
		id = NewID()
	} else {
		id = secret.Copy(spec.ID)
		warnings = append(warnings, "the token is as safe as the id that was chosen for it: better leave it out")
		err = t.vacate(tx, s, s.idMAC(id.Reveal()))
	}
	if err == nil {
		err = s.issue(tx, e, id)
	}
	if err != nil {
		id.Wipe()
		return secret.Bytes{}, nil, nil, err
	}
	return id, e, warnings, nil
}

// issue writes a new token with this ID.
func (s *snapshot) issue(tx store.Tx, e *Entry, id secret.Bytes) error {
	if e.Policies == nil {
		e.Policies = []string{} // as it will be read
	}
	e.Key = s.idMAC(id.Reveal())
	return s.insert(tx, e)
}

func warnUnknown(names []string, known func(string) bool) []string {
	if known == nil || !slices.ContainsFunc(names, func(name string) bool { return !known(name) }) {
		return nil
	}
	return []string{"some of the policies don't exist: the token has no rights from them until they do"}
}

// parent reads the creating token again, so that a child is never made by a token that died since it was read.
func (t *Tokens) parent(tx store.Tx, parent *Entry) (*snapshot, *Entry, error) {
	if parent.Limited {
		return nil, nil, errParentLimited
	}
	s, now, err := t.again(tx, parent)
	if err == nil && now == nil {
		err = ErrDead
	}
	return s, now, err
}

// vacate makes room at key for a token whose ID was chosen: a live token stays, what a dead one left goes.
func (t *Tokens) vacate(tx store.Tx, s *snapshot, key string) error {
	values, err := tx.Get(idPrefix + key)
	if err != nil {
		return err
	}
	e, err := t.alive(tx, s, key, values[0])
	if err != nil {
		return err
	}
	if e != nil {
		return errExists
	}
	return s.replace(tx, key, values[0])
}

// check refuses what can't be carried out whoever asks, and what needs sudo.
func (spec *Spec) check() error {
	switch {
	case spec.Type == "batch":
		return errBatch
	case spec.Type != "" && spec.Type != Service:
		return errType
	case spec.NumUses < 0:
		return errUses
	case min(spec.TTL, spec.ExplicitMaxTTL, spec.Period) < 0:
		return errNegative
	case len(spec.DisplayName) > maxDisplayName:
		return errName
	case spec.NoParent && !spec.Sudo:
		return errSudoOrphan
	case spec.Period > 0 && !spec.Sudo:
		return errSudoPeriod
	}
	if err := checkMeta(spec.Meta); err != nil {
		return err
	}
	return spec.checkID()
}

func checkMeta(meta map[string]string) error {
	size := 0
	for k, v := range meta {
		size += len(k) + len(v)
	}
	if len(meta) > maxMeta || size > maxMetaSize {
		return errMeta
	}
	return nil
}

func (spec *Spec) checkID() error {
	switch {
	case len(spec.ID) == 0:
		return nil
	case !spec.Sudo:
		return errSudoID
	case slices.Contains(spec.ID, '.'):
		return errDotID
	}
	return CheckID(spec.ID)
}

// policies are the new token's: normalised before anything is decided about them.
func (spec *Spec) policies(parent *Entry) ([]string, error) {
	names, err := policy.Normalize(spec.Policies)
	if err != nil {
		return nil, err
	}
	has := func(name string) bool { return slices.Contains(parent.Policies, name) }
	switch {
	case spec.Role != nil && spec.Role.choosesPolicies():
		if names, err = spec.Role.policies(names, parent.Policies, spec.NoDefaultPolicy); err != nil {
			return nil, err
		}
	case len(names) == 0:
		names = slices.Clone(parent.Policies)
		if spec.NoDefaultPolicy {
			names = withoutDefault(names)
		}
	case !spec.Sudo && slices.ContainsFunc(names, func(name string) bool { return !has(name) }):
		return nil, errSubset
	case !spec.NoDefaultPolicy && (spec.Sudo || has(policy.Default)):
		names = withDefault(names)
	}
	if slices.Contains(names, policy.Root) {
		if !has(policy.Root) {
			return nil, errRoot
		}
		return []string{policy.Root}, nil
	}
	if slices.Contains(names, policy.Wrapping) {
		return nil, errWrapping
	}
	return names, nil
}

func withDefault(names []string) []string {
	names = append(names, policy.Default)
	slices.Sort(names)
	return slices.Compact(names)
}

func withoutDefault(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == policy.Default })
}

// displayName is how a token made by a token is called: only letters, digits and hyphens of what was asked for.
func displayName(asked string) string {
	if asked == "" {
		return "token"
	}
	clean := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return c
		}
		return '-'
	}, "token-"+asked)
	return strings.TrimSuffix(clean, "-")
}
