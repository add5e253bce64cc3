package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSink takes what take says; each call stands for one write and its fsync.
type fakeSink struct {
	mu     sync.Mutex
	take   func(lines [][]byte) (int, error)
	calls  int
	closed int
}

func (f *fakeSink) write(lines [][]byte) (int, error) {
	if len(lines) == 0 {
		return 0, nil
	}
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
	return f.take(lines)
}

func (f *fakeSink) close() error {
	f.closed++
	return nil
}

// fakeDevice starts a device on f, which opens stdout again when f fails.
func (r *rig) fakeDevice(f *fakeSink) *device {
	d := r.start(stdout("fake/"), settings{kind: kindStdout, stdout: r.out, now: time.Now}, f)
	r.live.Store(&[]*device{d})
	return d
}

// TestOneSyncForAll: what is queued while the device is busy is written with one call.
func TestOneSyncForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		busy := make(chan struct{})
		var batches []int
		f := &fakeSink{take: func(lines [][]byte) (int, error) {
			batches = append(batches, len(lines))
			<-busy
			return len(lines), nil
		}}
		r.fakeDevice(f)
		var all sync.WaitGroup
		write := func() {
			if err := r.Write(t.Context(), ask("x")); err != nil {
				t.Error(err)
			}
		}
		all.Go(write)
		synctest.Wait()
		for range 50 {
			all.Go(write)
		}
		synctest.Wait()
		close(busy)
		all.Wait()
		if len(batches) != 2 || batches[0] != 1 || batches[1] != 50 {
			t.Errorf("written in batches of %v", batches)
		}
	})
}

// TestHangingDevice: it costs one wait, then nothing until it moves again, and what was given up is not written late.
func TestHangingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		move := make(chan struct{})
		var written []string
		d := r.fakeDevice(&fakeSink{take: func(lines [][]byte) (int, error) {
			<-move
			for _, l := range lines {
				written = append(written, paths(t, string(l))...)
			}
			return len(lines), nil
		}})
		var all sync.WaitGroup
		write := func(path string, want error, wait time.Duration) {
			begun := time.Now()
			if err := r.Write(t.Context(), ask(path)); err != want || time.Since(begun) != wait {
				t.Errorf("%s: %v after %v, want %v after %v", path, err, time.Since(begun), want, wait)
			}
		}
		all.Go(func() { write("hangs", ErrUnwritten, patience) })
		synctest.Wait()
		all.Go(func() { write("queued", ErrUnwritten, patience) })
		all.Wait()
		write("refused", ErrUnwritten, 0)
		close(move)
		synctest.Wait()
		write("again", nil, 0)
		if got := strings.Join(written, " "); got != "hangs again" {
			t.Errorf("written: %s", got)
		}
		d.stop()
	})
}

// TestOneDeviceIsEnough: a hanging and a failing device don't keep an entry from the one that works.
func TestOneDeviceIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		move := make(chan struct{})
		hangs := r.fakeDevice(&fakeSink{take: func(lines [][]byte) (int, error) {
			<-move
			return len(lines), nil
		}})
		r.SetStored([]Device{fileDevice("broken/", "none/a.log"), stdout("works/")})
		all := append([]*device{hangs}, *r.live.Load()...)
		r.live.Store(&all)
		mustWrite(t, r.Broker, ask("one"))
		begun := time.Now()
		mustWrite(t, r.Broker, ask("two"))
		if took := time.Since(begun); took != 0 {
			t.Errorf("the second entry took %v", took)
		}
		if got := paths(t, r.out.String()); len(got) != 2 {
			t.Errorf("written: %v", got)
		}
		close(move)
		hangs.stop()
	})
}

