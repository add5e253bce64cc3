package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/transcript"
)

// remembered is what is kept of cluster A.
func remembered(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(sightingFile(clusterA))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWitnessFollows(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	got := q.ok("ceremony", "status")
	if !strings.Contains(got.err, "first contact with cluster "+clusterA) || !strings.Contains(got.err, q.log.signer.VerifierKey()) {
		t.Errorf("%s", got.err)
	}
	for path, mode := range map[string]os.FileMode{sightingFile(clusterA): 0o600, filepath.Dir(sightingFile(clusterA)): 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	first := remembered(t)
	if got := q.ok("ceremony", "status"); got.err != "" || remembered(t) != first {
		t.Errorf("nothing changed, but %s", got.err)
	}
	for range 5 {
		q.log.add(transcript.Sealed)
	}
	if got := q.ok("ceremony", "status"); got.err != "" || remembered(t) == first {
		t.Errorf("the transcript grew, but %s", got.err)
	}
	want(t, "proof", q.last().query, "new=8&old=3")
	t.Setenv("QUORATE_HOME", t.TempDir())
	if got := q.ok("ceremony", "status"); !strings.Contains(got.err, "first contact") {
		t.Errorf("%s", got.err)
	}
}

// A transcript that isn't a continuation: nothing is signed, both are named, and what is remembered stays.
func TestWitnessRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(q *quorum)
		want   string
	}{
		"another key": {func(q *quorum) { q.log = newTestLog(t, clusterA, 5) }, "was signed with quorate/" + clusterA + "+"},
		"shrunk":      {func(q *quorum) { q.log = logOf(t, q.log, 2) }, "had 3 entries with the root hash"},
		"rewritten":   {func(q *quorum) { q.log = logOf(t, q.log, 3); q.log.add(transcript.Alarm) }, "and the one shown now has 4"},
		"forked":      {func(q *quorum) { q.log = logOf(t, q.log, 3) }, "is not its continuation"},
		"no checkpoint": {func(q *quorum) {
			q.lieList = func(list map[string]any) { list["checkpoint"] = "" }
		}, "had 3 entries, and now it is not shown"},
		"nothing": {func(q *quorum) {
			q.lieList = func(list map[string]any) { list["checkpoint"], list["verifier_key"] = "", "" }
		}, "had 3 entries, and now it is not shown"},
		"another's signature": {func(q *quorum) {
			other := newTestLog(t, clusterA, 9)
			q.lieList = func(list map[string]any) { list["checkpoint"] = other.checkpoint() }
		}, "and the checkpoint shown now isn't"},
		"in the ceremony alone": {func(q *quorum) {
			other := logOf(t, q.log, 7)
			q.lie = func(i *ceremonyInfo) { i.Checkpoint = other.checkpoint() }
		}, "is not its continuation"},
		"damaged here": {func(*quorum) {
			if err := os.WriteFile(sightingFile(clusterA), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
		"damaged checkpoint here": {func(q *quorum) {
			text := strings.Replace(remembered(t), `\n3\n`, `\n2\n`, 1)
			if err := os.WriteFile(sightingFile(clusterA), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is damaged"},
	} {
		q := newQuorum(t, rootAttempt(nil))
		q.ok("ceremony", "status")
		c.change(q)
		before := remembered(t)
		for _, args := range [][]string{
			{"ceremony", "approve", nonceA},
			{"ceremony", "start", "-holder", "drill"},
			{"ceremony", "cancel", "-holder", nonceA},
			{"ceremony", "status", nonceA},
		} {
			if name == "in the ceremony alone" && args[1] == "start" {
				continue // which reads none before
			}
			q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
			q.fails(exitServer, []string{
				"error checking the transcript: this is not the transcript that was seen before: ", c.want,
				"hint: sign nothing and give no share", "remove " + sightingFile(clusterA),
			}, args...)
			if len(q.tty.prompts) > 0 {
				t.Errorf("asked %q", q.tty.prompts)
			}
		}
		q.nothingGiven()
		want(t, "remembered", remembered(t), before)
		if t.Failed() {
			t.Fatal(name)
		}
		if name != "nothing" && name != "another's signature" && name != "no checkpoint" && name != "in the ceremony alone" {
			os.Remove(sightingFile(clusterA)) // accepted on purpose
			q.ok("ceremony", "status")
		}
	}
}

// logOf is another log of the same key, with its own entries.
func logOf(t *testing.T, like *testLog, entries int) *testLog {
	l := newTestLog(t, clusterA, 0)
	l.signer = like.signer
	for range entries {
		l.add(transcript.Sealed)
	}
	return l
}

// What another command remembered in the meantime is no shrunk transcript.
func TestWitnessOvertaken(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	old := q.log.checkpoint()
	q.log.add(transcript.Sealed)
	q.ok("ceremony", "status")
	q.lie = func(i *ceremonyInfo) { i.Checkpoint = old }
	if got := q.ok("ceremony", "status", nonceA); got.err != "" {
		t.Errorf("%s", got.err)
	}
}

func TestWitnessFirstContact(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(q *quorum, list map[string]any)
		want string
	}{
		"no cluster": {func(_ *quorum, list map[string]any) { list["cluster_id"] = "" }, "doesn't tell which cluster"},
		"a path":     {func(_ *quorum, list map[string]any) { list["cluster_id"] = "../../../x" }, "doesn't tell which cluster"},
		"another's key": {func(_ *quorum, list map[string]any) {
			list["verifier_key"] = newTestLog(t, clusterB, 1).signer.VerifierKey()
		}, "not signed for cluster"},
		"not its own key": {func(_ *quorum, list map[string]any) {
			list["verifier_key"] = newTestLog(t, clusterA, 1).signer.VerifierKey()
		}, "not signed with its own key"},
	} {
		q := newQuorum(t, rootAttempt(nil))
		q.lieList = func(list map[string]any) { c.lie(q, list) }
		q.fails(exitServer, []string{c.want}, "ceremony", "approve", nonceA)
		if _, err := os.Stat(filepath.Join(os.Getenv("HOME"), ".quorate")); err == nil {
			t.Errorf("%s: something is remembered", name)
		}
	}
}

// A home that can't be used takes nothing from whoever has to approve.
func TestWitnessWithoutHome(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	t.Setenv("QUORATE_HOME", write(t, "file", "x"))
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	got := q.ok("ceremony", "approve", nonceA)
	if strings.Count(got.err, "warning: ") != 1 {
		t.Errorf("%s", got.err)
	}
	t.Setenv("QUORATE_HOME", "")
	t.Setenv("HOME", "")
	if got := q.ok("ceremony", "status"); !strings.Contains(got.err, "warning: the transcript isn't watched: there is no home directory") {
		t.Errorf("%s", got.err)
	}
}

// A server that doesn't show the proof is no reason to believe it.
func TestWitnessNoProof(t *testing.T) {
	q := newQuorum(t, rootAttempt(nil))
	q.ok("ceremony", "status")
	q.log.add(transcript.Sealed)
	q.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "Vault is sealed") }
	q.fails(exitServer, []string{"error asking for the proof that the transcript has only grown:"}, "ceremony", "approve", nonceA)
	q.nothingGiven()
	q.answers["GET sys/transcript/proof"] = func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, `{"data":{"hashes":[]}}`) }
	q.fails(exitServer, []string{"is not its continuation"}, "ceremony", "approve", nonceA)
}
