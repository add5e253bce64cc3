package httpapi

import (
	"strings"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

const warnShared = "another key share of this attempt came from the same client: holders who use one machine depend on it alone"

// ownFields are the fields of a start that only some kinds of ceremony have; of all kinds if kind is empty.
func ownFields(kind ceremony.Kind) []string {
	root := []string{"otp", "pgp_key", "age_recipients lines", "root_token_ttl duration"}
	rekey := []string{
		"secret_shares int", "secret_threshold int", "holders list", "pgp_keys list", "age_recipients list",
		"require_verification bool", "verify_all bool", "rotate bool", "backup bool",
	}
	switch kind {
	case ceremony.RootToken:
		return root
	case ceremony.Rekey, ceremony.RotateRoot:
		return rekey
	case ceremony.Holders:
		return []string{"holders list"}
	case ceremony.Drill:
		return nil
	}
	return append(root, rekey...)
}

func fieldNames(list []string) string { return strings.Join(list, ", ") }

// checkFields refuses what would have no effect: who gave it believes that it has.
func (x *exchange) checkFields(kind ceremony.Kind) error {
	own := " " + strings.ReplaceAll(fieldNames(ownFields(kind)), ",", "")
	for _, field := range ownFields("") {
		name, _, _ := strings.Cut(field, " ")
		if x.fields.Has(name) && !strings.Contains(own+" ", " "+name+" ") {
			return fault.Newf(fault.Invalid, "the field %q has no meaning in this kind of ceremony: leave it out", name)
		}
	}
	return nil
}

// startRequest reads what a new attempt is for.
func (x *exchange) startRequest() (node.StartRequest, error) {
	f := &x.fields
	req := node.StartRequest{Kind: ceremony.Kind(f.Str("kind")), Reason: reason(f), TTL: f.Duration("ttl")}
	if !req.Kind.Known() {
		req.Kind = "" // node says so; the text itself may be long
	}
	switch req.Kind {
	case ceremony.RootToken:
		req.OTP, req.PGPKey, req.Age = f.Text("otp"), f.Text("pgp_key"), f.Lines("age_recipients")
		req.RootTokenTTL = rootTokenTTL(f)
	case ceremony.Rekey, ceremony.RotateRoot:
		req.Rekey = rekeyRequest(f, true, req.Kind == ceremony.RotateRoot)
	case ceremony.Holders:
		req.Labels = f.StrsPerShare("holders")
	}
	if f.Err() != nil {
		return req, f.Err()
	}
	return req, x.checkFields(req.Kind)
}

func listCeremonies(x *exchange) (*reply, error) {
	list, id, err := x.Node.Ceremonies(x.r.Context())
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0 && x.op == opList:
		return nil, errNothing
	}
	keys, info := []string{}, map[string]ceremonyJSON{}
	for _, c := range list {
		v := viewOf(c)
		v.Checkpoint = "" // there is one for all
		keys, info[v.Nonce] = append(keys, v.Nonce), v
	}
	return &reply{data: map[string]any{
		"keys": keys, "key_info": info, "cluster_id": id.ClusterID, "cluster_name": id.ClusterName, "generation": id.Generation,
		"threshold": id.Threshold, "shares": id.Shares, "retiring": id.Retiring, "checkpoint": string(id.Checkpoint),
		"verifier_key": id.VerifierKey,
	}}, nil
}

func startCeremony(x *exchange) (*reply, error) {
	c, err := x.credential(true)
	if err != nil {
		return nil, err
	}
	req, err := x.startRequest()
	if err != nil {
		return nil, err
	}
	started, err := x.Node.Start(x.r.Context(), node.GenerateRoot, x.asker(c), req)
	if err != nil {
		return nil, err
	}
	v := viewOf(started)
	if started.OTP != "" {
		v.OTP, v.OTPLength = started.OTP, started.OTPLength
	}
	return &reply{data: v}, nil
}

func readCeremony(x *exchange) (*reply, error) {
	c, err := x.Node.Ceremony(x.r.Context(), x.nonce())
	if err != nil {
		return nil, err
	}
	return &reply{data: viewOf(c)}, nil
}

