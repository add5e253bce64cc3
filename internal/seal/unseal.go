package seal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
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
		"the shares given so far do not open the root key: give further shares of the present generation, or reset and begin again")
	errWrongTogether = fault.New(fault.Unavailable,
		"the shares are valid, but together they do not open the root key: the record of key holders was changed outside this server; restore the store from a backup")
)

// Unsealer collects shares for one process until they open the root key. The shares are in locked memory, for at
// most IdleLimit after the last one came. It is safe for concurrent use.
type Unsealer struct {
	Over store.Store // what the store is opened over; nil for the one that the unsealer reads itself

	st  store.Store
	now func() time.Time

	mu    sync.Mutex // held also while the last share opens the store: another one has to know the outcome
	round *round     // nil while no share has been given
}

// round is one try to unseal.
type round struct {
	nonce string
	basis string // of the record that the shares were checked against
	arena *secret.Arena
	given map[uint64]map[int]secret.Bytes // given :: generation, or unsorted → slot → share, in arena
	last  time.Time
	timer *time.Timer
}

// unsorted is where the shares are that a damaged table can't tell the generation of.
const unsorted = 0

// Progress is how far a round has come. The shares of each generation are counted apart.
type Progress struct {
	Given, Threshold, Shares int    // of the active generation
	Nonce                    string // names the round; empty while no share of any generation is given

	RetiringGiven, RetiringThreshold, RetiringShares int // all zero while no generation is retiring
}

// Accepted is a share that was found valid and counts from now on.
type Accepted struct {
	Generation uint64 // 0 where the table of key holders is damaged
	Slot       int    // 0 for a reset by nothing but a local connection
	Label      string
	ClusterID  string
	Key        *holder.Key // wiped after the call; nil where the table is damaged, or there is no share
	Round      string      // the nonce of the round
}

// NewUnsealer returns an Unsealer over st; now is the clock.
func NewUnsealer(st store.Store, now func() time.Time) *Unsealer { return &Unsealer{st: st, now: now} }

// Precheck says, without any effect, whether Submit would refuse share, which stays the caller's: what isn't valid need
// not wait for its turn. For a share of a generation that can't unseal any more, former is called first, with the key of
// its holder, and its error is returned in place of the refusal.
func (u *Unsealer) Precheck(ctx context.Context, share secret.Bytes, local bool, former func(Accepted) error) error {
	rec, err := u.load(ctx)
	if err != nil {
		return err
	}
	return precheck(rec, share, local, former)
}

// PrecheckReset is Precheck for a Reset that doesn't come over a local connection.
func (u *Unsealer) PrecheckReset(ctx context.Context, share secret.Bytes, former func(Accepted) error) error {
	rec, err := u.load(ctx)
	if err != nil {
		return err
	}
	if err := precheck(rec, share, false, former); err != nil {
		if fault.As(err) == nil {
			return err
		}
		return ErrResetDenied
	}
	return nil
}

func precheck(rec *Record, share secret.Bytes, local bool, former func(Accepted) error) error {
	a, err := place(rec, share, local)
	a.wipe()
	var old *OldShare
	if !errors.As(err, &old) {
		return err
	}
	a, errOld := rec.replaced(old, share)
	if errOld != nil {
		return errOld
	}
	defer a.wipe()
	return cmp.Or(former(a), err)
}

// Submit takes one share over and wipes it. A share that isn't valid is refused with a fault and changes nothing;
// the same share again changes nothing either. Before a new one counts, accept is called, and its error refuses the
// share. At the threshold of a generation the result is an open barrier, which use, where it isn't nil, has taken over; its
// error closes the barrier again. If that or the store fails, the shares stay, and giving any of them again tries again.
func (u *Unsealer) Submit(ctx context.Context, share secret.Bytes, local bool, accept func(Accepted) error, use func(*Opened) error) (Progress, *Opened, error) {
	defer share.Wipe()
	rec, err := u.load(ctx)
	if err != nil {
		return Progress{}, nil, err
	}
	a, err := place(rec, share, local)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		return u.progress(rec), nil, err
	}
	defer a.wipe()
	if err := u.add(rec, a, share, accept); err != nil {
		return u.progress(rec), nil, err
	}
	opened, err := u.tryOpen(ctx, rec)
	if opened != nil && use != nil {
		if err = use(opened); err != nil {
			opened.Barrier.Close()
			opened = nil
		}
	}
	if opened != nil || errors.Is(err, ErrTampered) || errors.Is(err, errWrongTogether) {
		u.wipe()
	}
	return u.progress(rec), opened, err
}

