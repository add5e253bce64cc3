package secret

import "golang.org/x/sys/unix"

func keepFromDumps(pages []byte) error { return unix.Madvise(pages, unix.MADV_DONTDUMP) }
