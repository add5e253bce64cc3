package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/delivery"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/token"
)

// SealStatus is what anybody may know about the seal.
type SealStatus struct {
	Initialized, Sealed bool
	Threshold, Shares   int    // of the active generation; 0 while uninitialised
	Progress            int    // shares given to this process so far
	Nonce               string // of this round of unsealing; empty before its first share
	// ClusterName and ClusterID are empty while sealed.
	ClusterName, ClusterID string
}

// Initialized reports whether the store holds a cluster.
func (n *Node) Initialized(ctx context.Context) (bool, error) {
	rec, err := n.sealRecord(ctx)
	return rec != nil || errors.Is(err, seal.ErrUnreadable), unlessUnreadable(err)
}

// unlessUnreadable lets the status be told of a cluster whose record is damaged beyond reading.
func unlessUnreadable(err error) error {
	if errors.Is(err, seal.ErrUnreadable) {
		return nil
	}
	return err
}

// SealStatus tells the state of the seal and the progress of unsealing.
func (n *Node) SealStatus(ctx context.Context) (SealStatus, error) {
	rec, err := n.sealRecord(ctx)
	if err != nil || rec == nil {
		return SealStatus{Initialized: errors.Is(err, seal.ErrUnreadable), Sealed: n.Sealed()}, unlessUnreadable(err)
	}
	gen := rec.Generation()
	st := SealStatus{Initialized: true, Sealed: n.Sealed(), Threshold: gen.Threshold, Shares: gen.Shares}
	if !st.Sealed {
		st.ClusterName, st.ClusterID = rec.ClusterName, rec.ClusterID
		return st, nil
	}
	p, err := n.unsealer.Progress(ctx)
	st.Progress, st.Nonce = p.Given, p.Nonce
	return st, err
}

func (n *Node) sealRecord(ctx context.Context) (rec *seal.Record, err error) {
	err = n.Store.View(ctx, func(r store.Reader) error {
		rec, err = seal.Load(r)
		return err
	})
	return rec, err
}

// InitRequest asks for a new cluster.
type InitRequest struct {
	Shares, Threshold int
	PGPKeys           [][]byte // base64 of one binary public key per share; none: the shares come in clear
	RootTokenPGPKey   []byte   // same form, optional
	// Replace allows to repeat an init whose reply was lost, over a local connection, until the first unseal.
	Replace, Local bool
}

// InitResult is the only time the shares and the first root token are seen.
type InitResult struct {
	Keys      [][]byte     // in slot order: the shares, or a PGP message with the hex text of each
	RootToken secret.Bytes // the token, or the base64 text of a PGP message that holds it
}

// Wipe overwrites the result after it was sent.
func (r *InitResult) Wipe() {
	for _, k := range r.Keys {
		clear(k)
	}
	r.RootToken.Wipe()
}

