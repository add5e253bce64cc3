package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"

	"github.com/quorate/quorate/internal/fault"
)

// Limits of a text.
const (
	MaxText  = 256 << 10 // bytes
	maxDepth = 16        // brackets inside each other
	maxPath  = 1024      // bytes
)

var (
	errBuiltIn = fault.New(fault.Invalid, "this policy is built in and has no text: choose another name")
	errLong    = fault.Newf(fault.Invalid, "a policy has at most %d KiB: split it", MaxText>>10)
	errUTF8    = fault.New(fault.Invalid, "a policy must be text in UTF-8: save it so")
)

// Parse reads a policy in HCL or JSON. Errors are faults of kind Invalid that name the line, and never repeat the text.
func Parse(name, text string) (*Policy, error) {
	if name == Root || name == Wrapping {
		return nil, errBuiltIn
	}
	rules, _, err := read(text)
	if err != nil {
		return nil, err
	}
	return &Policy{Name: name, Rules: rules}, nil
}

// Format returns the text in its canonical layout, with its comments.
func Format(text string) (string, error) {
	_, hcl2, err := read(text)
	if err != nil {
		return "", err
	}
	text = strings.TrimSpace(text)
	if isJSON(text) {
		var out bytes.Buffer
		if err := json.Indent(&out, []byte(text), "", "  "); err != nil {
			return "", errAt(1, "this JSON has a mistake in it: correct it")
		}
		return out.String() + "\n", nil
	}
	hcl2 = bytes.TrimSpace(hcl2)
	if len(hcl2) == 0 {
		return "", nil
	}
	return string(hclwrite.Format(append(hcl2, '\n'))), nil
}

func isJSON(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

// read returns what a text says, and the text itself, in the form that HCL 2 takes if it was in that of older HCL.
func read(text string) ([]Rule, []byte, error) {
	switch {
	case len(text) > MaxText:
		return nil, nil, errLong
	case !utf8.ValidString(text):
		return nil, nil, errUTF8
	}
	s := source{text: []byte(text)}
	if isJSON(text) {
		if line := DeepJSON(s.text, maxDepth); line > 0 {
			return nil, nil, errAt(line, "brackets are nested too deeply: use fewer")
		}
		rules, err := s.rules(hcljson.Parse(s.text, ""))
		return rules, s.text, err
	}
	tokens, lexed := hclsyntax.LexConfig(s.text, "", hcl.InitialPos)
	if lexed.HasErrors() {
		return nil, nil, s.mistake(lexed, "")
	}
	if err := guardHCL(tokens); err != nil {
		return nil, nil, err
	}
	rules, err := s.hcl2()
	if err != nil {
		s = layOut(s.text, tokens)
		rules, err = s.hcl2()
	}
	return rules, s.text, err
}

// source is a text to parse, with the author's number of each line of it; lines is nil in a text as its author wrote it.
type source struct {
	text  []byte
	lines []int
}

func (s source) hcl2() ([]Rule, error) {
	return s.rules(hclsyntax.ParseConfig(s.text, "", hcl.InitialPos))
}

// rules reads what the parser made of the text.
func (s source) rules(f *hcl.File, diags hcl.Diagnostics) ([]Rule, error) {
	if diags.HasErrors() {
		return nil, s.mistake(diags, "")
	}
	content, diags := f.Body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "name"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "path", LabelNames: []string{"path"}}},
	})
	if diags.HasErrors() {
		return nil, s.mistake(diags, "name and path")
	}
	var rules []Rule
	for _, block := range content.Blocks {
		r, err := s.rule(block)
		if err != nil {
			return nil, err
		}
		rules = append(rules, *r)
	}
	return rules, nil
}

// guardHCL lets only through what blocks of plain values are made of, because the parser recurses without a limit and
// can evaluate loops.
func guardHCL(tokens hclsyntax.Tokens) error {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack:
			if depth++; depth > maxDepth {
				return errAt(t.Range.Start.Line, "brackets are nested too deeply: use fewer")
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack:
			depth--
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenEqual, hclsyntax.TokenComma,
			hclsyntax.TokenOQuote, hclsyntax.TokenQuotedLit, hclsyntax.TokenCQuote,
			hclsyntax.TokenComment, hclsyntax.TokenNewline, hclsyntax.TokenEOF:
		default:
			return errAt(t.Range.Start.Line, "a plain value is needed: a string in double quotes, a number, true, false or a list of them")
		}
	}
	return nil
}

