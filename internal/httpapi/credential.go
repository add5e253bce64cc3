package httpapi

import (
	"bytes"
	"encoding/base64"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/seal"
)

var (
	errTwoCredentials = fault.New(fault.Invalid, "give either a key share in 'key', or 'slot' and 'signature': not both")
	errHalfSignature  = fault.New(fault.Invalid, "a signature needs both 'slot' and 'signature': give the number of the key share that made it as well")
	errSlot           = fault.Newf(fault.Invalid, "slot must be the number of a key share: a whole number from 1 to %d", seal.MaxShares)
	errSignature      = fault.Newf(fault.Invalid, "signature must be standard base64 of %d bytes", holder.SignatureSize)
)

// credential reads what a holder may give: a share in key, with white space around it taken away if trim says so, or
// the slot and a signature that was made elsewhere. Nothing at all is an empty credential. A share is wiped with the
// body.
func (x *exchange) credential(trim bool) (node.Credential, error) {
	f := &x.fields
	key, slot, signature := f.Text("key"), f.Int("slot"), f.Text("signature")
	f.Instant("signed_at") // asker reads it, and can't say that it is wrong
	if trim {
		key = bytes.TrimSpace(key)
	}
	signed := f.Has("slot") || len(signature) > 0
	switch {
	case f.Err() != nil:
		return node.Credential{}, f.Err()
	case len(key) > 0 && signed:
		return node.Credential{}, errTwoCredentials
	case signed:
		return signatureOf(slot, signature, f.Has("slot"))
	case len(key) == 0:
		return node.Credential{}, nil
	}
	share, err := holder.ParseShare(key)
	if err != nil {
		return node.Credential{}, err
	}
	f.Own(share.Reveal())
	return node.Credential{Share: share}, nil
}

func signatureOf(slot int, text []byte, hasSlot bool) (node.Credential, error) {
	switch {
	case len(text) == 0 || !hasSlot:
		return node.Credential{}, errHalfSignature
	case slot < 1 || slot > seal.MaxShares:
		return node.Credential{}, errSlot
	case bytes.ContainsAny(text, "\r\n"): // the decoder would skip them
		return node.Credential{}, errSignature
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || len(signature) != holder.SignatureSize {
		return node.Credential{}, errSignature
	}
	return node.Credential{Slot: slot, Signature: signature}, nil
}

// requiredCredential is credential where nothing happens without one.
func (x *exchange) requiredCredential(trim bool) (node.Credential, error) {
	c, err := x.credential(trim)
	if err == nil && c.Empty() {
		err = holder.ErrNoShare
	}
	return c, err
}

// asker says what was seen of who asks: what the listener makes of the connection, the token and the credential. Where
// the token is data, the caller takes it out.
func (x *exchange) asker(c node.Credential) node.Asker {
	a := node.Asker{
		Path: x.path, Token: x.token, Credential: c, SignedAt: x.fields.Instant("signed_at"), Client: x.client.bucket().String(),
		Addr: x.client.addr,
	}
	switch x.listener.Ceremonies {
	case CeremoniesLocal, "":
		a.Local = x.client.local()
	case CeremoniesOpen:
		a.Local, a.Open = x.client.local(), true
	}
	return a
}

// approver says who consents.
func (x *exchange) approver(c node.Credential) node.Approver {
	return node.Approver{Credential: c, Client: x.client.bucket().String()}
}
