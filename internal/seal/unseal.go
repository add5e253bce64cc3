package seal

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// IdleLimit is how long shares wait in memory for the next one.
const IdleLimit = 15 * time.Minute

var (
	// ErrResetDenied answers a reset without authority.
	ErrResetDenied = fault.NeedsLocal(
		"a reset needs a valid key share in 'key', or a local connection: repeat it with one of them")
	errOtherForm = fault.New(fault.Invalid,
		"another share for the same slot was given before, and the damaged table of key holders can't tell which is right: reset, and give the right ones")
	errNotOpening = fault.New(fault.Invalid,
		"the shares given so far do not open the root key: give further shares, or reset and begin again")
	errWrongTogether = fault.New(fault.Unavailable,
		"the shares are valid, but together they do not open the root key: the record of key holders was changed outside this server; restore the store from a backup")
)

// Unsealer collects shares for one process until they open the root key. The shares are in locked memory, for at
// most IdleLimit after the last one came. It is safe for concurrent use.
type Unsealer struct {
	st  store.Store
	now func() time.Time

	mu    sync.Mutex // held also while the last share opens the store: another one has to know the outcome
	round *round     // nil while no share has been given
}

// round is one try to unseal.
type round struct {
	nonce string
	sum   []byte // of the record that the shares were checked against
	arena *secret.Arena
	given map[int]secret.Bytes // given :: slot → share, in arena
	last  time.Time
	timer *time.Timer
}

// Progress is how far a round has come.
type Progress struct {
	Given, Threshold, Shares int
	Nonce                    string // names the round; empty while Given is 0
}

// NewUnsealer returns an Unsealer over st; now is the clock.
func NewUnsealer(st store.Store, now func() time.Time) *Unsealer { return &Unsealer{st: st, now: now} }

// Submit takes one share over and wipes it. A share that isn't valid is refused with a fault and changes nothing;
// the same share again changes nothing either. At the threshold the result is an open barrier. If the store fails
// then, the shares stay, and giving any of them again tries again.
func (u *Unsealer) Submit(ctx context.Context, share secret.Bytes, local bool) (Progress, *Opened, error) {
	defer share.Wipe()
	rec, err := u.load(ctx)
	if err != nil {
		return Progress{}, nil, err
	}
	slot, err := place(rec, share, local)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		return u.progress(rec), nil, err
	}
	if err := u.add(rec, slot, share); err != nil {
		return u.progress(rec), nil, err
	}
	opened, err := u.tryOpen(ctx, rec)
	if opened != nil || errors.Is(err, ErrTampered) || errors.Is(err, errWrongTogether) {
		u.wipe()
	}
	return u.progress(rec), opened, err
}

// Reset forgets the shares given so far. It takes share over, which may be empty, and wipes it.
func (u *Unsealer) Reset(ctx context.Context, share secret.Bytes, local bool) (Progress, error) {
	defer share.Wipe()
	rec, err := u.load(ctx)
	if err != nil {
		return Progress{}, err
	}
	if !local {
		_, key, err := rec.Check(share)
		if err != nil {
			return Progress{}, ErrResetDenied
		}
		key.Wipe()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wipe()
	return u.progress(rec), nil
}

// Progress tells how many shares have been given; all zero while the store is not initialised.
func (u *Unsealer) Progress(ctx context.Context) (Progress, error) {
	rec, err := u.load(ctx)
	if errors.Is(err, ErrNotInitialized) {
		return Progress{}, nil
	}
	if err != nil {
		return Progress{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.progress(rec), nil
}

// Close forgets the shares given so far.
func (u *Unsealer) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wipe()
}

func (u *Unsealer) load(ctx context.Context) (rec *Record, err error) {
	err = u.st.View(ctx, func(r store.Reader) error {
		rec, err = Load(r)
		return err
	})
	if err == nil && rec == nil {
		err = ErrNotInitialized
	}
	return rec, err
}

// place returns the slot of a share that may be collected. Where the verifiers are damaged, a local share may be
// that only has the form of one; slot 0 then means the unseal key itself.
func place(rec *Record, share secret.Bytes, local bool) (int, error) {
	if !rec.damaged || !local {
		slot, key, err := rec.Check(share)
		if err != nil {
			return 0, err
		}
		key.Wipe()
		return slot, nil
	}
	switch slot := slotOf(share); {
	case share.Len() == longShare && slot > 0:
		return slot, nil
	case share.Len() == shortShare:
		return 0, nil
	}
	return 0, fault.Newf(fault.Invalid, "the key share has the wrong length or no slot: a share has %d bytes, or %d where there is only one", longShare, shortShare)
}

// add puts a share into the round, which begins with it if need be.
func (u *Unsealer) add(rec *Record, slot int, share secret.Bytes) error {
	u.expire()
	if u.round != nil && !bytes.Equal(u.round.sum, rec.sum) {
		u.wipe() // the cluster was replaced meanwhile
	}
	if u.round == nil {
		u.begin(rec)
	}
	r := u.round
	r.last = u.now()
	if before, ok := r.given[slot]; ok {
		if !before.Equal(share) {
			return errOtherForm
		}
		return nil
	}
	held, err := r.arena.Hold(bytes.Clone(share.Reveal()))
	if err == nil {
		r.given[slot] = held
	}
	return err
}

func (u *Unsealer) begin(rec *Record) {
	r := &round{
		nonce: uuid.NewString(),
		sum:   rec.sum,
		arena: secret.NewArena((MaxShares + 1) * longShare),
		given: make(map[int]secret.Bytes),
	}
	r.timer = time.AfterFunc(IdleLimit, func() { u.idle(r) })
	u.round = r
}

// idle wipes a round even if nobody ever asks again.
func (u *Unsealer) idle(r *round) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.round == r {
		if u.expire(); u.round == r {
			r.timer.Reset(IdleLimit - u.now().Sub(r.last))
		}
	}
}

func (u *Unsealer) expire() {
	if u.round != nil && u.now().Sub(u.round.last) >= IdleLimit {
		u.wipe()
	}
}

func (u *Unsealer) wipe() {
	if u.round != nil {
		u.round.timer.Stop()
		u.round.arena.Close()
		u.round = nil
	}
}

func (u *Unsealer) progress(rec *Record) Progress {
	u.expire()
	gen := rec.Generation()
	p := Progress{Threshold: gen.Threshold, Shares: gen.Shares}
	if r := u.round; r != nil && bytes.Equal(r.sum, rec.sum) {
		p.Given, p.Nonce = len(r.given), r.nonce
	}
	return p
}
