//go:build !unix

package bolt

import "io/fs"

// checkAccess has nothing to look at: on this system a directory's rights are not in its mode. They are inherited from
// the directory above it.
func checkAccess(string, fs.FileInfo, int) error { return nil }

// syncDir does nothing: on this system a directory can't be synced, and needn't be.
func syncDir(string) error { return nil }
