package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// attempting is one run of a command of the stock clients for what a quorum approves by giving shares.
type attempting struct {
	operation
	typed  string // what people type
	nonce  string // of the attempt that a share is for
	reason string
	idle   bool // nothing was in progress when a share was asked for

	init, cancel, status bool
}

// give gives shares: one where it is said what it is for or where it comes from a pipe, else the whole way.
func (t *attempting) give(ctx context.Context, args []string, noun string, once func(context.Context, []string) error, whole func(context.Context, *round) error) error {
	switch {
	case len(args) == 1 && t.nonce == "":
		return localf("a share from standard input needs -nonce: the nonce of the %s that it is for", noun)
	case len(args) == 1 || t.nonce != "" || t.conn.curl:
		return once(ctx, args)
	}
	tty, err := t.terminal("asking for key shares", "to give one share from standard input: -nonce=NONCE and - as the argument")
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	// Whoever pastes several shares at once is ahead of the prompts, where they would show.
	loud, err := tty.Hush()
	if err != nil {
		return stuck("switching off the terminal's echo", err)
	}
	defer func() {
		if loud() != nil {
			t.say("warning: the terminal could not be set back: stty sane does it")
		}
	}()
	return whole(ctx, &round{app: t.app, tty: tty})
}

// refusedIdle gives a refusal the exit code for having nothing to give a share to, if nothing was in progress.
func (t *attempting) refusedIdle(err error) error {
	if f := (*failure)(nil); t.idle && errors.As(err, &f) && answered(err) == http.StatusBadRequest {
		f.code = exitLocal
	}
	return err
}

// cancelCommand is how whoever started an attempt this way ends it: with the authority that it was started with.
func (t *attempting) cancelCommand() string {
	if t.holder {
		return t.typed + " -cancel -holder"
	}
	return t.typed + " -cancel"
}

// notStarted says what to do about a refused start.
func (t *attempting) notStarted(action string, err error, hint string) error {
	err = t.needAuthority(asking(action, err))
	if strings.Contains(err.Error(), "already in progress") {
		return hinted(err, http.StatusBadRequest, hint)
	}
	return err
}

// wellFormed refuses an answer with a nonce that isn't in the form that every server of the family gives it, or absent:
// people are told to type it.
func wellFormed(nonces ...string) error {
	for _, nonce := range nonces {
		if nonce != "" && !isUUID(nonce) {
			return &failure{code: exitServer, action: "checking what the server says", err: errNonceForm}
		}
	}
	return nil
}

// nonceChanged stops a holder who would approve something else than they mean to.
func nonceChanged(meant, found string) error {
	return &failure{
		code: exitLocal, err: fmt.Errorf("this is another attempt: you mean %s, in progress is %s", meant, visible(found, "")),
		hint: "ask whoever started it what happened before you give a share; none was sent",
	}
}

// sharing is what shares are asked for.
type sharing interface {
	prompt() string
	describe() string                // how far it is
	check(ctx context.Context) error // reads the status, and refuses to go on when it isn't what was begun with
	// payload is what gives one share. It is wiped after send.
	payload(ctx context.Context, given givenShare) ([]byte, error)
	send(ctx context.Context, body []byte) (done bool, err error)
}

// round asks for shares at one terminal, one after the other.
type round struct {
	*app
	tty    terminal
	unsure bool // the last share got no answer: it may have been the last one needed
}

var (
	// errUnreachable says that nothing is known about the attempt for now. It is told, and asking goes on.
	errUnreachable = errors.New("the server can't be asked now (give the share again later, or nothing to stop)")
	errNonceForm   = errors.New("a nonce in its answer does not have the form of one")
	// errStopped is that nobody gives another share.
	errStopped = errors.New("stopped")
)

// unsent is why a share was neither sent nor used to sign. Asking goes on.
type unsent struct{ error }

// turn asks until all shares are given. What is no share is told, and asking goes on.
func (r *round) turn(ctx context.Context, s sharing) error {
	for empty := false; ; {
		done, err := r.step(ctx, s)
		again := empty
		empty = errors.Is(err, errNothingGiven)
		switch {
		case empty && !again && ctx.Err() == nil: // a pasted line may have ended twice
			r.say("nothing was given; another empty line stops")
		case errors.Is(err, errNotAShare), errors.Is(err, errLongLine), errors.As(err, new(unsent)):
			r.say("not sent: %v", err)
		case errors.Is(err, errUnreachable) && ctx.Err() == nil:
			r.say("%v", err)
		case done: // also when Ctrl-C came too late
			return nil
		case ctx.Err() != nil || errors.Is(err, errInterrupted) || errors.Is(err, io.EOF) || errors.Is(err, errNothingGiven):
			return errStopped
		case err != nil:
			return err
		}
	}
}

// step asks for one share and gives it. A refusal is told and is no error, as long as the attempt goes on.
func (r *round) step(ctx context.Context, s sharing) (done bool, err error) {
	given, err := askGiven(ctx, r.tty, s.prompt())
	if err != nil {
		return false, err
	}
	defer given.text.Wipe()
	// A share that may have completed the attempt is sent again without looking: the server answers it by the nonce.
	if !r.unsure {
		if err := s.check(ctx); err != nil {
			return false, err
		}
	}
	body, err := s.payload(ctx, given)
	if err != nil {
		return false, err
	}
	defer clear(body)
	if done, err = s.send(ctx, body); err != nil {
		return false, r.refused(ctx, s, err)
	}
	r.unsure = false
	r.say("accepted: %s", s.describe())
	return done, nil
}

// refused tells why a share wasn't taken, and whether the attempt goes on.
func (r *round) refused(ctx context.Context, s sharing, err error) error {
	r.unsure = unanswered(err)
	switch {
	case ctx.Err() != nil:
		return err
	case r.unsure:
		r.say("no answer to that share (%s): give the same one again, it counts once", reasons(err))
		return nil
	case answered(err) == http.StatusServiceUnavailable || otherFamily(err):
		return asking("giving the key share", err)
	}
	r.say("refused: %s", reasons(err))
	if err := s.check(ctx); err != nil {
		return err
	}
	r.say("the attempt goes on: %s", s.describe())
	return nil
}

// unanswered reports whether a request failed in a way that leaves open what it did. 503 is an answer: sealed.
func unanswered(err error) bool {
	status := answered(err)
	return err != nil && !errors.Is(err, errNonceForm) && (status == 0 || status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable)
}

// otherFamily reports whether the server refused a share because the attempt was started through sys/root-generation:
// nothing in the status tells before, and no share given here will be taken.
func otherFamily(err error) bool {
	return answered(err) == http.StatusBadRequest && strings.Contains(reasons(err), "started through the other path")
}
