//go:build !linux

package secret

// DisableCoreDumps does nothing on this system.
func DisableCoreDumps() error { return nil }