// Reset forgets the shares given so far, for a local connection or a share of the generation in force: a holder of the
// retiring one may have been removed. It takes share over, which may be empty where the connection is local, and wipes
// it. accept is called if there is something to forget, and its error refuses the reset.
func (u *Unsealer) Reset(ctx context.Context, share secret.Bytes, local bool, accept func(Accepted) error) (Progress, error) {
	defer share.Wipe()
	rec, err := u.load(ctx)
	if err != nil {
		return Progress{}, err
	}
	a, err := place(rec, share, false)
	if !local && (err != nil || a.Generation != rec.Generation().Number) {
		a.wipe()
		return Progress{}, ErrResetDenied
	}
	if err != nil {
		a = Accepted{ClusterID: rec.ClusterID}
	}
	defer a.wipe()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire()
	if u.round == nil { // nothing changes, so nobody needs to hear of it
		return u.progress(rec), nil
	}
	a.Round = u.round.nonce
	if err := accept(a); err != nil {
		return u.progress(rec), err
	}
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

// basis tells the records apart that a round of shares is not good for together: those of different clusters, and
// damaged ones. Whatever else changes in a record, the number of a generation says what its shares are.
func (r *Record) basis() string {
	if r.damaged {
		return string(r.sum)
	}
	return r.ClusterID
}

// place finds out whose a share is that may be collected. Where the verifiers are damaged, a local share may be that
// only has the form of one.
func place(rec *Record, share secret.Bytes, local bool) (Accepted, error) {
	if !rec.damaged || !local {
		gen, slot, key, err := rec.checkOpening(share)
		if err != nil {
			return Accepted{}, err
		}
		return Accepted{Generation: gen.Number, Slot: slot, Label: gen.Label(slot), ClusterID: rec.ClusterID, Key: key}, nil
	}
	slot := slotOf(share)
	if share.Len() != shortShare && (share.Len() != longShare || slot == 0) {
		return Accepted{}, fault.Newf(fault.Invalid, "the key share has the wrong length or no slot: a share has %d bytes, or %d where there is only one", longShare, shortShare)
	}
	return Accepted{Generation: unsorted, Slot: slot, ClusterID: rec.ClusterID}, nil
}

func (a Accepted) wipe() {
	if a.Key != nil {
		a.Key.Wipe()
	}
}

// add puts a share into the round, which begins with it if need be.
func (u *Unsealer) add(rec *Record, a Accepted, share secret.Bytes, accept func(Accepted) error) error {
	u.expire()
	if u.round != nil && u.round.basis != rec.basis() {
		u.wipe() // the cluster was replaced meanwhile
	}
	at := placeOf(a, share)
	if u.round == nil {
		u.begin(rec)
	} else if before, ok := u.round.given[a.Generation][at]; ok {
		u.round.last = u.now()
		if !before.Equal(share) {
			return errOtherForm
		}
		return nil
	}
	r := u.round
	a.Round = r.nonce
	err := accept(a)
	if err == nil {
		err = r.keep(a.Generation, at, share)
	}
	if err == nil {
		r.last = u.now()
	} else if len(r.given) == 0 {
		u.wipe()
	}
	return err
}

// placeOf is the slot of a share among those given, and 0 for the unseal key itself: where the table is damaged it is
// not to be taken for slot 1.
func placeOf(a Accepted, share secret.Bytes) int {
	if share.Len() == shortShare {
		return 0
	}
	return a.Slot
}

func (r *round) keep(generation uint64, place int, share secret.Bytes) error {
	held, err := r.arena.Hold(bytes.Clone(share.Reveal()))
	if err != nil {
		return err
	}
	if r.given[generation] == nil {
		r.given[generation] = make(map[int]secret.Bytes)
	}
	r.given[generation][place] = held
	return nil
}

func (u *Unsealer) begin(rec *Record) {
	r := &round{
		nonce: uuid.NewString(),
		basis: rec.basis(),
		arena: secret.NewArena(2 * (MaxShares + 1) * longShare), // of two generations
		given: make(map[uint64]map[int]secret.Bytes),
		last:  u.now(),
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
	active, retiring := rec.Generation(), rec.Retiring()
	p := Progress{Threshold: active.Threshold, Shares: active.Shares}
	if retiring != nil {
		p.RetiringThreshold, p.RetiringShares = retiring.Threshold, retiring.Shares
	}
	r := u.round
	if r == nil || r.basis != rec.basis() {
		return p
	}
	number := active.Number
	if rec.damaged {
		number = unsorted
	} else if retiring != nil {
		p.RetiringGiven = len(r.given[retiring.Number])
	}
	if p.Given = len(r.given[number]); p.Given+p.RetiringGiven > 0 {
		p.Nonce = r.nonce
	}
	return p
}
