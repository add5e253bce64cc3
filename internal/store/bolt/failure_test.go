package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func wantFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errFull) || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("the write returns %v, want %v, with a known outcome", err, errFull)
	}
	wantFault(t, err, errFull)
}

// wantBroken checks the error of the write that failed, and that every later call fails without running.
func wantBroken(t *testing.T, s *Store, err error, unknown bool) {
	t.Helper()
	if !errors.Is(err, errBroken) {
		t.Errorf("the write returns %v, want %v", err, errBroken)
	}
	if errors.Is(err, store.ErrUnknownOutcome) != unknown {
		t.Errorf("the write returns %v; unknown outcome should be %v", err, unknown)
	}
	wantFault(t, err, errBroken)
	err = s.Update(context.Background(), func(store.Tx) error {
		t.Error("an Update ran on a broken store")
		return nil
	})
	if err != error(errBroken) {
		t.Errorf("an Update on a broken store returns %v, want %v", err, errBroken)
	}
	err = s.View(context.Background(), func(store.Reader) error {
		t.Error("a View ran on a broken store")
		return nil
	})
	if err != error(errBroken) {
		t.Errorf("a View on a broken store returns %v, want %v", err, errBroken)
	}
}

// wantFault checks what a client would be told.
func wantFault(t *testing.T, err error, want *fault.Error) {
	t.Helper()
	if f := fault.As(err); f != want {
		t.Errorf("a client would be told %v, want %v", f, want)
	}
}

// T51: what a failed commit means is told by the meta page, not by the error alone.
func TestFailedCommit(t *testing.T) {
	lost := func(err error) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return errors.Join(tx.Rollback(), err) }
	}
	kept := func(err error) func(*bbolt.Tx) error { // as when the second sync fails
		return func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), err) }
	}
	flat := func(errno syscall.Errno) error { return fmt.Errorf("file resize error: %s", error(errno)) }
	for name, test := range map[string]struct {
		commit        func(*bbolt.Tx) error
		full, unknown bool
	}{
		"no space":            {commit: lost(syscall.ENOSPC), full: true},
		"quota":               {commit: lost(&os.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}), full: true},
		"file size limit":     {commit: lost(flat(syscall.EFBIG)), full: true},
		"no space to grow":    {commit: lost(flat(syscall.ENOSPC)), full: true},
		"I/O error":           {commit: lost(syscall.EIO)},
		"I/O error, grow":     {commit: lost(flat(syscall.EIO))},
		"read-only":           {commit: lost(syscall.EROFS)},
		"anything else":       {commit: lost(errors.New("odd"))},
		"I/O error, written":  {commit: kept(syscall.EIO), unknown: true},
		"no space, written":   {commit: kept(syscall.ENOSPC), unknown: true},
		"quota, but written":  {commit: kept(syscall.EDQUOT), unknown: true},
		"panic":               {commit: func(*bbolt.Tx) error { panic("page 7 is odd") }, unknown: true},
		"panic after writing": {commit: func(tx *bbolt.Tx) error { tx.Commit(); panic("page 7 is odd") }, unknown: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t)
			mustPut(t, s, "k", "before")
			s.commit = test.commit
			err := put(s, "k", "after")
			if test.full {
				wantFull(t, err)
				wantValue(t, s, "k", "before")
				s.commit = (*bbolt.Tx).Commit
				mustPut(t, s, "k", "later")
				return
			}
			wantBroken(t, s, err, test.unknown)
			if err := s.Close(); err != nil {
				t.Errorf("Close of a broken store: %v", err)
			}
			if err := put(s, "k", "x"); !errors.Is(err, store.ErrClosed) {
				t.Errorf("a closed store says %v", err)
			}
		})
	}
}

// Everybody in the group that failed is told; nobody behind it runs.
func TestFailedCommitFailsTheWholeGroup(t *testing.T) {
	s := openTest(t)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	s.commit = func(tx *bbolt.Tx) error { return errors.Join(tx.Rollback(), syscall.EIO) }
	release := hold(t, s, "first")
	second := start(s, context.Background(), func(tx store.Tx) error { return tx.Put("second", nil) })
	awaitQueue(s, 1)
	for _, err := range []error{release(), <-second} {
		wantBroken(t, s, err, false)
	}
	if got := log.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, syscall.EIO.Error()) {
		t.Errorf("the log should say once, with the cause, that the file is given up; it says %q", got)
	}
}

// Damage that is found while running fails the call, not the process.
func TestDamageFoundWhileRunning(t *testing.T) {
	for name, damage := range map[string]func(*os.File) error{
		"zeros": zeroPages,
		"cut":   cutTo(2),
		"empty": cutTo(0),
	} {
		for _, viewFirst := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/view first %v", name, viewFirst), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "quorate.db")
				s := reopen(t, path)
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(fill(s, 100), damage(f), f.Close()); err != nil {
					t.Fatal(err)
				}
				if viewFirst && readDamaged(s) == nil {
					t.Error("a View read a page that isn't there")
				}
				wantBroken(t, s, put(s, "k/1", "x"), false)
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
	}
}

// readDamaged reads in a View, which has an error or a panic for its caller.
func readDamaged(s *Store) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	_, err = get(s, "k/1")
	return err
}

// Whichever page is damaged, opening, reading and writing end in an error, or do without the page.
func TestEachPageDamaged(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.db")
	s := reopen(t, good)
	if err := errors.Join(fill(s, 40), put(s, "k/1", "x"), s.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for page := 0; page < 14; page++ {
		path := filepath.Join(t.TempDir(), "bad.db")
		bad := bytes.Clone(content)
		clear(bad[page*os.Getpagesize() : (page+1)*os.Getpagesize()])
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err == nil {
			err = errors.Join(readDamaged(s), put(s, "k/1", "y"), put(s, "k/30", "y"), s.Close())
		}
		if err != nil {
			noticed++
		}
	}
	if noticed < 3 { // root, list of free pages, a leaf
		t.Errorf("damage was noticed in %d pages only", noticed)
	}
}
