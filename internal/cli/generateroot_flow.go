package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/quorate/quorate/internal/secret"
)

// approve gives shares: one where it is said for which attempt or where it comes from a pipe, else the whole way.
func (g *rootGeneration) approve(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && g.nonce == "":
		return localf("a share from standard input needs -nonce: the nonce of the attempt that it is for")
	case len(args) == 1 || g.nonce != "" || g.conn.curl:
		return g.approveOnce(ctx, args)
	}
	tty, err := g.terminal(&g.conn)
	if err != nil {
		return &failure{code: exitLocal, action: "asking for key shares", err: err, hint: "to give one share from standard input: -nonce=NONCE and - as the argument"}
	}
	return g.wholeWay(ctx, tty)
}

// approveOnce gives one share to the attempt of that nonce, as the stock command does.
func (g *rootGeneration) approveOnce(ctx context.Context, args []string) error {
	if !g.conn.curl {
		if err := g.announce(ctx); err != nil {
			return err
		}
	}
	share, err := g.takeShare(ctx, &g.conn, args, "key share (will be hidden): ")
	if err != nil {
		return err
	}
	defer share.Wipe()
	st, err := g.update(ctx, share)
	if err != nil {
		err = asking("giving the key share", err)
		if f := (*failure)(nil); g.idle && errors.As(err, &f) && answered(err) == http.StatusBadRequest {
			f.code = exitLocal // as when there is no attempt to give a share to
		}
		return err
	}
	if err := g.show(st); err != nil {
		return unprinted(err, g.taken(st))
	}
	switch {
	case st.Complete && st.PGPFingerprint != "":
		g.say("the token's owner %s", decryptHint)
	case st.Complete:
		g.say("whoever holds the OTP decodes the token with: quorate operator generate-root -decode=ENCODED")
	}
	return nil
}

// decryptHint follows the name of whoever has the private key.
const decryptHint = "decrypts it with: base64 -d | gpg --decrypt"

// taken says what became of a share whose answer could not be written.
func (g *rootGeneration) taken(st *rootStatus) string {
	if st.Complete {
		return "the result is not lost: the last share brings it again: quorate operator generate-root -nonce=" + g.nonce
	}
	return "the share was accepted: quorate operator generate-root -status shows the progress"
}

// announce tells which attempt a share is asked for, and refuses another one than was meant.
func (g *rootGeneration) announce(ctx context.Context) error {
	st, err := g.readStatus(ctx)
	switch {
	case err != nil:
		return asking("reading the status of the root generation", err)
	case !st.Started:
		// The server still knows an attempt that has just completed: whoever completed it may have lost the reply,
		// and gets it again by the same share.
		g.idle = true
		g.say("no root generation is in progress: start one with -init, or give the share that completed this one to get its result again")
	case st.Nonce != g.nonce:
		return nonceChanged(g.nonce, st.Nonce)
	default:
		g.say("operation nonce: %s", st.Nonce)
	}
	return nil
}

// update gives a share to the attempt of g.nonce.
func (g *rootGeneration) update(ctx context.Context, share secret.Bytes) (*rootStatus, error) {
	body := g.shareBody(&g.conn, share, map[string]any{"nonce": g.nonce})
	defer clear(body)
	st := &rootStatus{}
	return st, call(ctx, g.open, http.MethodPut, updatePath, body, st)
}

// nonceChanged stops a holder who would approve something else than they mean to.
func nonceChanged(meant, found string) error {
	return &failure{
		code: exitLocal, err: fmt.Errorf("this is another attempt: you mean %s, in progress is %s", meant, found),
		hint: "ask whoever started it what happened before you give a share; none was sent",
	}
}

// flow is the whole way at one terminal. The attempt's nonce, g.nonce, is fixed at its beginning.
type flow struct {
	*rootGeneration
	tty    terminal
	st     *rootStatus
	otp    []byte // of an attempt that we started; it may be needed elsewhere if another holder gives the last share
	unsure bool   // the last share got no answer: it may have been the one that completed the attempt
	doubt  bool   // otp is what somebody says, not what the attempt was started with: it may not fit
}

