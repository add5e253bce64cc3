package cli

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/quorate/quorate/internal/secret"
)

// errShareArgument refuses a share among the arguments. It says what to do about the one that was given.
var errShareArgument = errors.New(`a key share does not belong on the command line: other users can read it in the process list, and the shell keeps it in its history
give it when asked (run the command without it), or through a pipe with - as the argument
take this one out of your shell's history; if others use this machine, treat it as seen`)

var errNotAShare = errors.New("that is not a key share: one is a line of hex or standard base64")

// errNothingGiven is an empty answer to a prompt.
var errNothingGiven = errors.New("nothing was given")

// takeShare gets a share from wherever args says: a prompt without arguments, standard input for "-".
func (a *app) takeShare(ctx context.Context, conn *connection, args []string, prompt string) (secret.Bytes, error) {
	switch {
	case conn.curl && (len(args) == 0 || args[0] == "-"):
		return secret.Bytes{}, nil // nothing will be sent
	case len(args) == 0:
		tty, err := a.terminal(conn)
		if err != nil {
			return secret.Bytes{}, &failure{code: exitLocal, action: "asking for a key share", err: err, hint: "to read it from standard input, give - as the argument"}
		}
		share, err := askShare(ctx, tty, prompt)
		if err != nil {
			return secret.Bytes{}, &failure{code: exitLocal, action: "reading the key share", err: err}
		}
		return share, nil
	case len(args) == 1 && args[0] == "-":
		line, err := readLine(a.stdin)
		if err == nil || errors.Is(err, io.EOF) {
			var share secret.Bytes
			if share, err = cleanShare(line); err == nil {
				return share, nil
			}
		}
		return secret.Bytes{}, &failure{code: exitLocal, action: "reading the key share from standard input", err: err}
	}
	return secret.Bytes{}, localf("%w", errShareArgument)
}

// terminal returns the terminal to ask at, unless asking is forbidden.
func (a *app) terminal(conn *connection) (terminal, error) {
	if conn.nonInteractive {
		return nil, errors.New("-non-interactive forbids to ask")
	}
	return a.openTTY()
}

// askShare asks once. errNothingGiven for an empty line.
func askShare(ctx context.Context, tty terminal, prompt string) (secret.Bytes, error) {
	line, err := tty.Secret(ctx, prompt)
	if err != nil {
		return secret.Bytes{}, err
	}
	return cleanShare(line)
}

// cleanShare takes over line and returns the share in it, without the white space around it. Only the characters of
// hex and base64 pass, so a share can be put into JSON as it is and never has to become a string.
func cleanShare(line []byte) (secret.Bytes, error) {
	share := bytes.TrimSpace(line)
	if len(share) == 0 {
		return secret.Bytes{}, errNothingGiven
	}
	for _, c := range share {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/', c == '=':
		default:
			clear(line)
			return secret.Bytes{}, errNotAShare
		}
	}
	return secret.Own(share), nil
}

// shareBody is the JSON object of fields with the share as "key". The caller wipes it. With -output-curl-string the
// share stays out, and out of curl's arguments: curl is told to read the body from its standard input.
func (a *app) shareBody(conn *connection, share secret.Bytes, fields map[string]any) []byte {
	rest := jsonBody(fields) // {...}
	defer clear(rest)
	if conn.curl {
		return a.curlBody(rest)
	}
	const head, quote = `{"key":"`, `"`
	body := make([]byte, 0, len(head)+share.Len()+len(quote)+1+len(rest))
	body = append(body, head...)
	body = append(body, share.Reveal()...)
	body = append(body, quote...)
	if len(fields) > 0 {
		body = append(body, ',')
	}
	return append(body, rest[1:]...)
}

func (a *app) curlBody(rest []byte) []byte {
	tail := string(rest[1:])
	if tail != "}" {
		tail = "," + tail
	}
	a.say(`give curl this on its standard input: {"key":"<the share>"%s`, tail)
	return []byte("@-")
}
