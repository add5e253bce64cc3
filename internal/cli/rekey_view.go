package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// rekeyStatus is all that the endpoints of a rekey answer: its status, its result, or the status of its verification.
type rekeyStatus struct {
	api.RekeyStatusResponse
	Warnings []string `json:"warnings,omitempty"` // ours: says that a cancel only counts as an objection
}

// verifying reports whether the new shares exist and wait for their holders.
func (s *rekeyStatus) verifying() bool { return s.Started && s.VerificationNonce != "" }

// show prints an attempt in the rows, or the fields, of the stock command.
func (r *rekeying) show(st *rekeyStatus) error {
	return r.print(st, func() string {
		t := header()
		t.add("Nonce", st.Nonce)
		t.add("Started", st.Started)
		if st.Started {
			name, progress := "Rekey Progress", fraction(st.Progress, st.Required)
			if r.tokenOnly {
				name = "Rotation Progress"
			}
			if st.verifying() {
				progress += " (verification in progress)"
			}
			t.add(name, progress)
			t.add("New Shares", st.N)
			t.add("New Threshold", st.T)
			t.add("Verification Required", st.VerificationRequired)
			t.known("Verification Nonce", st.VerificationNonce)
		}
		if len(st.PGPFingerprints) > 0 {
			t.add("PGP Fingerprints", quoted(st.PGPFingerprints))
			t.add("Backup", st.Backup)
		}
		return t.text()
	})
}

// showVerification prints how far the new holders are.
func (r *rekeying) showVerification(st *rekeyStatus) error {
	v := api.RekeyVerificationStatusResponse{Nonce: st.Nonce, Started: st.Started, T: st.T, N: st.N, Progress: st.Progress}
	return r.print(v, func() string {
		t := header()
		t.add("Started", v.Started)
		t.add("New Shares", v.N)
		t.add("New Threshold", v.T)
		t.add("Verification Nonce", v.Nonce)
		t.add("Verification Progress", fraction(v.Progress, st.provers()))
		return t.text()
	})
}

// provers is how many new holders have to verify their shares: a quorum, or what our own server says where more have to.
func (s *rekeyStatus) provers() int { return max(s.Required, s.T) }

// newShares is the result of a rekey: the fields of the stock command, and the shares in their armour.
type newShares struct {
	api.RekeyUpdateResponse
	KeysArmoured []string `json:"keys_armoured"` // empty if they are encrypted, or the server isn't ours
	labels       []string
}

// result makes what is printed of a completed rekey. What the armour says comes from the table of holders, in which
// each share must be; without it the shares stay bare.
func (r *rekeying) result(ctx context.Context, st *rekeyStatus) *newShares {
	res := &newShares{
		RekeyUpdateResponse: api.RekeyUpdateResponse{
			Nonce: st.Nonce, Complete: true, Keys: st.Keys, KeysB64: st.KeysB64, PGPFingerprints: st.PGPFingerprints,
			Backup: st.Backup, VerificationRequired: st.VerificationRequired, VerificationNonce: st.VerificationNonce,
		},
		KeysArmoured: []string{},
	}
	if len(st.KeysB64) == 0 || len(st.KeysB64[0]) > holderText {
		return res
	}
	if armoured, labels := r.armourNew(ctx, st.KeysB64); armoured != nil {
		res.KeysArmoured, res.labels = armoured, labels
	}
	return res
}

// holderText is the length of the longest bare share in base64. What is longer is encrypted.
const holderText = (holder.MaxShare + 2) / 3 * 4

// armourNew puts new shares into the armour that the table of holders has for them; none where it doesn't have all.
func (o *operation) armourNew(ctx context.Context, keys []string) (armoured, labels []string) {
	t, err := readShareTable(context.WithoutCancel(ctx), o.open) // an interruption doesn't change how they are printed
	if err == nil {
		armoured, err = armourEach(keys, func(_ int, raw secret.Bytes) ([]byte, error) {
			text, label, ok := t.armour(raw)
			if !ok {
				return nil, errors.New("the server's table of holders doesn't have them")
			}
			labels = append(labels, label)
			return text, nil
		})
	}
	if err != nil {
		o.say("warning: the new shares are printed without their armour: %s", reasons(err))
		return nil, nil
	}
	return armoured, labels
}

// armourEach puts shares into the armour that armour makes of each: all, or none.
func armourEach(keys []string, armour func(i int, raw secret.Bytes) ([]byte, error)) (list []string, err error) {
	for i, key := range keys {
		raw, err := holder.ParseShare([]byte(key))
		if err != nil {
			return nil, err
		}
		text, err := armour(i, raw)
		raw.Wipe()
		if err != nil {
			return nil, err
		}
		list = append(list, string(text))
		clear(text)
	}
	return list, nil
}

// text is the table format of the result, which is no table.
func (s *newShares) text() string {
	keys := s.KeysB64
	switch {
	case len(s.KeysArmoured) > 0:
		keys = s.KeysArmoured
	case len(keys) != len(s.Keys):
		keys = s.Keys
	}
	var b strings.Builder
	for i, key := range keys {
		if i < len(s.labels) && s.labels[i] != "" {
			b.WriteString("# " + foldedLabel(s.labels[i]) + "\n")
		}
		if i < len(s.PGPFingerprints) {
			fmt.Fprintf(&b, "Key %d fingerprint: %s; value: %s\n", i+1, visible(s.PGPFingerprints[i], ""), visible(key, ""))
		} else {
			fmt.Fprintf(&b, "Key %d: %s\n", i+1, visible(key, ""))
		}
	}
	fmt.Fprintf(&b, "\nOperation nonce: %s\n", visible(s.Nonce, ""))
	return b.String()
}

// showResult prints the new shares, and says what they are good for now.
func (r *rekeying) showResult(ctx context.Context, st *rekeyStatus) error {
	res := r.result(ctx, st)
	if err := r.print(res, res.text); err != nil {
		return unprinted(err, "the new shares are not lost: for a few minutes, the last share brings them again: "+r.typed+" -nonce="+visible(st.Nonce, ""))
	}
	switch {
	case st.VerificationNonce != "":
		r.say("\nthe new shares are not in force yet, the present ones are: don't throw these away")
		r.say("give each new share to its holder, who verifies it with: %s -verify -nonce=%s", r.typed, visible(st.VerificationNonce, ""))
	default:
		r.say("\nthe new shares are in force; until a quorum of them has been used, the ones before can still unseal, and nothing else")
	}
	return nil
}