// TestFailedWriteIsTriedOnceMore, with what was not taken, on a device that is opened anew.
func TestFailedWriteIsTriedOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		busy := make(chan struct{})
		first := true
		f := &fakeSink{}
		f.take = func(lines [][]byte) (int, error) {
			if first {
				first = false
				<-busy
				return 1, nil
			}
			return 2, errors.New("broken")
		}
		r.fakeDevice(f)
		var all sync.WaitGroup
		for i := range 5 {
			all.Go(func() { mustWrite(t, r.Broker, ask(fmt.Sprint(i))) })
			synctest.Wait()
		}
		close(busy)
		all.Wait()
		if got := strings.Join(paths(t, r.out.String()), " "); got != "3 4" || f.calls != 2 || f.closed != 1 {
			t.Errorf("%d calls, then the new one took %q; closed %d times", f.calls, got, f.closed)
		}
	})
}

// TestFailureIsMentionedNowAndThen: not once for every request, and its end is mentioned as well.
func TestFailureIsMentionedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.o.Now = time.Now
		r.SetStored([]Device{stdout("s/")})
		r.out.fail(errors.New("the pipe is broken"))
		for range 100 {
			if err := r.Write(t.Context(), ask("x")); err != ErrUnwritten {
				t.Fatalf("written to a broken pipe: %v", err)
			}
		}
		if got := strings.Count(r.log.String(), "level=ERROR"); got != 1 || !strings.Contains(r.log.String(), "the pipe is broken") {
			t.Errorf("%d mentions in %s", got, r.log)
		}
		time.Sleep(logEvery)
		if err := r.Write(t.Context(), ask("x")); err != ErrUnwritten {
			t.Fatalf("written to a broken pipe: %v", err)
		}
		if !strings.Contains(r.log.String(), "entries=100") {
			t.Errorf("how many failed meanwhile is not in %s", r.log)
		}
		r.out.fail(nil)
		mustWrite(t, r.Broker, ask("y"))
		mustWrite(t, r.Broker, ask("z"))
		if got := strings.Count(r.log.String(), "takes entries again"); got != 1 {
			t.Errorf("%d mentions of the end in %s", got, r.log)
		}
	})
}

// TestDeviceThatCantBeOpenedIsTriedAgain by itself, and no entry waits for it meanwhile.
func TestDeviceThatCantBeOpenedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.SetStored([]Device{fileDevice("f/", "sub/a.log")})
		begun := time.Now()
		if err := r.Write(t.Context(), ask("lost")); err != ErrUnwritten || time.Since(begun) != 0 {
			t.Errorf("written to no folder: %v after %v", err, time.Since(begun))
		}
		time.Sleep(time.Hour)
		if err := os.Mkdir(filepath.Join(r.dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(worstPause)
		mustWrite(t, r.Broker, ask("one"))
		if got := paths(t, r.read(t, "sub/a.log")); len(got) != 1 {
			t.Errorf("lines of %v", got)
		}
	})
}

// TestCloseWritesWhatWaits and fails what comes later: nothing may be done unwritten while the server goes down.
func TestCloseWritesWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		busy := make(chan struct{})
		taken := 0
		f := &fakeSink{take: func(lines [][]byte) (int, error) {
			<-busy
			taken += len(lines)
			return len(lines), nil
		}}
		r.fakeDevice(f)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { mustWrite(t, r.Broker, ask("x")) })
			synctest.Wait()
		}
		all.Go(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(busy)
		all.Wait()
		if taken != 3 || f.closed != 1 {
			t.Errorf("%d lines were taken, closed %d times", taken, f.closed)
		}
		if err := r.Write(t.Context(), ask("late")); err != ErrUnwritten || !r.Enabled() {
			t.Errorf("written after the end: %v", err)
		}
	})
}

func TestCloseLeavesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		move := make(chan struct{})
		r.fakeDevice(&fakeSink{take: func(lines [][]byte) (int, error) {
			<-move
			return len(lines), nil
		}})
		go r.Write(t.Context(), ask("x"))
		synctest.Wait()
		if err := r.Close(); err == nil || !strings.Contains(err.Error(), "fake/") {
			t.Errorf("closing a device that hangs: %v", err)
		}
		close(move)
	})
}
