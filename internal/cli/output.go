package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/openbao/openbao/api/v2"
	"gopkg.in/yaml.v3"
)

// output is how an answer is printed.
type output struct {
	format formatValue
	field  string
}

func (o *output) flags(fs *flag.FlagSet) {
	fs.Var(&o.format, "format", "`FORMAT` of the output: table, json or yaml (BAO_FORMAT)")
}

func (o *output) fieldFlag(fs *flag.FlagSet) {
	fs.StringVar(&o.field, "field", "", "print only the field of this `NAME`")
}

// formatValue is one of table, json and yaml; when no flag was given, BAO_FORMAT or VAULT_FORMAT decides.
type formatValue string

func (f *formatValue) String() string { return string(*f) }

// Set implements flag.Value.
func (f *formatValue) Set(s string) error {
	switch s = strings.ToLower(s); s {
	case "table", "json", "yaml":
		*f = formatValue(s)
		return nil
	case "yml":
		*f = "yaml"
		return nil
	}
	return errors.New("must be table, json or yaml")
}

// resolve returns the format to use.
func (f formatValue) resolve() (string, error) {
	if f != "" {
		return string(f), nil
	}
	env := api.ReadBaoVariable("BAO_FORMAT")
	if env == "" {
		return "table", nil
	}
	if err := f.Set(env); err != nil {
		return "", localf("BAO_FORMAT: %w", err)
	}
	return string(f), nil
}

// print shows v: as text in table format, else v itself.
func (s *session) print(v any, text func() string) error {
	format, err := s.out.format.resolve()
	if err != nil {
		return err
	}
	if format == "table" {
		return s.write(text())
	}
	return s.encode(format, v)
}

// printBare prints a value, alone; in json and yaml under its name.
func (s *session) printBare(name string, value []byte) error {
	format, err := s.out.format.resolve()
	if err != nil {
		return err
	}
	if format == "table" {
		return s.printValue(string(value))
	}
	return s.encode(format, map[string]string{name: string(value)})
}

// encode prints v as json or yaml, with the keys in the order of v's fields in both.
func (a *app) encode(format string, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return localf("encoding the output: %w", err)
	}
	if format == "yaml" {
		b, err := toYAML(buf.Bytes())
		if err != nil {
			return localf("encoding the output: %w", err)
		}
		buf = *bytes.NewBuffer(b)
	}
	return a.write(escaped(buf.String()))
}

