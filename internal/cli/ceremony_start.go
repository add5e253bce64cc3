package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/holder"
)

// ceremonyStart is the ceremony start command.
type ceremonyStart struct {
	*ceremonies
	kind ceremony.Kind

	reason       string
	ttl, rootTTL time.Duration
	otp, verify  string
	shareSpec

	noVerification, rotate, backup bool
}

func (a *app) ceremonyStartCommand() *command.C {
	s := &ceremonyStart{}
	return a.ceremonyCommand("start", "[flags] KIND\n[flags] -holder KIND -", `Start a ceremony.

KIND is one of

root-token   a new root token, for whoever has the one-time password or the key that it is encrypted to
rekey        new key shares; rotate-root makes a new root key as well
drill        nothing: every holder shows that their share works
holders      other labels for the holders (-holders)

It takes a local connection, a token that may, or a key share (-holder), which signs the start and stays here. Starting
is no approval.`,
		func(c *ceremonies, fs *flag.FlagSet) { s.ceremonies = c; s.flags(fs) },
		func(_ *ceremonies, ctx context.Context, args []string) error { return s.run(ctx, args) })
}

func (s *ceremonyStart) flags(fs *flag.FlagSet) {
	fs.StringVar(&s.reason, "reason", "", "`TEXT` that the holders are shown: what it is for")
	fs.DurationVar(&s.ttl, "ttl", 0, "`DURATION` after which it ends in any case")
	fs.StringVar(&s.otp, "otp", "", "root-token: - to read a one-time password from standard input; left out, the server makes one")
	fs.DurationVar(&s.rootTTL, "root-token-ttl", 0, "root-token: `DURATION` for which the new token lives; left out, as the server is configured")
	fs.Func("pgp-key", "`FILE` with the OpenPGP public key that the result is encrypted to", each(&s.pgpKeys, readPGPKey))
	fs.Func("pgp-keys", "rekey, rotate-root: `FILES` with one OpenPGP public key per share, comma-separated", each(&s.pgpKeys, readPGPKey))
	fs.Func("age-recipients", "`LIST` of files or age1... texts that the result is encrypted to; for rekey and rotate-root one per share", each(&s.age, ageRecipients))
	fs.Func("holders", "rekey, rotate-root, holders: `NAMES` of the holders in slot order, comma-separated", each(&s.labels, holderLabel))
	fs.IntVar(&s.shares, "key-shares", 0, "rekey, rotate-root: `NUMBER` of new shares; left out, as many as now")
	fs.IntVar(&s.threshold, "key-threshold", 0, "rekey, rotate-root: `NUMBER` of new shares that are a quorum; left out, as many as now")
	fs.BoolVar(&s.noVerification, "no-verification", false, "rekey, rotate-root: the new shares come into force before anybody has proved to have them")
	fs.StringVar(&s.verify, "verify", "", "rekey, rotate-root: `WHO` must prove to have a new share first: all (default) or threshold")
	fs.BoolVar(&s.rotate, "rotate", false, "rekey: a new root key and encryption key come with the new shares")
	fs.BoolVar(&s.backup, "backup", false, "rekey, rotate-root: the server keeps the encrypted shares until they are deleted")
	s.holderFlags(fs, "start")
}

func (s *ceremonyStart) rekeys() bool {
	return s.kind == ceremony.Rekey || s.kind == ceremony.RotateRoot
}

// check refuses what contradicts itself or would have no effect.
func (s *ceremonyStart) check(rest []string) error {
	root := s.kind == ceremony.RootToken
	switch {
	case !s.kind.Known():
		return localf("a ceremony is one of root-token, rekey, rotate-root, drill and holders")
	case onlyDash(rest) != nil:
		return onlyDash(rest)
	case len(rest) == 1 && (!s.holder || s.otp != ""):
		return localf("standard input is for one thing: a share with -holder, or -otp=-")
	case s.otp != "" && s.otp != "-":
		return localf("the OTP comes from standard input: -otp=-; other users can read an argument")
	case s.otp != "" && s.holder && !s.sendShare:
		return localf("a one-time password of yours can't be in a start by signature: leave it out and the server makes one, or add -send-share")
	case (s.otp != "" || s.rootTTL != 0) && !root, (len(s.pgpKeys) > 0 || len(s.age) > 0) && !root && !s.rekeys():
		return localf("a recipient is for root-token, rekey and rotate-root; -otp and -root-token-ttl for root-token alone")
	case len(s.labels) > 0 && !s.rekeys() && s.kind != ceremony.Holders, len(s.labels) == 0 && s.kind == ceremony.Holders:
		return localf("-holders is for rekey and rotate-root, and needed for holders")
	case (s.shares != 0 || s.threshold != 0 || s.noVerification || s.verify != "" || s.rotate || s.backup) && !s.rekeys():
		return localf("numbers of shares, verification, -rotate and -backup are for rekey and rotate-root")
	case s.verify != "" && (s.noVerification || s.verify != "all" && s.verify != "threshold"):
		return localf("-verify is all or threshold, and excludes -no-verification")
	case root && countTrue(s.otp != "", len(s.pgpKeys) > 0, len(s.age) > 0) > 1, len(s.pgpKeys) > 0 && len(s.age) > 0:
		return localf("there is one kind of recipient: -otp, -pgp-key or -age-recipients")
	case root && len(s.pgpKeys) > 1:
		return localf("-pgp-key takes one key for a root token")
	case s.ttl < 0 || s.rootTTL < 0 || s.ttl%time.Second != 0 || s.rootTTL%time.Second != 0:
		return localf("a duration is of whole seconds")
	case ceremony.CheckLine(s.reason) != nil:
		return localf("the reason: %w", ceremony.CheckLine(s.reason))
	}
	return nil
}

