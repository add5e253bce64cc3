// Package fault holds the one kind of error that may reach a client.
//
// A fault is a kind, which the wire layer maps to a status code in one place, and a sentence written for the
// person who reads it: lower case, saying what to do next, never containing a secret or a value from the request.
// Every other error stays inside: the client sees a bare 500 with the request ID, because a plain error's text may
// hold anything.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, in the terms of the caller.
type Kind int

const (
	Invalid     Kind = iota + 1 // the request can't be carried out as it is: 400
	Denied                      // no, bad or insufficient authority: 403
	NotFound                    // nothing there: 404
	Unsupported                 // this operation doesn't exist on this path: 405
	TooLarge                    // over a size limit: 413
	MediaType                   // wrong content type: 415
	Limited                     // too many requests from this client: 429
	Sealed                      // sealed or not initialised: 503
	Unavailable                 // a store that can't be reached or written: 503
)

// Error is a failure that a client may be told about.
type Error struct {
	Kind     Kind
	Sentence string
	// RetryAfter is how long the client should wait before the next try; zero when waiting doesn't help.
	RetryAfter time.Duration
	// LocalHelps says that a local connection would have been allowed; the wire tells why this one isn't local.
	LocalHelps bool
}

func (e *Error) Error() string { return e.Sentence }

// New returns a fault with a fixed sentence.
func New(kind Kind, sentence string) *Error { return &Error{Kind: kind, Sentence: sentence} }

// Newf returns a fault with a formatted sentence. No argument may come from a secret.
func Newf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Sentence: fmt.Sprintf(format, args...)}
}

// NeedsLocal returns a Denied fault for what a local connection would have been allowed.
func NeedsLocal(sentence string) *Error {
	return &Error{Kind: Denied, Sentence: sentence, LocalHelps: true}
}

// As finds the fault in err's chain; nil when there is none.
func As(err error) *Error {
	var f *Error
	if errors.As(err, &f) {
		return f
	}
	return nil
}
