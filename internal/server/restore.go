package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/snapshot"
)

// Restore puts a snapshot in the place of what is in the store of a configuration, whose servers must not run. With force
// it replaces another cluster or a later state, too. It tells w how far it is.
func Restore(ctx context.Context, cfg *config.Config, in io.ReadSeeker, force bool, w io.Writer) (s *snapshot.Summary, err error) {
	if cfg.Storage.Type == config.StorageInmem {
		return nil, errors.New("storage \"inmem\" keeps nothing, so there is nowhere to restore to: name another one in the configuration")
	}
	st, err := openStorage(ctx, cfg.Storage, newLogger(w, cfg.LogFormat, slog.LevelWarn))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return snapshot.Restore(ctx, st, in, snapshot.Options{Force: force, Progress: tellProgress(w)})
}

// Migrate brings everything from one store into another one. No server of either may run. It tells w how far it is, and
// returns the number of records in the end.
func Migrate(ctx context.Context, m *config.Migration, w io.Writer) (records int64, err error) {
	log := newLogger(w, config.FormatStandard, slog.LevelWarn)
	if m.From.Type == config.StorageBolt {
		// To open it would create it.
		if _, err := os.Stat(filepath.Join(m.From.Path, dataFile)); errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("there is no %s in %s: nothing can be migrated from there", dataFile, m.From.Path)
		}
	}
	from, err := openStorage(ctx, m.From, log)
	if err != nil {
		return 0, fmt.Errorf("opening the store to migrate from: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := openStorage(ctx, m.To, log)
	if err != nil {
		return 0, fmt.Errorf("opening the store to migrate to: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return snapshot.Migrate(ctx, from, to, snapshot.Options{Progress: tellProgress(w)})
}

// tellPause is how often it is told how far something is.
const tellPause = 2 * time.Second

func tellProgress(w io.Writer) func(records, bytes int64) {
	told := time.Now()
	return func(records, bytes int64) {
		if time.Since(told) >= tellPause {
			told = time.Now()
			fmt.Fprintf(w, "%d records, %d MiB\n", records, bytes>>20)
		}
	}
}
