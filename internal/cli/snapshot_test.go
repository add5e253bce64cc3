package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store/inmem"
)

// savedStore is a snapshot, and the cluster that it is of.
func savedStore(t *testing.T) (text []byte, cluster string) {
	t.Helper()
	st := inmem.New()
	made, err := seal.Init(context.Background(), st, seal.InitParams{Shares: 1, Threshold: 1, ClusterName: "harbour", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	made.Wipe()
	var b bytes.Buffer
	h := snapshot.Header{Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Version: "1.2.3", StorageType: "inmem"}
	if err := snapshot.Save(t.Context(), st, &b, h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), made.ClusterID
}

// sends makes the server answer with a snapshot.
func (r *rig) sends(text []byte) {
	r.answers["GET sys/storage/snapshot"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) }
}

func TestSnapshotSave(t *testing.T) {
	r := newRig(t)
	text, cluster := savedStore(t)
	r.sends(text)
	t.Setenv("BAO_TOKEN", newToken)
	dir := t.TempDir()
	file := filepath.Join(dir, "a.snap")
	got := r.ok("operator", "snapshot", "save", file)
	for _, s := range []string{cluster, "harbour", "2026-01-02T03:04:05Z", "1.2.3", "plain/"} {
		if !strings.Contains(got.out, s) {
			t.Errorf("no %q in %s", s, got.out)
		}
	}
	info, err := os.Stat(file)
	if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if kept, _ := os.ReadFile(file); !bytes.Equal(kept, text) {
		t.Error("the file isn't what was sent")
	}

	// It is replaced only where that is wanted.
	r.fails(exitLocal, []string{"the file exists"}, "operator", "snapshot", "save", file)
	r.ok("operator", "snapshot", "save", "-force", file)

	var v snapshotView
	if err := json.Unmarshal([]byte(r.ok("operator", "snapshot", "inspect", "-format=json", file).out), &v); err != nil {
		t.Fatal(err)
	}
	if v.ClusterID != cluster || v.Generation != 1 || v.Records == 0 || v.Bytes == 0 || len(v.SHA256) != 64 || len(v.Segments) == 0 {
		t.Errorf("%+v", v)
	}
}

// What can't be had whole leaves nothing behind, and what was there before stays.
func TestSnapshotSaveFails(t *testing.T) {
	r := newRig(t)
	text, _ := savedStore(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "a.snap")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	save := []string{"operator", "snapshot", "save", "-force", file}
	changed := bytes.Clone(text)
	changed[len(changed)/2] ^= 1
	for _, sent := range [][]byte{text[:len(text)-1], changed, nil, []byte(`{"data":null}`)} {
		r.sends(sent)
		r.fails(exitServer, []string{"this is no snapshot, or a damaged one", "hint: nothing was saved"}, save...)
	}
	var answering sync.Mutex // a connection that breaks off doesn't tell that its handler has ended
	r.answers["GET sys/storage/snapshot"] = func(w http.ResponseWriter, _ *http.Request) {
		answering.Lock()
		defer answering.Unlock()
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(text[:100])
		panic(http.ErrAbortHandler)
	}
	r.fails(exitServer, []string{"error saving a snapshot"}, save...)
	answering.Lock()
	delete(r.answers, "GET sys/storage/snapshot")
	answering.Unlock()
	r.fails(exitServer, []string{"permission denied", `path "sys/storage/snapshot" { capabilities = ["read", "sudo"] }`}, save...)
	r.fails(exitLocal, []string{"a snapshot needs a file"}, "operator", "snapshot", "save", "-")
	r.sends(text)
	r.fails(exitLocal, nil, "operator", "snapshot", "save", filepath.Join(dir, "absent", "a.snap"))
	if got := r.ok("operator", "snapshot", "save", "-output-curl-string", filepath.Join(dir, "b.snap")); !strings.Contains(got.out, r.url+"/v1/sys/storage/snapshot") {
		t.Errorf("%+v", got)
	}

	list, err := os.ReadDir(dir)
	if kept, _ := os.ReadFile(file); err != nil || len(list) != 1 || string(kept) != "before" {
		t.Errorf("left behind: %v, %v; the old file is %q", list, err, kept)
	}
}

func TestSnapshotCommandsNeedTheirFiles(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	text, _ := savedStore(t)
	file, bad := filepath.Join(dir, "a.snap"), filepath.Join(dir, "bad.snap")
	memory := filepath.Join(dir, "memory.hcl")
	for name, content := range map[string]string{file: string(text), bad: string(text[:200]), memory: `storage "inmem" {}`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.fails(exitLocal, []string{"breaks off"}, "operator", "snapshot", "inspect", bad)
	r.fails(exitLocal, nil, "operator", "snapshot", "inspect", filepath.Join(dir, "absent"))
	r.fails(exitLocal, []string{"exactly one -config"}, "operator", "snapshot", "restore", file)
	r.fails(exitLocal, []string{"exactly one -config"}, "operator", "migrate")
	r.fails(exitLocal, []string{"exactly one -config"}, "operator", "migrate", "-config="+memory, "-config="+memory)
	r.fails(exitLocal, []string{"keeps nothing"}, "operator", "snapshot", "restore", "-config="+memory, file)
	r.fails(exitLocal, []string{`blocks of type "storage" are not expected here`}, "operator", "migrate", "-config="+memory)
	for _, args := range [][]string{{"snapshot", "restore", "-config=" + filepath.Join(dir, "absent"), file}, {"migrate", "-config=" + filepath.Join(dir, "absent")}} {
		got := r.fails(exitLocal, []string{"error reading the configuration"}, append([]string{"operator"}, args...)...)
		if strings.Contains(got.err, "hint") {
			t.Error(got.err)
		}
	}
}