func (g *rootGeneration) wholeWay(ctx context.Context, tty terminal) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	// Whoever pastes several shares at once is ahead of the prompts, where they would show.
	loud, err := tty.Hush()
	if err != nil {
		return &failure{code: exitLocal, action: "switching off the terminal's echo", err: err}
	}
	defer func() {
		if loud() != nil {
			g.say("warning: the terminal could not be set back: stty sane does it")
		}
	}()
	f := &flow{rootGeneration: g, tty: tty}
	defer func() { clear(f.otp) }()
	if err := f.begin(ctx); err != nil {
		return err
	}
	for empty := false; ; {
		done, err := f.step(ctx)
		again := empty
		empty = errors.Is(err, errNothingGiven)
		switch {
		case empty && !again && ctx.Err() == nil: // a pasted line may have ended twice
			f.say("nothing was given; another empty line stops")
		case errors.Is(err, errNotAShare), errors.Is(err, errLongLine):
			f.say("not sent: %v", err)
		case errors.Is(err, errUnreachable) && ctx.Err() == nil:
			f.say("%v", err)
		case done: // also when Ctrl-C came too late
			return f.finish(ctx)
		case ctx.Err() != nil || errors.Is(err, errInterrupted) || errors.Is(err, io.EOF) || errors.Is(err, errNothingGiven):
			return f.stopped()
		case err != nil:
			f.showOTP("in case the attempt " + f.nonce + " goes on or was completed, its token is decoded with this OTP: ")
			return err
		}
	}
}

// begin joins the attempt in progress, or starts one.
func (f *flow) begin(ctx context.Context) (err error) {
	if f.st, err = f.readStatus(ctx); err != nil {
		return asking("reading the status of the root generation", err)
	}
	if f.st.Started {
		if len(f.pgpKey) > 0 || f.holder {
			return localf("a root generation is in progress already: to change its recipient, cancel it first")
		}
		f.nonce, f.otp, f.doubt = f.st.Nonce, []byte(f.rootGeneration.otp), true
		f.say("a root generation is in progress: %s", f.describe())
		f.say("operation nonce: %s (compare it with what you were told by whoever started it)", f.nonce)
		return nil
	}
	body, err := f.authorised(ctx, nil, "start", f.recipient())
	if err != nil {
		return err
	}
	defer clear(body)
	if f.st, err = f.start(ctx, body); err != nil {
		return f.notStarted(err)
	}
	f.nonce = f.st.Nonce
	if f.otp = []byte(f.st.OTP); len(f.otp) == 0 {
		f.otp = []byte(f.rootGeneration.otp)
	}
	f.say("root generation started: %s", f.describe())
	f.say("operation nonce: %s", f.nonce)
	f.say("holders elsewhere give their shares with: quorate operator generate-root -nonce=%s", f.nonce)
	return nil
}

func (f *flow) describe() string {
	text := fmt.Sprintf("%d of %d key shares given", f.st.Progress, f.st.Required)
	if f.st.PGPFingerprint != "" {
		text += ", the token will be encrypted to the OpenPGP key " + f.st.PGPFingerprint
	}
	return text
}

// step asks for one share and gives it. A refusal is told and is no error, as long as the attempt goes on.
func (f *flow) step(ctx context.Context) (done bool, err error) {
	prompt := fmt.Sprintf("key share %d of %d (will be hidden; empty to stop): ", f.st.Progress+1, f.st.Required)
	share, err := askShare(ctx, f.tty, prompt)
	if err != nil {
		return false, err
	}
	defer share.Wipe()
	// A share that may have completed the attempt is sent again without looking: the server answers it by the nonce.
	if !f.unsure {
		if err := f.check(ctx); err != nil {
			return false, err
		}
	}
	st, err := f.update(ctx, share)
	if err != nil {
		return false, f.refused(ctx, err)
	}
	f.unsure = false
	f.st = st
	f.say("accepted: %s", f.describe())
	return st.Complete, nil
}

// check reads the status again and refuses to go on when it is no longer the attempt that this flow began with.
func (f *flow) check(ctx context.Context) error {
	st, err := f.readStatus(ctx)
	switch {
	case unanswered(err):
		return fmt.Errorf("%w: %s", errUnreachable, reasons(err))
	case err != nil:
		return asking("reading the status of the root generation", err)
	case !st.Started:
		return localf("the attempt %s has ended: completed by a share given elsewhere, cancelled, or expired", f.nonce)
	case st.Nonce != f.nonce:
		return nonceChanged(f.nonce, st.Nonce)
	}
	f.st = st
	return nil
}

// errUnreachable says that nothing is known about the attempt for now. It is told, and asking goes on.
var errUnreachable = errors.New("the server can't be asked now (give the share again later, or nothing to stop)")

