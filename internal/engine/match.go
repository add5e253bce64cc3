package engine

import (
	"fmt"
	"strings"
)

// Table finds the route of a path below a mount. It is safe for concurrent use.
//
// Where several routes would match, the first part in which they differ decides: a fixed part wins over {x}, and {x}
// over {x...}. A path that ends in a slash is that of a folder: the server adds the slash to the path of every list.
// {x...} matches it with what stands before, and so does a route whose last part is fixed, but {x} doesn't.
type Table struct{ root branch }

type branch struct {
	fixed   map[string]*branch
	varying *branch // {x}
	varies  bool    // this branch was reached by {x}
	route   *Route  // ends here
	rest    *Route  // ends in {x...} below here
}

// NewTable makes the table of an engine's routes. It refuses two routes that match the same paths, and one that can't
// be right.
func NewTable(routes []Route) (*Table, error) {
	t := new(Table)
	for i := range routes {
		if err := t.add(&routes[i]); err != nil {
			return nil, fmt.Errorf("route %q: %w", routes[i].Path, err)
		}
	}
	return t, nil
}

func (t *Table) add(r *Route) error {
	if len(r.Ops) == 0 {
		return fmt.Errorf("it has no operation")
	}
	for op, handle := range r.Ops {
		if op < Read || op > Patch || handle == nil {
			return fmt.Errorf("operation %d is none, or has no handler", int(op))
		}
	}
	end, err := t.root.grow(r.Path)
	if err != nil {
		return err
	}
	if *end != nil {
		return fmt.Errorf("it matches the same paths as %q", (*end).Path)
	}
	*end = r
	return nil
}

// grow returns where the route of a pattern belongs.
func (b *branch) grow(pattern string) (**Route, error) {
	var names []string
	for more := pattern != ""; more; {
		var part string
		part, pattern, more = strings.Cut(pattern, "/")
		name, rest, err := variable(part)
		if err != nil {
			return nil, err
		}
		if name == "" {
			b = b.below(part)
			continue
		}
		for _, n := range names {
			if n == name {
				return nil, fmt.Errorf("it has two parts {%s}", name)
			}
		}
		names = append(names, name)
		if rest && more {
			return nil, fmt.Errorf("{%s...} isn't the last part", name)
		}
		if rest {
			return &b.rest, nil
		}
		if b.varying == nil {
			b.varying = &branch{varies: true}
		}
		b = b.varying
	}
	return &b.route, nil
}

func (b *branch) below(part string) *branch {
	if b.fixed == nil {
		b.fixed = make(map[string]*branch)
	}
	if b.fixed[part] == nil {
		b.fixed[part] = new(branch)
	}
	return b.fixed[part]
}

// variable returns the name in {name} and {name...}; it is empty for a fixed part.
func variable(part string) (name string, rest bool, err error) {
	name = part
	braced := len(part) > 2 && part[0] == '{' && part[len(part)-1] == '}'
	if braced {
		name, rest = strings.CutSuffix(part[1:len(part)-1], "...")
	}
	if name == "" || strings.ContainsAny(name, "{}") {
		return "", false, fmt.Errorf("a part is empty, or has a brace that isn't its first or last character")
	}
	if !braced {
		return "", false, nil
	}
	return name, rest, nil
}

// Match returns the route of a path below the mount, and what stands in its varying parts; nil if there is none.
func (t *Table) Match(path string) (r *Route, params map[string]string) {
	if r = t.root.route; path != "" || r == nil {
		r = t.root.find(path, true)
	}
	if r == nil {
		return nil, nil
	}
	for pattern, more := r.Path, true; more; {
		var part, value, rest string
		part, pattern, more = strings.Cut(pattern, "/")
		value, rest, _ = strings.Cut(path, "/")
		if strings.HasPrefix(part, "{") {
			if params == nil {
				params = make(map[string]string, 1+strings.Count(pattern, "{"))
			}
			name := part[1 : len(part)-1]
			if all, ok := strings.CutSuffix(name, "..."); ok {
				name, value = all, path
			}
			params[name] = value
		}
		path = rest
	}
	return r, params
}

// find matches what is left of a path; more is false at its end, which isn't the same as an empty last part.
func (b *branch) find(path string, more bool) *Route {
	if !more {
		return b.route
	}
	part, rest, again := strings.Cut(path, "/")
	if next := b.fixed[part]; next != nil {
		if r := next.find(rest, again); r != nil {
			return r
		}
	}
	if b.varying != nil && part != "" {
		if r := b.varying.find(rest, again); r != nil {
			return r
		}
	}
	if b.rest == nil && path == "" && !b.varies {
		return b.route
	}
	return b.rest
}
