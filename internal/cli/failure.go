package cli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/openbao/openbao/api/v2"
)

// Exit codes; 0 is success.
const (
	exitLocal  = 1 // flags, arguments, a prompt without a terminal, no attempt in progress
	exitServer = 2 // the server answered an error or couldn't be asked, or nothing was found
)

// failure ends a command. Nothing in it comes from a secret.
type failure struct {
	code   int
	action string // what was being done, such as "unsealing the server"; may be empty
	err    error  // nil when there is nothing to print
	hint   string // what to do next; may be empty
}

func (f *failure) Error() string {
	switch {
	case f.err == nil:
		return fmt.Sprintf("exit code %d", f.code)
	case f.action == "":
		return f.err.Error()
	}
	return f.action + ": " + f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// localf is a failure on this side: wrong use, or something missing here.
func localf(format string, args ...any) *failure {
	return &failure{code: exitLocal, err: fmt.Errorf(format, args...)}
}

// stuck is a failure on this side while doing action.
func stuck(action string, err error) *failure {
	return &failure{code: exitLocal, action: action, err: err}
}

// unasked is a request that couldn't be made, where exit code 2 means something else.
func unasked(action string, err error) *failure {
	return &failure{code: exitLocal, action: action, err: err, hint: hintFor(err)}
}

// silent is an exit code that speaks for itself.
func silent(code int) *failure { return &failure{code: code} }

// asking wraps an error of a request made while doing action; nil stays nil.
func asking(action string, err error) error {
	if err == nil {
		return nil
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	return &failure{code: exitServer, action: action, err: err, hint: hintFor(err)}
}

// hinted adds what to do next to a failure, if the server's answer had this status.
func hinted(err error, status int, hint string) error {
	var f *failure
	if errors.As(err, &f) && answered(err) == status {
		f.hint = hint
	}
	return err
}

// answered is the status code of the server's refusal, 0 if err isn't one.
func answered(err error) int {
	var refused *api.ResponseError
	if errors.As(err, &refused) {
		return refused.StatusCode
	}
	return 0
}

// clockHint is for signatures that say when they were made.
func clockHint(err error) error {
	if err != nil && strings.Contains(err.Error(), "signed_at") {
		return hinted(err, http.StatusBadRequest, "compare this machine's clock with the server's, then run this again")
	}
	return err
}

func hintFor(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return "the server speaks plain http: use -address=http://... or set BAO_ADDR"
	case strings.Contains(text, "connection refused"), strings.Contains(text, "no such file or directory"):
		return "is the server running, and is this its address? see -address and BAO_ADDR"
	case strings.Contains(text, "certificate signed by unknown authority"), strings.Contains(text, "certificate is not trusted"):
		return "to trust the authority that signed the server's certificate: -ca-cert=FILE or BAO_CACERT"
	case answered(err) == http.StatusServiceUnavailable && strings.Contains(text, "sealed"):
		return "unseal it first: quorate operator unseal"
	}
	return ""
}

// voice is as whom a command speaks to the server.
type voice int

const (
	asNobody     voice = iota // on purpose: the request needs no token
	withoutToken              // there was none
	withToken
)

// write prints the failure: action, URL, code and a bullet per error for a refusal by the server, one line otherwise.
func (f *failure) write(w io.Writer) {
	var refused *api.ResponseError
	switch {
	case f.err == nil:
		return
	case errors.As(f.err, &refused):
		fmt.Fprintf(w, "error %s:\n\n%s", f.action, refusal(refused))
	case f.action != "":
		fmt.Fprintf(w, "error %s: %s\n", f.action, printable(f.err.Error()))
	default:
		fmt.Fprintf(w, "error: %s\n", printable(f.err.Error()))
	}
	if f.hint != "" {
		fmt.Fprintf(w, "hint: %s\n", f.hint)
	}
}

func refusal(r *api.ResponseError) string {
	var b strings.Builder
	what := map[bool]string{true: "Raw Message", false: "Errors"}[r.RawError]
	fmt.Fprintf(&b, "URL: %s %s\nCode: %d. %s:\n\n", r.HTTPMethod, printable(r.URL), r.StatusCode, what)
	for _, text := range r.Errors {
		fmt.Fprintf(&b, "* %s\n", printable(strings.TrimSpace(text)))
	}
	return b.String()
}

// reasons is the server's refusal, or whatever else went wrong, in one line.
func reasons(err error) string {
	var refused *api.ResponseError
	if errors.As(err, &refused) && len(refused.Errors) > 0 {
		return printable(strings.Join(refused.Errors, "; "))
	}
	return printable(err.Error())
}

// printable makes text from elsewhere harmless to a terminal, and bounds it: a proxy's error page is long.
func printable(text string) string {
	const limit = 2000
	clean := visible(text, "\n\t")
	if len(clean) > limit {
		clean = strings.ToValidUTF8(clean[:limit], "") + " ..."
	}
	return clean
}

// visible replaces what a terminal would act on instead of showing it, except for the characters in allowed.
func visible(text, allowed string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || strings.ContainsRune(allowed, r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
