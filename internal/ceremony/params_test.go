package ceremony

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
)

func TestKinds(t *testing.T) {
	for _, k := range []Kind{RootToken, Rekey, RotateRoot, Drill, Holders} {
		if !k.Known() {
			t.Errorf("%s isn't known", k)
		}
	}
	for _, k := range []Kind{"", "root", "Rekey", "drill ", "rotate_root", "root-token\x00"} {
		if k.Known() {
			t.Errorf("%q is known", k)
		}
	}
}

func TestParametersAreSorted(t *testing.T) {
	p := params()
	p.Parameters = []Parameter{{"b", "1"}, {"a", "3"}, {"holder.010", ""}, {"holder.002", ""}}
	before := slices.Clone(p.Parameters)
	a := New(p)
	want := []Parameter{{"a", "3"}, {"b", "1"}, {"holder.002", ""}, {"holder.010", ""}}
	if !slices.Equal(a.Parameters, want) {
		t.Errorf("got %v", a.Parameters)
	}
	if !slices.Equal(p.Parameters, before) {
		t.Error("the caller's parameters were changed")
	}
	p.Parameters[0].Value = "2"
	if a.Parameters[1].Value != "1" {
		t.Error("the parameters are shared with the caller")
	}
}

func TestParametersHaveOneNameEach(t *testing.T) {
	for _, list := range [][]Parameter{
		{{"a", "1"}, {"a", "2"}}, {{"a", "1"}, {"b", "1"}, {"a", "1"}}, {{"", ""}, {"", "x"}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v: two of one name are taken", list)
				}
			}()
			p := params()
			p.Parameters = list
			New(p)
		}()
	}
}

func TestTTL(t *testing.T) {
	configured := Limits{Unapproved: time.Minute, Idle: 2 * time.Minute, Total: time.Hour}
	const week = 7 * 24 * time.Hour
	for name, c := range map[string]struct {
		kind Kind
		ttl  time.Duration
		want Limits
	}{
		"as configured":     {RootToken, 0, configured},
		"negative":          {RootToken, -1, configured},
		"longer":            {Rekey, week, Limits{time.Minute, 2 * time.Minute, week}},
		"shorter":           {Holders, time.Second, Limits{time.Minute, 2 * time.Minute, time.Second}},
		"drill":             {Drill, week, Limits{week, week, week}},
		"drill, configured": {Drill, 0, Limits{time.Hour, time.Hour, time.Hour}},
		"below a ms":        {RootToken, time.Second + 999*time.Microsecond, Limits{time.Minute, 2 * time.Minute, time.Second}},
	} {
		p := params()
		p.Kind, p.TTL, p.Limits = c.kind, c.ttl, configured
		a := New(p)
		if a.Limits != c.want {
			t.Errorf("%s: %v, want %v", name, a.Limits, c.want)
		}
		if !a.Expires.Equal(epoch.Add(c.want.Total)) || !a.Deadline().Equal(epoch.Add(min(c.want.Unapproved, c.want.Total))) {
			t.Errorf("%s: expires %v, deadline %v", name, a.Expires, a.Deadline())
		}
	}
}

// A drill needs all holders, whatever the threshold of the generation, and waits for them.
func TestDrill(t *testing.T) {
	p := params()
	p.Kind, p.TTL, p.Recipient = Drill, 30*24*time.Hour, ""
	q, a := newQuorum(5, 1), New(p)
	if a.Threshold != 5 {
		t.Fatalf("threshold %d", a.Threshold)
	}
	for slot := 1; slot <= 5; slot++ {
		at := epoch.Add(time.Duration(slot)*5*24*time.Hour - time.Hour)
		if a.Ended(at) {
			t.Fatalf("over before holder %d came", slot)
		}
		if complete := q.approve(t, a, at, slot); complete != (slot == 5) {
			t.Errorf("complete %v after %d holders", complete, slot)
		}
	}
	late := New(p)
	q.approve(t, late, epoch.Add(29*24*time.Hour), 1)
	if end := epoch.Add(p.TTL); late.Ended(end.Add(-time.Millisecond)) || !late.Ended(end) || !late.Deadline().Equal(end) {
		t.Error("its end is elsewhere")
	}
}

func TestDeadlineMoves(t *testing.T) {
	q, a := newQuorum(5, 1), started(byLocal)
	for i, want := range []time.Duration{5 * time.Minute, 64 * time.Minute, 90 * time.Minute} {
		if i > 0 {
			q.approve(t, a, epoch.Add(want-time.Hour), i)
		}
		if got := a.Deadline().Sub(epoch); got != want {
			t.Errorf("after %d approvals: %v, want %v", i, got, want)
		}
	}
}

func TestClientIsNotSigned(t *testing.T) {
	q, a := newQuorum(5, 1), started(byLocal)
	for slot := 1; slot <= 3; slot++ {
		ap := q.by(a, slot)
		ap.Client = "c7"
		if _, err := a.Approve(ap, q.verifier, epoch); err != nil {
			t.Fatal(err)
		}
	}
	if a.Outcome != Complete || a.Approvals[2].Client != "c7" || a.ComputeDigest() != a.Digest {
		t.Errorf("outcome %q, client %q", a.Outcome, a.Approvals[2].Client)
	}
}

func TestCheckLine(t *testing.T) {
	for _, good := range []string{
		"", "lost every root token", "Schlüssel verloren – 鍵を失くした", "a b", "~!@#$%^&*()'\"\\", "🔑", "ﬁ", "שלום",
		strings.Repeat("x", 200), strings.Repeat("é", 100),
	} {
		if err := CheckLine(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"201 bytes": strings.Repeat("x", 201), "101 letters of two bytes": strings.Repeat("é", 101), "1 MiB": strings.Repeat("x", 1<<20),
		"not UTF-8": "a\xffb", "half a letter": "\xc3", "surrogate": "\xed\xa0\x80", "overlong": "\xc0\xaf",
		"line feed": "a\nb", "line feed at the end": "a\n", "carriage return": "a\rb", "tab": "a\tb", "NUL": "\x00", "escape": "\x1b[2J",
		"delete": "\x7f", "C1": "\u0085", "CSI": "\u009b31m", "line separator": "a\u2028b", "paragraph separator": "a\u2029b",
		"right-to-left override": "a\u202eb", "isolate": "\u2066a", "right-to-left mark": "a\u200f", "zero-width space": "a\u200bb",
		"zero-width joiner": "a\u200db", "soft hyphen": "a\u00adb", "byte order mark": "\ufeffa", "no-break space": "a\u00a0b",
		"em space": "a\u2003b", "blank at the end": "a ", "blank first": " a", "two blanks": "a  b", "only a blank": " ", "blank braille": "a\u2800b", "ideographic space": "a\u3000b", "Hangul filler": "a\u3164b", "grapheme joiner": "a\u034fb",
		"tag": "a\U000e0041b", "private use": "\ue000", "unassigned": "\U0003fffe", "noncharacter": "\uffff",
	} {
		f := fault.As(CheckLine(bad))
		if f == nil || f.Kind != fault.Invalid {
			t.Errorf("%s: %v, want a refusal", name, f)
		}
	}
}

func FuzzCheckLine(f *testing.F) {
	for _, s := range []string{"", "a b", "a\nb", "\u202e", "\xff", strings.Repeat("é", 101)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckLine(s) != nil {
			return
		}
		hidden := func(r rune) bool {
			return r < ' ' || r >= 0x7f && r <= 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f
		}
		if len(s) > 200 || strings.ToValidUTF8(s, "") != s || strings.ContainsFunc(s, hidden) {
			t.Errorf("%q is taken for a line", s)
		}
	})
}
