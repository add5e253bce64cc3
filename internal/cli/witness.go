package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/openbao/openbao/api/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/transcript"
	"github.com/quorate/quorate/internal/wholefile"
)

// witness remembers, for each cluster, the latest checkpoint of its transcript that this user has seen, and demands that
// the next one continues it. The key that signs them is believed the first time it is seen.
type witness struct {
	*app
	client *api.Client // speaks as nobody
	warned bool
}

// sighting is the file in which a cluster is remembered.
type sighting struct {
	VerifierKey string `json:"verifier_key"`
	Checkpoint  string `json:"checkpoint"`
}

// errRewritten is a transcript that isn't the one seen before. Nothing may be signed for such a server.
var errRewritten = errors.New("this is not the transcript that was seen before")

// checkList is check for the list of ceremonies, which must carry a checkpoint where there ever was one.
func (w *witness) checkList(ctx context.Context, list *ceremonyList) error {
	return w.compare(ctx, list.ClusterID, list.sighting(), true)
}

// check compares what the reply to a later request carries with what is remembered, and remembers what is new. A home
// that can't be used is a warning; a transcript that was rewritten is errRewritten.
func (w *witness) check(ctx context.Context, info *ceremonyInfo) error {
	if info.Checkpoint == "" {
		return nil
	}
	return w.compare(ctx, info.ClusterID, sighting{Checkpoint: info.Checkpoint}, true)
}

func (w *witness) compare(ctx context.Context, clusterID string, now sighting, again bool) error {
	if !isUUID(clusterID) {
		return contradiction("it doesn't tell which cluster it is of")
	}
	path, err := witnessPath(clusterID)
	if err != nil {
		w.warn("the transcript isn't watched: %v", err)
		return nil
	}
	kept, err := readSighting(path)
	switch {
	case errors.Is(err, errRewritten):
		return rewritten(path, "what is remembered of cluster %s is damaged", clusterID)
	case err != nil: // there may be something: this is no first contact
		w.warn("the transcript isn't watched: what is remembered of it can't be read: %v", err)
		return nil
	case kept == nil:
		return w.first(path, clusterID, now)
	}
	return w.next(ctx, path, clusterID, *kept, now, again)
}

// first believes what it sees.
func (w *witness) first(path, clusterID string, now sighting) error {
	if now.Checkpoint == "" || now.VerifierKey == "" {
		return nil // a reply that tells both will come, or there is nothing to watch
	}
	if !strings.HasPrefix(now.VerifierKey, transcript.Origin(clusterID)+"+") {
		return contradiction("its transcript is not signed for cluster %s", clusterID)
	}
	if _, err := transcript.OpenCheckpoint([]byte(now.Checkpoint), now.VerifierKey); err != nil {
		return contradiction("the checkpoint of its transcript is not signed with its own key %s", now.VerifierKey)
	}
	if w.save(path, now) {
		w.say("first contact with cluster %s: its transcript is signed with %s, which is remembered in %s", clusterID, visible(now.VerifierKey, ""), path)
	}
	return nil
}

// next demands that now continues what was kept. Another command may have kept a newer checkpoint since the reply was
// made, so before a shorter transcript is called one, the server is asked for its present state, if again allows.
func (w *witness) next(ctx context.Context, path, clusterID string, kept, now sighting, again bool) error {
	if now.VerifierKey != "" && now.VerifierKey != kept.VerifierKey {
		return rewritten(path, "the transcript of cluster %s was signed with %s, and now with %s", clusterID, kept.VerifierKey, now.VerifierKey)
	}
	before, err := transcript.OpenCheckpoint([]byte(kept.Checkpoint), kept.VerifierKey)
	if err != nil {
		return rewritten(path, "what is remembered of cluster %s is damaged", clusterID)
	}
	if now.Checkpoint == "" {
		return rewritten(path, "the transcript of cluster %s had %d entries, and now it is not shown", clusterID, before.Size)
	}
	after, err := transcript.OpenCheckpoint([]byte(now.Checkpoint), kept.VerifierKey)
	if err != nil {
		return rewritten(path, "the transcript of cluster %s was signed with %s, and the checkpoint shown now isn't", clusterID, kept.VerifierKey)
	}
	if after.Size < before.Size && again {
		list := &ceremonyList{}
		if err := callData(ctx, w.client, http.MethodGet, ceremoniesPath, nil, list); err != nil {
			return asking("reading the present checkpoint", err)
		}
		return w.compare(ctx, clusterID, list.sighting(), false)
	}
	if err := w.continues(ctx, before, after); err != nil {
		if !errors.Is(err, errRewritten) {
			return err
		}
		return rewritten(path, "the transcript of cluster %s had %d entries with the root hash %s, and the one shown now has %d with %s and is not its continuation",
			clusterID, before.Size, before.Root, after.Size, after.Root)
	}
	if after.Size > before.Size {
		w.save(path, sighting{kept.VerifierKey, now.Checkpoint})
	}
	return nil
}

