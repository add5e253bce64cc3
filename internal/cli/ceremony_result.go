package cli

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"time"

	"github.com/creachadair/command"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
)

// ceremonyResult is what is kept of a ceremony that is complete.
type ceremonyResult struct {
	Kind         string    `json:"kind"`
	Nonce        string    `json:"nonce"`
	EncodedToken string    `json:"encoded_token,omitempty"`
	Keys         []string  `json:"keys,omitempty"`
	KeysBase64   []string  `json:"keys_base64,omitempty"`
	Recipients   []string  `json:"recipients,omitempty"`
	Expires      time.Time `json:"expires,omitzero"`
}

func (a *app) ceremonyResultCommand() *command.C {
	var acknowledge, decode bool
	var otp string
	return a.ceremonyCommand("result", "[flags] NONCE\n[flags] -holder NONCE -", `Print what a complete ceremony yielded: the encoded token, or the encrypted key shares.

It is kept for a while, so that a lost answer is no lost ceremony. It is for those who could start it: a token, the
server's own machine, or a key share (-holder).`,
		func(c *ceremonies, fs *flag.FlagSet) {
			fs.BoolVar(&acknowledge, "acknowledge", false, "don't print it, but let the server destroy it: all have what they need")
			fs.BoolVar(&decode, "decode", false, "decode the token with its one-time password (asked for), and print it alone")
			fs.StringVar(&otp, "otp", "", "with -decode: - to read the one-time password from standard input")
			c.holderFlags(fs, "ask")
		},
		func(c *ceremonies, ctx context.Context, args []string) error {
			nonce, rest, err := nonceOf(args)
			switch {
			case err != nil:
				return err
			case nonce == "":
				return localf("the result of which ceremony? its NONCE is needed")
			case len(rest) > 0 && (!c.holder || otp != ""):
				return localf("standard input is for one thing: a share with -holder, or -otp=-")
			case otp != "" && (otp != "-" || !decode):
				return localf("-otp=- is for -decode; other users can read an OTP that is an argument")
			case acknowledge && decode:
				return localf("-acknowledge prints nothing, so there is nothing to decode")
			case acknowledge:
				return c.acknowledge(ctx, nonce, rest)
			}
			res, err := c.readResult(ctx, nonce, rest)
			if err != nil {
				return err
			}
			if decode {
				return c.decodeResult(ctx, res, otp)
			}
			return unprinted(c.print(res, res.text), "it is kept on: run this again")
		})
}

func (c *ceremonies) acknowledge(ctx context.Context, nonce string, rest []string) error {
	body, err := c.timedBody(ctx, nonce, rest, ceremony.AcknowledgeStatement)
	if err != nil {
		return err
	}
	defer clear(body)
	err = call(ctx, c.asserting(), http.MethodDelete, ceremoniesPath+"/"+nonce+"/result", body, nil)
	if err != nil {
		return clockHint(c.needAuthority(asking("acknowledging the result", err)))
	}
	c.say("the result of %s is destroyed", nonce)
	return nil
}

func (c *ceremonies) readResult(ctx context.Context, nonce string, rest []string) (*ceremonyResult, error) {
	body, err := c.timedBody(ctx, nonce, rest, ceremony.ResultStatement)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	method := http.MethodGet
	if c.holder {
		method = http.MethodPost
	}
	res := &ceremonyResult{}
	if err := callData(ctx, c.asserting(), method, ceremoniesPath+"/"+nonce+"/result", body, res); err != nil {
		return nil, clockHint(c.needAuthority(asking("reading the result", err)))
	}
	if res.Nonce != nonce {
		return nil, sent(contradiction("asked for the result of %s, it answers with that of %s", nonce, visible(res.Nonce, "")))
	}
	return res, nil
}

// timedBody is the body of a request about a result: nothing, but with -holder a credential that is good for a while.
func (c *ceremonies) timedBody(ctx context.Context, nonce string, rest []string,
	statement func(clusterID string, generation uint64, slot int, mode holder.Mode, nonce string, at time.Time) holder.Statement,
) ([]byte, error) {
	if !c.holder {
		return nil, nil
	}
	if err := c.contact(ctx); err != nil {
		return nil, err
	}
	need := consent{timed: true}
	if l := c.list; l != nil {
		need.clusterID, need.generation, need.threshold = l.ClusterID, l.Generation, l.Threshold
		need.statement = func(slot int, at time.Time) holder.Statement {
			return statement(l.ClusterID, l.Generation, slot, holder.ModeSignature, nonce, at)
		}
	}
	return c.credential(ctx, rest, "key share of a holder (will be hidden): ", need)
}

func (r *ceremonyResult) text() string {
	t := sheet{{"Nonce", r.Nonce}, {"Kind", r.Kind}}
	t.known("Encoded Token", r.EncodedToken)
	for i, key := range r.KeysBase64 {
		name := fmt.Sprintf("Key %d", i+1)
		if i < len(r.Recipients) {
			t.add(name+" for", shortened(r.Recipients[i]))
		}
		t.add(name, key)
	}
	if !r.Expires.IsZero() {
		t.add("Kept Until", timeText(r.Expires))
	}
	return t.text()
}

// decodeResult does what generate-root -decode does.
func (c *ceremonies) decodeResult(ctx context.Context, res *ceremonyResult, otp string) error {
	if res.EncodedToken == "" {
		return localf("this ceremony yielded no token to decode")
	}
	g := &rootGeneration{attempting: attempting{operation: c.operation}, decode: res.EncodedToken, otp: otp}
	if otp == "-" {
		if err := g.readOTP(nil); err != nil {
			return err
		}
	}
	return g.decodeToken(ctx)
}
