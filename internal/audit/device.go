package audit

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/secret"
)

// How long a device that can't be opened is left alone, from the first time to the worst.
const (
	firstPause = 100 * time.Millisecond
	worstPause = 10 * time.Second
)

// logEvery is how often a device that keeps failing is mentioned in the log.
const logEvery = time.Minute

var (
	errDown    = errors.New("the device is down")
	errTooLong = errors.New("the entry is too long for this device")
	errSlow    = errors.New("the device took too long")
	errEnded   = errors.New("the device was closed")
)

// sink is an open device. Only the goroutine of its device uses it.
type sink interface {
	// write takes lines in their order, as durably as was asked for, and returns how many it took.
	write(lines [][]byte) (int, error)
	close() error
}

// device is a Device with the goroutine that opens and writes it. Whoever has a line to write queues it and waits; the
// goroutine takes all that are queued at once, so that they share one fsync.
type device struct {
	Device
	settings settings
	salt     secret.Bytes // guarded by Broker.mu; empty while sealed

	log  *slog.Logger
	wake chan struct{} // there is something in the queue
	quit chan struct{} // closed by stop
	once sync.Once
	// ended is closed by the goroutine after its last write.
	ended chan struct{}

	mu    sync.Mutex
	queue []*job
	// down is why lines fail at once: the device can't be opened, or hangs. The goroutine takes it back.
	down    error
	failed  int       // lines since a failure was last mentioned in the log
	logged  time.Time // when that was
	failing bool      // and no success since
}

// job is a line to write or, without one, the wish that the device is opened anew.
type job struct {
	line      []byte
	abandoned bool       // guarded by device.mu: nobody waits any more
	done      chan error // has room for the one answer
}

// start begins a device's goroutine. With out it is open already.
func (b *Broker) start(d Device, s settings, out sink) *device {
	dev := &device{
		Device: d, settings: s, log: b.o.Logger.With("device", d.Path, "type", d.Type),
		wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	go dev.run(out)
	return dev
}

// stop ends the goroutine once it has written what is queued. It does not wait.
func (d *device) stop() { d.once.Do(func() { close(d.quit) }) }

// submit queues a line. It returns nil if the device can't take it.
func (d *device) submit(line []byte) *job {
	j := &job{line: line, done: make(chan error, 1)}
	d.mu.Lock()
	err := d.down
	if len(line) > d.settings.maxLine() {
		err = errTooLong
	}
	if err == nil {
		d.enqueue(j)
	}
	d.mu.Unlock()
	if err != nil {
		d.note(1, err)
		return nil
	}
	return j
}

// reopen queues the wish to be opened anew. A device that is down tries at once.
func (d *device) reopen() *job {
	j := &job{done: make(chan error, 1)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enqueue(j)
	return j
}

// enqueue is called under the lock.
func (d *device) enqueue(j *job) {
	d.queue = append(d.queue, j)
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// wait returns what became of a job, and whether the device is through with it.
func (d *device) wait(ctx context.Context, j *job) (err error, over bool) {
	if j == nil {
		return errDown, true
	}
	select {
	case err = <-j.done:
		return err, true
	case <-d.ended:
		err = errEnded
	case <-ctx.Done():
		err = errSlow
	}
	if e, late := d.abandon(j, err); late {
		return e, true
	}
	d.note(1, err)
	return err, false
}

// abandon gives a job up, unless it has just been answered. The device is down until the goroutine is through with what
// it is doing.
func (d *device) abandon(j *job, why error) (answer error, late bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case answer = <-j.done:
		return answer, true
	default:
		j.abandoned = true
		d.down = why
		return nil, false
	}
}

// run owns the sink: nil while there is none.
func (d *device) run(out sink) {
	defer close(d.ended)
	for stopped := false; ; {
		if out == nil {
			if out = d.openUntil(); out == nil {
				return
			}
		}
		if out = d.serve(out); out == nil {
			continue
		}
		if stopped {
			d.close(out)
			return
		}
		select {
		case <-d.wake:
		case <-d.quit:
			stopped = true // once all that is queued is served
		}
	}
}

// openUntil opens the device, however often it takes; meanwhile it is down. It returns nil when the device is stopped.
func (d *device) openUntil() sink {
	for pause := firstPause; ; pause = min(2*pause, worstPause) {
		out, err := d.settings.open()
		if err == nil {
			d.setDown(nil)
			return out
		}
		d.setDown(err)
		d.finish(d.take(), 0, err)
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-d.wake:
		case <-d.quit:
			again.Stop()
			return nil
		}
		again.Stop()
	}
}

func (d *device) setDown(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = err
}

// take empties the queue, without what nobody waits for.
func (d *device) take() []*job {
	d.mu.Lock()
	defer d.mu.Unlock()
	jobs := slices.DeleteFunc(d.queue, func(j *job) bool { return j.abandoned })
	d.queue = nil
	return jobs
}

// serve does all that is queued and returns the sink to go on with, nil when there is none.
func (d *device) serve(out sink) sink {
	jobs := d.take()
	if slices.ContainsFunc(jobs, func(j *job) bool { return j.line == nil }) {
		out, jobs = d.anew(out, jobs)
	}
	lines := make([][]byte, len(jobs))
	for i, j := range jobs {
		lines[i] = j.line
	}
	n, err := out.write(lines)
	if err != nil { // once more, with a new file or connection
		d.close(out)
		if out, err = d.settings.open(); err != nil {
			d.setDown(err)
		} else if n, err = writeRest(out, lines, n); err != nil {
			d.close(out)
			out = nil
		}
	}
	d.finish(jobs, n, err)
	return out
}

func writeRest(out sink, lines [][]byte, n int) (int, error) {
	more, err := out.write(lines[n:])
	return n + more, err
}

// anew opens the device again, keeps what it has if it can't, and returns the jobs that are left.
func (d *device) anew(out sink, jobs []*job) (sink, []*job) {
	fresh, err := d.settings.open()
	if err == nil {
		d.close(out)
		out = fresh
	}
	return out, slices.DeleteFunc(jobs, func(j *job) bool {
		if j.line == nil {
			j.done <- err
		}
		return j.line == nil
	})
}

func (d *device) close(out sink) {
	if err := out.close(); err != nil {
		d.log.Warn("closing an audit device", "error", err)
	}
}

// finish answers jobs: the first of them were taken, the others failed.
func (d *device) finish(jobs []*job, taken int, err error) {
	if taken < len(jobs) {
		d.note(len(jobs)-taken, err)
	} else if taken > 0 {
		d.recovered()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.down = nil
	}
	for i, j := range jobs {
		if i < taken {
			j.done <- nil
		} else {
			j.done <- err
		}
	}
}

// note mentions in the log that lines failed, now and then.
func (d *device) note(lines int, err error) {
	d.mu.Lock()
	d.failed += lines
	failed, now := d.failed, d.settings.now()
	due := d.logged.IsZero() || now.Sub(d.logged) >= logEvery
	if due {
		d.failed, d.logged, d.failing = 0, now, true
	}
	d.mu.Unlock()
	if due {
		d.log.Error("an audit device does not take entries", "entries", failed, "error", err)
	}
}

// recovered mentions that a failure is over, if it was mentioned.
func (d *device) recovered() {
	d.mu.Lock()
	was := d.failing
	d.failing = false
	d.mu.Unlock()
	if was {
		d.log.Info("the audit device takes entries again")
	}
}
