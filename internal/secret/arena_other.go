//go:build !unix

package secret

import "errors"

func mapPages(int) (pages []byte, locked bool, err error) {
	return nil, false, errors.New("this system has no locked memory that is supported")
}

func unmapPages([]byte) {}