// DeepJSON is the line in which JSON is nested deeper than most levels, 0 if it nowhere is. Whether it is JSON at all is the
// parser's to say, which recurses without a limit.
func DeepJSON(src []byte, most int) (line int) {
	depth, line, quoted := 0, 1, false
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\n':
			line++
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > most {
				return line
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return 0
}

func errAt(line int, sentence string) error {
	return fault.Newf(fault.Invalid, "policy text, line %d: %s", line, sentence)
}

func (s source) errAt(line int, sentence string) error {
	if len(s.lines) > 0 {
		line = s.lines[min(line, len(s.lines))-1]
	}
	return errAt(line, sentence)
}

// mistake makes a fault of the first thing that the parser found. Only its summary is told: the details may repeat what
// was written. known are the names that would have been right there.
func (s source) mistake(diags hcl.Diagnostics, known string) error {
	first := diags[slices.IndexFunc(diags, func(d *hcl.Diagnostic) bool { return d.Severity == hcl.DiagError })]
	line := 1
	if first.Subject != nil {
		line = first.Subject.Start.Line
	}
	advice := "correct it"
	switch first.Summary {
	case "Unsupported argument", "Unsupported block type", "Extraneous JSON object property":
		return s.errAt(line, "a name that isn't known here: use "+known)
	case "Argument definition required", "Argument or block definition required", "Invalid single-argument block definition",
		"Missing newline after argument", "Missing newline after block definition", "Unexpected comma after argument":
		advice = "put each block and each setting on a line of its own, a setting as its name, =, and its value"
	}
	return s.errAt(line, strings.ToLower(first.Summary)+": "+advice)
}

// key is one that a path block may have.
type key struct {
	name string
	read func(*Rule, hcl.Expression) error
}

// errUnenforced refuses restrictions that other servers know: to ignore them would grant more than the author meant.
var errUnenforced = errors.New("this server can't enforce that restriction: remove the line, and think of whether the rest may then be granted")

func unenforced(*Rule, hcl.Expression) error { return errUnenforced }

func ignored(*Rule, hcl.Expression) error { return nil }

// keys are those of a path block, in the order in which they are read.
func keys() []key {
	return []key{
		{"capabilities", readCapabilities},
		{"policy", readLegacy},
		{"required_parameters", func(r *Rule, e hcl.Expression) (err error) { r.Required, err = texts(e); return err }},
		{"allowed_parameters", func(r *Rule, e hcl.Expression) (err error) { r.Allowed, err = params(e); return err }},
		{"denied_parameters", func(r *Rule, e hcl.Expression) (err error) { r.Denied, err = params(e); return err }},
		{"min_wrapping_ttl", func(r *Rule, e hcl.Expression) (err error) { r.MinWrap, err = duration(e); return err }},
		{"max_wrapping_ttl", func(r *Rule, e hcl.Expression) (err error) { r.MaxWrap, err = duration(e); return err }},
		{"comment", ignored},
		{"subscribe_event_types", ignored},
		{"mfa_methods", unenforced},
		{"control_group", unenforced},
		{"expiration", unenforced},
		{"pagination_limit", unenforced},
		{"list_scan_response_keys_filter_path", unenforced},
	}
}

func (s source) rule(block *hcl.Block) (*Rule, error) {
	line := block.DefRange.Start.Line
	path, err := canonical(block.Labels[0])
	if err != nil {
		return nil, s.errAt(line, err.Error())
	}
	r := &Rule{Path: path}
	known := keys()
	schema := &hcl.BodySchema{}
	for _, k := range known {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: k.name})
	}
	content, diags := block.Body.Content(schema)
	if diags.HasErrors() {
		return nil, s.mistake(diags, "capabilities, required_parameters, allowed_parameters, denied_parameters, "+
			"min_wrapping_ttl, max_wrapping_ttl or comment")
	}
	for _, k := range known {
		if attr := content.Attributes[k.name]; attr != nil {
			if err := k.read(r, attr.Expr); err != nil {
				return nil, s.errAt(attr.NameRange.Start.Line, k.name+": "+err.Error())
			}
		}
	}
	if r.Capabilities&Deny != 0 {
		r.Capabilities = Deny
	}
	if r.MaxWrap != 0 && r.MaxWrap < r.MinWrap {
		return nil, s.errAt(line, "max_wrapping_ttl is less than min_wrapping_ttl: correct one of them")
	}
	return r, nil
}

