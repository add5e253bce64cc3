package engine

import (
	"context"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// TxHandler answers a request inside the transaction that allows it. It may run more than once, and has no other effects.
type TxHandler func(tx Tx, r *Request) (*Response, error)

// InView makes a Handler of what only reads. Whatever h refuses is refused after the token was looked at.
func InView(h TxHandler) Handler {
	return func(ctx context.Context, r *Request) (*Response, error) { return run(ctx, r.View, r, h) }
}

// InUpdate makes a Handler of what also writes.
func InUpdate(h TxHandler) Handler {
	return func(ctx context.Context, r *Request) (*Response, error) { return run(ctx, r.Update, r, h) }
}

func run(ctx context.Context, open func(context.Context, func(Tx) error) error, r *Request, h TxHandler) (*Response, error) {
	var resp *Response
	err := open(ctx, func(tx Tx) (err error) {
		resp, err = h(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Get returns one value; nil if it isn't there.
func Get(r store.Reader, key string) ([]byte, error) {
	values, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// Keys answers a list with the names directly below a prefix, by the request's paging; 404 if there are none.
func Keys(tx Tx, r *Request, prefix string) (*Response, error) {
	after, limit, err := Paging(r.Query)
	if err != nil {
		return nil, err
	}
	names, err := ListNames(tx, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fault.New(fault.NotFound, "")
	}
	return &Response{Data: map[string]any{"keys": names}}, nil
}
