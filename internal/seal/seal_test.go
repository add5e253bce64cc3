package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

var (
	ctx  = context.Background()
	born = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
)

// cluster is an initialised store and what only its key holders know.
type cluster struct {
	store.Store
	id     string
	shares [][]byte
	now    time.Time
}

func initCluster(t testing.TB, st store.Store, n, threshold int) *cluster {
	t.Helper()
	c := &cluster{Store: st, now: born}
	c.init(t, InitParams{Shares: n, Threshold: threshold, Now: born, Fill: fill})
	return c
}

func (c *cluster) init(t testing.TB, p InitParams) {
	t.Helper()
	res, err := Init(ctx, c.Store, p)
	if err != nil {
		t.Fatalf("Init: %v", err)
	}
	c.id, c.shares = res.ClusterID, nil
	for _, s := range res.Shares {
		c.shares = append(c.shares, s.Reveal())
	}
}

// fill writes what the domain would write at init.
func fill(tx store.Tx) error { return tx.Put("domain/first", []byte("a record of the domain")) }

func (c *cluster) unsealer() *Unsealer {
	return NewUnsealer(c.Store, func() time.Time { return c.now })
}

// yes accepts every share.
func yes(Accepted) error { return nil }

// share returns a copy of the share of a slot, since Submit wipes what it takes.
func (c *cluster) share(slot int) secret.Bytes { return secret.Copy(c.shares[slot-1]) }

func (c *cluster) record(t testing.TB) *Record {
	t.Helper()
	rec, err := Load(reading(t, c.Store))
	if err != nil || rec == nil {
		t.Fatalf("Load: %+v, %v", rec, err)
	}
	return rec
}

// open unseals with the shares of the slots, and closes what it opened at the end of the test.
func (c *cluster) open(t testing.TB, u *Unsealer, local bool, slots ...int) (*Opened, error) {
	t.Helper()
	for i, slot := range slots {
		_, opened, err := u.Submit(ctx, c.share(slot), local, yes, nil)
		if err != nil {
			return nil, err
		}
		if opened != nil {
			t.Cleanup(func() { opened.Barrier.Close() })
			if i != len(slots)-1 {
				t.Fatalf("open after %d of %d shares", i+1, len(slots))
			}
			return opened, nil
		}
	}
	return nil, nil
}

func (c *cluster) mustOpen(t testing.TB, u *Unsealer, slots ...int) *Opened {
	t.Helper()
	opened, err := c.open(t, u, false, slots...)
	if err != nil || opened == nil {
		t.Fatalf("unseal with %v: %v, %v", slots, opened, err)
	}
	if got := string(raw(t, opened.Barrier, "domain/first")); got != "a record of the domain" {
		t.Errorf("behind the barrier is %q", got)
	}
	return opened
}

// snapshot is a Reader over a copy of a whole store.
type snapshot struct {
	store.Reader
	all map[string][]byte
}

func (s snapshot) Get(keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = s.all[key]
	}
	return values, nil
}

func reading(t testing.TB, st store.Store) snapshot { return snapshot{all: dump(t, st)} }

func dump(t testing.TB, st store.Store) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := st.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = bytes.Clone(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func raw(t testing.TB, st store.Store, key string) []byte {
	t.Helper()
	return dump(t, st)[key]
}

func putRaw(t testing.TB, st store.Store, key string, value []byte) {
	t.Helper()
	err := st.Update(ctx, func(tx store.Tx) error {
		if value == nil {
			return tx.Delete(key)
		}
		return tx.Put(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantFault(t testing.TB, err error, kind fault.Kind, contains string) {
	t.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != kind || !strings.Contains(f.Sentence, contains) {
		t.Errorf("got %v, want a fault of kind %d with %q", err, kind, contains)
	}
}

func wantGiven(t testing.TB, u *Unsealer, given int) Progress {
	t.Helper()
	p, err := u.Progress(ctx)
	if err != nil || p.Given != given || (p.Nonce == "") != (given == 0) {
		t.Errorf("progress is %+v, %v; want %d given", p, err, given)
	}
	return p
}

// leaks reports whether text holds a part of a share in one of the forms that bytes are printed in.
func leaks(text, share []byte) bool {
	piece := share[4:12]
	forms := [][]byte{
		piece,
		[]byte(hex.EncodeToString(piece)), []byte(strings.ToUpper(hex.EncodeToString(piece))),
		[]byte(base64.StdEncoding.EncodeToString(share[3:12])), []byte(base64.URLEncoding.EncodeToString(share[3:12])),
		[]byte(strings.Trim(fmt.Sprint(piece), "[]")),
		[]byte(strings.Trim(fmt.Sprintf("%q", piece), `"`)),
	}
	for _, form := range forms {
		if bytes.Contains(text, form) {
			return true
		}
	}
	return false
}

func junk(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// edit changes a stored record as somebody could who writes to the store and knows the format: with forged set the
// checksum is right afterwards. The MAC stays.
func edit(t testing.TB, stored []byte, forged bool, change func(*body, *table)) []byte {
	t.Helper()
	signed, end := split(stored)
	first, second, _ := bytes.Cut(signed, []byte{'\n'})
	var b body
	var h table
	if err := errors.Join(json.Unmarshal(first, &b), json.Unmarshal(second, &h)); err != nil {
		t.Fatal(err)
	}
	change(&b, &h)
	signed, err := lines(b, h)
	if err != nil {
		t.Fatal(err)
	}
	if forged {
		end.Sum = recordSum(signed, end.MAC)
	}
	last, err := json.Marshal(end)
	if err != nil {
		t.Fatal(err)
	}
	return append(signed, last...)
}

// subsets calls fn with every choice of k of the slots 1..n.
func subsets(n, k int, fn func(slots []int)) {
	var choose func(from int, chosen []int)
	choose = func(from int, chosen []int) {
		if len(chosen) == k {
			fn(chosen)
			return
		}
		for slot := from; slot <= n; slot++ {
			choose(slot+1, append(chosen, slot))
		}
	}
	choose(1, nil)
}

func newStore() *inmem.Store { return inmem.New() }
