package body

import (
	"bytes"

	"github.com/quorate/quorate/internal/fault"
)

// maxFormFields bounds a form body, whose fields are grouped by a plain search.
const maxFormFields = 256

var (
	errForm     = fault.New(fault.Invalid, "the request body is not a valid form: send name=value pairs joined by &, percent-encoded, or a JSON object")
	errFormMany = fault.Newf(fault.Invalid, "the request body has more than %d form fields", maxFormFields)
)

// formField is one name with all the values it was sent with.
type formField struct {
	name   []byte
	values [][]byte
}

// FormToJSON turns an application/x-www-form-urlencoded body into the JSON object with the same fields: a string, or
// an array of strings for a name sent several times. The caller wipes both; scratch copies are wiped here.
func FormToJSON(body []byte) ([]byte, error) {
	if bytes.IndexByte(body, 0) >= 0 {
		return nil, errNUL
	}
	scratch := make([]byte, 0, len(body)) // decoding never makes text longer
	defer func() { clear(scratch[:cap(scratch)]) }()
	var fields []formField
	count := 0
	for part := range bytes.SplitSeq(body, []byte("&")) {
		if len(part) == 0 {
			continue
		}
		if count++; count > maxFormFields {
			return nil, errFormMany
		}
		name, value, _ := bytes.Cut(part, []byte("="))
		var err error
		if name, scratch, err = unescapeForm(scratch, name); err != nil {
			return nil, err
		}
		if value, scratch, err = unescapeForm(scratch, value); err != nil {
			return nil, err
		}
		fields = addFormField(fields, name, value)
	}
	return appendForm(make([]byte, 0, len(body)+6*count+2), fields), nil
}

func addFormField(fields []formField, name, value []byte) []formField {
	for i := range fields {
		if string(fields[i].name) == string(name) {
			fields[i].values = append(fields[i].values, value)
			return fields
		}
	}
	return append(fields, formField{name: name, values: [][]byte{value}})
}

func appendForm(dst []byte, fields []formField) []byte {
	dst = append(dst, '{')
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(quote(dst, f.name), ':')
		if len(f.values) == 1 {
			dst = quote(dst, f.values[0])
			continue
		}
		for j, v := range f.values {
			dst = quote(append(dst, "[,"[min(j, 1)]), v)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// unescapeForm decodes text to the end of scratch and returns that part and the longer scratch.
func unescapeForm(scratch, text []byte) (part, rest []byte, err error) {
	start := len(scratch)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ';': // once a separator: two readers of one body must not disagree
			return nil, scratch, errForm
		case '+':
			scratch = append(scratch, ' ')
		case '%':
			if i+2 >= len(text) {
				return nil, scratch, errForm
			}
			high, low := hexDigit(text[i+1]), hexDigit(text[i+2])
			if high < 0 || low < 0 {
				return nil, scratch, errForm
			}
			scratch = append(scratch, byte(high<<4|low))
			i += 2
		default:
			scratch = append(scratch, c)
		}
	}
	return scratch[start:len(scratch):len(scratch)], scratch, nil
}
