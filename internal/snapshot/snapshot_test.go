package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/storetest"
)

func TestInspect(t *testing.T) {
	r := newRig(t)
	before := r.content()
	r.fill("data/", 3, 10)
	r.put("other", "x")
	r.alive(when)
	s, err := Inspect(r.save())
	if err != nil {
		t.Fatal(err)
	}
	h := s.Header
	if h.ClusterName != "quorum" || h.ClusterID == "" || h.Generation != 1 || !h.Created.Equal(when) || h.Version != "1.2.3" || h.StorageType != "inmem" {
		t.Errorf("header %+v", h)
	}
	want := r.all(apart)
	if s.Records != int64(len(want)) || s.Transcript != 2 || len(s.SHA256) != 64 {
		t.Errorf("%d records of %d, %d entries, checksum %q", s.Records, len(want), s.Transcript, s.SHA256)
	}
	var records, bytes int64
	found := map[string]Segment{}
	for _, g := range s.Segments {
		records, bytes = records+g.Records, bytes+g.Bytes
		found[g.Name] = g
	}
	if records != s.Records || bytes != s.Bytes || found["data"] != (Segment{"data", 3, 3 * (10 + 10)}) || found["other"] != (Segment{"other", 1, 6}) {
		t.Errorf("segments %+v of %+v", s.Segments, before)
	}
}

func TestNothingToSave(t *testing.T) {
	r := newRig(t)
	err := Save(t.Context(), r.empty(), io.Discard, Header{Created: when})
	if f := fault.As(err); f == nil || f.Kind != fault.Invalid {
		t.Error(err)
	}
	r.put(markerKey, "{}")
	r.wantError(Save(t.Context(), r, io.Discard, Header{Created: when}), "not wholly restored")
}

// No part of a snapshot, and none in which anything has changed, is taken for one.
func TestEveryDamageIsFound(t *testing.T) {
	r := newRig(t)
	whole, err := io.ReadAll(r.save())
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i > 300 && i < len(whole)-300 && i%5 > 0 { // one of five in the records
			continue
		}
		if _, err := Inspect(bytes.NewReader(whole[:i])); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut after %d of %d bytes: %v", i, len(whole), err)
		}
		changed := bytes.Clone(whole)
		changed[i] ^= 1
		if _, err := Inspect(bytes.NewReader(changed)); err == nil {
			t.Fatalf("byte %d of %d changed: accepted", i, len(whole))
		}
	}
	if _, err := Inspect(bytes.NewReader(append(whole, 0))); !errors.Is(err, ErrDamaged) {
		t.Errorf("something after the end: %v", err)
	}
}

// A header that lies has a right checksum, too.
func TestHeaderMustBeThatOfTheRecords(t *testing.T) {
	r := newRig(t)
	for name, change := range map[string]func(*Header){
		"cluster":    func(h *Header) { h.ClusterID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8" },
		"generation": func(h *Header) { h.Generation++ },
	} {
		in, err := Open(r.save())
		if err != nil {
			t.Fatal(err)
		}
		h := in.Header
		change(&h)
		if _, err := Inspect(bytes.NewReader(encode(t, h, in))); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// encode writes what in has yet to read, under a header.
func encode(t *testing.T, h Header, in *Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	out := newEncoder(&b)
	line, err := h.line()
	if err == nil {
		err = out.write(append([]byte(magic), line...))
	}
	for err == nil {
		var e store.Entry
		if e, err = in.Next(); err == nil {
			err = out.record(e)
		}
	}
	if err == io.EOF {
		err = out.end(in.records)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A store may begin a View again. What was sent by then can't be taken back, so there is no end mark.
func TestViewThatBeginsAgain(t *testing.T) {
	r := newRig(t)
	var small bytes.Buffer
	if err := Save(t.Context(), storetest.Rerun(r), &small, Header{Created: when, Version: "1.2.3", StorageType: "inmem"}); err != nil {
		t.Fatal(err)
	}
	want, _ := io.ReadAll(r.save())
	if !bytes.Equal(small.Bytes(), want) {
		t.Error("what had not been sent was not begun again")
	}
	r.fill("data/", 10, 100<<10)
	var large bytes.Buffer
	if err := Save(t.Context(), storetest.Rerun(r), &large, Header{Created: when}); !errors.Is(err, errBegun) {
		t.Fatal(err)
	}
	if sent := large.Len(); sent == 0 {
		t.Error("nothing had been sent")
	}
	if _, err := Inspect(&large); !errors.Is(err, ErrDamaged) {
		t.Errorf("a part of a snapshot is accepted: %v", err)
	}
}

// doubtful is a store that finds at the end of a View that what it read is no one state.
type doubtful struct{ store.Store }

var errDoubt = errors.New("conflict")

func (d doubtful) View(ctx context.Context, fn func(store.Reader) error) error {
	return errors.Join(d.Store.View(ctx, fn), errDoubt)
}

func TestViewThatFailsAtItsEnd(t *testing.T) {
	r := newRig(t)
	var b bytes.Buffer
	if err := Save(t.Context(), doubtful{r}, &b, Header{Created: when}); !errors.Is(err, errDoubt) {
		t.Fatal(err)
	}
	if _, err := Inspect(&b); !errors.Is(err, ErrDamaged) {
		t.Errorf("a snapshot of no one state is accepted: %v", err)
	}
}

// FuzzReader: what is accepted is what Save would write.
func FuzzReader(f *testing.F) {
	header, err := (&Header{Format: format, Created: when}).line()
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	out := newEncoder(&b)
	for _, err := range []error{
		out.write(append([]byte(magic), header...)), out.record(store.Entry{Key: "a", Value: []byte("x")}),
		out.record(store.Entry{Key: "b/c", Value: bytes.Repeat([]byte{7}, 200)}), out.end(2),
	} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, text []byte) {
		in, err := Open(bytes.NewReader(text))
		if err != nil {
			return
		}
		var list []store.Entry
		for {
			e, err := in.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			list = append(list, e)
		}
		var b bytes.Buffer
		out := newEncoder(&b)
		line, _ := in.Header.line()
		_ = out.write(append([]byte(magic), line...))
		for _, e := range list {
			_ = out.record(e)
		}
		_ = out.end(uint64(len(list)))
		if !bytes.Equal(b.Bytes(), text) {
			t.Errorf("accepted %q, which is written %q", text, b.Bytes())
		}
	})
}
