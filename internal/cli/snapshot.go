package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/server"
	"github.com/quorate/quorate/internal/snapshot"
)

func (a *app) snapshotCommands() *command.C {
	return group("snapshot", "Save the whole store, and put it back.", a.snapshotSaveCommand(), a.snapshotInspectCommand(), a.snapshotRestoreCommand())
}

// snapshotView is what is in a snapshot, as it is printed.
type snapshotView struct {
	ClusterID   string            `json:"cluster_id"`
	ClusterName string            `json:"cluster_name"`
	Generation  uint64            `json:"generation"`
	Created     time.Time         `json:"created"`
	Version     string            `json:"version"`
	StorageType string            `json:"storage_type"`
	Transcript  int64             `json:"transcript_size"`
	Records     int64             `json:"records"`
	Bytes       int64             `json:"bytes"`
	SHA256      string            `json:"sha256"`
	Segments    []snapshotSegment `json:"segments"`
}

type snapshotSegment struct {
	Name    string `json:"name"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

func (s *session) printSnapshot(sum *snapshot.Summary) error {
	h := sum.Header
	v := snapshotView{
		ClusterID: h.ClusterID, ClusterName: h.ClusterName, Generation: h.Generation, Created: h.Created, Version: h.Version, StorageType: h.StorageType,
		Transcript: sum.Transcript, Records: sum.Records, Bytes: sum.Bytes, SHA256: sum.SHA256,
	}
	for _, g := range sum.Segments {
		v.Segments = append(v.Segments, snapshotSegment(g))
	}
	return s.print(v, v.text)
}

func (v snapshotView) text() string {
	t := header()
	t.add("Cluster ID", v.ClusterID)
	t.add("Cluster Name", v.ClusterName)
	t.add("Generation", v.Generation)
	t.add("Created", v.Created.Format(time.RFC3339))
	t.add("Version", v.Version)
	t.add("Storage Type", v.StorageType)
	t.add("Transcript Entries", v.Transcript)
	t.add("Records", v.Records)
	t.add("Bytes", v.Bytes)
	t.add("SHA-256", v.SHA256)
	for _, g := range v.Segments {
		t.add(visible(g.Name, "")+"/", fmt.Sprintf("%d records, %d bytes", g.Records, g.Bytes))
	}
	return t.text()
}

func (a *app) snapshotSaveCommand() *command.C {
	s := &session{app: a}
	var force bool
	c := &command.C{
		Name: "save", Usage: "[flags] FILE",
		Help: `Save the whole store of a running, unsealed server to a file.

What is encrypted in the store is encrypted in the file, and the key shares of its time open it: keep it as safe as the
store itself. It takes a token that may read sys/storage/snapshot, with sudo.

The file is made whole or not at all, and verified while it is written. Put it back: quorate operator snapshot restore.`,
	}
	c.Flags.BoolVar(&force, "force", false, "replace a file that exists")
	return s.command(c, answers|byUser, 1, 1, func(ctx context.Context, args []string) error {
		if args[0] == "-" {
			return localf("a snapshot needs a file: it is verified before it is there")
		}
		if _, err := os.Lstat(args[0]); err == nil && !force {
			return localf("the file exists: choose another name, or replace it with -force")
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return localf("%w", err)
		}
		sum, err := s.saveSnapshot(ctx, args[0])
		if err != nil {
			return err
		}
		return unprinted(s.printSnapshot(sum), "the snapshot was saved: quorate operator snapshot inspect shows it")
	})
}

// saveSnapshot fetches a snapshot and gives it its name once it has been found to be whole.
func (s *session) saveSnapshot(ctx context.Context, name string) (sum *snapshot.Summary, err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	s.client.SetClientTimeout(0) // of a whole answer, which takes as long as the store is large
	resp, err := s.client.RawRequestWithContext(ctx, s.client.NewRequest(http.MethodGet, "/v1/sys/storage/snapshot"))
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return nil, hinted(asking("saving a snapshot", err), http.StatusForbidden, "the token needs a policy with: path \"sys/storage/snapshot\" { capabilities = [\"read\", \"sudo\"] }")
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return nil, localf("%w", err)
	}
	defer os.Remove(f.Name()) // not there any more if all went well
	defer f.Close()
	out := &fileOut{f: f}
	sum, err = snapshot.Inspect(io.TeeReader(resp.Body, out))
	switch {
	case ctx.Err() != nil:
		return nil, stuck("saving a snapshot", errInterrupted)
	case out.err != nil:
		return nil, localf("%w", out.err)
	case err != nil:
		return nil, &failure{code: exitServer, action: "saving a snapshot", err: err, hint: "nothing was saved: try again, and look into the server's log"}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, localf("%w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return nil, localf("%w", err)
	}
	return sum, nil
}

// fileOut tells an error of the file from one of what is read.
type fileOut struct {
	f   *os.File
	err error
}

func (o *fileOut) Write(p []byte) (n int, err error) {
	n, err = o.f.Write(p)
	if err != nil {
		o.err = err
	}
	return n, err
}

func (a *app) snapshotInspectCommand() *command.C {
	s := &session{app: a}
	c := &command.C{
		Name: "inspect", Usage: "[flags] FILE",
		Help: `Verify a snapshot and show what is in it. No server is asked.

Its checksum tells whether the file is as it was saved, not who saved it.`,
	}
	return s.command(c, offline|answers, 1, 1, func(_ context.Context, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return localf("%w", err)
		}
		defer f.Close()
		sum, err := snapshot.Inspect(f)
		if err != nil {
			return stuck("reading the snapshot", err)
		}
		return s.printSnapshot(sum)
	})
}

func (a *app) snapshotRestoreCommand() *command.C {
	s := &session{app: a}
	var files []string
	var force bool
	c := &command.C{
		Name: "restore", Usage: "-config=FILE [flags] SNAPSHOT",
		Help: `Put a snapshot in the place of all that is in the store that a server's configuration names.

Stop every server of the store first: this command opens the store itself, so run it as the user that they run as.
Afterwards start them, and unseal them with the key shares of the snapshot's time.

Refused without -force: a store of another cluster, or one that is later than the snapshot. What is interrupted is
finished by running the same command again; until then no server starts over the store.`,
	}
	c.Flags.Func("config", "`FILE` with the server's configuration, or a folder of such files", repeated(&files))
	c.Flags.BoolVar(&force, "force", false, "replace another cluster, or a later state of this one")
	return s.command(c, offline|answers, 1, 1, func(ctx context.Context, args []string) error {
		path, err := oneConfig(files)
		if err != nil {
			return err
		}
		cfg, err := config.Load(path)
		if err != nil {
			return stuck("reading the configuration", fmt.Errorf("\n%w", err))
		}
		f, err := os.Open(args[0])
		if err != nil {
			return localf("%w", err)
		}
		defer f.Close()
		ctx, stop := interruptible(ctx)
		defer stop()
		sum, err := server.Restore(ctx, cfg, f, force, s.stderr)
		if err != nil {
			return stuck("restoring the snapshot", orInterrupted(ctx, err))
		}
		s.say("restored: start the servers, and unseal them")
		return s.printSnapshot(sum)
	})
}

// orInterrupted says of what ended because it was interrupted that it was.
func orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	return err
}

// oneConfig is the only -config.
func oneConfig(files []string) (string, error) {
	if len(files) != 1 {
		return "", localf("exactly one -config is needed: give the folder to read several files")
	}
	return files[0], nil
}
