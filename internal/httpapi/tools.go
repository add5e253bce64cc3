package httpapi

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

const (
	toolBody      = 1 << 20
	maxRandom     = 128 << 10 // bytes
	defaultRandom = 32
)

var (
	errRandomBytes = fault.Newf(fault.Invalid, "the number of bytes must be from 1 to %d", maxRandom)
	errToolFormat  = fault.New(fault.Invalid, "format must be base64 or hex")
	errHashName    = fault.New(fault.Invalid, "unknown algorithm: it must be sha2- or sha3-, and 224, 256, 384 or 512")
	errHashInput   = fault.New(fault.Invalid, "input must be in standard base64")
	errCORSOrigins = fault.New(fault.Invalid, "allowed_origins must be * alone, or origins such as https://ui.example.com")
	errCORSHeaders = fault.New(fault.Invalid, "allowed_headers must be names of headers")
)

func toolRoutes() []route {
	random, sum := map[operation]handler{opUpdate: randomBytes}, map[operation]handler{opUpdate: hashInput}
	const shown = "bytes format algorithm allowed_origins allowed_headers"
	list := ofToken([]route{
		{path: "sys/tools/random", ops: random, summary: "random bytes", fields: "bytes int, format"},
		{path: "sys/tools/random/{bytes}", ops: random, summary: "random bytes", fields: "format"},
		{path: "sys/tools/hash", limit: toolBody, ops: sum, summary: "the hash of an input", fields: "input, algorithm, format"},
		{path: "sys/tools/hash/{algorithm}", limit: toolBody, ops: sum, summary: "the hash of an input", fields: "input, format"},
		{path: "sys/config/cors", sudo: true, ops: map[operation]handler{
			opRead: readCORS, opUpdate: setCORS, opDelete: deleteCORS,
		}, summary: "which pages of other origins may use the server: read, set, none", fields: "enabled bool, allowed_origins list, allowed_headers list"},
	})
	for i := range list {
		list[i].clear = shown
	}
	return list
}

// encoded returns b as text in the format that was asked for, wiped after the reply.
func (x *exchange) encoded(b []byte, absent string) (text, error) {
	var out []byte
	switch cmp.Or(x.fields.Str("format"), absent) {
	case "base64":
		out = base64.StdEncoding.AppendEncode(nil, b)
	case "hex":
		out = hex.AppendEncode(nil, b)
	default:
		return nil, cmp.Or[error](x.fields.Err(), errToolFormat)
	}
	x.fields.Own(out)
	return out, x.fields.Err()
}

func randomBytes(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	n, err := defaultRandom, error(nil)
	if x.params["bytes"] != "" {
		n, err = strconv.Atoi(x.param("bytes"))
	} else if x.fields.Has("bytes") {
		n = x.fields.Int("bytes")
	}
	switch {
	case x.fields.Err() != nil:
		return nil, x.fields.Err()
	case err != nil || n < 1 || n > maxRandom:
		return nil, errRandomBytes
	}
	b := make([]byte, n)
	defer clear(b)
	rand.Read(b)
	out, err := x.encoded(b, "base64")
	return &reply{data: map[string]any{"random_bytes": out}}, err
}

func hashInput(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	h := newHash(cmp.Or(x.param("algorithm"), x.fields.Str("algorithm"), "sha2-256"))
	encoded := x.fields.Text("input")
	switch {
	case x.fields.Err() != nil:
		return nil, x.fields.Err()
	case h == nil:
		return nil, errHashName
	}
	input, err := base64.StdEncoding.AppendDecode(nil, encoded)
	x.fields.Own(input)
	if err != nil {
		return nil, errHashInput
	}
	h.Write(input)
	out, err := x.encoded(h.Sum(nil), "hex")
	return &reply{data: map[string]any{"sum": out}}, err
}

// newHash returns nil for an unknown name.
func newHash(name string) hash.Hash {
	switch name {
	case "sha2-224":
		return sha256.New224()
	case "sha2-256":
		return sha256.New()
	case "sha2-384":
		return sha512.New384()
	case "sha2-512":
		return sha512.New()
	case "sha3-224":
		return sha3.New224()
	case "sha3-256":
		return sha3.New256()
	case "sha3-384":
		return sha3.New384()
	case "sha3-512":
		return sha3.New512()
	}
	return nil
}

func readCORS(x *exchange) (*reply, error) {
	var cors node.CORS
	err := x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		cors = c.CORS()
		return nil
	})
	data := map[string]any{"enabled": cors.Enabled}
	if cors.Enabled {
		data["allowed_origins"], data["allowed_headers"] = cors.Origins, cors.Headers
	}
	return injected(data), err
}

func setCORS(x *exchange) (*reply, error) {
	f := &x.fields
	cors := node.CORS{Enabled: f.Flag("enabled", true), Origins: f.Strs("allowed_origins"), Headers: f.Strs("allowed_headers")}
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error {
		switch {
		case f.Err() != nil:
			return f.Err()
		case !cors.Enabled:
			return c.SetCORS(node.CORS{})
		case !origins(cors.Origins):
			return errCORSOrigins
		case slices.ContainsFunc(cors.Headers, func(name string) bool { return !httpguts.ValidHeaderFieldName(name) }):
			return errCORSHeaders
		}
		return c.SetCORS(cors)
	})
}

// origins reports whether a list is one of origins as browsers name them, or * alone.
func origins(list []string) bool {
	return len(list) == 1 && list[0] == "*" || len(list) > 0 && !slices.ContainsFunc(list, func(o string) bool {
		u, err := url.Parse(o)
		return err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || o != strings.ToLower(u.Scheme+"://"+u.Host)
	})
}

func deleteCORS(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error { return c.SetCORS(node.CORS{}) })
}
