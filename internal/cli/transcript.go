package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/transcript"
)

// transcriptExport is the transcript export command.
type transcriptExport struct {
	session
	file, verifierKey string
	html              bool
}

func (a *app) transcriptExportCommand() *command.C {
	x := &transcriptExport{session: session{app: a}}
	c := &command.C{
		Name: "export", Usage: "[flags]",
		Help: `Write the server's transcript of ceremonies to a file that can be verified without the server.

The entries up to the latest checkpoint are written, and only if they are those that it signs. With -html the
transcript is verified first, and written as one page for an auditor to file.

A transcript that doesn't continue the one that you have seen before is refused, unless -verifier-key is given.`,
	}
	c.Flags.StringVar(&x.file, "o", "", "`FILE` to write; standard output without it")
	c.Flags.BoolVar(&x.html, "html", false, "write a page to read instead of the file to verify")
	c.Flags.StringVar(&x.verifierKey, "verifier-key", "", "`KEY` that must have signed the checkpoint, known from elsewhere; a sealed server doesn't tell it")
	return x.command(c, byNobody, 0, 0, x.run)
}

// transcriptInfo is what sys/transcript tells about the log.
type transcriptInfo struct {
	ClusterID   string   `json:"cluster_id"`
	VerifierKey string   `json:"verifier_key"`
	Checkpoint  string   `json:"checkpoint"`
	Alarms      []string `json:"alarms"`
}

// errNoCheckpoint is a server that was never unsealed.
var errNoCheckpoint = errors.New("the server has no checkpoint yet: unseal it first")

func (s *session) readTranscriptInfo(ctx context.Context) (*transcriptInfo, error) {
	info := &transcriptInfo{}
	return info, asking("reading the transcript", callData(ctx, s.client, http.MethodGet, "sys/transcript", nil, info))
}

func (x *transcriptExport) run(ctx context.Context, _ []string) error {
	if x.html && x.file == "" {
		return localf("-html needs -o=FILE: where to write the page")
	}
	if x.file == "-" {
		x.file = ""
	}
	info, err := x.readTranscriptInfo(ctx)
	if err != nil {
		return err
	}
	for _, alarm := range info.Alarms {
		x.say("warning: the server raises an alarm: %s", printable(alarm))
	}
	if err := x.witness(ctx, info, &x.verifierKey); err != nil {
		return err
	}
	head, err := x.head(info)
	if err != nil {
		return &failure{code: exitServer, action: "exporting the transcript", err: err}
	}
	err = x.save(func(f *os.File) error { return x.export(ctx, f, info, head) })
	if err == nil || errors.As(err, new(*failure)) {
		return err
	}
	return localf("%w", err)
}

// witness holds what the server tells against what is remembered, unless a key says what to believe. A sealed server
// doesn't tell its key: the remembered one is taken then.
func (s *session) witness(ctx context.Context, info *transcriptInfo, verifierKey *string) error {
	if *verifierKey != "" || info.ClusterID == "" {
		return nil
	}
	w := &witness{app: s.app, client: s.client}
	if err := w.compare(ctx, info.ClusterID, sighting{info.VerifierKey, info.Checkpoint}, true); err != nil {
		return err
	}
	if kept := s.remembered(info.ClusterID); kept != nil && info.VerifierKey == "" {
		*verifierKey = kept.VerifierKey
	}
	return nil
}

// head is what the checkpoint signs.
func (x *transcriptExport) head(info *transcriptInfo) (transcript.Head, error) {
	switch {
	case x.verifierKey == "":
		x.verifierKey = info.VerifierKey
	case info.VerifierKey != "" && info.VerifierKey != x.verifierKey:
		return transcript.Head{}, errors.New("the server's transcript is signed with another key than that of -verifier-key")
	}
	switch {
	case info.Checkpoint == "":
		return transcript.Head{}, errNoCheckpoint
	case x.verifierKey == "":
		return transcript.Head{}, errors.New("a sealed server doesn't tell the key that its checkpoint is signed with: unseal it first, or give the key with -verifier-key")
	}
	info.VerifierKey = x.verifierKey
	return transcript.OpenCheckpoint([]byte(info.Checkpoint), x.verifierKey)
}

