package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// confirmation is how somebody who has seen the digest elsewhere confirms without a terminal.
type confirmation struct{ words, digest string }

func (f *confirmation) flags(fs *flag.FlagSet, what string) {
	fs.StringVar(&f.words, "words", "", "the eight `WORDS` of the digest of what you "+what+", instead of being asked")
	fs.StringVar(&f.digest, "digest", "", "the digest, as `HEX`, of what you "+what+", instead of being asked")
}

func (f *confirmation) given() bool { return f.words != "" || f.digest != "" }

func (c *ceremonies) approvalFlags(fs *flag.FlagSet) {
	c.confirmation.flags(fs, "approve")
	fs.BoolVar(&c.sendShare, "send-share", false, "send the share itself, for servers and habits that know nothing else")
}

func (c *ceremonies) cancelFlags(fs *flag.FlagSet) {
	c.confirmation.flags(fs, "cancel")
	c.holderFlags(fs, "cancel")
}

func (c *ceremonies) holderFlags(fs *flag.FlagSet, verb string) {
	c.holderFlag(fs, verb)
	fs.BoolVar(&c.sendShare, "send-share", false, "with -holder: send the share itself instead of a signature")
}

// approve is the way from looking at a ceremony to signing exactly what was looked at.
func (c *ceremonies) approve(ctx context.Context, args []string) error {
	nonce, rest, _, err := c.target(ctx, args, stateOpen)
	if err != nil {
		return err
	}
	body, err := c.decide(ctx, nonce, rest)
	if err != nil {
		return err
	}
	defer clear(body)
	info, err := c.sendApproval(ctx, nonce, body)
	if info == nil {
		if info, err = c.recorded(ctx, nonce, err); err != nil {
			return err
		}
	}
	c.armour(ctx, info)
	return c.conclude(info, err, "the approval counted: quorate ceremony status "+nonce+" shows it, quorate ceremony result "+nonce+" what came of it")
}

// decide shows an open ceremony, asks, and makes the credential that approves it.
func (c *ceremonies) decide(ctx context.Context, nonce string, rest []string) ([]byte, error) {
	if c.printsRequest() {
		return c.credential(ctx, rest, "", consent{})
	}
	a, err := c.review(ctx, nonce, stateOpen)
	if err != nil {
		return nil, err
	}
	if err := c.confirm(ctx, "approve", a); err != nil {
		return nil, err
	}
	return c.credential(ctx, rest, "key share to approve with (will be hidden): ", c.approval(ctx, a))
}

// approval is the consent to what a says, and to nothing that has taken its place.
func (c *ceremonies) approval(ctx context.Context, a *ceremony.Attempt) consent {
	need := consent{
		clusterID: a.ClusterID, generation: a.Generation, threshold: a.Threshold,
		statement: func(slot int, _ time.Time) holder.Statement { return a.Statement(slot, holder.ModeSignature) },
		recheck:   func() error { return c.unchanged(ctx, a) },
	}
	if a.Kind == ceremony.Drill { // which all take part in
		need.threshold = 0
	}
	return need
}

// review reads a ceremony in the state wanted, checks it and shows it to whoever decides.
func (c *ceremonies) review(ctx context.Context, nonce, state string) (*ceremony.Attempt, error) {
	info, err := c.fetch(ctx, nonce)
	if err != nil {
		return nil, err
	}
	a, err := c.signable(info, state)
	if err != nil {
		return nil, err
	}
	return a, c.display(info.text(a))
}

// signable is what there is to sign in a ceremony in the state wanted.
func (c *ceremonies) signable(info *ceremonyInfo, state string) (*ceremony.Attempt, error) {
	a, err := info.attempt()
	switch {
	case err != nil:
		return nil, err
	case info.State == stateComplete:
		f := localf("the ceremony %s is complete already", info.Nonce)
		f.hint = "what came of it, as long as it is kept: quorate ceremony result " + info.Nonce + " (a key holder adds -holder)"
		return nil, f
	case info.State != state:
		return nil, localf("the ceremony %s is not %s but %s", info.Nonce, state, visible(info.State, ""))
	case state == stateOpen && !time.Now().Before(info.Expires):
		return nil, localf("the ceremony %s has expired by this machine's clock, at %s", info.Nonce, timeText(info.Expires))
	}
	return a, nil
}

// present shows a ceremony to whoever decides, and asks where it is not known that they mean this one.
func (c *ceremonies) present(ctx context.Context, verb string, info *ceremonyInfo, a *ceremony.Attempt, chosen bool) error {
	err := c.display(info.text(a))
	if err == nil && (chosen || c.confirmation.given()) {
		err = c.confirm(ctx, verb, a)
	}
	return err
}

