// Package audit writes one line of JSON for every request and every response to the audit devices.
//
// It promises that Write succeeds only if at least one device took the whole line (the kernel has it; with sync, the
// disk), that nothing is in a line which is not a field of Entry, that values of bodies, tokens and accessors are only
// there as HMACs under a salt of the device's own, and that a device which hangs delays nobody for long. It does not
// promise that every device has every line: one that fails is logged, left out and tried again.
package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
)

// ErrUnwritten says that there are audit devices and none of them took an entry: nothing may be done.
var ErrUnwritten = errors.New("no audit device took the entry")

// patience is how long an entry waits for a device. One that takes longer counts as failed until it moves again.
const patience = 5 * time.Second

// maxKept is how long a line may be for its memory to be used again.
const maxKept = 64 << 10

// Device is one place that entries go to, as it is stored and shown.
type Device struct {
	Path        string            `json:"path"` // with a slash at the end: "file/"
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Options     map[string]string `json:"options"`
	Local       bool              `json:"local"`
}

func (d Device) equal(e Device) bool {
	return d.Path == e.Path && d.Type == e.Type && d.Description == e.Description && d.Local == e.Local &&
		maps.Equal(d.Options, e.Options)
}

// Options are what a Broker needs from the process around it.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time
	Stdout io.Writer
	// Dir is the folder below which files may be written by devices that were made over the API; "" refuses them.
	Dir string
}

// Broker hands entries to all devices. It is safe for concurrent use.
type Broker struct {
	o     Options
	lines sync.Pool // of *[]byte

	// live is all devices, sorted by path. A list is never changed, only replaced.
	live atomic.Pointer[[]*device]

	mu         sync.RWMutex // guards what follows, and the salts of all devices; nothing slow is done under it
	configured []*device
	stored     []*device
	leaving    []*device // stopped, and perhaps not ended yet
	known      []Device  // what SetStored was last told
	key        secret.Bytes
	closed     bool
}

// New returns a Broker without devices, as sealed.
func New(o Options) *Broker {
	b := &Broker{o: o, lines: sync.Pool{New: func() any { return new([]byte) }}}
	b.live.Store(new([]*device))
	return b
}

// Check says what is wrong with a device, as a fault. Those of the configuration may write to any file and to sockets;
// those made over the API only below Options.Dir, and at a path where there is no device yet. No
// two devices may share a file: the second would give it another mode, and lines of another prefix.
func (b *Broker) Check(d Device, fromConfig bool) error {
	if !fromConfig && b.find(d.Path) != nil {
		return fault.New(fault.Invalid, "there is an audit device at this path already: disable it first, or choose another path")
	}
	s, err := b.read(d, fromConfig)
	if err == nil {
		err = s.checkPlace()
	}
	if err != nil {
		return err
	}
	for _, other := range *b.live.Load() {
		if s.shares(&other.settings) {
			return fault.New(fault.Invalid, "another audit device writes to this file already: give this one another, best on another disk")
		}
	}
	return nil
}

// SetConfigured opens the devices of the configuration, once at start.
func (b *Broker) SetConfigured(list []Device) error {
	var opened []*device
	b.mu.Lock() // although opening may be slow: nothing else is going on yet
	defer b.mu.Unlock()
	for _, d := range list {
		dev, err := b.open(d)
		if err == nil && at(opened, d.Path) != nil {
			b.leave(dev)
			err = errors.New("there is another one with this path: give each its own")
		}
		if err != nil {
			for _, o := range opened {
				b.leave(o)
			}
			return fmt.Errorf("audit device %s: %w", d.Path, err)
		}
		opened = append(opened, dev)
	}
	b.configured = opened
	b.publish()
	return nil
}

// open is for a device whose failure matters now.
func (b *Broker) open(d Device) (*device, error) {
	s, err := b.read(d, true)
	if err != nil {
		return nil, err
	}
	out, err := s.open()
	if err != nil {
		return nil, err
	}
	return b.start(d, s, out), nil
}

