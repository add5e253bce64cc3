package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/openbao/openbao/api/v2"
)

// defaultAddress is where "quorate server" listens.
const defaultAddress = "http://127.0.0.1:8200"

// hidden keeps a flag out of a command's own help; package command knows the prefix. "quorate help connection" lists them.
const hidden = "PRIVATE: "

// connection is where the server is and how to talk to it: flags first, then BAO_*, then VAULT_* variables.
type connection struct {
	address, caCert, caPath, clientCert, clientKey, serverName, namespace, wrapTTL string

	skipVerify, noRedirects, curl, policy, nonInteractive bool

	headers [][2]string

	say    func(format string, args ...any) // may be nil
	warned bool                             // of a namespace
}

func (c *connection) flags(fs *flag.FlagSet, prefix string) {
	fs.StringVar(&c.address, "address", "", prefix+"`URL` of the server: http, https or unix (BAO_ADDR; default "+defaultAddress+")")
	fs.StringVar(&c.caCert, "ca-cert", "", prefix+"`FILE` with the PEM certificate of the authority to trust (BAO_CACERT)")
	fs.StringVar(&c.caPath, "ca-path", "", prefix+"`DIR` of PEM certificates to trust (BAO_CAPATH)")
	fs.StringVar(&c.clientCert, "client-cert", "", prefix+"`FILE` with our own PEM certificate (BAO_CLIENT_CERT)")
	fs.StringVar(&c.clientKey, "client-key", "", prefix+"`FILE` with its PEM private key (BAO_CLIENT_KEY)")
	fs.StringVar(&c.serverName, "tls-server-name", "", prefix+"`NAME` to expect in the server's certificate (BAO_TLS_SERVER_NAME)")
	fs.BoolVar(&c.skipVerify, "tls-skip-verify", false, prefix+"accept any certificate; never with secrets that matter (BAO_SKIP_VERIFY)")
	fs.StringVar(&c.namespace, "namespace", "", prefix+"`PATH` of the namespace (BAO_NAMESPACE)")
	fs.StringVar(&c.namespace, "ns", "", prefix+"short for -namespace, `PATH`")
	fs.Func("header", prefix+"`NAME=VALUE` to send along; may be repeated", c.addHeader)
	fs.StringVar(&c.wrapTTL, "wrap-ttl", "", prefix+"wrap the answer for this `DURATION` (BAO_WRAP_TTL)")
	fs.BoolVar(&c.noRedirects, "disable-redirects", false, prefix+"don't follow a redirect (BAO_DISABLE_REDIRECTS)")
	fs.BoolVar(&c.curl, "output-curl-string", false, prefix+"print the request as a curl command instead of sending it")
	fs.BoolVar(&c.policy, "output-policy", false, prefix+"print the policy that the request needs instead of sending it")
	fs.BoolVar(&c.nonInteractive, "non-interactive", false, prefix+"never prompt")
}

// client returns a client that speaks as token; empty for nobody.
func (c *connection) client(token string) (*api.Client, error) {
	cfg := api.DefaultConfig()
	if cfg.Error != nil {
		return nil, localf("reading the environment: %w", cfg.Error)
	}
	switch {
	case c.address != "":
		cfg.Address, cfg.AgentAddress = c.address, ""
	case api.ReadBaoVariable(api.EnvVaultAddress) == "":
		cfg.Address = defaultAddress
	}
	if !strings.Contains(cfg.Address, "://") {
		return nil, localf("the server's address must begin with http://, https:// or unix://")
	}
	if err := c.configureTLS(cfg); err != nil {
		return nil, localf("setting up TLS: %w", err)
	}
	cfg.DisableRedirects = cfg.DisableRedirects || c.noRedirects
	cfg.CheckRetry = c.retry
	if ns := strings.Trim(cmp.Or(c.namespace, api.ReadBaoVariable(api.EnvVaultNamespace)), "/"); ns != "" && ns != "root" && !c.warned {
		c.warned = true
		c.tell("warning: a namespace is set (-namespace, BAO_NAMESPACE or VAULT_NAMESPACE), and a quorate server has none: nothing will be found in it")
	}
	cfg.OutputCurlString, cfg.OutputPolicy = c.curl, c.policy
	client, err := api.NewClient(cfg)
	if err != nil {
		return nil, localf("setting up the client: %w", err)
	}
	client = client.WithResponseCallbacks(refuseRedirect)
	if c.curl {
		client = client.WithRequestCallbacks(quoteHeaders)
	}
	client.SetToken(token)
	if c.namespace != "" {
		client.SetNamespace(c.namespace)
	}
	for _, h := range c.headers {
		client.AddHeader(h[0], h[1])
	}
	if c.wrapTTL != "" {
		client.SetWrappingLookupFunc(func(string, string) string { return c.wrapTTL })
	}
	return client, nil
}

