package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/quorate/quorate/internal/wholefile"
)

// writePIDFile tells supervisors which process this is, for as long as it runs.
func (s *server) writePIDFile(context.Context) error {
	path := s.cfg.PIDFile
	if path == "" {
		return nil
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := wholefile.Replace(path, text, 0o644); err != nil {
		return fmt.Errorf("write the pid file: %w", err)
	}
	s.onClose(func(context.Context) error {
		// A server that was started since may have written its own.
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			return nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the pid file: %w", err)
		}
		return nil
	})
	return nil
}
