package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"io"
	"net/http"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/secret"
)

// The endpoints that are open to all in status and approval. The api module only knows the ones for callers with a
// token, which is what the people who need a root token don't have.
const (
	attemptPath = "sys/generate-root/attempt"
	updatePath  = "sys/generate-root/update"
)

// rootGeneration is the operator generate-root command.
type rootGeneration struct {
	attempting
	generateOTP, sign bool // sign: approve by signature, the share stays here
	decode, otp       string
	pgpKey            []string
	confirmation      // with sign
}

func (a *app) generateRootCommand() *command.C {
	g := &rootGeneration{}
	g.app, g.typed = a, "quorate operator generate-root"
	c := &command.C{
		Name: "generate-root", Usage: "[flags]\n[flags] -",
		Help: `Generate a new root token with a quorum of key holders.

Without flags, at a terminal, this is the whole way: an attempt is started if none is in progress, the shares are
asked for one after the other, and the new token is printed, alone, on standard output.

Holders who sit elsewhere give one share each: -nonce=NONCE with the nonce of the attempt that they mean to approve.
Shares are asked for without showing them; with - one is read from standard input.
With -sign no share leaves this machine: what is approved is shown, and each share only signs it.

Starting and cancelling need a local connection, a token that may, or a key share (-holder). A dead token in the
environment is no hindrance.`,
	}
	g.flags(&c.Flags)
	return g.command(c, answers|onlyShare, 0, unlimited, g.run)
}

func (g *rootGeneration) flags(fs *flag.FlagSet) {
	fs.BoolVar(&g.init, "init", false, "start an attempt")
	fs.BoolVar(&g.cancel, "cancel", false, "cancel the attempt in progress")
	fs.BoolVar(&g.status, "status", false, "show the attempt in progress")
	fs.StringVar(&g.decode, "decode", "", "`ENCODED` token to decode with the one-time password; - for standard input")
	fs.BoolVar(&g.generateOTP, "generate-otp", false, "print a one-time password that fits")
	fs.StringVar(&g.otp, "otp", "", "one-time password `OTP`, for -init, -decode or the whole way; - for standard input; better left out: it is made or asked for")
	fs.Func("pgp-key", "`FILE` with the OpenPGP public key that the token is encrypted to, instead of an OTP", each(&g.pgpKey, readPGPKey))
	fs.StringVar(&g.reason, "reason", "", "`TEXT` kept with the attempt: what it is for")
	fs.StringVar(&g.nonce, "nonce", "", "`NONCE` of the attempt that the share is for")
	fs.BoolVar(&g.sign, "sign", false, "approve by signature: the share is not sent")
	g.confirmation.flags(fs, "approve with -sign")
	g.holderFlag(fs, "start or cancel")
}

func (g *rootGeneration) run(ctx context.Context, args []string) (err error) {
	if err := g.check(args); err != nil {
		return err
	}
	if _, err := g.out.format.resolve(); err != nil {
		return err
	}
	switch {
	case g.otp == "-" && g.conn.curl && g.decode == "":
		g.otp = otpHole
	case g.otp == "-":
		if err := g.readOTP(args); err != nil {
			return err
		}
	}
	if g.decode != "" { // needs no server
		return g.decodeToken(ctx)
	}
	if err := g.connect(); err != nil {
		return err
	}
	defer outlivePipe()()
	switch {
	case g.generateOTP:
		return g.newOTP(ctx)
	case g.cancel:
		return g.cancelAttempt(ctx, args)
	case g.init:
		return g.startAttempt(ctx, args)
	case g.status:
		return g.showStatus(ctx)
	}
	return g.give(ctx, args, "attempt", g.approveOnce, g.wholeWay)
}

// readOTP takes the OTP from standard input, so that it needn't be seen in the list of processes.
func (g *rootGeneration) readOTP(args []string) (err error) {
	if g.decode == "-" || len(args) > 0 {
		return localf("standard input can't be both the OTP and something else: leave one of them out, and it is asked for")
	}
	g.otp, err = g.pipedOTP()
	return err
}

