package policy

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"
)

// node finds the rules with wildcards that match a path. A pattern is cut at its wildcards: what stands before the first
// is a head of the root node, what stands between that + and the next wildcard a head of the node below it, and so on.
// A pattern leads to one place, and there a path is matched up to one point: so a search sees no place twice, whatever
// the patterns are.
type node struct{ heads []head } // sorted by text

type head struct {
	text string
	up   int   // index of the longest other head that is a prefix of this one; -1 if there is none
	end  *rule // of the pattern that ends here
	glob *rule // of the pattern that goes on with a final *
	plus *node // of those that go on with a +
}

// insert adds a pattern, or what is left of one. Heads aren't sorted yet.
func (n *node) insert(pattern string, r *rule, index map[*node]map[string]int) {
	text, rest := pattern, ""
	if i := strings.IndexAny(pattern, "+*"); i >= 0 {
		text, rest = pattern[:i], pattern[i:]
	}
	if index[n] == nil {
		index[n] = map[string]int{}
	}
	i, ok := index[n][text]
	if !ok {
		i = len(n.heads)
		index[n][text] = i
		n.heads = append(n.heads, head{text: text})
	}
	h := &n.heads[i]
	switch {
	case rest == "":
		h.end = r
	case rest == "*":
		h.glob = r
	default:
		if h.plus == nil {
			h.plus = &node{}
		}
		h.plus.insert(rest[1:], r, index)
	}
}

// seal sorts the heads and links each to its longest prefix.
func (n *node) seal() {
	slices.SortFunc(n.heads, func(a, b head) int { return strings.Compare(a.text, b.text) })
	for i := range n.heads {
		h := &n.heads[i]
		h.up = i - 1
		for h.up >= 0 && !strings.HasPrefix(h.text, n.heads[h.up].text) {
			h.up = n.heads[h.up].up
		}
		if h.plus != nil {
			h.plus.seal()
		}
	}
}

// best returns the best of found and the rules below n that match path.
func (n *node) best(path []byte, found *rule) *rule {
	low, high := 0, len(n.heads)
	for low < high {
		if mid := (low + high) / 2; n.heads[mid].text <= string(path) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	// All heads that are prefixes of path are above the last one that isn't greater.
	for i := low - 1; i >= 0; i = n.heads[i].up {
		h := &n.heads[i]
		if len(path) < len(h.text) || string(path[:len(h.text)]) != h.text {
			continue
		}
		rest := path[len(h.text):]
		found = better(found, h.glob)
		if len(rest) == 0 {
			found = better(found, h.end)
		}
		if h.plus != nil {
			found = h.plus.best(afterPart(rest), found)
		}
	}
	return found
}

func afterPart(path []byte) []byte {
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		return path[i:]
	}
	return path[len(path):]
}

func better(a, b *rule) *rule {
	if a == nil || b != nil && b.rank > a.rank {
		return b
	}
	return a
}

// compare orders rules for the paths that both of them match: the one that applies is greater.
func compare(a, b *rule) int {
	return cmp.Or(slices.Compare(a.order[:], b.order[:]), strings.Compare(a.path, b.path))
}

// order is what patterns are compared by: the later first wildcard, or none; no final *; fewer +; the longer.
func order(pattern string) [4]int {
	first, open := strings.IndexAny(pattern, "+*"), 1
	if first < 0 {
		first = math.MaxInt
	}
	if strings.HasSuffix(pattern, "*") {
		open = 0
	}
	return [...]int{first, open, -strings.Count(pattern, "+"), len(pattern)}
}

// reaches reports whether a pattern matches prefix, which ends with a slash, or anything below it.
func reaches(pattern, prefix string) bool {
	pattern, prefix = walk(pattern, prefix)
	return pattern == "*" || prefix == "" ||
		pattern == "" && prefix == "/" // how a list asks for the prefix itself
}

// covers reports whether a pattern matches prefix and everything below it.
func covers(pattern, prefix string) bool {
	pattern, _ = walk(pattern, prefix)
	return pattern == "*"
}

// walk takes from both what matches. A final * stays.
func walk(pattern, path string) (patternLeft, pathLeft string) {
	for pattern != "" && path != "" {
		switch {
		case pattern[0] == '+':
			_, after, _ := strings.Cut(path, "/")
			pattern, path = pattern[1:], path[len(path)-len(after)-1:]
		case pattern[0] == path[0] && pattern != "*":
			pattern, path = pattern[1:], path[1:]
		default:
			return pattern, path
		}
	}
	return pattern, path
}
