package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// Membership is how a node takes part in a cluster of several over one store. Nothing depends on it for being right: the
// store is what they share. It tells operators which nodes there are, and nodes whom to ask for keys.
type Membership struct {
	Name    string // of this node, for people
	APIAddr string // URL under which clients reach it; may be empty
	Addr    string // host:port under which other nodes do; empty: they don't
	Version string
	// Share hands the root key to nodes that are sealed and have proven that they can write to the store.
	Share bool
	// Ask asks the node at addr for the root key, in the name of the node id; nil: a sealed node waits for its holders.
	Ask      func(ctx context.Context, addr, id string) ([]byte, error)
	Interval time.Duration // between two signs of life; 0 means 5 seconds
}

const (
	defaultEcho = 5 * time.Second
	// echoKept is when the record of a node that came to no orderly end goes.
	echoKept = 15 * time.Minute
	// maxAskPause is after how many signs of life a node asks again at the latest that got the keys and can't use them: each
	// time is an entry of the transcript.
	maxAskPause = 64
	maxNodeName = 256 // bytes
	// handLabel begins what a root key is bound to on its way from one node to another.
	handLabel = "quorate/v1/hand-over"
)

// NodeInfo is a node as it shows itself to the others, in its record under seal.PresencePrefix.
type NodeInfo struct {
	ID          string    `json:"id"` // of this run of the process
	Name        string    `json:"name"`
	APIAddr     string    `json:"api_addr"`
	ClusterAddr string    `json:"cluster_addr"`
	Version     string    `json:"version"`
	Sealed      bool      `json:"sealed"`
	Started     time.Time `json:"started"`
	LastEcho    time.Time `json:"last_echo"`
	// Key is what the root key may be encrypted to, while the node is sealed and would take it: whoever can't write to the
	// store can't get it.
	Key []byte `json:"key,omitempty"`
}

// presence is what a process knows of itself as a node.
type presence struct {
	id      string
	started time.Time
	alone   atomic.Bool // sealed by an operator apart from the others: only holders unseal it
	key     hpke.PrivateKey
	changed chan struct{} // has one in it when the others ought to hear at once
}

func newPresence(now time.Time) presence {
	return presence{id: uuid.NewString(), started: now, changed: make(chan struct{}, 1)}
}

// tell makes the next sign of life come at once.
func (p *presence) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (n *Node) name() string {
	if n.Cluster != nil && n.Cluster.Name != "" {
		return n.Cluster.Name
	}
	return n.presence.id
}

// Self is this node.
func (n *Node) Self() NodeInfo {
	info := NodeInfo{ID: n.presence.id, Name: n.name(), Sealed: n.Sealed(), Started: n.presence.started.UTC(), LastEcho: n.Now().UTC()}
	if m := n.Cluster; m != nil {
		info.APIAddr, info.ClusterAddr, info.Version = m.APIAddr, m.Addr, m.Version
	}
	return info
}