// consentTo reads the credential of a consent, and the ceremony that it is for.
func (x *exchange) consentTo() (node.Credential, *node.Ceremony, error) {
	cred, err := x.requiredCredential(true)
	if err != nil {
		return cred, nil, err
	}
	c, err := x.Node.Ceremony(x.r.Context(), x.nonce())
	return cred, c, err
}

// approveCeremony approves an attempt of either family: nothing of a result is lost in this reply.
func approveCeremony(x *exchange) (*reply, error) {
	cred, c, err := x.consentTo()
	if err != nil {
		return nil, err
	}
	c, err = x.Node.Approve(x.r.Context(), c.Kind, c.Family, x.nonce(), x.approver(cred))
	if err != nil {
		return nil, err
	}
	return x.afterConsent(c), nil
}

func verifyCeremony(x *exchange) (*reply, error) {
	cred, c, err := x.consentTo()
	if err != nil {
		return nil, err
	}
	nonce := ""
	if c.Verification != nil {
		nonce = c.Verification.Nonce
	}
	c, err = x.Node.Verify(x.r.Context(), c.Kind, nonce, x.approver(cred))
	if err != nil {
		return nil, err
	}
	return x.afterConsent(c), nil
}

// afterConsent is the reply to a holder, with the result if theirs was the last consent that was needed.
func (x *exchange) afterConsent(c *node.Ceremony) *reply {
	v := viewOf(c)
	v.result = x.resultOf(c)
	rep := &reply{data: v}
	if c.SharedClient {
		rep.warnings = []string{warnShared}
	}
	return rep
}

func cancelCeremony(x *exchange) (*reply, error) {
	cred, err := x.credential(true)
	if err != nil {
		return nil, err
	}
	who := x.asker(cred)
	who.Path = ceremonies + x.nonce() // both ways to cancel are one to a policy
	c, err := x.Node.Ceremony(x.r.Context(), x.nonce())
	if err != nil {
		return nil, err
	}
	if err := errOver(c); err != nil {
		return nil, err
	}
	c, ended, err := x.Node.Cancel(x.r.Context(), c.Kind, x.nonce(), who)
	switch {
	case err != nil:
		return nil, err
	case ended:
		return &reply{}, x.wasCancelled()
	}
	return &reply{data: viewOf(c), warnings: []string{warnObjection}}, nil
}

// wasCancelled says if a ceremony came to another end just before it was to be cancelled: who wanted it cancelled must
// not believe that it was.
func (x *exchange) wasCancelled() error {
	c, err := x.Node.Ceremony(x.r.Context(), x.nonce())
	if err != nil || c.State == node.Cancelled {
		return nil // it was, whatever can be read of it now
	}
	return errOver(c)
}

// errOver is nil for a ceremony in progress.
func errOver(c *node.Ceremony) error {
	if c.State == node.Open || c.State == node.Verifying {
		return nil
	}
	return fault.Newf(fault.Invalid, "the ceremony is over: %s", c.State)
}

// ceremonyResult gives the encoded result once more. It stays encoded: who may have it, but can't read it, has nothing.
func ceremonyResult(x *exchange) (*reply, error) {
	who, err := x.resultAsker()
	if err != nil {
		return nil, err
	}
	c, err := x.Node.Result(x.r.Context(), x.nonce(), who)
	if err != nil {
		return nil, err
	}
	recipients := []string{}
	if a := c.Attempt; a != nil {
		for _, p := range a.Parameters {
			if strings.HasPrefix(p.Name, "recipient.") {
				recipients = append(recipients, p.Value)
			}
		}
		if a.Recipient != "" {
			recipients = append(recipients, a.Recipient)
		}
	}
	return &reply{data: struct {
		Kind  ceremony.Kind `json:"kind"`
		Nonce string        `json:"nonce"`
		result
		Recipients []string `json:"recipients"`
		Expires    string   `json:"expires,omitempty"`
	}{c.Kind, x.nonce(), x.resultOf(c), recipients, millis(c.ResultExpires)}}, nil
}

func acknowledgeResult(x *exchange) (*reply, error) {
	who, err := x.resultAsker()
	if err != nil {
		return nil, err
	}
	return &reply{}, x.Node.Acknowledge(x.r.Context(), x.nonce(), who)
}

func (x *exchange) resultAsker() (node.Asker, error) {
	cred, err := x.credential(true)
	return x.asker(cred), err
}
