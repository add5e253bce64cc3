package model

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/transcript"
)

// credential is what somebody gives, and what it is worth: "good", "bad", or "old" for a share that was good once.
type credential struct {
	quality   string
	of        *people
	slot      int
	mode      holder.Mode
	share     []byte
	signature []byte
}

func (c credential) node() node.Credential {
	if c.share != nil {
		return node.Credential{Share: secret.Copy(c.share)}
	}
	return node.Credential{Slot: c.slot, Signature: c.signature}
}

// good is a holder of p; statement nil means that only a share will do.
func (w *nodeWorld) good(p *people, statement func(slot int) holder.Statement) credential {
	c := credential{quality: "good", of: p, slot: rapid.IntRange(1, p.n).Draw(w.T, "slot"), mode: holder.ModeShare}
	if statement == nil || rapid.Bool().Draw(w.T, "by share") {
		c.share = p.shares[c.slot-1]
		return c
	}
	c.mode = holder.ModeSignature
	c.signature = w.signs(p, c.slot, statement)
	return c
}

func (w *nodeWorld) signs(p *people, slot int, statement func(int) holder.Statement) []byte {
	s := statement(slot)
	s.Mode = holder.ModeSignature
	return p.sign(slot, s)
}

// bad is what must not count where p's holders decide.
func (w *nodeWorld) bad(p *people, statement func(slot int) holder.Statement) credential {
	kinds := []string{"flipped", "foreign", "foreign"}
	if statement != nil {
		kinds = append(kinds, "random", "shifted", "mode")
	}
	signed := slices.DeleteFunc(slices.Clone(w.old), func(a approval) bool { return a.signature == nil })
	if statement != nil && len(signed) > 0 {
		kinds = append(kinds, "replayed")
	}
	c := credential{quality: "bad", of: p, slot: rapid.IntRange(1, p.n).Draw(w.T, "slot"), mode: holder.ModeSignature}
	kind := rapid.SampledFrom(kinds).Draw(w.T, "bad credential")
	w.seen["bad credential: "+kind]++
	switch kind {
	case "flipped":
		c.share = bytes.Clone(p.shares[c.slot-1])
		c.share[rapid.IntRange(0, 31).Draw(w.T, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(w.T, "bit")
	case "foreign":
		c.of = rapid.SampledFrom(w.gens).Draw(w.T, "generation")
		c.slot = rapid.IntRange(1, c.of.n).Draw(w.T, "its slot")
		c.share, c.mode = c.of.shares[c.slot-1], holder.ModeShare
		switch c.of {
		case p:
			c.quality = "good"
		case w.retiring, w.former:
			c.quality = "old"
		}
	case "random":
		c.signature = rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(w.T, "signature")
	case "shifted":
		c.signature = w.signs(p, c.slot, statement)
		c.slot = rapid.SampledFrom([]int{-1, 0, c.slot%p.n + 1, p.n + 1, 1 << 40}).Draw(w.T, "other slot")
		if p.n == 1 && c.slot == 1 {
			c.quality = "good"
		}
	case "replayed":
		o := rapid.SampledFrom(signed).Draw(w.T, "replayed")
		c.slot, c.signature = o.slot, o.signature
		if o.slot <= p.n && bytes.Equal(w.signs(p, o.slot, statement), o.signature) {
			c.quality = "good"
		}
	case "mode":
		s := statement(c.slot)
		s.Mode = holder.ModeShare
		c.signature = p.sign(c.slot, s)
	}
	return c
}

// asker is who wants to start, cancel or read something.
type asker struct {
	credential
	node.Asker
	owner *bearer
}

func (a asker) stranger(now time.Time) bool {
	return !a.Local && !a.Open && !a.owner.live(now) && (a.quality == "" || a.quality == "bad")
}

// caller is what the asker's facts are worth.
func (a asker) caller(now time.Time) ceremony.Caller {
	c := ceremony.Caller{Local: a.Local, Anyone: a.Open}
	if a.quality == "good" {
		c.Slot = a.slot
	}
	if a.owner.live(now) {
		c.Token, c.TokenAllowed = a.owner.serial, a.owner.root
	}
	return c
}

func (w *nodeWorld) asker(statement func(slot int) holder.Statement) (a asker) {
	facts := []string{
		"nothing", "nothing", "bad", "bad", "local", "local", "open", "token", "token", "good", "good", "good",
		"local good", "token good", "token local", "token bad", "local bad",
	}
	who := rapid.SampledFrom(facts).Draw(w.T, "who")
	has := func(fact string) bool { return bytes.Contains([]byte(who), []byte(fact)) }
	a.Path, a.Client = "sys/ceremonies", "10.0.0."+strconv.Itoa(rapid.IntRange(1, 3).Draw(w.T, "client"))
	a.Local, a.Open = has("local"), has("open")
	switch {
	case has("good"):
		a.credential = w.good(w.active, statement)
	case has("bad"):
		a.credential = w.bad(w.active, statement)
	}
	if a.quality != "" {
		a.Credential = a.credential.node()
	}
	if has("token") {
		a.owner = rapid.SampledFrom(w.tokens).Draw(w.T, "token")
		a.Token = secret.Copy([]byte(a.owner.id))
		if !a.owner.live(w.now()) { // another one may have its ID
			for _, b := range w.tokens {
				if b.id == a.owner.id && b.live(w.now()) {
					a.owner = b
				}
			}
			if a.owner.dubious {
				w.Skip("nobody knows whether this token is dead")
			}
		}
	}
	return a
}

// request draws what an attempt is for.
func (w *nodeWorld) request(k ceremony.Kind) node.StartRequest {
	req := node.StartRequest{Kind: k, Reason: rapid.SampledFrom([]string{"", "locked out"}).Draw(w.T, "reason")}
	switch k {
	case ceremony.RootToken:
		req.RootTokenTTL = rapid.SampledFrom([]time.Duration{0, 0, 2 * time.Hour, -time.Second}).Draw(w.T, "ttl")
	case ceremony.Holders:
		for i := range w.active.n {
			req.Labels = append(req.Labels, fmt.Sprint("holder ", i+1))
		}
	case ceremony.Rekey, ceremony.RotateRoot:
		r := &req.Rekey
		r.Shares, r.Threshold = w.numbers("new")
		r.Verify = rapid.Bool().Draw(w.T, "verify")
		r.VerifyAll = r.Verify && rapid.Bool().Draw(w.T, "all")
		r.Rotate = rapid.Bool().Draw(w.T, "rotate")
		if rapid.IntRange(0, 2).Draw(w.T, "age") == 0 {
			r.Backup = rapid.Bool().Draw(w.T, "backup")
			for range r.Shares {
				r.Age = append(r.Age, w.age.Recipient().String())
			}
		}
	}
	return req
}

// parameters are those of a request, as a client computes them.
func (w *nodeWorld) parameters(req node.StartRequest) (list []ceremony.Parameter) {
	add := func(name string, value any) {
		list = append(list, ceremony.Parameter{Name: name, Value: fmt.Sprint(value)})
	}
	if req.RootTokenTTL != 0 { // a negative one says that it is never to expire
		add("root_token_ttl", int(max(req.RootTokenTTL, 0).Seconds()))
	}
	for i, l := range req.Labels {
		add(fmt.Sprintf("holder.%03d", i+1), l)
	}
	if r := req.Rekey; changesHolders(req.Kind) {
		add("secret_shares", r.Shares)
		add("secret_threshold", r.Threshold)
		add("require_verification", r.Verify)
		add("verify_all", r.VerifyAll)
		add("rotate", r.Rotate)
		add("backup", r.Backup)
		for i, key := range r.Age {
			to, err := delivery.RecipientOf(delivery.Age, key)
			if err != nil {
				w.Fatal(err)
			}
			add(fmt.Sprintf("recipient.%03d", i+1), to)
		}
	}
	return list
}

func (w *nodeWorld) start(*rapid.T) {
	w.mostlyOpen()
	req := w.request(rapid.SampledFrom(kinds()).Draw(w.T, "kind"))
	at := w.now().UTC().Truncate(time.Millisecond)
	recipient := ""
	family := node.GenerateRoot
	if req.Kind == ceremony.RootToken {
		if recipient = "otp"; rapid.Bool().Draw(w.T, "seed 1") {
			family = node.RootGeneration
			req.TokenID = []byte("wanted-token-number-1")
			if b := rapid.SampledFrom(w.tokens).Draw(w.T, "its ID"); b.serial != "init" {
				req.TokenID = []byte(b.id)
			}
		}
	}
	says := ceremony.Start{
		ClusterID: w.id, Generation: w.active.number, Kind: req.Kind, Parameters: w.parameters(req),
		Recipient: recipient, Reason: req.Reason, At: at,
	}
	sign := says.Statement
	if family == node.RootGeneration {
		sign = nil // such a start carries what can't be signed in public
	}
	a := w.asker(sign)
	if a.SignedAt = at; family == node.RootGeneration { // the token is data there
		a.Token, a.owner = secret.Bytes{}, nil
	}
	var sent *signedStart
	if a.mode == holder.ModeSignature && a.quality == "good" {
		for _, s := range w.signed { // at the same instant, the same is the same
			if s.digest == says.Digest() {
				sent = s
			}
		}
		if sent == nil {
			sent = &signedStart{who: a.Asker, req: req, gen: w.active, digest: says.Digest()}
			w.signed = append(w.signed, sent)
		}
	}
	w.starts(a, family, req, sent)
}

// replayStart sends a signed start another time.
func (w *nodeWorld) replayStart(*rapid.T) {
	if len(w.signed) == 0 {
		w.Skip("nothing to replay")
	}
	s := rapid.SampledFrom(w.signed).Draw(w.T, "start")
	a := asker{Asker: s.who, credential: credential{quality: "good", of: s.gen, slot: s.who.Slot, mode: holder.ModeSignature}}
	if s.gen != w.active {
		a.quality = "bad"
	}
	w.starts(a, node.GenerateRoot, s.req, s)
}

func (w *nodeWorld) starts(a asker, family node.Family, req node.StartRequest, sent *signedStart) {
	want, changes := w.mayBegin(a, req.Kind, sent)
	before := w.dump()
	c, err := w.node.Start(w.ctx(), family, a.Asker, req)
	w.did("start", err, want, before, changes)
	if want != "" {
		return
	}
	if a.stranger(w.now()) {
		w.Fatal("a stranger started")
	}
	p := &place{
		reference: startedBy(a.caller(w.now())), is: req.Kind, nonce: c.Attempt.Nonce, gen: w.active, family: family,
		attempt: c.Attempt, otp: []byte(c.OTP), id: string(req.TokenID), ttl: req.RootTokenTTL, change: req.Rekey,
		repeated: map[int]bool{}, modes: map[int]holder.Mode{},
	}
	w.started++
	p.n, p.t, p.begun, p.order = w.active.n, w.active.t, w.now(), w.started
	p.unapproved, p.idle, p.total = 5*time.Minute, time.Hour, 24*time.Hour
	if req.Kind == ceremony.Drill {
		p.t, p.unapproved, p.idle, p.total = p.n, drillWait, drillWait, drillWait
	}
	if other := w.openPlace(req.Kind); other != nil {
		w.bury(other, node.Cancelled, "gave-way", max(0, a.caller(w.now()).Slot))
	} else {
		w.buryDead(req.Kind)
		for _, k := range kinds() {
			if changesHolders(req.Kind) && changesHolders(k) { // with what they prepared
				w.buryDead(k)
			}
		}
	}
	w.places[req.Kind] = p
	w.happens("start", p.starter)
	w.seen["started "+string(req.Kind)+" by "+p.kind]++
	if sent != nil {
		sent.kept = w.now().Add(2*ceremony.StartWindow + time.Minute)
	}
}

// mayBegin says what must come of a start.
func (w *nodeWorld) mayBegin(a asker, k ceremony.Kind, sent *signedStart) (want string, changes bool) {
	c := a.caller(w.now())
	switch {
	case w.sealed:
		return "sealed", false
	case sent != nil && w.now().Sub(a.SignedAt).Abs() > ceremony.StartWindow:
		return "late", false
	case a.quality == "old":
		return "old", w.refusesOld(a.credential)
	case a.quality == "bad":
		return "bad", false
	case !c.Local && !c.Anyone && c.Slot < 1 && !(c.TokenAllowed && c.Token != ""):
		return "denied", false
	case sent != nil && !sent.kept.IsZero():
		return "used", false
	}
	p := w.places[k]
	if p != nil && !p.dead(w.now()) {
		if p.ver != nil || !p.yields(c, w.now()) {
			return "busy", false
		}
		return "", true
	}
	for _, other := range kinds() {
		if o := w.openPlace(other); changesHolders(k) && o != nil && o.ver != nil {
			return "pending", false
		}
	}
	return "", true
}

// begin starts an attempt in the plainest way, for steps that need one: over a local connection, or by a holder's share.
func (w *nodeWorld) begin(k ceremony.Kind) {
	a := asker{Asker: node.Asker{Local: true, Path: "sys/ceremonies"}}
	if rapid.Bool().Draw(w.T, "by a holder") {
		a.Local, a.credential = false, w.good(w.active, nil)
		a.Credential = a.credential.node()
	}
	w.starts(a, node.GenerateRoot, w.request(k), nil)
}

// attemptToApprove draws a kind, mostly one of which an attempt is open.
func (w *nodeWorld) attemptToApprove() (ceremony.Kind, *place) {
	var open []ceremony.Kind
	for _, k := range kinds() {
		if w.openPlace(k) != nil {
			open = append(open, k)
		}
	}
	if len(open) == 0 {
		w.begin(rapid.SampledFrom(kinds()).Draw(w.T, "kind"))
		w.Skip("nothing was open")
	}
	k := rapid.SampledFrom(open).Draw(w.T, "attempt")
	return k, w.openPlace(k)
}

// consent draws an approval of p: good for the most part.
func (w *nodeWorld) consent(p *place, good bool) approval {
	sign := func(slot int) holder.Statement { return p.attempt.Statement(slot, "") }
	a := approval{kind: p.is, family: p.family, nonce: p.nonce}
	if good {
		a.credential = w.good(p.gen, sign)
		return a
	}
	switch rapid.SampledFrom([]string{"bad", "bad", "bad", "nonce", "family", "action"}).Draw(w.T, "wrong") {
	case "bad":
		a.credential = w.bad(p.gen, sign)
	case "nonce":
		a.credential = w.good(p.gen, sign)
		a.nonce = nobody
		for nonce := range w.ends {
			a.nonce = max(a.nonce, nonce) // any, but the same each time
		}
	case "family":
		a.credential = w.good(p.gen, sign)
		if p.is == ceremony.RootToken {
			a.family = map[node.Family]node.Family{
				node.RootGeneration: node.GenerateRoot, node.GenerateRoot: node.RootGeneration,
			}[p.family]
		}
	case "action":
		a.credential = w.good(p.gen, func(slot int) holder.Statement { return p.attempt.CancelStatement(slot, "") })
		if a.mode == holder.ModeSignature {
			a.quality = "bad"
		}
	}
	return a
}

func (w *nodeWorld) give(a approval) (*node.Ceremony, error) {
	return w.node.Approve(w.ctx(), a.kind, a.family, a.nonce, node.Approver{Credential: a.credential.node(), Client: "10.0.0.9"})
}

func (w *nodeWorld) approve(*rapid.T) {
	w.mostlyOpen()
	_, p := w.attemptToApprove()
	w.approveWith(w.consent(p, true))
}

func (w *nodeWorld) junk(*rapid.T) {
	w.mostlyOpen()
	_, p := w.attemptToApprove()
	w.approveWith(w.consent(p, false))
}

// repeat is a client whose reply was lost, or somebody who tries an old approval.
func (w *nodeWorld) repeat(*rapid.T) {
	if len(w.old) == 0 {
		w.Skip("nothing to repeat")
	}
	a := w.old[len(w.old)-1-rapid.IntRange(0, min(3, len(w.old)-1)).Draw(w.T, "how long ago")]
	p := w.places[a.kind]
	switch {
	case p != nil && p.nonce == a.nonce, a.of == w.active && a.share != nil:
	case a.share != nil && (a.of == w.retiring || a.of == w.former):
		a.quality = "old"
	default:
		a.quality = "bad"
	}
	w.approveWith(a)
}

func (w *nodeWorld) approveWith(a approval) {
	if w.unsure(w.places[a.kind]) {
		w.Skip("nobody knows what ends with it")
	}
	before := w.dump()
	want, changes := w.approves(a)
	c, err := w.give(a)
	w.did("approve", err, want, before, changes)
	if want == "" {
		w.approved(a, c)
		w.old = append(w.old, a)
	}
}

func (w *nodeWorld) decode(encoded string, otp []byte) string {
	id, err := delivery.Decode([]byte(encoded), otp)
	if err != nil {
		w.Fatal(err)
	}
	return string(id)
}

func (w *nodeWorld) decrypt(keys [][]byte) (shares [][]byte) {
	for _, message := range keys {
		r, err := age.Decrypt(bytes.NewReader(message), w.age)
		if err != nil {
			w.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			w.Fatal(err)
		}
		share, err := hex.DecodeString(string(text))
		if err != nil {
			w.Fatal(err)
		}
		shares = append(shares, share)
	}
	return shares
}

// together is several clients that approve at once. What comes of it must be what comes of the same in some order, which
// the transcript tells.
func (w *nodeWorld) together(*rapid.T) {
	w.mostlyOpen()
	_, p := w.attemptToApprove()
	if p.ver != nil || w.unsure(p) {
		w.Skip("it has its approvals, or nobody knows what ends with it")
	}
	w.checkTranscript() // so that what is new in it comes from here
	type result struct {
		approval
		c   *node.Ceremony
		err error
	}
	var list []*result
	for range rapid.IntRange(2, 6).Draw(w.T, "clients") {
		a := w.consent(p, rapid.IntRange(0, 4).Draw(w.T, "good") > 0)
		if a.quality != "old" { // whose record could stand anywhere
			list = append(list, &result{approval: a})
		}
	}
	done := make(chan struct{}, len(list))
	for _, r := range list {
		go func() {
			r.c, r.err = w.give(r.approval)
			done <- struct{}{}
		}()
	}
	for range list {
		<-done
	}
	var order, first []*result
	for _, r := range list {
		if c := class(r.err); c == "bad" || c == "nonce" || c == "family" {
			first = append(first, r)
		}
	}
	list = slices.DeleteFunc(list, func(r *result) bool { return slices.Contains(first, r) })
	take := func(slot int, want string, all bool) {
		for i := 0; i < len(list); i++ {
			if r := list[i]; r.slot == slot && class(r.err) == want && r.nonce == p.nonce && r.quality == "good" && r.family == p.family {
				list = slices.Delete(list, i, i+1)
				order = append(order, r)
				if i--; !all {
					return
				}
			}
		}
	}
	happened := w.since(w.size)
	last := map[int]int{} // :: slot → index of its last event
	for i, e := range happened {
		last[e.Slot] = i
	}
	for slot := 1; slot <= p.n; slot++ {
		if _, any := last[slot]; !any {
			take(slot, "duplicate", true)
		}
	}
	completing := -1 // index of the approval that completed it
	for i, e := range happened {
		if e.Event == transcript.Approve && slices.ContainsFunc(happened, func(e transcript.Entry) bool { return e.Event == transcript.Complete }) {
			completing = i
		}
	}
	for i, e := range happened {
		if i == completing { // what would have been in its place
			for slot := range p.n + 1 {
				take(slot, "by share", true)
				take(slot, "pending", true)
			}
		}
		switch string(e.Event) {
		case "approve":
			take(e.Slot, "", false)
		case "duplicate":
			take(e.Slot, "duplicate", false)
		}
		if e.Slot > 0 && last[e.Slot] == i {
			take(e.Slot, "duplicate", true)
		}
	}
	for _, r := range slices.Concat(first, order, list) {
		want, _ := w.approves(r.approval)
		if got := class(r.err); got != want {
			w.Fatalf("together: slot %d, %s: %q (%v), want %q", r.slot, r.quality, got, r.err, want)
		}
		w.seen["together: "+want]++
		if want == "" {
			w.approved(r.approval, r.c)
			w.old = append(w.old, r.approval)
		}
	}
}

// revoke ends a token, and the attempts that depend on it.
func (w *nodeWorld) revoke(*rapid.T) {
	w.mostlyOpen()
	b := rapid.SampledFrom(w.tokens).Draw(w.T, "token")
	if w.sealed || b.serial == "init" || !b.live(w.now()) {
		w.Skip("not to be revoked")
	}
	if err := w.node.Update(w.ctx(), w.access(w.tokens[0], "auth/token/revoke", policy.Update), func(c *node.Call) error {
		key, err := c.Tokens.Key(c.Tx, []byte(b.id))
		if err != nil {
			return err
		}
		e, err := c.Tokens.ByKey(c.Tx, key)
		if err != nil {
			return err
		}
		return c.Revoke(e, false)
	}); err != nil {
		w.Fatal(err)
	}
	b.dead = true
	w.endsWith(b)
}
