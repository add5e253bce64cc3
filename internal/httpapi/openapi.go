package httpapi

import (
	"net/http"
	"strconv"
	"strings"
)

// object is a JSON object of the document.
type object = map[string]any

// openAPI describes the table of routes, and nothing that isn't in it.
func openAPI(x *exchange) (*reply, error) {
	mounted, err := x.mountedRoutes()
	if err != nil {
		return nil, err
	}
	paths := object{}
	for _, r := range append(allRoutes(), mounted...) {
		item := r.item()
		if params := pathParameters(r.path); len(params) > 0 {
			item["parameters"] = params
		}
		paths["/"+strings.ReplaceAll(r.path, "...}", "}")] = item
	}
	return &reply{raw: object{
		"openapi": "3.0.2",
		"info": object{
			"title": "Quorate HTTP API", "description": "Generated from the table of routes.", "version": x.Version,
			"license": object{"name": "Apache-2.0"},
		},
		"servers": []object{{"url": "/v1"}},
		"paths":   paths,
		"components": object{"securitySchemes": object{
			"token": object{"type": "apiKey", "in": "header", "name": "X-Vault-Token"},
		}},
	}}, nil
}

// pathParameters describes the parts of a path that vary.
func pathParameters(path string) (params []object) {
	for part := range strings.SplitSeq(path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok {
			continue
		}
		schema := schemaOf("")
		if part == anyNonce {
			schema["format"] = "uuid"
		}
		name = strings.TrimSuffix(strings.TrimSuffix(name, "}"), "...")
		params = append(params, object{"name": name, "in": "path", "required": true, "schema": schema})
	}
	return params
}

// item describes one path.
func (r *route) item() object {
	item := object{}
	for op, method := range map[operation]string{opRead: "get", opUpdate: "post", opDelete: "delete", opPatch: "patch"} {
		if r.ops[op] != nil {
			item[method] = r.operationObject(op)
		}
	}
	// A list has no method of its own in OpenAPI.
	if r.ops[opList] != nil && r.ops[opRead] == nil {
		list := r.operationObject(opList)
		list["parameters"] = append([]object{{
			"name": "list", "in": "query", "required": true, "schema": object{"type": "string", "enum": []string{"true"}},
		}}, list["parameters"].([]object)...)
		item["get"] = list
	}
	return item
}

func (r *route) operationObject(op operation) object {
	o := object{
		"operationId": op.String() + "-" + strings.NewReplacer("/", "-", "{", "", "...}", "", "}", "").Replace(r.path),
		"summary":     r.summary,
		"tags":        []string{r.path[:strings.IndexByte(r.path, '/')]},
		"responses":   r.responses(op),
		"security":    r.security(op),
	}
	if op == opRead || op == opList {
		params := []object{}
		for _, f := range parseFields(r.query) {
			params = append(params, object{"name": f.name, "in": "query", "schema": f.schema})
		}
		o["parameters"] = params
	}
	if properties := r.bodyOf(op); len(properties) > 0 {
		o["requestBody"] = object{"content": object{"application/json": object{
			"schema": object{"type": "object", "properties": properties},
		}}}
	}
	return o
}

// bodyOf describes what a body may hold. A cancel takes a credential where a start does. Of a field that the table has
// twice, for kinds of ceremony that read it differently, the first one is the wider.
func (r *route) bodyOf(op operation) object {
	fields := r.fields
	switch {
	case op == opDelete && r.authority == byCeremony:
		fields = credentialFields + ", " + r.dropFields
	case op != opUpdate && op != opPatch:
		return nil
	}
	properties := object{}
	for _, f := range parseFields(fields) {
		if properties[f.name] == nil {
			properties[f.name] = f.schema
		}
	}
	return properties
}

func (r *route) responses(op operation) object {
	ok := object{"description": "done"}
	switch {
	case r.media != "":
		ok["content"] = object{r.media: object{}}
	case op != opDelete:
		ok["content"] = object{"application/json": object{}}
	}
	responses := object{"200": ok}
	if op == opDelete || op == opUpdate {
		responses["204"] = object{"description": "done, and there is nothing to say"}
	}
	for _, code := range []int{400, 403, 404, 429, 503} {
		switch {
		case code == http.StatusForbidden && r.authority == byNone, code == http.StatusServiceUnavailable && r.sealed:
			continue
		}
		responses[strconv.Itoa(code)] = object{"description": strings.ToLower(http.StatusText(code))}
	}
	return responses
}

// security names the token where it decides, with nothing as an alternative where it is one way of several.
func (r *route) security(op operation) []object {
	token := object{"token": []string{}}
	switch {
	case r.authority == byToken:
		return []object{token}
	case r.authority == byCeremony && (op == opUpdate || op == opDelete):
		return []object{{}, token}
	}
	return []object{}
}

// field is one named value of a body or a query.
type field struct {
	name   string
	schema object
}

// parseFields reads the table's "name type, ...". Every schema is a new one.
func parseFields(list string) []field {
	var fields []field
	for text := range strings.SplitSeq(list, ", ") {
		name, kind, _ := strings.Cut(text, " ")
		if name != "" {
			fields = append(fields, field{name, schemaOf(kind)})
		}
	}
	return fields
}

// namesOf is the set of names in the table's "name type, ..."; nil for "*", which is any.
func namesOf(list string) map[string]bool {
	names := make(map[string]bool)
	for _, f := range parseFields(list) {
		if f.name == "*" {
			return nil
		}
		names[f.name] = true
	}
	return names
}

// schemaOf is the schema of a type as the table names it; nil if there is no such type.
func schemaOf(kind string) object {
	switch kind {
	case "":
		return object{"type": "string"}
	case "int":
		return object{"type": "integer"}
	case "bool":
		return object{"type": "boolean"}
	case "list":
		return object{"type": "array", "items": object{"type": "string"}}
	case "lines":
		return object{"oneOf": []object{schemaOf(""), schemaOf("list")}}
	case "map":
		return object{"type": "object", "additionalProperties": object{"type": "string"}}
	case "time":
		return object{"type": "string", "format": "date-time"}
	case "duration":
		return object{"type": "string", "description": `seconds, or text such as "90s", "30m", "1h" or "7d"`}
	}
	return nil
}