func (s *ceremonyStart) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return localf("which kind of ceremony? root-token, rekey, rotate-root, drill or holders")
	}
	s.kind, args = ceremony.Kind(args[0]), args[1:]
	if err := s.check(args); err != nil {
		return err
	}
	if err := s.contact(ctx); err != nil {
		return err
	}
	if err := s.complete(); err != nil {
		return err
	}
	plan, err := s.plan()
	if err != nil {
		return err
	}
	fields, err := s.fields()
	if err != nil {
		return err
	}
	body, err := s.authorised(ctx, args, plan, fields)
	if err != nil {
		return err
	}
	defer clear(body)
	info, err := s.post(ctx, s.asserting(), "", "starting the ceremony", body)
	switch {
	case err != nil && strings.Contains(err.Error(), "already in progress"):
		return hinted(err, http.StatusBadRequest, "see it with quorate ceremony status, end it with quorate ceremony cancel (-holder by a key holder)")
	case err != nil:
		return clockHint(s.needAuthority(err))
	}
	return s.report(ctx, plan, info)
}

// complete takes the numbers of shares that weren't given from those in force.
func (s *ceremonyStart) complete() error {
	if s.list == nil || !s.rekeys() { // the request is only printed, or nothing is missing
		return nil
	}
	if s.shares == 0 {
		if s.shares = s.list.Shares; len(s.labels) > 0 {
			s.shares = len(s.labels)
		}
	}
	if s.threshold == 0 {
		s.threshold = s.list.Threshold
	}
	for _, n := range []int{len(s.labels), len(s.pgpKeys), len(s.age)} {
		if n != 0 && n != s.shares {
			return localf("there are %d new shares: give as many holders and recipients, or none", s.shares)
		}
	}
	return nil
}

// plan is the start as a holder signs it, but for the time, and as the attempt must show it.
func (s *ceremonyStart) plan() (ceremony.Start, error) {
	plan := ceremony.Start{Kind: s.kind, Reason: s.reason, TTL: s.ttl}
	if s.list != nil {
		plan.ClusterID, plan.Generation = s.list.ClusterID, s.list.Generation
	}
	add := func(name, value string) {
		plan.Parameters = append(plan.Parameters, ceremony.Parameter{Name: name, Value: value})
	}
	recipients, err := s.normalise()
	if err != nil {
		return plan, err
	}
	switch {
	case s.kind == ceremony.RootToken:
		if plan.Recipient = string(delivery.OTP); len(recipients) > 0 {
			plan.Recipient = recipients[0]
		}
		if s.rootTTL > 0 {
			add("root_token_ttl", strconv.FormatInt(int64(s.rootTTL/time.Second), 10))
		}
	case s.rekeys():
		for n, r := range recipients {
			add(fmt.Sprintf("recipient.%03d", n+1), r)
		}
		for name, v := range s.rekeyFields() {
			add(name, fmt.Sprint(v))
		}
	}
	for n, label := range s.labels {
		add(fmt.Sprintf("holder.%03d", n+1), label)
	}
	slices.SortFunc(plan.Parameters, func(a, b ceremony.Parameter) int { return strings.Compare(a.Name, b.Name) })
	return plan, nil
}

// normalise puts the keys into their one spelling, which the digest is of, and names them as the digest does.
func (s *ceremonyStart) normalise() (names []string, err error) {
	mode, keys := delivery.Age, s.age
	if len(s.pgpKeys) > 0 {
		mode, keys = delivery.PGP, s.pgpKeys
	}
	if s.kind == ceremony.RootToken && len(keys) > 1 { // one message for all of them
		s.age = []string{strings.Join(keys, "\n")}
		keys = s.age
	}
	for i, key := range keys {
		var d delivery.Delivery
		if mode == delivery.PGP {
			d, err = delivery.FromPGP([]byte(key), time.Now())
		} else {
			d, err = delivery.FromAge(key, time.Now())
		}
		if err != nil {
			return nil, localf("%w", err)
		}
		keys[i] = d.Key()
		name, err := delivery.RecipientOf(mode, keys[i])
		if err != nil {
			return nil, localf("%w", err)
		}
		names = append(names, name)
	}
	return names, nil
}

