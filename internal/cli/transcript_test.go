package cli

import (
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/transcript"
)

// transcriptServer serves sys/transcript from a log of its own.
type transcriptServer struct {
	*rig
	log    store.Store
	signer *transcript.Signer
	key    string // as the server tells it; empty while sealed
	most   int    // entries that it sends at once
	forge  func(index int, leaf string) string
	alarms []string
}

// entryTime is that of every entry, and not a whole second.
var entryTime = time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)

func newTranscriptServer(t *testing.T, entries int) *transcriptServer {
	t.Helper()
	signer, stored, err := transcript.NewSigner(thisCluster, rand.Reader)
	clear(stored)
	if err != nil {
		t.Fatal(err)
	}
	s := &transcriptServer{rig: newRig(t), log: inmem.New(), signer: signer, key: signer.VerifierKey(), most: 1000}
	t.Cleanup(func() { s.log.Close() })
	v := holder.Derive(rawShare(t, share(1)), thisCluster, 1).Verifier()
	s.append(signer, transcript.Entry{Event: transcript.Init, Generation: 1, Threshold: 1, Holders: []transcript.Holder{{Slot: 1, Label: "alice", Verifier: v}}})
	for range entries - 1 {
		s.add(signer)
	}
	s.answers["GET sys/transcript"] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"data": map[string]any{"cluster_id": thisCluster, "verifier_key": s.key, "checkpoint": s.checkpoint(), "alarms": s.alarms}})
	}
	s.answers["GET sys/transcript/entries"] = s.entries
	s.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, r *http.Request) {
		(&testLog{s.rig.t, s.log, s.signer}).proof(w, r)
	}
	return s
}

func (s *transcriptServer) add(signer *transcript.Signer) {
	s.rig.t.Helper()
	s.append(signer, transcript.Entry{Event: transcript.RotateKeyring, Detail: "term <1> & é"})
}

func (s *transcriptServer) append(signer *transcript.Signer, e transcript.Entry) {
	s.rig.t.Helper()
	e.Time = entryTime
	err := s.log.Update(s.rig.t.Context(), func(tx store.Tx) error {
		_, err := transcript.Append(tx, signer, e)
		return err
	})
	if err != nil {
		s.rig.t.Fatal(err)
	}
}

func (s *transcriptServer) checkpoint() (text string) {
	err := s.log.View(s.rig.t.Context(), func(r store.Reader) error {
		b, err := transcript.Checkpoint(r)
		text = string(b)
		return err
	})
	if err != nil {
		s.rig.t.Error(err)
	}
	return text
}

