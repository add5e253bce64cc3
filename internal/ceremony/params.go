package ceremony

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/fault"
)

// Kind says what a quorum is asked for.
type Kind string

const (
	RootToken  Kind = "root-token"  // a new root token
	Rekey      Kind = "rekey"       // new shares of a new unseal key
	RotateRoot Kind = "rotate-root" // the same, and a new root key
	Drill      Kind = "drill"       // nothing: all holders show that their shares work
	Holders    Kind = "holders"     // other labels for the holders
)

// Known reports whether k is one of the kinds above.
func (k Kind) Known() bool {
	switch k {
	case RootToken, Rekey, RotateRoot, Drill, Holders:
		return true
	}
	return false
}

// Parameter is one thing that a kind of ceremony has to know beyond what all have in common.
type Parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// sorted is a copy in the order in which parameters are hashed: by name, then by value.
func sorted(list []Parameter) []Parameter {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Parameter) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	return list
}

// Limits are how long an attempt may wait. A zero field stands for its default.
type Limits struct {
	Unapproved time.Duration `json:"unapproved"` // from the start, while nobody has approved
	Idle       time.Duration `json:"idle"`       // from the latest approval
	Total      time.Duration `json:"total"`      // from the start
}

// DefaultLimits are 5 minutes, 1 hour and 24 hours.
func DefaultLimits() Limits {
	return Limits{Unapproved: 5 * time.Minute, Idle: time.Hour, Total: 24 * time.Hour}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.Unapproved > 0 {
		d.Unapproved = l.Unapproved
	}
	if l.Idle > 0 {
		d.Idle = l.Idle
	}
	if l.Total > 0 {
		d.Total = l.Total
	}
	return d
}

// Params is what a start decides.
type Params struct {
	Nonce      string
	Kind       Kind
	ClusterID  string
	Generation uint64 // number of the generation whose holders approve
	Threshold  int    // a drill asks all Holders, whatever this says
	Holders    int
	Parameters []Parameter // in any order, names unique
	Recipient  string      // names to whom the result goes, without a guessable secret
	Reason     string
	Initiator  Initiator
	Limits     Limits
	TTL        time.Duration // above 0: of this attempt, instead of Limits.Total
	Now        time.Time
}

// limits are those of this attempt, in whole milliseconds. A drill waits for people who have no reason to hurry: only
// its total limit ends it.
func (p *Params) limits() Limits {
	l := p.Limits.orDefault()
	if p.TTL > 0 {
		l.Total = p.TTL
	}
	if p.Kind == Drill {
		l.Unapproved, l.Idle = l.Total, l.Total
	}
	return Limits{
		Unapproved: l.Unapproved.Truncate(time.Millisecond),
		Idle:       l.Idle.Truncate(time.Millisecond),
		Total:      l.Total.Truncate(time.Millisecond),
	}
}

// maxLine is the longest reason or label, in bytes.
const maxLine = 200

var errLine = fault.Newf(fault.Invalid, "a reason or label must be one line of at most %d bytes of UTF-8, "+
	"and every character must be visible: take out line breaks, tabs, control characters and superfluous blanks", maxLine)

// CheckLine is nil for what may be a reason or a label, the empty text included: people who decide must see all of
// it, in the order in which it is written. Otherwise it is a fault that doesn't repeat the text.
func CheckLine(s string) error {
	// Blanks at an end or in a row could push what follows to where a terminal shows it as a line of its own.
	if len(s) > maxLine || !utf8.ValidString(s) || strings.TrimSpace(s) != s || strings.Contains(s, "  ") {
		return errLine
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || r == '\u2800' {
			return errLine
		}
	}
	return nil
}
