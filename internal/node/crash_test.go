package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// TestCrashAtEveryWrite fails the n-th commit of a whole life (init, unseal, start, approve, complete), once so that
// nothing was persisted and once so that it was but nobody was told; then the process is gone. A new one must find a
// store that some quorum opens, everything that was acknowledged, and a ceremony that can be finished with exactly
// one token (T32, T44, T49).
func TestCrashAtEveryWrite(t *testing.T) {
	for _, family := range []Family{GenerateRoot, RootGeneration} {
		for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
			for n := 1; ; n++ {
				reached := false
				t.Run(fmt.Sprintf("%s/%v/%d", family, mode, n), func(t *testing.T) { reached = crashAt(t, family, mode, n) })
				if !reached {
					if n < 6 {
						t.Fatalf("only %d writes in a whole life", n-1)
					}
					break
				}
			}
		}
	}
}

func crashAt(t *testing.T, family Family, mode storetest.Mode, n int) (reached bool) {
	faulty := storetest.NewFaulty(inmem.New())
	faulty.FailCommit(n, mode)
	l := &life{cluster: &cluster{t: t, st: faulty, clock: newClock(), log: &syncBuffer{}}, family: family}
	for {
		l.boot()
		if l.run() == nil {
			break
		}
		if reached {
			t.Fatal("the second run must not fail")
		}
		reached = true
		faulty.Recover()
	}
	l.check()
	return reached
}

// life is a run of the whole story that can be taken up by a new process at any point, as its people would.
type life struct {
	*cluster
	family   Family
	nonce    string
	otp      string
	acked    int // approvals that were acknowledged
	complete RootStatus
}

const crashTokenID = "crash-token-0123456789"

func (l *life) run() error {
	for _, step := range []func() error{l.mustInit, l.mustUnseal, l.mustStart, l.mustApprove} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) mustInit() error {
	if l.root != "" {
		return nil
	}
	ctx := l.t.Context()
	is, err := l.node.Initialized(ctx)
	if err != nil {
		return err
	}
	// Initialised, and nobody has the shares: the reply was lost.
	res, err := l.node.Init(ctx, InitRequest{Shares: 3, Threshold: 3, Replace: is, Local: is})
	if err != nil {
		return err
	}
	l.shares, l.root = res.Keys, string(res.RootToken.Reveal())
	return nil
}

func (l *life) mustUnseal() error {
	for i := 0; l.node.Sealed(); i++ {
		if i == len(l.shares) {
			return errors.New("the quorum that holds the shares can't unseal")
		}
		if _, err := l.node.Unseal(l.t.Context(), l.share(i), false, ""); err != nil {
			return err
		}
	}
	return nil
}

func (l *life) mustStart() error {
	if l.nonce != "" {
		return nil
	}
	ctx := l.t.Context()
	st, err := l.node.RootStatus(ctx)
	if err != nil {
		return err
	}
	if st.Started { // the reply with the OTP was lost: what was started locally can be cancelled locally
		if _, _, err := l.node.CancelRoot(ctx, local); err != nil {
			return err
		}
	}
	req := StartRequest{}
	if l.family == RootGeneration {
		req.TokenID = []byte(crashTokenID)
	}
	if st, err = l.node.StartRoot(ctx, l.family, local, req); err != nil {
		return err
	}
	l.nonce, l.otp = st.Nonce, st.OTP
	return nil
}

func (l *life) mustApprove() error {
	for i := range l.shares {
		if i < l.acked {
			continue
		}
		st, err := l.node.RootStatus(l.t.Context())
		if err != nil {
			return err
		}
		if st.Started && (st.Progress < l.acked || st.Progress > l.acked+1) {
			l.t.Fatalf("progress %d, acknowledged %d", st.Progress, l.acked)
		}
		st, err = l.node.ApproveRoot(l.t.Context(), l.family, l.nonce, l.share(i))
		if f := fault.As(err); f != nil && st.Progress == 0 && i < len(l.shares)-1 {
			err = nil // it was recorded, only nobody was told
		}
		if err != nil {
			return err
		}
		l.acked, l.complete = i+1, st
	}
	return nil
}

func (l *life) check() {
	l.t.Helper()
	if !l.complete.Complete {
		l.t.Fatalf("not complete: %+v", l.complete)
	}
	id := crashTokenID
	if l.family == GenerateRoot {
		id = l.decode(l.complete, l.otp)
	}
	if l.lookup(id) == nil {
		l.t.Error("the token of the completed ceremony is dead")
	}
	if n := l.accessors(l.root); n != 2 {
		l.t.Errorf("%d tokens, want the first root token and exactly one more", n)
	}
}