func (s *transcriptServer) entries(w http.ResponseWriter, r *http.Request) {
	start, err1 := strconv.Atoi(r.URL.Query().Get("start"))
	limit, err2 := strconv.Atoi(r.URL.Query().Get("limit"))
	if err := errors.Join(err1, err2); err != nil || limit > 1000 {
		refuse(w, 400, "wrong limit")
		return
	}
	var texts []string
	err := s.log.View(s.rig.t.Context(), func(tx store.Reader) error {
		leaves, err := transcript.Read(tx, int64(start), min(limit, s.most))
		for i, leaf := range leaves {
			text := string(leaf)
			if s.forge != nil {
				text = s.forge(start+i, text)
			}
			if text != "" {
				texts = append(texts, text)
			}
		}
		return err
	})
	if err != nil {
		s.rig.t.Error(err)
	}
	reply(w, 200, map[string]any{"data": map[string]any{"start": start, "entries": texts}})
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTranscriptExport(t *testing.T) {
	s := newTranscriptServer(t, 7)
	s.most = 3
	s.alarms = []string{"it shrank\x1b[2J"}
	t.Setenv("BAO_TOKEN", "not\x01printable") // everything here is open to all
	older := write(t, "older", s.checkpoint())
	file := filepath.Join(t.TempDir(), "export")
	got := s.ok("transcript", "export", "-o", file)
	want(t, "stdout", got.out, "")
	want(t, "stderr", got.err, "warning: the server raises an alarm: it shrank\ufffd[2J\nfirst contact with cluster "+thisCluster+
		": its transcript is signed with "+s.key+", which is remembered in "+sightingFile(thisCluster)+"\n7 entries, with 0 valid signatures of holders\n")
	seen := readFile(t, sightingFile(thisCluster))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	text := readFile(t, file)
	want(t, "to standard output", s.ok("transcript", "export").out, text)
	want(t, "to standard output", s.ok("transcript", "export", "-o=-").out, text)

	// A file's own key is believed where nothing is remembered of its cluster.
	got = s.ok("transcript", "verify", "-format=json", file)
	if !strings.Contains(got.out, `"pinned": true`) || got.err != "the transcript is as it was signed\n" {
		t.Errorf("%+v", got)
	}
	if err := os.Remove(sightingFile(thisCluster)); err != nil {
		t.Fatal(err)
	}
	got = s.ok("transcript", "verify", file)
	root := strings.Split(s.checkpoint(), "\n")[2]
	want(t, "report", got.out, `Key                  Value
---                  -----
Cluster ID           `+thisCluster+`
Verifier Key         `+s.key+`
Entries              7
Root                 `+root+`
Signed Entries       7
Holder Signatures    0
Unknown Entries      0
Problems             0
`)
	if !strings.Contains(got.err, "warning: the key is the file's own") || !strings.HasSuffix(got.err, "the transcript is as it was signed\n") {
		t.Errorf("%s", got.err)
	}

	if err := os.WriteFile(sightingFile(thisCluster), []byte(seen), 0o600); err != nil {
		t.Fatal(err)
	}
	// What was written since the checkpoint isn't in it; an older checkpoint is continued by a newer one.
	s.add(nil)
	if again := s.ok("transcript", "export").out; again != text {
		t.Errorf("more than the checkpoint signs: %s", again)
	}
	s.add(s.signer)
	s.stdin = s.ok("transcript", "export").out
	got = s.ok("transcript", "verify", "-format=json", "-verifier-key="+s.key, "-checkpoint="+older, "-")
	if !strings.Contains(got.out, `"pinned": true`) || !strings.Contains(got.out, `"size": 9`) || !strings.Contains(got.out, `"problems": []`) {
		t.Errorf("%s", got.out)
	}
	want(t, "stderr", got.err, "the transcript is as it was signed\n")
	want(t, "checkpoint", s.ok("transcript", "checkpoint").out, s.checkpoint())
	for _, req := range s.seen {
		if req.header.Get("X-Vault-Token") != "" {
			t.Errorf("%s carries a token", req.path)
		}
	}
}

func TestTranscriptExportHTML(t *testing.T) {
	s := newTranscriptServer(t, 3)
	file := filepath.Join(t.TempDir(), "page.html")
	s.ok("transcript", "export", "--html", "-o", file)
	page := readFile(t, file)
	if !strings.HasPrefix(strings.ToLower(page), "<!doctype html>") || strings.Contains(page, "quorate_transcript") || strings.Contains(page, "<1>") || !strings.Contains(page, thisCluster) {
		t.Errorf("%s", page)
	}
}

// A transcript that isn't what its checkpoint signs is not written down, and what stood there before stays.
func TestTranscriptExportRefusals(t *testing.T) {
	s := newTranscriptServer(t, 5)
	dir := t.TempDir()
	file := filepath.Join(dir, "export")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	signed := s.answers["GET sys/transcript"]
	for name, c := range map[string]struct {
		want  string
		forge func(int, string) string
	}{
		"a changed entry":    {"not those that its checkpoint signs", func(i int, l string) string { return strings.Replace(l, "term", strings.Repeat("t", i), 1) }},
		"a missing entry":    {"the server has no entry 4, but its checkpoint signs 5", func(i int, l string) string { return map[bool]string{true: l}[i != 2 && i != 4] }},
		"nothing":            {"the server has no entry 0", func(int, string) string { return "" }},
		"no JSON at the end": {"not those that its checkpoint signs", func(i int, l string) string { return map[bool]string{true: l, false: "x"}[i != 4] }},
	} {
		s.forge = c.forge
		for _, args := range [][]string{{"-o", file}, {"-html", "-o", file}, nil} {
			got := s.fails(exitServer, []string{c.want}, append([]string{"transcript", "export"}, args...)...)
			if got.out != "" || readFile(t, file) != "before" {
				t.Errorf("%s: something was written: %s", name, got.out)
			}
		}
	}
	s.forge = nil
	other, _, err := transcript.NewSigner(thisCluster, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.fails(exitServer, []string{"signed with another key than that of -verifier-key"}, "transcript", "export", "-verifier-key="+other.VerifierKey())
	s.key = other.VerifierKey()
	s.fails(exitServer, []string{"error checking the transcript: this is not the transcript that was seen before"}, "transcript", "export", "-o", file)
	s.fails(exitServer, []string{"error checking the transcript: this is not the transcript that was seen before"}, "transcript", "checkpoint")
	s.key = ""
	forget(t)
	s.fails(exitServer, []string{"a sealed server doesn't tell the key", "-verifier-key"}, "transcript", "export", "-o", file)
	s.fails(exitServer, []string{"error exporting the transcript:"}, "transcript", "export", "-o", file, "-verifier-key="+other.VerifierKey())
	s.ok("transcript", "export", "-verifier-key="+s.signer.VerifierKey())
	s.on("GET sys/transcript", 200, `{"data":{"cluster_id":"`+thatCluster+`","verifier_key":"k"}}`)
	s.fails(exitServer, []string{"no checkpoint yet: unseal it first"}, "transcript", "export")
	s.answers["GET sys/transcript"] = nil
	s.fails(exitServer, []string{"error reading the transcript:", "permission denied"}, "transcript", "export")
	s.fails(exitServer, []string{"error reading the transcript:", "permission denied"}, "transcript", "checkpoint")
	s.answers["GET sys/transcript"], s.key = signed, s.signer.VerifierKey()
	s.fails(exitLocal, []string{"no such file"}, "transcript", "export", "-o", filepath.Join(dir, "absent", "file"))
	s.fails(exitLocal, []string{"-html needs -o"}, "transcript", "export", "-html")
	s.fails(exitLocal, []string{"too many arguments"}, "transcript", "export", file)
	s.on("GET sys/transcript/entries", 200, `{"data":{"entries":[1]}}`)
	s.fails(exitServer, []string{"not the JSON expected"}, "transcript", "export", "-o", file)
	s.answers["GET sys/transcript/entries"] = nil
	s.fails(exitServer, []string{"error reading the entries of the transcript:", "permission denied"}, "transcript", "export", "-o", file)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || readFile(t, file) != "before" {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestTranscriptVerifyRefusals(t *testing.T) {
	s := newTranscriptServer(t, 4)
	before := s.ok("transcript", "export").out
	older := s.checkpoint()
	s.add(s.signer)
	good := s.ok("transcript", "export").out
	forget(t)
	lines := strings.SplitAfter(good, "\n")
	other := newTranscriptServer(t, 4)
	for name, c := range map[string]struct {
		text string
		args []string
	}{
		"a changed entry":             {strings.Replace(good, "term", "Term", 1), nil},
		"a missing entry":             {lines[0] + strings.Join(lines[2:], ""), nil},
		"a missing end":               {strings.Join(lines[:5], ""), nil},
		"another order":               {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), nil},
		"another cluster's":           {strings.Replace(good, thisCluster, thatCluster, 1), nil},
		"another key":                 {good, []string{"-verifier-key=" + other.key}},
		"no key at all":               {good, []string{"-verifier-key=x"}},
		"another log's checkpoint":    {good, []string{"-checkpoint=" + write(t, "c", other.checkpoint())}},
		"a newer checkpoint":          {before, []string{"-checkpoint=" + write(t, "c", s.checkpoint())}},
		"a checkpoint of other times": {good, []string{"-checkpoint=" + write(t, "c", strings.Replace(older, "\n4\n", "\n3\n", 1))}},
	} {
		s.stdin = c.text
		got := s.fails(exitServer, []string{"problem: "}, append(append([]string{"transcript", "verify"}, c.args...), "-")...)
		if strings.Contains(got.err, "as it was signed") || strings.Contains(got.out, "Problems             0") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	s.seen = nil
	for _, text := range []string{"", "{}", "hello", `{"quorate_transcript":2}`} {
		s.stdin = text
		s.fails(exitLocal, []string{"error verifying the transcript:"}, "transcript", "verify", "-")
	}
	s.fails(exitLocal, []string{"no such file"}, "transcript", "verify", "/nonexistent")
	s.fails(exitLocal, []string{"no such file"}, "transcript", "verify", "-checkpoint=/nonexistent", "-")
	s.fails(exitLocal, []string{"not enough arguments"}, "transcript", "verify")
	s.fails(exitLocal, []string{"must be table, json or yaml"}, "transcript", "verify", "-format=xml", "-")
	if len(s.seen) > 0 {
		t.Errorf("asked a server: %v", s.seen)
	}
}

func TestUnwrittenTranscript(t *testing.T) {
	s := newTranscriptServer(t, 2)
	s.stdin = s.ok("transcript", "export").out
	s.stdout = full(t)
	for _, args := range [][]string{{"export"}, {"checkpoint"}, {"verify", "-"}} {
		s.fails(exitLocal, []string{notWritten}, append([]string{"transcript"}, args...)...)
	}
}

// forget removes what is remembered of all clusters.
func forget(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Dir(sightingFile(thisCluster))); err != nil {
		t.Fatal(err)
	}
}

// What a user has seen of a cluster is demanded of every command about its transcript.
func TestTranscriptWitness(t *testing.T) {
	s := newTranscriptServer(t, 5)
	other := newTranscriptServer(t, 3)
	t.Setenv("BAO_ADDR", s.url)
	s.ok("transcript", "checkpoint")
	seen := s.checkpoint()
	exported := s.ok("transcript", "export").out
	s.signer, s.log = other.signer, other.log
	s.key = s.signer.VerifierKey()
	for _, args := range [][]string{{"export"}, {"checkpoint"}} {
		args = append([]string{"transcript"}, args...)
		got := s.fails(exitServer, []string{"this is not the transcript that was seen before", "was signed with"}, args...)
		want(t, "stdout", got.out, "")
		s.ok(append(args, "-verifier-key="+s.key)...)
		s.fails(exitServer, nil, append(args, "-verifier-key=x")...)
		want(t, "remembered", s.ok("transcript", "checkpoint", "-remembered").out, seen)
	}
	// An export that somebody else made of it is not believed its own key.
	s.stdin = s.ok("transcript", "export", "-verifier-key="+s.key).out
	s.fails(exitServer, []string{"problem: "}, "transcript", "verify", "-")
	s.stdin = exported
	if got := s.ok("transcript", "verify", "-format=json", "-"); !strings.Contains(got.out, `"pinned": true`) {
		t.Errorf("%s", got.out)
	}
	forget(t)
	s.fails(exitServer, []string{"nothing is remembered of cluster " + thisCluster}, "transcript", "checkpoint", "-remembered")
	s.stdin = exported
	if got := s.ok("transcript", "verify", "-format=json", "-"); !strings.Contains(got.out, `"pinned": false`) {
		t.Errorf("%s", got.out)
	}
}

func TestTranscriptShrunk(t *testing.T) {
	s := newTranscriptServer(t, 5)
	s.ok("transcript", "checkpoint")
	s.on("GET sys/ceremonies", 200, map[string]any{"data": map[string]any{"cluster_id": thisCluster, "checkpoint": ""}})
	full := s.log
	s.log = inmem.New()
	t.Cleanup(func() { s.log.Close() })
	s.add(s.signer)
	for _, name := range []string{"export", "checkpoint"} {
		got := s.fails(exitServer, []string{"this is not the transcript that was seen before"}, "transcript", name)
		want(t, "stdout", got.out, "")
	}
	s.log.Close()
	s.log, s.key = full, "" // sealed: the key that is remembered is taken
	s.ok("transcript", "export")
	s.ok("transcript", "checkpoint")
}

// Links and devices stay what they are.
func TestTranscriptExportIntoSpecialFiles(t *testing.T) {
	s := newTranscriptServer(t, 3)
	text := s.ok("transcript", "export").out
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first makes the target, the second finds it longer
		s.ok("transcript", "export", "-o", link)
		want(t, "target", readFile(t, target), text)
		if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%v, %v", st, err)
		}
		if err := os.WriteFile(target, []byte(text+"more"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	device := filepath.Join(dir, "device") // not the device itself: a failure of this test must not replace it
	if err := os.Symlink(os.DevNull, device); err != nil {
		t.Fatal(err)
	}
	s.ok("transcript", "export", "-o", device)
	s.fails(exitLocal, []string{"is a directory"}, "transcript", "export", "-o", dir)
}
