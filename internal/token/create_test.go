package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// TestRootProperties: wire reference 3.8.
func TestRootProperties(t *testing.T) {
	r := newRig(t)
	e := r.auth(r.Tokens, []byte("the-first-root-token"))
	want := &Entry{
		Key: r.root.Key, RecordID: r.root.RecordID, Accessor: r.root.Accessor, Orphan: true, Type: "service",
		Policies: []string{"root"}, Path: "auth/token/root", DisplayName: "root", Created: epoch, NeverExpires: true,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("root token\n%+v, want\n%+v", e, want)
	}
	if len(e.Accessor) != 24 || strings.ContainsFunc(e.Accessor, func(c rune) bool { return !strings.ContainsRune(secret.Base62, c) }) {
		t.Errorf("accessor has %d characters, or odd ones", len(e.Accessor))
	}
	if e.Remaining(epoch.AddDate(100, 0, 0)) != 0 || len(e.Lineage()) != 1 {
		t.Errorf("remaining %v, lineage %v", e.Remaining(epoch), e.Lineage())
	}
}

// TestEntryOfChild checks where each field of a lookup comes from.
func TestEntryOfChild(t *testing.T) {
	r := newRig(t)
	meta := map[string]string{"team": "a", "": "empty"}
	m := r.must(r.root, Spec{
		Policies: []string{" Dev ", "ops", "dev"}, TTL: time.Hour, ExplicitMaxTTL: 2 * time.Hour, NumUses: 7,
		DisplayName: "ci job/7!", Meta: meta, Type: "service",
	})
	e := r.auth(r.Tokens, m.id)
	want := &Entry{
		Key: m.Key, RecordID: m.RecordID, Accessor: m.Accessor, Type: "service",
		Ancestors: []Ancestor{{RecordID: r.root.RecordID, Key: r.root.Key}},
		Policies:  []string{"default", "dev", "ops"}, Path: "auth/token/create", DisplayName: "token-ci-job-7", Meta: meta,
		Created: epoch, Expires: epoch.Add(time.Hour), TTL: time.Hour, CreationTTL: time.Hour, ExplicitMaxTTL: 2 * time.Hour,
		Renewable: true, Limited: true, NumUses: 7,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("token\n%+v, want\n%+v", e, want)
	}
	if !reflect.DeepEqual(e, m.Entry) {
		t.Errorf("Create returned\n%+v, stored is\n%+v", m.Entry, e)
	}
	if got := e.Remaining(epoch.Add(20 * time.Minute)); got != 40*time.Minute {
		t.Errorf("remaining %v", got)
	}
	if got := e.Remaining(epoch.Add(20 * time.Hour)); got != 0 {
		t.Errorf("remaining %v after the end", got)
	}
}

