// Package node is one server process: sealed, or holding everything that exists only while unsealed.
//
// It promises that sealed is the absence of a value: what needs the keys lives in one active, built whole or not at
// all, and closed once; nothing in it changes but what it remembers of the store. It promises that every decision about
// authority is taken in the transaction that acts on it, and that what is remembered counts in a decision only while the
// change stamp says so. It keeps no state that another node would need; the store is the truth. It does not know HTTP:
// status codes and shapes are package httpapi's. Nor does it know what an engine keeps: it says to which mount a path
// leads, and confines the engine to that mount's records.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// ErrSealed is the answer to everything that needs the keys while the node doesn't hold them, initialised or not.
// Clients look for the sentence.
var ErrSealed = fault.New(fault.Sealed, "Vault is sealed")

// Options configures a Node. Only Store is required.
type Options struct {
	Store       store.Store // stays its owner's: Close does not close it
	Logger      *slog.Logger
	Now         func() time.Time
	Rand        io.Reader // randomness of init; nil means crypto/rand
	ClusterName string    // given to a new cluster; empty: one is made up

	DefaultTTL   time.Duration   // of tokens without one of their own; 0 means 768 h
	MaxTTL       time.Duration   // no token lives longer without a period; 0 means 768 h
	RootTokenTTL time.Duration   // of root tokens from ceremonies; 0 means that they don't expire
	Limits       ceremony.Limits // zero means ceremony.DefaultLimits()
	// VerificationTTL is how long a rekey waits for the next of its new holders to prove their share; 0 means 7 days.
	VerificationTTL time.Duration
	ResultTTL       time.Duration // how long a lost reply can be had again; 0 means 5 minutes
	Mark            MarkKeeper    // may be nil
	SweepInterval   time.Duration // how often what has expired is swept; 0 means 30 seconds
	Audit           *audit.Broker // stays its owner's; nil: there are no audit devices, and none can be made
	LookInterval    time.Duration // how often the node looks whether another one has sealed the cluster; 0 means 1 second
	Cluster         *Membership   // of a node that shares its store with others; nil: there are no others
	Setup           *Setup        // what a new cluster is born with; may be nil
}

// Node is one server process over a store.
type Node struct {
	Options
	guard    *guard // n.Store, as everything that is done with keys sees it
	unsealer *seal.Unsealer
	// transition has room for one: whoever turns the node from sealed to unsealed or back, so that two completing
	// shares, or a share and a seal, can't interleave. Only init, unseal, reset and seal wait for it.
	transition              chan struct{}
	active                  atomic.Pointer[active]
	unsealFrom              givers         // guarded by transition
	unsealUnder             string         // the order in force when the shares given so far were; guarded by transition
	refusals                rate.Sometimes // keeps strangers from filling the log
	former                  pauses         // keeps former holders from filling the transcript
	localStarts, openStarts *rate.Limiter  // of ceremonies, with no more authority than a connection
	watch                   watch
	kinds                   []*EngineKind
	setupFailed             atomic.Bool
	presence                presence
}

const defaultTTL = 768 * time.Hour

