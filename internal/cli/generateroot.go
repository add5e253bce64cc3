package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
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
	*app
	conn connection
	out  output

	init, cancel, status, generateOTP, holder bool
	decode, otp, nonce, reason                string
	pgpKey                                    keyFiles
	idle                                      bool // no attempt was in progress when a share was asked for

	open      *api.Client // speaks as nobody: status and approvals need no token, so none is sent
	authority *api.Client // speaks as the user: for start and cancel, if the token is any good
}

func (a *app) generateRootCommand() *command.C {
	g := &rootGeneration{app: a}
	c := &command.C{
		Name: "generate-root", Usage: "[flags]\n[flags] -",
		Help: `Generate a new root token with a quorum of key holders.

Without flags, at a terminal, this is the whole way: an attempt is started if none is in progress, the shares are
asked for one after the other, and the new token is printed, alone, on standard output.

Holders who sit elsewhere give one share each: -nonce=NONCE with the nonce of the attempt that they mean to approve.
Shares are asked for without showing them; with - one is read from standard input.

Starting and cancelling need a local connection, a token that may, or a key share (-holder). A dead token in the
environment is no hindrance.`,
	}
	g.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		args, err := positional(env, 0, unlimited)
		if err != nil {
			return err
		}
		return g.run(env.Context(), args)
	}
	return c
}

func (g *rootGeneration) flags(fs *flag.FlagSet) {
	g.conn.flags(fs, hidden)
	g.out.flags(fs)
	fs.BoolVar(&g.init, "init", false, "start an attempt")
	fs.BoolVar(&g.cancel, "cancel", false, "cancel the attempt in progress")
	fs.BoolVar(&g.status, "status", false, "show the attempt in progress")
	fs.StringVar(&g.decode, "decode", "", "`ENCODED` token to decode with the one-time password; - for standard input")
	fs.BoolVar(&g.generateOTP, "generate-otp", false, "print a one-time password that fits")
	fs.StringVar(&g.otp, "otp", "", "one-time password `OTP`, for -init, -decode or the whole way; - for standard input; better left out: it is made or asked for")
	fs.Var(&g.pgpKey, "pgp-key", "`FILE` with the OpenPGP public key that the token is encrypted to, instead of an OTP")
	fs.StringVar(&g.reason, "reason", "", "`TEXT` kept with the attempt: what it is for")
	fs.StringVar(&g.nonce, "nonce", "", "`NONCE` of the attempt that the share is for")
	fs.BoolVar(&g.holder, "holder", false, "start or cancel with the authority of a key share (asked for, or - for standard input)")
}

