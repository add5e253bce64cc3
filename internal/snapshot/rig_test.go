package snapshot

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// rig is an initialised store.
type rig struct {
	*testing.T
	store.Store
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := (&rig{T: t}).empty()
	made, err := seal.Init(t.Context(), r, seal.InitParams{Shares: 1, Threshold: 1, ClusterName: "quorum", Now: when})
	if err != nil {
		t.Fatal(err)
	}
	made.Wipe()
	r.append(2)
	return r
}

// empty is another store, with nothing in it.
func (r *rig) empty() *rig {
	r.Helper()
	if os.Getenv(anystore.Engine) == "rerun" { // of which nothing large can be saved, as another test shows
		return &rig{r.T, inmem.New()}
	}
	return &rig{r.T, anystore.New(r.T)}
}

// append makes the transcript longer.
func (r *rig) append(entries int) {
	r.Helper()
	r.update(func(tx store.Tx) error {
		signer, _, err := transcript.NewSigner("cluster", rand.Reader)
		if err == nil {
			_, err = transcript.Append(tx, signer, slices.Repeat([]transcript.Entry{{Time: when, Event: transcript.Sealed}}, entries)...)
		}
		return err
	})
}

func (r *rig) update(fn func(store.Tx) error) {
	r.Helper()
	if err := r.Update(r.Context(), fn); err != nil {
		r.Fatal(err)
	}
}

// fill adds n records of this size.
func (r *rig) fill(prefix string, n, size int) {
	r.Helper()
	r.update(func(tx store.Tx) error {
		for i := range n {
			if err := tx.Put(fmt.Sprintf("%s%05d", prefix, i), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *rig) put(key, value string) {
	r.Helper()
	r.update(func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
}

// alive leaves the sign of life of a server.
func (r *rig) alive(at time.Time) {
	r.Helper()
	r.put("plain/node/a", fmt.Sprintf(`{"id":"a","last_echo":%q}`, at.Format(time.RFC3339Nano)))
}

// content is everything that a restore brings.
func (r *rig) content() map[string]string { return r.all(renewed) }

func (r *rig) all(without func(string) bool) map[string]string {
	r.Helper()
	all := map[string]string{}
	err := r.View(context.WithoutCancel(r.Context()), func(rd store.Reader) error {
		for e, err := range rd.Scan("", "") {
			if err != nil {
				return err
			}
			if !without(e.Key) {
				all[e.Key] = string(e.Value)
			}
		}
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
	return all
}

func (r *rig) value(key string) string { return r.all(func(k string) bool { return k != key })[key] }

func (r *rig) unfinished() error { return r.View(r.Context(), Unfinished) }

func (r *rig) save() *bytes.Reader {
	r.Helper()
	var b bytes.Buffer
	if err := Save(r.Context(), r, &b, Header{Created: when, Version: "1.2.3", StorageType: "inmem"}); err != nil {
		r.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

func (r *rig) restore(in io.ReadSeeker, force bool) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		r.Fatal(err)
	}
	_, err := Restore(r.Context(), r, in, Options{Force: force})
	return err
}

// is compares contents.
func (r *rig) is(want map[string]string) {
	r.Helper()
	got := r.content()
	if !maps.Equal(got, want) {
		r.Errorf("%d records, want %d; they differ", len(got), len(want))
	}
	if err := r.unfinished(); err != nil {
		r.Error(err)
	}
}

func (r *rig) wantError(err error, contains string) {
	r.Helper()
	if err == nil || !strings.Contains(err.Error(), contains) {
		r.Errorf("%v, want an error with %q", err, contains)
	}
}

// frugal is a store that counts what the largest Update writes.
type frugal struct {
	store.Store
	records, bytes int
}

func (f *frugal) Update(ctx context.Context, fn func(store.Tx) error) error {
	tx := &countedTx{}
	err := f.Store.Update(ctx, func(under store.Tx) error {
		*tx = countedTx{Tx: under}
		return fn(tx)
	})
	f.records, f.bytes = max(f.records, tx.records), max(f.bytes, tx.bytes)
	return err
}

type countedTx struct {
	store.Tx
	records, bytes int
}

func (c *countedTx) Put(key string, value []byte) error {
	c.records, c.bytes = c.records+1, c.bytes+len(key)+len(value)
	return c.Tx.Put(key, value)
}

func (c *countedTx) Delete(key string) error {
	c.records, c.bytes = c.records+1, c.bytes+len(key)
	return c.Tx.Delete(key)
}
