package engines

import (
	"os"
	"testing"
)

// tempDir is a new folder for an engine's data: in memory where there is a file system for that, because an engine that is
// killed loses nothing there either and a disk's flushes only take time; or below QUORATE_ENGINES_DIR, which measurements
// set to a place on a disk.
func tempDir(pattern string) (string, error) {
	for _, parent := range []string{os.Getenv("QUORATE_ENGINES_DIR"), "/dev/shm"} {
		if parent == "" {
			continue
		}
		if dir, err := os.MkdirTemp(parent, pattern); err == nil {
			return dir, nil
		}
	}
	return os.MkdirTemp("", pattern)
}

// testDir is tempDir until the test ends.
func testDir(t testing.TB, pattern string) string {
	t.Helper()
	dir, err := tempDir(pattern)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
