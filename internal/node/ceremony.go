package node

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// Family says through which of the two documents' paths a root generation is driven. They share one slot, but an
// attempt started through one is not finished through the other: the reply would lose the token.
type Family string

const (
	RootGeneration Family = "root-generation" // seed 1: the caller's token ID becomes root
	GenerateRoot   Family = "generate-root"   // seed 2, generate-root-token, and the native API: OTP, PGP or age
)

// Credential is what a holder gives: a share, which is wiped, or a signature that they made at home.
type Credential struct {
	Share     secret.Bytes
	Slot      int
	Signature []byte
}

// Empty reports whether nothing was given.
func (c Credential) Empty() bool { return c.Share.Empty() && len(c.Signature) == 0 }

// Asker is who wants to start, cancel or read a result, as the wire saw them.
type Asker struct {
	Local      bool         // a local connection, where the listener counts that as authority
	Open       bool         // the listener lets anyone start
	Token      secret.Bytes // authority if live; empty for seed 1, where the token is data
	Path       string       // where policy is asked
	Credential              // given as authority
	SignedAt   time.Time    // of a start by signature
	Client     string       // where the request comes from: stored only as a pseudonym
	Addr       netip.Addr   // the same, for tokens that may be used only from some
}

// StartRequest is what a new attempt is for.
type StartRequest struct {
	Kind   ceremony.Kind
	Reason string
	TTL    time.Duration // of the attempt; 0: as configured

	// Of a root token. At most one of the first four is used; with none the server makes an OTP. An OTP wins over a
	// PGP key.
	OTP, PGPKey  []byte
	Age          string // recipients, separated by commas or line breaks
	TokenID      []byte // seed 1
	RootTokenTTL time.Duration

	Rekey  RekeyRequest // of a rekey or a rotation of the root key
	Labels []string     // of the ceremony that changes the holders' labels, in slot order
}

// RekeyRequest says what the next generation shall be.
type RekeyRequest struct {
	Shares, Threshold int
	Labels            []string // none, or one for each share
	PGPKeys           [][]byte // base64 of one binary public key for each share
	Age               []string // the recipients of each share
	Backup            bool     // encrypted shares are kept until they are deleted
	Verify            bool     // the new holders prove possession before the new shares come into force
	VerifyAll         bool     // all of them, not only a threshold
	Rotate            bool     // a new root key and a new term come with the commit
}

// Approver is one holder's consent on its way.
type Approver struct {
	Credential
	Client string
}

// Ceremony is one attempt as it may be shown, or, where none is open, what the next one will need.
type Ceremony struct {
	Kind     ceremony.Kind
	Attempt  *ceremony.Attempt // nil: none is open
	State    State
	Required int
	Labels   func(slot int) string // never nil

	Family         Family
	Recipient      delivery.Mode
	RecipientKey   string   // the full public key, or age recipients, of a root token
	RecipientKeys  []string // the same for each share of a rekey; read only for a single ceremony
	PGPFingerprint string
	OTP            string // only in the reply to a start, and only if the server made it
	OTPLength      int

	Rekey        *RekeyPlan
	Verification *Verification
	// EncodedToken and Keys are in the reply that completes, and in what is kept of it.
	EncodedToken  string
	Keys          [][]byte // in slot order: shares, or a PGP or age message with the hex text of each
	Encrypted     bool     // what Keys are
	ResultExpires time.Time
	Objected      bool // the cancel that this answers was only recorded as an objection
	SharedClient  bool // the approval that this answers came from where another one had come from

	Checkpoint []byte // the latest one of the transcript
}

// Wipe overwrites the shares that a reply carried.
func (c *Ceremony) Wipe() {
	if c == nil || c.Encrypted {
		return
	}
	for _, k := range c.Keys {
		clear(k)
	}
}

// State is how far a ceremony has come.
type State string

const (
	Idle      State = "idle" // there is none
	Open      State = "open"
	Verifying State = "verifying" // approved; the new holders prove possession
	Complete  State = "complete"
	Cancelled State = "cancelled"
	Expired   State = "expired"
)

