package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/quorate/quorate/internal/ceremony"
)

// approveOnce gives one share to the attempt of that nonce, as the stock command does.
func (g *rootGeneration) approveOnce(ctx context.Context, args []string) error {
	if !g.conn.curl {
		if err := g.announce(ctx); err != nil {
			return err
		}
	}
	give := g.giveShare
	if g.sign {
		give = g.giveSignature
	}
	st, wrong := give(ctx, args)
	if st == nil {
		return g.refusedIdle(wrong)
	}
	if err := errors.Join(unprinted(g.show(st), g.taken(st)), wrong); err != nil {
		return err
	}
	switch {
	case st.Complete && st.PGPFingerprint != "":
		g.say("the token's owner %s", decryptHint)
	case st.Complete:
		g.say("whoever holds the OTP decodes the token with: quorate operator generate-root -decode=ENCODED")
	}
	return nil
}

// giveShare sends one share.
func (g *rootGeneration) giveShare(ctx context.Context, args []string) (*rootStatus, error) {
	body, err := g.sharePayload(ctx, args, "key share (will be hidden): ", map[string]any{"nonce": g.nonce})
	if err != nil {
		return nil, err
	}
	defer clear(body)
	st, err := g.sendUpdate(ctx, body)
	if err != nil {
		return nil, asking("giving the key share", err)
	}
	return st, nil
}

func (g *rootGeneration) sendUpdate(ctx context.Context, body []byte) (*rootStatus, error) {
	return g.ask(ctx, g.open, http.MethodPut, updatePath, body)
}

// What follows the name of whoever has the private key.
const (
	decryptHint = "decrypts it with: base64 -d | gpg --decrypt"
	ageHint     = "decrypts it with: base64 -d | age --decrypt -i KEYFILE"
)

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

// flow is the whole way at one terminal. The attempt's nonce, g.nonce, is fixed at its beginning.
type flow struct {
	*rootGeneration
	*round
	st     *rootStatus
	otp    []byte            // of an attempt that we started; it may be needed elsewhere if another holder gives the last share
	doubt  bool              // otp is what somebody says, not what the attempt was started with: it may not fit
	ballot *ceremonies       // with -sign
	agreed *ceremony.Attempt // with -sign: what was shown and confirmed
}

func (g *rootGeneration) wholeWay(ctx context.Context, r *round) error {
	f := &flow{rootGeneration: g, round: r}
	defer func() { clear(f.otp) }()
	err := f.begin(ctx)
	if err == nil && f.sign {
		err = f.agree(ctx)
	}
	if err != nil {
		return err
	}
	switch err = f.turn(ctx, f); {
	case err == nil:
		return f.finish(ctx)
	case errors.Is(err, errStopped):
		return f.stopped()
	}
	f.showOTP("in case the attempt " + f.nonce + " goes on or was completed, its token is decoded with this OTP: ")
	return err
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
		return f.refusedStart(err)
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
		text += ", the token will be encrypted to the OpenPGP key " + visible(f.st.PGPFingerprint, "")
	}
	return text
}

func (f *flow) prompt() string {
	return fmt.Sprintf("key share %d of %d (will be hidden; empty to stop): ", f.st.Progress+1, f.st.Required)
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
			f.otp, err = f.tty.Secret(ctx, "OTP of the attempt (will be hidden; empty to print the encoded token): ")
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
		err = call(ctx, client, http.MethodGet, "auth/token/lookup-self", nil, &struct{}{})
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
	err := f.printBare("token", token)
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