// SetStored makes the devices that were enabled over the API those of list. It does not wait for them to open: one that
// can't be opened, or is no longer allowed, counts as one that can't write. The list must not be changed afterwards.
func (b *Broker) SetStored(list []Device) {
	b.mu.RLock()
	same := b.closed || slices.EqualFunc(b.known, list, Device.equal)
	b.mu.RUnlock()
	if same {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	var keep []*device
	for _, d := range list {
		if at(b.configured, d.Path) != nil {
			b.o.Logger.Warn("an audit device of the configuration has taken the path of a stored one", "device", d.Path)
			continue
		}
		dev := at(b.stored, d.Path)
		if dev == nil || !dev.equal(d) {
			s, err := b.read(d, false)
			s.invalid = err
			dev = b.start(d, s, nil)
		}
		keep = append(keep, dev)
	}
	for _, dev := range b.stored {
		if !slices.Contains(keep, dev) {
			b.leave(dev)
		}
	}
	b.stored = keep
	b.known = slices.Clone(list)
	b.publish()
}

// leave stops a device, for Close to wait for. It is called under the lock.
func (b *Broker) leave(dev *device) {
	dev.stop()
	dev.setSalt(secret.Bytes{})
	b.leaving = append(slices.DeleteFunc(b.leaving, func(d *device) bool { return isClosed(d.ended) }), dev)
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// publish makes the lists and the key what Write works with. It is called under the lock.
func (b *Broker) publish() {
	all := slices.Concat(b.configured, b.stored)
	slices.SortFunc(all, func(d, e *device) int { return strings.Compare(d.Path, e.Path) })
	for _, d := range all {
		d.setSalt(b.saltOf(d.Path))
	}
	b.live.Store(&all)
}

// setSalt replaces the key of a device's HMACs. It is called under the lock.
func (d *device) setSalt(salt secret.Bytes) {
	d.salt.Wipe()
	d.salt = salt
}

// saltOf returns the key of a device's HMACs, none while sealed. It is called under the lock.
func (b *Broker) saltOf(path string) secret.Bytes {
	if b.key.Empty() {
		return secret.Bytes{}
	}
	h := hmac.New(sha256.New, b.key.Reveal())
	h.Write([]byte(path))
	return secret.Own(h.Sum(nil))
}

// SetKey sets the key from which the salts are derived; the zero value takes it out of force, and values are then left
// out of entries altogether. The key stays the caller's, and must not be wiped before another call has replaced it.
func (b *Broker) SetKey(key secret.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.key = key
	b.publish()
}

// Enabled reports whether there is any device.
func (b *Broker) Enabled() bool { return len(*b.live.Load()) > 0 }

// Test opens a device and writes an entry to it, before it is enabled. What was wrong is in the log.
func (b *Broker) Test(ctx context.Context, d Device) error {
	s, err := b.read(d, false)
	if err != nil {
		return err
	}
	b.mu.Lock()
	dev := b.start(d, s, nil)
	dev.setSalt(b.saltOf(d.Path))
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.leave(dev)
	}()
	e := &Entry{Type: "request", Time: b.o.Now(), Request: Request{ID: uuid.NewString(), Operation: "update", Path: "sys/audit/test"}}
	if b.write(ctx, e, []*device{dev}) != nil {
		return fault.New(fault.Invalid, "the audit device can't be opened or written: see the server's log, and try again")
	}
	return nil
}

// Write hands e to every device and returns nil if at least one took it. A context that is done changes nothing: the
// client may be gone, and what happened has happened. An entry that a device took late may be there twice.
func (b *Broker) Write(ctx context.Context, e *Entry) error {
	for {
		list := b.live.Load()
		err := b.write(ctx, e, *list)
		if err == nil || b.live.Load() == list { // else it may have failed because its devices were replaced
			return err
		}
	}
}

func (b *Broker) write(ctx context.Context, e *Entry, devices []*device) error {
	if len(devices) == 0 {
		return nil
	}
	lines := make([]*[]byte, len(devices))
	b.mu.RLock()
	for i, d := range devices {
		lines[i] = b.lines.Get().(*[]byte)
		*lines[i] = appendLine((*lines[i])[:0], e, &d.settings, d.salt)
	}
	b.mu.RUnlock()

	jobs := make([]*job, len(devices))
	for i, d := range devices {
		jobs[i] = d.submit(*lines[i])
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	taken := false
	for i, d := range devices {
		err, over := d.wait(wait, jobs[i])
		taken = taken || err == nil
		if over && cap(*lines[i]) <= maxKept { // else the device may still be reading it
			b.lines.Put(lines[i])
		}
	}
	if !taken {
		return ErrUnwritten
	}
	return nil
}

// Hash returns what stands for input in the entries of the device at path.
func (b *Broker) Hash(path string, input []byte) (string, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	d := b.find(strings.TrimSuffix(path, "/") + "/")
	if d == nil {
		return "", fault.New(fault.NotFound, "there is no audit device at this path: list them under sys/audit")
	}
	if d.salt.Empty() {
		return "", fault.New(fault.Sealed, "Vault is sealed")
	}
	return string(newHasher(d.salt).append(nil, input)), nil
}

// Devices returns all devices, sorted by path.
func (b *Broker) Devices() []Device {
	var list []Device
	for _, d := range *b.live.Load() {
		list = append(list, d.Device)
	}
	return list
}

// Reopen opens all files anew, after they were moved aside. It returns when that is done or has taken too long. A file
// that can't be opened anew is written on as it was.
func (b *Broker) Reopen() {
	wait, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	devices := *b.live.Load()
	jobs := make([]*job, len(devices))
	for i, d := range devices {
		jobs[i] = d.reopen()
	}
	for i, d := range devices {
		if err, _ := d.wait(wait, jobs[i]); err != nil {
			b.o.Logger.Error("an audit device was not reopened", "device", d.Path, "error", err)
		}
	}
}

// Close writes what waits and closes all devices; no entry is taken after it. What hangs is left behind.
func (b *Broker) Close() error {
	b.mu.Lock()
	for _, d := range *b.live.Load() { // they stay in the list, and fail
		b.leave(d)
	}
	devices := b.leaving
	b.closed, b.key = true, secret.Bytes{}
	b.mu.Unlock()
	wait, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	for _, d := range devices {
		select {
		case <-d.ended:
		case <-wait.Done():
			err = errors.Join(err, errors.New("the audit device "+d.Path+" did not end"))
		}
	}
	return err
}

func (b *Broker) find(path string) *device { return at(*b.live.Load(), path) }

func at(list []*device, path string) *device {
	i := slices.IndexFunc(list, func(d *device) bool { return d.Path == path })
	if i < 0 {
		return nil
	}
	return list[i]
}