// display shows what is decided on where the one who is asked sees it, whatever standard error is.
func (c *ceremonies) display(text string) error {
	if tty, err := c.terminal("", ""); err == nil && !c.confirmation.given() {
		return tty.Show(strings.TrimSuffix(text, "\n"))
	}
	_, err := fmt.Fprint(c.stderr, text)
	return err
}

// confirm asks whether a is what is meant, or compares it with what the flags say.
func (c *ceremonies) confirm(ctx context.Context, verb string, a *ceremony.Attempt) error {
	meant := func(given, shown string) error {
		return &failure{
			code: exitLocal, err: fmt.Errorf("this is another ceremony than you mean: you gave %s, what is shown has %s", given, shown),
			hint: "nothing was signed and no share was sent: ask whoever started it",
		}
	}
	if words := strings.Join(a.Digest.Words(), " "); c.words != "" && strings.Join(strings.Fields(strings.ToLower(c.words)), " ") != words {
		return meant("other words", "the words "+words)
	}
	if text := a.Digest.Hex(); c.digest != "" && strings.ToLower(c.digest) != text {
		return meant("another digest", "the digest "+text)
	}
	if c.confirmation.given() {
		return nil
	}
	tty, err := c.terminal("asking whether to "+verb, "to confirm without a terminal: -words with the eight words, or -digest")
	if err != nil {
		return err
	}
	answer, err := tty.Secret(ctx, verb+"? yes/no (compare the words; the answer is hidden): ")
	if err != nil {
		return stuck("asking whether to "+verb, err)
	}
	if strings.ToLower(strings.TrimSpace(string(answer))) != "yes" {
		clear(answer) // it may be a share, given too early
		return localf("not confirmed: nothing was signed and no share was sent")
	}
	return nil
}

// unchanged reads the ceremony again just before something is signed.
func (c *ceremonies) unchanged(ctx context.Context, a *ceremony.Attempt) error {
	info, err := c.fetch(ctx, a.Nonce)
	if err != nil {
		return err
	}
	now, err := info.attempt()
	if err != nil {
		return err
	}
	if now.Digest != a.Digest {
		return contradiction("the ceremony changed while you looked at it: its digest was %s (%s), and now is %s (%s)",
			a.Digest.Hex(), strings.Join(a.Digest.Words(), " "), now.Digest.Hex(), strings.Join(now.Digest.Words(), " "))
	}
	_, err = c.signable(info, stateOpen)
	return err
}

// consent is what a holder's key is needed for.
type consent struct {
	clusterID  string
	generation uint64
	threshold  int            // of the generation, as the server says; 0: it doesn't say
	pending    bool           // the generation must be one that isn't in force yet
	timed      bool           // at is sent along as signed_at
	fields     map[string]any // sent along; may be nil

	statement func(slot int, at time.Time) holder.Statement // what is signed, and when
	recheck   func() error                                  // called when all is there, before anything is signed or sent; may be nil
}

// credential takes a share and makes the body that says so: with a signature by its holder, or, if that was asked for,
// with the share itself. The caller wipes it.
func (c *ceremonies) credential(ctx context.Context, args []string, prompt string, need consent) ([]byte, error) {
	if c.conn.policy {
		return nil, nil // nothing will be sent
	}
	given, err := c.takeGiven(ctx, args, prompt)
	if err != nil {
		return nil, err
	}
	defer given.text.Wipe()
	return c.credentialOf(ctx, given, need)
}

func (c *ceremonies) credentialOf(ctx context.Context, given givenShare, need consent) ([]byte, error) {
	fields := map[string]any{}
	maps.Copy(fields, need.fields)
	if c.conn.curl {
		if c.sendShare {
			return c.shareBody(given.text, fields), nil
		}
		if need.timed {
			fields["signed_at"] = "<the time of signing>"
		}
		return c.curlBody(`"slot":<slot>,"signature":"<signature>"`, fields), nil
	}
	key, slot, err := c.seat(ctx, given, need)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	c.slot = slot
	if need.recheck != nil {
		if err := need.recheck(); err != nil {
			return nil, err
		}
	}
	if c.sendShare {
		return c.shareBody(given.text, fields), nil
	}
	at := time.Now().UTC().Truncate(time.Millisecond) // now that the share is there: fetching it may have taken long
	if need.timed {
		fields["signed_at"] = timeText(at)
	}
	signature := key.Sign(need.statement(slot, at))
	fields["slot"], fields["signature"] = slot, base64.StdEncoding.EncodeToString(signature)
	return jsonBody(fields), nil
}

