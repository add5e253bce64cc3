package ceremony

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

// Callers of the tables below. Token t owns the attempts that a token started; holder 4 those that a holder did.
var callers = map[string]Caller{
	"nobody":             {},
	"local":              {Local: true},
	"open":               {Anyone: true},
	"t":                  {Token: "t"},
	"t's child":          {Token: "child"},
	"u":                  {Token: "u"},
	"allowed":            {Token: "u", TokenAllowed: true},
	"allowed, no token":  {TokenAllowed: true},
	"holder 1":           {Slot: 1},
	"holder 4":           {Slot: 4},
	"holder 6 of 5":      {Slot: 6},
	"holder -1":          {Slot: -1},
	"local u":            {Local: true, Token: "u"},
	"local t":            {Local: true, Token: "t"},
	"local holder 1":     {Local: true, Slot: 1},
	"open holder 1":      {Anyone: true, Slot: 1},
	"holder 1, u":        {Slot: 1, Token: "u"},
	"holder 1, t":        {Slot: 1, Token: "t"},
	"holder 4, u":        {Slot: 4, Token: "u"},
	"holder 1, allowed":  {Slot: 1, Token: "u", TokenAllowed: true},
	"holder 6, local":    {Slot: 6, Local: true},
	"everything but one": {Local: true, Anyone: true, Token: "u"},
}

// outcome is one row: whose call brings what; all the other callers get rest.
type outcome struct {
	by        Initiator
	approvals []int
	callers   map[string]string // :: what happens → callers, separated by commas
	rest      string
}

// of finds what the row says about a caller.
func (o outcome) of(t *testing.T, caller string) string {
	t.Helper()
	result := o.rest
	for what, names := range o.callers {
		for name := range strings.SplitSeq(names, ", ") {
			name = strings.ReplaceAll(name, " + ", ", ")
			if _, known := callers[name]; !known {
				t.Fatalf("no caller %q", name)
			}
			if name == caller {
				result = what
			}
		}
	}
	return result
}

var (
	byLocal   = Initiator{By: ByLocal, Connection: true}
	byAnyone  = Initiator{By: ByAnyone, Connection: true}
	byT       = Initiator{By: ByToken, Token: "t"}
	byTLocal  = Initiator{By: ByToken, Token: "t", Connection: true}
	byT4      = Initiator{By: ByToken, Token: "t", Slot: 4}
	byHolder4 = Initiator{By: ByHolder, Slot: 4}
)

const denied = "denied"

