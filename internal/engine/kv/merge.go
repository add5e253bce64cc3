package kv

import (
	"bytes"
	"encoding/json"
)

// object is a JSON object with its values as they were written. The texts are copies.
type object map[string]json.RawMessage

func (o object) wipe() {
	for _, value := range o {
		clear(value)
	}
}

func isObject(text []byte) bool { return len(text) > 0 && text[0] == '{' }

// merge applies a patch, which is an object, to the text of a value as RFC 7396 says. The result is a new slice.
func merge(target, patch []byte) ([]byte, error) {
	merged, changes := object{}, object{}
	defer func() { merged.wipe(); changes.wipe() }()
	if isObject(target) {
		if err := json.Unmarshal(target, &merged); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(patch, &changes); err != nil {
		return nil, err
	}
	for name, value := range changes {
		old := merged[name]
		switch {
		case string(value) == "null":
			delete(merged, name)
		case isObject(value):
			below, err := merge(old, value)
			if err != nil {
				return nil, err
			}
			merged[name] = below
		default:
			merged[name] = value
		}
		clear(old)
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // it would make the text longer than the client knows
	err := enc.Encode(merged)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// subkeys returns the names in an object, down to a depth unless that is 0, with nil in place of every value.
func subkeys(text []byte, depth int) (map[string]any, error) {
	var values object
	if err := json.Unmarshal(text, &values); err != nil {
		return nil, err
	}
	defer values.wipe()
	names := make(map[string]any, len(values))
	for name, value := range values {
		names[name] = nil
		if !isObject(value) || depth == 1 || depth < 0 {
			continue
		}
		below, err := subkeys(value, max(depth-1, 0))
		if err != nil {
			return nil, err
		}
		if len(below) > 0 { // an empty object is a value
			names[name] = below
		}
	}
	return names, nil
}
