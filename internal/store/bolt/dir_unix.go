//go:build unix

package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkAccess refuses a directory with any right for others, or that another account than uid owns.
func checkAccess(dir string, info fs.FileInfo, uid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of the data directory %s can't be told", dir)
	}
	if int(stat.Uid) != uid {
		return fmt.Errorf("the data directory %s belongs to another account (uid %d): run the server as that account, "+
			"or choose another data directory", dir, stat.Uid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the data directory %s is open to other accounts (mode %04o): run chmod 700 on it, "+
			"and find out who could have used it", dir, info.Mode().Perm())
	}
	return nil
}

// syncDir makes a new name in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	return nil
}
