package transcript

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

// exportVersion is the value of the member that makes a file an export.
const exportVersion = 1

// maxLine is more than the line of the largest record needs: its quotes take a byte more, control characters five.
const maxLine = 6*maxLeaf + 1024

// ExportHeader is the first line of an export: what is needed to check the lines after it.
type ExportHeader struct {
	Version     int    `json:"quorate_transcript"` // set by WriteExport
	ClusterID   string `json:"cluster_id"`
	VerifierKey string `json:"verifier_key"`
	Checkpoint  string `json:"checkpoint"`
}

// exportLine is every other line. Record is the leaf, byte by byte.
type exportLine struct {
	Index  *int64  `json:"index"`
	Record *string `json:"record"`
}

// WriteExport writes a log as lines of JSON, from the leaves in the order of their indexes, beginning with 0.
func WriteExport(w io.Writer, h ExportHeader, records iter.Seq2[[]byte, error]) error {
	h.Version = exportVersion
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return err
	}
	index := int64(0)
	for leaf, err := range records {
		if err != nil {
			return err
		}
		if !utf8.Valid(leaf) { // JSON would write something else
			return fmt.Errorf("entry %d is damaged: it is not UTF-8", index)
		}
		record := string(leaf)
		if err := enc.Encode(exportLine{Index: &index, Record: &record}); err != nil {
			return err
		}
		index++
	}
	return out.Flush()
}

// VerifyOptions are what a verifier knows from elsewhere. Without them an export is compared with itself only.
type VerifyOptions struct {
	VerifierKey string // that the checkpoints must be signed with
	Checkpoint  []byte // an older one that the log must continue
	Discard     bool   // keep no entries in the report: for logs that don't fit into memory
}

// Report is what verifying an export found.
type Report struct {
	ClusterID   string
	VerifierKey string // the one that was used
	Pinned      bool   // it was given by whoever verified, not taken from the export
	Checkpoint  string
	Size        int64     // entries read
	Root        tlog.Hash // over them
	Signed      int64     // how many of them the checkpoint covers
	Signatures  int64     // how many holders' signatures are valid
	Unknown     int64     // how many entries this version doesn't know the meaning of
	Unchecked   int64     // how many shares a sealed server took while its table of key holders was damaged: nobody signed those
	Entries     []ReportEntry
	Problems    []string // sentences; none if all is well
}

// ReportEntry is one entry of a verified log.
type ReportEntry struct {
	Index   int64
	Entry   *Entry
	Unknown bool // the event isn't known, or has members that aren't
	Proven  bool // it carries a holder's signature, which is valid
}

// VerifyExport reads an export and checks all of it: the root against the checkpoint, its signature, each attempt's
// digest, each holder's signature, and that what needs a quorum had one. An error means that it isn't an export, or
// couldn't be read; whatever else is wrong is in the report's problems.
func VerifyExport(r io.Reader, o VerifyOptions) (*Report, error) {
	lines := lineReader{in: bufio.NewReaderSize(r, 64<<10)}
	h, err := readHeader(&lines)
	if err != nil {
		return nil, err
	}
	a := newAuditor(h, o)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return a.finish(), nil
		}
		if err != nil {
			return nil, err
		}
		a.line(line)
	}
}

func readHeader(lines *lineReader) (ExportHeader, error) {
	var h ExportHeader
	line, err := lines.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if err != nil || strict(line, &h) != nil || h.Version == 0 {
		return h, errors.New("this is not the export of a transcript: its first line must be the header")
	}
	if h.Version != exportVersion {
		return h, errors.New("this export is of another version: verify it with the version of this program that made it")
	}
	return h, nil
}

// strict decodes one JSON value that has no unknown members.
func strict(line []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value in a line")
	}
	return nil
}

// lineReader reads lines of bounded length.
type lineReader struct {
	in  *bufio.Reader
	buf []byte
}

// next returns a line without its end, valid until the next call; io.EOF after the last one.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		if len(l.buf)+len(part) > maxLine {
			return nil, errors.New("the export has a line that is longer than any entry")
		}
		l.buf = append(l.buf, part...)
		switch {
		case err == nil:
			return l.buf[:len(l.buf)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(l.buf) > 0:
			return l.buf, nil
		default:
			return nil, err
		}
	}
}