// inQuotes is for text that stands between double quotes in a shell, and still means itself there.
var inQuotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "`", "\\`")

// quoteHeaders prepares a request that the api module prints as a command: it puts headers in quotes as they are.
func quoteHeaders(r *api.Request) {
	r.WrapTTL = inQuotes.Replace(r.WrapTTL)
	r.Headers = r.Headers.Clone()
	for _, values := range r.Headers {
		for i := range values {
			values[i] = inQuotes.Replace(values[i])
		}
	}
}

// refuseRedirect makes an error of a redirect that is not followed: the api module takes it for success.
func refuseRedirect(resp *api.Response) {
	if resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode < http.StatusBadRequest {
		text := fmt.Sprintf("%v it answers %d, to go elsewhere", errUnexpected, resp.StatusCode)
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(jsonBody(api.ErrorResponse{Errors: []string{text}})))
		resp.StatusCode = http.StatusBadGateway
	}
}

type onceKey struct{}

// once is for requests that are not tried again: what a lost answer was about may have happened.
func once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

func (c *connection) tell(format string, args ...any) {
	if c.say != nil {
		c.say(format, args...)
	}
}

// retry is whether a request is tried again, and says so where that takes time.
func (c *connection) retry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	again, err := retry(ctx, resp, err)
	if again && resp != nil && resp.StatusCode == http.StatusTooManyRequests {
		c.tell("the server asks for fewer requests: trying again in %s s", cmp.Or(visible(resp.Header.Get("Retry-After"), ""), "a few"))
	}
	return again, err
}

// retry decides whether a request is tried again, as the api module does, but for the answer that a server is sealed,
// which lasts until people have met, not until the next second, and for those that say that something was done.
func retry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Value(onceKey{}) != nil {
		return false, nil
	}
	const most = 4096 // bytes; our own answer is much shorter
	final := map[int][]string{
		http.StatusServiceUnavailable:  {"is sealed"},
		http.StatusInternalServerError: {"was carried out", "outcome of the write is unknown"},
	}
	if err == nil && resp.StatusCode >= http.StatusInternalServerError {
		head, _ := io.ReadAll(io.LimitReader(resp.Body, most)) // what breaks it off is met again by whoever reads on
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
		if slices.ContainsFunc(final[resp.StatusCode], func(text string) bool { return bytes.Contains(head, []byte(text)) }) {
			return false, nil
		}
	}
	return api.DefaultRetryPolicy(ctx, resp, err)
}

// configureTLS puts the flags over what the environment said.
func (c *connection) configureTLS(cfg *api.Config) error {
	if c.caCert == "" && c.caPath == "" && c.clientCert == "" && c.clientKey == "" && c.serverName == "" && !c.skipVerify {
		return nil
	}
	return cfg.ConfigureTLS(&api.TLSConfig{
		CACert:        cmp.Or(c.caCert, api.ReadBaoVariable(api.EnvVaultCACert)),
		CAPath:        cmp.Or(c.caPath, api.ReadBaoVariable(api.EnvVaultCAPath)),
		ClientCert:    cmp.Or(c.clientCert, api.ReadBaoVariable(api.EnvVaultClientCert)),
		ClientKey:     cmp.Or(c.clientKey, api.ReadBaoVariable(api.EnvVaultClientKey)),
		TLSServerName: cmp.Or(c.serverName, api.ReadBaoVariable(api.EnvVaultTLSServerName)),
		Insecure:      c.skipVerify,
	})
}

