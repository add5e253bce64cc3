package httpapi

import (
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
)

// ceremonyJSON is one ceremony as the native API shows it. All that its digest covers is in it, so that a client can
// compute the digest itself: times have their milliseconds, and recipients their whole keys.
type ceremonyJSON struct {
	Nonce         string               `json:"nonce"`
	Kind          ceremony.Kind        `json:"kind"`
	State         node.State           `json:"state"`
	ClusterID     string               `json:"cluster_id"`
	Generation    uint64               `json:"generation"`
	Threshold     int                  `json:"threshold"`
	Holders       int                  `json:"holders"`
	Parameters    []ceremony.Parameter `json:"parameters"`
	Recipient     string               `json:"recipient"`
	RecipientKey  string               `json:"recipient_key,omitempty"`
	RecipientKeys []string             `json:"recipient_keys,omitempty"` // of the new shares, in slot order
	Reason        string               `json:"reason"`
	Initiator     initiatorJSON        `json:"initiator"`
	Started       string               `json:"started"`
	Expires       string               `json:"expires"`
	UnapprovedMS  int64                `json:"unapproved_ms"` // how long it waits for the first approval, and for each other
	IdleMS        int64                `json:"idle_ms"`
	Deadline      string               `json:"deadline"` // when it ends if nobody does anything
	Digest        ceremony.Digest      `json:"digest"`
	Approvals     []consentJSON        `json:"approvals"`
	Objections    []slotJSON           `json:"objections"`
	Progress      int                  `json:"progress"`
	Required      int                  `json:"required"`
	Verification  *verificationJSON    `json:"verification,omitempty"`
	OTP           string               `json:"otp,omitempty"` // once, in the reply to the start
	OTPLength     int                  `json:"otp_length,omitempty"`
	result
	ResultExpires string `json:"result_expires,omitempty"`
	Checkpoint    string `json:"checkpoint,omitempty"`
}

type initiatorJSON struct {
	By         ceremony.Authority `json:"by"`
	Token      string             `json:"token,omitempty"`
	Slot       int                `json:"slot,omitempty"`
	Connection bool               `json:"connection,omitempty"`
}

type slotJSON struct {
	Slot  int    `json:"slot"`
	Label string `json:"label"`
}

type consentJSON struct {
	slotJSON
	Mode holder.Mode `json:"mode"`
	At   string      `json:"at"`
}

type verificationJSON struct {
	Nonce      string        `json:"nonce"`
	Generation uint64        `json:"generation"`
	Progress   int           `json:"progress"`
	Required   int           `json:"required"`
	Proofs     []consentJSON `json:"proofs"`
}

// result is what a ceremony came to.
type result struct {
	EncodedToken string `json:"encoded_token,omitempty"`
	*shareTexts
}

func (x *exchange) resultOf(c *node.Ceremony) result {
	r := result{EncodedToken: c.EncodedToken}
	if len(c.Keys) > 0 {
		texts := x.shareTexts(c.Keys)
		r.shareTexts = &texts
	}
	return r
}

