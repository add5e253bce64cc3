package cli

import (
	"context"
	"errors"
	"flag"
	"net/http"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// rekeying is the operator rekey command, and operator rotate-keys: the same on other paths, where all may need a token.
type rekeying struct {
	attempting
	shareSpec
	path      string
	tokenOnly bool // rotate-keys: everything as the user, in envelopes

	verify, backup, backupRetrieve, backupDelete bool
	noVerification, verifyThreshold, rotate      bool

	target string
	ttl    durationText
}

const rekeyHelp = `

Without flags, at a terminal, this is the whole way: a rekey is started if none is in progress, the present shares are
asked for one after the other, the new ones are printed, and then asked for as well: the new shares are in force once
their holders have shown that they have them, and until then the present ones are. Holders who sit elsewhere give one
share each: -nonce=NONCE for a present share, -verify -nonce=NONCE for a new one.

Shares are asked for without showing them; with - one is read from standard input.`

func (a *app) rekeyCommand() *command.C {
	r := &rekeying{path: "sys/rekey"}
	return r.rekeyCommand(a, "rekey", `Make new key shares with a quorum of the present key holders.`+rekeyHelp+`
Starting and cancelling need a local connection, a token that may, or a key share (-holder).`)
}

func (a *app) rotateKeysCommand() *command.C {
	r := &rekeying{path: "sys/rotate/root", tokenOnly: true}
	return r.rekeyCommand(a, "rotate-keys", `Make new key shares and rotate the root key, with a quorum of the present key holders.`+rekeyHelp+`
Starting and cancelling need a local connection, a token that may, or a key share (-holder). Other servers of the family
demand a token for everything, so one is sent if there is one.`)
}

func (r *rekeying) rekeyCommand(a *app, name, help string) *command.C {
	r.app, r.typed = a, "quorate operator "+name
	c := &command.C{Name: name, Usage: "[flags]\n[flags] -", Help: help}
	r.flags(&c.Flags)
	return r.command(c, answers|onlyShare, 0, unlimited, r.run)
}

func (r *rekeying) flags(fs *flag.FlagSet) {
	fs.BoolVar(&r.init, "init", false, "start")
	fs.BoolVar(&r.cancel, "cancel", false, "cancel what is in progress; with -verify, only the verification, which begins anew")
	fs.BoolVar(&r.status, "status", false, "show what is in progress; with -verify, the verification")
	fs.BoolVar(&r.verify, "verify", false, "this is about the verification of the new shares")
	fs.StringVar(&r.nonce, "nonce", "", "`NONCE` of the attempt, or of the verification, that the share is for")
	r.shareSpec.flags(fs, "new ")
	fs.BoolVar(&r.noVerification, "no-verification", false, "put the new shares in force at once, whether or not anybody has them")
	fs.BoolVar(&r.verifyThreshold, "verify-threshold", false, "put them in force when a quorum of the new holders has verified theirs, not all")
	fs.BoolVar(&r.rotate, "rotate", r.tokenOnly, "rotate the root key and the keyring's term in the same commit")
	fs.BoolVar(&r.backup, "backup", false, "let the server keep the encrypted shares until -backup-delete")
	fs.BoolVar(&r.backupRetrieve, "backup-retrieve", false, "print the encrypted shares that the server keeps")
	fs.BoolVar(&r.backupDelete, "backup-delete", false, "delete the encrypted shares that the server keeps")
	fs.StringVar(&r.reason, "reason", "", "`TEXT` kept with the attempt: what it is for")
	fs.Var(&r.ttl, "ttl", "`DURATION` after which the attempt expires")
	fs.StringVar(&r.target, "target", "barrier", "`KEYS` to replace: barrier is the only choice")
	r.holderFlag(fs, "start or cancel")
}

func (r *rekeying) run(ctx context.Context, args []string) (err error) {
	if err := r.check(args); err != nil {
		return err
	}
	if _, err := r.out.format.resolve(); err != nil {
		return err
	}
	if r.tokenOnly || r.backupRetrieve || r.backupDelete {
		r.authority, err = r.user()
		r.open = r.authority
	} else {
		err = r.connect()
	}
	if err != nil {
		return err
	}
	defer outlivePipe()()
	switch {
	case r.backupDelete:
		return r.deleteBackup(ctx)
	case r.backupRetrieve:
		return r.printAt(ctx, r.authority, r.path+"/backup", "reading the kept shares")
	case r.cancel && r.verify:
		return r.restartVerification(ctx, args)
	case r.cancel:
		return r.cancelAttempt(ctx, args)
	case r.init:
		return r.startAttempt(ctx, args)
	case r.status:
		return r.showStatus(ctx)
	}
	return r.give(ctx, args, "attempt, or with -verify of the verification,", r.giveOnce, r.wholeWay)
}

// check refuses what contradicts itself or would have no effect.
func (r *rekeying) check(args []string) error {
	modes := countTrue(r.init, r.cancel, r.status, r.backupRetrieve, r.backupDelete)
	whole := modes == 0 && r.nonce == "" && !r.verify && len(args) == 0
	switch {
	case r.target != "barrier":
		return localf("-target: only the keys of the barrier can be replaced here; there are no recovery keys")
	case modes > 1:
		return localf("-init, -cancel, -status, -backup-retrieve and -backup-delete exclude each other")
	case r.starts() && !r.init && !whole:
		return localf("flags that say what to start have no effect here: they go with -init, or with the whole way at one terminal")
	case r.holder && !r.init && !r.cancel && !whole:
		return localf("-holder has no effect here: it goes with -init, -cancel, or the whole way at one terminal")
	case r.noVerification && (r.verify || r.verifyThreshold):
		return localf("-no-verification excludes -verify and -verify-threshold")
	case r.backup && len(r.pgpKeys)+len(r.age) == 0:
		return localf("-backup keeps encrypted shares only: add -pgp-keys or -age-recipients")
	}
	return r.shareSpec.check()
}

// starts reports whether a flag was given that only says what to start.
func (r *rekeying) starts() bool {
	return len(r.pgpKeys)+len(r.age)+len(r.labels) > 0 || r.noVerification || r.verifyThreshold || r.rotate != r.tokenOnly || r.backup || r.reason != "" || r.ttl != ""
}

// ask sends a request and decodes the answer into out, whichever shape it has on this path.
func (r *rekeying) ask(ctx context.Context, client *api.Client, method, endpoint string, body []byte, out *rekeyStatus) error {
	if !r.tokenOnly {
		return call(ctx, client, method, r.path+endpoint, body, out)
	}
	warnings, err := callEnveloped(ctx, client, method, r.path+endpoint, body, out)
	out.Warnings = warnings
	return err
}

// writes is the method that stock clients use on this path.
func (r *rekeying) writes() string {
	if r.tokenOnly {
		return http.MethodPost
	}
	return http.MethodPut
}

// fields are those of a start: first what every server of the family knows, then ours where they are asked for.
func (r *rekeying) fields() map[string]any {
	fields := map[string]any{
		"secret_shares": r.shares, "secret_threshold": r.threshold, "pgp_keys": r.pgpKeys, "backup": r.backup,
		"require_verification": !r.noVerification,
	}
	if !r.noVerification {
		fields["verify_all"] = !r.verifyThreshold
	}
	if r.rotate != r.tokenOnly { // which is what the path stands for
		fields["rotate"] = r.rotate
	}
	addGiven(fields, map[string]any{"age_recipients": r.age, "holders": r.labels, "reason": r.reason, "ttl": r.ttl})
	return fields
}

func (r *rekeying) startAttempt(ctx context.Context, args []string) error {
	st, err := r.start(ctx, args)
	if err != nil {
		return err
	}
	if err := r.show(st); err != nil {
		return unprinted(err, "it is started: "+r.typed+" -status shows it")
	}
	r.say("holders give their present shares with: %s -nonce=%s", r.typed, visible(st.Nonce, ""))
	return nil
}

func (r *rekeying) start(ctx context.Context, args []string) (*rekeyStatus, error) {
	body, err := r.authorised(ctx, args, "start", r.fields())
	if err != nil {
		return nil, err
	}
	defer clear(body)
	st := &rekeyStatus{}
	if err := r.ask(ctx, r.authority, r.writes(), "/init", body, st); err != nil {
		return nil, r.notStarted("starting the rekey", err, "see it with "+r.typed+" -status, end it with -cancel")
	}
	return st, wellFormed(st.Nonce, st.VerificationNonce)
}

// end sends a DELETE, with the nonce if it is known and a share if that is the authority.
func (r *rekeying) end(ctx context.Context, args []string, endpoint string) (st *rekeyStatus, err error) {
	fields := map[string]any{}
	addGiven(fields, map[string]any{"nonce": r.nonce})
	var body []byte
	if r.holder || len(fields) > 0 {
		if body, err = r.authorised(ctx, args, "cancel", fields); err != nil {
			return nil, err
		}
		defer clear(body)
	}
	st = &rekeyStatus{}
	return st, r.needAuthority(asking("cancelling", r.ask(ctx, r.authority, http.MethodDelete, endpoint, body, st)))
}

func (r *rekeying) cancelAttempt(ctx context.Context, args []string) error {
	st, err := r.end(ctx, args, "/init")
	switch {
	case err == nil: // an objection; a cancel that ended the attempt has no body
		r.warn(st.Warnings)
		return errors.Join(r.show(st), silent(exitServer))
	case !errors.Is(err, errNoContent):
		return err
	}
	r.say("the rekey is cancelled, if one was in progress")
	if t, err := readShareTable(ctx, r.open); err == nil && t.inForce() > 0 {
		r.say("in force are the key shares of generation %d", t.inForce())
	}
	return nil
}

// restartVerification makes the server forget which new shares were verified.
func (r *rekeying) restartVerification(ctx context.Context, args []string) error {
	st, err := r.end(ctx, args, "/verify")
	if errors.Is(err, errNoContent) {
		st, err = r.read(ctx, true)
	}
	if err != nil {
		return err
	}
	r.say("the verification begins anew: every new share has to be given again, with the new nonce")
	return r.showVerification(st)
}

// read reads the status: of the attempt, or of the verification of new shares.
func (r *rekeying) read(ctx context.Context, verify bool) (*rekeyStatus, error) {
	endpoint, action := "/init", "reading the status of the rekey"
	if verify {
		endpoint, action = "/verify", "reading the status of the verification"
	}
	st := &rekeyStatus{}
	if err := r.ask(ctx, r.open, http.MethodGet, endpoint, nil, st); err != nil {
		return st, asking(action, err)
	}
	return st, wellFormed(st.Nonce, st.VerificationNonce)
}

func (r *rekeying) showStatus(ctx context.Context) error {
	st, err := r.read(ctx, r.verify)
	switch {
	case err != nil:
		return err
	case r.verify:
		return r.showVerification(st)
	}
	return r.show(st)
}

func (r *rekeying) deleteBackup(ctx context.Context) error {
	if err := call(ctx, r.authority, http.MethodDelete, r.path+"/backup", nil, nil); err != nil {
		return asking("deleting the kept shares", err)
	}
	r.say("the kept shares are deleted, if there were any")
	return nil
}
