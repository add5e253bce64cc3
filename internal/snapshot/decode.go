package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/quorate/quorate/internal/store"
)

// Reader reads one stream. What it has returned is only certain once Next has returned io.EOF.
type Reader struct {
	Header Header

	in      *bufio.Reader
	sum     hash.Hash
	records uint64
	last    string
	end     []byte // the checksum, once it was read and found right
}

// Open reads the header.
func Open(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 64<<10), sum: sha256.New()}
	line := make([]byte, len(magic))
	if err := r.read(line); err != nil {
		return nil, err
	}
	if string(line) != magic {
		return nil, damaged("it doesn't begin as one")
	}
	line = line[:0]
	for !bytes.HasSuffix(line, []byte("\n")) {
		c, err := r.in.ReadByte()
		if err != nil {
			return nil, short(err)
		}
		if line = append(line, c); len(line) > maxHeader {
			return nil, damaged("its header is too long")
		}
	}
	r.sum.Write(line)
	var err error
	r.Header, err = decodeHeader(line)
	return r, err
}

// short makes of the end of the file, where there should be more, what it means.
func short(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("it breaks off before its end")
	}
	return fmt.Errorf("the snapshot can't be read: %w", err)
}

func (r *Reader) read(p []byte) error {
	if _, err := io.ReadFull(r.in, p); err != nil {
		return short(err)
	}
	r.sum.Write(p)
	return nil
}

// number reads a varint, in its shortest form only.
func (r *Reader) number() (uint64, error) {
	var b []byte
	for {
		c, err := r.in.ReadByte()
		if err != nil {
			return 0, short(err)
		}
		b = append(b, c)
		if c < 0x80 {
			break
		}
		if len(b) == binary.MaxVarintLen64 {
			return 0, damaged("a number in it is too long")
		}
	}
	n, used := binary.Uvarint(b)
	if used != len(b) || len(b) > 1 && b[len(b)-1] == 0 {
		return 0, damaged("a number in it isn't as it was written")
	}
	r.sum.Write(b)
	return n, nil
}

// Next returns the next record, whose value is the caller's; io.EOF after the last one, if all were as they were written.
func (r *Reader) Next() (store.Entry, error) {
	if r.end != nil {
		return store.Entry{}, io.EOF
	}
	n, err := r.number()
	switch {
	case err != nil:
		return store.Entry{}, err
	case n == 0:
		return store.Entry{}, r.finish()
	case n > store.MaxKey:
		return store.Entry{}, damaged("a key in it is too long")
	}
	key := make([]byte, n)
	if err := r.read(key); err != nil {
		return store.Entry{}, err
	}
	e := store.Entry{Key: string(key)}
	if store.CheckKey(e.Key) != nil || e.Key <= r.last || apart(e.Key) {
		return store.Entry{}, damaged("a key in it can't be there")
	}
	r.last = e.Key
	if n, err = r.number(); err != nil {
		return store.Entry{}, err
	}
	if n > store.MaxValue {
		return store.Entry{}, damaged("a value in it is too long")
	}
	e.Value = make([]byte, n)
	r.records++
	return e, r.read(e.Value)
}

// finish reads the rest of the end, and makes sure that it is one. It returns io.EOF.
func (r *Reader) finish() error {
	n, err := r.number()
	if err != nil {
		return err
	}
	want, got := r.sum.Sum(nil), make([]byte, sha256.Size)
	if err := r.read(got); err != nil {
		return err
	}
	switch {
	case n != r.records:
		return damaged(fmt.Sprintf("it has %d records and should have %d", r.records, n))
	case !bytes.Equal(got, want):
		return damaged("its checksum is another one")
	}
	switch _, err := r.in.ReadByte(); {
	case err == nil:
		return damaged("something follows its end")
	case err != io.EOF:
		return short(err)
	}
	r.end = want
	return io.EOF
}