// TestCreate is the rules of wire reference 5.2, those that make a token.
func TestCreate(t *testing.T) {
	type want struct {
		policies []string
		ttl      time.Duration // 0: never expires
		fixed    bool          // not renewable
		warnings int
		check    func(*Entry) bool
	}
	day := 24 * time.Hour
	root, def := []string{"root"}, []string{"default"}
	for _, test := range []struct {
		name   string
		parent string
		spec   Spec
		want   want
	}{
		{"RootWithoutPolicies", "root", Spec{}, want{policies: root, fixed: true}},
		{"RootWithTTL", "root", Spec{TTL: time.Hour}, want{policies: root, ttl: time.Hour}},
		{"RootWithExplicitMax", "root", Spec{ExplicitMaxTTL: time.Hour}, want{policies: root, ttl: time.Hour}},
		{"RootWithPeriod", "root", Spec{Period: time.Hour}, want{policies: root, ttl: time.Hour}},
		{"RootByName", "root", Spec{Policies: []string{"ROOT "}}, want{policies: root, fixed: true}},
		{"RootAmongOthers", "root", Spec{Policies: []string{"dev", "root"}}, want{policies: root, fixed: true}},
		{"RootOfMortalRoot", "mortal", Spec{TTL: time.Minute}, want{policies: root, ttl: time.Minute}},
		{"DefaultTTL", "root", Spec{Policies: def}, want{policies: def, ttl: 768 * time.Hour}},
		{"DefaultAdded", "root", Spec{Policies: []string{"dev"}}, want{policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"NoDefault", "root", Spec{Policies: []string{"dev"}, NoDefaultPolicy: true}, want{policies: []string{"dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"DefaultByNameStays", "root", Spec{Policies: def, NoDefaultPolicy: true}, want{policies: def, ttl: 768 * time.Hour}},
		{"Inherited", "dev", Spec{}, want{policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"InheritedWithoutDefault", "dev", Spec{NoDefaultPolicy: true}, want{policies: []string{"dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"Subset", "dev", Spec{Policies: []string{"DEFAULT"}}, want{policies: def, ttl: 768 * time.Hour}},
		{"SubsetGetsDefault", "dev", Spec{Policies: []string{"dev"}}, want{policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"NoDefaultToGive", "bare", Spec{Policies: []string{"dev"}}, want{policies: []string{"dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"NoPolicyAtAll", "default", Spec{NoDefaultPolicy: true}, want{policies: nil, ttl: 768 * time.Hour}},
		{"TTLCut", "root", Spec{Policies: def, TTL: 1000 * day}, want{policies: def, ttl: 768 * time.Hour, warnings: 1}},
		{"TTLCutByExplicitMax", "root", Spec{Policies: def, TTL: 2 * day, ExplicitMaxTTL: day}, want{policies: def, ttl: day, warnings: 1}},
		{"ExplicitMaxCut", "root", Spec{Policies: def, TTL: day, ExplicitMaxTTL: 1000 * day}, want{
			policies: def, ttl: day, warnings: 1,
			check: func(e *Entry) bool { return e.ExplicitMaxTTL == 768*time.Hour },
		}},
		{"HugeTTL", "root", Spec{Policies: def, TTL: 1<<63 - 1}, want{policies: def, ttl: 768 * time.Hour, warnings: 1}},
		{"DefaultTTLOfMount", "root", Spec{Policies: def, DefaultTTL: day}, want{policies: def, ttl: day}},
		{"DefaultOverMaxOfMount", "root", Spec{Policies: def, DefaultTTL: day, MaxTTL: time.Hour}, want{policies: def, ttl: time.Hour, warnings: 0}},
		{"LongerMaxOfMount", "root", Spec{Policies: def, TTL: 1000 * day, MaxTTL: 900 * day}, want{policies: def, ttl: 900 * day, warnings: 1}},
		{"MoreBySudo", "dev", Spec{Sudo: true, Policies: []string{"ops"}}, want{policies: []string{"default", "ops"}, ttl: 768 * time.Hour, warnings: 1}},
		{"DefaultBySudo", "bare", Spec{Sudo: true, Policies: []string{"dev"}}, want{policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1}},
		{"PeriodBySudo", "dev", Spec{Sudo: true, Policies: def, Period: day}, want{policies: def, ttl: day}},
		{"NotRenewable", "root", Spec{Policies: def, NotRenewable: true}, want{policies: def, ttl: 768 * time.Hour, fixed: true}},
		{"PeriodBeatsTTL", "root", Spec{Policies: def, Period: day, TTL: time.Hour}, want{policies: def, ttl: day}},
		{"PeriodCut", "root", Spec{Policies: def, Period: 1000 * day}, want{policies: def, ttl: 768 * time.Hour, warnings: 1}},
		{"PeriodUnderExplicitMax", "root", Spec{Policies: def, Period: day, ExplicitMaxTTL: time.Hour}, want{policies: def, ttl: time.Hour, warnings: 1}},
		{"PeriodicMayOutliveTheMaximum", "root", Spec{Policies: def, Period: day, ExplicitMaxTTL: 1000 * day}, want{
			policies: def, ttl: day,
			check: func(e *Entry) bool { return e.ExplicitMaxTTL == 1000*day },
		}},
		{"NoParent", "root", Spec{Policies: def, NoParent: true}, want{
			policies: def, ttl: 768 * time.Hour, check: func(e *Entry) bool { return e.Orphan },
		}},
		{"OrphanPath", "dev", Spec{Path: "auth/token/create-orphan", Orphan: true, Policies: def}, want{
			policies: def, ttl: 768 * time.Hour,
			check: func(e *Entry) bool { return e.Orphan && e.Path == "auth/token/create-orphan" },
		}},
		{"DisplayNameOfJunk", "dev", Spec{DisplayName: "é\x00/"}, want{
			policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1,
			check: func(e *Entry) bool { return e.DisplayName == "token---" },
		}},
		{"NoDisplayName", "dev", Spec{}, want{
			policies: []string{"default", "dev"}, ttl: 768 * time.Hour, warnings: 1,
			check: func(e *Entry) bool { return e.DisplayName == "token" },
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			m, err := r.create(r.parents()[test.parent], test.spec)
			if err != nil {
				t.Fatal(err)
			}
			w := test.want
			if !slices.Equal(m.Policies, w.policies) || m.TTL != w.ttl || m.CreationTTL != w.ttl || m.NeverExpires != (w.ttl == 0) ||
				m.Renewable == w.fixed || len(m.warnings) != w.warnings {
				t.Errorf("policies %q, ttl %v, renewable %v, warnings %q; want %+v", m.Policies, m.TTL, m.Renewable, m.warnings, w)
			}
			if !m.NeverExpires && !m.Expires.Equal(epoch.Add(w.ttl)) {
				t.Errorf("expires %v", m.Expires)
			}
			if w.check != nil && !w.check(m.Entry) {
				t.Errorf("odd entry %+v", m.Entry)
			}
			if len(m.id) != 24 || !bytes.HasPrefix(m.id, []byte("q.")) || !r.lives(m) {
				t.Errorf("ID of %d bytes, alive %v", len(m.id), r.lives(m))
			}
		})
	}
}

// parents are the kinds of tokens that create others.
func (r *rig) parents() map[string]*Entry {
	return map[string]*Entry{
		"root":    r.root,
		"mortal":  r.must(r.root, Spec{TTL: time.Hour}).Entry,
		"dev":     r.must(r.root, Spec{Policies: []string{"dev"}}).Entry,
		"bare":    r.must(r.root, Spec{Policies: []string{"dev"}, NoDefaultPolicy: true}).Entry,
		"default": r.must(r.root, Spec{Policies: []string{"default"}}).Entry,
		"limited": r.must(r.root, Spec{NumUses: 5}).Entry,
	}
}

// TestCreateRefuses is the rules of wire reference 5.2, those that make none. A refusal leaves the store as it was.
func TestCreateRefuses(t *testing.T) {
	tooMuchMeta := map[string]string{}
	for i := range maxMeta + 1 {
		tooMuchMeta[fmt.Sprint(i)] = ""
	}
	long := []byte("a-long-id-of-somebody")
	for _, test := range []struct {
		name   string
		parent string
		spec   Spec
		want   error
	}{
		{"ByLimitedParent", "limited", Spec{}, errParentLimited},
		{"NegativeUses", "root", Spec{NumUses: -1}, errUses},
		{"NegativeTTL", "root", Spec{TTL: -1}, errNegative},
		{"NegativeExplicitMax", "root", Spec{ExplicitMaxTTL: -time.Hour}, errNegative},
		{"NegativePeriod", "root", Spec{Period: -time.Hour}, errNegative},
		{"Batch", "root", Spec{Type: "batch"}, errBatch},
		{"UnknownType", "root", Spec{Type: "Service"}, errType},
		{"MoreThanTheParent", "dev", Spec{Policies: []string{"dev", "ops"}}, errSubset},
		{"DefaultThatTheParentLacks", "bare", Spec{Policies: []string{"dev", "default"}}, errSubset},
		{"RootByOther", "dev", Spec{Policies: []string{"root"}}, errSubset},
		{"RootByOtherInCapitals", "dev", Spec{Policies: []string{" RooT\t"}}, errSubset},
		{"RootBySudo", "dev", Spec{Sudo: true, Policies: []string{"root"}}, errRoot},
		{"WrappingBySudo", "dev", Spec{Sudo: true, Policies: []string{"response-wrapping"}}, errWrapping},
		{"Wrapping", "root", Spec{Policies: []string{"Response-Wrapping"}}, errWrapping},
		{"WrappingByOther", "dev", Spec{Policies: []string{"response-wrapping"}}, errSubset},
		{"EndlessRootOfMortalRoot", "mortal", Spec{}, errRootForever},
		{"EndlessOrphanRootOfMortalRoot", "mortal", Spec{NoParent: true}, errRootForever},
		{"OddPolicy", "root", Spec{Policies: []string{"a b"}}, nil},
		{"EmptyPolicy", "root", Spec{Policies: []string{""}}, nil},
		{"NoParentWithoutSudo", "dev", Spec{NoParent: true}, errSudoOrphan},
		{"PeriodWithoutSudo", "dev", Spec{Period: time.Hour}, errSudoPeriod},
		{"IDWithoutSudo", "dev", Spec{ID: long}, errSudoID},
		{"IDWithDot", "root", Spec{ID: []byte("a-long-id.of-somebody")}, errDotID},
		{"IDOfOurForm", "root", Spec{ID: NewID().Reveal()}, errDotID},
		{"IDOfOtherForm", "root", Spec{ID: []byte("hvs.0123456789abcdefghijklmn")}, errDotID},
		{"ShortID", "root", Spec{ID: []byte("fifteen-letters")}, errShortID},
		{"IDWithSpace", "root", Spec{ID: []byte("a long id of somebody")}, errOddID},
		{"HugeID", "root", Spec{ID: bytes.Repeat([]byte("x"), MaxID+1)}, errLongID},
		{"LongDisplayName", "root", Spec{DisplayName: strings.Repeat("n", maxDisplayName+1)}, errName},
		{"MuchMeta", "root", Spec{Meta: tooMuchMeta}, errMeta},
		{"BigMeta", "root", Spec{Meta: map[string]string{"k": strings.Repeat("v", maxMetaSize)}}, errMeta},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			parent := r.parents()[test.parent]
			before := r.dump()
			_, err := r.create(parent, test.spec)
			wantFault(t, err, test.want, fault.Invalid)
			if !reflect.DeepEqual(r.dump(), before) {
				t.Error("the refusal changed the store")
			}
		})
	}
}

// T33: a Create that returns an error must not have left a token, and no ID is handed out with it.
func TestCreateWithDeadParent(t *testing.T) {
	r := newRig(t)
	for name, kill := range map[string]func(*Entry){
		"Revoked":  r.revoke,
		"Orphaned": r.revokeOrphan,
		"Expired":  func(e *Entry) { r.clock = e.Expires },
	} {
		parent := r.must(r.root, Spec{TTL: time.Hour})
		kill(parent.Entry)
		before := r.dump()
		err := r.try(func(tx store.Tx) error {
			id, e, _, err := r.Create(tx, parent.Entry, Spec{Path: "auth/token/create"})
			if !id.Empty() || e != nil {
				t.Errorf("%s: a token came with the refusal", name)
			}
			return err
		})
		wantFault(t, err, ErrDead, fault.Denied)
		if !reflect.DeepEqual(r.dump(), before) {
			t.Errorf("%s: the refusal changed the store", name)
		}
	}
}

// TestDepth: the chain of ancestors is bounded, and an orphan begins a new one.
func TestDepth(t *testing.T) {
	r := newRig(t)
	e := r.root
	for range maxAncestors {
		e = r.must(e, Spec{}).Entry
	}
	if _, err := r.create(e, Spec{}); !errors.Is(err, errDepth) {
		t.Errorf("a chain longer than %d: %v", maxAncestors, err)
	}
	orphan := r.must(e, Spec{NoParent: true})
	if line := r.must(orphan.Entry, Spec{}).Lineage(); len(line) != 2 {
		t.Errorf("lineage below an orphan has %d members", len(line))
	}
	r.revoke(r.root)
	r.wantLife(orphan, true, "the orphan of a dead chain")
	if n := r.sweep(); n != maxAncestors {
		t.Errorf("swept %d of %d", n, maxAncestors)
	}
	r.checkSwept()
}

// TestChosenID: a live token keeps its ID, what a dead one left makes room and doesn't come back.
func TestChosenID(t *testing.T) {
	r := newRig(t)
	spec := Spec{ID: []byte("named-by-an-operator"), TTL: time.Hour, Policies: []string{"default"}}
	first := r.must(r.root, spec)
	if string(first.id) != string(spec.ID) || len(first.warnings) != 1 {
		t.Fatalf("warnings %q", first.warnings)
	}
	_, err := r.create(r.root, spec)
	wantFault(t, err, errExists, fault.Invalid)
	child := r.must(first.Entry, Spec{})
	grandchild := r.must(child.Entry, Spec{})

	r.clock = first.Expires
	second := r.must(r.root, spec)
	r.wantLife(second, true, "the second of its name")
	r.wantLife(child, false, "a child of the first")
	r.wantLife(grandchild, false, "a grandchild of the first")
	if second.RecordID == first.RecordID || second.Accessor == first.Accessor {
		t.Error("names that must be new are not")
	}

	// The same below an ancestor that died.
	parent := r.must(r.root, Spec{})
	spec.ID = []byte("named-once-more-by-an-operator")
	third := r.must(parent.Entry, spec)
	below := r.must(third.Entry, Spec{})
	r.revoke(parent.Entry)
	fourth := r.must(r.root, spec)
	r.wantLife(fourth, true, "the fourth")
	r.wantLife(below, false, "a child of the third")
	r.sweep()
	r.wantLife(fourth, true, "the fourth, swept")
	r.wantLife(second, true, "the second, swept")
	r.checkSwept()
}

func TestCheckID(t *testing.T) {
	for id, want := range map[string]error{
		"":                                errShortID,
		"fifteen-letters":                 errShortID,
		"ééééééééééééééé":                 errShortID, // 30 bytes, 15 characters
		"sixteen-letters!":                nil,
		"éééééééééééééééé":                nil,
		"q.0123456789abcdefABCDEF":        nil,
		"6ab1cf32-4ea4-4c27-b5e8-1a2b3c4": nil,
		"with/slash/and.dots/":            nil,
		" leading-white-space":            errOddID,
		"trailing-white-space\n":          errOddID,
		"no\u00a0break\u00a0space\u00a0!": errOddID,
		"zero-width\u200b-space-here":     errOddID,
		"a-nul-in-the-\x00-middle":        errOddID,
		"not-utf-8-\xff-at-all-really":    errOddID,
		"replacement-\ufffd-character":    nil,
		strings.Repeat("x", MaxID):        nil,
		strings.Repeat("x", MaxID+1):      errLongID,
	} {
		if err := CheckID([]byte(id)); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", id, err, want)
		}
	}
}

// TestNewID: 24 characters, uniform over 62. With 22*20000 draws each character comes 7097 times, +-7 sigma = 590.
func TestNewID(t *testing.T) {
	const n = 20000
	seen := map[string]bool{}
	var count [256]int
	for range n {
		id := NewID()
		text := string(id.Reveal())
		if len(text) != 24 || text[:2] != "q." || seen[text] {
			t.Fatal("odd ID, or one that was made before")
		}
		seen[text] = true
		for _, c := range []byte(text[2:]) {
			count[c]++
		}
	}
	for _, c := range []byte(secret.Base62) {
		if mean := 22 * n / 62; count[c] < mean-590 || count[c] > mean+590 {
			t.Errorf("%c came %d times", c, count[c])
		}
		count[c] = 0
	}
	for c, n := range count {
		if n > 0 {
			t.Errorf("%q came %d times", rune(c), n)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct{ def, longest, wantDef, wantMax time.Duration }{
		{0, 0, DefaultTTL, DefaultTTL},
		{time.Hour, 0, time.Hour, DefaultTTL},
		{0, time.Hour, time.Hour, time.Hour},
		{2 * time.Hour, time.Hour, time.Hour, time.Hour},
		{-1, -1, DefaultTTL, DefaultTTL},
	} {
		got := New(Config{DefaultTTL: test.def, MaxTTL: test.longest})
		if got.defaultTTL != test.wantDef || got.maxTTL != test.wantMax || got.now().IsZero() {
			t.Errorf("New(%v, %v): default %v, maximum %v", test.def, test.longest, got.defaultTTL, got.maxTTL)
		}
	}
}

func TestUnseededStore(t *testing.T) {
	r := newRig(t)
	r.update(func(tx store.Tx) error { return tx.Delete(saltKey) })
	err := r.store.View(context.Background(), func(rd store.Reader) error {
		_, err := r.another().Authenticate(rd, []byte("the-first-root-token"))
		return err
	})
	if err == nil || fault.As(err) != nil {
		t.Errorf("a store without a salt: %v", err)
	}
}
