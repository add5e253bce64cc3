//go:build unix

package bolt

import (
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

// fillToTheLimit is a child's work: it sets a limit on the size of its files, writes until the store refuses, and
// checks that the store is as good as before once the limit is lifted.
func fillToTheLimit(s *Store) error {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := limit
	small.Cur = 24 << 20
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	value := strings.Repeat("v", store.MaxValue)
	written := 0
	var refusal error
	for ; written < 64 && refusal == nil; written++ {
		refusal = put(s, fmt.Sprintf("k/%d", written), value)
	}
	written--
	switch {
	case refusal == nil:
		return errors.New("nothing refused")
	case !errors.Is(refusal, errFull):
		return fmt.Errorf("refused as %w, want %w", refusal, errFull)
	case errors.Is(refusal, store.ErrUnknownOutcome):
		return fmt.Errorf("outcome unknown: %w", refusal)
	}
	for i := range written {
		if got, err := get(s, fmt.Sprintf("k/%d", i)); err != nil || got != value {
			return fmt.Errorf("k/%d reads %d bytes, %w", i, len(got), err)
		}
	}
	if got, err := get(s, fmt.Sprintf("k/%d", written)); err != nil || got != "" {
		return fmt.Errorf("what was refused reads %d bytes, %w", len(got), err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := put(s, "after", "room again"); err != nil {
		return err
	}
	fmt.Println("refused, then went on")
	return s.Close()
}

// T51: the file can't grow.
func TestFullWhileGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.db")
	if out := startChild(t, "fill", path).wait(t); strings.TrimSpace(out) != "refused, then went on" {
		t.Fatalf("child says %q", out)
	}
	s := reopen(t, path)
	wantValue(t, s, "after", "room again")
	checkFile(t, s, path)
}
