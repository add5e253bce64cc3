package policy

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// layout writes a text of the older HCL for the parser of HCL 2. To the older one the ends of lines meant nothing, a comma
// could follow each setting, all names could be quoted, and a map needed no equals sign.
type layout struct {
	src      []byte
	tokens   hclsyntax.Tokens
	next     int              // index of the first token that wasn't taken yet
	comments hclsyntax.Tokens // those before it that weren't written yet
	out      bytes.Buffer
	lines    []int // for each line of out the line of src that it is from
	last     int   // the line of src where ended what was written last
}

// layOut puts each block, each setting and each closing brace of a text on a line of its own. Lists and single values are
// copied, comments kept. From what it doesn't understand on it copies everything, so that the parser judges it.
func layOut(src []byte, tokens hclsyntax.Tokens) source {
	l := &layout{src: src, tokens: tokens}
	l.items(0)
	if rest := l.peek(); rest.Type != hclsyntax.TokenEOF {
		l.line(rest.Range.Start.Line, string(src[rest.Range.Start.Byte:]))
	}
	l.out.WriteByte('\n')
	return source{text: l.out.Bytes(), lines: l.lines}
}

// items writes what is in as many braces as level says, up to the end of it. It returns false if it doesn't understand
// what is next.
func (l *layout) items(level int) bool {
	for {
		next := l.peek().Type
		l.flush()
		if next == hclsyntax.TokenCBrace || next == hclsyntax.TokenEOF {
			return true
		}
		if !l.item(level) {
			return false
		}
		if l.peek().Type == hclsyntax.TokenComma {
			l.next++
		}
	}
}

// item writes a block, a setting or a member of a map.
func (l *layout) item(level int) bool {
	start, line := l.next, l.peek().Range.Start.Line
	var head []string
	for t := l.peek().Type; t == hclsyntax.TokenIdent || t == hclsyntax.TokenOQuote; t = l.peek().Type {
		head = append(head, l.take())
	}
	if len(head) > 0 && level < 2 {
		if name := strings.Trim(head[0], `"`); hclsyntax.ValidIdentifier(name) {
			head[0] = name
		}
	}
	value := l.peek()
	setting := len(head) == 1 && (value.Type == hclsyntax.TokenEqual || value.Type == hclsyntax.TokenOBrace && level > 0)
	if setting {
		if value.Type == hclsyntax.TokenEqual {
			l.next++
			value = l.peek()
		}
		head = append(head, "=")
	}
	if value.Type == hclsyntax.TokenOBrace && (setting || level == 0 && len(head) > 0) {
		l.next++
		l.line(line, strings.Join(head, " ")+" {")
		l.last = value.Range.Start.Line
		return l.items(level+1) && l.closing()
	}
	if written := l.value(); setting && written != "" {
		l.line(line, head[0]+" = ")
		l.add(value.Range.Start.Line, written)
		return true
	}
	l.next, l.comments = start, nil
	return false
}

// closing writes a closing brace.
func (l *layout) closing() bool {
	brace := l.peek()
	if brace.Type != hclsyntax.TokenCBrace {
		return false
	}
	l.next++
	l.last = max(l.last, brace.Range.Start.Line-1) // no empty line before it
	l.line(brace.Range.Start.Line, "}")
	return true
}

// value takes a single value or a list, and returns it as it is written; "" if neither is next.
func (l *layout) value() string {
	switch l.peek().Type {
	case hclsyntax.TokenOQuote, hclsyntax.TokenOBrack, hclsyntax.TokenNumberLit:
		return l.take()
	case hclsyntax.TokenIdent:
		word := l.take()
		after := l.tokens[l.next].Type
		if word == "true" || word == "false" || after != hclsyntax.TokenIdent && after != hclsyntax.TokenOQuote {
			return word
		}
	}
	return ""
}

// take takes a token, if it is a quote or a bracket with all up to the one that closes it, and returns it as it is written.
func (l *layout) take() string {
	first := l.peek()
	for depth := 0; ; {
		t := l.tokens[l.next]
		switch t.Type {
		case hclsyntax.TokenOQuote, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace:
			depth++
		case hclsyntax.TokenCQuote, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace:
			depth--
		case hclsyntax.TokenEOF:
			return ""
		}
		l.next++
		if depth == 0 {
			return string(l.src[first.Range.Start.Byte:t.Range.End.Byte])
		}
	}
}

// peek returns the next token after ends of lines and comments, which it keeps for flush.
func (l *layout) peek() hclsyntax.Token {
	for ; ; l.next++ {
		switch t := l.tokens[l.next]; t.Type {
		case hclsyntax.TokenNewline:
		case hclsyntax.TokenComment:
			l.comments = append(l.comments, t)
		default:
			return t
		}
	}
}

// flush writes the comments: one that began where something ended after it, others on lines of their own.
func (l *layout) flush() {
	comments := l.comments
	l.comments = nil
	for _, c := range comments {
		line, text := c.Range.Start.Line, strings.TrimRight(string(c.Bytes), "\r\n")
		if line == l.last {
			l.add(line, " "+text)
		} else {
			l.line(line, text)
		}
	}
}

// line begins a line with text, which is from the given line of the source. An empty line before it is kept.
func (l *layout) line(from int, text string) {
	l.flush()
	if len(l.lines) > 0 {
		l.out.WriteByte('\n')
		if from > l.last+1 {
			l.lines = append(l.lines, l.last+1)
			l.out.WriteByte('\n')
		}
	}
	l.lines = append(l.lines, from)
	l.add(from, text)
}

// add goes on with text that is from the given line of the source.
func (l *layout) add(from int, text string) {
	l.out.WriteString(text)
	l.last = from
	for range strings.Count(text, "\n") {
		l.last++
		l.lines = append(l.lines, l.last)
	}
}
