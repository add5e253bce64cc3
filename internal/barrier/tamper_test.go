package barrier

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

func flipped(b []byte, bit int) []byte {
	out := bytes.Clone(b)
	out[bit/8] ^= 1 << (bit % 8)
	return out
}

// wantDamaged reads key in every way there is; each must give the one error and no value.
func wantDamaged(t *testing.T, b *Barrier, key, what string) {
	t.Helper()
	read := func(r store.Reader) error {
		if values, err := r.Get("good", key); err != ErrDamaged || values != nil {
			t.Errorf("%s: Get gives %q, %v", what, values, err)
		}
		var last error
		for e, err := range r.Scan(key, "") {
			if last != nil {
				t.Errorf("%s: the scan goes on after an error", what)
			}
			if last = err; err != nil && (e.Key != "" || e.Value != nil) {
				t.Errorf("%s: the scan gives %+v with an error", what, e)
			}
		}
		if last != ErrDamaged {
			t.Errorf("%s: Scan ends with %v", what, last)
		}
		return nil
	}
	if err := b.View(ctx, read); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(ctx, func(tx store.Tx) error { return read(tx) }); err != nil {
		t.Fatal(err)
	}
}

func TestRecordIsBoundToItsKey(t *testing.T) {
	b, st := pair(t)
	put(t, b, "good", "untouched")
	put(t, b, "token/root", "root")
	put(t, b, "token/user", "user")
	root, user := raw(t, st, "token/root"), raw(t, st, "token/user")
	put(t, st, "token/root", string(user))
	put(t, st, "token/user", string(root))
	wantDamaged(t, b, "token/root", "swapped records")
	wantDamaged(t, b, "token/user", "swapped records")
	put(t, st, "token/new", string(root))
	wantDamaged(t, b, "token/new", "copied record")
	put(t, st, "token/root", string(root))
	wantValue(t, b, "token/root", "root")
}

func TestEveryBitCounts(t *testing.T) {
	b, st := pair(t)
	put(t, b, "good", "untouched")
	put(t, b, "k", "a short value")
	record := raw(t, st, "k")
	for bit := range len(record) * 8 {
		put(t, st, "k", string(flipped(record, bit)))
		wantDamaged(t, b, "k", "bit "+string(rune('0'+bit%8)))
	}
	for n := range len(record) {
		put(t, st, "k", string(record[:n]))
		wantDamaged(t, b, "k", "cut off")
	}
	put(t, st, "k", string(record)+"\x00")
	wantDamaged(t, b, "k", "one byte more")
	put(t, st, "k", string(make([]byte, 100)))
	wantDamaged(t, b, "k", "zeros")
	put(t, st, "k", string(record))
	wantValue(t, b, "k", "a short value")
}

func TestRecordOfAnotherCluster(t *testing.T) {
	b, st := pair(t)
	put(t, b, "good", "untouched")
	put(t, b, "k", "mine")
	_, other := pair(t) // the same root key, other data keys
	theirs := openWith(t, other, standard)
	put(t, theirs, "k", "theirs")
	put(t, st, "k", string(raw(t, other, "k")))
	wantDamaged(t, b, "k", "record under another data key")
}

func TestUnknownTerm(t *testing.T) {
	b, st := pair(t)
	put(t, b, "good", "untouched")
	put(t, b, "k", "v")
	for _, number := range []uint32{0, 2, 3, 1 << 31, 1<<32 - 1} {
		record := raw(t, st, "k")
		binary.BigEndian.PutUint32(record[1:], number)
		put(t, st, "k", string(record))
		wantDamaged(t, b, "k", "a term that doesn't exist")
	}
}

func TestScanDecryptsLazily(t *testing.T) {
	b, st := pair(t)
	put(t, b, "s/1", "one")
	put(t, b, "s/2", "two")
	put(t, st, "s/3", "junk")
	err := b.View(ctx, func(r store.Reader) error {
		var got []string
		for e, err := range r.Scan("s/", "") {
			if err != nil {
				return err
			}
			if got = append(got, string(e.Value)); len(got) == 2 {
				break
			}
		}
		if len(got) != 2 || got[0] != "one" || got[1] != "two" {
			t.Errorf("the scan gives %q", got)
		}
		return nil
	})
	if err != nil {
		t.Errorf("a damaged record behind the end of the loop matters: %v", err)
	}
}

