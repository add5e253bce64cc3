package httpapi

import (
	"fmt"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

var (
	errNoRekey       = fault.New(fault.Invalid, "no rekey configuration found: start a rekey first")
	errNoBackup      = fault.New(fault.Invalid, "no backed-up keys found")
	errRecoveryRekey = fault.New(fault.Invalid, "recovery rekeying not supported: this server has no recovery keys, so rekey its key shares")
)

// rekeyFamily is one of the path families that give the holders new shares: sys/rekey, in the raw shapes, and
// sys/rotate/root, which is enveloped and changes the root key as well. Each drives a ceremony of its own.
type rekeyFamily struct {
	path string
	kind ceremony.Kind
	raw  bool
}

// rekeyRoutes are those of a rekey (wire reference 4.1).
func rekeyRoutes() []route {
	list := append(rekeyFamily{path: "sys/rekey", kind: ceremony.Rekey, raw: true}.routes(), recoveryRoutes("sys/rekey-recovery-key", true)...)
	return append(list, backupRoute("sys/rekey/recovery-key-backup", noBackup, nothingDeleted))
}

func (f rekeyFamily) routes() []route {
	list := []route{
		{path: f.path + "/init", limit: initBody, ops: map[operation]handler{
			opRead: f.status, opUpdate: f.start, opDelete: f.cancel,
		}, summary: "new key shares: status, start, cancel", fields: fieldNames(ownFields(f.kind)) + ", " + startFields, dropFields: "nonce"},
		{path: f.path + "/update", limit: smallBody, ops: map[operation]handler{
			opUpdate: f.approve,
		}, summary: "approve the new key shares", fields: credentialFields + ", nonce"},
		{path: f.path + "/verify", limit: smallBody, ops: map[operation]handler{
			opRead: f.verification, opUpdate: f.verify, opDelete: f.resetVerification,
		}, summary: "prove possession of a new key share; begin the verification anew", fields: credentialFields + ", nonce"},
	}
	for i := range list {
		list[i].raw, list[i].rootOnly, list[i].authority = f.raw, f.raw, byCeremony
	}
	backup := backupRoute(f.path+"/backup", f.backup, f.deleteBackup)
	backup.rootOnly = f.raw
	return append(list, backup)
}

func backupRoute(path string, read, drop handler) route {
	return route{
		path: path, authority: byToken, limit: smallBody, ops: map[operation]handler{opRead: read, opDelete: drop},
		summary: "encrypted key shares that were kept; delete them",
	}
}

// recoveryRoutes say that there are no recovery keys, which only servers have that unseal themselves.
func recoveryRoutes(path string, raw bool) []route {
	var list []route
	for _, name := range []string{"/init", "/update", "/verify"} {
		ops := map[operation]handler{opUpdate: noRecovery}
		if name != "/update" {
			ops[opRead], ops[opDelete] = noRecovery, noRecovery
		}
		list = append(list, route{
			path: path + name, raw: raw, rootOnly: raw, limit: initBody, ops: ops, summary: "not supported: there are no recovery keys",
		})
	}
	return list
}

func noRecovery(*exchange) (*reply, error) { return nil, errRecoveryRekey }

func noBackup(x *exchange) (*reply, error) { return nothingHere(errNoBackup)(x) }

func nothingDeleted(x *exchange) (*reply, error) {
	return &reply{}, x.Node.View(x.r.Context(), x.access(), func(*node.Call) error { return nil })
}

func (f rekeyFamily) status(x *exchange) (*reply, error) {
	c, err := x.Node.CeremonyOf(x.r.Context(), f.kind)
	if err != nil {
		return nil, err
	}
	return f.show(c, nil), nil
}

func (f rekeyFamily) start(x *exchange) (*reply, error) {
	cred, err := x.credential(false)
	if err != nil {
		return nil, err
	}
	in := &x.fields
	req := node.StartRequest{
		Kind: f.kind, Reason: reason(in), TTL: in.Duration("ttl"),
		// What the stock clients leave out is off, as they expect. A rotation of the root key is what it is called.
		Rekey: rekeyRequest(in, false, f.kind == ceremony.RotateRoot),
	}
	if in.Err() != nil {
		return nil, in.Err()
	}
	c, err := x.Node.Start(x.r.Context(), node.GenerateRoot, x.asker(cred), req)
	if err != nil {
		return nil, err
	}
	return f.show(c, nil), nil
}

// rekey reads what the next generation of shares shall be. verify is whether its holders must prove that they have
// them, and all of them, where nothing is said about it; rotate the same for a new root key.
func rekeyRequest(f *body.Fields, verify, rotate bool) node.RekeyRequest {
	return node.RekeyRequest{
		Shares: f.Int("secret_shares"), Threshold: f.Int("secret_threshold"), Labels: f.StrsPerShare("holders"),
		PGPKeys: f.PerShare("pgp_keys"), Age: f.StrsPerShare("age_recipients"), Backup: f.Flag("backup", false),
		Verify: f.Flag("require_verification", verify), VerifyAll: f.Flag("verify_all", verify), Rotate: f.Flag("rotate", rotate),
	}
}

// cancel needs no nonce; one that is given must be that of the attempt.
func (f rekeyFamily) cancel(x *exchange) (*reply, error) {
	nonce := x.fields.Str("nonce")
	cred, err := x.credential(false)
	if err != nil {
		return nil, err
	}
	c, ended, err := x.Node.Cancel(x.r.Context(), f.kind, nonce, x.asker(cred))
	switch {
	case err != nil:
		return nil, err
	case ended:
		return &reply{}, nil
	}
	return f.show(c, []string{warnObjection}), nil
}

func (f rekeyFamily) approve(x *exchange) (*reply, error) {
	nonce := x.fields.Str("nonce")
	cred, err := x.requiredCredential(false)
	if err != nil {
		return nil, err
	}
	c, err := x.Node.Approve(x.r.Context(), f.kind, node.GenerateRoot, nonce, x.approver(cred))
	switch {
	case err != nil:
		return nil, err
	case c.State == node.Open:
		return f.show(c, nil), nil
	}
	return f.showResult(x.newRekeyResult(c)), nil
}

func (f rekeyFamily) verification(x *exchange) (*reply, error) {
	c, err := x.Node.CeremonyOf(x.r.Context(), f.kind)
	switch {
	case err != nil:
		return nil, err
	case c.Rekey == nil:
		return nil, errNoRekey
	}
	return f.showVerification(c), nil
}

func (f rekeyFamily) verify(x *exchange) (*reply, error) {
	nonce := x.fields.Str("nonce")
	cred, err := x.requiredCredential(false)
	if err != nil {
		return nil, err
	}
	c, err := x.Node.Verify(x.r.Context(), f.kind, nonce, x.approver(cred))
	switch {
	case err != nil:
		return nil, err
	case c.State != node.Complete:
		return f.showVerification(c), nil
	}
	return f.wrapped(struct {
		Nonce    string `json:"nonce"`
		Complete bool   `json:"complete"`
	}{nonce, true}), nil
}

func (f rekeyFamily) resetVerification(x *exchange) (*reply, error) {
	cred, err := x.credential(false)
	if err != nil {
		return nil, err
	}
	c, err := x.Node.ResetVerification(x.r.Context(), f.kind, x.asker(cred))
	if err != nil {
		return nil, err
	}
	return f.showVerification(c), nil
}

// wrapped sends what looks the same in both shapes.
func (f rekeyFamily) wrapped(v any) *reply {
	if f.raw {
		return &reply{raw: v}
	}
	return &reply{data: v}
}

// rekeyStatus is the reply of sys/rekey/init, and of an approval that isn't the last.
type rekeyStatus struct {
	Nonce                string   `json:"nonce"`
	Started              bool     `json:"started"`
	Threshold            int      `json:"t"` // of the new shares, as is n; 0 when idle
	Shares               int      `json:"n"`
	Progress             int      `json:"progress"`
	Required             int      `json:"required"` // of the present holders
	PGPFingerprints      []string `json:"pgp_fingerprints"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce,omitempty"`
	Warnings             []string `json:"warnings,omitempty"` // an objection only
}

func newRekeyStatus(c *node.Ceremony) rekeyStatus {
	s := rekeyStatus{Required: c.Required, VerificationNonce: verificationNonce(c)}
	if c.Attempt != nil {
		s.Nonce, s.Started, s.Progress = c.Attempt.Nonce, true, c.Attempt.Progress()
	}
	if p := c.Rekey; p != nil {
		s.Threshold, s.Shares, s.Backup, s.VerificationRequired = p.Threshold, p.Shares, p.Backup, p.Verify
		s.PGPFingerprints = p.Fingerprints
	}
	return s
}

func verificationNonce(c *node.Ceremony) string {
	if c.Verification == nil {
		return ""
	}
	return c.Verification.Nonce
}

func (f rekeyFamily) show(c *node.Ceremony, warnings []string) *reply {
	s := newRekeyStatus(c)
	if f.raw {
		s.Warnings = warnings
		return &reply{raw: s}
	}
	data := map[string]any{"n": s.Shares, "required": s.Required, "started": s.Started, "t": s.Threshold}
	if s.Started {
		data["nonce"], data["progress"] = s.Nonce, s.Progress
		data["verification_required"], data["verification_nonce"] = s.VerificationRequired, s.VerificationNonce
	}
	if len(s.PGPFingerprints) > 0 {
		data["pgp_fingerprints"], data["backup"] = s.PGPFingerprints, s.Backup
	}
	return &reply{data: data, warnings: warnings}
}

// rekeyResult is the reply to the approval that is the last: the one time that new shares in clear are seen.
type rekeyResult struct {
	Nonce    string `json:"nonce"`
	Complete bool   `json:"complete"`
	shareTexts
	PGPFingerprints      []string `json:"pgp_fingerprints"`
	Backup               bool     `json:"backup"`
	VerificationRequired bool     `json:"verification_required"`
	VerificationNonce    string   `json:"verification_nonce,omitempty"`
}

func (x *exchange) newRekeyResult(c *node.Ceremony) rekeyResult {
	s := newRekeyStatus(c)
	return rekeyResult{
		Nonce: s.Nonce, Complete: true, shareTexts: x.shareTexts(c.Keys), PGPFingerprints: s.PGPFingerprints, Backup: s.Backup,
		VerificationRequired: s.VerificationRequired, VerificationNonce: s.VerificationNonce,
	}
}

func (f rekeyFamily) showResult(r rekeyResult) *reply {
	if f.raw {
		return &reply{raw: r}
	}
	data := map[string]any{
		"nonce": r.Nonce, "complete": r.Complete, "keys": r.Keys, "keys_base64": r.KeysBase64,
		"verification_required": r.VerificationRequired, "verification_nonce": r.VerificationNonce,
	}
	if len(r.PGPFingerprints) > 0 {
		data["pgp_fingerprints"], data["backup"] = r.PGPFingerprints, r.Backup
	}
	return &reply{data: data}
}

// verificationStatus is the reply of sys/rekey/verify.
type verificationStatus struct {
	Nonce     string `json:"nonce"`
	Started   bool   `json:"started"`
	Threshold int    `json:"t"` // of the new shares, as is n
	Shares    int    `json:"n"`
	Progress  int    `json:"progress"`
	Required  int    `json:"required,omitempty"` // only where more must prove possession than the threshold
}

func (f rekeyFamily) showVerification(c *node.Ceremony) *reply {
	s := verificationStatus{Threshold: c.Rekey.Threshold, Shares: c.Rekey.Shares}
	if v := c.Verification; v != nil {
		s.Nonce, s.Started, s.Progress = v.Nonce, true, len(v.Proofs)
		if v.Required != s.Threshold {
			s.Required = v.Required
		}
	}
	return f.wrapped(s)
}

// rekeyBackup is what is kept of encrypted shares until somebody deletes it. One key may have been given for several.
type rekeyBackup struct {
	Nonce      string               `json:"nonce"`
	Keys       map[string][]hexText `json:"keys"`        // :: fingerprint → messages
	KeysBase64 map[string][][]byte  `json:"keys_base64"` // :: fingerprint → messages
}

func (f rekeyFamily) backup(x *exchange) (*reply, error) {
	nonce, fingerprints, keys, err := x.Node.RekeyBackup(x.r.Context(), x.access(), f.kind)
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errNoBackup
	}
	data := rekeyBackup{Nonce: nonce, Keys: map[string][]hexText{}, KeysBase64: map[string][][]byte{}}
	for i, key := range keys {
		to := fmt.Sprintf("recipient.%03d", i+1) // age recipients have no fingerprint: as in the attempt's parameters
		if i < len(fingerprints) {
			to = fingerprints[i]
		}
		data.Keys[to] = append(data.Keys[to], key)
		data.KeysBase64[to] = append(data.KeysBase64[to], key)
	}
	return &reply{data: data, inject: func(e envelope) any {
		return struct {
			rekeyBackup
			envelope
		}{data, e}
	}}, nil
}

func (f rekeyFamily) deleteBackup(x *exchange) (*reply, error) {
	return &reply{}, x.Node.DeleteRekeyBackup(x.r.Context(), x.access(), f.kind)
}
