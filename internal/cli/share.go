package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// errShareArgument refuses a share among the arguments. It says what to do about the one that was given.
var errShareArgument = errors.New(`a key share does not belong on the command line: other users can read it in the process list, and the shell keeps it in its history
give it when asked (run the command without it), or through a pipe with - as the argument
take this one out of your shell's history; if others use this machine, treat it as seen`)

var errNotAShare = errors.New("that is not a key share: one is a line that begins with qshare1, or of hex or standard base64")

// errNothingGiven is an empty answer to a prompt.
var errNothingGiven = errors.New("nothing was given")

// givenShare is a share as its holder gave it.
type givenShare struct {
	text   secret.Bytes   // hex or base64: what every server takes
	armour *holder.Armour // what the armour says, without the share; nil for a bare one
}

// armourError is what is wrong with an armoured share.
type armourError struct{ error }

// Is makes it one of the reasons for which a share isn't sent.
func (armourError) Is(target error) bool { return target == errNotAShare }

// takeShare gets a share from wherever args says: a prompt without arguments, standard input for "-". A share whose
// armour names another cluster than the server's is refused.
func (s *session) takeShare(ctx context.Context, args []string, prompt string) (secret.Bytes, error) {
	given, err := s.takeGiven(ctx, args, prompt)
	if err != nil || given.armour == nil {
		return given.text, err
	}
	if err := s.sameCluster(ctx, given.armour); err != nil {
		given.text.Wipe()
		return secret.Bytes{}, err
	}
	return given.text, nil
}

func (s *session) takeGiven(ctx context.Context, args []string, prompt string) (givenShare, error) {
	switch {
	case s.conn.curl && (len(args) == 0 || args[0] == "-"):
		return givenShare{}, nil // nothing will be sent
	case len(args) == 0:
		tty, err := s.terminal("asking for a key share", "to read it from standard input, give - as the argument")
		if err != nil {
			return givenShare{}, err
		}
		given, err := askGiven(ctx, tty, prompt)
		if err != nil {
			return givenShare{}, stuck("reading the key share", err)
		}
		return given, nil
	case len(args) == 1 && args[0] == "-":
		line, err := readLine(s.stdin)
		if err == nil || errors.Is(err, io.EOF) {
			var given givenShare
			if given, err = readGiven(line); err == nil {
				return given, nil
			}
		}
		return givenShare{}, stuck("reading the key share from standard input", err)
	}
	return givenShare{}, localf("%w", errShareArgument)
}

// sameCluster refuses a share of another cluster, where the server tells which one it is.
func (s *session) sameCluster(ctx context.Context, armour *holder.Armour) error {
	client, err := s.conn.client("")
	if err != nil {
		return err
	}
	table, err := readShareTable(ctx, client)
	if err != nil || table.ClusterID == "" || table.ClusterID == armour.ClusterID {
		return nil
	}
	return localf("%w", otherCluster(armour, table))
}

// askGiven asks once. errNothingGiven for an empty line.
func askGiven(ctx context.Context, tty terminal, prompt string) (givenShare, error) {
	line, err := tty.Secret(ctx, prompt)
	if err != nil {
		return givenShare{}, err
	}
	return readGiven(line)
}

// readGiven takes over line and returns the share in it, without the white space around it. Only the characters of hex
// and base64 pass, so a share can be put into JSON as it is and never has to become a string. An armour is taken off:
// servers of the family know only what is in it.
func readGiven(line []byte) (givenShare, error) {
	share := bytes.TrimSpace(line)
	if len(share) == 0 {
		return givenShare{}, errNothingGiven
	}
	if holder.IsArmoured(share) {
		defer clear(line)
		armour, err := holder.ParseArmour(share)
		if err != nil {
			return givenShare{}, armourError{err}
		}
		defer armour.Share.Wipe()
		text := hex.AppendEncode(nil, armour.Share.Reveal())
		armour.Share = secret.Bytes{}
		return givenShare{text: secret.Own(text), armour: &armour}, nil
	}
	if len(share) > 2*holder.MaxShare { // such as an armoured one that is wrong in its first letters
		clear(line)
		return givenShare{}, errNotAShare
	}
	for _, c := range share {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/', c == '=':
		default:
			clear(line)
			return givenShare{}, errNotAShare
		}
	}
	return givenShare{text: secret.Own(share)}, nil
}

// sharePayload takes a share and puts it into a request body, which the caller wipes.
func (s *session) sharePayload(ctx context.Context, args []string, prompt string, fields map[string]any) ([]byte, error) {
	share, err := s.takeShare(ctx, args, prompt)
	if err != nil {
		return nil, err
	}
	defer share.Wipe()
	return s.shareBody(share, fields), nil
}

// shareBody is the JSON object of fields, if any, with the share as "key". The caller wipes it. With -output-curl-string the
// share stays out, and out of curl's arguments: curl is told to read the body from its standard input.
func (s *session) shareBody(share secret.Bytes, fields map[string]any) []byte {
	if s.conn.curl {
		return s.curlBody(`"key":"<the share>"`, fields)
	}
	rest := []byte("}")
	if len(fields) > 0 {
		rest = jsonBody(fields)
		rest[0] = ','
	}
	defer clear(rest)
	const head, quote = `{"key":"`, `"`
	body := make([]byte, 0, len(head)+share.Len()+len(quote)+len(rest))
	body = append(body, head...)
	body = append(body, share.Reveal()...)
	body = append(body, quote...)
	return append(body, rest...)
}

// otpHole stands for a one-time password from standard input where a request is printed.
const otpHole = "<the one-time password>"

// fieldsBody is the JSON object of fields. With -output-curl-string a one-time password from standard input stays out,
// as a share does.
func (s *session) fieldsBody(fields map[string]any) []byte {
	if s.conn.curl && fields["otp"] == otpHole {
		return s.curlBody("", fields)
	}
	return jsonBody(fields)
}

// curlBody tells what to give curl on its standard input, with holes for what isn't known or must not be seen. It
// begins with first, which is JSON but for its holes.
func (s *session) curlBody(first string, fields map[string]any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if fields == nil {
		fields = map[string]any{}
	}
	enc.Encode(fields) // can't fail, as in jsonBody
	rest := strings.TrimSpace(b.String())[1:]
	if first != "" && len(fields) > 0 {
		first += ","
	}
	s.say("give curl this on its standard input: {%s%s", first, rest)
	return []byte("@-")
}