// check refuses what contradicts itself or would have no effect.
func (g *rootGeneration) check(args []string) error {
	switch {
	case g.modes() > 1:
		return localf("-init, -cancel, -status, -decode and -generate-otp exclude each other")
	case g.otp != "" && !g.usesOTP(args):
		return localf("-otp is for -init, -decode and the whole way at one terminal: nothing else takes it")
	case g.otp != "" && len(g.pgpKey) > 0:
		return localf("-otp and -pgp-key exclude each other: the token is encoded with one or encrypted to the other")
	case len(g.pgpKey) > 1:
		return localf("-pgp-key takes one key")
	case g.sign && g.modes() > 0, g.confirmation.given() && !g.sign:
		return localf("-sign is for giving shares, and -words and -digest for -sign: nothing else takes them")
	case g.sign && g.holder:
		return localf("-holder would send the share: to start by signature, quorate ceremony start -holder root-token")
	}
	return nil
}

// usesOTP reports whether this run has a use for an OTP: it starts an attempt, decodes, or is the whole way.
func (g *rootGeneration) usesOTP(args []string) bool {
	return g.init || g.decode != "" || g.modes() == 0 && g.nonce == "" && len(args) == 0
}

// modes counts the flags of which each is a command of its own.
func (g *rootGeneration) modes() int {
	return countTrue(g.init, g.cancel, g.status, g.decode != "", g.generateOTP)
}

// rootStatus is a root generation as the server shows it.
type rootStatus struct {
	api.GenerateRootStatusResponse
	Warnings []string `json:"warnings,omitempty"` // ours: says that a cancel only counts as an objection
}

func (s *rootStatus) encoded() string { return cmp.Or(s.EncodedToken, s.EncodedRootToken) }

func (g *rootGeneration) ask(ctx context.Context, client *api.Client, method, path string, body []byte) (*rootStatus, error) {
	st := &rootStatus{}
	return st, call(ctx, client, method, path, body, st)
}

func (g *rootGeneration) readStatus(ctx context.Context) (*rootStatus, error) {
	st, err := g.ask(ctx, g.open, http.MethodGet, attemptPath, nil)
	return st, cmp.Or(err, wellFormed(st.Nonce))
}

// start sends body as it is; start and cancel are the two requests that carry the user's token.
func (g *rootGeneration) start(ctx context.Context, body []byte) (*rootStatus, error) {
	st, err := g.ask(ctx, g.authority, http.MethodPut, attemptPath, body)
	return st, cmp.Or(err, wellFormed(st.Nonce))
}

// recipient is to whom the token goes, as fields of a start: both are strings, perhaps empty, as stock clients send them.
func (g *rootGeneration) recipient() map[string]any {
	fields := map[string]any{"otp": g.otp, "pgp_key": strings.Join(g.pgpKey, "")}
	addGiven(fields, map[string]any{"reason": g.reason})
	return fields
}

func (g *rootGeneration) startAttempt(ctx context.Context, args []string) error {
	body, err := g.authorised(ctx, args, "start", g.recipient())
	if err != nil {
		return err
	}
	defer clear(body)
	st, err := g.start(ctx, body)
	if err != nil {
		return g.refusedStart(err)
	}
	if err := g.show(st); err != nil {
		if st.OTP == "" {
			return unprinted(err, "the attempt is open: quorate operator generate-root -status shows it")
		}
		return unprinted(err, "the attempt is open, but its OTP is lost: "+g.cancelCommand()+", then start again")
	}
	if st.OTP != "" {
		g.say("keep the OTP: it is shown only now, and without it the new token can't be decoded")
	}
	g.say("holders give their shares with: quorate operator generate-root -nonce=%s", st.Nonce)
	g.say("or, without sending them: quorate ceremony approve %s", st.Nonce)
	return nil
}

