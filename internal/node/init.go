package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
	"github.com/quorate/quorate/internal/transcript"
)

// InitRequest asks for a new cluster.
type InitRequest struct {
	Shares, Threshold int
	Labels            []string // of the holders; none, or one for each share
	PGPKeys           [][]byte // base64 of one binary public key for each share; none, and no Age: the shares come in clear
	Age               []string // age recipients of each share
	RootTokenPGPKey   []byte   // base64 of a binary public key, optional
	RootTokenAge      string   // age recipients, optional
	RootTokenTTL      time.Duration
	// Replace allows to repeat an init whose reply was lost, over a local connection, until the first unseal.
	Replace, Local bool
}

// InitResult is the only time the shares and the first root token are seen.
type InitResult struct {
	Keys       [][]byte     // in slot order: the shares, or a PGP or age message with the hex text of each
	RootToken  secret.Bytes // the token, or the base64 text of a message that holds it
	Encrypted  bool         // what Keys are
	ClusterID  string
	Generation uint64
}

// Wipe overwrites the result after it was sent.
func (r *InitResult) Wipe() {
	for _, k := range r.Keys {
		clear(k)
	}
	r.RootToken.Wipe()
}

// signerKey → the key that signs the transcript's checkpoints, as package transcript stores it
const signerKey = "transcript/key"

// Init creates the cluster: the first generation, the keyring and a root token, in one Update. The node stays sealed.
func (n *Node) Init(ctx context.Context, r InitRequest) (*InitResult, error) {
	if r.Replace && !r.Local {
		return nil, fault.NeedsLocal("replace needs a local connection: repeat the init on the server's own machine, over its unix socket or a loopback address")
	}
	id := token.NewID()
	params := seal.InitParams{
		Shares: r.Shares, Threshold: r.Threshold, Labels: r.Labels, ClusterName: n.ClusterName, Replace: r.Replace,
		Rand: n.Rand, Now: n.Now(),
		Fill: func(tx store.Tx) error { return n.firstRecords(tx, id, rootTokenTTL(r.RootTokenTTL, n.RootTokenTTL)) },
	}
	if err := params.Possible(ctx, n.Store); err != nil {
		return nil, err
	}
	to, err := n.initRecipients(r)
	if err != nil {
		return nil, err
	}
	leave, err := n.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	res, err := seal.Init(ctx, n.Store, params)
	if err != nil {
		id.Wipe()
		return nil, err
	}
	n.Logger.Info("initialised", "cluster_id", res.ClusterID, "shares", r.Shares, "threshold", r.Threshold, "replaced", r.Replace)
	out, err := n.deliverInit(to, res, id)
	if err != nil {
		res.Wipe()
		id.Wipe()
	}
	return out, err
}

// initDelivery is to whom the result of an init goes, with a trial encryption made to each.
type initDelivery struct {
	shares []delivery.Delivery // none: in clear
	token  delivery.Delivery   // zero: in clear
}

func (n *Node) initRecipients(r InitRequest) (to initDelivery, err error) {
	k := RekeyRequest{PGPKeys: r.PGPKeys, Age: r.Age}
	switch {
	case len(r.PGPKeys) > 0 && len(r.Age) > 0:
		return to, errTwoKinds
	case len(r.PGPKeys) > 0 && len(r.PGPKeys) != r.Shares:
		return to, fault.New(fault.Invalid, "the number of pgp_keys must equal secret_shares: give one key for each share, or none")
	case k.recipients() > 0 && k.recipients() != r.Shares:
		return to, errKeyCount
	}
	if err := checkLabels(r.Labels); err != nil {
		return to, err
	}
	for i := range k.recipients() {
		d, err := k.recipient(i, n.Now())
		if err != nil {
			return to, about(err, k.field(i))
		}
		to.shares = append(to.shares, d)
	}
	switch {
	case len(r.RootTokenPGPKey) > 0 && r.RootTokenAge != "":
		return to, fault.New(fault.Invalid, "give root_token_pgp_key or root_token_age_recipients, not both")
	case len(r.RootTokenPGPKey) > 0:
		if to.token, err = delivery.FromPGP(r.RootTokenPGPKey, n.Now()); err != nil {
			return to, about(err, "root_token_pgp_key")
		}
	case r.RootTokenAge != "":
		if to.token, err = delivery.FromAge(r.RootTokenAge, n.Now()); err != nil {
			return to, about(err, "root_token_age_recipients")
		}
	}
	return to, nil
}

// about says which field a fault is about.
func about(err error, field string) error {
	if f := fault.As(err); f != nil {
		return fault.New(f.Kind, field+": "+f.Sentence)
	}
	return err
}

// firstRecords fills a new cluster: a root token, and a transcript that begins with who the holders are.
func (n *Node) firstRecords(tx store.Tx, id secret.Bytes, ttl time.Duration) error {
	if err := token.Seed(tx); err != nil {
		return err
	}
	tokens := token.New(token.Config{DefaultTTL: n.DefaultTTL, MaxTTL: n.MaxTTL, Now: n.Now})
	key, err := tokens.Key(tx, id.Reveal())
	if err != nil {
		return err
	}
	if _, err := tokens.CreateRoot(tx, key, token.RootOptions{TTL: ttl, Ceremony: "init"}); err != nil {
		return err
	}
	rec, err := seal.Load(tx)
	if err != nil {
		return err
	}
	signer, err := n.newSigner(tx, rec.ClusterID)
	if err != nil {
		return err
	}
	defer signer.Wipe()
	gen := rec.Generation()
	if err := tx.Put(newbornKey, []byte{1}); err != nil {
		return err
	}
	_, err = transcript.Append(tx, signer, transcript.Entry{
		Time: n.Now().UTC().Truncate(time.Millisecond), Event: transcript.Init, Generation: gen.Number, Threshold: gen.Threshold,
		Holders: recorded(gen), Detail: "cluster " + rec.ClusterID,
	})
	return err
}

func (n *Node) newSigner(tx store.Tx, clusterID string) (*transcript.Signer, error) {
	signer, stored, err := transcript.NewSigner(clusterID, n.Rand)
	if err != nil {
		return nil, err
	}
	defer clear(stored)
	return signer, tx.Put(signerKey, stored)
}

// deliverInit encodes what seal.Init made. A failure here loses no cluster: init can be repeated with replace.
func (n *Node) deliverInit(to initDelivery, res *seal.InitResult, id secret.Bytes) (*InitResult, error) {
	out := &InitResult{RootToken: id, ClusterID: res.ClusterID, Generation: 1, Encrypted: len(to.shares) > 0}
	for i, share := range res.Shares {
		if !out.Encrypted {
			out.Keys = append(out.Keys, share.Reveal())
			continue
		}
		text := hex.AppendEncode(nil, share.Reveal())
		message, err := to.shares[i].Encrypt(text, n.Now())
		clear(text)
		share.Wipe()
		if err != nil {
			return nil, about(err, fmt.Sprintf("key of share %d", i+1))
		}
		out.Keys = append(out.Keys, message)
	}
	if to.token.Mode != "" {
		encoded, err := to.token.Encode(id.Reveal(), n.Now())
		if err != nil {
			return nil, about(err, "key of the root token")
		}
		id.Wipe()
		out.RootToken = secret.Own([]byte(encoded))
	}
	return out, nil
}