var cancels = []outcome{
	// What a local connection started, any other ends, whoever has approved; what anyone started, anyone, until then.
	{byLocal, nil, map[string]string{denied: "nobody, open, t, t's child, u, allowed + no token, holder 6 of 5, holder -1"}, "ends"},
	{byAnyone, nil, map[string]string{denied: "nobody, t, t's child, u, allowed + no token, holder 6 of 5, holder -1"}, "ends"},
	{byLocal, []int{1, 2}, map[string]string{
		denied:    "nobody, open, t, t's child, u, allowed + no token, holder 6 of 5, holder -1",
		"objects": "holder 1, holder 4, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u",
	}, "ends"},
	{byLocal, []int{1}, map[string]string{
		denied:    "nobody, open, t, t's child, u, allowed + no token, holder 6 of 5, holder -1",
		"objects": "holder 4, holder 4 + u",
	}, "ends"},
	{byAnyone, []int{1, 2}, map[string]string{
		denied:    "nobody, open, t, t's child, u, allowed + no token, holder 6 of 5, holder -1",
		"objects": "holder 1, holder 4, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u",
	}, "ends"},
	// What a token started belongs to it; local doesn't help.
	{byT, nil, map[string]string{
		"ends": "t, local t, allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, denied},
	{byT, []int{1}, map[string]string{
		"ends":    "t, local t, allowed, holder 1, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 1 + allowed",
		"objects": "holder 4, holder 4 + u",
	}, denied},
	{byT, []int{1, 4}, map[string]string{
		"ends":    "t, local t, allowed, holder 1 + t, holder 1 + allowed",
		"objects": "holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 4 + u",
	}, denied},
	// Who proved a share at the start has started it, even if a token owns it.
	{byT4, []int{1, 2}, map[string]string{
		"ends":    "t, local t, allowed, holder 4, holder 4 + u, holder 1 + t, holder 1 + allowed",
		"objects": "holder 1, local holder 1, open holder 1, holder 1 + u",
	}, denied},
	// What a holder started.
	{byHolder4, nil, map[string]string{
		"ends": "allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, denied},
	{byHolder4, []int{4}, map[string]string{
		"ends":    "allowed, holder 4, holder 4 + u, holder 1 + allowed",
		"objects": "holder 1, local holder 1, open holder 1, holder 1 + u, holder 1 + t",
	}, denied},
	{byHolder4, []int{1}, map[string]string{
		"ends": "allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, denied},
	{byHolder4, []int{2, 3}, map[string]string{
		"ends":    "allowed, holder 4, holder 4 + u, holder 1 + allowed",
		"objects": "holder 1, local holder 1, open holder 1, holder 1 + u, holder 1 + t",
	}, denied},
}

func TestCancel(t *testing.T) {
	q := newQuorum(5, 1)
	for _, row := range cancels {
		for name, caller := range callers {
			want := row.of(t, name)
			t.Run(fmt.Sprintf("%s %d approved by %v: %s", row.by.By, row.by.Slot, row.approvals, name), func(t *testing.T) {
				a := started(row.by)
				q.approve(t, a, epoch, row.approvals...)
				before := stored(t, a)
				got := cancelOutcome(t, a, caller)
				if got != want {
					t.Fatalf("%s, want %s", got, want)
				}
				if got == denied && stored(t, a) != before {
					t.Error("who has no authority changed the attempt")
				}
				if a.Progress() != len(row.approvals) {
					t.Errorf("progress %d", a.Progress())
				}
			})
		}
	}
}

// cancelOutcome cancels and checks that the answer and the attempt say the same.
func cancelOutcome(t *testing.T, a *Attempt, c Caller) string {
	t.Helper()
	err := a.Cancel(c, epoch)
	ended, objected := a.Ended(epoch), len(a.Objections) > 0
	switch {
	case err == nil && ended && a.Outcome == Cancelled:
		return "ends"
	case errors.Is(err, ErrObjection) && !ended && objected:
		return "objects"
	case fault.As(err) != nil && fault.As(err).Kind == fault.Denied && !ended && !objected:
		return denied
	}
	t.Fatalf("the answer is %v, but the attempt: ended %v, objections %v", err, ended, a.Objections)
	return ""
}

func TestDenialsSayHowToGetAuthority(t *testing.T) {
	if start := (Caller{}).MayStart(); start == nil || !strings.Contains(start.Error(), "a signature made with one") {
		t.Errorf("%v; it doesn't name the signature", start)
	}
	for _, by := range []Initiator{byLocal, byAnyone, byT, byHolder4} {
		err := started(by).Cancel(Caller{}, epoch)
		for _, way := range []string{"key share in the field 'key'", "a signature made with one", "whose policy allows it"} {
			if err == nil || !strings.Contains(err.Error(), way) {
				t.Errorf("%s: %v; it doesn't say: %s", by.By, err, way)
			}
		}
		enough := by.By == ByLocal || by.By == ByAnyone
		if strings.Contains(err.Error(), "local connection") != enough {
			t.Errorf("%s: %v; but is a local connection enough? %v", by.By, err, enough)
		}
		if strings.Contains(err.Error(), "2dbd10f1") {
			t.Errorf("%s: the denial tells the nonce", by.By)
		}
	}
}

// One holder can't block the others: n-t+1 distinct ones end what fewer only object to.
func TestObjections(t *testing.T) {
	for _, c := range []struct{ n, t, need int }{{5, 3, 3}, {5, 4, 2}, {3, 2, 2}, {7, 2, 6}} {
		q, p := newQuorum(c.n, 1), params()
		p.Holders, p.Threshold = c.n, c.t
		a := New(p)
		q.approve(t, a, epoch, c.n)
		for slot := 1; slot < c.need; slot++ {
			if err := a.Cancel(Caller{Slot: slot}, epoch); !errors.Is(err, ErrObjection) {
				t.Fatalf("%+v: objection %d: %v", c, slot, err)
			}
			unchanged(t, a, func() {
				if err := a.Cancel(Caller{Slot: slot}, epoch); !errors.Is(err, ErrObjection) {
					t.Errorf("%+v: objecting again: %v", c, err)
				}
			})
		}
		if a.Ended(epoch) || len(a.Objections) != c.need-1 {
			t.Fatalf("%+v: ended after objections %v", c, a.Objections)
		}
		if err := a.Cancel(Caller{Slot: c.need}, epoch); err != nil || a.Outcome != Cancelled {
			t.Errorf("%+v: the last objection: %v", c, err)
		}
	}
}

// Where all must agree, one objection is enough.
func TestOneObjectionAgainstUnanimity(t *testing.T) {
	q, p := newQuorum(3, 1), params()
	p.Holders, p.Threshold = 3, 3
	a := New(p)
	q.approve(t, a, epoch, 1, 2)
	if err := a.Cancel(Caller{Slot: 3}, epoch); err != nil || a.Outcome != Cancelled {
		t.Error(err)
	}
}

func TestObjectionsDoNotStopApprovals(t *testing.T) {
	q, a := newQuorum(5, 1), started(byHolder4)
	q.approve(t, a, epoch, 4)
	for _, slot := range []int{1, 2} {
		if err := a.Cancel(Caller{Slot: slot}, epoch); !errors.Is(err, ErrObjection) {
			t.Fatal(err)
		}
	}
	if !q.approve(t, a, epoch, 2, 3) { // 2 has been convinced
		t.Error("the quorum is there, objections or not")
	}
}

// An objection is no approval, and doesn't keep an idle attempt alive.
func TestObjectionsDoNotKeepAlive(t *testing.T) {
	q, a := newQuorum(5, 1), started(byHolder4)
	q.approve(t, a, epoch, 4)
	if err := a.Cancel(Caller{Slot: 1}, epoch.Add(59*time.Minute)); !errors.Is(err, ErrObjection) {
		t.Fatal(err)
	}
	if !a.Ended(epoch.Add(time.Hour)) {
		t.Error("the objection kept it alive")
	}
}

const (
	now   = "gives way"
	later = "after 5 minutes"
	never = "stays"
)

var starts = []outcome{
	{byLocal, nil, map[string]string{
		now: "allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, never},
	{byAnyone, nil, map[string]string{
		now: "allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, never},
	// A live token that no policy allows anything owns what it started over a local connection, and strengthens nothing.
	{byTLocal, nil, map[string]string{
		now: "allowed, holder 1, holder 4, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 4 + u, holder 1 + allowed",
	}, never},
	{byTLocal, []int{1}, nil, never},
	{byLocal, []int{1}, nil, never},
	{byAnyone, []int{4}, nil, never},
	// A token's attempt gives way to nobody before its time: another token may cancel it, in the open. Nobody has
	// approved it, so after 5 minutes it has ended for all.
	{byT, nil, nil, never},
	{byT, []int{1}, nil, never},
	{byT4, nil, nil, never},
	{byT4, []int{4}, map[string]string{
		later: "holder 1, local holder 1, open holder 1, holder 1 + u, holder 1 + t, holder 1 + allowed",
	}, never},
	{byT4, []int{4, 1}, nil, never},
	{byHolder4, nil, map[string]string{now: "allowed, holder 1 + allowed"}, never},
	{byHolder4, []int{4}, map[string]string{
		now:   "allowed, holder 1 + allowed",
		later: "holder 1, local holder 1, open holder 1, holder 1 + u, holder 1 + t",
	}, never},
	{byHolder4, []int{1}, nil, never},
	{byHolder4, []int{4, 1}, nil, never},
}

func TestGivesWay(t *testing.T) {
	q := newQuorum(5, 1)
	for _, row := range starts {
		for name, caller := range callers {
			want := row.of(t, name)
			t.Run(fmt.Sprintf("%s %d approved by %v: %s", row.by.By, row.by.Slot, row.approvals, name), func(t *testing.T) {
				a := started(row.by)
				q.approve(t, a, epoch, row.approvals...)
				unchanged(t, a, func() {
					deadline := epoch.Add(5 * time.Minute)
					for _, early := range []time.Time{epoch, deadline.Add(-time.Millisecond)} {
						if got := a.GivesWay(caller, early); got != (want == now) {
							t.Errorf("%v after the start: %v", early.Sub(epoch), got)
						}
					}
					expired := len(row.approvals) == 0
					if got := a.GivesWay(caller, deadline); got != (want != never || expired) {
						t.Errorf("5 minutes after the start: %v", got)
					}
				})
			})
		}
	}
}

func TestEndedAttemptGivesWay(t *testing.T) {
	q := newQuorum(5, 1)
	complete, cancelled, idle := started(byT), started(byT), started(byT)
	q.approve(t, complete, epoch, 1, 2, 3)
	q.approve(t, idle, epoch, 1, 2)
	if err := cancelled.Cancel(callers["t"], epoch); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Attempt{complete, cancelled} {
		if !a.GivesWay(Caller{}, epoch) {
			t.Errorf("%s, but in the way", a.Outcome)
		}
	}
	if idle.GivesWay(callers["local"], epoch.Add(time.Hour-time.Millisecond)) || !idle.GivesWay(callers["local"], epoch.Add(time.Hour)) {
		t.Error("an idle attempt gives way at its deadline, not before")
	}
}

func TestMayStart(t *testing.T) {
	for name, caller := range callers {
		want := strings.Contains(name, "local") || strings.Contains(name, "open") || strings.Contains(name, "holder") ||
			name == "allowed" || name == "everything but one"
		if name == "holder -1" {
			want = false
		}
		err := caller.MayStart()
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			continue
		}
		if f := fault.As(err); f == nil || f.Kind != fault.Denied {
			t.Errorf("%s: %v isn't a denial", name, err)
		}
		for _, way := range []string{"policy allows", "'key'", "local connection"} {
			if !strings.Contains(err.Error(), way) {
				t.Errorf("%s: %v; it doesn't say: %s", name, err, way)
			}
		}
	}
}

func TestInitiator(t *testing.T) {
	for name, want := range map[string]Initiator{
		"local":              {By: ByLocal, Connection: true},
		"open":               {By: ByAnyone, Connection: true},
		"t":                  {By: ByToken, Token: "t", Connection: true},
		"t's child":          {By: ByToken, Token: "child", Connection: true},
		"holder 4":           {By: ByHolder, Slot: 4},
		"local u":            {By: ByToken, Token: "u", Connection: true},
		"local holder 1":     {By: ByHolder, Slot: 1},
		"open holder 1":      {By: ByHolder, Slot: 1},
		"holder 4, u":        {By: ByToken, Token: "u", Slot: 4},
		"holder 1, allowed":  {By: ByToken, Token: "u", Slot: 1},
		"everything but one": {By: ByToken, Token: "u", Connection: true},
	} {
		if got := callers[name].Initiator(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if got := (Caller{Local: true, Anyone: true}).Initiator(); got.By != ByLocal {
		t.Errorf("a local connection to an open listener is %s", got.By)
	}
}
