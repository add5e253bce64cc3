package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

func TestWithoutDevicesNothingIsChecked(t *testing.T) {
	r := newRig(t)
	if r.Enabled() || r.Write(t.Context(), ask("x")) != nil || len(r.Devices()) != 0 {
		t.Error("a broker without devices asks for one")
	}
}

func TestWriteGoesToAll(t *testing.T) {
	r := newRig(t)
	r.unseal()
	if err := r.SetConfigured([]Device{stdout("b/")}); err != nil {
		t.Fatal(err)
	}
	r.SetStored([]Device{fileDevice("a/", "a.log", "prefix=> ")})
	e := ask("x")
	e.Request.ClientToken = []byte("tok")
	mustWrite(t, r.Broker, e)
	file, out := r.read(t, "a.log"), r.out.String()
	if !strings.HasPrefix(file, "> {") || strings.Count(file, "\n") != 1 || strings.Count(out, "\n") != 1 {
		t.Errorf("file %q, output %q", file, out)
	}
	for path, text := range map[string]string{"a": file, "b/": out} {
		hash, err := r.Hash(path, []byte("tok"))
		if err != nil || !strings.Contains(text, `"client_token":"`+hash+`"`) {
			t.Errorf("%s: hash %s, %v is not in %s", path, hash, err, text)
		}
	}
	a, _ := r.Hash("a/", []byte("tok"))
	b, _ := r.Hash("b/", []byte("tok"))
	if a == b {
		t.Error("two devices have the same salt")
	}
}

func TestWriteFailsIfNoneTakesIt(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{stdout("a/"), fileDevice("b/", "none/b.log")})
	mustWrite(t, r.Broker, ask("x"))
	r.out.fail(errors.New("full"))
	if err := r.Write(t.Context(), ask("y")); err != ErrUnwritten || fault.As(err) != nil {
		t.Errorf("error %v", err)
	}
	r.out.fail(nil)
	mustWrite(t, r.Broker, ask("z"))
}

// TestWriteOutlivesItsRequest: the client may be gone, and the entry of what was done for it is still written.
func TestWriteOutlivesItsRequest(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{stdout("a/")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Write(ctx, ask("x")); err != nil || r.out.String() == "" {
		t.Errorf("%v, %q", err, r.out)
	}
}

func TestHashWithoutDeviceOrKey(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{stdout("a/")})
	_, err := r.Hash("none", []byte("x"))
	wantFault(t, err, fault.NotFound, "no audit device")
	_, err = r.Hash("a", []byte("x"))
	wantFault(t, err, fault.Sealed, "sealed")
}

func TestSealing(t *testing.T) {
	r := newRig(t)
	e := ask("x")
	e.Request.ClientToken = []byte("tok")
	r.SetStored([]Device{stdout("a/")})
	key := secret.Own(bytes.Repeat([]byte{1}, 32))
	r.SetKey(key)
	first, _ := r.Hash("a", []byte("tok"))
	r.SetKey(secret.Bytes{})
	key.Wipe()
	mustWrite(t, r.Broker, e)
	if got := r.out.String(); !strings.Contains(got, `"client_token":`+whileSealed) {
		t.Errorf("sealed: %s", got)
	}
	r.SetKey(secret.Own(bytes.Repeat([]byte{1}, 32)))
	if again, err := r.Hash("a", []byte("tok")); err != nil || again != first {
		t.Errorf("hash %s, %v with the same key, want %s", again, err, first)
	}
	r.SetKey(secret.Own(bytes.Repeat([]byte{2}, 32)))
	if other, err := r.Hash("a", []byte("tok")); err != nil || other == first {
		t.Errorf("hash %s, %v with another key", other, err)
	}
}

func TestSetConfigured(t *testing.T) {
	for _, c := range []struct {
		name, part string
		list       []Device
	}{
		{"wrong option", "and no others", []Device{stdout("ok/"), {Path: "a/", Type: "stdout", Options: map[string]string{"x": "y"}}}},
		{"can't be opened", "audit device a/", []Device{stdout("ok/"), fileDevice("a/", "/no/such/folder/a.log")}},
		{"twice", "another one", []Device{stdout("a/"), stdout("a/")}},
	} {
		r := newRig(t)
		if err := r.SetConfigured(c.list); err == nil || !strings.Contains(err.Error(), c.part) || r.Enabled() {
			t.Errorf("%s: %v, enabled %v", c.name, err, r.Enabled())
		}
	}
}