var (
	// errUnexpected is an answer with a good status that no server of the family gives.
	errUnexpected = errors.New("unexpected answer: is this a Quorate or Vault server?")
	// errNoContent is the answer that there is none: to a cancel, that it ended what it was about.
	errNoContent = fmt.Errorf("%w it has nothing to say", errUnexpected)
)

// call sends one request to a raw endpoint and decodes the answer, a JSON object that isn't empty, into out; with nil
// there must be none. path has no /v1/. body is the caller's to wipe; it is sent as it is, also when the api module tries
// again.
func call(ctx context.Context, client *api.Client, method, path string, body []byte, out any) error {
	req := client.NewRequest(method, "/v1/"+path)
	req.BodyBytes = body
	return send(ctx, client, req, out)
}

func send(ctx context.Context, client *api.Client, req *api.Request, out any) error {
	resp, err := client.RawRequestWithContext(ctx, req)
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		if curl := (*api.OutputStringError)(nil); errors.As(err, &curl) {
			curl.CurlString() // builds the text now: the body is wiped when we return
		}
		return err
	}
	if resp.StatusCode == http.StatusNoContent {
		if out == nil {
			return nil
		}
		return errNoContent
	}
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("the server's answer broke off: %w", err)
	case out == nil && len(text) == 0:
		return nil
	case out == nil || emptyObject(text):
		return errUnexpected
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w it is not the JSON expected: %w", errUnexpected, err)
	}
	return nil
}

// emptyObject reports whether text is no JSON object, or one that says nothing.
func emptyObject(text []byte) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(text, &fields) != nil || len(fields) == 0
}

// jsonBody encodes v, which can't fail for the types used here.
func jsonBody(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("cli: request body: " + err.Error())
	}
	return b
}

// addGiven adds those of more that say something to the fields of a request.
func addGiven(fields, more map[string]any) {
	for name, v := range more {
		if !reflect.ValueOf(v).IsZero() {
			fields[name] = v
		}
	}
}

// requestText is for the two flags that print a request instead of sending it; the api module returns it as an error.
func requestText(err error) (text string, ok bool) {
	var curl *api.OutputStringError
	var policy *api.OutputPolicyError
	switch {
	case errors.As(err, &curl):
		text, err = curl.CurlString()
		// The URL comes last, quoted as Go does; what else a shell acts on is percent-encoded in it.
		if url := strconv.Quote(curl.URL.String()); strings.HasSuffix(text, url) {
			text = strings.TrimSuffix(text, url) + strings.ReplaceAll(url, "$", `\$`)
		}
		return strings.Replace(text, "$(bao print token)", "$(quorate print token)", 1), err == nil
	case errors.As(err, &policy):
		text, err = policy.HCLString()
		return text, err == nil
	}
	return "", false
}

// usable drops a token that can't be sent at all. Where a token is only one kind of authority among others, a broken
// one in the environment must not be in the way.
func usable(token string) string {
	if strings.ContainsFunc(token, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return token
}

// addHeader takes a -header flag. Its errors don't show the value: headers carry credentials.
func (c *connection) addHeader(s string) error {
	name, value, ok := strings.Cut(s, "=")
	switch {
	case !ok || name == "":
		return errors.New("a header is given as NAME=VALUE")
	case strings.HasPrefix(strings.ToLower(name), "x-vault-"):
		return errors.New("headers that begin with X-Vault- can't be set: they have flags of their own")
	}
	c.headers = append(c.headers, [2]string{name, value})
	return nil
}
