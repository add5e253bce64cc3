package approle

import "github.com/quorate/quorate/internal/engine"

// roleField is one field of a role that has a path of its own.
type roleField struct {
	path  string
	name  string               // in replies
	older string               // in requests, beside name
	kind  string               // for Route.Fields
	take  func(to, from *role) // this field only; nil: it can only be read
}

func roleFields() []roleField {
	bound := func(to, from *role) { to.BoundCIDRs = from.BoundCIDRs }
	return []roleField{
		{"policies", "token_policies", "policies", "list", func(to, from *role) { to.Token.Policies = from.Token.Policies }},
		{"bind-secret-id", "bind_secret_id", "", "bool", func(to, from *role) { to.BindSecretID = from.BindSecretID }},
		{"bound-cidr-list", "bound_cidr_list", "", "list", bound},
		{"secret-id-bound-cidrs", "secret_id_bound_cidrs", "", "list", bound},
		{"secret-id-num-uses", "secret_id_num_uses", "", "int", func(to, from *role) { to.NumUses = from.NumUses }},
		{"secret-id-ttl", "secret_id_ttl", "", "duration", func(to, from *role) { to.TTL = from.TTL }},
		{"local-secret-ids", "local_secret_ids", "", "bool", nil},
		{"period", "token_period", "period", "duration", func(to, from *role) { to.Token.Period = from.Token.Period }},
		{"token-bound-cidrs", "token_bound_cidrs", "", "list", func(to, from *role) { to.Token.BoundCIDRs = from.Token.BoundCIDRs }},
		{"token-num-uses", "token_num_uses", "", "int", func(to, from *role) { to.Token.NumUses = from.Token.NumUses }},
		{"token-ttl", "token_ttl", "", "duration", func(to, from *role) { to.Token.TTL = from.Token.TTL }},
		{"token-max-ttl", "token_max_ttl", "", "duration", func(to, from *role) { to.Token.MaxTTL = from.Token.MaxTTL }},
	}
}

func fieldRoutes() []engine.Route {
	var routes []engine.Route
	for _, f := range roleFields() {
		r := engine.Route{
			Path: "role/{role}/" + f.path, Ops: map[engine.Operation]engine.Handler{engine.Read: engine.InView(f.read)},
			Summary: "one field of a role: read, write or reset it", Clear: f.name + " " + f.older,
		}
		if f.take != nil {
			r.Ops[engine.Update], r.Ops[engine.Delete] = engine.InUpdate(f.write), engine.InUpdate(f.reset)
			r.Fields = f.name + " " + f.kind
			if f.older != "" {
				r.Fields += ", " + f.older + " " + f.kind
			}
		}
		routes = append(routes, r)
	}
	return routes
}

func (f roleField) read(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	_, ro, err := needed(tx, r, errAbsent)
	if err != nil {
		return nil, err
	}
	data := ro.data()
	data["bound_cidr_list"] = data["secret_id_bound_cidrs"]
	return &engine.Response{Data: map[string]any{f.name: data[f.name]}}, nil
}

// write takes its own field only, whatever else a request holds: policies may allow one path and not another.
func (f roleField) write(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, ro, err := needed(tx, r, errNoRole)
	if err != nil {
		return nil, err
	}
	if !r.Fields.Has(f.name) && (f.older == "" || !r.Fields.Has(f.older)) && r.Fields.Err() == nil {
		return nil, errNotGiven
	}
	changed := *ro
	changed.set(r.Fields)
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	f.take(ro, &changed)
	return &engine.Response{}, put(tx, name, ro)
}

func (f roleField) reset(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	name, ro, err := needed(tx, r, errNoRole)
	if err != nil {
		return nil, err
	}
	f.take(ro, fresh())
	return &engine.Response{}, put(tx, name, ro)
}
