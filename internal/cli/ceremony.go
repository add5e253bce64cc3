package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/creachadair/command"
)

// ceremoniesPath is where all ceremonies are.
const ceremoniesPath = "sys/ceremonies"

// ceremonies is one run of a command of the group ceremony.
type ceremonies struct {
	operation
	sendShare bool
	confirmation

	watch *witness
	list  *ceremonyList // as the server showed it first
	slot  int           // of whose share was given last
}

// ceremonyList is what the server tells of itself and its ceremonies.
type ceremonyList struct {
	Keys        []string                `json:"keys"`
	KeyInfo     map[string]ceremonyInfo `json:"key_info"`
	ClusterID   string                  `json:"cluster_id"`
	ClusterName string                  `json:"cluster_name"`
	Generation  uint64                  `json:"generation"`
	Threshold   int                     `json:"threshold"`
	Shares      int                     `json:"shares"`
	Retiring    bool                    `json:"retiring"`
	Checkpoint  string                  `json:"checkpoint"`
	VerifierKey string                  `json:"verifier_key"`
}

func (l *ceremonyList) sighting() sighting { return sighting{l.VerifierKey, l.Checkpoint} }

func (a *app) ceremonyCommands() *command.C {
	return group("ceremony", "Start, approve and follow what needs a quorum of key holders.",
		a.ceremonyStartCommand(),
		a.ceremonyCommand("status", "[flags] [NONCE]", `Show a ceremony, or list the open ones.

The digest words are computed here, from what is shown: compare them with those of whoever started it.`,
			nil, (*ceremonies).status),
		a.ceremonyCommand("approve", "[flags] [NONCE]\n[flags] NONCE -", `Approve a ceremony with a key share, which stays on this machine.

What the ceremony does is shown, with the words of its digest; you confirm; the share is asked for, or with - read from
standard input; and only a signature is sent. Without a terminal, -words or -digest confirm.`,
			(*ceremonies).approvalFlags, (*ceremonies).approve),
		a.ceremonyCommand("verify", "[flags] [NONCE]\n[flags] NONCE -", `Prove that a holder of the next generation has the new key share.

The new shares come into force when enough of their holders have proved that they have them.`,
			(*ceremonies).approvalFlags, (*ceremonies).verify),
		a.ceremonyCommand("cancel", "[flags] [NONCE]\n[flags] -holder NONCE -", `Cancel a ceremony.

It takes a local connection, a token that may, or a key share (-holder). The cancel of a holder who did not start what
others have approved is recorded as an objection.`,
			(*ceremonies).cancelFlags, (*ceremonies).cancel),
		a.ceremonyCommand("watch", "[flags] [NONCE]", "Follow a ceremony until it ends: one line for each change.",
			nil, (*ceremonies).follow),
		a.ceremonyResultCommand(),
		a.ceremonyCommand("holders", "[flags]", "List the key holders, and when each last proved to have a working share.",
			nil, (*ceremonies).holders))
}

// ceremonyCommand is a command of the group; run gets its arguments.
func (a *app) ceremonyCommand(name, usage, help string, flags func(*ceremonies, *flag.FlagSet), run func(*ceremonies, context.Context, []string) error) *command.C {
	c := &ceremonies{}
	c.app = a
	cmd := &command.C{Name: name, Usage: usage, Help: help}
	if flags != nil {
		flags(c, &cmd.Flags)
	}
	return c.command(cmd, answers, 0, unlimited, func(ctx context.Context, args []string) error {
		if _, err := c.out.format.resolve(); err != nil {
			return err
		}
		if err := c.connect(); err != nil {
			return err
		}
		defer outlivePipe()()
		return run(c, ctx, args)
	})
}

// contact asks the server who it is, and holds its transcript against what was seen of it before. Everything that
// comes after it is about the cluster that it found.
func (c *ceremonies) contact(ctx context.Context) error {
	if c.list != nil || c.printsRequest() {
		return nil
	}
	c.watch = &witness{app: c.app, client: c.open}
	list := &ceremonyList{}
	if err := callData(ctx, c.open, http.MethodGet, ceremoniesPath, nil, list); err != nil {
		return asking("listing the ceremonies", err)
	}
	if err := c.watch.checkList(ctx, list); err != nil {
		return err
	}
	c.list = list
	return nil
}

// fetch reads one ceremony of the cluster that contact found.
func (c *ceremonies) fetch(ctx context.Context, nonce string) (*ceremonyInfo, error) {
	if err := c.contact(ctx); err != nil {
		return nil, err
	}
	info := &ceremonyInfo{}
	if err := callData(ctx, c.open, http.MethodGet, ceremoniesPath+"/"+nonce, nil, info); err != nil {
		return nil, asking("reading the ceremony", err)
	}
	return info, c.same(ctx, nonce, info)
}

