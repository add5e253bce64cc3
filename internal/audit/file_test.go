package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
)

func TestFileTakesLines(t *testing.T) {
	for _, sync := range []string{"false", "true"} {
		t.Run("sync="+sync, func(t *testing.T) {
			r := newRig(t)
			r.SetStored([]Device{fileDevice("f/", "a.log", "sync="+sync)})
			mustWrite(t, r.Broker, ask("one"))
			mustWrite(t, r.Broker, ask("two"))
			if got := paths(t, r.read(t, "a.log")); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("lines of %v", got)
			}
		})
	}
}

func TestFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no file modes")
	}
	r := newRig(t)
	if err := os.WriteFile(filepath.Join(r.dir, "lax.log"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	r.SetStored([]Device{fileDevice("new/", "new.log"), fileDevice("lax/", "lax.log"), fileDevice("group/", "group.log", "mode=0640")})
	mustWrite(t, r.Broker, ask("x"))
	for name, want := range map[string]fs.FileMode{"new.log": 0o600, "lax.log": 0o600, "group.log": 0o640} {
		info, err := os.Stat(filepath.Join(r.dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

// TestUnsoundPlaces tries to have something else written than a file of its own below the folder.
func TestUnsoundPlaces(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links and modes are others on Windows")
	}
	r := newRig(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	in := func(name string) string { return filepath.Join(r.dir, name) }
	for _, err := range []error{
		os.WriteFile(victim, []byte("untouched"), 0o600),
		os.Symlink(victim, in("link")),
		os.Symlink(outside, in("out")),
		os.Symlink("inside", in("loop")),
		os.Mkdir(in("inside"), 0o755),
		os.Symlink("target", in("inner")),
		os.WriteFile(in("target"), nil, 0o600),
		os.Mkdir(in("open"), 0o755), os.Chmod(in("open"), 0o777),
		os.Mkdir(in("group"), 0o755), os.Chmod(in("group"), 0o775),
		os.Mkdir(in("sticky"), 0o755), os.Chmod(in("sticky"), 0o777|fs.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		file, part string // part of the fault; none if the place is sound
	}{
		{"link", "link"},
		{"inner", "link"},
		{"inside", "folder"},
		{"out/new", "can't be used"},
		{"out/victim", "can't be used"},
		{"open/a", "others may write"},
		{"group/a", "others may write"},
		{"sticky/a", ""},
		{"loop/a", ""}, // a link that stays inside
	} {
		d := fileDevice("f/", c.file)
		check, test := r.Check(d, false), r.Test(t.Context(), d)
		r.SetStored([]Device{d})
		write := r.Write(t.Context(), ask("x"))
		r.SetStored(nil)
		if c.part == "" {
			if check != nil || test != nil || write != nil {
				t.Errorf("%s: check %v, test %v, write %v", c.file, check, test, write)
			}
			continue
		}
		wantFault(t, check, fault.Invalid, c.part)
		wantFault(t, test, fault.Invalid, "can't be opened or written")
		if write != ErrUnwritten {
			t.Errorf("%s: write %v", c.file, write)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "untouched" {
		t.Errorf("the victim holds %q, %v", text, err)
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
		t.Errorf("%v, %v were made outside", list, err)
	}
}

func TestTornLineIsEnded(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(filepath.Join(r.dir, "a.log"), []byte("{\"whole\":1}\n{\"torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.SetStored([]Device{fileDevice("f/", "a.log")})
	mustWrite(t, r.Broker, ask("one"))
	if got := strings.Split(r.read(t, "a.log"), "\n"); len(got) != 4 || got[1] != `{"torn` || !strings.HasPrefix(got[2], `{"time"`) {
		t.Errorf("lines %q", got)
	}
}

func TestReopen(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{fileDevice("f/", "a.log"), stdout("s/")})
	mustWrite(t, r.Broker, ask("one"))
	if err := os.Rename(filepath.Join(r.dir, "a.log"), filepath.Join(r.dir, "a.log.1")); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, r.Broker, ask("two"))
	r.Reopen()
	mustWrite(t, r.Broker, ask("three"))
	if got := paths(t, r.read(t, "a.log.1")); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the old file has %v", got)
	}
	if got := paths(t, r.read(t, "a.log")); !slices.Equal(got, []string{"three"}) {
		t.Errorf("the new file has %v", got)
	}
}

// TestReopenKeepsWhatItHas: a rotation that leaves no place for a new file costs no entries.
func TestReopenKeepsWhatItHas(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{fileDevice("f/", "a.log")})
	mustWrite(t, r.Broker, ask("one"))
	if err := os.Rename(filepath.Join(r.dir, "a.log"), filepath.Join(r.dir, "old.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "a.log"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.Reopen()
	mustWrite(t, r.Broker, ask("two"))
	if got := paths(t, r.read(t, "old.log")); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the file has %v", got)
	}
	if !strings.Contains(r.log.String(), "was not reopened") {
		t.Errorf("log %q", r.log)
	}
}

// TestReopenWakesWhatIsDown: whoever has repaired the place of a file need not wait.
func TestReopenWakesWhatIsDown(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{fileDevice("f/", "sub/a.log")})
	if err := r.Write(t.Context(), ask("lost")); err != ErrUnwritten {
		t.Fatalf("written to no folder: %v", err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.Reopen()
	mustWrite(t, r.Broker, ask("one"))
	if got := paths(t, r.read(t, "sub/a.log")); !slices.Equal(got, []string{"one"}) {
		t.Errorf("lines of %v", got)
	}
}

func TestFilesAreSharedBetweenDevices(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{fileDevice("f/", "a.log"), fileDevice("g/", "a.log")})
	for range 20 {
		mustWrite(t, r.Broker, ask("x"))
	}
	if got := paths(t, r.read(t, "a.log")); len(got) != 40 {
		t.Errorf("%d lines", len(got))
	}
}