// continues is nil if after is before with entries added at its end, and errRewritten if it isn't.
func (w *witness) continues(ctx context.Context, before, after transcript.Head) error {
	var proof []tlog.Hash
	switch {
	case after.Size < before.Size:
		return errRewritten
	case after.Size == before.Size && after.Root == before.Root, before.Size == 0:
		return nil
	case after.Size > before.Size:
		var err error
		if proof, err = w.proof(ctx, before.Size, after.Size); answered(err) == http.StatusBadRequest { // it has none
			return errRewritten
		}
		if err != nil {
			return asking("asking for the proof that the transcript has only grown", err)
		}
	}
	if transcript.VerifyConsistency(before, after, proof) != nil {
		return errRewritten
	}
	return nil
}

func (w *witness) proof(ctx context.Context, before, after int64) ([]tlog.Hash, error) {
	var reply struct {
		Data struct {
			Hashes []tlog.Hash `json:"hashes"`
		} `json:"data"`
	}
	req := w.client.NewRequest(http.MethodGet, "/v1/sys/transcript/proof")
	req.Params.Set("old", strconv.FormatInt(before, 10))
	req.Params.Set("new", strconv.FormatInt(after, 10))
	err := send(ctx, w.client, req, &reply)
	return reply.Data.Hashes, err
}

func rewritten(path, format string, args ...any) error {
	return &failure{
		code: exitServer, action: "checking the transcript", err: fmt.Errorf("%w: "+format, append([]any{errRewritten}, args...)...),
		hint: "sign nothing and give no share: ask the operators what happened; if it is right, for example after a backup was restored, remove " + path + " and run this again",
	}
}

// save keeps s, unless another command has kept as much in the meantime. What can't be read is not replaced.
func (w *witness) save(path string, s sighting) bool {
	b, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		var kept *sighting
		if kept, err = readSighting(path); kept != nil && !kept.smaller(s) {
			return false
		}
	}
	if err == nil {
		err = wholefile.Replace(path, string(b)+"\n", 0o600)
	}
	if err != nil {
		w.warn("the transcript's checkpoint can't be kept: %v", err)
	}
	return err == nil
}

// smaller reports whether s is of the same log as next, and has fewer entries.
func (s *sighting) smaller(next sighting) bool {
	before, err1 := transcript.OpenCheckpoint([]byte(s.Checkpoint), s.VerifierKey)
	after, err2 := transcript.OpenCheckpoint([]byte(next.Checkpoint), s.VerifierKey)
	return err1 == nil && err2 == nil && before.Size < after.Size
}

func (w *witness) warn(format string, args ...any) {
	if !w.warned {
		w.say("warning: %s", printable(fmt.Sprintf(format, args...)))
		w.warned = true
	}
}

// readSighting is nil without an error where nothing is kept, and errRewritten where it is no sighting.
func readSighting(path string) (*sighting, error) {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	s := &sighting{}
	if json.Unmarshal(b, s) != nil || s.VerifierKey == "" {
		return nil, errRewritten
	}
	return s, nil
}

// remembered is what is kept of a cluster, nil where nothing is or it can't be read, which is told.
func (a *app) remembered(clusterID string) *sighting {
	if !isUUID(clusterID) {
		return nil
	}
	path, err := witnessPath(clusterID)
	if err != nil {
		return nil
	}
	s, err := readSighting(path)
	if err != nil {
		a.say("warning: what is remembered of cluster %s can't be used: %s", clusterID, printable(err.Error()))
		return nil
	}
	return s
}

// rememberedClusters are those of which anything is kept.
func rememberedClusters() (list []string) {
	dir, err := witnessPath("")
	if err != nil {
		return nil
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if isUUID(e.Name()) {
			list = append(list, e.Name())
		}
	}
	return list
}

// witnessPath is where a cluster is remembered.
func witnessPath(clusterID string) (string, error) {
	home := os.Getenv("QUORATE_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("there is no home directory (or set QUORATE_HOME): %w", err)
		}
		home = filepath.Join(user, ".quorate")
	}
	return filepath.Join(home, "clusters", clusterID), nil
}

// isUUID reports whether s is one in the form that cluster IDs and nonces have, and so is harmless in a path.
func isUUID(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil && s == strings.ToLower(s)
}
