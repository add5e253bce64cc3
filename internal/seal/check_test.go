package seal

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

func TestCheckGivesHolderKey(t *testing.T) {
	for _, n := range []int{1, 3} {
		c := initCluster(t, newStore(), n, n)
		rec := c.record(t)
		for slot := 1; slot <= n; slot++ {
			share := c.share(slot)
			got, key, err := rec.Check(share)
			if err != nil || got != slot {
				t.Fatalf("share %d is found in slot %d, %v", slot, got, err)
			}
			s := holder.Statement{Action: holder.ActionApprove, ClusterID: c.id, Generation: 1, Slot: slot, Mode: holder.ModeShare}
			verifier, ok := rec.Generation().Verifier(slot)
			if !ok || !holder.Verify(verifier, s, key.Sign(s)) {
				t.Errorf("slot %d: the stored verifier refuses the holder's signature", slot)
			}
			if !share.Equal(c.share(slot)) {
				t.Error("Check changed the caller's share")
			}
		}
	}
}

func TestVerifierOfNoSlot(t *testing.T) {
	gen := initCluster(t, newStore(), 3, 2).record(t).Generation()
	for _, slot := range []int{-1, 0, 4, 255, 256} {
		if v, ok := gen.Verifier(slot); ok || v != (holder.Verifier{}) {
			t.Errorf("slot %d has a verifier", slot)
		}
	}
}

