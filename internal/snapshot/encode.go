package snapshot

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
)

// encoder writes one stream, in large pieces.
type encoder struct {
	w    io.Writer
	sent int64
	sum  hash.Hash // of what was written, sent or not
	buf  *bufio.Writer
	temp []byte
}

const pieceSize = 256 << 10

func newEncoder(w io.Writer) *encoder {
	e := &encoder{w: w}
	e.buf = bufio.NewWriterSize(counter{e}, pieceSize)
	e.reset()
	return e
}

// counter sends the pieces and counts them.
type counter struct{ e *encoder }

func (c counter) Write(p []byte) (int, error) {
	n, err := c.e.w.Write(p)
	c.e.sent += int64(n)
	return n, err
}

// reset begins anew. Nothing may have been sent.
func (e *encoder) reset() {
	e.buf.Reset(counter{e})
	e.sum = sha256.New()
}

func (e *encoder) write(p []byte) error {
	e.sum.Write(p)
	_, err := e.buf.Write(p)
	return err
}

func (e *encoder) begin(r store.Reader, h Header) error {
	if err := Unfinished(r); err != nil {
		return err
	}
	rec, err := seal.Load(r)
	switch {
	case err != nil:
		return err
	case rec == nil:
		return errNew
	}
	h.of(rec)
	h.Created = h.Created.UTC()
	line, err := h.line()
	if err != nil {
		return err
	}
	return e.write(append([]byte(magic), line...))
}

func (e *encoder) record(r store.Entry) error {
	e.temp = appendRecord(e.temp[:0], r)
	return e.write(e.temp)
}

func appendRecord(b []byte, r store.Entry) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(r.Key))), r.Key...)
	return append(binary.AppendUvarint(b, uint64(len(r.Value))), r.Value...)
}

func (e *encoder) end(records uint64) error {
	if err := e.write(binary.AppendUvarint([]byte{0}, records)); err != nil {
		return err
	}
	if _, err := e.buf.Write(e.sum.Sum(nil)); err != nil {
		return err
	}
	return e.buf.Flush()
}
