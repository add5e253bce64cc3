package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
)

// ceremonyInfo is a ceremony as the server tells it. Nothing in it is believed but what attempt has checked.
type ceremonyInfo struct {
	Nonce         string                `json:"nonce"`
	Kind          ceremony.Kind         `json:"kind"`
	State         string                `json:"state"`
	ClusterID     string                `json:"cluster_id"`
	Generation    uint64                `json:"generation"`
	Threshold     int                   `json:"threshold"`
	Holders       int                   `json:"holders"`
	Parameters    []ceremony.Parameter  `json:"parameters"`
	Recipient     string                `json:"recipient"`
	RecipientKey  string                `json:"recipient_key,omitempty"`
	RecipientKeys []string              `json:"recipient_keys,omitempty"`
	Reason        string                `json:"reason"`
	Initiator     ceremony.Initiator    `json:"initiator"`
	Started       time.Time             `json:"started"`
	Expires       time.Time             `json:"expires"`
	UnapprovedMS  int64                 `json:"unapproved_ms"` // how long it waits for the first approval, and for each other
	IdleMS        int64                 `json:"idle_ms"`
	Deadline      time.Time             `json:"deadline,omitzero"`
	Digest        string                `json:"digest"`
	Words         []string              `json:"words,omitempty"` // ours: of the digest that attempt computes
	Approvals     []ceremonyAct         `json:"approvals"`
	Objections    []ceremonyAct         `json:"objections,omitempty"`
	Progress      int                   `json:"progress"`
	Required      int                   `json:"required"`
	Verification  *ceremonyVerification `json:"verification,omitempty"`
	OTP           string                `json:"otp,omitempty"`
	OTPLength     int                   `json:"otp_length,omitempty"`
	EncodedToken  string                `json:"encoded_token,omitempty"`
	Keys          []string              `json:"keys,omitempty"`
	KeysBase64    []string              `json:"keys_base64,omitempty"`
	KeysArmoured  []string              `json:"keys_armoured,omitempty"` // ours: of keys that aren't encrypted
	ResultExpires time.Time             `json:"result_expires,omitzero"`
	Checkpoint    string                `json:"checkpoint,omitempty"`
}

// ceremonyAct is what one holder did.
type ceremonyAct struct {
	Slot  int       `json:"slot"`
	Label string    `json:"label,omitempty"`
	Mode  string    `json:"mode,omitempty"`
	At    time.Time `json:"at,omitzero"`
}

// ceremonyVerification is how far the holders of a new generation have proved their shares.
type ceremonyVerification struct {
	Nonce      string        `json:"nonce"`
	Generation uint64        `json:"generation"`
	Progress   int           `json:"progress"`
	Required   int           `json:"required"`
	Proofs     []ceremonyAct `json:"proofs"`
}

// States of a ceremony.
const (
	stateOpen      = "open"
	stateVerifying = "verifying"
	stateComplete  = "complete"
)

// contradiction is what a server says that can't be.
func contradiction(format string, args ...any) error {
	return &failure{
		code: exitServer, action: "checking what the server says", err: fmt.Errorf(format, args...),
		hint: nothingSent + askElsewhere,
	}
}

const (
	nothingSent  = "nothing was signed and no share was sent: "
	askElsewhere = "ask whoever started it, by another way than this server, what is going on"
)

// sent takes from a contradiction that nothing was sent: it is in the answer to what was.
func sent(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) && f.hint == nothingSent+askElsewhere {
		f.hint = askElsewhere
	}
	return err
}

