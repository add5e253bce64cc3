package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"

	"github.com/quorate/quorate/internal/policy"
)

// Guards that hold before anything is parsed.
const (
	maxSize  = 256 << 10 // bytes, of all files together
	maxDepth = 16        // brackets and braces inside each other
	maxFiles = 64
)

// maxProblems is how many problems one error lists; the first ones are what a person will mend first.
const maxProblems = 10

// Load reads a file, or every *.hcl and *.json file of a folder as if they were one, and returns a valid Config.
// Errors list problems as file:line: sentence, one per line.
func Load(path string) (*Config, error) {
	body, err := open(path)
	if err != nil {
		return nil, err
	}
	return decodeConfig(body)
}

// open makes one unread body of all that path stands for.
func open(path string) (hcl.Body, error) {
	files, err := list(path)
	if err != nil {
		return nil, err
	}
	var bodies []hcl.Body
	room := int64(maxSize)
	for _, name := range files {
		src, err := read(name, room)
		if err != nil {
			return nil, err
		}
		room -= int64(len(src))
		body, err := parse(name, src)
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	if len(bodies) == 1 {
		return bodies[0], nil
	}
	return hcl.MergeBodies(bodies), nil
}

// list names the files that path stands for.
func list(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration can't be read: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("the configuration folder can't be read: %w", err)
	}
	var names []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".hcl" || ext == ".json") {
			names = append(names, filepath.Join(path, e.Name()))
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("%s has no file that ends in .hcl or .json: add one, or name the file itself", path)
	case len(names) > maxFiles:
		return nil, fmt.Errorf("%s has %d configuration files, more than the limit of %d", path, len(names), maxFiles)
	}
	return names, nil
}

// read returns the file's bytes, at most room of them.
func read(name string, room int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the configuration can't be read: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, room+1))
	if err != nil {
		return nil, fmt.Errorf("the configuration can't be read: %w", err)
	}
	if int64(len(src)) > room {
		return nil, fmt.Errorf("%s: the configuration is over the limit of %d KiB", name, maxSize>>10)
	}
	return src, nil
}

// parse makes an unread body of one file. JSON is known by its name or by its first character.
func parse(name string, src []byte) (hcl.Body, error) {
	isJSON := filepath.Ext(name) == ".json" ||
		filepath.Ext(name) != ".hcl" && strings.HasPrefix(strings.TrimSpace(string(src)), "{")
	var f *hcl.File
	var diags hcl.Diagnostics
	if isJSON {
		if diag := guardJSON(name, src); diag != nil {
			return nil, problems(hcl.Diagnostics{diag})
		}
		f, diags = json.Parse(src, name)
	} else {
		tokens, lexDiags := hclsyntax.LexConfig(src, name, hcl.InitialPos)
		if lexDiags.HasErrors() {
			return nil, problems(lexDiags)
		}
		if diag := guardHCL(tokens); diag != nil {
			return nil, problems(hcl.Diagnostics{diag})
		}
		f, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		return nil, problems(diags)
	}
	return f.Body, nil
}

// guardHCL allows what a list of settings is made of. Operators, parentheses, references and templates have no use here,
// and the parser recurses into them without a limit of its own. Only the text of a policy may stand in a heredoc, or in
// the file that policy = file("...") names.
func guardHCL(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	depth := 0
	inFile, inHeredoc := false, false
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack:
			if depth++; depth > maxDepth {
				return problem(t.Range, "brackets are nested deeper than %d", maxDepth)
			}
			continue
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack:
			depth--
			continue
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenEqual, hclsyntax.TokenComma,
			hclsyntax.TokenOQuote, hclsyntax.TokenQuotedLit, hclsyntax.TokenCQuote,
			hclsyntax.TokenComment, hclsyntax.TokenNewline, hclsyntax.TokenEOF:
			continue
		case hclsyntax.TokenOParen:
			if inFile = ends(tokens[:i], "policy", "=", "file"); inFile {
				continue
			}
		case hclsyntax.TokenCParen:
			if inFile {
				inFile = false
				continue
			}
		case hclsyntax.TokenOHeredoc:
			if inHeredoc = ends(tokens[:i], "policy", "="); inHeredoc {
				continue
			}
		case hclsyntax.TokenStringLit, hclsyntax.TokenCHeredoc:
			if inHeredoc {
				inHeredoc = t.Type == hclsyntax.TokenStringLit
				continue
			}
		}
		return problem(t.Range, "a plain value is expected here: a string in double quotes, a number, true, false or a list")
	}
	return nil
}

// ends reports whether these are the last tokens.
func ends(tokens hclsyntax.Tokens, last ...string) bool {
	if len(tokens) < len(last) {
		return false
	}
	for i, t := range tokens[len(tokens)-len(last):] {
		if string(t.Bytes) != last[i] {
			return false
		}
	}
	return true
}

// evaluate returns what was written for an attribute. The one function is file, which guardHCL lets through nowhere but
// for the text of a policy.
func evaluate(attr *hcl.Attribute) (cty.Value, hcl.Diagnostics) {
	call, ok := attr.Expr.(*hclsyntax.FunctionCallExpr)
	if !ok || call.Name != "file" || len(call.Args) != 1 {
		return attr.Expr.Value(nil)
	}
	v, diags := call.Args[0].Value(nil)
	if diags.HasErrors() {
		return v, diags
	}
	name, err := value{v}.text()
	if err != nil {
		return v, hcl.Diagnostics{problem(attr.Range, "file %v", err)}
	}
	src, err := readRegular(beside(attr.Range.Filename, name), policy.MaxText)
	if err != nil {
		return v, hcl.Diagnostics{problem(attr.Range, "the policy can't be read: %v", err)}
	}
	return cty.StringVal(string(src)), nil
}

// beside is a path that may be relative to the folder of a file of the configuration.
func beside(file, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// readRegular reads a file, which must be one that ends.
func readRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%s is over the limit of %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

// guardJSON bounds the nesting.
func guardJSON(name string, src []byte) *hcl.Diagnostic {
	line := policy.DeepJSON(src, maxDepth)
	if line == 0 {
		return nil
	}
	return problem(hcl.Range{Filename: name, Start: hcl.Pos{Line: line, Column: 1}}, "brackets are nested deeper than %d", maxDepth)
}

func problem(at hcl.Range, format string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Detail: fmt.Sprintf(format, args...), Subject: &at}
}

// problems makes one error of what the parser and the tables of options found, in the order of the files.
func problems(diags hcl.Diagnostics) error {
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		if a.Subject == nil || b.Subject == nil || a.Subject.Filename != b.Subject.Filename {
			return 0
		}
		return a.Subject.Start.Byte - b.Subject.Start.Byte
	})
	var lines []string
	for i, d := range diags {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(diags)-maxProblems))
			break
		}
		lines = append(lines, sentence(d))
	}
	return errors.New(strings.Join(lines, "\n"))
}

func sentence(d *hcl.Diagnostic) string {
	text := d.Detail
	if text == "" {
		text = d.Summary
	}
	// The parser starts sentences with capitals; ours go on after the position.
	if len(text) > 1 && text[1] >= 'a' && text[1] <= 'z' || strings.HasPrefix(text, "A ") {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	if d.Subject == nil {
		return text
	}
	return position(*d.Subject) + ": " + text
}

func position(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }
