package httpapi

import (
	"bytes"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
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
	show func(*node.Ceremony, moment, []string) *reply
	trim bool // white space around a share is taken away
}

func (f rootFamily) status(x *exchange) (*reply, error) {
	c, err := x.Node.CeremonyOf(x.r.Context(), ceremony.RootToken)
	if err != nil {
		return nil, err
	}
	return f.show(c, onAttempt, nil), nil
}

func (f rootFamily) start(x *exchange) (*reply, error) {
	who, err := f.asker(x)
	if err != nil {
		return nil, err
	}
	req := node.StartRequest{
		Kind: ceremony.RootToken, Reason: reason(&x.fields), TTL: x.fields.Duration("ttl"), RootTokenTTL: rootTokenTTL(&x.fields),
	}
	if f.of == node.RootGeneration {
		req.TokenID = x.token.Reveal()
	} else {
		req.OTP, req.PGPKey, req.Age = x.fields.Text("otp"), x.fields.Text("pgp_key"), x.fields.Lines("age_recipients")
	}
	if x.fields.Err() != nil {
		return nil, x.fields.Err()
	}
	c, err := x.Node.Start(x.r.Context(), f.of, who, req)
	if err != nil {
		return nil, err
	}
	return f.show(c, onAttempt, nil), nil
}

func (f rootFamily) cancel(x *exchange) (*reply, error) {
	who, err := f.asker(x)
	if err != nil {
		return nil, err
	}
	c, ended, err := x.Node.Cancel(x.r.Context(), ceremony.RootToken, "", who)
	switch {
	case err != nil:
		return nil, err
	case ended:
		return &reply{}, nil
	}
	return f.show(c, onAttempt, []string{warnObjection}), nil
}

func (f rootFamily) approve(x *exchange) (*reply, error) {
	nonce := x.fields.Str("nonce")
	cred, err := x.requiredCredential(f.trim)
	if err != nil {
		return nil, err
	}
	c, err := x.Node.Approve(x.r.Context(), ceremony.RootToken, f.of, nonce, x.approver(cred))
	if err != nil {
		return nil, err
	}
	return f.show(c, onApproval, nil), nil
}

// asker leaves the token out where it is data.
func (f rootFamily) asker(x *exchange) (node.Asker, error) {
	cred, err := x.credential(f.trim)
	if err != nil {
		return node.Asker{}, err
	}
	who := x.asker(cred)
	if f.of == node.RootGeneration {
		who.Token = secret.Bytes{}
	}
	return who, nil
}

// reason returns why an attempt is started, as all may read it.
func reason(f *body.Fields) string {
	s := f.Str("reason")
	if f.Err() == nil && ceremony.CheckLine(s) != nil {
		f.Fail(errReason)
	}
	return s
}

// rootTokenTTL returns how long a root token shall live: 0 for the server's default, negative for one that was asked to
// never expire.
func rootTokenTTL(f *body.Fields) time.Duration {
	const name = "root_token_ttl"
	d := f.Duration(name)
	if raw := f.Find(name); raw == nil || d != 0 || raw[0] == '"' && len(bytes.TrimSpace(f.Text(name))) == 0 {
		return d
	}
	return -time.Second
}

// fiveFields is the reply of sys/root-generation.
type fiveFields struct {
	Nonce    string `json:"nonce"`
	Started  bool   `json:"started"`
	Progress int    `json:"progress"`
	Required int    `json:"required"`
	Complete bool   `json:"complete"`
}

func newFiveFields(c *node.Ceremony) fiveFields {
	f := fiveFields{Required: c.Required, Complete: c.State == node.Complete}
	if c.Attempt != nil {
		f.Nonce, f.Started, f.Progress = c.Attempt.Nonce, true, c.Attempt.Progress()
	}
	return f
}

func showFive(c *node.Ceremony, _ moment, warnings []string) *reply {
	return &reply{raw: struct {
		fiveFields
		Warnings []string `json:"warnings,omitempty"` // an objection only
	}{newFiveFields(c), warnings}}
}

// tenFields is the reply of sys/generate-root.
type tenFields struct {
	fiveFields
	EncodedToken     string   `json:"encoded_token"`
	EncodedRootToken string   `json:"encoded_root_token"`
	PGPFingerprint   string   `json:"pgp_fingerprint"`
	OTP              string   `json:"otp"`
	OTPLength        int      `json:"otp_length"`         // 0 in replies to approvals: clients print what isn't
	Warnings         []string `json:"warnings,omitempty"` // an objection only
}

func showTen(c *node.Ceremony, m moment, warnings []string) *reply {
	rep := tenFields{
		fiveFields: newFiveFields(c), EncodedToken: c.EncodedToken, EncodedRootToken: c.EncodedToken, PGPFingerprint: c.PGPFingerprint,
		OTP: c.OTP, Warnings: warnings,
	}
	if m == onAttempt {
		rep.OTPLength = delivery.OTPLength
	}
	return &reply{raw: rep}
}

// showEnveloped is the reply of sys/generate-root-token. The keys of a map come out sorted.
func showEnveloped(c *node.Ceremony, m moment, warnings []string) *reply {
	f := newFiveFields(c)
	data := map[string]any{"complete": f.Complete, "progress": f.Progress, "required": f.Required, "started": f.Started}
	if f.Started {
		data["nonce"], data["pgp_fingerprint"] = f.Nonce, c.PGPFingerprint
	}
	if m == onApproval {
		data["encoded_token"] = c.EncodedToken
	} else {
		data["otp"], data["otp_length"] = c.OTP, delivery.OTPLength
	}
	return &reply{data: data, warnings: warnings}
}

// decodeToken undoes the one-time password for who can't do it at home. It needs no authority: it knows nothing.
func decodeToken(x *exchange) (*reply, error) {
	encoded, otp := x.fields.Text("encoded_token"), x.fields.Text("otp")
	if x.fields.Err() != nil {
		return nil, x.fields.Err()
	}
	token, err := delivery.Decode(encoded, otp)
	if err != nil {
		return nil, err
	}
	x.fields.Own(token)
	if !utf8.Valid(token) {
		return nil, errDecoded
	}
	return &reply{data: map[string]any{"token": text(token)}}, nil
}
