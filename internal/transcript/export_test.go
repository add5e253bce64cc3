package transcript

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// TestGolden compares the export of a small log with a file: its format is public, and holders' signatures stand on it.
func TestGolden(t *testing.T) {
	const file = "testdata/export.jsonl"
	s := signer(t)
	st, leaves := logOf(t, s, story()...)
	got := export(t, s, checkpointOf(t, st), leaves)
	if flag.Lookup("test.run").Value.String() == "TestGolden/write" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the export is not that of %s", file)
	}
	h := headOf(t, st)
	r := verify(t, want, VerifyOptions{VerifierKey: s.VerifierKey()})
	if len(r.Problems) > 0 || r.Size != h.Size || r.Root != h.Root || r.Signed != h.Size || !r.Pinned {
		t.Errorf("%q, size %d, %d signed", r.Problems, r.Size, r.Signed)
	}
	if r.Signatures != 13 || r.Unknown != 0 || len(r.Entries) != len(leaves) {
		t.Errorf("%d signatures, %d unknown, %d entries", r.Signatures, r.Unknown, len(r.Entries))
	}
}

func verify(t testing.TB, export []byte, o VerifyOptions) *Report {
	t.Helper()
	r, err := VerifyExport(bytes.NewReader(export), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantProblem checks that says is in exactly the problems that it should be in: none if it is empty.
func wantProblem(t *testing.T, r *Report, says string) {
	t.Helper()
	if text := strings.Join(r.Problems, "\n"); !strings.Contains(text, says) || (text == "") != (says == "") {
		t.Errorf("the problems are %q, want %q", r.Problems, says)
	}
}

// TestTamperedFile changes the export of a log that is in order.
func TestTamperedFile(t *testing.T) {
	s := signer(t)
	other, _, err := NewSigner(cluster, strings.NewReader(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	st, leaves := logOf(t, s, story()...)
	checkpoint := checkpointOf(t, st)
	n := len(leaves)
	without := func(i int) [][]byte { return slices.Concat(leaves[:i], leaves[i+1:]) }
	swapped := slices.Clone(leaves)
	swapped[3], swapped[4] = swapped[4], swapped[3]
	edited := slices.Clone(leaves)
	edited[n-1] = bytes.Replace(leaves[n-1], []byte("sealed"), []byte("alarm"), 1)
	shorter, _ := logOf(t, s, story()[:9]...)
	forked, _ := logOf(t, s, append(story()[:9], Entry{Time: epoch, Event: Alarm})...)
	foreign, err := other.sign(headOf(t, st))
	if err != nil {
		t.Fatal(err)
	}
	good := string(export(t, s, checkpoint, leaves))
	lines := strings.SplitAfter(good, "\n")
	for name, c := range map[string]struct {
		export []byte
		o      VerifyOptions
		says   string
	}{
		"nothing":                 {[]byte(good), VerifyOptions{}, ""},
		"no last newline":         {[]byte(strings.TrimSuffix(good, "\n")), VerifyOptions{}, ""},
		"older checkpoint":        {[]byte(good), VerifyOptions{Checkpoint: checkpointOf(t, shorter)}, ""},
		"same checkpoint":         {[]byte(good), VerifyOptions{Checkpoint: checkpoint}, ""},
		"forked":                  {[]byte(good), VerifyOptions{Checkpoint: checkpointOf(t, forked)}, "the older checkpoint doesn't match: the first 10"},
		"older is newer":          {export(t, s, checkpointOf(t, shorter), leaves[:9]), VerifyOptions{Checkpoint: checkpoint}, "the older checkpoint covers"},
		"older is of another":     {[]byte(good), VerifyOptions{Checkpoint: foreign}, "the older checkpoint is not valid"},
		"older is no checkpoint":  {[]byte(good), VerifyOptions{Checkpoint: []byte{}}, "the older checkpoint is not valid"},
		"other key pinned":        {[]byte(good), VerifyOptions{VerifierKey: other.VerifierKey()}, "another verifier key"},
		"signed by another":       {export(t, s, foreign, leaves), VerifyOptions{}, "not valid: the checkpoint is not signed"},
		"all by another":          {export(t, other, foreign, leaves), VerifyOptions{VerifierKey: s.VerifierKey()}, "another verifier key"},
		"no checkpoint":           {export(t, s, nil, leaves), VerifyOptions{}, "has no checkpoint"},
		"other cluster":           {[]byte(strings.Replace(good, `"cluster_id":"0`, `"cluster_id":"1`, 1)), VerifyOptions{}, "another cluster"},
		"entries after":           {export(t, s, checkpointOf(t, shorter), leaves), VerifyOptions{}, ""},
		"end missing":             {export(t, s, checkpoint, leaves[:n-1]), VerifyOptions{}, fmt.Sprintf("covers %d entries, and the export has %d", n, n-1)},
		"all missing":             {export(t, s, checkpoint, nil), VerifyOptions{}, "the export has 0"},
		"taken out":               {export(t, s, checkpoint, without(5)), VerifyOptions{}, "the export has"},
		"taken out and one added": {export(t, s, checkpoint, append(without(5), leaves[5])), VerifyOptions{}, "are not those that were signed"},
		"swapped":                 {export(t, s, checkpoint, swapped), VerifyOptions{}, "are not those that were signed"},
		"edited":                  {export(t, s, checkpoint, edited), VerifyOptions{}, "are not those that were signed"},
		"line missing":            {[]byte(strings.Join(slices.Delete(slices.Clone(lines), 4, 5), "")), VerifyOptions{}, "entry 3 is missing"},
		"line twice":              {[]byte(strings.Join(slices.Insert(slices.Clone(lines), 4, lines[4]), "")), VerifyOptions{}, "entry 3 is out of order"},
		"line reordered":          {[]byte(strings.Join(slices.Concat(lines[:4], []string{lines[5], lines[4]}, lines[6:]), "")), VerifyOptions{}, "entry 3 is out of order"},
		"line empty":              {[]byte(strings.Join(slices.Insert(slices.Clone(lines), 4, "\n"), "")), VerifyOptions{}, "the line where entry 3 should be"},
		"line with more":          {[]byte(strings.Replace(good, `{"index":3,`, `{"index":3,"x":1,`, 1)), VerifyOptions{}, "the line where entry 3 should be"},
		"line without record":     {[]byte(good + `{"index":25}`), VerifyOptions{}, "the line where entry 25 should be"},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, verify(t, c.export, c.o), c.says)
			c.o.Discard = true
			if r := verify(t, c.export, c.o); len(r.Entries) > 0 {
				t.Error("entries were kept")
			}
		})
	}
}

// TestEveryByteCounts flips each byte of an export's records in turn; in short runs, each seventh.
func TestEveryByteCounts(t *testing.T) {
	s := signer(t)
	st, leaves := logOf(t, s, story()[:8]...)
	good := export(t, s, checkpointOf(t, st), leaves)
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for i := bytes.IndexByte(good, '\n') + 1; i < len(good)-1; i += stride {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if r := verify(t, bad, VerifyOptions{}); len(r.Problems) == 0 {
			t.Errorf("byte %d (%q to %q) went unnoticed", i, good[i], bad[i])
		}
	}
}

// TestLyingServer changes what the server itself writes and signs: only what holders signed can tell.
func TestLyingServer(t *testing.T) {
	at := map[string]int{} // :: event → index of its first entry in the story
	for i, e := range slices.Backward(story()) {
		at[string(e.Event)] = i
	}
	rekeyAt := 11
	edit := func(event Event, fn func(e *Entry)) func([]Entry) []Entry {
		return func(list []Entry) []Entry { fn(&list[at[string(event)]]); return list }
	}
	editAt := func(i int, fn func(e *Entry)) func([]Entry) []Entry {
		return func(list []Entry) []Entry { fn(&list[i]); return list }
	}
	drop := func(i int) func([]Entry) []Entry {
		return func(list []Entry) []Entry { return slices.Delete(list, i, i+1) }
	}
	root := newAttempt(ceremony.RootToken, "nonce-root", 2)
	foreign := newAttempt(ceremony.RootToken, "nonce-foreign", 2)
	weak := attemptOf(2, ceremony.RootToken, "nonce-weak", 1)
	for name, c := range map[string]struct {
		change func([]Entry) []Entry
		says   string
	}{
		"nothing":                     {func(l []Entry) []Entry { return l }, ""},
		"unknown event":               {func(l []Entry) []Entry { return append(l, Entry{Time: epoch, Event: "future"}) }, ""},
		"another reason":              {edit(Start, func(e *Entry) { e.Attempt.Reason = "x" }), "entry 6 (start): the digest"},
		"another recipient":           {edit(Start, func(e *Entry) { e.Attempt.Recipient = "x" }), "entry 6 (start): the digest"},
		"another attempt, new digest": {edit(Start, func(e *Entry) { e.Attempt.Reason = "x"; e.Attempt.Digest = e.Attempt.ComputeDigest() }), "entry 7 (approve): the digest"},
		"the same, digests left out": {func(l []Entry) []Entry {
			a := l[6].Attempt
			a.Reason = "x"
			a.Digest = a.ComputeDigest()
			l[7].Digest = ""
			return l
		}, "entry 7 (approve): the signature of the holder of slot 2 is not valid"},
		"another parameter":         {editAt(rekeyAt, func(e *Entry) { e.Attempt.Parameters[0].Value = "4" }), "entry 11 (start): the digest"},
		"start without attempt":     {edit(Start, func(e *Entry) { e.Attempt = nil }), "doesn't say what"},
		"start of another nonce":    {edit(Start, func(e *Entry) { e.Nonce = "x" }), "not the one that the entry names"},
		"start of another cluster":  {edit(Start, func(e *Entry) { e.Attempt.ClusterID = "x"; e.Attempt.Digest = e.Attempt.ComputeDigest() }), "not the one that the entry names"},
		"start twice":               {func(l []Entry) []Entry { return append(l, start(root)) }, "started before"},
		"start below the threshold": {func(l []Entry) []Entry { return append(l, start(weak)) }, "another number of approvals"},
		"start removed":             {drop(6), "entry 6 (approve): the start of its attempt"},
		"approval unsigned":         {edit(Approve, func(e *Entry) { e.Signature = nil }), "entry 7 (approve): the signature of the holder of slot 2 is missing"},
		"approval of another slot":  {edit(Approve, func(e *Entry) { e.Slot = 3 }), "entry 7 (approve): the signature of the holder of slot 3 is not valid"},
		"approval of no slot":       {edit(Approve, func(e *Entry) { e.Slot = 9 }), "has no slot 9"},
		"approval in another mode":  {edit(Approve, func(e *Entry) { e.Mode = holder.ModeShare }), "not valid"},
		"approval of another attempt": {func(l []Entry) []Entry {
			return append(l, start(foreign), withNonce(approve(root, 1, holder.ModeShare), "nonce-foreign"))
		}, "digest is not that of the attempt"},
		"approval removed":        {drop(7), "entry 9 (complete): only 1 of the 2"},
		"approval twice":          {func(l []Entry) []Entry { l[9] = l[7]; return l }, "had approved already"},
		"approval after the end":  {func(l []Entry) []Entry { return append(l, approve(root, 3, holder.ModeShare)) }, "the attempt was over"},
		"duplicate":               {func(l []Entry) []Entry { d := l[7]; d.Event = Duplicate; return append(l, d) }, ""},
		"duplicate, false sign":   {func(l []Entry) []Entry { d := l[7]; d.Event, d.Slot = Duplicate, 1; return append(l, d) }, "(duplicate): the signature"},
		"complete without start":  {func(l []Entry) []Entry { return append(l, step(Complete, foreign)) }, "the start of its attempt"},
		"objection unsigned":      {edit(Object, func(e *Entry) { e.Signature = nil }), "entry 8 (object)"},
		"objection of nobody":     {edit(Object, func(e *Entry) { e.Slot = 0 }), "entry 8 (object)"},
		"objection as approval":   {edit(Object, func(e *Entry) { e.Signature = approve(root, 3, holder.ModeSignature).Signature }), "not valid"},
		"cancel by another":       {edit(Cancel, func(e *Entry) { e.Slot = 1 }), "(cancel): the signature"},
		"cancel without a holder": {edit(Cancel, func(e *Entry) { e.Slot, e.Signature = 0, nil }), ""},
		"share unsigned":          {edit(UnsealShare, func(e *Entry) { e.Signature = nil }), "entry 1 (unseal-share)"},
		"share of another client": {edit(UnsealShare, func(e *Entry) { e.Client = "x" }), "entry 1 (unseal-share)"},
		"share at another time":   {edit(UnsealShare, func(e *Entry) { e.Time = epoch.AddDate(1, 0, 0) }), "entry 1 (unseal-share)"},
		"reset by another":        {edit(UnsealReset, func(e *Entry) { e.Slot = 1 }), "entry 2 (unseal-reset)"},
		"reset locally": {func(l []Entry) []Entry {
			l[2].Slot, l[2].Signature, l[2].Before = 0, nil, nil
			return replaced(l)
		}, ""},
		"refusal with a false sign":     {edit(Refused, func(e *Entry) { e.Signature = make([]byte, 64) }), "(refused): the signature"},
		"proof of another verification": {edit(Prove, func(e *Entry) { e.Nonce = "x" }), "(prove): the signature"},
		"proof of the old generation":   {edit(Prove, func(e *Entry) { e.Generation = 1 }), "(prove): the signature"},
		"proof of no generation":        {edit(Prove, func(e *Entry) { e.Generation = 7 }), "generation 7 was not recorded"},
		"other first holders":           {edit(Init, func(e *Entry) { e.Holders[0].Verifier = key(2, 1).Verifier() }), "entry 1 (unseal-share): the signature of the holder of slot 1"},
		"no first holders":              {edit(Init, func(e *Entry) { e.Holders = nil }), "entry 0 (init): its threshold"},
		"two first holders in one slot": {edit(Init, func(e *Entry) { e.Holders[0].Slot = 2 }), "entry 0 (init): its slots"},
		"lower threshold at first":      {edit(Init, func(e *Entry) { e.Threshold = 1 }), "entry 6 (start): it asks for another number"},
		"no init":                       {drop(0), "entry 0 is not that of init"},
		"init again":                    {func(l []Entry) []Entry { return append(l, l[0]) }, "(init): a cluster is set up only once"},
		"holders from nowhere":          {edit(Generation, func(e *Entry) { e.Nonce = "" }), "doesn't come from a ceremony"},
		"holders from a root token":     {edit(Generation, func(e *Entry) { e.Nonce = "nonce-root" }), "was not for a new generation"},
		"holders before the quorum":     {func(l []Entry) []Entry { l[13], l[14] = l[14], l[13]; return l }, "entry 13 (generation): only 1 of the 2"},
		"more holders than approved":    {edit(Generation, func(e *Entry) { e.Holders = holders(2, 4) }), "other numbers of shares"},
		"lower threshold than approved": {edit(Generation, func(e *Entry) { e.Threshold = 2 }), "other numbers of shares"},
		"holders replaced":              {edit(Generation, func(e *Entry) { e.Generation = 1 }), "changes the holders of a generation"},
	} {
		t.Run(name, func(t *testing.T) {
			s := signer(t)
			st, leaves := logOf(t, s, c.change(story())...)
			r := verify(t, export(t, s, checkpointOf(t, st), leaves), VerifyOptions{VerifierKey: s.VerifierKey()})
			wantProblem(t, r, c.says)
			if want := int64(strings.Count(name, "unknown event")); r.Unknown != want {
				t.Errorf("%d entries are unknown, want %d", r.Unknown, want)
			}
		})
	}
}

func withNonce(e Entry, nonce string) Entry {
	e.Nonce = nonce
	return e
}

func TestUnreadableEntries(t *testing.T) {
	s := signer(t)
	for leaf, says := range map[string]string{
		`{"time":5}`: "entry 25 can't be read",
		`no JSON`:    "entry 25 can't be read",
		`{"time":"2026-11-05T12:00:00Z","event":"alarm","Event":"sealed"}`:           "more than one way",
		`{"time":"2026-11-05T12:00:00Z","event":"alarm","more":1}`:                   "more than one way",
		`{"event":"alarm","time":"2026-11-05T12:00:00Z"}`:                            "more than one way",
		`{"time":"2026-11-05T12:00:00.0001Z","event":"alarm"}`:                       "more than one way",
		`{"time":"2026-11-05T12:00:00Z","event":"future","more":{"than":"we know"}}`: "",
	} {
		st, _ := logOf(t, s, story()...)
		appendLeaf(t, st, leaf)
		wantProblem(t, verify(t, export(t, s, checkpointOf(t, st), leavesOf(t, st)), VerifyOptions{}), says)
	}
}

func TestNotAnExport(t *testing.T) {
	for _, text := range []string{
		"", "\n", "{}\n", "[]", "null\n", `{"quorate_transcript":2,"cluster_id":"x"}`, `{"quorate_transcript":1,"cluster_id":"x","more":1}`,
		`{"quorate_transcript":1}{"quorate_transcript":1}`, "\xff", `{"quorate_transcript":1,"cluster_id":"` + strings.Repeat("x", maxLine) + `"}`,
		`{"quorate_transcript":1,"cluster_id":"x"}` + "\n" + strings.Repeat(" ", maxLine+1),
	} {
		if r, err := VerifyExport(strings.NewReader(text), VerifyOptions{}); err == nil {
			t.Errorf("%.60q: %v", text, r)
		}
	}
	broken := errors.New("broken")
	if _, err := VerifyExport(io.MultiReader(strings.NewReader(`{"quorate_transcript":1}`+"\n"), brokenReader{broken}), VerifyOptions{}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

func TestWriteExportRefusesDamage(t *testing.T) {
	broken := errors.New("broken")
	for name, seq := range map[string]func(yield func([]byte, error) bool){
		"not UTF-8": func(yield func([]byte, error) bool) { yield([]byte("\xff"), nil) },
		"an error":  func(yield func([]byte, error) bool) { yield(nil, broken) },
	} {
		if err := WriteExport(io.Discard, ExportHeader{}, seq); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if err := WriteExport(failing{}, ExportHeader{}, each(nil)); err == nil {
		t.Error("a writer's failure is lost")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestProblemsAreBounded(t *testing.T) {
	s := signer(t)
	bad := strings.Repeat("x\n", 5000)
	r := verify(t, append(export(t, s, nil, nil), bad...), VerifyOptions{})
	if len(r.Problems) != maxProblems+1 {
		t.Errorf("%d problems are listed", len(r.Problems))
	}
}

func TestWriteHTML(t *testing.T) {
	s := signer(t)
	entries := append(story(), Entry{Time: epoch, Event: "<i>new</i>", Label: "<script>", Detail: `"><img src=x>`, Slot: 1})
	st, leaves := logOf(t, s, entries...)
	for _, checkpoint := range [][]byte{checkpointOf(t, st), nil} {
		r := verify(t, export(t, s, checkpoint, leaves), VerifyOptions{})
		var b bytes.Buffer
		if err := WriteHTML(&b, r); err != nil {
			t.Fatal(err)
		}
		page := b.String()
		for _, want := range []string{cluster, "holder 2", "&lt;script&gt;", "nonce-root", "valid, share", "valid, signature", "(unknown)", "the &lt;last&gt; token", "default-src"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		for _, bad := range []string{"<script", "<img", "<i>", "http://", "https://", "ZgotmplZ", "%!"} {
			if strings.Contains(page, bad) {
				t.Errorf("the page has %q", bad)
			}
		}
		if problem := strings.Contains(page, "Problems: 1"); problem != (checkpoint == nil) {
			t.Error("the page says the wrong thing about problems")
		}
	}
}

func FuzzVerifyExport(f *testing.F) {
	golden, err := os.ReadFile("testdata/export.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"quorate_transcript":1,"cluster_id":"x","verifier_key":"","checkpoint":""}` + "\n" + `{"index":-1,"record":""}`))
	f.Add([]byte(`{"quorate_transcript":1}` + "\n" + `{"index":9223372036854775807,"record":"{\"event\":\"approve\"}"}` + "\n{}\n"))
	clean := verify(f, golden, VerifyOptions{})
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := VerifyExport(bytes.NewReader(text), VerifyOptions{VerifierKey: clean.VerifierKey})
		if err != nil {
			return
		}
		if len(r.Problems) == 0 && (r.Signed != clean.Signed || r.Size < clean.Size) {
			t.Errorf("%q passes as the log", text)
		}
		if err := WriteHTML(io.Discard, r); err != nil {
			t.Error(err)
		}
	})
}

// TestVerifyKeepsRoots: the root of the report is over what was read, in the order in which it came.
func TestVerifyKeepsRoots(t *testing.T) {
	leaves := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	r := verify(t, export(t, signer(t), nil, leaves), VerifyOptions{})
	ab := tlog.NodeHash(tlog.RecordHash(leaves[0]), tlog.RecordHash(leaves[1]))
	if r.Root != tlog.NodeHash(ab, tlog.RecordHash(leaves[2])) || r.Size != 3 {
		t.Error("the root is", r.Root)
	}
}
