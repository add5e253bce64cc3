//go:build unix

package secret

import "golang.org/x/sys/unix"

// mapPages takes memory from the system, outside the Go heap. Locking it fails when the limit on locked memory is
// reached (RLIMIT_MEMLOCK); the memory is good for everything else even so.
func mapPages(size int) (pages []byte, locked bool, err error) {
	pages, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, false, err
	}
	locked = unix.Mlock(pages) == nil && keepFromDumps(pages) == nil
	return pages, locked, nil
}

// unmapPages unlocks and gives back what mapPages took. It can fail only for memory that isn't mapped.
func unmapPages(pages []byte) { _ = unix.Munmap(pages) }
