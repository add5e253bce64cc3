package node

import (
	"context"
	"strings"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
)

// RootStatus is a root generation as the seed families show it: what most tests of it compare.
type RootStatus struct {
	Started            bool
	Nonce              string
	Progress, Required int
	Complete           bool
	EncodedToken       string
	PGPFingerprint     string
	OTP                string
	OTPLength          int
	Objections         int
}

func seedView(c *Ceremony, otpLength bool) RootStatus {
	if c == nil {
		return RootStatus{}
	}
	st := RootStatus{
		Required: c.Required, Complete: c.State == Complete, EncodedToken: c.EncodedToken, PGPFingerprint: c.PGPFingerprint, OTP: c.OTP,
	}
	if otpLength {
		st.OTPLength = c.OTPLength
	}
	if a := c.Attempt; a != nil {
		st.Started, st.Nonce, st.Progress, st.Objections = true, a.Nonce, a.Progress(), len(a.Objections)
	}
	return st
}

func (n *Node) RootStatus(ctx context.Context) (RootStatus, error) {
	c, err := n.CeremonyOf(ctx, ceremony.RootToken)
	return seedView(c, true), err
}

func (n *Node) StartRoot(ctx context.Context, f Family, who Asker, req StartRequest) (RootStatus, error) {
	req.Kind = ceremony.RootToken
	c, err := n.Start(ctx, f, who, req)
	return seedView(c, true), err
}

func (n *Node) ApproveRoot(ctx context.Context, f Family, nonce string, share secret.Bytes) (RootStatus, error) {
	c, err := n.Approve(ctx, ceremony.RootToken, f, nonce, Approver{Credential: Credential{Share: share}})
	return seedView(c, false), err
}

func (n *Node) CancelRoot(ctx context.Context, who Asker) (RootStatus, bool, error) {
	c, ended, err := n.Cancel(ctx, ceremony.RootToken, "", who)
	return seedView(c, false), ended, err
}

// Where the records of a root generation are.
const (
	attemptKey   = attemptPrefix + "root-token"
	resultPrefix = outcomePrefix
)

// otpKey is where the OTP of the open root generation is; a key that names nothing if there is none.
func (c *cluster) otpKey() string {
	key := otpPrefix + "none"
	err := c.st.View(c.t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan(otpPrefix, "") {
			if err != nil {
				return err
			}
			key = strings.Clone(e.Key)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}
