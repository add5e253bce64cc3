package node

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/seal"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/transcript"
)

// provenPrefix + generation/slot → when and by what a holder last proved a working share.
const provenPrefix = "ceremony/proven/"

type provenRecord struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // a kind of ceremony, or unseal
}

func provenOf(generation uint64) string {
	return provenPrefix + strconv.FormatUint(generation, 10) + "/"
}

// proven writes down that holders of a generation have shown working shares. When a quorum of the generation in force
// has, the one before it, which could still unseal, is retired for good.
func (n *Node) proven(act *active, tx store.Tx, rec *seal.Record, gen *seal.Generation, by string, slots ...int) error {
	for _, slot := range slots {
		if err := putJSON(tx, provenOf(gen.Number)+numbered(slot), provenRecord{At: n.Now().UTC().Truncate(time.Millisecond), By: by}); err != nil {
			return err
		}
	}
	if rec.Retiring() == nil || rec.Generation().Number != gen.Number {
		return nil
	}
	count := 0
	for _, err := range tx.Scan(provenOf(gen.Number), "") {
		if err != nil {
			return err
		}
		count++
	}
	if count < gen.Threshold {
		return nil
	}
	retiring := rec.Retiring().Number
	if _, err := act.Retire(tx); err != nil {
		return err
	}
	return n.record(act, tx, transcript.Entry{Event: transcript.Retire, Generation: retiring})
}

// forgetProven removes what is known of the holders of generations that are not in the record any more.
func forgetProven(tx store.Tx, rec *seal.Record) error {
	known := map[string]bool{} // :: prefix of a generation
	for _, g := range generations(rec) {
		known[provenOf(g.Number)] = true
	}
	var gone []string
	for e, err := range tx.Scan(provenPrefix, "") {
		if err != nil {
			return err
		}
		if prefix := e.Key[:strings.LastIndexByte(e.Key, '/')+1]; !known[prefix] {
			gone = append(gone, strings.Clone(e.Key))
		}
	}
	for _, key := range gone {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// GenerationView is a generation as anyone may see it.
type GenerationView struct {
	Number            uint64
	State             string // active, pending, retiring or former
	Threshold, Shares int
	Holders           []HolderView
}

// HolderView is a holder as anyone may see them.
type HolderView struct {
	Slot       int
	Label      string
	Verifier   holder.Verifier
	LastProven time.Time // zero: never, or not known while sealed
	ProvenBy   string
}

// HolderTable shows the holders of all generations there are, also while sealed; then without when they were last proven.
func (n *Node) HolderTable(ctx context.Context) (clusterID string, list []GenerationView, err error) {
	if n.Sealed() {
		rec, err := n.sealRecord(ctx)
		if err != nil || rec == nil {
			return "", nil, err
		}
		return rec.ClusterID, generations(rec), nil
	}
	err = n.use(ctx, func(ctx context.Context, act *active) error {
		return act.Barrier.View(ctx, func(r store.Reader) error {
			rec, err := act.Record(r)
			if err != nil {
				return err
			}
			clusterID, list = rec.ClusterID, generations(rec)
			for _, g := range list {
				if err := addProven(r, g); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return clusterID, list, err
}

func generations(rec *seal.Record) (list []GenerationView) {
	for _, g := range []struct {
		state string
		gen   *seal.Generation
	}{{"active", rec.Generation()}, {"pending", rec.Pending()}, {"retiring", rec.Retiring()}, {"former", rec.Former()}} {
		if g.gen == nil {
			continue
		}
		v := GenerationView{Number: g.gen.Number, State: g.state, Threshold: g.gen.Threshold, Shares: g.gen.Shares}
		for _, h := range g.gen.Holders {
			v.Holders = append(v.Holders, HolderView{Slot: h.Slot, Label: h.Label, Verifier: h.Verifier})
		}
		list = append(list, v)
	}
	return list
}

func addProven(r store.Reader, g GenerationView) error {
	prefix := provenOf(g.Number)
	found := map[string]provenRecord{} // :: number of the slot → record
	for e, err := range r.Scan(prefix, "") {
		if err != nil {
			return err
		}
		var p provenRecord
		if json.Unmarshal(e.Value, &p) != nil {
			return barrier.ErrDamaged
		}
		found[strings.TrimPrefix(e.Key, prefix)] = p
	}
	for i := range g.Holders {
		p := found[numbered(g.Holders[i].Slot)]
		g.Holders[i].LastProven, g.Holders[i].ProvenBy = p.At, p.By
	}
	return nil
}
