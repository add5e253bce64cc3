package httpapi

import (
	"encoding/json"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/node"
)

// injected is a reply whose data stands at the top level as well, where the oldest clients look for it (wire reference
// 1.8). Where data has a name of the envelope's, the envelope keeps it.
func injected(data any) *reply {
	return &reply{data: data, inject: func(e envelope) any {
		top := map[string]json.RawMessage{}
		for _, part := range []any{data, e} {
			text, err := json.Marshal(part)
			if err == nil {
				err = json.Unmarshal(text, &top)
			}
			if err != nil {
				return e // encoding it says what is wrong
			}
		}
		return top
	}}
}

// listed is the reply of a list; an empty one is 404.
func listed(keys []string) (*reply, error) {
	if len(keys) == 0 {
		return nil, errNothing
	}
	return &reply{data: map[string]any{"keys": keys}}, nil
}

// page answers with the part of a list that the query asks for.
func (x *exchange) page(a node.Access, list func(c *node.Call, after string, limit int) ([]string, error)) (*reply, error) {
	var keys []string
	err := x.Node.View(x.r.Context(), a, func(c *node.Call) error {
		after, limit, err := engine.Paging(x.r.URL.Query())
		if err == nil {
			keys, err = list(c, after, limit)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return listed(keys)
}

// ofToken says of routes that a token decides about them, and how large their bodies may be.
func ofToken(list []route) []route {
	for i := range list {
		list[i].authority, list[i].limit = byToken, max(list[i].limit, tokenBody)
	}
	return list
}
