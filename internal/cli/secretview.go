package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openbao/openbao/api/v2"
)

// printSecret shows an enveloped answer, or one field of it.
func (a *app) printSecret(o *output, s *api.Secret) error {
	format, err := o.format.resolve()
	if err != nil {
		return err
	}
	if o.field != "" {
		return a.printField(format, s, o.field)
	}
	if format != "table" {
		return a.encode(format, s)
	}
	for _, w := range s.Warnings {
		a.say("warning: %s", printable(w))
	}
	if rows := secretRows(s); len(rows) > 0 {
		return a.write(table(header(rows)))
	}
	return nil
}

func secretRows(s *api.Secret) []row {
	rows := authRows(s.Auth)
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		rows = append(rows, row{k, cell(k, s.Data[k])})
	}
	return rows
}

func authRows(auth *api.SecretAuth) []row {
	if auth == nil {
		return nil
	}
	life := seconds(auth.LeaseDuration)
	if auth.LeaseDuration == 0 {
		life = "∞"
	}
	rows := []row{
		{"token", auth.ClientToken},
		{"token_accessor", auth.Accessor},
		{"token_duration", life},
		{"token_renewable", strconv.FormatBool(auth.Renewable)},
		{"token_policies", quoted(auth.TokenPolicies)},
		{"identity_policies", quoted(auth.IdentityPolicies)},
		{"policies", quoted(auth.Policies)},
	}
	for _, k := range slices.Sorted(maps.Keys(auth.Metadata)) {
		rows = append(rows, row{"token_meta_" + k, auth.Metadata[k]})
	}
	return rows
}

// printField prints one value: bare in table format, encoded otherwise.
func (a *app) printField(format string, s *api.Secret, name string) error {
	v, ok := field(s, name)
	if !ok {
		return localf("the answer has no such field")
	}
	if format != "table" {
		return a.encode(format, v)
	}
	switch v := v.(type) {
	case nil:
		return a.printValue("")
	case string:
		return a.printValue(v)
	case json.Number, bool, int:
		return a.printValue(fmt.Sprint(v))
	default:
		return a.printValue(string(jsonBody(v)))
	}
}

// field finds a value by the name it has in the table.
func field(s *api.Secret, name string) (any, bool) {
	if v, ok := s.Data[name]; ok {
		return v, true
	}
	switch {
	case name == "data":
		return s.Data, s.Data != nil
	case name == "token_policies" && s.Auth != nil:
		return s.Auth.TokenPolicies, true
	case name == "policies" && s.Auth != nil:
		return s.Auth.Policies, true
	case name == "token_duration" && s.Auth != nil:
		return s.Auth.LeaseDuration, true
	}
	for _, r := range secretRows(s) {
		if r[0] == name {
			return r[1], true
		}
	}
	return nil, false
}

// cell is a value of data as the table shows it.
func cell(key string, v any) string {
	if looksLikeDuration(key) {
		if n, ok := v.(json.Number); ok {
			if i, err := n.Int64(); err == nil {
				return seconds(int(i))
			}
		}
	}
	if s, ok := v.(string); ok && s == "" {
		return "n/a"
	}
	return fmt.Sprint(v)
}

func looksLikeDuration(key string) bool {
	for _, word := range []string{"ttl", "period", "duration", "lease_max"} {
		if key == word || strings.HasSuffix(key, "_"+word) {
			return true
		}
	}
	return key == "ttl_max"
}

// seconds formats a number of seconds the way people write durations: 768h, 1h30m, 45s.
func seconds(n int) string {
	if n == 0 {
		return "0s"
	}
	text := (time.Duration(n) * time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func quoted(list []string) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(parts, " ") + "]"
}
