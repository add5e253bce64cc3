package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// What a generation of shares is good for.
const (
	genActive   = "active"
	genRetiring = "retiring"
	genPending  = "pending"
	genFormer   = "former"
)

// shareTable is the server's table of holders: the public half of every share that it knows.
type shareTable struct {
	ClusterID   string            `json:"cluster_id"`
	Generations []shareGeneration `json:"generations"`
	ProvenKnown *bool             `json:"proven_known,omitempty"` // false while the server is sealed
}

type shareGeneration struct {
	Generation uint64        `json:"generation"`
	State      string        `json:"state"`
	Threshold  int           `json:"threshold"`
	Shares     int           `json:"shares"`
	Holders    []shareHolder `json:"holders"`
}

type shareHolder struct {
	Slot       int             `json:"slot"`
	Label      string          `json:"label"`
	Verifier   holder.Verifier `json:"verifier"`
	LastProven string          `json:"last_proven"`
}

// readShareTable asks for what anybody may know, also while the server is sealed.
func readShareTable(ctx context.Context, client *api.Client) (*shareTable, error) {
	t := &shareTable{}
	return t, callData(ctx, client, http.MethodGet, "sys/ceremonies/holders", nil, t)
}

// callData is call for an enveloped answer, of which the data goes into out.
func callData(ctx context.Context, client *api.Client, method, path string, body []byte, out any) error {
	_, err := callEnveloped(ctx, client, method, path, body, out)
	return err
}

// callEnveloped is callData that also returns the warnings in the answer.
func callEnveloped(ctx context.Context, client *api.Client, method, path string, body []byte, out any) (warnings []string, err error) {
	var envelope struct {
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	if err := call(ctx, client, method, path, body, &envelope); err != nil {
		return nil, err
	}
	if emptyObject(envelope.Data) {
		return nil, errUnexpected
	}
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		return nil, fmt.Errorf("%w it is not the JSON expected: %w", errUnexpected, err)
	}
	return envelope.Warnings, nil
}

// find derives the holder key of a raw share and looks for it in the table; nil if it isn't there.
func (t *shareTable) find(raw secret.Bytes) (*shareGeneration, *shareHolder) {
	for i := range t.Generations {
		g := &t.Generations[i]
		key := holder.Derive(raw, t.ClusterID, g.Generation)
		key.Wipe() // its public half is enough
		for j := range g.Holders {
			if g.Holders[j].Verifier == key.Verifier() {
				return g, &g.Holders[j]
			}
		}
	}
	return nil, nil
}

// state is what a generation is good for; empty where there is none of that number.
func (t *shareTable) state(generation uint64) string {
	for _, g := range t.Generations {
		if g.Generation == generation {
			return g.State
		}
	}
	return ""
}

// inForce is the number of the generation whose shares are, 0 if there is none.
func (t *shareTable) inForce() uint64 {
	for _, g := range t.Generations {
		if g.State == genActive {
			return g.Generation
		}
	}
	return 0
}

// armour puts a share into its armour, as the table knows it; ok is false if it doesn't.
func (t *shareTable) armour(raw secret.Bytes) (text []byte, label string, ok bool) {
	g, h := t.find(raw)
	if g == nil {
		return nil, "", false
	}
	text, err := holder.Armour{ClusterID: t.ClusterID, Generation: g.Generation, Slot: h.Slot, Threshold: g.Threshold, Share: raw}.Encode()
	return text, h.Label, err == nil
}

func otherCluster(armour *holder.Armour, t *shareTable) error {
	return armourError{fmt.Errorf("this share belongs to another cluster: its armour names %s, the server is of %s; it was not sent",
		armour.ClusterID, visible(t.ClusterID, ""))}
}

// shareCommand is a command about one share, from wherever its arguments say.
func (a *app) shareCommand(c *command.C, has traits, run func(*session, context.Context, []string) error) *command.C {
	s := &session{app: a}
	c.Usage = "[flags]\n[flags] -"
	return s.command(c, has|onlyShare, 0, unlimited, func(ctx context.Context, args []string) error { return run(s, ctx, args) })
}

// onlyDash refuses arguments other than - alone, as they may hold a share.
func onlyDash(args []string) error {
	if len(args) > 1 || len(args) == 1 && args[0] != "-" {
		return localf("%w", errShareArgument)
	}
	return nil
}

func (a *app) shareCheckCommand() *command.C {
	c := &command.C{
		Name: "check",
		Help: `Tell what a key share is good for: whose it is, and of which generation.

The share is compared with the server's table of holders here; nothing about it is sent, and nothing changes. It is
asked for without showing it; with - it is read from standard input.

Exit code: 0 if the share is in force, 2 if it isn't, 1 if that can't be told.`,
	}
	return a.shareCommand(c, answers|byNobody, (*session).checkShare)
}

// tableAndShare asks the server first: a share is asked for only where something can be done with it. The caller wipes
// the share, which is there twice.
func (s *session) tableAndShare(ctx context.Context, args []string) (table *shareTable, given givenShare, raw secret.Bytes, err error) {
	if table, err = readShareTable(ctx, s.client); err != nil {
		if _, printed := requestText(err); printed {
			return nil, given, raw, err
		}
		return nil, given, raw, unasked("reading the table of holders", err)
	}
	given, raw, err = s.takeRaw(ctx, args, "key share (will be hidden; it is not sent): ")
	return table, given, raw, err
}