// rekeyFields are the parameters that every rekey has, with the names that they have on the wire and in the digest.
func (s *ceremonyStart) rekeyFields() map[string]any {
	return map[string]any{
		"secret_shares": s.shares, "secret_threshold": s.threshold,
		"require_verification": !s.noVerification, "verify_all": !s.noVerification && s.verify != "threshold",
		"rotate": s.rotate || s.kind == ceremony.RotateRoot, "backup": s.backup,
	}
}

// fields are the body of the request, without its authority.
func (s *ceremonyStart) fields() (map[string]any, error) {
	f := map[string]any{"kind": s.kind}
	addGiven(f, map[string]any{"reason": s.reason, "ttl": int64(s.ttl / time.Second), "holders": s.labels})
	switch {
	case s.rekeys():
		maps.Copy(f, s.rekeyFields())
		addGiven(f, map[string]any{"pgp_keys": s.pgpKeys, "age_recipients": s.age})
	case s.kind == ceremony.RootToken:
		otp, err := s.otp, error(nil)
		switch {
		case otp != "" && s.conn.curl:
			otp = otpHole
		case otp != "":
			if otp, err = s.pipedOTP(); err != nil {
				return nil, err
			}
		}
		addGiven(f, map[string]any{
			"pgp_key": strings.Join(s.pgpKeys, ""), "age_recipients": strings.Join(s.age, ""), // there is one at most
			"root_token_ttl": int64(s.rootTTL / time.Second), "otp": otp,
		})
	}
	return f, nil
}

// authorised is the body of the request; with -holder it carries a signature or a share.
func (s *ceremonyStart) authorised(ctx context.Context, args []string, plan ceremony.Start, fields map[string]any) ([]byte, error) {
	if !s.holder {
		return s.fieldsBody(fields), nil
	}
	threshold := 0
	if s.list != nil {
		threshold = s.list.Threshold
	}
	return s.credential(ctx, args, "key share of a holder, to start with (will be hidden): ", consent{
		clusterID: plan.ClusterID, generation: plan.Generation, threshold: threshold, fields: fields, timed: true,
		statement: func(slot int, at time.Time) holder.Statement {
			plan.At = at
			return plan.Statement(slot)
		},
	})
}

// report prints what was started. If that isn't what was asked for, nobody should approve it.
func (s *ceremonyStart) report(ctx context.Context, plan ceremony.Start, info *ceremonyInfo) error {
	wrong := s.same(ctx, info.Nonce, info)
	if wrong == nil {
		wrong = s.asPlanned(plan, info)
	}
	hint := "the ceremony is open: quorate ceremony status shows it"
	if info.OTP != "" {
		hint = "the ceremony is open, but its OTP is lost: cancel it, then start again"
	}
	if err := unprinted(s.show(info), hint); err != nil {
		return sent(err)
	}
	if wrong != nil {
		return sent(wrong)
	}
	if info.OTP != "" {
		s.say("keep the OTP: it is shown only now, and without it the new token can't be decoded")
	}
	s.say("tell the holders the nonce and the words, by another way than this server")
	s.say("holders approve with: quorate ceremony approve %s", info.Nonce)
	s.say("to follow it: quorate ceremony watch %s", info.Nonce)
	return nil
}

// asPlanned holds the attempt against what was asked for.
func (s *ceremonyStart) asPlanned(plan ceremony.Start, info *ceremonyInfo) error {
	recipient := info.Recipient
	if plan.Recipient == string(delivery.OTP) {
		recipient, _, _ = strings.Cut(recipient, ":")
	}
	parameters := slices.DeleteFunc(slices.Clone(info.Parameters), func(p ceremony.Parameter) bool {
		return s.rootTTL == 0 && p.Name == "root_token_ttl" // as the server is configured
	})
	if info.Kind == plan.Kind && info.Reason == plan.Reason && recipient == plan.Recipient &&
		info.Generation == plan.Generation && slices.Equal(parameters, plan.Parameters) {
		return nil
	}
	err := contradiction("it started something else than was asked for")
	if f := (*failure)(nil); errors.As(err, &f) {
		f.hint = "let nobody approve it: quorate ceremony cancel " + visible(info.Nonce, "")
	}
	return err
}

// ageRecipients is for age recipients of which each is a file or the text of one.
func ageRecipients(part string) (string, error) {
	if !strings.HasPrefix(part, "age1") && !strings.HasPrefix(part, "ssh-") {
		return readAgeRecipients(part)
	}
	d, err := delivery.FromAge(part, time.Now())
	return strings.Join(d.AgeRecipients, "\n"), err
}
