package policy

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// others is the name in Params that stands for all names without an entry.
const others = "*"

// add unites values with those that name already has. No values mean any value, and win.
func (p Params) add(name string, values []string) {
	name = fold(name)
	have, ok := p[name]
	if len(values) == 0 || ok && len(have) == 0 {
		p[name] = nil
		return
	}
	p[name] = append(have, values...)
}

// fold gives the spellings of a name that some reader of a body may take for the same one form: the letters whose other
// case is an ASCII letter, too.
func fold(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// parameters looks at the fields of a request, where the rule restricts them: at those it must have also in a read, else
// only in what writes.
func (r *rule) parameters(q *Ask) Reason {
	writes := q.Want&(Create|Update|Patch) != 0
	if !writes && q.Want&Read == 0 || len(r.required)+len(r.allowed)+len(r.denied) == 0 {
		return Granted
	}
	var data map[string]any
	if q.Data != nil {
		data = q.Data()
	}
	for _, name := range r.required {
		if data[name] == nil && data[strings.ToLower(name)] == nil {
			return ParameterMissing
		}
	}
	if writes && len(data) > 0 {
		return r.values(data)
	}
	return Granted
}

// values looks at what is denied, then at what is allowed.
func (r *rule) values(data map[string]any) Reason {
	if _, all := r.denied[others]; all {
		return ParameterDenied
	}
	for name, v := range data {
		if values, ok := r.denied[fold(name)]; ok && isDenied(values, v) {
			return ParameterDenied
		}
	}
	if len(r.allowed) == 0 {
		return Granted
	}
	for name, v := range data {
		values, ok := r.allowed[fold(name)]
		if !ok {
			values, ok = r.allowed[others]
		}
		if !ok || !isAllowed(values, v) {
			return ParameterNotAllowed
		}
	}
	return Granted
}

// isDenied reports whether v, or something in it where it is a list, is among values. Engines also take a string with commas
// for a list.
func isDenied(values []string, v any) bool {
	if len(values) == 0 || contains(values, text(v)) {
		return true
	}
	return slices.ContainsFunc(items(v), func(item string) bool { return contains(values, item) })
}

// isAllowed reports whether v is among values, letter by letter; or, where it is a list or may be taken for one,
// everything in it.
func isAllowed(values []string, v any) bool {
	if len(values) == 0 || slices.Contains(values, "*") || slices.Contains(values, text(v)) {
		return true
	}
	if _, object := v.(map[string]any); object {
		return false
	}
	return !slices.ContainsFunc(items(v), func(item string) bool { return !contains(values, item) })
}

// contains compares with values, which may have a * at either end.
func contains(values []string, s string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		inner, front := strings.CutPrefix(value, "*")
		inner, back := strings.CutSuffix(inner, "*")
		switch {
		case front && back:
			return strings.Contains(s, inner)
		case front:
			return strings.HasSuffix(s, inner)
		case back:
			return strings.HasPrefix(s, inner)
		}
		return s == value
	})
}

// items are the elements of a list, at any depth, and of a string with commas.
func items(v any) []string {
	switch v := v.(type) {
	case []any:
		var all []string
		for _, element := range v {
			all = append(all, items(element)...)
		}
		return all
	case string:
		parts := strings.Split(v, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return parts
	}
	return []string{text(v)}
}

// text is what a value of a request is compared as: engines take the string "5" for the number 5.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
		if f, err := v.Float64(); err == nil {
			return number(f)
		}
		return string(v)
	case float64:
		return number(v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