// viewOf shows a ceremony without its result.
func viewOf(c *node.Ceremony) ceremonyJSON {
	v := ceremonyJSON{
		Kind: c.Kind, State: c.State, Required: c.Required, RecipientKey: c.RecipientKey, RecipientKeys: c.RecipientKeys,
		ResultExpires: millis(c.ResultExpires), Checkpoint: string(c.Checkpoint),
		Parameters: []ceremony.Parameter{}, Approvals: []consentJSON{}, Objections: []slotJSON{},
	}
	a := c.Attempt
	if a == nil {
		return v
	}
	v.Nonce, v.ClusterID, v.Generation, v.Threshold, v.Holders = a.Nonce, a.ClusterID, a.Generation, a.Threshold, a.Holders
	v.Recipient, v.Reason, v.Digest, v.Progress = a.Recipient, a.Reason, a.Digest, a.Progress()
	v.Initiator = initiatorJSON(a.Initiator)
	v.Started, v.Expires, v.Deadline = millis(a.Started), millis(a.Expires), millis(a.Deadline())
	v.UnapprovedMS, v.IdleMS = a.Limits.Unapproved.Milliseconds(), a.Limits.Idle.Milliseconds()
	v.Parameters = append(v.Parameters, a.Parameters...)
	v.Approvals = append(v.Approvals, consents(a.Approvals, c.Labels)...)
	for _, slot := range a.Objections {
		v.Objections = append(v.Objections, slotJSON{slot, c.Labels(slot)})
	}
	if p := c.Verification; p != nil {
		v.Verification = &verificationJSON{
			Nonce: p.Nonce, Generation: p.Generation, Progress: len(p.Proofs), Required: p.Required,
			Proofs: consents(p.Proofs, newLabels(c)),
		}
		v.Deadline = millis(p.Deadline())
	}
	return v
}

func consents(list []ceremony.Approval, label func(int) string) []consentJSON {
	out := make([]consentJSON, len(list))
	for i, a := range list {
		out[i] = consentJSON{slotJSON{a.Slot, label(a.Slot)}, a.Mode, millis(a.At)}
	}
	return out
}

// newLabels finds the labels of a rekey's new holders.
func newLabels(c *node.Ceremony) func(int) string {
	return func(slot int) string {
		if c.Rekey == nil || slot < 1 || slot > len(c.Rekey.Labels) {
			return ""
		}
		return c.Rekey.Labels[slot-1]
	}
}

// millis is a time as the wire and the digest have it: UTC, milliseconds; nothing for the zero time.
func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// generationJSON is one generation of shares as the table of holders shows it.
type generationJSON struct {
	Generation uint64       `json:"generation"`
	State      string       `json:"state"`
	Threshold  int          `json:"threshold"`
	Shares     int          `json:"shares"`
	Holders    []holderJSON `json:"holders"`
}

type holderJSON struct {
	slotJSON
	Verifier   holder.Verifier `json:"verifier"`
	LastProven string          `json:"last_proven,omitempty"`
	ProvenBy   string          `json:"proven_by,omitempty"`
}

func listHolders(x *exchange) (*reply, error) {
	known := !x.Node.Sealed()
	id, list, err := x.Node.HolderTable(x.r.Context())
	if err != nil {
		return nil, err
	}
	known = known && !x.Node.Sealed() // while sealed, nobody's last proof can be read: it may be absent for that reason
	generations := []generationJSON{}
	for _, g := range list {
		v := generationJSON{Generation: g.Number, State: g.State, Threshold: g.Threshold, Shares: g.Shares, Holders: []holderJSON{}}
		for _, h := range g.Holders {
			v.Holders = append(v.Holders, holderJSON{slotJSON{h.Slot, h.Label}, h.Verifier, millis(h.LastProven), h.ProvenBy})
		}
		generations = append(generations, v)
	}
	return &reply{data: map[string]any{"cluster_id": id, "generations": generations, "proven_known": known}}, nil
}

func listRootTokens(x *exchange) (*reply, error) {
	list, err := x.Node.RootTokens(x.r.Context(), x.access())
	if err != nil {
		return nil, err
	}
	type rootToken struct {
		Accessor     string `json:"accessor"`
		Ceremony     string `json:"ceremony"`
		CreationTime string `json:"creation_time"`
		ExpireTime   string `json:"expire_time,omitempty"`
	}
	tokens := []rootToken{}
	for _, e := range list {
		v := rootToken{Accessor: e.Accessor, Ceremony: e.Ceremony, CreationTime: rfc3339(e.Created)}
		if !e.NeverExpires {
			v.ExpireTime = rfc3339(e.Expires)
		}
		tokens = append(tokens, v)
	}
	return &reply{data: map[string]any{"root_tokens": tokens}}, nil
}