// RekeyPlan is what a rekey decides, as its attempt keeps it.
type RekeyPlan struct {
	Shares       int      `json:"shares"`
	Threshold    int      `json:"threshold"`
	Labels       []string `json:"labels,omitempty"`
	Mode         string   `json:"mode,omitempty"` // of delivery; empty: the shares come in clear
	Fingerprints []string `json:"fingerprints,omitempty"`
	Backup       bool     `json:"backup,omitempty"`
	Verify       bool     `json:"verify,omitempty"`
	VerifyAll    bool     `json:"verify_all,omitempty"`
	Rotate       bool     `json:"rotate,omitempty"`
}

// Verification is how far the new holders have come in proving that they have their shares.
type Verification struct {
	Nonce      string              `json:"nonce"`
	Generation uint64              `json:"generation"`
	Required   int                 `json:"required"`
	Proofs     []ceremony.Approval `json:"proofs,omitempty"`
	Began      time.Time           `json:"began"`
	Wait       time.Duration       `json:"wait"` // for the next proof
}

// Deadline is when the verification ends if nobody proves anything.
func (v *Verification) Deadline() time.Time { return v.latest().Add(v.Wait) }

func (v *Verification) provedBy(slot int) bool {
	return slices.ContainsFunc(v.Proofs, func(p ceremony.Approval) bool { return p.Slot == slot })
}

// latest is when the latest holder proved possession.
func (v *Verification) latest() time.Time {
	t := v.Began
	for _, p := range v.Proofs {
		if p.At.After(t) {
			t = p.At
		}
	}
	return t
}

// kinds are all kinds of ceremony. Each has a slot of its own: one attempt at a time.
func kinds() []ceremony.Kind {
	return []ceremony.Kind{ceremony.RootToken, ceremony.Rekey, ceremony.RotateRoot, ceremony.Drill, ceremony.Holders}
}

var (
	ErrInProgress  = fault.New(fault.Invalid, "root generation already in progress: finish it, or cancel it first")
	ErrNotStarted  = fault.New(fault.Invalid, "no root generation in progress")
	ErrNonce       = fault.New(fault.Invalid, "incorrect nonce supplied: read the current one from the attempt's status, and make sure this is the attempt you mean to approve")
	errTokenIsData = fault.NeedsLocal("starting needs authority: give a key share in the field 'key' or a signature made with one, or use a local connection; " +
		"on this path the token in the header is only the ID that the new root token shall have")
	errNoTokenID = fault.New(fault.Invalid, "desired token must not be empty: send the ID that the new root token shall have in X-Vault-Token, or as a bearer token")
	// ErrNoCeremony answers a nonce that names none.
	ErrNoCeremony = fault.New(fault.NotFound, "no ceremony has this nonce: it never began, or it ended and nothing is kept of it; list the open ones")
	errKind       = fault.New(fault.Invalid, "the kind of ceremony is not known: use root-token, rekey, rotate-root, drill or holders")
)

// sentences are what clients of each kind look for.
type sentences struct{ inProgress, notStarted, duplicate *fault.Error }

func sentencesOf(k ceremony.Kind) sentences {
	switch k {
	case ceremony.RootToken:
		return sentences{ErrInProgress, ErrNotStarted, ceremony.ErrDuplicate}
	case ceremony.Rekey:
		return rekeySentences
	case ceremony.RotateRoot:
		return rotateSentences
	case ceremony.Drill:
		return drillSentences
	}
	return holdersSentences
}

var (
	rekeySentences = sentences{
		fault.New(fault.Invalid, "rekey already in progress: finish it, or cancel it first"),
		fault.New(fault.Invalid, "no barrier rekey in progress"),
		fault.New(fault.Invalid, "given key has already been provided during this rekey operation"),
	}
	rotateSentences = sentences{
		fault.New(fault.Invalid, "root key rotation already in progress: finish it, or cancel it first"),
		fault.New(fault.Invalid, "no rotation in progress"),
		fault.New(fault.Invalid, "given key has already been provided during this rotation operation"),
	}
	drillSentences = sentences{
		fault.New(fault.Invalid, "a drill is already in progress: finish it, or cancel it first"),
		fault.New(fault.Invalid, "no drill in progress"),
		fault.New(fault.Invalid, "this holder has already taken part in this drill"),
	}
	holdersSentences = sentences{
		fault.New(fault.Invalid, "a change of the holders' labels is already in progress: finish it, or cancel it first"),
		fault.New(fault.Invalid, "no change of the holders' labels in progress"),
		fault.New(fault.Invalid, "this holder has already approved this change of labels"),
	}
)

