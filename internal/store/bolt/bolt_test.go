package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

// TestMain turns the test binary into the other process that some tests need.
func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(runChild(child, os.Getenv(childFileEnv)))
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openTest(t) })
}

// openTest opens a store in a directory of its own.
func openTest(t testing.TB) *Store {
	t.Helper()
	return reopen(t, filepath.Join(t.TempDir(), "quorate.db"))
}

func reopen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(s store.Store, key, value string) error {
	return s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
}

var fillValue = strings.Repeat("v", 300)

// fill writes enough for several pages.
func fill(s store.Store, n int) error {
	return s.Update(context.Background(), func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("k/%d", i), []byte(fillValue)); err != nil {
				return err
			}
		}
		return nil
	})
}

func mustPut(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	if err := put(s, key, value); err != nil {
		t.Fatalf("write %q: %v", key, err)
	}
}

func get(s store.Store, key string) (value string, err error) {
	err = s.View(context.Background(), func(r store.Reader) error {
		values, err := r.Get(key)
		value = string(values[0])
		return err
	})
	return value, err
}

func wantValue(t *testing.T, s store.Store, key, want string) {
	t.Helper()
	if got, err := get(s, key); err != nil || got != want {
		t.Errorf("%q reads %q, %v; want %q", key, got, err, want)
	}
}

// checkFile closes the store and lets bbolt look at every page.
func checkFile(t *testing.T, s *Store, path string) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("the file is inconsistent: %v", err)
		}
		return nil
	})
}

// countCommits counts the commits of a store that nobody uses yet.
func countCommits(s *Store) *atomic.Int64 {
	var n atomic.Int64
	s.commit = func(tx *bbolt.Tx) error {
		n.Add(1)
		return tx.Commit()
	}
	return &n
}

func TestReopenKeepsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.db")
	s := reopen(t, path)
	if err := fill(s, 500); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		checkFile(t, s, path)
		s = reopen(t, path)
		for i := range 500 {
			wantValue(t, s, fmt.Sprintf("k/%d", i), fillValue)
		}
		mustPut(t, s, "round", fmt.Sprint(round))
	}
}

// T66: one process, and one store of it, per file.
func TestSecondStoreOnOneFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.db")
	s := reopen(t, path)
	mustPut(t, s, "k", "v")
	want := "another quorate server is using " + path + ": stop it, or choose another data directory"

	begin := time.Now()
	second, err := Open(path, Options{})
	if err == nil {
		second.Close()
		t.Fatal("a second store on the same file was opened")
	}
	if err.Error() != want {
		t.Errorf("a second store is refused with %q, want %q", err, want)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the refusal took %v", took)
	}
	if out := startChild(t, "open", path).wait(t); strings.TrimSpace(out) != want {
		t.Errorf("a second process is refused with %q, want %q", out, want)
	}

	wantValue(t, s, "k", "v") // the first isn't disturbed
	mustPut(t, s, "k", "w")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out := startChild(t, "open", path).wait(t); strings.TrimSpace(out) != "opened" {
		t.Errorf("after the first has closed, a process gets %q", out)
	}
}

func TestOpenRefusesWhatIsNotOurs(t *testing.T) {
	for name, test := range map[string]struct {
		make func(path string) error
		want string
	}{
		"text":        {func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("not a store\n", 2000)), 0o600) }, "damaged"},
		"zeros":       {func(p string) error { return os.WriteFile(p, make([]byte, 1<<16), 0o600) }, "damaged"},
		"short":       {func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) }, "damaged"},
		"directory":   {func(p string) error { return os.Mkdir(p, 0o700) }, "directory"},
		"device":      {func(p string) error { return os.Symlink(os.DevNull, p) }, "not a regular file"},
		"foreign":     {makeForeign, "another program"},
		"cut short":   {func(p string) error { return makeAndDamage(p, cutTo(2)) }, "damaged"},
		"cut in half": {func(p string) error { return makeAndDamage(p, cutTo(9)) }, "damaged"},
		"no freelist": {func(p string) error { return makeAndDamage(p, zeroPages) }, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "quorate.db")
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, Options{})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("refused with %q, which doesn't say %q", err, test.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "missing", "quorate.db"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file in a directory that isn't there: %v", err)
	}
}

func makeForeign(path string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("somebody else's"))
		return err
	})
	return errors.Join(err, db.Close())
}

// makeAndDamage makes a good file and lets damage loose on it.
func makeAndDamage(path string, damage func(*os.File) error) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(fill(s, 200), s.Close()); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(damage(f), f.Close())
}

// cutTo leaves the first pages of a file.
func cutTo(pages int) func(*os.File) error {
	return func(f *os.File) error { return f.Truncate(int64(pages * os.Getpagesize())) }
}

// zeroPages wipes everything but the two meta pages.
func zeroPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - 2*int64(os.Getpagesize())
	_, err = f.WriteAt(make([]byte, size), 2*int64(os.Getpagesize()))
	return err
}