func TestSetStored(t *testing.T) {
	r := newRig(t)
	if err := r.SetConfigured([]Device{stdout("conf/")}); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		var list []string
		for _, d := range r.Devices() {
			list = append(list, d.Path)
		}
		return strings.Join(list, " ")
	}
	r.SetStored([]Device{stdout("z/"), stdout("b/")})
	if got := names(); got != "b/ conf/ z/" {
		t.Errorf("devices %s", got)
	}
	live := r.live.Load()
	z, b := r.find("z/"), r.find("b/")
	r.SetStored([]Device{stdout("z/"), stdout("b/")})
	if r.live.Load() != live {
		t.Error("the same list was set again")
	}
	described := stdout("b/")
	described.Description = "new"
	r.SetStored([]Device{stdout("z/"), described, fileDevice("c/", "c.log")})
	if r.find("z/") != z || r.find("b/") == b || names() != "b/ c/ conf/ z/" {
		t.Errorf("devices %s; unchanged kept %v, changed replaced %v", names(), r.find("z/") == z, r.find("b/") != b)
	}
	<-b.ended
	// The configuration wins, and says so.
	r.SetStored([]Device{fileDevice("conf/", "x.log")})
	if d := r.Devices(); len(d) != 1 || d[0].Type != "stdout" || !strings.Contains(r.log.String(), "has taken the path") {
		t.Errorf("devices %v, log %s", d, r.log)
	}
	<-z.ended
	r.SetStored(nil)
	if names() != "conf/" {
		t.Errorf("devices %s", names())
	}
}

// TestStoredDeviceThatIsNoLongerAllowed still counts: a changed configuration must not let requests through unwritten.
func TestStoredDeviceThatIsNoLongerAllowed(t *testing.T) {
	r := newRig(t)
	r.SetStored([]Device{fileDevice("a/", "/elsewhere/a.log")})
	if err := r.Write(t.Context(), ask("x")); err != ErrUnwritten || !r.Enabled() {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(r.log.String(), "audit_dir") {
		t.Errorf("the reason is not in the log: %s", r.log)
	}
}

func TestTestEntry(t *testing.T) {
	r := newRig(t)
	r.unseal()
	if err := r.Test(t.Context(), fileDevice("f/", "a.log", "sync=true")); err != nil {
		t.Fatal(err)
	}
	if got := paths(t, r.read(t, "a.log")); !slices.Equal(got, []string{"sys/audit/test"}) || r.Enabled() {
		t.Errorf("lines of %v, enabled %v", got, r.Enabled())
	}
	wantFault(t, r.Test(t.Context(), fileDevice("f/", "none/a.log")), fault.Invalid, "can't be opened or written")
	wantFault(t, r.Test(t.Context(), fileDevice("f/", "/canary")), fault.Invalid, "below the folder")
}

// TestAllAtOnce lets writers meet changes of the devices, of the key and rotations. No entry may be refused as long as
// one device is there throughout, and none may be missing in its file.
func TestAllAtOnce(t *testing.T) {
	r := newRig(t)
	stays := fileDevice("stays/", "a.log")
	r.SetStored([]Device{stays})
	const writers, each = 8, 50
	var all, changes sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				e := ask(fmt.Sprintf("%d/%d", w, i))
				e.Request.Data = []byte(`{"a":"x"}`)
				if err := r.Write(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	over := make(chan struct{})
	for _, change := range []func(i int){
		func(i int) { r.SetStored([]Device{stays, stdout(fmt.Sprintf("s%d/", i))}) },
		func(i int) {
			r.SetKey(secret.Own([]byte{byte(i)}))
			r.SetKey(secret.Bytes{})
		},
		func(int) { r.Reopen() },
		func(int) { r.Hash("stays", []byte("x")) },
	} {
		changes.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
					change(i)
				}
			}
		})
	}
	all.Wait()
	close(over)
	changes.Wait()
	got := paths(t, r.read(t, "a.log"))
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != writers*each {
		t.Errorf("%d entries of %d", len(got), writers*each)
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, sync := range []string{"false", "true"} {
		b.Run("sync="+sync, func(b *testing.B) {
			r := newRig(b)
			r.unseal()
			r.SetStored([]Device{fileDevice("f/", "a.log", "sync="+sync)})
			e := fullEntry()
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := r.Write(context.Background(), e); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