// export writes the entries that head covers, and then reads them again as whoever verifies them will.
func (x *transcriptExport) export(ctx context.Context, f *os.File, info *transcriptInfo, head transcript.Head) error {
	h := transcript.ExportHeader{ClusterID: info.ClusterID, VerifierKey: info.VerifierKey, Checkpoint: info.Checkpoint}
	if err := transcript.WriteExport(f, h, leaves(ctx, x.client, head.Size)); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	report, err := transcript.VerifyExport(f, transcript.VerifyOptions{VerifierKey: x.verifierKey, Discard: !x.html})
	if err != nil {
		return err
	}
	if report.Size != head.Size || report.Root != head.Root {
		return &failure{
			code: exitServer, action: "exporting the transcript",
			err:  errors.New("the entries that the server sent are not those that its checkpoint signs: nothing was written"),
			hint: "treat the server's transcript as tampered with until somebody has explained it",
		}
	}
	x.warn(report.Problems) // what is wrong must be on file, too
	x.say("%d entries, with %d valid signatures of holders", report.Size, report.Signatures)
	if !x.html {
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return transcript.WriteHTML(f, report)
}

// leaves pages through the first size entries.
func leaves(ctx context.Context, client *api.Client, size int64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for start := int64(0); start < size; {
			page, err := readEntries(ctx, client, start, size)
			if err != nil {
				yield(nil, asking("reading the entries of the transcript", err))
				return
			}
			for _, leaf := range page {
				if !yield(leaf, nil) {
					return
				}
			}
			start += int64(len(page))
		}
	}
}

// readEntries reads at least one entry from start on, and none from end on.
func readEntries(ctx context.Context, client *api.Client, start, end int64) (page [][]byte, err error) {
	const most = 1000 // that the server sends at once
	s, err := client.Logical().ReadWithDataWithContext(ctx, "sys/transcript/entries", map[string][]string{
		"start": {strconv.FormatInt(start, 10)}, "limit": {strconv.FormatInt(min(most, end-start), 10)},
	})
	if err != nil {
		return nil, err
	}
	var list []any
	if s != nil {
		list, _ = s.Data["entries"].([]any)
	}
	for _, leaf := range list[:min(int64(len(list)), end-start)] {
		text, ok := leaf.(string)
		if !ok {
			return nil, errors.New("the server's answer is not the JSON expected")
		}
		page = append(page, []byte(text))
	}
	if len(page) == 0 {
		return nil, fmt.Errorf("the server has no entry %d, but its checkpoint signs %d", start, end)
	}
	return page, nil
}

// save lets write fill a file of its own and puts it in its place whole, or not at all; or on standard output. What
// exists and is no ordinary file, such as a device or a link, stays what it is, and is written to.
func (x *transcriptExport) save(write func(*os.File) error) error {
	dir, special := os.TempDir(), false
	if x.file != "" {
		info, err := os.Lstat(x.file)
		if special = err == nil && !info.Mode().IsRegular(); !special {
			dir = filepath.Dir(x.file)
		}
	}
	f, err := os.CreateTemp(dir, ".quorate-transcript-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // not there any more if all went well
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if x.file != "" && !special {
		const readable = 0o644 // everything in it is public
		if err := errors.Join(f.Chmod(readable), f.Sync(), f.Close()); err != nil {
			return err
		}
		return os.Rename(f.Name(), x.file)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if special {
		return copyInto(x.file, f)
	}
	if _, err := io.Copy(x.stdout, f); err != nil {
		return fmt.Errorf("%w: %w", errNotWritten, err)
	}
	return nil
}

func copyInto(name string, from io.Reader) error {
	const readable = 0o644 // what a link may lead to doesn't exist yet
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, readable)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

func (a *app) transcriptVerifyCommand() *command.C {
	s := &session{app: a}
	o := transcript.VerifyOptions{Discard: true}
	var checkpoint string
	c := &command.C{
		Name: "verify", Usage: "[flags] FILE",
		Help: `Verify an exported transcript, or one from standard input (-). No server is asked.

Every signature of a holder is checked, and that the entries are those that the checkpoint signs. That nothing was
rewritten is only certain with something from elsewhere: -verifier-key, -checkpoint. For a cluster that you have seen
before, the key that is remembered of it is taken.

Exit code: 0 if all is well, 2 if there are problems, 1 if the file can't be read.`,
	}
	c.Flags.StringVar(&o.VerifierKey, "verifier-key", "", "`KEY` that must have signed the checkpoints")
	c.Flags.StringVar(&checkpoint, "checkpoint", "", "`FILE` with an older checkpoint, which the transcript must continue")
	return s.command(c, offline|answers, 1, 1, func(_ context.Context, args []string) (err error) {
		if checkpoint != "" {
			if o.Checkpoint, err = os.ReadFile(checkpoint); err != nil {
				return localf("%w", err)
			}
		}
		return s.verifyTranscript(args[0], o)
	})
}

// transcriptReport is what verifying found.
type transcriptReport struct {
	ClusterID   string   `json:"cluster_id"`
	VerifierKey string   `json:"verifier_key"`
	Pinned      bool     `json:"pinned"` // the key is not the file's own
	Size        int64    `json:"size"`
	Root        string   `json:"root"`
	Signed      int64    `json:"signed"`     // entries
	Signatures  int64    `json:"signatures"` // of holders, valid
	Unknown     int64    `json:"unknown"`    // entries
	Problems    []string `json:"problems"`
}

func (s *session) verifyTranscript(name string, o transcript.VerifyOptions) error {
	in := s.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return localf("%w", err)
		}
		defer f.Close()
		in = f
	}
	buffered := bufio.NewReaderSize(in, 1<<16)
	if o.VerifierKey == "" {
		if kept := s.remembered(clusterOf(buffered)); kept != nil {
			o.VerifierKey = kept.VerifierKey
		}
	}
	r, err := transcript.VerifyExport(buffered, o)
	if err != nil {
		return stuck("verifying the transcript", err)
	}
	report := transcriptReport{
		ClusterID: r.ClusterID, VerifierKey: r.VerifierKey, Pinned: r.Pinned, Size: r.Size, Root: r.Root.String(),
		Signed: r.Signed, Signatures: r.Signatures, Unknown: r.Unknown, Problems: append([]string{}, r.Problems...),
	}
	if err := s.print(report, report.text); err != nil {
		return err
	}
	if !r.Pinned {
		s.say("warning: the key is the file's own, so whoever made the file could have chosen it: compare it, or give -verifier-key")
	}
	for _, p := range r.Problems {
		s.say("problem: %s", printable(p))
	}
	if len(r.Problems) > 0 {
		return silent(exitServer)
	}
	s.say("the transcript is as it was signed")
	return nil
}

