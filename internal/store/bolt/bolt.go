// Package bolt is the embedded store: one bbolt file, owned by one process.
//
// It promises that what Update acknowledged was synced to disk, that any number of Updates waiting together share one
// sync, that a lone Update waits for nobody, and that a View waits for no writer. Functions run on their callers'
// goroutines, one Update at a time. After a failed write it fails closed: see failure.go.
//
// It does not promise to keep a View from seeing a commit in the moment between its last write and the end of its sync;
// a power cut in that moment can take it back before anyone was told that it succeeded. An Update started, and waited
// for, inside a View or another Update of the same store may wait for ever. Records keep their size on disk after they
// are deleted, and their bytes until the space is used again.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/quorate/quorate/internal/store"
)

// bucketName names the one bucket that holds the records; it stands for the format of the file.
const bucketName = "quorate/v1/records"

// Options of a store. The zero value is fine.
type Options struct {
	// Logger is told the cause when a commit fails, which callers only see as a sentence. Nil: nobody is told.
	Logger *slog.Logger
}

// Store implements store.Store.
type Store struct {
	db     *bbolt.DB
	log    *slog.Logger
	gate   store.Gate
	queue  *queue
	broken atomic.Bool // set when the file can't be trusted any more
	stuck  atomic.Bool // set when bbolt's locks are lost, too

	stopped chan struct{}         // closed when the writer goroutine has ended
	commit  func(*bbolt.Tx) error // (*bbolt.Tx).Commit, except in tests of its failure
	pending []*request            // owned by the writer: taken from the queue, not yet called
}

// opener opens the data file; tests put their own in its place.
type opener func(path string, flag int, mode os.FileMode) (*os.File, error)

// Open opens the data file, and creates it if there is none. Its directory must exist: see CheckDir. An error is
// written for the operator who starts the server.
func Open(path string, opts Options) (*Store, error) { return open(path, opts, openFile) }

func open(path string, opts Options, openFile opener) (*Store, error) {
	db, err := openDB(path, openFile)
	if err != nil {
		return nil, err
	}
	s := &Store{
		db:      db,
		log:     opts.Logger,
		queue:   newQueue(),
		stopped: make(chan struct{}),
		commit:  (*bbolt.Tx).Commit,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	go s.write()
	return s, nil
}

// openDB opens and prepares the file. bbolt panics on some kinds of damage: that becomes an error, and the file stays
// open until the process ends.
func openDB(path string, openFile opener) (db *bbolt.DB, err error) {
	defer panicOnFault()()
	defer func() {
		if reason := recover(); reason != nil {
			db, err = nil, damaged(path, fmt.Errorf("%v", reason))
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		// Shorter than bbolt's pause between two tries at the lock: a second server is refused at once.
		Timeout:      time.Millisecond,
		FreelistType: bbolt.FreelistMapType,
		// The list of free pages is written with each commit. Without it a commit saves one page of 4 KiB, but opening,
		// and undoing a commit that failed, would read the whole file.
		NoFreelistSync:  false,
		InitialMmapSize: mapSize(),
		NoStatistics:    true, // a lock that every View would take twice
		OpenFile:        openFile,
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("another quorate server is using %s: stop it, or choose another data directory", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, damaged(path, err)
	case err != nil:
		return nil, fmt.Errorf("open the data file: %w", err)
	}
	if err := prepare(db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// mapSize is how much address space the file may grow into before bbolt has to map it anew, for which it waits until
// no View is running and holds up new ones. Address space costs nothing, except on 32 bits; Windows would make the file
// that large.
func mapSize() int {
	if runtime.GOOS == "windows" || math.MaxInt == math.MaxInt32 {
		return 0
	}
	return 1 << 30
}

// openFile opens a regular file and takes every right away from others, whatever the umask and an earlier owner left.
func openFile(path string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	case info.Mode().Perm() != mode:
		err = f.Chmod(mode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// prepare creates the bucket in a new file, refuses a bbolt file that another program made, and commits once in any
// case. A process that was killed, or gave up, during its last sync may have left a state that is only in the kernel's
// cache: after this commit it is on the disk, before anybody builds on it.
func prepare(db *bbolt.DB, path string) error {
	created := false
	err := db.Update(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err == nil && info.Size() < tx.Size() {
			err = damaged(path, fmt.Errorf("%d bytes, should be %d or more", info.Size(), tx.Size()))
		}
		if err != nil {
			return err
		}
		if tx.Bucket([]byte(bucketName)) != nil {
			return nil
		}
		if other, _ := tx.Cursor().First(); other != nil {
			return fmt.Errorf("%s belongs to another program, or to another version: choose another data directory", path)
		}
		created = true
		_, err = tx.CreateBucket([]byte(bucketName))
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare the data file: %w", err)
	}
	if created {
		return syncDir(filepath.Dir(path)) // or a power cut could take the name away again
	}
	return nil
}

// panicOnFault makes a read of the memory map that fails, because the disk does or the file has become shorter, a panic
// of this goroutine instead of the end of the process, until the function that it returns is called.
func panicOnFault() (restore func()) {
	old := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(old) }
}

func damaged(path string, cause error) error {
	return fmt.Errorf("%s is not a data file of quorate, or it is damaged: restore it from a backup (%w)", path, cause)
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.gate.Enter(); err != nil {
		return err
	}
	defer s.gate.Leave()
	defer panicOnFault()()
	tx, err := s.begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	return fn(reader{tx.Bucket([]byte(bucketName))})
}

// begin starts a transaction of bbolt. A panic there leaves bbolt's locks held for ever.
func (s *Store) begin(writable bool) (tx *bbolt.Tx, err error) {
	if s.broken.Load() {
		return nil, errBroken
	}
	defer func() {
		if reason := recover(); reason != nil {
			s.stuck.Store(true)
			err = s.giveUp(fmt.Errorf("%v", reason), false)
		}
	}()
	if tx, err = s.db.Begin(writable); err != nil {
		err = s.giveUp(err, false)
	}
	return tx, err
}

// Close implements store.Store.
func (s *Store) Close() error {
	if !s.gate.Close() {
		<-s.stopped
		return nil
	}
	s.queue.close() // nobody is inside, so nothing is in it
	<-s.stopped
	if s.stuck.Load() {
		return nil // bbolt's own Close would wait for ever; the file is released when the process ends
	}
	return s.db.Close()
}
