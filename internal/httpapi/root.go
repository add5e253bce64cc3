package httpapi

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
)

const maxReason = 200 // bytes

const warnObjection = "other key holders have approved this attempt, so it goes on: your objection is recorded, and the attempt ends when enough holders object"

var (
	errReason  = fault.Newf(fault.Invalid, "reason must be one line of printable text, at most %d bytes", maxReason)
	errDecoded = fault.New(fault.Invalid, "the OTP does not belong to this encoded token: give the OTP that its attempt was started with")
)

// moment says to what a status is the answer: the shapes differ.
type moment int

const (
	onAttempt  moment = iota // status, start, objection
	onApproval               // update
)

// rootFamily is one of the path families that drive the root generation.
type rootFamily struct {
	path string
	of   node.Family
	show func(node.RootStatus, moment, []string) *reply
	trim bool // white space around a share is taken away
}

func (f rootFamily) status(x *exchange) (*reply, error) {
	st, err := x.Node.RootStatus(x.r.Context())
	if err != nil {
		return nil, err
	}
	return f.show(st, onAttempt, nil), nil
}

func (f rootFamily) start(x *exchange) (*reply, error) {
	share, err := f.shareAsAuthority(x)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	req := node.StartRequest{Reason: x.fields.str("reason")}
	if f.of == node.RootGeneration {
		req.TokenID = x.token.Reveal()
	} else {
		req.OTP, req.PGPKey = x.fields.text("otp"), x.fields.text("pgp_key")
	}
	switch {
	case x.fields.err != nil:
		return nil, x.fields.err
	case !isReason(req.Reason):
		return nil, errReason
	}
	st, err := x.Node.StartRoot(x.r.Context(), f.of, f.asker(x, share), req)
	if err != nil {
		return nil, err
	}
	return f.show(st, onAttempt, nil), nil
}

func (f rootFamily) cancel(x *exchange) (*reply, error) {
	share, err := f.shareAsAuthority(x)
	if err != nil {
		return nil, err
	}
	st, ended, err := x.Node.CancelRoot(x.r.Context(), f.asker(x, share))
	switch {
	case err != nil:
		return nil, err
	case ended:
		return &reply{}, nil
	}
	st.OTPLength = delivery.OTPLength
	return f.show(st, onAttempt, []string{warnObjection}), nil
}

func (f rootFamily) approve(x *exchange) (*reply, error) {
	key, nonce := f.key(x), x.fields.str("nonce")
	if x.fields.err != nil {
		return nil, x.fields.err
	}
	share, err := holder.ParseShare(key)
	if err != nil {
		return nil, err
	}
	st, err := x.Node.ApproveRoot(x.r.Context(), f.of, nonce, share)
	if err != nil {
		return nil, err
	}
	return f.show(st, onApproval, nil), nil
}

// key is the text of the share in the body.
func (f rootFamily) key(x *exchange) []byte {
	key := x.fields.text("key")
	if f.trim {
		key = bytes.TrimSpace(key)
	}
	return key
}

func (f rootFamily) shareAsAuthority(x *exchange) (secret.Bytes, error) {
	key := f.key(x)
	if x.fields.err != nil {
		return secret.Bytes{}, x.fields.err
	}
	return optionalShare(key)
}

// asker says what was seen of who asks: what the listener makes of the connection, the token unless it is data, and
// the share.
func (f rootFamily) asker(x *exchange, share secret.Bytes) node.Asker {
	a := node.Asker{Path: x.path, Share: share}
	switch x.listener.Ceremonies {
	case CeremoniesLocal, "":
		a.Local = x.client.local()
	case CeremoniesOpen:
		a.Local, a.Open = x.client.local(), true
	}
	if f.of != node.RootGeneration {
		a.Token = x.token
	}
	return a
}

func isReason(s string) bool {
	if len(s) > maxReason || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// fiveFields is the reply of sys/root-generation.
type fiveFields struct {
	Nonce    string   `json:"nonce"`
	Started  bool     `json:"started"`
	Progress int      `json:"progress"`
	Required int      `json:"required"`
	Complete bool     `json:"complete"`
	Warnings []string `json:"warnings,omitempty"` // an objection only
}

func showFive(st node.RootStatus, _ moment, warnings []string) *reply {
	return &reply{raw: fiveFields{st.Nonce, st.Started, st.Progress, st.Required, st.Complete, warnings}}
}

// tenFields is the reply of sys/generate-root.
type tenFields struct {
	Nonce            string   `json:"nonce"`
	Started          bool     `json:"started"`
	Progress         int      `json:"progress"`
	Required         int      `json:"required"`
	Complete         bool     `json:"complete"`
	EncodedToken     string   `json:"encoded_token"`
	EncodedRootToken string   `json:"encoded_root_token"`
	PGPFingerprint   string   `json:"pgp_fingerprint"`
	OTP              string   `json:"otp"`
	OTPLength        int      `json:"otp_length"`         // 0 in replies to approvals: clients print what isn't
	Warnings         []string `json:"warnings,omitempty"` // an objection only
}

func showTen(st node.RootStatus, _ moment, warnings []string) *reply {
	return &reply{raw: tenFields{
		Nonce: st.Nonce, Started: st.Started, Progress: st.Progress, Required: st.Required, Complete: st.Complete,
		EncodedToken: st.EncodedToken, EncodedRootToken: st.EncodedToken, PGPFingerprint: st.PGPFingerprint,
		OTP: st.OTP, OTPLength: st.OTPLength, Warnings: warnings,
	}}
}

// showEnveloped is the reply of sys/generate-root-token. The keys of a map come out sorted.
func showEnveloped(st node.RootStatus, m moment, warnings []string) *reply {
	data := map[string]any{
		"complete": st.Complete, "progress": st.Progress, "required": st.Required, "started": st.Started,
	}
	if st.Started {
		data["nonce"], data["pgp_fingerprint"] = st.Nonce, st.PGPFingerprint
	}
	if m == onApproval {
		data["encoded_token"] = st.EncodedToken
	} else {
		data["otp"], data["otp_length"] = st.OTP, st.OTPLength
	}
	return &reply{data: data, warnings: warnings}
}

// decodeToken undoes the one-time password for who can't do it at home. It needs no authority: it knows nothing.
func decodeToken(x *exchange) (*reply, error) {
	encoded, otp := x.fields.text("encoded_token"), x.fields.text("otp")
	if x.fields.err != nil {
		return nil, x.fields.err
	}
	token, err := delivery.Decode(encoded, otp)
	if err != nil {
		return nil, err
	}
	x.fields.owned = append(x.fields.owned, token)
	if !utf8.Valid(token) {
		return nil, errDecoded
	}
	return &reply{data: map[string]any{"token": text(token)}}, nil
}