// acting reports whether a terminal may act on a character that JSON leaves as it is: C1 controls, and those that change
// the direction of text.
func acting(r rune) bool {
	return r >= 0x7f && r <= 0x9f || r == 0x061c || r == 0x200e || r == 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// escaped writes what a terminal may act on as an escape with its four hex digits. In JSON it can only be within a string; in our YAML a string that
// has it is in double quotes.
func escaped(text string) string {
	if !strings.ContainsFunc(text, acting) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if acting(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// errNotWritten is an answer that was lost on the way to standard output.
var errNotWritten = errors.New("the answer could not be written to standard output")

// write prints text on standard output.
func (a *app) write(text string) error {
	if _, err := io.WriteString(a.stdout, text); err != nil {
		return localf("%w: %w", errNotWritten, err)
	}
	return nil
}

// unprinted says what to do about an answer that could not be written. Other failures stay as they are.
func unprinted(err error, hint string) error {
	if f := (*failure)(nil); errors.Is(err, errNotWritten) && errors.As(err, &f) {
		f.hint = hint
	}
	return err
}

// outlivePipe makes writing into a pipe that nobody reads an error instead of the end: for answers that are had once.
func outlivePipe() (undo func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}

// toYAML rewrites JSON in block style. The yaml module could read JSON itself, but takes some of what a JSON string may
// hold for line breaks.
func toYAML(b []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	doc, err := yamlNode(dec)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	return buf.Bytes(), enc.Close()
}

// yamlNode reads the next value, keeping the order of keys.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{}
	switch t := token.(type) {
	case json.Number:
		n.Kind, n.Value = yaml.ScalarNode, t.String()
		return n, nil
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for dec.More() { // keys and values alternate, as in yaml's own tree
			child, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := dec.Token()
		return n, err
	}
	err = n.Encode(token)
	// "<<" would become the merge key, and the module loses text that is nothing but line breaks.
	if text, ok := token.(string); ok && (n.Tag != "!!str" || strings.TrimSpace(text) != text || strings.ContainsFunc(text, acting)) {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
	}
	return n, err
}

// row is one line of a table.
type row []string

// sheet collects the rows of a table.
type sheet []row

// header begins the tables that have one.
func header() sheet { return headed("Key", "Value") }

// headed begins a table with the names of its columns.
func headed(names ...string) sheet {
	var dashes row
	for _, name := range names {
		dashes = append(dashes, strings.Repeat("-", len(name)))
	}
	return sheet{names, dashes}
}

// titled is a table of keys and values with a title, about as wide as its names.
func titled(title string, rows sheet) string {
	const value = len("    Value")
	wide := 0
	for _, r := range rows {
		wide = max(wide, utf8.RuneCountInString(r[0]))
	}
	return underTitle(title, wide+value, append(header(), rows...).text())
}

func underTitle(title string, width int, text string) string {
	bars := width - utf8.RuneCountInString(title) - len("  ")
	if bars <= 0 {
		bars = 4
	}
	bar := strings.Repeat("=", (bars+1)/2)
	return bar + " " + title + " " + bar + "\n" + text
}

func (t *sheet) add(name string, value any) { *t = append(*t, row{name, fmt.Sprint(value)}) }

// known adds a row only if there is a value.
func (t *sheet) known(name, value string) {
	if value != "" {
		t.add(name, value)
	}
}

// fraction is how far something has come.
func fraction(done, all int) string { return fmt.Sprintf("%d/%d", done, all) }

// text aligns the rows. What is in them comes from elsewhere, so each stays on its line and does nothing to a terminal.
func (t sheet) text() string {
	return t.lines(func(last string, _ int) string { return last })
}

// folded is text for people who decide by what they read: a long last cell in which somebody chose the words, which is
// quoted or a list, goes on below itself, so that a terminal doesn't begin a line with it.
func (t sheet) folded() string {
	return t.lines(func(last string, indent int) string {
		if !strings.ContainsAny(last, `",`) {
			return last
		}
		return fold(last, indent)
	})
}

func (t sheet) lines(end func(last string, indent int) string) string {
	var b strings.Builder
	var width []int
	for _, r := range t {
		for i := range r {
			r[i] = visible(r[i], "")
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	for _, r := range t {
		last, indent := len(r)-1, 0
		for i, cell := range r[:last] {
			b.WriteString(cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+4))
			indent += width[i] + 4
		}
		b.WriteString(end(r[last], indent) + "\n")
	}
	return b.String()
}

// fold breaks text that begins at the column indent into lines of at most 76 columns, after a blank if there is one near
// the end. Each line after the first has the same indent and a bar, which says that it is no line of its own.
func fold(text string, indent int) string {
	const right, least, bar = 76, 20, "| "
	room := max(right-indent, least)
	var b strings.Builder
	for {
		n := fitting(text, room)
		if n == len(text) {
			return b.String() + text
		}
		if blank := strings.LastIndexByte(text[:n], ' ') + 1; blank > n/2 {
			n = blank
		}
		b.WriteString(text[:n] + "\n" + strings.Repeat(" ", indent) + bar)
		text, room = text[n:], max(right-indent, least)-len(bar)
	}
}

// fitting is how many bytes of text fit into so many columns.
func fitting(text string, columns int) int {
	for i, r := range text {
		if columns--; r >= 0x1100 { // where characters begin that terminals show twice as wide
			columns--
		}
		if columns < 0 {
			return i
		}
	}
	return len(text)
}

// quotedText shows a text that somebody chose, so that it is seen where it ends.
func quotedText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(visible(text, "")) + `"`
}

// quotedLabel is quotedText for a holder, who may have no label.
func quotedLabel(label string) string {
	if label == "" {
		return ""
	}
	return quotedText(label)
}

// foldedLabel is a label in a line that begins with "# ", as do those below it.
func foldedLabel(label string) string {
	return strings.ReplaceAll(fold(visible(label, ""), len("# ")), "\n ", "\n#")
}