// seat finds whose share was given, by its armour and by the server's table of holders, and derives the holder's key.
// A share that isn't of the cluster and generation needed gets nowhere. The caller wipes the key.
func (c *ceremonies) seat(ctx context.Context, given givenShare, need consent) (*holder.Key, int, error) {
	if err := given.fits(need); err != nil {
		return nil, 0, err
	}
	raw, err := holder.ParseShare(given.text.Reveal())
	if err != nil {
		return nil, 0, localf("%w", errNotAShare)
	}
	defer raw.Wipe()
	table, err := readShareTable(ctx, c.open)
	if err != nil {
		return nil, 0, asking("reading the table of holders", err)
	}
	if table.ClusterID != need.clusterID {
		return nil, 0, contradiction("the ceremony is of cluster %s, but the table of holders is of %s", need.clusterID, visible(table.ClusterID, ""))
	}
	slot, err := table.slotOf(raw, need.generation)
	if err != nil {
		return nil, 0, err
	}
	if state := table.state(need.generation); need.pending && state != genPending {
		return nil, 0, contradiction("generation %d waits for its holders by the ceremony, but is %s by the table of holders", need.generation, visible(state, ""))
	}
	if given.armour != nil && given.armour.Slot != slot {
		return nil, 0, contradiction("the share says that it is of slot %d, the table of holders that it is of slot %d", given.armour.Slot, slot)
	}
	return holder.Derive(raw, need.clusterID, need.generation), slot, nil
}

// fits holds what the armour says against what is needed.
func (g *givenShare) fits(need consent) error {
	a := g.armour
	switch {
	case a == nil:
		return nil
	case a.ClusterID != need.clusterID:
		return localf("this share belongs to another cluster: its armour names %s, the ceremony is of %s", a.ClusterID, need.clusterID)
	case a.Generation != need.generation:
		return localf("this share is of generation %d, and generation %d is needed: use the share that you were given last", a.Generation, need.generation)
	case need.threshold > 0 && a.Threshold != need.threshold:
		return contradiction("the share says that its generation has the threshold %d, the ceremony that it is %d", a.Threshold, need.threshold)
	}
	return nil
}

// slotOf is the slot that a share has in one generation. The error names the generation that it is of instead.
func (t *shareTable) slotOf(raw secret.Bytes, generation uint64) (int, error) {
	g, h := t.find(raw)
	switch {
	case g == nil:
		return 0, &failure{
			code: exitLocal, err: errors.New("this share is of no holder that the server knows: it is of another cluster or has a typing error"),
			hint: "it was not sent; quorate share check tells more",
		}
	case g.Generation != generation:
		return 0, localf("this share is of generation %d (%s), and generation %d is needed: use the share that you were given last",
			g.Generation, visible(g.State, ""), generation)
	}
	return h.Slot, nil
}

// sendApproval gives a credential to a ceremony.
func (c *ceremonies) sendApproval(ctx context.Context, nonce string, body []byte) (*ceremonyInfo, error) {
	return c.credit(ctx, nonce, "/approve", "approving the ceremony", body)
}

// credit gives a credential to a ceremony. An answer that comes with an error is one to show all the same.
func (c *ceremonies) credit(ctx context.Context, nonce, verb, action string, body []byte) (*ceremonyInfo, error) {
	info, err := c.post(ctx, c.open, "/"+nonce+verb, action, body)
	if err != nil {
		return nil, err
	}
	return info, c.same(ctx, nonce, info)
}

// recorded is the ceremony in which our approval counts already, if that is why it was refused: an earlier answer was
// lost. Otherwise it is the refusal.
func (c *ceremonies) recorded(ctx context.Context, nonce string, refusal error) (*ceremonyInfo, error) {
	if answered(refusal) != http.StatusBadRequest || !strings.Contains(refusal.Error(), "already been provided") {
		return nil, refusal
	}
	info, err := c.fetch(ctx, nonce)
	if err != nil || !slices.ContainsFunc(info.Approvals, func(act ceremonyAct) bool { return act.Slot == c.slot }) {
		return nil, refusal
	}
	c.say("your approval is recorded")
	return info, nil
}

// post sends a request about a ceremony once, and tells the warnings in the answer.
func (c *ceremonies) post(ctx context.Context, client *api.Client, path, action string, body []byte) (*ceremonyInfo, error) {
	info := &ceremonyInfo{}
	warnings, err := callEnveloped(once(ctx), client, http.MethodPost, ceremoniesPath+path, body, info)
	if err != nil {
		nonce, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		return nil, doubtful(asking(action, err), strings.TrimSpace("quorate ceremony status "+nonce))
	}
	c.warn(warnings)
	return info, nil
}

// doubtful says how to look where an answer was lost. A connection that was never made carried no request.
func doubtful(err error, look string) error {
	var f *failure
	var op *net.OpError
	if unanswered(err) && errors.As(err, &f) && !(errors.As(err, &op) && op.Op == "dial") {
		f.hint = "it may have happened all the same; to look: " + look
	}
	return err
}

