package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// Summary is what is in a snapshot.
type Summary struct {
	Header     Header
	Records    int64
	Bytes      int64  // of keys and values
	SHA256     string // of all before it: the checksum at the end
	Transcript int64  // entries; 0 also if its head is missing or damaged
	Segments   []Segment

	content tally          // what a restore must have brought
	at      map[string]int // :: name → its place in Segments
}

// Segment is the records whose keys begin with the same name.
type Segment struct {
	Name    string
	Records int64
	Bytes   int64
}

// Inspect reads a stream to its end and makes sure that it is whole, and of the cluster and generation that its header
// says.
func Inspect(in io.Reader) (*Summary, error) {
	r, err := Open(in)
	if err != nil {
		return nil, err
	}
	s := &Summary{Header: r.Header, content: newTally(), at: map[string]int{}}
	public := kept{}
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		s.add(e)
		public.keep(e)
	}
	s.SHA256 = hex.EncodeToString(r.end)
	rec, err := seal.Load(public)
	if err != nil || rec == nil {
		return nil, damaged("it has no seal record that can be read")
	}
	said := s.Header
	if said.of(rec); said != s.Header {
		return nil, damaged("its header says something else than its seal record")
	}
	if head, err := transcript.ReadHead(public); err == nil {
		s.Transcript = head.Size
	}
	return s, nil
}

func (s *Summary) add(e store.Entry) {
	size := int64(len(e.Key) + len(e.Value))
	s.Records++
	s.Bytes += size
	name, _, _ := strings.Cut(e.Key, "/")
	i, ok := s.at[name]
	if !ok {
		i, s.Segments = len(s.Segments), append(s.Segments, Segment{Name: name})
		s.at[name] = i
	}
	s.Segments[i].Records++
	s.Segments[i].Bytes += size
	if !renewed(e.Key) {
		s.content.add(e)
	}
}

// kept is a Reader of the few records that say what a snapshot is of.
type kept map[string][]byte

func (k kept) keep(e store.Entry) {
	if strings.HasPrefix(e.Key, "plain/") && strings.Count(e.Key, "/") <= 2 { // not the entries of the transcript
		k[e.Key] = e.Value
	}
}

// Get implements store.Reader.
func (k kept) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = k[key]
	}
	return values, nil
}

// Scan implements store.Reader: nothing is listed.
func (k kept) Scan(string, string) iter.Seq2[store.Entry, error] {
	return func(func(store.Entry, error) bool) {}
}

// tally tells two contents apart.
type tally struct {
	records int64
	sum     hash.Hash
}

func newTally() tally { return tally{sum: sha256.New()} }

func (t *tally) add(e store.Entry) {
	t.records++
	t.sum.Write(appendRecord(nil, e))
}

func (t tally) equal(u tally) bool {
	return t.records == u.records && bytes.Equal(t.sum.Sum(nil), u.sum.Sum(nil))
}

// take reads everything in st but what is left out. It needs a store that nobody else writes to: it is more than one look.
func take(ctx context.Context, st store.Store, without func(key string) bool) (tally, error) {
	t := newTally()
	next := pages(ctx, st, "", without)
	for last := false; !last; {
		var page []store.Entry
		var err error
		if page, last, err = next(); err != nil {
			return t, err
		}
		for _, e := range page {
			t.add(e)
		}
	}
	return t, nil
}

// The most that is read, or written, in one transaction: every store can do that much.
const (
	batchRecords = 500
	batchBytes   = 1 << 20
)

// pages reads st in pieces, each of which is the caller's; last says that nothing follows.
func pages(ctx context.Context, st store.Store, after string, without func(key string) bool) source {
	return func() (page []store.Entry, last bool, err error) {
		var reached string
		err = st.View(ctx, func(r store.Reader) error {
			page, reached, last = nil, after, false
			size, n := 0, 0
			for e, err := range r.Scan("", after) {
				if err != nil {
					return err
				}
				if n++; n > batchRecords || len(page) > 0 && size+len(e.Key)+len(e.Value) > batchBytes {
					return nil
				}
				reached = e.Key
				if without(e.Key) {
					continue
				}
				size += len(e.Key) + len(e.Value)
				page = append(page, store.Entry{Key: e.Key, Value: slices.Clone(e.Value)})
			}
			last = true
			return nil
		})
		after = reached
		return page, last, err
	}
}