// said puts an error of the state machine into the words of its kind.
func said(k ceremony.Kind, err error) error {
	switch {
	case errors.Is(err, ceremony.ErrEnded):
		return sentencesOf(k).notStarted
	case errors.Is(err, ceremony.ErrDuplicate):
		return sentencesOf(k).duplicate
	}
	return err
}

// errOtherFamily sends an approval to where its attempt was started.
func errOtherFamily(f Family) error {
	return fault.Newf(fault.Invalid, "this root generation was started through the other path, sys/%s: send the share to sys/%[1]s/update", f)
}

// Identity is the cluster as ceremonies see it.
type Identity struct {
	ClusterID, ClusterName string
	Generation             uint64
	Threshold, Shares      int
	Retiring               bool
	Checkpoint             []byte
	VerifierKey            string // of the transcript
}

// Ceremonies lists the open ones, and says what cluster this is.
func (n *Node) Ceremonies(ctx context.Context) (list []*Ceremony, id Identity, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			list = nil
			rec, err := act.Record(r)
			if err != nil {
				return err
			}
			gen := rec.Generation()
			id = Identity{
				ClusterID: rec.ClusterID, ClusterName: rec.ClusterName, Generation: gen.Number, Threshold: gen.Threshold,
				Shares: gen.Shares, Retiring: rec.Retiring() != nil, VerifierKey: act.signer.VerifierKey(),
			}
			for _, kind := range kinds() {
				s, err := n.loadFor(r, rec, kind)
				if err != nil {
					return err
				}
				if s.open != nil {
					list = append(list, s.view())
				}
			}
			id.Checkpoint, err = checkpoint(r)
			return err
		})
	})
	return list, id, err
}

// CeremonyOf shows the ceremony in the slot of a kind; one in state Idle if there is none.
func (n *Node) CeremonyOf(ctx context.Context, kind ceremony.Kind) (c *Ceremony, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			s, err := n.load(act, r, kind)
			if err != nil {
				return err
			}
			c, err = s.whole(r)
			return err
		})
	})
	return c, err
}

// Ceremony shows the ceremony with a nonce, open or lately ended.
func (n *Node) Ceremony(ctx context.Context, nonce string) (c *Ceremony, err error) {
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			rec, err := act.Record(r)
			if err != nil {
				return err
			}
			s, err := n.find(r, rec, nonce)
			if errors.Is(err, ErrNoCeremony) {
				c, err = n.ended(r, rec, nonce)
				return err
			}
			if err != nil {
				return err
			}
			if c, err = s.whole(r); err == nil && s.dead != nil {
				c.State = Expired
			}
			return err
		})
	})
	return c, err
}

// find loads the slot whose open ceremony has the nonce; or one that is over, of which nobody has said so yet: then it
// stands in both places of the slot.
func (n *Node) find(r store.Reader, rec *seal.Record, nonce string) (*slot, error) {
	for _, kind := range kinds() {
		s, err := n.loadFor(r, rec, kind)
		if err != nil {
			return nil, err
		}
		if s.dead != nil && sameNonce(s.dead.Nonce, nonce) {
			s.open = s.dead
		}
		if s.open != nil && sameNonce(s.open.Nonce, nonce) {
			return s, nil
		}
	}
	return nil, ErrNoCeremony
}

// RootTokens lists the live root tokens with the ceremony that each came from.
func (n *Node) RootTokens(ctx context.Context, a Access) (list []*token.Entry, err error) {
	a.Capability = policy.Read
	err = n.View(ctx, a, func(c *Call) (err error) {
		list, err = c.Tokens.Roots(c.Tx)
		return err
	})
	return list, err
}

func checkpoint(r store.Reader) ([]byte, error) {
	text, err := transcript.Checkpoint(r)
	return slices.Clone(text), err
}

// labelsOf finds the labels of a generation's holders.
func labelsOf(g *seal.Generation) func(int) string {
	return func(slot int) string {
		if g == nil {
			return ""
		}
		return g.Label(slot)
	}
}
