package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openbao/openbao/api/v2"
)

// preflight is the path below which the server says which mount a path belongs to, to those with a right there.
const preflight = "sys/internal/ui/mounts/"

// advise tells what to do about a refusal for want of permission, if nothing better is known.
func (a *app) advise(ctx context.Context, f *failure) {
	var refused *api.ResponseError
	if f.hint != "" || !errors.As(f.err, &refused) || refused.StatusCode != http.StatusForbidden {
		return
	}
	path, wants := denied(refused)
	if !strings.Contains(refused.Error(), "permission denied") && !strings.HasPrefix(path, preflight) {
		return
	}
	switch a.speaks {
	case withoutToken:
		f.hint = "no token is set: quorate login keeps one, or set BAO_TOKEN"
	case withToken:
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // it is only advice
		defer cancel()
		f.hint = a.whyDenied(ctx, path, wants)
	}
}

// denied is the path that was refused, and the capabilities of which its request needs one.
func denied(refused *api.ResponseError) (path string, wants []string) {
	u, err := url.Parse(refused.URL)
	if err != nil {
		return "", nil
	}
	_, path, _ = strings.Cut(u.Path, "/v1/")
	switch refused.HTTPMethod {
	case http.MethodGet:
		if wants = []string{"read"}; u.Query().Get("list") == "true" {
			wants = []string{"list"}
		}
	case http.MethodPut, http.MethodPost:
		wants = []string{"create", "update"}
	default:
		wants = []string{strings.ToLower(refused.HTTPMethod)}
	}
	return path, wants
}

// whyDenied asks the server, with three requests at most, what the token may do. A token that is good for a limited number
// of uses loses one of them.
func (a *app) whyDenied(ctx context.Context, path string, wants []string) string {
	const unknown = "the token may be expired or revoked, or lack a policy for this: quorate token lookup shows it, quorate login keeps another one"
	client, err := a.advisor()
	if err != nil || path == "auth/token/lookup-self" {
		return unknown
	}
	self, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if answered(err) == http.StatusForbidden {
		return "the server doesn't know the token: it is mistyped, expired or revoked, or has not even the policy default; quorate login keeps another one"
	}
	names, err := self.TokenPolicies()
	if err != nil || len(names) == 0 {
		return unknown
	}
	where, isPreflight := strings.CutPrefix(path, preflight)
	hint := visible(fmt.Sprintf("permission denied on %s: your policies are %s", where, strings.Join(names, ", ")), "")
	if isPreflight {
		return hint + "; none grants anything on or below its mount, if there is one"
	}
	if fmt.Sprint(self.Data["num_uses"]) != "0" {
		return hint
	}
	has, err := client.Sys().CapabilitiesSelfWithContext(ctx, path)
	if err != nil {
		return hint
	}
	granted := slices.DeleteFunc(slices.Clone(wants), func(w string) bool { return !slices.Contains(has, w) })
	if len(granted) == 0 {
		if rule := deniedBy(ctx, client, path, wants[0]); rule != "" {
			return hint + "; " + rule
		}
		return hint + "; none grants " + strings.Join(wants, " or ")
	}
	return hint + "; they grant " + strings.Join(granted, " and ") + ", but this may need sudo as well, other parameters or -wrap-ttl: quorate policy test says more"
}

// deniedBy names the rule that denies a path on purpose, "" if none does: to grant more elsewhere would be in vain.
func deniedBy(ctx context.Context, client *api.Client, path, want string) string {
	reply, err := client.Logical().WriteWithContext(ctx, policyTestPath, map[string]any{"operation": want, "path": path})
	var v verdict
	if err != nil || reply == nil || json.Unmarshal(jsonBody(reply.Data), &v) != nil || v.Reason != "denied" {
		return ""
	}
	return visible(fmt.Sprintf("the rule %q of %s denies it", v.Rule, strings.Join(v.Policies, ", ")), "")
}
