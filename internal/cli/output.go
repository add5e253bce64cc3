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

// row is one line of a table.
type row [2]string

// print shows v: as text in table format, else v itself.
func (a *app) print(o *output, v any, text func() string) error {
	format, err := o.format.resolve()
	if err != nil {
		return err
	}
	if format == "table" {
		return a.write(text())
	}
	return a.encode(format, v)
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
	return a.write(buf.String())
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

// outlivePipe makes writing into a pipe that nobody reads an error, instead of the end of this process: for answers
// that can't be had a second time.
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
	if text, ok := token.(string); ok && (n.Tag != "!!str" || strings.TrimSpace(text) != text) {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
	}
	return n, err
}

// header is the first two rows of the tables that have one.
func header(rows []row) []row {
	return append([]row{{"Key", "Value"}, {"---", "-----"}}, rows...)
}

// table aligns rows. What is in them comes from elsewhere, so each stays on its line and does nothing to a terminal.
func table(rows []row) string {
	width := 0
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(visible(r[0], "")))
	}
	var b strings.Builder
	for _, r := range rows {
		name := visible(r[0], "")
		pad := width - utf8.RuneCountInString(name) + 4
		fmt.Fprintf(&b, "%s%s%s\n", name, strings.Repeat(" ", pad), visible(r[1], ""))
	}
	return b.String()
}