// T12: every single bit of a share matters, and the refusal names its slot.
func TestCheckFlippedBits(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	rec := c.record(t)
	for bit := range 33 * 8 {
		share := c.share(2)
		share.Reveal()[bit/8] ^= 1 << (bit % 8)
		_, key, err := rec.Check(share)
		if key != nil {
			t.Fatalf("a share with bit %d changed is accepted", bit)
		}
		sentence := "slot 2 is not valid"
		if bit >= 32*8 {
			sentence = "not valid"
		}
		wantFault(t, err, fault.Invalid, sentence)
		if leaks([]byte(err.Error()), share.Reveal()) {
			t.Fatalf("the refusal shows the share: %v", err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	three, one := initCluster(t, newStore(), 3, 2), initCluster(t, newStore(), 1, 1)
	twin := initCluster(t, newStore(), 3, 2)
	other := func(share []byte, x byte) []byte {
		share = bytes.Clone(share)
		share[32] = x
		return share
	}
	for _, test := range []struct {
		name     string
		c        *cluster
		share    []byte
		sentence string
	}{
		// T13
		{"empty", three, nil, "wrong length: a share of this cluster has 33 bytes"},
		{"16 bytes", three, junk(16), "wrong length"},
		{"32 bytes", three, three.shares[0][:32], "wrong length"},
		{"34 bytes", three, append(bytes.Clone(three.shares[0]), 1), "wrong length"},
		{"1 MiB", three, junk(1 << 20), "wrong length"},
		{"33 bytes where there is one", one, append(bytes.Clone(one.shares[0]), 1), "wrong length: a share of this cluster has 32 bytes"},
		{"empty where there is one", one, nil, "wrong length"},
		{"junk where there is one", one, junk(32), "slot 1 is not valid"},
		// T14, T19
		{"x = 0", three, other(three.shares[0], 0), "none of this cluster's 3 slots"},
		{"x = 4", three, other(three.shares[0], 4), "none of this cluster's 3 slots"},
		{"x = 255", three, other(three.shares[0], 255), "none of this cluster's 3 slots"},
		{"another holder's x", three, other(three.shares[0], 2), "slot 2 is not valid"},
		// T18
		{"another cluster's share", three, twin.shares[0], "slot 1 is not valid"},
		{"zeros", three, other(make([]byte, 33), 1), "slot 1 is not valid"},
	} {
		slot, key, err := test.c.record(t).Check(secret.Own(test.share))
		if slot != 0 || key != nil {
			t.Errorf("%s: accepted for slot %d", test.name, slot)
		}
		wantFault(t, err, fault.Invalid, test.sentence)
		if len(test.share) > 12 && leaks([]byte(err.Error()), test.share) {
			t.Errorf("%s: the refusal shows the share", test.name)
		}
	}
}

// A holder key depends on the generation: the same share in a later generation is another key.
func TestCheckDependsOnGeneration(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	stored := edit(t, raw(t, c, recordKey), true, func(b *body, _ *table) {
		b.Generations[0].Number, b.Active, b.Next = 2, 2, 3
	})
	rec, err := decode(stored)
	if err != nil || rec.damaged {
		t.Fatalf("the edited record is %+v, %v", rec, err)
	}
	_, _, err = rec.Check(c.share(1))
	wantFault(t, err, fault.Invalid, "slot 1 is not valid")
}

// Records that fit their checksum and still make no sense must not get past decode as good ones.
func TestInconsistentRecords(t *testing.T) {
	c := initCluster(t, newStore(), 3, 2)
	stored := raw(t, c, recordKey)
	for name, change := range map[string]func(*body, *table){
		"version":           func(b *body, _ *table) { b.Version = 2 },
		"no cluster":        func(b *body, _ *table) { b.ClusterID = "" },
		"no generation":     func(b *body, h *table) { b.Generations, *h = nil, nil },
		"active unknown":    func(b *body, _ *table) { b.Active = 7 },
		"number zero":       func(b *body, _ *table) { b.Generations[0].Number, b.Active = 0, 0 },
		"number used again": func(b *body, _ *table) { b.Next = 1 },
		"twice": func(b *body, h *table) {
			b.Generations, *h = append(b.Generations, b.Generations[0]), append(*h, (*h)[0])
		},
		"threshold 0":           func(b *body, _ *table) { b.Generations[0].Threshold = 0 },
		"threshold 1":           func(b *body, _ *table) { b.Generations[0].Threshold = 1 },
		"threshold too high":    func(b *body, _ *table) { b.Generations[0].Threshold = 4 },
		"shares":                func(b *body, _ *table) { b.Generations[0].Shares = 2 },
		"shares 256":            func(b *body, _ *table) { b.Generations[0].Shares = 256 },
		"negative":              func(b *body, _ *table) { b.Generations[0].Shares, b.Generations[0].Threshold = -1, -1 },
		"holder missing":        func(_ *body, h *table) { (*h)[0] = (*h)[0][:2] },
		"no holders":            func(_ *body, h *table) { *h = nil },
		"holders in disorder":   func(_ *body, h *table) { (*h)[0][0], (*h)[0][1] = (*h)[0][1], (*h)[0][0] },
		"two holders, one slot": func(_ *body, h *table) { (*h)[0][1].Slot = 1 },
	} {
		rec, err := decode(edit(t, stored, true, change))
		if err != nil || !rec.damaged {
			t.Errorf("%s: %+v, %v; want a damaged record", name, rec, err)
			continue
		}
		if _, _, err := rec.Check(c.share(1)); err != ErrDamagedTable {
			t.Errorf("%s: Check says %v", name, err)
		}
		rec.Generation().Verifier(1)
	}
	if rec, err := decode(edit(t, stored, true, func(*body, *table) {})); err != nil || rec.damaged {
		t.Errorf("the record that nobody changed: %+v, %v", rec, err)
	}
}

func TestEncodeDecode(t *testing.T) {
	c := initCluster(t, newStore(), 5, 3)
	stored := raw(t, c, recordKey)
	rec, err := decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	key := secret.Own(junk(32))
	again, err := rec.encode(key)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := split(stored)
	b, _ := split(again)
	if !bytes.Equal(a, b) {
		t.Errorf("a record that was read is written as\n%s\nnot as\n%s", b, a)
	}
	if !authentic(again, key) || authentic(again, secret.Own(junk(32))) || authentic(stored, key) || authentic(a, key) || authentic(nil, key) {
		t.Error("the MAC does not tell keys apart")
	}
	parts := bytes.Split(stored, []byte("\n"))
	if len(parts) != 3 || !json.Valid(parts[0]) || !json.Valid(parts[1]) || !json.Valid(parts[2]) {
		t.Errorf("the record is not three lines of JSON:\n%s", stored)
	}
}

func FuzzDecode(f *testing.F) {
	c := initCluster(f, newStore(), 2, 2)
	stored := raw(f, c, recordKey)
	f.Add(stored)
	f.Add([]byte(""))
	f.Add([]byte("{}\n[]\n{}"))
	f.Add([]byte("{}"))
	f.Add([]byte("null\nnull\nnull"))
	f.Add(slices.Concat(stored, []byte("\n")))
	f.Add(bytes.ReplaceAll(stored, []byte(`"threshold":2`), []byte(`"threshold":-2`)))
	share := c.share(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decode(b)
		if err != nil {
			if err != ErrUnreadable {
				t.Errorf("decode: %v", err)
			}
			return
		}
		rec.Generation().Verifier(1)
		_, key, err := rec.Check(share)
		if key != nil && rec.Generation().Holders == nil || rec.damaged != (err == ErrDamagedTable) {
			t.Errorf("a record that is damaged: %v answers %v", rec.damaged, err)
		}
		unwrapAny(rec.opening(), map[int]secret.Bytes{1: share})
	})
}
