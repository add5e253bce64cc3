package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/openbao/openbao/api/v2"
)

// giveOnce gives one share to the attempt or verification of that nonce, as the stock command does.
func (r *rekeying) giveOnce(ctx context.Context, args []string) error {
	if !r.conn.curl {
		if err := r.announce(ctx); err != nil {
			return err
		}
	}
	prompt := "key share (will be hidden): "
	if r.verify {
		prompt = "new key share (will be hidden): "
	}
	body, err := r.sharePayload(ctx, args, prompt, map[string]any{"nonce": r.nonce})
	if err != nil {
		return err
	}
	defer clear(body)
	st, err := r.send(ctx, body, r.verify)
	if err != nil {
		return r.refusedIdle(asking("giving the key share", err))
	}
	switch {
	case r.verify && st.Complete:
		r.say("%s", inForce)
		return r.print(api.RekeyVerificationUpdateResponse{Nonce: st.Nonce, Complete: true}, func() string { return "" })
	case r.verify:
		return unprinted(r.showVerification(st), "the share was verified")
	case st.Complete:
		return r.showResult(ctx, st)
	}
	return unprinted(r.show(st), "the share was accepted: "+r.typed+" -status shows the progress")
}

const inForce = "the new key shares are in force, and the ones before are worth nothing now"

// announce tells what a share is asked for, and refuses another attempt than was meant.
func (r *rekeying) announce(ctx context.Context) error {
	st, err := r.read(ctx, r.verify)
	what := "operation"
	switch {
	case err != nil:
		return err
	case r.verify && (!st.Started || st.Nonce == ""):
		return r.nothingToVerify()
	case r.verify:
		what = "verification"
	case !st.Started:
		// The server still knows an attempt that has just completed: its last share brings the result again.
		r.idle = true
		r.say("no rekey is in progress: start one with -init, or give the share that completed this one to get its result again")
		return nil
	case st.verifying() && st.VerificationNonce == r.nonce:
		return localf("this is the nonce of the verification: add -verify, and give a new share")
	}
	if st.Nonce != r.nonce {
		return nonceChanged(r.nonce, st.Nonce)
	}
	r.say("%s nonce: %s", what, visible(st.Nonce, ""))
	return nil
}

func (r *rekeying) nothingToVerify() error {
	return localf("there are no new shares to verify: the present holders give theirs first")
}

// send gives a share: a present one, or a new one that is to be verified.
func (r *rekeying) send(ctx context.Context, body []byte, verify bool) (*rekeyStatus, error) {
	endpoint := "/update"
	if verify {
		endpoint = "/verify"
	}
	st := &rekeyStatus{}
	return st, r.ask(ctx, r.open, r.writes(), endpoint, body, st)
}

// rekeyFlow is the whole way at one terminal: the present shares in turn, and then the new ones.
type rekeyFlow struct {
	*rekeying
	*round
	st      *rekeyStatus
	nonce   string // of the attempt, then of the verification
	proving bool   // the new shares are asked for
}

func (r *rekeying) wholeWay(ctx context.Context, at *round) error {
	f := &rekeyFlow{rekeying: r, round: at}
	if err := f.begin(ctx); err != nil {
		return err
	}
	if !f.proving {
		if err := f.all(ctx); err != nil {
			return err
		}
		if err := f.showResult(ctx, f.st); err != nil || f.st.VerificationNonce == "" {
			return err
		}
		if len(f.st.KeysB64) > 0 && len(f.st.KeysB64[0]) > holderText {
			return nil // encrypted: nobody here can give them
		}
		if err := f.prove(ctx, f.st.VerificationNonce); err != nil {
			return err
		}
	}
	if err := f.all(ctx); err != nil {
		return err
	}
	f.say("%s", inForce)
	return nil
}

// all asks for all the shares of one kind.
func (f *rekeyFlow) all(ctx context.Context) error {
	err := f.turn(ctx, f)
	if errors.Is(err, errStopped) {
		return f.stopped()
	}
	return err
}

// prove turns to the new shares.
func (f *rekeyFlow) prove(ctx context.Context, nonce string) (err error) {
	f.proving, f.unsure, f.nonce = true, false, nonce
	f.st, err = f.read(ctx, true)
	return err
}

