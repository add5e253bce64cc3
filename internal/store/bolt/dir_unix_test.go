//go:build unix

package bolt

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// withUmask runs fn under a umask of the whole process: not for parallel tests.
func withUmask(umask int, fn func()) {
	defer syscall.Umask(syscall.Umask(umask))
	fn()
}

// T65: a directory that others can use is refused, and none is made so.
func TestCheckDirRights(t *testing.T) {
	for _, test := range []struct {
		mode os.FileMode
		ok   bool
	}{
		{0o777, false},
		{0o770, false},
		{0o755, false},
		{0o750, false},
		{0o711, false},
		{0o704, false},
		{0o701, false},
		{0o720, false},
		{0o1777, false},
		{0o700, true},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, test.mode); err != nil {
			t.Fatal(err)
		}
		err := CheckDir(dir)
		if (err == nil) != test.ok {
			t.Errorf("mode %04o: %v", test.mode, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "chmod 700") || !strings.Contains(err.Error(), dir)) {
			t.Errorf("mode %04o: %q doesn't say what to do", test.mode, err)
		}
		if got := mode(t, dir); got != test.mode.Perm() {
			t.Errorf("the check changed mode %04o to %04o", test.mode, got)
		}
	}
}

// T65: a directory of another account is refused, whatever its mode.
func TestCheckDirOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := CheckDir(dir); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = checkAccess(dir, info, os.Geteuid()+1)
	if err == nil || !strings.Contains(err.Error(), "another account") {
		t.Errorf("another owner: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := CheckDir(dir); err == nil { // root could use it, but must not
		t.Error("a directory of another account was accepted")
	}
}

func TestCheckDirCreates(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		dir := filepath.Join(t.TempDir(), "data") + "/"
		withUmask(umask, func() {
			for range 2 {
				if err := CheckDir(dir); err != nil {
					t.Errorf("umask %04o: %v", umask, err)
				}
			}
		})
		if got := mode(t, dir); got != 0o700 {
			t.Errorf("umask %04o: created with mode %04o", umask, got)
		}
	}
	deep := filepath.Join(t.TempDir(), "a", "b")
	if err := CheckDir(deep); err != nil {
		t.Error(err)
	}
	if got := mode(t, filepath.Dir(deep)); got != 0o700 {
		t.Errorf("the directory above was created with mode %04o", got)
	}
}

func TestCheckDirRefusesOtherThings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), ""} {
		if err := CheckDir(dir); err == nil {
			t.Errorf("%q was accepted", dir)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	open := t.TempDir()
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	if err := CheckDir(link); err == nil {
		t.Error("a link to an open directory was accepted")
	}
}

func TestFileMode(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		path := filepath.Join(t.TempDir(), "quorate.db")
		withUmask(umask, func() { reopen(t, path).Close() })
		if got := mode(t, path); got != 0o600 {
			t.Errorf("umask %04o: the data file has mode %04o", umask, got)
		}
		if err := os.Chmod(path, 0o666); err != nil { // as a restored backup may
			t.Fatal(err)
		}
		reopen(t, path).Close()
		if got := mode(t, path); got != 0o600 {
			t.Errorf("a data file with mode 0666 has %04o after it was opened", got)
		}
	}
}