// takeRaw is takeGiven for a share that is needed as it is, too. The caller wipes both.
func (s *session) takeRaw(ctx context.Context, args []string, prompt string) (given givenShare, raw secret.Bytes, err error) {
	if given, err = s.takeGiven(ctx, args, prompt); err != nil {
		return given, raw, err
	}
	if raw, err = holder.ParseShare(given.text.Reveal()); err != nil {
		given.text.Wipe()
		return given, raw, localf("%w", errNotAShare)
	}
	return given, raw, nil
}

// shareReport is what is known about a share.
type shareReport struct {
	ClusterID  string `json:"cluster_id"`
	State      string `json:"state"` // of its generation; unknown if the share is of none, other-cluster if it says so
	Generation uint64 `json:"generation,omitempty"`
	Slot       int    `json:"slot,omitempty"`
	Label      string `json:"label,omitempty"`
	Threshold  int    `json:"threshold,omitempty"`
	Shares     int    `json:"shares,omitempty"`
	LastProven string `json:"last_proven,omitempty"`
}

func (s *session) checkShare(ctx context.Context, args []string) error {
	if _, err := s.out.format.resolve(); err != nil {
		return err
	}
	table, given, raw, err := s.tableAndShare(ctx, args)
	if err != nil {
		return err
	}
	defer given.text.Wipe()
	defer raw.Wipe()
	report := shareReport{ClusterID: table.ClusterID, State: "unknown"}
	verdict := "this share is of no generation that this cluster knows: another cluster's, a very old one, or one with a typing error"
	armour := given.armour
	g, h := table.find(raw)
	switch {
	case g != nil:
		report = shareReport{
			ClusterID: table.ClusterID, State: g.State, Generation: g.Generation, Slot: h.Slot, Label: h.Label,
			Threshold: g.Threshold, Shares: g.Shares, LastProven: h.LastProven,
		}
		verdict = verdictOf(g.State)
		if armour != nil && (armour.Generation != g.Generation || armour.Slot != h.Slot || armour.ClusterID != table.ClusterID) {
			s.say("warning: the share is good, but its armour names another cluster, generation or slot: put it into a new one with quorate share armour")
		}
	case armour != nil && armour.ClusterID != table.ClusterID:
		report.State = "other-cluster"
		verdict = otherCluster(armour, table).Error()
	}
	if err := s.print(report, report.text); err != nil {
		return err
	}
	s.say("%s", verdict)
	if report.State != genActive {
		return silent(exitServer)
	}
	return nil
}

func verdictOf(state string) string {
	switch state {
	case genActive:
		return "this share is in force"
	case genRetiring:
		return "this share is of a retiring generation: it can still unseal, and nothing else"
	case genPending:
		return "this share is not in force yet: its generation is waiting for its holders to verify their shares"
	case genFormer:
		return "this share is of an old generation: it was replaced, and opens nothing here"
	}
	return "this share is of a generation in a state that this command doesn't know"
}

func (r shareReport) text() string {
	t := header()
	t.add("Cluster ID", r.ClusterID)
	t.add("State", r.State)
	if r.Slot > 0 {
		t.add("Generation", r.Generation)
		t.add("Slot", r.Slot)
		t.known("Label", r.Label)
		t.add("Total Shares", r.Shares)
		t.add("Threshold", r.Threshold)
		t.known("Last Proven", r.LastProven)
	}
	return t.text()
}

func (a *app) shareArmourCommand() *command.C {
	c := &command.C{
		Name: "armour",
		Help: `Put a key share into its armoured form, which tells typing errors and another cluster's share at once.

What the armour says (cluster, generation, slot, threshold) comes from the server's table of holders, in which the share
must be. Nothing about the share is sent. It is asked for without showing it; with - it is read from standard input.`,
	}
	return a.shareCommand(c, byNobody, func(s *session, ctx context.Context, args []string) error {
		table, given, raw, err := s.tableAndShare(ctx, args)
		if err != nil {
			return err
		}
		defer given.text.Wipe()
		defer raw.Wipe()
		text, _, ok := table.armour(raw)
		defer clear(text)
		if !ok {
			return &failure{code: exitServer, err: errors.New("this share is of no generation that this cluster knows, so nothing can be said in an armour")}
		}
		return s.printValue(string(text))
	})
}

func (a *app) shareRawCommand() *command.C {
	c := &command.C{
		Name: "raw",
		Help: `Take a key share out of its armour: print it in base64, as other command lines of the family take it.

No server is asked. The share is asked for without showing it; with - it is read from standard input.`,
	}
	var silent bool
	c.Flags.BoolVar(&silent, "non-interactive", false, "never prompt")
	return a.shareCommand(c, offline, func(s *session, ctx context.Context, args []string) error {
		s.conn.nonInteractive = silent
		given, raw, err := s.takeRaw(ctx, args, "key share (will be hidden): ")
		if err != nil {
			return err
		}
		defer given.text.Wipe()
		defer raw.Wipe()
		return s.printValue(base64.StdEncoding.EncodeToString(raw.Reveal()))
	})
}