// attempt is what a holder would sign, made of the fields that are shown and of nothing else: neither the digest nor a
// recipient's fingerprint is taken from the server. A field that this program couldn't explain to a person is an error.
func (i *ceremonyInfo) attempt() (*ceremony.Attempt, error) {
	if err := i.checkForm(); err != nil {
		return nil, err
	}
	if err := i.checkParameters(); err != nil {
		return nil, err
	}
	if _, err := i.recipientText(); err != nil {
		return nil, err
	}
	a := &ceremony.Attempt{
		Nonce: i.Nonce, Kind: i.Kind, ClusterID: i.ClusterID, Generation: i.Generation,
		Threshold: i.Threshold, Holders: i.Holders, Parameters: i.Parameters,
		Recipient: i.Recipient, Reason: i.Reason, Initiator: i.Initiator, Started: i.Started, Expires: i.Expires,
		Limits: ceremony.Limits{
			Unapproved: time.Duration(i.UnapprovedMS) * time.Millisecond, Idle: time.Duration(i.IdleMS) * time.Millisecond,
		},
	}
	a.Digest = a.ComputeDigest()
	if ours := a.Digest.Hex(); ours != i.Digest {
		return nil, contradiction("the digest is %s by what is shown, but the server says %s", ours, visible(i.Digest, ""))
	}
	return a, nil
}

// rootStatus is a ceremony for a root token in the terms of the stock clients.
func (i *ceremonyInfo) rootStatus() *rootStatus {
	st := &rootStatus{}
	st.Nonce, st.Started, st.Progress, st.Required = i.Nonce, true, i.Progress, i.Required
	st.Complete, st.EncodedToken, st.EncodedRootToken = i.State == stateComplete, i.EncodedToken, i.EncodedToken
	if form, rest, _ := strings.Cut(i.Recipient, ":"); delivery.Mode(form) == delivery.PGP {
		st.PGPFingerprint, _, _ = strings.Cut(rest, ":")
	}
	return st
}

func (i *ceremonyInfo) checkForm() error {
	switch {
	case !isUUID(i.Nonce), !isUUID(i.ClusterID):
		return contradiction("the ceremony has no well-formed nonce or cluster")
	case !i.Kind.Known():
		return contradiction("the kind of the ceremony is not known to this program: %s", visible(string(i.Kind), ""))
	case i.Threshold < 1 || i.Holders < i.Threshold:
		return contradiction("the ceremony can't have %d holders of whom %d must approve", i.Holders, i.Threshold)
	case !i.Started.Before(i.Expires):
		return contradiction("the ceremony ends before it began")
	case i.Initiator.Slot < 0 || initiatorText(i.Initiator) == "":
		return contradiction("who started the ceremony is not known to this program")
	case i.Reason != "" && ceremony.CheckLine(i.Reason) != nil:
		return contradiction("the reason is not one printable line")
	}
	return nil
}

// rekeyFacts are the parameters that every rekey and every rotation of the root key has.
var rekeyFacts = [...]string{"backup", "require_verification", "rotate", "secret_shares", "secret_threshold", "verify_all"}

// checkParameters knows every parameter of every kind, what it may be, and which must be there.
func (i *ceremonyInfo) checkParameters() error {
	seen := make(map[string]string, len(i.Parameters)) // :: name → value
	last := ""
	for _, p := range i.Parameters {
		if p.Name <= last {
			return contradiction("the parameters are not in order")
		}
		last, seen[p.Name] = p.Name, p.Value
	}
	slots, recipients := 0, 0
	switch i.Kind {
	case ceremony.Rekey, ceremony.RotateRoot:
		for _, name := range rekeyFacts {
			if _, ok := seen[name]; !ok {
				return contradiction("the parameter %s is missing", name)
			}
		}
		slots = countOf(seen["secret_shares"])
		if recipients = slots; countOf(seen["secret_threshold"]) < 1 || countOf(seen["secret_threshold"]) > slots {
			return contradiction("the numbers of the new shares can't be")
		}
	case ceremony.Holders:
		slots = i.Holders
	}
	labelled, addressed := 0, 0
	for _, p := range i.Parameters {
		group, slot := slotParameter(p.Name)
		known := false
		switch {
		case group == "holder":
			labelled++
			known = slot <= slots && (p.Value == "" || ceremony.CheckLine(p.Value) == nil)
		case group == "recipient":
			addressed++
			known = slot <= recipients
		case i.Kind == ceremony.RootToken:
			known = p.Name == "root_token_ttl" && countOf(p.Value) > 0
		case slices.Contains(rekeyFacts[:], p.Name) && recipients > 0:
			known = countOf(p.Value) > 0
			if !strings.HasPrefix(p.Name, "secret_") {
				known = p.Value == "true" || p.Value == "false"
			}
		}
		if !known {
			return contradiction("the parameter %s is not known to this program, or can't be as it is", visible(p.Name, ""))
		}
	}
	switch {
	case labelled != slots && (i.Kind == ceremony.Holders || labelled > 0):
		return contradiction("%d of %d holders have a label", labelled, slots)
	case addressed != 0 && addressed != recipients || addressed != len(i.RecipientKeys) && (i.State == stateOpen || len(i.RecipientKeys) > 0):
		// Once all have approved, the keys may be gone; nobody signs for recipients any more.
		return contradiction("there are %d shares, the recipients of %d, and the keys of %d", slots, addressed, len(i.RecipientKeys))
	}
	return i.checkRecipients(seen)
}