// clusterOf is the cluster that an export says it is of, read ahead in its first line. Whoever made it can name another
// one, and then it is verified as one that isn't known: with its own key, which is told.
func clusterOf(export *bufio.Reader) string {
	var h transcript.ExportHeader
	ahead, _ := export.Peek(export.Size())
	line, _, _ := bytes.Cut(ahead, []byte("\n"))
	if json.Unmarshal(line, &h) != nil {
		return ""
	}
	return h.ClusterID
}

func (r transcriptReport) text() string {
	t := header()
	t.add("Cluster ID", r.ClusterID)
	t.add("Verifier Key", r.VerifierKey)
	t.add("Entries", r.Size)
	t.add("Root", r.Root)
	t.add("Signed Entries", r.Signed)
	t.add("Holder Signatures", r.Signatures)
	t.add("Unknown Entries", r.Unknown)
	t.add("Problems", len(r.Problems))
	return t.text()
}

func (a *app) transcriptCheckpointCommand() *command.C {
	s := &session{app: a}
	var verifierKey string
	var fromMemory bool
	c := &command.C{
		Name: "checkpoint", Usage: "[flags]",
		Help: `Print the latest checkpoint of the server's transcript: a signed note.

Keep it: a transcript that doesn't continue it, or is shorter, has been rewritten (quorate transcript verify -checkpoint).
One that doesn't continue the one that you have seen before is refused, unless -verifier-key is given.`,
	}
	c.Flags.StringVar(&verifierKey, "verifier-key", "", "`KEY` that must have signed it, known from elsewhere")
	c.Flags.BoolVar(&fromMemory, "remembered", false, "print the latest checkpoint that you have seen of the only cluster that you know, else of the server's")
	return s.command(c, byNobody, 0, 0, func(ctx context.Context, _ []string) error {
		if fromMemory {
			return s.printRemembered(ctx)
		}
		info, err := s.readTranscriptInfo(ctx)
		if err != nil {
			return err
		}
		if err := s.witness(ctx, info, &verifierKey); err != nil {
			return err
		}
		if info.Checkpoint == "" {
			return &failure{code: exitServer, action: "reading the checkpoint", err: errNoCheckpoint}
		}
		if verifierKey != "" {
			if _, err := transcript.OpenCheckpoint([]byte(info.Checkpoint), verifierKey); err != nil {
				return &failure{code: exitServer, action: "reading the checkpoint", err: err}
			}
		}
		return s.write(visible(info.Checkpoint, "\n"))
	})
}

func (s *session) printRemembered(ctx context.Context) error {
	clusters := rememberedClusters()
	if len(clusters) != 1 {
		info, err := s.readTranscriptInfo(ctx)
		if err != nil {
			return err
		}
		clusters = []string{info.ClusterID}
	}
	kept := s.remembered(clusters[0])
	if kept == nil {
		return &failure{code: exitServer, err: fmt.Errorf("nothing is remembered of cluster %s", visible(clusters[0], ""))}
	}
	return s.write(visible(kept.Checkpoint, "\n"))
}
