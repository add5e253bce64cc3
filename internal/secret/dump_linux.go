package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// DisableCoreDumps keeps the whole process from being dumped when it crashes, and other processes of the same user
// from reading its memory. It holds for the rest of the process's life; on systems other than Linux it does nothing.
func DisableCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setting the size limit of core dumps to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("marking the process as not dumpable: %w", err)
	}
	return nil
}