// checkRecipients holds the recipients of the new shares against their full keys.
func (i *ceremonyInfo) checkRecipients(parameters map[string]string) error {
	for n, key := range i.RecipientKeys {
		if _, err := recipientText(parameters[fmt.Sprintf("recipient.%03d", n+1)], key); err != nil {
			return contradiction("the recipient of share %d: %w", n+1, err)
		}
	}
	return nil
}

// encrypted reports whether each new share is for a recipient's key.
func (i *ceremonyInfo) encrypted() bool {
	return slices.ContainsFunc(i.Parameters, func(p ceremony.Parameter) bool { group, _ := slotParameter(p.Name); return group == "recipient" })
}

// slotParameter splits a name such as holder.001; group is empty for other names.
func slotParameter(name string) (group string, slot int) {
	group, number, ok := strings.Cut(name, ".")
	slot = countOf(strings.TrimLeft(number, "0"))
	if !ok || slot < 1 || number != fmt.Sprintf("%03d", slot) {
		return "", 0
	}
	return group, slot
}

// countOf is a number in the one form that it has in a parameter, 0 for anything else.
func countOf(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || strconv.Itoa(n) != s {
		return 0
	}
	return n
}

// recipientText says for people to whom the result goes; empty where there is nothing to deliver.
func (i *ceremonyInfo) recipientText() (string, error) {
	if i.Kind != ceremony.RootToken {
		if i.Recipient != "" || i.RecipientKey != "" {
			return "", contradiction("a ceremony of this kind has no recipient, but the server names one")
		}
		return "", nil
	}
	text, err := recipientText(i.Recipient, i.RecipientKey)
	if err != nil {
		return "", contradiction("the recipient: %w", err)
	}
	return text, nil
}

// recipientText checks a recipient, as it is in the digest, against the full key, and says it for people.
func recipientText(recipient, key string) (string, error) {
	form, rest, _ := strings.Cut(recipient, ":")
	mode, text := delivery.Mode(form), ""
	switch mode {
	case delivery.OTP:
		text = "one-time password"
	case delivery.Token:
		text = "the token of whoever started it"
	case delivery.PGP:
		fingerprint, _, _ := strings.Cut(rest, ":")
		text = "OpenPGP key " + strings.ToUpper(fingerprint)
	case delivery.Age:
		var list []string
		for one := range strings.SplitSeq(key, "\n") {
			list = append(list, shortened(one))
		}
		text = strings.Join(list, ", ")
	default:
		return "", errors.New("its form is not known to this program")
	}
	if mode == delivery.OTP || mode == delivery.Token {
		if key != "" || rest == "" || strings.Trim(strings.TrimPrefix(rest, "hmac:"), "0123456789abcdef") != "" {
			return "", errors.New("its form is not known to this program")
		}
		return text, nil
	}
	ours, err := delivery.RecipientOf(mode, key)
	if err != nil {
		return "", errors.New("its key can't be read")
	}
	if ours != recipient {
		return "", fmt.Errorf("by its key it is %s, but the server says %s", ours, visible(recipient, ""))
	}
	return text, nil
}

