//go:build !unix

package bolt

import "errors"

// fillToTheLimit needs a limit on the size of files, which this system doesn't have.
func fillToTheLimit(*Store) error { return errors.ErrUnsupported }