// New returns a sealed node over o.Store.
func New(o Options) (*Node, error) {
	if o.Store == nil {
		return nil, errors.New("a node needs a store")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	setDefault(&o.DefaultTTL, defaultTTL)
	setDefault(&o.MaxTTL, defaultTTL)
	setDefault(&o.ResultTTL, 5*time.Minute)
	setDefault(&o.VerificationTTL, 7*24*time.Hour)
	setDefault(&o.SweepInterval, 30*time.Second)
	setDefault(&o.LookInterval, time.Second)
	if o.Limits == (ceremony.Limits{}) {
		o.Limits = ceremony.DefaultLimits()
	}
	if o.Audit == nil {
		o.Audit = audit.New(audit.Options{Logger: o.Logger, Now: o.Now})
	}
	kinds, err := engineKinds()
	if err != nil {
		return nil, err
	}
	g := &guard{Store: o.Store}
	unsealer := seal.NewUnsealer(o.Store, o.Now)
	unsealer.Over = g
	return &Node{
		Options: o, kinds: kinds, guard: g, unsealer: unsealer, transition: make(chan struct{}, 1),
		localStarts: rate.NewLimiter(rate.Every(weakStartPause), weakStartBurst),
		openStarts:  rate.NewLimiter(rate.Every(weakStartPause), weakStartBurst),
		refusals:    rate.Sometimes{First: 20, Interval: time.Second},
		presence:    newPresence(o.Now()),
	}, nil
}

// turn waits for its turn to change between sealed and unsealed; leave gives it back.
func (n *Node) turn(ctx context.Context) (leave func(), err error) {
	select {
	case n.transition <- struct{}{}:
		return func() { <-n.transition }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pauses says when something was last done about each of a small number of things. It is safe for concurrent use.
type pauses struct {
	mu sync.Mutex
	at map[[2]uint64]time.Time // :: generation and slot → when
}

// due reports whether the pause since the last time is over, and begins the next one then.
func (p *pauses) due(generation uint64, slot int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := [2]uint64{generation, uint64(slot)}
	if last, ok := p.at[key]; ok && now.Sub(last).Abs() < refusalPause {
		return false
	}
	if p.at == nil || len(p.at) > 2*seal.MaxShares {
		p.at = make(map[[2]uint64]time.Time)
	}
	p.at[key] = now
	return true
}

// forget ends a pause early, because what it began with could not be done.
func (p *pauses) forget(generation uint64, slot int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, [2]uint64{generation, uint64(slot)})
}

// refused tells the log that somebody's share was not accepted.
func (n *Node) refused(at string, err error) {
	n.refusals.Do(func() { n.Logger.Warn("share refused", "at", at, "error", err) })
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// closePatience is how long the end of a process waits for the store to say how long the transcript is.
const closePatience = 2 * time.Second

// Close stops serving and wipes the keys. Unlike Seal it ends no attempt: a restart is not a decision of the
// operator's. The store stays open.
func (n *Node) Close() {
	n.transition <- struct{}{}
	defer func() { <-n.transition }()
	n.deactivate(func(a *active) error {
		n.leaveMark(func() error { // or what was recorded since the last sweep could be taken away while nobody looks
			ctx, cancel := context.WithTimeout(context.Background(), closePatience)
			defer cancel()
			return n.watchTranscript(ctx, a)
		})
		return nil
	})
	n.unsealer.Close()
}

// Sealed reports whether the node holds no keys; an uninitialised node is sealed too.
func (n *Node) Sealed() bool { return n.active.Load() == nil }

// active is all that exists only while unsealed.
type active struct {
	*seal.Opened
	tokens      *token.Tokens
	signer      *transcript.Signer // of the transcript's checkpoints
	verifierKey string             // its public half
	broker      *audit.Broker
	auditKey    secret.Bytes           // which broker works with
	sys         atomic.Pointer[system] // as last seen; never nil once the active is in force
	seeing      sync.Mutex             // held while sys and the audit devices become those of another snapshot

	ctx    context.Context // ends when the node seals; every request's context ends with it
	cancel context.CancelFunc
	// requests is read-locked by each request and by the sweeper for as long as they use the keys.
	requests sync.RWMutex
	closed   bool // guarded by requests
}

// activate puts a new active in force, once the transcript has been checked and says so: of whom the keys are, if they
// came from another node. The caller holds transition, and has pinned the guard.
func (n *Node) activate(ctx context.Context, o *seal.Opened, from string) error {
	a := &active{
		Opened: o,
		tokens: token.New(token.Config{DefaultTTL: n.DefaultTTL, MaxTTL: n.MaxTTL, Now: n.Now, Belongings: mount.CubbyholeRecords}),
		broker: n.Audit,
	}
	for _, step := range []func(context.Context, *active) error{
		func(ctx context.Context, a *active) error { return n.settle(ctx, a, from) }, n.startAudit, n.setUp,
		func(ctx context.Context, a *active) error {
			_, err := a.snapshot(ctx)
			return err
		},
	} {
		if err := step(ctx, a); err != nil {
			n.stopAudit()
			a.close()
			return err
		}
	}
	a.verifierKey = a.signer.VerifierKey()
	a.ctx, a.cancel = context.WithCancel(context.Background())
	n.active.Store(a)
	go n.sweepUntilClosed(a)
	go n.lookUntilClosed(a)
	n.presence.tell()
	return nil
}

// close wipes what the node added to the keys of o, which is not its.
func (a *active) close() {
	a.tokens.Close()
	a.auditKey.Wipe()
	if a.signer != nil {
		a.signer.Wipe()
	}
}

// deactivate takes the active out of force, waits for its requests, does the last thing, and wipes its keys, whatever
// became of the last thing. The caller holds transition.
func (n *Node) deactivate(last func(*active) error) error {
	a := n.active.Swap(nil)
	if a == nil {
		return nil
	}
	n.presence.tell()
	a.cancel()
	a.requests.Lock()
	defer a.requests.Unlock()
	a.closed = true
	err := last(a)
	n.stopAudit()
	a.close()
	err = errors.Join(err, a.Barrier.Close())
	n.guard.unpin() // of what nothing can be read through any more
	return err
}

// use runs fn with the active, which stays whole until fn returns. fn's context ends when the node seals.
func (n *Node) use(ctx context.Context, fn func(context.Context, *active) error) error {
	a := n.active.Load()
	if a == nil {
		return ErrSealed
	}
	a.requests.RLock()
	defer a.requests.RUnlock()
	if a.closed {
		return ErrSealed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	err := fn(ctx, a)
	switch {
	case errors.Is(err, barrier.ErrRotated):
		go n.outdated(a, "the root key does not open the keyring any more")
		return errOutdated
	case errors.Is(err, errOrdered):
		go n.outdated(a, sealedElsewhere)
		return ErrSealed
	case err != nil && a.ctx.Err() != nil && errors.Is(err, context.Canceled):
		return ErrSealed
	}
	return err
}

// errOutdated answers while this process holds a root key that another one has replaced.
var errOutdated = fault.New(fault.Unavailable, "the root key was rotated by another server, or the keyring was changed outside: this server seals itself; unseal it again")

// outdated seals a node whose keys are not to be used any more.
func (n *Node) outdated(a *active, why string) {
	n.transition <- struct{}{}
	defer func() { <-n.transition }()
	if n.active.Load() == a {
		n.Logger.Warn("sealed", "because", why)
		n.deactivate(func(*active) error { return nil })
	}
}