// canonical returns the path of a block without its leading slash, or says why no request could match it.
func canonical(path string) (string, error) {
	path = strings.TrimPrefix(path, "/")
	switch {
	case path == "":
		return "", errors.New("a path is missing: write it in double quotes after the word path")
	case len(path) > maxPath:
		return "", fmt.Errorf("a path has at most %d bytes: end it earlier, with a *", maxPath)
	case strings.Contains(path, "{{"):
		return "", errors.New("this server fills in no templates: write the path out, or use a + for the part that varies")
	case strings.Contains(strings.TrimSuffix(path, "*"), "*"):
		return "", errors.New("a * stands only at the end of a path: use a + for a whole part in the middle")
	case strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", errors.New("a path has no control characters: remove them")
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		switch {
		case part == "" && i < len(parts)-1, part == ".", part == "..":
			return "", errors.New("a path has no empty parts and none that are . or ..: no request could match it, so write it without")
		case part != "+" && strings.Contains(part, "+"):
			return "", errors.New("a + stands for one whole part of a path: nothing else can be between the same slashes")
		}
	}
	return path, nil
}

func readCapabilities(r *Rule, e hcl.Expression) error {
	names, err := texts(e)
	if err != nil {
		return err
	}
	for _, name := range names {
		c, ok := capability(name)
		if !ok {
			return errors.New("one of them isn't known: use create, read, update, patch, delete, list, sudo or deny")
		}
		r.Capabilities |= c
	}
	return nil
}

// readLegacy reads what stood for capabilities in old policies.
func readLegacy(r *Rule, e hcl.Expression) error {
	v, _ := e.Value(nil)
	name, _ := scalar(v)
	const write = Create | Read | Update | Delete | List
	granted, ok := map[string]Capability{"read": Read | List, "write": write, "sudo": write | Sudo, "deny": Deny}[name]
	if !ok {
		return errors.New("must be read, write, sudo or deny: better use capabilities instead")
	}
	r.Capabilities |= granted
	return nil
}

// texts reads a list of strings; also numbers, which stand for their text.
func texts(e hcl.Expression) ([]string, error) {
	errList := errors.New(`must be a list of plain values, such as ["a", "b"]`)
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.IsNull() || !v.Type().IsTupleType() {
		return nil, errList
	}
	list := []string{}
	for _, element := range v.AsValueSlice() {
		s, ok := scalar(element)
		if !ok {
			return nil, errList
		}
		list = append(list, s)
	}
	return list, nil
}

// params reads a map of lists. It looks at the expression, because in its value a name that stands there twice would be
// there only once.
func params(e hcl.Expression) (Params, error) {
	pairs, diags := hcl.ExprMap(e)
	if diags.HasErrors() {
		return nil, errors.New(`must be a map of lists, such as { "name" = ["a", "b"] }`)
	}
	p := Params{}
	for _, pair := range pairs {
		v, diags := pair.Key.Value(nil)
		name, ok := scalar(v)
		if diags.HasErrors() || !ok || name == "" {
			return nil, errors.New("the names in it must be strings in double quotes")
		}
		values, err := texts(pair.Value)
		if err != nil {
			return nil, fmt.Errorf("what belongs to a name %w", err)
		}
		p.add(name, values)
	}
	return p, nil
}

// scalar is the text of a string, a number or a truth.
func scalar(v cty.Value) (string, bool) {
	if v == cty.NilVal || v.IsNull() || !v.IsKnown() {
		return "", false
	}
	switch v.Type() {
	case cty.String:
		return v.AsString(), true
	case cty.Bool:
		return strconv.FormatBool(v.True()), true
	case cty.Number:
		if n, exact := v.AsBigFloat().Int64(); exact == 0 {
			return strconv.FormatInt(n, 10), true
		}
		f, _ := v.AsBigFloat().Float64()
		return number(f), !math.IsInf(f, 0)
	}
	return "", false
}

// duration reads a number of seconds or a text such as 90s, 30m, 1h30m or 7d.
func duration(e hcl.Expression) (time.Duration, error) {
	errDuration := errors.New(`must be a duration such as "90s", "5m", "1h" or "7d", or a number of seconds`)
	v, _ := e.Value(nil)
	s, ok := scalar(v)
	if !ok {
		return 0, errDuration
	}
	unit := time.Second
	digits, days := strings.CutSuffix(s, "d")
	if days {
		unit = 24 * time.Hour
	}
	if n, err := strconv.ParseUint(digits, 10, 31); err == nil && n <= uint64(math.MaxInt64/unit) {
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errDuration
	}
	return d, nil
}