func (g *rootGeneration) cancelAttempt(ctx context.Context, args []string) error {
	var body []byte
	if g.holder {
		var err error
		if body, err = g.authorised(ctx, args, "cancel", map[string]any{}); err != nil {
			return err
		}
		defer clear(body)
	}
	st, err := g.ask(ctx, g.authority, http.MethodDelete, attemptPath, body)
	switch {
	case errors.Is(err, errNoContent):
		g.say("the root generation is cancelled, if one was in progress")
		return nil
	case err != nil:
		return g.needAuthority(asking("cancelling the root generation", err))
	}
	g.warn(st.Warnings) // an objection; a cancel that ended the attempt has no body
	return errors.Join(g.show(st), silent(exitServer))
}

func (g *rootGeneration) refusedStart(err error) error {
	return g.notStarted("starting the root generation", err, "see it with quorate operator generate-root -status, end it with -cancel (-cancel -holder by a key holder)")
}

func (g *rootGeneration) showStatus(ctx context.Context) error {
	st, err := g.readStatus(ctx)
	if err != nil {
		return asking("reading the status of the root generation", err)
	}
	return g.show(st)
}

// show prints an attempt in the rows, or the ten fields, of the stock command.
func (g *rootGeneration) show(st *rootStatus) error {
	return g.print(st, func() string {
		var t sheet
		t.add("Nonce", cmp.Or(st.Nonce, "n/a"))
		t.add("Started", st.Started)
		t.add("Progress", fraction(st.Progress, st.Required))
		t.add("Complete", st.Complete)
		t.known("PGP Fingerprint", st.PGPFingerprint)
		t.known("Encoded Token", st.encoded())
		t.known("OTP", st.OTP)
		if st.OTPLength > 0 {
			t.add("OTP Length", st.OTPLength)
		}
		return t.text()
	})
}

// newOTP makes a one-time password of the length that the server asks for.
func (g *rootGeneration) newOTP(ctx context.Context) error {
	st, err := g.readStatus(ctx)
	if err != nil {
		return asking("asking for the length of the OTP", err)
	}
	if st.OTPLength <= 0 || st.OTPLength > maxLine {
		return localf("the server doesn't tell the length of an OTP")
	}
	return g.printBare("otp", secret.AppendBase62(nil, rand.Reader, st.OTPLength))
}

// decodeToken decodes without asking the server, which may be anywhere by then.
func (g *rootGeneration) decodeToken(ctx context.Context) error {
	encoded := []byte(g.decode)
	if g.decode == "-" {
		line, err := readLine(g.stdin)
		if err != nil && !errors.Is(err, io.EOF) {
			return localf("reading the encoded token: %w", err)
		}
		encoded = line
	}
	otp := []byte(g.otp)
	if g.otp == "" {
		tty, err := g.terminal("asking for the OTP", "give it through a pipe, with -otp=-")
		if err != nil {
			return err
		}
		if otp, err = tty.Secret(ctx, "OTP (will be hidden): "); err != nil {
			return stuck("reading the OTP", err)
		}
	}
	defer clear(otp)
	token, err := decode(encoded, otp)
	if err != nil {
		return stuck("decoding the token", err)
	}
	defer clear(token)
	return g.printBare("token", token)
}

// decode undoes the encoding, and notices most OTPs of other attempts: what comes out with them isn't printable, or
// doesn't look like a token of this server.
func decode(encoded, otp []byte) ([]byte, error) {
	text := strings.TrimSpace(string(encoded))
	token, err := delivery.Decode([]byte(strings.TrimRight(text, "=")), []byte(strings.TrimSpace(string(otp))))
	if err != nil {
		return nil, err
	}
	if !tokenLike(token) {
		clear(token)
		return nil, errors.New("the OTP belongs to another attempt than the encoded token")
	}
	return token, nil
}

// tokenLike reports whether b may be a token: printable and, at the length of those that this server makes, of their form.
func tokenLike(b []byte) bool {
	const prefix, length = "q.", 24
	made := len(b) == length
	if made && !bytes.HasPrefix(b, []byte(prefix)) {
		return false
	}
	for i, c := range b {
		if c <= ' ' || c > '~' || made && i >= len(prefix) && !strings.ContainsRune(secret.Base62, rune(c)) {
			return false
		}
	}
	return true
}