func (g *rootGeneration) run(ctx context.Context, args []string) (err error) {
	if err := g.check(args); err != nil {
		return err
	}
	if _, err := g.out.format.resolve(); err != nil {
		return err
	}
	if g.otp == "-" {
		if err := g.readOTP(args); err != nil {
			return err
		}
	}
	if g.decode != "" { // needs no server
		return g.decodeToken(ctx)
	}
	if g.open, err = g.conn.client(""); err != nil {
		return err
	}
	token, err := currentToken()
	if err != nil { // holders and those on the server's own machine need none
		g.say("warning: going on without a token: %s", reasons(err))
	}
	if g.authority, err = g.conn.client(usable(token)); err != nil {
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
	return g.approve(ctx, args)
}

// readOTP takes the OTP from standard input, so that it needn't be seen in the list of processes.
func (g *rootGeneration) readOTP(args []string) error {
	if g.decode == "-" || len(args) > 0 {
		return localf("standard input can't be both the OTP and something else: leave one of them out, and it is asked for")
	}
	line, err := readLine(g.stdin)
	if err != nil {
		return localf("reading the OTP: %w", err)
	}
	g.otp = string(line)
	clear(line)
	return nil
}

// check refuses what contradicts itself or would have no effect.
func (g *rootGeneration) check(args []string) error {
	switch {
	case len(args) > 1 || len(args) == 1 && args[0] != "-":
		return localf("%w", errShareArgument)
	case g.modes() > 1:
		return localf("-init, -cancel, -status, -decode and -generate-otp exclude each other")
	case g.otp != "" && !g.usesOTP(args):
		return localf("-otp is for -init, -decode and the whole way at one terminal: nothing else takes it")
	case g.otp != "" && len(g.pgpKey) > 0:
		return localf("-otp and -pgp-key exclude each other: the token is encoded with one or encrypted to the other")
	case len(g.pgpKey) > 1:
		return localf("-pgp-key takes one key")
	}
	return nil
}

// usesOTP reports whether this run has a use for an OTP: it starts an attempt, decodes, or is the whole way.
func (g *rootGeneration) usesOTP(args []string) bool {
	return g.init || g.decode != "" || g.modes() == 0 && g.nonce == "" && len(args) == 0
}

// modes counts the flags of which each is a command of its own.
func (g *rootGeneration) modes() (n int) {
	for _, on := range []bool{g.init, g.cancel, g.status, g.decode != "", g.generateOTP} {
		if on {
			n++
		}
	}
	return n
}

// rootStatus is a root generation as the server shows it.
type rootStatus struct {
	api.GenerateRootStatusResponse
	Warnings []string `json:"warnings,omitempty"` // ours: says that a cancel only counts as an objection
}

func (s *rootStatus) encoded() string {
	if s.EncodedToken != "" {
		return s.EncodedToken
	}
	return s.EncodedRootToken
}

func (g *rootGeneration) readStatus(ctx context.Context) (*rootStatus, error) {
	st := &rootStatus{}
	return st, call(ctx, g.open, http.MethodGet, attemptPath, nil, st)
}

// start sends body as it is; start and cancel are the two requests that carry the user's token.
func (g *rootGeneration) start(ctx context.Context, body []byte) (*rootStatus, error) {
	st := &rootStatus{}
	return st, call(ctx, g.authority, http.MethodPut, attemptPath, body, st)
}

// recipient is to whom the token goes, as fields of a start: both are strings, perhaps empty, as stock clients send them.
func (g *rootGeneration) recipient() map[string]any {
	fields := map[string]any{"otp": g.otp, "pgp_key": strings.Join(g.pgpKey, "")}
	if g.reason != "" {
		fields["reason"] = g.reason
	}
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
		return g.notStarted(err)
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
	st := &rootStatus{}
	if err := call(ctx, g.authority, http.MethodDelete, attemptPath, body, st); err != nil {
		return g.needAuthority(asking("cancelling the root generation", err))
	}
	if st.Started { // an objection; a cancel that ended the attempt has no body
		for _, w := range st.Warnings {
			g.say("warning: %s", printable(w))
		}
		return errors.Join(g.show(st), silent(exitServer))
	}
	g.say("the root generation is cancelled, if one was in progress")
	return nil
}

// authorised is the body of a start or cancel; with -holder it carries a share as authority.
func (g *rootGeneration) authorised(ctx context.Context, args []string, verb string, fields map[string]any) ([]byte, error) {
	if !g.holder {
		return jsonBody(fields), nil
	}
	return g.sharePayload(ctx, &g.conn, args, "key share of a holder, to "+verb+" with (will be hidden): ", fields)
}

// cancelCommand is how whoever started an attempt this way ends it: with the authority that it was started with.
func (g *rootGeneration) cancelCommand() string {
	if g.holder {
		return "quorate operator generate-root -cancel -holder"
	}
	return "quorate operator generate-root -cancel"
}

func (g *rootGeneration) needAuthority(err error) error {
	if g.holder {
		return err
	}
	return hinted(err, http.StatusForbidden, "a key holder can do this from anywhere and without a token: add -holder")
}

func (g *rootGeneration) notStarted(err error) error {
	err = g.needAuthority(asking("starting the root generation", err))
	if strings.Contains(err.Error(), "already in progress") {
		return hinted(err, http.StatusBadRequest, "see it with quorate operator generate-root -status, end it with -cancel (-cancel -holder by a key holder)")
	}
	return err
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
	return g.print(&g.out, st, func() string {
		nonce := st.Nonce
		if nonce == "" {
			nonce = "n/a"
		}
		rows := []row{
			{"Nonce", nonce},
			{"Started", strconv.FormatBool(st.Started)},
			{"Progress", fmt.Sprintf("%d/%d", st.Progress, st.Required)},
			{"Complete", strconv.FormatBool(st.Complete)},
		}
		for _, r := range []row{{"PGP Fingerprint", st.PGPFingerprint}, {"Encoded Token", st.encoded()}, {"OTP", st.OTP}} {
			if r[1] != "" {
				rows = append(rows, r)
			}
		}
		if st.OTPLength > 0 {
			rows = append(rows, row{"OTP Length", strconv.Itoa(st.OTPLength)})
		}
		return table(rows)
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
		tty, err := g.terminal(&g.conn)
		if err != nil {
			return &failure{code: exitLocal, action: "asking for the OTP", err: err, hint: "give it through a pipe, with -otp=-"}
		}
		if otp, err = tty.Secret(ctx, "OTP (will be hidden): "); err != nil {
			return &failure{code: exitLocal, action: "reading the OTP", err: err}
		}
	}
	defer clear(otp)
	token, err := decode(encoded, otp)
	if err != nil {
		return &failure{code: exitLocal, action: "decoding the token", err: err}
	}
	defer clear(token)
	return g.printToken(token)
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

// printToken prints the new token, alone.
func (g *rootGeneration) printToken(token []byte) error { return g.printBare("token", token) }

// printBare prints a value, alone; in json and yaml under its name.
func (g *rootGeneration) printBare(name string, value []byte) error {
	format, err := g.out.format.resolve()
	if err != nil {
		return err
	}
	if format == "table" {
		return g.printValue(string(value))
	}
	return g.encode(format, map[string]string{name: string(value)})
}
