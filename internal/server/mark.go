package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/transcript"
	"github.com/quorate/quorate/internal/wholefile"
)

// markFile stands beside the data, so that a data file that was put back without it is noticed; where the data are on other
// machines, in the folder that is named for it.
const markFile = "transcript-mark.json"

// fileMark keeps the transcript's high-water mark in a file.
type fileMark string

// storedMark is the content of the file.
type storedMark struct {
	Size       int64  `json:"size"`
	Root       string `json:"root"` // base64
	Generation uint64 `json:"generation"`
}

// markKeeper is nil where nothing is kept on this machine.
func (s *server) markKeeper() node.MarkKeeper {
	dir := localDir(s.cfg.Storage)
	if dir == "" {
		return nil
	}
	return fileMark(filepath.Join(dir, markFile))
}

// Load implements node.MarkKeeper.
func (f fileMark) Load() (m transcript.Mark, found bool, err error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	var stored storedMark
	err = json.Unmarshal(text, &stored)
	root, errRoot := base64.StdEncoding.DecodeString(stored.Root)
	if err != nil || errRoot != nil || len(root) != len(m.Root) || stored.Size < 0 {
		return m, false, fmt.Errorf("%s is damaged: it said how much of the transcript this machine has seen; a new one takes its place", string(f))
	}
	copy(m.Root[:], root)
	m.Size, m.Generation = stored.Size, stored.Generation
	return m, true, nil
}

// Save implements node.MarkKeeper.
func (f fileMark) Save(m transcript.Mark) error {
	text, err := json.Marshal(storedMark{Size: m.Size, Root: base64.StdEncoding.EncodeToString(m.Root[:]), Generation: m.Generation})
	if err != nil {
		return err
	}
	return wholefile.Replace(string(f), string(text)+"\n", 0o600)
}
