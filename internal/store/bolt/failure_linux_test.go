package bolt

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// swapFD opens a store and returns a function that puts another file under its file descriptor, as if the disk had
// changed its mind, and one that puts the data file back.
func swapFD(t *testing.T) (s *Store, path string, swap func(path string, flag int), restore func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "quorate.db")
	var fd int
	s, err := open(path, Options{}, func(path string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := openFile(path, flag, mode)
		if err == nil {
			fd = int(f.Fd())
		}
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	saved, err := syscall.Dup(fd)
	must(err)
	restore = func() { must(syscall.Dup3(saved, fd, syscall.O_CLOEXEC)) }
	t.Cleanup(func() {
		restore()
		s.Close()
		syscall.Close(saved)
	})
	swap = func(other string, flag int) {
		t.Helper()
		replacement, err := syscall.Open(other, flag|syscall.O_CLOEXEC, 0)
		must(err)
		must(syscall.Dup3(replacement, fd, syscall.O_CLOEXEC))
		must(syscall.Close(replacement))
	}
	for range 10 { // leaves free pages: the next commits don't have to grow the file
		mustPut(t, s, "k", "before")
	}
	return s, path, swap, restore
}

// T51: ENOSPC. Nothing is acknowledged, nothing is lost, and the store goes on when there is room again.
func TestFullDisk(t *testing.T) {
	s, path, swap, restore := swapFD(t)
	swap("/dev/full", syscall.O_RDWR)
	for range 3 {
		wantFull(t, put(s, "k", "never"))
		wantValue(t, s, "k", "before")
	}
	restore()
	wantValue(t, s, "k", "before")
	mustPut(t, s, "k", "after")
	for range 50 {
		mustPut(t, s, "more", "after")
	}
	wantValue(t, s, "k", "after")
	checkFile(t, s, path)
}

// T51: the sync of the data fails. The meta page was not touched, so the outcome is known, but the disk is not trusted.
func TestFailedSync(t *testing.T) {
	s, path, swap, restore := swapFD(t)
	swap("/dev/null", syscall.O_RDWR) // takes every write, can't be synced
	wantBroken(t, s, put(s, "k", "never"), false)
	restore()
	wantBroken(t, s, put(s, "k", "never"), false) // not even when the disk has come back
	checkFile(t, s, path)
	wantValue(t, reopen(t, path), "k", "before")
}

// T51: the file can only be read any more.
func TestReadOnlyRemount(t *testing.T) {
	s, path, swap, restore := swapFD(t)
	swap(path, syscall.O_RDONLY)
	wantBroken(t, s, put(s, "k", "never"), false)
	restore()
	checkFile(t, s, path)
	wantValue(t, reopen(t, path), "k", "before")
}
