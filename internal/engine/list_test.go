package engine_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// listed is ListNames on a store with these keys, and how many records it looked at.
func listed(t testing.TB, keys []string, prefix, after string, limit int) (names []string, seen int) {
	t.Helper()
	st := inmem.New()
	err := st.Update(context.Background(), func(tx store.Tx) error {
		for _, key := range keys {
			if err := tx.Put(key, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = st.View(context.Background(), func(r store.Reader) error {
		counting := counter{r, &seen}
		names, err = engine.ListNames(counting, prefix, after, limit)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, seen
}

// counter counts the records that are read.
type counter struct {
	store.Reader
	seen *int
}

func (c counter) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range c.Reader.Scan(prefix, after) {
			*c.seen++
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestListNames(t *testing.T) {
	keys := []string{"m/a", "m/a/b", "m/a/c/d", "m/a-b", "m/a0", "m/b/\U0010FFFF", "m/b/\U0010FFFF\U0010FFFF", "m/", "n"}
	all := []string{"a", "a-b", "a/", "a0", "b/"}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"m/", "", 0, all},
		{"m/", "", 2, all[:2]},
		{"m/", "a-b", 2, all[2:4]},
		{"m/", "a/", 0, all[3:]},
		{"m/", "a/zzz", 0, all[3:]},
		{"m/", "a", 1, all[1:2]},
		{"m/", "b/", 0, nil},
		{"m/", "zzz", 0, nil},
		{"m/a/", "", 0, []string{"b", "c/"}},
		{"m/a/", "b", 5, []string{"c/"}},
		{"nothing/", "", 0, nil},
	} {
		if got, _ := listed(t, keys, c.prefix, c.after, c.limit); !slices.Equal(got, c.want) || got == nil {
			t.Errorf("below %q after %q, %d: %q, want %q", c.prefix, c.after, c.limit, got, c.want)
		}
	}
}

func TestListNamesSkipsFolders(t *testing.T) {
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("m/%d/%d", i%3, i))
	}
	if names, seen := listed(t, keys, "m/", "", 0); len(names) != 3 || seen > 6 {
		t.Errorf("%q took %d records, want 3 folders and a step or two for each", names, seen)
	}
}

// naive is what ListNames promises, without skipping anything.
func naive(keys []string, prefix, after string, limit int) []string {
	names := []string{}
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, prefix)
		if i := strings.Index(rest, "/"); i >= 0 {
			rest = rest[:i+1]
		}
		if ok && rest != "" && rest > after {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if limit > 0 {
		names = names[:min(limit, len(names))]
	}
	return names
}

func TestListNamesAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = []string{"a", "b", "a-", "a0", "\U0010FFFF", "é", "a\x01"}[r.IntN(7)]
		}
		return strings.Join(parts, "/")
	}
	for range 3000 {
		keys := make([]string, r.IntN(12))
		for i := range keys {
			keys[i] = "m/" + text()
		}
		prefix, after, limit := []string{"m/", "m/a/", "m/b/"}[r.IntN(3)], "", r.IntN(4)
		if r.IntN(2) > 0 {
			after = text()
		}
		got, _ := listed(t, keys, prefix, after, limit)
		if want := naive(keys, prefix, after, limit); !slices.Equal(got, want) {
			t.Fatalf("%q below %q after %q, %d: %q, want %q", keys, prefix, after, limit, got, want)
		}
	}
}

func TestPaging(t *testing.T) {
	for _, c := range []struct {
		query, after string
		limit        int
		ok           bool
	}{
		{"", "", 0, true},
		{"after=a%2Fb&limit=7", "a/b", 7, true},
		{"limit=-1", "", 0, true},
		{"limit=0", "", 0, true},
		{"limit=many", "", 0, false},
		{"limit=99999999999999999999", "", 0, false},
		{"after=%00", "", 0, false},
		{"after=%ff", "", 0, false},
		{"after=" + strings.Repeat("x", store.MaxKey+1), "", 0, false},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		after, limit, err := engine.Paging(q)
		if after != c.after || limit != c.limit || (err == nil) != c.ok {
			t.Errorf("%.40s: %q, %d, %v", c.query, after, limit, err)
		}
	}
}