// same is for every reply that carries a ceremony: it must be of the nonce and the cluster that were asked for.
func (c *ceremonies) same(ctx context.Context, nonce string, info *ceremonyInfo) error {
	info.Words = nil
	if c.list == nil { // nothing was sent
		return nil
	}
	if info.Nonce != nonce || info.ClusterID != c.list.ClusterID {
		return contradiction("asked for ceremony %s of cluster %s, it answers with %s of %s",
			nonce, c.list.ClusterID, visible(info.Nonce, ""), visible(info.ClusterID, ""))
	}
	return c.watch.check(ctx, info)
}

// nonceOf takes the nonce from the arguments. What is left says where a share comes from.
func nonceOf(args []string) (nonce string, rest []string, err error) {
	if len(args) > 0 && args[0] != "-" {
		nonce, args = strings.ToLower(args[0]), args[1:]
		if !isUUID(nonce) {
			const shortest = 22 // characters of any share
			if len(nonce) >= shortest && !(len(nonce) == 36 && strings.Count(nonce, "-") == 4) {
				return "", nil, localf("%w", errShareArgument)
			}
			return "", nil, localf("that is no nonce: quorate ceremony status lists those of the open ceremonies")
		}
	}
	return nonce, args, onlyDash(args)
}

// target is the ceremony that the arguments mean. Where the nonce was left out it is the only one in any of states, and
// chosen is true: whoever runs this has not said yet that they mean it.
func (c *ceremonies) target(ctx context.Context, args []string, states ...string) (nonce string, rest []string, chosen bool, err error) {
	nonce, rest, err = nonceOf(args)
	switch {
	case err != nil:
		return "", nil, false, err
	case nonce == "" && c.printsRequest():
		return "", nil, false, localf("the request can only be printed for a given NONCE")
	}
	if err := c.contact(ctx); err != nil || nonce != "" {
		return nonce, rest, false, err
	}
	var found []string
	for n, info := range c.list.KeyInfo {
		if slices.Contains(states, info.State) && isUUID(n) {
			found = append(found, n)
		}
	}
	wanted := strings.Join(states, " or ")
	if len(found) != 1 {
		slices.Sort(found)
		f := localf("which ceremony is meant? there are %d that are %s: %s", len(found), wanted, strings.Join(found, ", "))
		f.hint = "give its NONCE; quorate ceremony status lists them"
		return "", nil, false, f
	}
	c.say("the only ceremony that is %s is meant: %s", wanted, found[0])
	return found[0], rest, true, nil
}

func (c *ceremonies) status(ctx context.Context, args []string) error {
	nonce, rest, err := nonceOf(args)
	if err == nil && len(rest) > 0 {
		err = localf("%w", errShareArgument)
	}
	if err != nil {
		return err
	}
	if nonce == "" {
		return c.showList(ctx)
	}
	info, err := c.fetch(ctx, nonce)
	if err != nil {
		return err
	}
	return c.show(info)
}

// show prints a ceremony. One whose digest doesn't follow from what it shows is printed too, and is a failure.
func (c *ceremonies) show(info *ceremonyInfo) error {
	a, wrong := info.attempt()
	if wrong == nil {
		info.Words = a.Digest.Words()
	}
	err := c.print(info, func() string {
		if wrong != nil {
			return append(sheet{{"Nonce", info.Nonce}, {"Kind", string(info.Kind)}}, info.progress()...).folded()
		}
		return info.text(a)
	})
	return errors.Join(err, wrong)
}

func (c *ceremonies) showList(ctx context.Context) error {
	if c.printsRequest() {
		return callData(ctx, c.open, http.MethodGet, ceremoniesPath, nil, &ceremonyList{})
	}
	if err := c.contact(ctx); err != nil {
		return err
	}
	for nonce, info := range c.list.KeyInfo {
		if a, err := info.attempt(); err == nil {
			info.Words = a.Digest.Words()
			c.list.KeyInfo[nonce] = info
		}
	}
	return c.print(c.list, func() string {
		if len(c.list.KeyInfo) == 0 {
			c.say("no ceremony is open")
			return ""
		}
		t := sheet{{"Nonce", "Kind", "State", "Progress", "Expires"}}
		for _, nonce := range slices.Sorted(maps.Keys(c.list.KeyInfo)) {
			info := c.list.KeyInfo[nonce]
			t = append(t, row{nonce, string(info.Kind), info.State, fraction(info.Progress, info.Required), timeText(info.Expires)})
		}
		return t.text()
	})
}

// holders works while the server is sealed, too, so it doesn't look at the transcript first.
func (c *ceremonies) holders(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return localf("this takes no arguments")
	}
	t, err := readShareTable(ctx, c.open)
	if err != nil {
		return asking("reading the table of holders", err)
	}
	return c.print(t, func() string {
		unproven := "never"
		if t.ProvenKnown != nil && !*t.ProvenKnown {
			unproven = "unknown while sealed"
		}
		rows := sheet{{"Generation", "State", "Slot", "Last Proven", "Label"}}
		for _, g := range t.Generations {
			for _, h := range g.Holders {
				rows = append(rows, row{strconv.FormatUint(g.Generation, 10), g.State, strconv.Itoa(h.Slot), cmp.Or(h.LastProven, unproven), quotedLabel(h.Label)})
			}
		}
		return rows.folded()
	})
}
