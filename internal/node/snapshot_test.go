package node

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

func (c *cluster) snapshot(id string) (*bytes.Reader, error) {
	c.t.Helper()
	a := c.access(id, "sys/storage/snapshot", policy.Read)
	a.Sudo = true
	save, err := c.node.Snapshot(c.t.Context(), a, snapshot.Header{Version: "1", StorageType: "inmem"})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = save(&b)
	return bytes.NewReader(b.Bytes()), err
}

// A snapshot is had by those who may, and shows nothing that is encrypted in the store.
func TestSnapshot(t *testing.T) {
	c := newCluster(t, 3, 2)
	weak, _ := c.create(c.root, token.Spec{Policies: []string{policy.Default}})
	if _, err := c.snapshot(weak); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
	in, err := c.snapshot(c.root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Inspect(in)
	if err != nil || !s.Header.Created.Equal(c.clock.now()) || s.Transcript == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	text := new(strings.Builder)
	if _, err := in.WriteTo(text); err != nil || strings.Contains(text.String(), c.root) || strings.Contains(text.String(), `"policies"`) {
		t.Errorf("what is behind the barrier is in the snapshot, %v", err)
	}
}

// Sealing ends a snapshot that is being written.
func TestSnapshotEndsWithTheSeal(t *testing.T) {
	c := newCluster(t, 1, 1)
	a := c.access(c.root, "sys/storage/snapshot", policy.Read)
	save, err := c.node.Snapshot(t.Context(), a, snapshot.Header{})
	if err != nil {
		t.Fatal(err)
	}
	c.node.Close()
	var b bytes.Buffer
	if err := save(&b); err == nil {
		t.Error("written after the seal")
	}
}

// A restore knows by what nodes show that they are alive, and makes one that it doesn't see give up its keys.
func TestRestoreUnderANode(t *testing.T) {
	c := newCluster(t, 1, 1)
	in, err := c.snapshot(c.root)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(at time.Time) {
		err := c.st.Update(t.Context(), func(tx store.Tx) error { return putJSON(tx, seal.PresencePrefix+"x", NodeInfo{LastEcho: at}) })
		if err != nil {
			t.Fatal(err)
		}
	}
	sign(time.Now())
	if _, err := snapshot.Restore(t.Context(), c.st, in, snapshot.Options{Force: true}); err == nil || !strings.Contains(err.Error(), "a server runs over this store") {
		t.Errorf("restored under a node that is alive: %v", err)
	}
	sign(time.Now().Add(-2 * seal.PresenceLife))
	if _, err := in.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.Restore(t.Context(), c.st, in, snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := c.node.View(t.Context(), c.access(c.root, "x", policy.Read), func(*Call) error { return nil }); !errors.Is(err, ErrSealed) {
		t.Errorf("the node serves the restored store with the keys it had: %v", err)
	}
}