// begin joins what is in progress, or starts it.
func (f *rekeyFlow) begin(ctx context.Context) (err error) {
	if f.st, err = f.read(ctx, false); err != nil {
		return err
	}
	switch {
	case !f.st.Started && f.verify, f.st.Started && f.verify && !f.st.verifying():
		return f.nothingToVerify()
	case f.st.Started && (f.starts() || f.holder):
		return localf("a rekey is in progress already: to start another one, cancel it first")
	case f.st.verifying():
		if err := f.prove(ctx, f.st.VerificationNonce); err != nil {
			return err
		}
		f.say("new key shares wait for their holders to verify them: %s", f.describe())
		f.say("verification nonce: %s", visible(f.nonce, ""))
		return nil
	case f.st.Started:
		f.nonce = f.st.Nonce
		f.say("a rekey is in progress, to %d new shares with a threshold of %d: %s", f.st.N, f.st.T, f.describe())
		f.say("operation nonce: %s (compare it with what you were told by whoever started it)", visible(f.nonce, ""))
		return nil
	}
	if f.st, err = f.start(ctx, nil); err != nil {
		return err
	}
	f.nonce = f.st.Nonce
	f.say("rekey started, to %d new shares with a threshold of %d: %s", f.st.N, f.st.T, f.describe())
	f.say("operation nonce: %s", visible(f.nonce, ""))
	f.say("holders elsewhere give their present shares with: %s -nonce=%s", f.typed, visible(f.nonce, ""))
	return nil
}

func (f *rekeyFlow) describe() string {
	switch {
	case f.st.Complete:
		return "that was the last one"
	case f.proving:
		return fmt.Sprintf("%d of %d new key shares verified", f.st.Progress, f.st.provers())
	}
	return fmt.Sprintf("%d of %d key shares given", f.st.Progress, f.st.Required)
}

func (f *rekeyFlow) prompt() string {
	if f.proving {
		return fmt.Sprintf("new key share %d of %d, to verify it (will be hidden; empty to stop): ", f.st.Progress+1, f.st.provers())
	}
	return fmt.Sprintf("key share %d of %d (will be hidden; empty to stop): ", f.st.Progress+1, f.st.Required)
}

func (f *rekeyFlow) payload(ctx context.Context, given givenShare) ([]byte, error) {
	if given.armour != nil {
		if err := f.sameCluster(ctx, given.armour); err != nil {
			return nil, err
		}
	}
	return f.shareBody(given.text, map[string]any{"nonce": f.nonce}), nil
}

func (f *rekeyFlow) send(ctx context.Context, body []byte) (done bool, err error) {
	st, err := f.rekeying.send(ctx, body, f.proving)
	if err != nil {
		return false, err
	}
	f.st = st
	return st.Complete, nil
}

// check reads the status again and refuses to go on when it is no longer what this flow began with.
func (f *rekeyFlow) check(ctx context.Context) error {
	st, err := f.read(ctx, f.proving)
	switch {
	case unanswered(err):
		return fmt.Errorf("%w: %s", errUnreachable, reasons(errors.Unwrap(err)))
	case f.proving && (answered(err) == http.StatusBadRequest || err == nil && !st.Started):
		return localf("the verification has ended: completed by a share given elsewhere, cancelled, or expired")
	case err != nil:
		return err
	case !st.Started:
		return localf("the attempt %s has ended: completed by a share given elsewhere, cancelled, or expired", f.nonce)
	case f.proving && st.Nonce != f.nonce:
		// The shares that were verified count no longer. A new share opens nothing, so it may as well be given again.
		f.nonce = st.Nonce
		f.say("the verification began anew, with the nonce %s: every new share has to be given again", visible(f.nonce, ""))
	case st.Nonce != f.nonce:
		return nonceChanged(f.nonce, st.Nonce)
	case !f.proving && st.verifying():
		return localf("the last share was given elsewhere, where the new shares are shown; to verify those: %s -verify", f.typed)
	}
	f.st = st
	return nil
}

// stopped explains how to go on, or not to.
func (f *rekeyFlow) stopped() error {
	if f.proving {
		f.say("stopped; the new shares are not in force, the present ones are: %s", f.describe())
		f.say("to go on, here or elsewhere: %s -verify -nonce=%s", f.typed, visible(f.nonce, ""))
	} else {
		f.say("stopped; the attempt stays open: %s", f.describe())
		if f.unsure {
			f.say("the last share may have counted; if it was the last one needed, it brings the new shares again")
		}
		f.say("to go on, here or elsewhere: %s -nonce=%s", f.typed, visible(f.nonce, ""))
	}
	f.say("to end it, so that the present shares stay: %s", f.cancelCommand())
	return silent(exitLocal)
}
