package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// unsoundError says why a place is no good for a file, without naming it.
type unsoundError struct{ sentence string }

func (e *unsoundError) Error() string { return e.sentence }

// file is an audit file, open for appending.
type file struct {
	f    *os.File
	sync bool
}

// openFile opens or makes a file. A last line that is torn, by a full disk or a power cut, is ended first.
func openFile(s *settings) (sink, error) {
	root, err := os.OpenRoot(s.folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	before, err := checkFile(root, s.name)
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(s.name, os.O_RDWR|os.O_APPEND|os.O_CREATE, s.mode)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(root, f, before); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f: f, sync: s.sync}, nil
}

// checkFile looks at a file and its folder before it is opened. It returns nil if there is no such file yet.
func checkFile(root *os.Root, name string) (fs.FileInfo, error) {
	folder, err := root.Stat(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && folder.Mode()&0o022 != 0 && folder.Mode()&fs.ModeSticky == 0 {
		return nil, &unsoundError{"others may write to the folder of the audit file: take that from them, or choose another folder"}
	}
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &unsoundError{"what is at the place of the audit file is a link, a folder or another thing that is no file: choose another file_path"}
	}
	return info, nil
}

// prepare makes sure that what was opened is what was looked at, private, and at the beginning of a line.
func (s *settings) prepare(root *os.Root, f *os.File, before fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := root.Lstat(s.name)
	if err != nil {
		return err
	}
	if !now.Mode().IsRegular() || !os.SameFile(now, there) || before != nil && !os.SameFile(now, before) {
		return errors.New("the file was exchanged while it was opened")
	}
	if runtime.GOOS != "windows" && now.Mode().Perm() != s.mode {
		if err := f.Chmod(s.mode); err != nil {
			return err
		}
	}
	if err := endLine(f, now.Size()); err != nil {
		return err
	}
	if s.sync && before == nil {
		return syncFolder(root, filepath.Dir(s.name))
	}
	return nil
}

func endLine(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return fmt.Errorf("look at the end of the file: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	_, err := f.Write([]byte{'\n'})
	return err
}

// syncFolder makes the name of a new file durable. Windows has no such thing.
func syncFolder(root *os.Root, name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write gives each line to the kernel by itself, so that lines of several processes don't mix, and syncs once for all.
func (f *file) write(lines [][]byte) (int, error) {
	n, err := writeEach(f.f, lines)
	if f.sync && n > 0 {
		if err := f.f.Sync(); err != nil {
			return 0, err
		}
	}
	return n, err
}

func (f *file) close() error { return f.f.Close() }

// stream is an output of this process, which stays open.
type stream struct{ w io.Writer }

func (s stream) write(lines [][]byte) (int, error) { return writeEach(s.w, lines) }
func (s stream) close() error                      { return nil }

func writeEach(w io.Writer, lines [][]byte) (int, error) {
	for i, line := range lines {
		if _, err := w.Write(line); err != nil {
			return i, err
		}
	}
	return len(lines), nil
}