// shortened keeps enough of both ends of a long public key to tell it from any other.
func shortened(key string) string {
	const ends = 40
	if len(key) <= 2*ends+8 {
		return key
	}
	return key[:ends] + " ... " + key[len(key)-ends:]
}

// initiatorText is empty for an authority that this program doesn't know.
func initiatorText(in ceremony.Initiator) string {
	var text string
	switch in.By {
	case ceremony.ByLocal:
		text = "somebody on the server's own machine"
	case ceremony.ByAnyone:
		text = "somebody, over a listener that is open to anyone"
	case ceremony.ByToken:
		text = "a token (record " + in.Token + ")"
	case ceremony.ByHolder:
		return fmt.Sprintf("the holder of slot %d", in.Slot)
	default:
		return ""
	}
	if in.Slot > 0 {
		text += fmt.Sprintf(" and the holder of slot %d", in.Slot)
	}
	return text
}

func actsText(acts []ceremonyAct) string {
	var list []string
	for _, act := range acts {
		text := strconv.Itoa(act.Slot)
		if act.Label != "" {
			text += " (" + quotedText(act.Label) + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// text is all about a ceremony. a comes from i.attempt.
func (i *ceremonyInfo) text(a *ceremony.Attempt) string {
	t := append(i.facts(a), i.progress()...)
	if i.Reason != "" { // last, so that nothing below it can be taken for a part of it, or the other way round
		t.add("Reason", quotedText(i.Reason))
	}
	return t.folded()
}

// facts are what a holder signs.
func (i *ceremonyInfo) facts(a *ceremony.Attempt) (t sheet) {
	t.add("Nonce", i.Nonce)
	t.add("Kind", i.Kind)
	t.add("Cluster", i.ClusterID)
	t.add("Generation", i.Generation)
	t.add("Approvals Needed", i.Threshold)
	for _, p := range i.Parameters {
		value := p.Value
		switch group, slot := slotParameter(p.Name); {
		case group == "recipient" && len(i.RecipientKeys) > 0:
			value, _ = recipientText(p.Value, i.RecipientKeys[slot-1]) // checked by attempt
			value += " [" + p.Value + "]"
		case group == "holder":
			value = quotedText(value)
		}
		t.add(p.Name, value)
	}
	if text, _ := i.recipientText(); text != "" {
		t.add("Recipient", text)
		if i.RecipientKey != "" {
			t.add("Recipient Hash", i.Recipient)
		}
	}
	t.add("Started By", initiatorText(i.Initiator))
	t.add("Started", timeText(i.Started))
	t.add("Expires", timeText(i.Expires))
	t.add("Waits", fmt.Sprintf("%s for the first approval, %s for each other", a.Limits.Unapproved, a.Limits.Idle))
	t.add("Digest", a.Digest.Hex())
	t.add("Words", strings.Join(a.Digest.Words(), " "))
	return t
}

// progress is how far it has come, which nobody signs.
func (i *ceremonyInfo) progress() (t sheet) {
	t.add("State", i.State)
	t.add("Progress", fraction(i.Progress, i.Required))
	t.known("Approved By", actsText(i.Approvals))
	t.known("Objections By", actsText(i.Objections))
	if i.State == stateOpen && !i.Deadline.IsZero() {
		t.add("Deadline", timeText(i.Deadline))
	}
	if v := i.Verification; v != nil {
		t.add("New Generation", v.Generation)
		t.add("Verified", fraction(v.Progress, v.Required))
		t.known("Verified By", actsText(v.Proofs))
	}
	t.known("OTP", i.OTP)
	t.known("Encoded Token", i.EncodedToken)
	keys := i.KeysBase64
	if len(i.KeysArmoured) > 0 {
		keys = i.KeysArmoured
	}
	for n, key := range keys {
		t.known(fmt.Sprintf("Key %d", n+1), key)
	}
	if !i.ResultExpires.IsZero() {
		t.add("Result Kept Until", timeText(i.ResultExpires))
	}
	return t
}
