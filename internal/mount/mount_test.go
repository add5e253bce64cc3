package mount

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
)

// rig is a table in a store.
type rig struct {
	*testing.T
	st store.Store
}

func newRig(t *testing.T) *rig {
	st := anystore.New(t)
	t.Cleanup(func() { _ = st.Close() })
	return &rig{t, st}
}

func (r *rig) table() (t *Table) {
	r.Helper()
	err := r.st.View(context.Background(), func(tx store.Reader) (err error) {
		t, err = Load(tx)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return t
}

// change runs fn on the table as its transaction sees it.
func (r *rig) change(fn func(store.Tx, *Table) error) error {
	return r.st.Update(context.Background(), func(tx store.Tx) error {
		t, err := Load(tx)
		if err != nil {
			return err
		}
		return fn(tx, t)
	})
}

func (r *rig) add(e Entry) error {
	return r.change(func(tx store.Tx, t *Table) error { return Add(tx, t, e) })
}

// mounted adds a mount and returns it as it was stored.
func (r *rig) mounted(path, kind string) *Entry {
	r.Helper()
	if err := r.add(Entry{Path: path, Type: kind}); err != nil {
		r.Fatal(err)
	}
	return r.table().At(path)
}

func (r *rig) refused(err error, sentence string) {
	r.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != fault.Invalid || !strings.Contains(f.Sentence, sentence) {
		r.Errorf("got %v, want a refusal with %q", err, sentence)
	}
}

func (r *rig) keys(prefix string) (n int) {
	r.Helper()
	err := r.st.View(context.Background(), func(tx store.Reader) error {
		n = 0
		for _, err := range tx.Scan(prefix, "") {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func paths(list []*Entry) (out []string) {
	for _, e := range list {
		out = append(out, e.Path)
	}
	return out
}

func TestFreshTable(t *testing.T) {
	table := newRig(t).table()
	if got := paths(table.List(false)); !reflect.DeepEqual(got, []string{"cubbyhole/", "sys/"}) {
		t.Errorf("secrets engines %q", got)
	}
	if got := paths(table.List(true)); !reflect.DeepEqual(got, []string{"auth/token/"}) {
		t.Errorf("auth methods %q", got)
	}
	if got := table.At("cubbyhole/").Records(); got != CubbyholeRecords {
		t.Errorf("the cubbyhole's records are at %q", got)
	}
}

func TestNormalizePath(t *testing.T) {
	for _, c := range []struct {
		path string
		auth bool
		want string // "": refused
	}{
		{"secret", false, "secret/"},
		{"secret/", false, "secret/"},
		{"/secret", false, "secret/"},
		{"team-1/kv_2.x", false, "team-1/kv_2.x/"},
		{"C++", false, "C++/"},
		{"authority", false, "authority/"},
		{"sys", false, "sys/"},
		{"userpass", true, "auth/userpass/"},
		{"corp/ldap/", true, "auth/corp/ldap/"},
		{"token", true, "auth/token/"},

		{"", false, ""},
		{"/", false, ""},
		{"//", false, ""},
		{"", true, ""},
		{"a//b", false, ""},
		{"a//", false, ""},
		{".", false, ""},
		{"a/../b", false, ""},
		{"..", true, ""},
		{"+", false, ""},
		{"a/+/b", false, ""},
		{"a*", false, ""},
		{"*", false, ""},
		{"a b", false, ""},
		{"a%2fb", false, ""},
		{"a?b", false, ""},
		{"a#b", false, ""},
		{`a\b`, false, ""},
		{"a\x00", false, ""},
		{"caf\u00e9", false, ""},
		{"\xff", false, ""},
		{"auth", false, ""},
		{"auth/userpass", false, ""},
		{"/auth/userpass", false, ""},
		{strings.Repeat("x", maxPath-1), false, strings.Repeat("x", maxPath-1) + "/"},
		{strings.Repeat("x", maxPath), false, ""},
	} {
		got, err := NormalizePath(c.path, c.auth)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("NormalizePath(%q, %v) = %q, %v, want %q", c.path, c.auth, got, err, c.want)
		}
		if err != nil && (fault.As(err) == nil || fault.As(err).Kind != fault.Invalid) {
			t.Errorf("NormalizePath(%q, %v): %v is no fault", c.path, c.auth, err)
		}
	}
}

// FuzzNormalizePath: what is accepted stays as it is, and leads to its mount and to no other.
func FuzzNormalizePath(f *testing.F) {
	for _, seed := range []string{"secret", "a/b/", "/x", "auth/x", "a/../b", "+/*", "\xff"} {
		f.Add(seed, "rest", true)
		f.Add(seed, "", false)
	}
	f.Fuzz(func(t *testing.T, path, rest string, auth bool) {
		full, err := NormalizePath(path, auth)
		if err != nil {
			if fault.As(err) == nil || full != "" {
				t.Fatalf("%q and %v", full, err)
			}
			return
		}
		e := &Entry{Path: full}
		if e.Auth() != auth || store.CheckKey(full) != nil || strings.Contains(full, "//") {
			t.Fatalf("%q became %q", path, full)
		}
		if again, err := NormalizePath(strings.TrimPrefix(full, authPrefix), auth); again != full || err != nil {
			t.Fatalf("%q became %q and then %q, %v", path, full, again, err)
		}
		table := &Table{sorted: []*Entry{e}, byPath: map[string]*Entry{strings.TrimSuffix(full, "/"): e}}
		if found, got, ok := table.Find(full + rest); found != e || got != rest || !ok || table.At(full) != e {
			t.Fatalf("%q does not lead to %q with the rest %q: %q", full+rest, full, rest, got)
		}
	})
}

func TestAdd(t *testing.T) {
	r := newRig(t)
	created := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	want := Entry{
		Path: "secret/", Type: "kv", Description: "d", Options: map[string]string{"version": "2"}, Created: created, Local: true, SealWrap: true,
		ExternalEntropyAccess: true,
		Config: Config{
			DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 2 * time.Hour, ForceNoCache: true, TokenType: "default-service", ListingVisibility: "unauth",
			PassthroughRequestHeaders: []string{"a"}, AllowedResponseHeaders: []string{"b"},
			AuditNonHMACRequestKeys: []string{"c"}, AuditNonHMACResponseKeys: []string{"d"},
		},
	}
	if err := r.add(want); err != nil {
		t.Fatal(err)
	}
	got := r.table().At("secret/")
	if got == nil || len(got.UUID) != 36 || len(got.Accessor) != len("kv_12345678") || !strings.HasPrefix(got.Accessor, "kv_") {
		t.Fatalf("added %+v", got)
	}
	if got.Records() != "mount/data/"+got.UUID+"/" {
		t.Errorf("its records are at %q", got.Records())
	}
	want.UUID, want.Accessor = got.UUID, got.Accessor
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	if e := r.mounted("auth/userpass/", "userpass"); !e.Auth() || !strings.HasPrefix(e.Accessor, "auth_userpass_") {
		t.Errorf("added %+v", e)
	}
}

func TestConflicts(t *testing.T) {
	r := newRig(t)
	r.mounted("secret/", "kv")
	r.mounted("team/a/kv/", "kv")
	r.mounted("auth/corp/ldap/", "userpass")
	for path, sentence := range map[string]string{
		"secret/":                "path is already in use at secret/",
		"secret/inner/":          "path is already in use at secret/",
		"team/":                  "path is already in use at team/a/kv/",
		"team/a/":                "path is already in use at team/a/kv/",
		"sys/":                   "path is already in use at sys/",
		"sys/mounts/":            "path is already in use at sys/",
		"cubbyhole/x/":           "path is already in use at cubbyhole/",
		"auth/corp/":             "path is already in use at auth/corp/ldap/",
		"auth/token/":            "path is already in use at auth/token/",
		"auth/token/x/":          "path is already in use at auth/token/",
		"identity/":              "reserved",
		"identity/x/":            "reserved",
		"audit/":                 "reserved",
		strings.Repeat("x/", 40): "",
		"secretive/":             "",
		"team/b/":                "",
		"auth/identity/":         "",
	} {
		if err := r.add(Entry{Path: path, Type: "kv"}); sentence == "" && err != nil {
			t.Errorf("%s: %v", path, err)
		} else if sentence != "" {
			r.refused(err, sentence)
		}
	}
}

// TestFind: the same as trying all mounts one after the other.
func TestFind(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"a/", "b/a/", "b/b/c/", "bb/", "auth/a/", "auth/b/a/"} {
		r.mounted(path, "kv")
	}
	table := r.table()
	all := append(table.List(false), table.List(true)...)
	parts := []string{"a", "b", "c", "bb", "auth", "sys", "token", "cubbyhole", "", "A"}
	hits := 0
	random := rand.New(rand.NewPCG(1, 2)) // the same in every run
	for range 20_000 {
		var chosen []string
		for range 1 + random.IntN(5) {
			chosen = append(chosen, parts[random.IntN(len(parts))])
		}
		path := strings.Join(chosen, "/")
		var want *Entry
		for _, e := range all {
			if strings.HasPrefix(path+"/", e.Path) {
				want = e
			}
		}
		e, rest, ok := table.Find(path)
		if e != want || ok != (want != nil) {
			t.Fatalf("%q leads to %v, want %v", path, e, want)
		}
		if ok {
			hits++
		}
		if ok && path != e.Path+rest && path+"/" != e.Path+rest {
			t.Fatalf("%q leads to %q and the rest %q", path, e.Path, rest)
		}
	}
	if hits == 0 {
		t.Error("no path led anywhere")
	}
	for _, path := range []string{"b/b/c/some/secret", "nowhere/at/all"} {
		if n := testing.AllocsPerRun(100, func() { table.Find(path) }); n != 0 {
			t.Errorf("finding %q allocates %v times", path, n)
		}
	}
	if table.At("a") != nil || table.At("") != nil || table.At("b/") != nil || table.At("b/a/").Path != "b/a/" {
		t.Error("At finds what isn't exactly there, or doesn't find what is")
	}
}

func TestPutMoveAndRemove(t *testing.T) {
	r := newRig(t)
	e := *r.mounted("secret/", "kv")
	r.mounted("other/", "kv")
	put := func(e Entry) error { return r.change(func(tx store.Tx, _ *Table) error { return Put(tx, e) }) }
	move := func(e Entry, to string) error {
		return r.change(func(tx store.Tx, t *Table) error { return Move(tx, t, e, to) })
	}
	remove := func(e Entry) error { return r.change(func(tx store.Tx, _ *Table) error { return Remove(tx, e) }) }

	tuned := e
	tuned.Config.MaxLeaseTTL = time.Minute
	if err := put(tuned); err != nil || r.table().At("secret/").Config.MaxLeaseTTL != time.Minute {
		t.Errorf("tuned: %v, %+v", err, r.table().At("secret/"))
	}
	r.refused(move(tuned, "other/x/"), "in use at other/")
	r.refused(move(tuned, "auth/kv/"), "must stay under auth/")
	r.refused(move(tuned, "identity/"), "reserved")
	if err := move(tuned, "secret/inner/"); err != nil {
		t.Errorf("moved below its own path: %v", err)
	}
	moved := r.table().At("secret/inner/")
	if r.table().At("secret/") != nil || moved == nil || moved.Records() != e.Records() || moved.Accessor != e.Accessor {
		t.Fatalf("moved: %+v", moved)
	}
	// Who still holds the entry of before changes nothing.
	r.refused(put(tuned), "meanwhile")
	r.refused(move(tuned, "third/"), "meanwhile")
	r.refused(remove(tuned), "meanwhile")
	if err := remove(*moved); err != nil {
		t.Fatal(err)
	}
	r.refused(put(*moved), "meanwhile")
	if _, _, ok := r.table().Find("secret/inner/x"); ok {
		t.Error("a removed mount is found")
	}
	for _, path := range []string{"sys/", "cubbyhole/", "auth/token/"} {
		e := *r.table().At(path)
		r.refused(put(e), "part of the server")
		r.refused(move(e, "elsewhere/"), "part of the server")
		r.refused(remove(e), "part of the server")
	}
}

// TestPurge: everything of a removed mount goes, nothing of another one, also when a mount of the same path came after it
// and when commits fail on the way.
func TestPurge(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	fill := func(e *Entry, n int) {
		err := r.st.Update(ctx, func(tx store.Tx) error {
			for i := range n {
				if err := tx.Put(fmt.Sprintf("%s%05d", e.Records(), i), []byte("x")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	old := r.mounted("secret/", "kv")
	fill(old, 2*purgeBatch)
	if err := r.change(func(tx store.Tx, _ *Table) error { return Remove(tx, *old) }); err != nil {
		t.Fatal(err)
	}
	fresh := r.mounted("secret/", "kv")
	fill(fresh, 3)
	gone, err := Removed(ctx, r.st)
	if err != nil || len(gone) != 1 || gone[0].UUID != old.UUID || gone[0].Path != "secret/" {
		t.Fatalf("removed: %v, %v", gone, err)
	}
	broken := &failing{Store: r.st, after: 1}
	if err := Purge(ctx, broken, gone); r.keys(old.Records()) != purgeBatch || !errors.Is(err, errBroken) {
		t.Fatalf("a purge that fails after one batch: %d left, %v", r.keys(old.Records()), err)
	}
	if err := Purge(ctx, r.st, gone); err != nil {
		t.Fatalf("the rest: %v", err)
	}
	if n := r.keys(old.Records()); n != 0 {
		t.Errorf("%d records are left", n)
	}
	if n := r.keys(fresh.Records()); n != 3 {
		t.Errorf("the new mount has %d records, want 3", n)
	}
	if n := r.keys(purgePrefix); n != 0 {
		t.Error("the purged mount is remembered")
	}
	if err := Purge(ctx, r.st, gone); err != nil || r.keys(fresh.Records()) != 3 {
		t.Errorf("purged again: %v", err)
	}
}

var errBroken = errors.New("broken")

// failing fails all Updates after some.
type failing struct {
	store.Store
	after int
}

func (f *failing) Update(ctx context.Context, fn func(store.Tx) error) error {
	if f.after == 0 {
		return errBroken
	}
	f.after--
	return f.Store.Update(ctx, fn)
}

func TestDamagedRecordIsAnError(t *testing.T) {
	r := newRig(t)
	err := r.change(func(tx store.Tx, _ *Table) error { return tx.Put(tablePrefix+"x", []byte("{")) })
	if err != nil {
		t.Fatal(err)
	}
	err = r.change(func(store.Tx, *Table) error { return nil })
	if err == nil || fault.As(err) != nil {
		t.Errorf("got %v, want a plain error", err)
	}
}

func BenchmarkFind(b *testing.B) {
	t := &Table{byPath: map[string]*Entry{"team/a/secret": {Path: "team/a/secret/"}}}
	for b.Loop() {
		t.Find("team/a/secret/data/app/db")
	}
}
