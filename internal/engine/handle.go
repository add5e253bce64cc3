package engine

import (
	"context"
	"encoding/json"

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

// Decide runs decide in an Update that commits also where the request is refused, so that a failed login is counted.
func Decide(ctx context.Context, r *Request, decide func(Tx) (refused, err error)) (*Response, error) {
	var refused error
	err := r.Update(ctx, func(tx Tx) (err error) {
		refused, err = decide(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return nil, refused
}

// Get returns one value; nil if it isn't there.
func Get(r store.Reader, key string) ([]byte, error) {
	values, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	return values[0], nil
}

// GetJSON reads a value that PutJSON wrote; nil if it isn't there.
func GetJSON[T any](r store.Reader, key string) (*T, error) {
	record, err := Get(r, key)
	if err != nil || record == nil {
		return nil, err
	}
	v := new(T)
	return v, json.Unmarshal(record, v)
}

// PutJSON writes a value as JSON.
func PutJSON(tx store.Tx, key string, v any) error {
	record, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, record)
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