func TestKeyringTampering(t *testing.T) {
	b, st := pair(t)
	if err := b.Rotate(ctx, born); err != nil {
		t.Fatal(err)
	}
	keyring := raw(t, st, KeyringKey)
	for bit := range len(keyring) * 8 {
		put(t, st, KeyringKey, string(flipped(keyring, bit)))
		if _, err := Open(ctx, st, rootKey("root")); err != ErrWrongKey {
			t.Fatalf("keyring with bit %d changed: %v", bit, err)
		}
	}
	for n := range len(keyring) {
		put(t, st, KeyringKey, string(keyring[:n]))
		if _, err := Open(ctx, st, rootKey("root")); err != ErrWrongKey {
			t.Fatalf("keyring cut to %d bytes: %v", n, err)
		}
	}
	if err := b.Rotate(ctx, born); err == nil {
		t.Error("Rotate overwrites a keyring that it can't read")
	}
}

// A keyring that whoever holds the root key made wrong: no gaps, no terms out of order, none missing.
func TestKeyringGaps(t *testing.T) {
	wrap, err := keyringAEAD(rootKey("root"))
	if err != nil {
		t.Fatal(err)
	}
	for name, numbers := range map[string][]uint32{
		"empty": {}, "not from 1": {2}, "gap": {1, 3}, "zero": {0, 1}, "order": {2, 1}, "twice": {1, 1},
	} {
		plain := make([]byte, len(numbers)*termSize)
		for i, n := range numbers {
			binary.BigEndian.PutUint32(plain[i*termSize:], n)
		}
		record := wrap.Seal([]byte{keyringVersion}, nil, plain, keyringAAD())
		if _, err := openKeyring(wrap, record); err != ErrDamaged {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := wrap.Seal([]byte{keyringVersion}, nil, make([]byte, termSize+1), keyringAAD())
	if _, err := openKeyring(wrap, odd); err != ErrDamaged {
		t.Errorf("a length that is no number of terms: %v", err)
	}
	elsewhere := wrap.Seal([]byte{keyringVersion}, nil, make([]byte, termSize), []byte(labelKeyring+"\x00plain/other"))
	if _, err := openKeyring(wrap, elsewhere); err != ErrWrongKey {
		t.Errorf("a keyring of another place: %v", err)
	}
}

// An older keyring that somebody put back under a running server: what is written from then on must be readable by
// a server that starts later, which knows only that keyring.
func TestKeyringPutBack(t *testing.T) {
	b, st := pair(t)
	put(t, b, "old", "under term 1")
	before := dump(t, st)
	if err := b.Rotate(ctx, born); err != nil {
		t.Fatal(err)
	}
	put(t, b, "new", "under term 2")
	put(t, st, KeyringKey, string(before[KeyringKey]))
	put(t, st, StampKey, string(before[StampKey]))
	put(t, b, "later", "after it was put back")
	wantValue(t, b, "new", "under term 2")
	fresh := openWith(t, st, standard)
	wantValue(t, fresh, "old", "under term 1")
	wantValue(t, fresh, "later", "after it was put back")
	if _, err := get(fresh, "new"); err != ErrDamaged {
		t.Errorf("a record of the lost term: %v", err)
	}
	// A second term 2 is another key than the one that b remembers.
	if err := fresh.Rotate(ctx, born); err != nil {
		t.Fatal(err)
	}
	put(t, b, "last", "under the second term 2")
	wantValue(t, fresh, "last", "under the second term 2")
}

// The format, held still: a keyring and a record written by an earlier build.
func TestGoldenRecords(t *testing.T) {
	st := inmem.New()
	for key, record := range map[string]string{KeyringKey: goldenKeyring, "golden/path": goldenRecord} {
		b, err := hex.DecodeString(record)
		if err != nil {
			t.Fatal(err)
		}
		put(t, st, key, string(b))
	}
	b := openWith(t, st, standard)
	wantValue(t, b, "golden/path", "golden value")
	s, err := b.Status(ctx)
	if err != nil || s.Term != 1 || !s.Installed.Equal(born) {
		t.Errorf("the golden keyring is %+v, %v", s, err)
	}
	want := "574e6f652b22adaef0105999855ad14a35d87ca7267143cbb85b05f6fddc186b"
	if got := hex.EncodeToString(b.DeriveKey("golden").Reveal()); got != want {
		t.Errorf("DeriveKey gives %s", got)
	}
	if err := b.Rotate(ctx, born); err != nil {
		t.Errorf("the golden keyring can't be rotated: %v", err)
	}
}

const (
	goldenKeyring = "014e4664c112ff961c212ae77a015a7b726b56306e54257534a6f9edeaf80a75759195ee32c2cd9bda9ee53f1b9e4b78560ecfd1c319321c0ac7b9ae1b50750baa8acf952fc74ff10f"
	goldenRecord  = "01000000014f0a371759161f43ae23c38248a4f051725664d2a8c283cac77d87accdd61b7c65e1d745874c93d4"
)
