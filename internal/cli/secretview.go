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
func (c *session) printSecret(s *api.Secret) error {
	format, err := c.out.format.resolve()
	if err != nil {
		return err
	}
	if c.out.field != "" {
		return c.printField(format, s, c.out.field)
	}
	if format != "table" {
		return c.encode(format, s)
	}
	c.warn(s.Warnings)
	if t := secretSheet(s); len(t) > 0 {
		return c.write(append(header(), t...).text())
	}
	return nil
}

// printData shows an answer as v, or as a table; a wrapped one is shown as printSecret does.
func (c *session) printData(s *api.Secret, v any, table func() string) error {
	if s.WrapInfo != nil {
		return c.printSecret(s)
	}
	c.warn(s.Warnings)
	return c.print(v, table)
}

func secretSheet(s *api.Secret) (t sheet) {
	switch {
	case s.LeaseID != "":
		t.add("lease_id", s.LeaseID)
		t.add("lease_duration", seconds(s.LeaseDuration))
		t.add("lease_renewable", s.Renewable)
	case s.LeaseDuration > 0:
		t.add("refresh_interval", seconds(s.LeaseDuration))
	}
	if wrap := s.WrapInfo; wrap != nil {
		t.add("wrapping_token:", wrap.Token)
		t.add("wrapping_accessor:", wrap.Accessor)
		t.add("wrapping_token_ttl:", seconds(wrap.TTL))
		t.add("wrapping_token_creation_time:", wrap.CreationTime)
		t.add("wrapping_token_creation_path:", wrap.CreationPath)
		t.known("wrapped_accessor:", wrap.WrappedAccessor)
	}
	if auth := s.Auth; auth != nil {
		life := seconds(auth.LeaseDuration)
		if auth.LeaseDuration == 0 {
			life = "∞"
		}
		t.add("token", auth.ClientToken)
		t.add("token_accessor", auth.Accessor)
		t.add("token_duration", life)
		t.add("token_renewable", auth.Renewable)
		t.add("token_policies", quoted(auth.TokenPolicies))
		t.add("identity_policies", quoted(auth.IdentityPolicies))
		t.add("policies", quoted(auth.Policies))
		for _, k := range slices.Sorted(maps.Keys(auth.Metadata)) {
			t.add("token_meta_"+k, auth.Metadata[k])
		}
	}
	return append(t, dataSheet(s.Data)...)
}

func dataSheet(data map[string]any) (t sheet) {
	for _, k := range slices.Sorted(maps.Keys(data)) {
		t.add(k, cell(k, data[k]))
	}
	return t
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
	switch v.(type) {
	case nil:
		return a.printValue("")
	case string, json.Number, bool, int:
		return a.printValue(fmt.Sprint(v))
	}
	return a.printValue(string(jsonBody(v)))
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
	for _, r := range secretSheet(s) {
		if strings.TrimSuffix(r[0], ":") == name {
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