// armour puts new shares that came in clear into their armour, which is how their holders should get them.
func (c *ceremonies) armour(ctx context.Context, info *ceremonyInfo) {
	info.KeysArmoured = nil
	if len(info.KeysBase64) == 0 || info.encrypted() {
		return
	}
	info.KeysArmoured, _ = c.armourNew(ctx, info.KeysBase64)
}

// conclude prints an answer that came for something that has been done, and then what is wrong with it.
func (c *ceremonies) conclude(info *ceremonyInfo, wrong error, hint string) error {
	err := unprinted(c.show(info), hint)
	if err == nil && info.State == stateComplete {
		c.say("the ceremony is complete")
	}
	return sent(errors.Join(err, wrong))
}

// verify proves that a holder of the next generation has the new share.
func (c *ceremonies) verify(ctx context.Context, args []string) error {
	nonce, rest, chosen, err := c.target(ctx, args, stateVerifying)
	if err != nil {
		return err
	}
	need, err := c.possession(ctx, nonce, chosen)
	if err != nil {
		return err
	}
	body, err := c.credential(ctx, rest, "new key share (will be hidden): ", need)
	if err != nil {
		return err
	}
	defer clear(body)
	info, err := c.credit(ctx, nonce, "/verify", "verifying the new share", body)
	if info == nil {
		return err
	}
	return c.conclude(info, err, "the proof counted: quorate ceremony status "+nonce+" shows it")
}

// possession is what the holder of a new share signs to show that they have it.
func (c *ceremonies) possession(ctx context.Context, nonce string, chosen bool) (consent, error) {
	if c.printsRequest() {
		return consent{}, nil
	}
	info, err := c.fetch(ctx, nonce)
	if err != nil {
		return consent{}, err
	}
	a, err := c.signable(info, stateVerifying)
	if err != nil {
		return consent{}, err
	}
	v := info.Verification
	switch {
	case v == nil || v.Generation <= info.Generation:
		return consent{}, contradiction("the ceremony waits for new holders, but doesn't tell of which generation")
	case !isUUID(v.Nonce):
		return consent{}, contradiction("the verification has no well-formed nonce")
	}
	if err := c.present(ctx, "prove your new share", info, a, chosen); err != nil {
		return consent{}, err
	}
	return consent{
		clusterID: info.ClusterID, generation: v.Generation, pending: true,
		statement: func(slot int, _ time.Time) holder.Statement {
			return ceremony.ProveStatement(info.ClusterID, v.Generation, slot, holder.ModeSignature, v.Nonce)
		},
	}, nil
}

// cancel ends a ceremony, or objects to it.
func (c *ceremonies) cancel(ctx context.Context, args []string) error {
	nonce, rest, chosen, err := c.target(ctx, args, stateOpen, stateVerifying)
	if err != nil {
		return err
	}
	if len(rest) > 0 && !c.holder {
		return localf("a share from standard input is for -holder")
	}
	var body []byte
	if c.holder || chosen || c.confirmation.given() {
		if body, err = c.objection(ctx, nonce, rest, chosen); err != nil {
			return err
		}
		defer clear(body)
	}
	info, err := c.post(ctx, c.asserting(), "/"+nonce+"/cancel", "cancelling the ceremony", body)
	switch {
	case errors.Is(err, errNoContent):
		c.say("the ceremony %s is cancelled", nonce)
		return nil
	case err != nil:
		return c.needAuthority(err)
	}
	return sent(errors.Join(c.show(info), c.same(ctx, nonce, info), silent(exitServer)))
}

// objection shows what is to be cancelled where that isn't known by its nonce alone, and with -holder makes the
// credential, over what is shown.
func (c *ceremonies) objection(ctx context.Context, nonce string, rest []string, chosen bool) ([]byte, error) {
	if c.printsRequest() {
		return c.credential(ctx, rest, "", consent{})
	}
	info, err := c.fetch(ctx, nonce)
	if err != nil {
		return nil, err
	}
	a, err := info.attempt()
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{stateOpen, stateVerifying}, info.State) {
		return nil, &failure{code: exitServer, action: "cancelling the ceremony", err: fmt.Errorf("the ceremony is over: %s", visible(info.State, ""))}
	}
	if err := c.present(ctx, "cancel", info, a, chosen); err != nil {
		return nil, err
	}
	if !c.holder {
		return nil, nil
	}
	return c.credential(ctx, rest, "key share of a holder, to cancel with (will be hidden): ", consent{
		clusterID: a.ClusterID, generation: a.Generation,
		statement: func(slot int, _ time.Time) holder.Statement { return a.CancelStatement(slot, holder.ModeSignature) },
	})
}
