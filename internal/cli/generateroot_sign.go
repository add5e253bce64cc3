package cli

import (
	"context"
	"errors"
)

// Approval by signature in generate-root: the same as ceremony approve, with the answers of the stock command.

func (g *rootGeneration) newBallot() *ceremonies {
	return &ceremonies{operation: g.operation, confirmation: g.confirmation}
}

// giveSignature approves the attempt of g.nonce with one share, which is not sent. A status that comes with an error is
// one to show all the same.
func (g *rootGeneration) giveSignature(ctx context.Context, args []string) (*rootStatus, error) {
	c := g.newBallot()
	if !isUUID(g.nonce) {
		return nil, localf("-sign needs the -nonce of an attempt, as quorate ceremony status shows it")
	}
	body, err := c.decide(ctx, g.nonce, args)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	info, err := c.sendApproval(ctx, g.nonce, body)
	if info == nil {
		info, err = c.recorded(ctx, g.nonce, err)
	}
	if info == nil {
		return nil, err
	}
	return info.rootStatus(), err
}

// agree shows the attempt that the flow began with, and asks once for all who sign here.
func (f *flow) agree(ctx context.Context) (err error) {
	f.ballot = f.newBallot()
	if f.agreed, err = f.ballot.review(ctx, f.nonce, stateOpen); err == nil {
		err = f.ballot.confirm(ctx, "approve", f.agreed)
	}
	if err != nil {
		f.say("the attempt stays open; to end it: %s", f.cancelCommand())
		f.showOTP("in case it goes on, its token is decoded with this OTP: ")
	}
	return err
}

// payload is what approves with one share: the share, or a signature of what was agreed on. The caller wipes it.
func (f *flow) payload(ctx context.Context, given givenShare) ([]byte, error) {
	if !f.sign {
		if given.armour != nil {
			if err := f.sameCluster(ctx, given.armour); err != nil {
				return nil, err
			}
		}
		return f.shareBody(given.text, map[string]any{"nonce": f.nonce}), nil
	}
	need := f.ballot.approval(ctx, f.agreed)
	if f.unsure { // it may be complete, and the answer is had again by the same approval
		need.recheck = nil
	}
	body, err := f.ballot.credentialOf(ctx, given, need)
	if failed := (*failure)(nil); errors.As(err, &failed) && failed.code == exitLocal {
		err = unsent{err}
	}
	return body, err
}

func (f *flow) send(ctx context.Context, body []byte) (done bool, err error) {
	var st *rootStatus
	if f.sign {
		st, err = f.approved(ctx, body)
	} else {
		st, err = f.sendUpdate(ctx, body)
	}
	if err != nil {
		return false, err
	}
	f.st = st
	return st.Complete, nil
}

func (f *flow) approved(ctx context.Context, body []byte) (*rootStatus, error) {
	info, err := f.ballot.sendApproval(ctx, f.nonce, body)
	if info == nil {
		return nil, err
	}
	if err != nil { // the transcript or the answer is not what it should be, but the token is not lost
		f.say("warning: %s", reasons(err))
	}
	return info.rootStatus(), nil
}