// Init creates the cluster: the first generation, the keyring and a root token, in one Update. The node stays sealed.
func (n *Node) Init(ctx context.Context, r InitRequest) (*InitResult, error) {
	if r.Replace && !r.Local {
		return nil, fault.NeedsLocal("replace needs a local connection: repeat the init on the server's own machine, over its unix socket or a loopback address")
	}
	id := token.NewID()
	params := seal.InitParams{
		Shares: r.Shares, Threshold: r.Threshold, ClusterName: n.ClusterName, Replace: r.Replace,
		Rand: n.Rand, Now: n.Now(),
		Fill: func(tx store.Tx) error { return n.firstRecords(tx, id) },
	}
	if err := params.Possible(ctx, n.Store); err != nil {
		return nil, err
	}
	if err := n.checkPGPKeys(r); err != nil {
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
	out, err := n.deliverInit(r, res, id)
	if err != nil {
		res.Wipe()
		id.Wipe()
	}
	return out, err
}

// checkPGPKeys makes a trial encryption to each key, so that no share is lost on a key that can't receive it.
func (n *Node) checkPGPKeys(r InitRequest) error {
	if len(r.PGPKeys) > 0 && len(r.PGPKeys) != r.Shares {
		return fault.New(fault.Invalid, "the number of pgp_keys must equal secret_shares: give one key for each share, or none")
	}
	for i, key := range r.PGPKeys {
		if _, _, err := delivery.EncryptPGP(key, []byte("trial"), n.Now()); err != nil {
			return about(err, fmt.Sprintf("pgp_keys[%d]", i))
		}
	}
	if len(r.RootTokenPGPKey) > 0 {
		if _, _, err := delivery.EncryptPGP(r.RootTokenPGPKey, []byte("trial"), n.Now()); err != nil {
			return about(err, "root_token_pgp_key")
		}
	}
	return nil
}

// about says which field a fault is about.
func about(err error, field string) error {
	if f := fault.As(err); f != nil {
		return fault.New(f.Kind, field+": "+f.Sentence)
	}
	return err
}

func (n *Node) firstRecords(tx store.Tx, id secret.Bytes) error {
	if err := token.Seed(tx); err != nil {
		return err
	}
	tokens := token.New(token.Config{DefaultTTL: n.DefaultTTL, MaxTTL: n.MaxTTL, Now: n.Now})
	key, err := tokens.Key(tx, id.Reveal())
	if err != nil {
		return err
	}
	_, err = tokens.CreateRoot(tx, key)
	return err
}

// deliverInit encodes what seal.Init made. A failure here loses no cluster: init can be repeated with replace.
func (n *Node) deliverInit(r InitRequest, res *seal.InitResult, id secret.Bytes) (*InitResult, error) {
	out := &InitResult{RootToken: id}
	for i, share := range res.Shares {
		if len(r.PGPKeys) == 0 {
			out.Keys = append(out.Keys, share.Reveal())
			continue
		}
		text := hex.AppendEncode(nil, share.Reveal())
		message, _, err := delivery.EncryptPGP(r.PGPKeys[i], text, n.Now())
		clear(text)
		share.Wipe()
		if err != nil {
			return nil, about(err, fmt.Sprintf("pgp_keys[%d]", i))
		}
		out.Keys = append(out.Keys, message)
	}
	if len(r.RootTokenPGPKey) > 0 {
		d, err := delivery.FromPGP(r.RootTokenPGPKey, n.Now())
		if err != nil {
			return nil, about(err, "root_token_pgp_key")
		}
		encoded, err := d.Encode(id.Reveal(), n.Now())
		if err != nil {
			return nil, about(err, "root_token_pgp_key")
		}
		id.Wipe()
		out.RootToken = secret.Own([]byte(encoded))
	}
	return out, nil
}

// Unseal takes one share, which it wipes. At the threshold the node unseals. While unsealed the share is ignored.
func (n *Node) Unseal(ctx context.Context, share secret.Bytes, local bool) (SealStatus, error) {
	defer share.Wipe()
	leave, err := n.turn(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	defer leave()
	if !n.Sealed() {
		return n.SealStatus(ctx)
	}
	p, opened, err := n.unsealer.Submit(ctx, share, local)
	if err != nil {
		n.refused("unseal", err)
		return SealStatus{}, err
	}
	if opened == nil {
		n.Logger.Info("share accepted", "at", "unseal", "progress", p.Given, "threshold", p.Threshold)
		return n.SealStatus(ctx)
	}
	n.activate(opened)
	if opened.Repaired {
		n.Logger.Error("the holder table was damaged and has been restored from its copy behind the barrier: check this machine's storage and who can write it")
	}
	n.Logger.Info("unsealed", "threshold", p.Threshold)
	return n.SealStatus(ctx)
}

// ResetUnseal forgets the shares given so far. It takes a valid share or a local connection, so that a stranger
// can't wear an unseal down.
func (n *Node) ResetUnseal(ctx context.Context, share secret.Bytes, local bool) (SealStatus, error) {
	defer share.Wipe()
	leave, err := n.turn(ctx)
	if err != nil {
		return SealStatus{}, err
	}
	defer leave()
	if !n.Sealed() {
		return SealStatus{}, fault.New(fault.Invalid, "vault is unsealed: there is no unseal progress to reset")
	}
	if _, err := n.unsealer.Reset(ctx, share, local); err != nil {
		return SealStatus{}, err
	}
	n.Logger.Info("unseal progress reset")
	return n.SealStatus(ctx)
}

// errSealedDirty answers a seal that came into force while the store failed.
var errSealedDirty = fault.New(fault.Unavailable, "the server is sealed, but the store could not be written: "+
	"a root generation that was in progress may still be there after the next unseal; cancel it then")

// sealPatience is how long a seal waits for the store before it wipes the keys all the same.
const sealPatience = 10 * time.Second

// Seal wipes the keys, and ends an open attempt once no request can start another. On a sealed node it does nothing,
// and asks for no authority.
func (n *Node) Seal(ctx context.Context, a Access) error {
	leave, err := n.turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if n.Sealed() {
		return nil
	}
	if err := n.View(ctx, a, func(*Call) error { return nil }); err != nil {
		return err
	}
	err = n.deactivate(func(act *active) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sealPatience)
		defer cancel()
		return act.Barrier.Update(ctx, func(tx store.Tx) error { return dropAttempt(tx) })
	})
	if err != nil {
		n.Logger.Error("sealed, but the open attempt could not be ended", "error", err)
		return errSealedDirty
	}
	n.Logger.Info("sealed", "by", "operator")
	return nil
}

// KeyStatus tells the active encryption term.
func (n *Node) KeyStatus(ctx context.Context, a Access) (st barrier.Status, err error) {
	a.Capability = policy.Read
	if err = n.View(ctx, a, func(*Call) error { return nil }); err != nil {
		return st, err
	}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		st, err = act.Barrier.Status(ctx)
		return err
	})
	return st, err
}