// unanswered reports whether a request failed in a way that leaves open what it did. 503 is an answer: sealed.
func unanswered(err error) bool {
	status := answered(err)
	return err != nil && (status == 0 || status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable)
}

// refused tells why a share wasn't taken, and whether the attempt goes on.
func (f *flow) refused(ctx context.Context, err error) error {
	f.unsure = unanswered(err)
	if ctx.Err() != nil {
		return err
	}
	if f.unsure {
		f.say("no answer to that share (%s): give the same one again, it counts once", reasons(err))
		return nil
	}
	if answered(err) == http.StatusServiceUnavailable || otherFamily(err) {
		return asking("giving the key share", err)
	}
	f.say("refused: %s", reasons(err))
	if err := f.check(ctx); err != nil {
		return err
	}
	f.say("the attempt goes on: %s", f.describe())
	return nil
}

// otherFamily reports whether the server refused a share because the attempt was started through sys/root-generation:
// nothing in the status tells before, and no share given here will be taken.
func otherFamily(err error) bool {
	return answered(err) == http.StatusBadRequest && strings.Contains(reasons(err), "started through the other path")
}

// finish prints the token, if there is an OTP that fits; else what the server sent.
func (f *flow) finish(ctx context.Context) error {
	if f.st.PGPFingerprint != "" {
		f.say("root token generated; its owner %s", decryptHint)
		return unprinted(f.show(f.st), f.taken(f.st))
	}
	for shown := false; ; {
		if len(f.otp) == 0 {
			if !shown { // whoever closes this terminal now doesn't lose it
				f.say("the encoded token (of no use without its OTP): %s", printable(f.st.encoded()))
				shown = true
			}
			var err error
			f.otp, err = f.tty.Secret(ctx, "OTP of whoever started the attempt (will be hidden; empty to print the encoded token): ")
			if err != nil || len(f.otp) == 0 {
				f.say("root token generated; decode it with: quorate operator generate-root -decode=ENCODED")
				return unprinted(f.show(f.st), f.taken(f.st))
			}
		}
		token, err := decode([]byte(f.st.encoded()), f.otp)
		if err == nil && f.doubt {
			err = f.prove(ctx, token)
		}
		if err == nil {
			f.say("root token generated")
			return f.deliver(token)
		}
		clear(token)
		f.say("that OTP doesn't fit: %v", err)
		clear(f.otp)
		f.otp, f.doubt = nil, true
	}
}

// prove asks the server whether token is one: an OTP with a typing error decodes to something that looks like it. Only
// a refusal counts; a server that can't tell now takes nothing from a token that can't be had a second time.
func (f *flow) prove(ctx context.Context, token []byte) error {
	client, err := f.conn.client(string(token))
	if err == nil {
		err = call(ctx, client, http.MethodGet, "auth/token/lookup-self", nil, nil)
	}
	switch status := answered(err); {
	case status == http.StatusForbidden:
		return errors.New("the server doesn't know what it decodes to")
	case err != nil:
		f.say("warning: whether the token is good can't be told now: %s", reasons(err))
	}
	return nil
}

// deliver prints the token and wipes it. Nobody else has it, so where that fails, it is shown at the terminal.
func (f *flow) deliver(token []byte) error {
	defer clear(token)
	err := f.printToken(token)
	if !errors.Is(err, errNotWritten) {
		return err
	}
	if f.tty.Show("the new root token: "+string(token)) != nil {
		return unprinted(err, "the token is lost: generate another one")
	}
	return unprinted(err, "the token is shown at the terminal instead")
}

// stopped explains how to go on, or not to.
func (f *flow) stopped() error {
	f.say("stopped; the attempt stays open: %s", f.describe())
	f.say("operation nonce: %s", f.nonce)
	if f.unsure {
		f.say("the last share may have counted; if it completed the attempt, it brings the result again: quorate operator generate-root -nonce=%s", f.nonce)
	}
	f.say("to go on: quorate operator generate-root")
	f.say("to end it: %s", f.cancelCommand())
	f.showOTP("keep the OTP, without it the new token can't be decoded: ")
	return silent(exitLocal)
}

// showOTP shows the OTP of an attempt that we started, at the terminal only.
func (f *flow) showOTP(text string) {
	if len(f.otp) > 0 {
		f.tty.Show(text + string(f.otp))
	}
}
