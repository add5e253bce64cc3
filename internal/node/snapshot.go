package node

import (
	"context"
	"io"

	"github.com/quorate/quorate/internal/snapshot"
)

// Snapshot decides whether the whole store may be had, and returns what writes it: encrypted where it is encrypted, as it
// was at one moment after the decision. That can't be begun twice on one writer: after an error the stream has no end mark.
// It stops when the node seals. h needs the version of the server and the type of the store.
func (n *Node) Snapshot(ctx context.Context, a Access, h snapshot.Header) (save func(io.Writer) error, err error) {
	var act *active
	err = n.View(ctx, a, func(c *Call) error {
		act = c.act
		return nil
	})
	if err != nil {
		return nil, err
	}
	h.Created = n.Now()
	return func(w io.Writer) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if act.ctx.Err() != nil {
			return ErrSealed
		}
		defer context.AfterFunc(act.ctx, cancel)()
		if act.ctx.Err() != nil { // then cancel is only on its way
			return ErrSealed
		}
		return snapshot.Save(ctx, n.Store, w, h)
	}, nil
}
