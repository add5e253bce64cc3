package wholefile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "file"), filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Skip(err)
	}
	for text, mode := range map[string]os.FileMode{"secret": 0o600, "pid": 0o644} {
		if err := Replace(path, text, mode); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		info, e := os.Lstat(path)
		if err != nil || e != nil || string(got) != text || info.Mode() != mode {
			t.Errorf("%q, %v, %v, %v", got, info, err, e)
		}
	}
	if got, _ := os.ReadFile(target); string(got) != "untouched" {
		t.Errorf("followed the link: %q", got)
	}
}

// What fails leaves nothing behind.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if Replace(path, "text", 0o600) == nil {
		t.Error("a folder was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
	if Replace(filepath.Join(dir, "absent", "file"), "text", 0o600) == nil {
		t.Error("wrote into an absent folder")
	}
}
