package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// writePIDFile tells supervisors which process this is, for as long as it runs.
func (s *server) writePIDFile(context.Context) error {
	path := s.cfg.PIDFile
	if path == "" {
		return nil
	}
	text := strconv.Itoa(os.Getpid()) + "\n"
	if err := replaceFile(path, text, 0o644); err != nil {
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

// replaceFile writes a file whole or not at all, and follows no link at path.
func replaceFile(path, text string, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
