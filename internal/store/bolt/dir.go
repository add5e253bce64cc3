package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckDir makes sure that dir is a directory which only this account can use; an absent one is created so. The error
// is written for the operator who starts the server.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return createDir(dir)
	}
	switch {
	case err != nil:
		return fmt.Errorf("look at the data directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory: choose another data directory", dir)
	}
	return checkAccess(dir, info, os.Geteuid())
}

func createDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { // a umask may have taken the owner's own rights
		return fmt.Errorf("create the data directory: %w", err)
	}
	return syncDir(filepath.Dir(filepath.Clean(dir)))
}