// Nodes lists the nodes that are alive, this one among them, in the order of their names.
func (n *Node) Nodes(ctx context.Context) (list []NodeInfo, err error) {
	if n.Cluster == nil {
		return []NodeInfo{n.Self()}, nil
	}
	now := n.Now()
	err = n.Store.View(ctx, func(r store.Reader) error {
		list = []NodeInfo{n.Self()}
		all, err := readAll[NodeInfo](r, seal.PresencePrefix)
		for _, info := range all {
			if info.alive(now) && info.ID != n.presence.id {
				list = append(list, info)
			}
		}
		shown := slices.Clone(list)
		list = slices.DeleteFunc(list, func(old NodeInfo) bool { // what a process left that another one has followed at its address
			return old.ID != n.presence.id && old.ClusterAddr != "" && slices.ContainsFunc(shown, func(i NodeInfo) bool {
				return i.ClusterAddr == old.ClusterAddr && i.Started.After(old.Started)
			})
		})
		return err
	})
	slices.SortFunc(list, func(a, b NodeInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return list, err
}

func (i *NodeInfo) alive(now time.Time) bool { return now.Sub(i.LastEcho).Abs() < seal.PresenceLife }

// RunMembership leaves signs of life until ctx ends, and takes the last one back then. While the node is sealed it asks
// the others for the root key, if it may.
func (n *Node) RunMembership(ctx context.Context) {
	m := n.Cluster
	ticker := time.NewTicker(cmp.Or(m.Interval, defaultEcho))
	defer ticker.Stop()
	lost := false
	for tick, next, pause := 0, 0, 1; ; tick++ {
		err := n.echo(ctx)
		if err == nil && n.presence.key != nil && tick >= next { // or nobody could know what to encrypt the keys to
			if next = tick + pause; n.askAll(ctx) {
				pause = min(2*pause, maxAskPause)
			} else {
				next, pause = tick, 1
			}
		}
		if ctx.Err() == nil && (err != nil) != lost {
			if lost = err != nil; lost {
				n.Logger.Warn("the store can't be told that this server is alive", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
			defer cancel()
			// One that can't be taken back is out of date soon.
			_ = n.Store.Update(ctx, func(tx store.Tx) error { return tx.Delete(seal.PresencePrefix + n.presence.id) })
			return
		case <-n.presence.changed:
			tick-- // not one of those that the pauses are counted in
		case <-ticker.C:
		}
	}
}

// echo writes blindly, so that the signs of several nodes don't get in each other's way.
func (n *Node) echo(ctx context.Context) error {
	info := n.Self()
	if n.wantsKey() {
		if n.presence.key == nil {
			key, err := hpke.MLKEM768X25519().GenerateKey()
			if err != nil {
				return err
			}
			n.presence.key = key
		}
		info.Key = n.presence.key.PublicKey().Bytes()
	} else {
		n.presence.key = nil
	}
	return n.Store.Update(ctx, func(tx store.Tx) error { return putJSON(tx, seal.PresencePrefix+info.ID, info) })
}

func (n *Node) wantsKey() bool {
	return n.Cluster.Ask != nil && n.Sealed() && !n.presence.alone.Load()
}

// sweepNodes removes what nodes left that came to no orderly end.
func (n *Node) sweepNodes(ctx context.Context, _ *active) error {
	if n.Cluster == nil {
		return nil
	}
	var old []string
	err := n.Store.View(ctx, func(r store.Reader) error {
		old = nil
		for e, err := range r.Scan(seal.PresencePrefix, "") {
			if err != nil {
				return err
			}
			var info NodeInfo
			if json.Unmarshal(e.Value, &info) != nil || n.Now().Sub(info.LastEcho).Abs() > echoKept {
				old = append(old, strings.Clone(e.Key))
			}
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return n.Store.Update(ctx, func(tx store.Tx) error {
		for _, key := range old {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// askAll asks one node after the other until one has handed the keys over. It reports whether there were keys that could
// not be used.
func (n *Node) askAll(ctx context.Context) (useless bool) {
	list, err := n.Nodes(ctx)
	for _, info := range list {
		if err != nil || !n.wantsKey() {
			return false
		}
		if info.Sealed || info.ClusterAddr == "" || info.ID == n.presence.id {
			continue
		}
		message, err := n.Cluster.Ask(ctx, info.ClusterAddr, n.presence.id)
		if err == nil {
			err = n.take(ctx, info, message)
			useless = err != nil
		}
		if err != nil && ctx.Err() == nil {
			n.Logger.Warn("another server's keys could not be had", "server", info.Name, "address", info.ClusterAddr, "error", err)
		}
	}
	return useless
}

var errBadHandOver = errors.New("its answer is not for this server")

// take opens what the node from has answered, and unseals this one with it.
func (n *Node) take(ctx context.Context, from NodeInfo, message []byte) error {
	rec, err := n.sealRecord(ctx)
	switch {
	case err != nil:
		return err
	case rec == nil:
		return seal.ErrNotInitialized
	}
	plain, err := hpke.Open(n.presence.key, hpke.HKDFSHA256(), hpke.AES256GCM(), handInfo(rec.ClusterID, n.presence.id), message)
	if err != nil || len(plain) < barrier.KeySize {
		return errBadHandOver
	}
	root, order := secret.Own(plain[:barrier.KeySize]), string(plain[barrier.KeySize:])
	defer root.Wipe()
	leave, err := n.turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if !n.wantsKey() {
		return nil
	}
	if err := n.Store.View(ctx, snapshot.Unfinished); err != nil {
		return err
	}
	n.guard.pin(order) // the one under which the other is open: if the cluster was sealed since, nothing can be read
	opened, err := seal.OpenWithRoot(ctx, n.guard, root)
	if err == nil {
		if err = n.activate(ctx, opened, "server "+n.name()+", with the keys of server "+from.Name); err != nil {
			opened.Barrier.Close()
		}
	}
	if err != nil {
		n.guard.unpin()
		return err
	}
	n.unsealer.Close()
	n.Logger.Info("unsealed", "with the keys of", from.Name)
	return nil
}

func handInfo(clusterID, id string) []byte {
	return bytes.Join([][]byte{[]byte(handLabel), []byte(clusterID), []byte(id)}, []byte{0})
}

var (
	errNoSharing = fault.New(fault.Denied, "this server does not hand keys over: set share_unseal in its cluster block")
	errNoAsker   = fault.New(fault.Denied, "no sealed server of that id has shown itself in the store lately: it needs the same store and a clock that is right")
)

// HandOver encrypts the root key to the node id, which must have shown itself in the store as sealed: to ask for it takes
// a connection that the cluster's certificates allow, and a hand that can write to its store. The transcript says so before
// anybody gets it, and as whom the one who asked was known, which its name alone wouldn't prove.
func (n *Node) HandOver(ctx context.Context, id, as string) (message []byte, err error) {
	if n.Cluster == nil || !n.Cluster.Share {
		return nil, errNoSharing
	}
	if !isNonce(id) {
		return nil, errNoAsker
	}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.Update(ctx, func(tx store.Tx) error {
			var to NodeInfo
			if err := getJSON(tx, seal.PresencePrefix+id, &to); err != nil {
				return err
			}
			public, err := hpke.MLKEM768X25519().NewPublicKey(to.Key)
			if to.ID != id || !to.Sealed || !to.alive(n.Now()) || len(to.Name) > maxNodeName || err != nil {
				return errNoAsker
			}
			rec, err := act.Record(tx)
			if err != nil {
				return err
			}
			e := transcript.Entry{Event: transcript.HandedOver, Generation: rec.Generation().Number, Detail: "to server " + to.Name + " (" + as + "), by server " + n.name()}
			if err := n.record(act, tx, e); err != nil {
				return err
			}
			return act.Barrier.UseRoot(tx, func(root secret.Bytes) error {
				plain := slices.Concat(root.Reveal(), []byte(n.guard.order())) // made in one piece, so that all of it is cleared
				defer clear(plain)
				message, err = hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), handInfo(rec.ClusterID, id), plain)
				return err
			})
		})
	})
	if err != nil {
		return nil, err
	}
	n.Logger.Info("the keys were handed over", "to", id, "as", as)
	return message, nil
}
