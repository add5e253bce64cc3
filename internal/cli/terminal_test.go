package cli

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	for _, c := range []struct {
		typed, want string
		err         error
	}{
		{"share\r", "share", nil},
		{"share\nnext\n", "share", nil},
		{"\r", "", nil},
		{"share", "share", nil}, // a pipe needn't end in a newline
		{"", "", io.EOF},
		{"shx\x7fare\r", "share", nil},
		{"\x7f\x08a\r", "a", nil},
		{"wrong\x15right\r", "right", nil},
		{"a\x01\x02b\r", "ab", nil},
		{"a\tb\r", "a\tb", nil},
		{"sha\x03re\r", "", errInterrupted},
		{"\x04", "", io.EOF},
		{"share\x04", "share", nil},
		{strings.Repeat("x", maxLine) + "\r", strings.Repeat("x", maxLine), nil},
		{strings.Repeat("x", maxLine+1) + "\r", "", errLongLine},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.typed), iotest.DataErrReader(strings.NewReader(c.typed))} {
			got, err := readLine(r)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q: %q, %v", c.typed, got, err)
			}
		}
	}
	broken := errors.New("broken")
	if got, err := readLine(io.MultiReader(strings.NewReader("sha"), iotest.ErrReader(broken))); got != nil || !errors.Is(err, broken) {
		t.Errorf("broken reader: %q, %v", got, err)
	}
}

// Nothing of the next line is taken, so that several shares can be pasted at once.
func TestReadLineLeavesTheRest(t *testing.T) {
	r := strings.NewReader("one\ntwo\nthree")
	for _, want := range []string{"one", "two", "three"} {
		if got, err := readLine(r); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// A line that ends in two characters is one line; two lines are two.
func TestLineEnds(t *testing.T) {
	r := &lineEnds{r: strings.NewReader("one\r\ntwo\r\n\r\nthree\n\nfour\rfive\r")}
	for _, want := range []string{"one", "two", "", "three", "", "four", "five"} {
		if got, err := readLine(r); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if got, err := readLine(r); err != io.EOF {
		t.Errorf("%q, %v", got, err)
	}
	r = &lineEnds{r: io.MultiReader(strings.NewReader("one\r"), iotest.ErrReader(errInterrupted))}
	readLine(r)
	if _, err := readLine(r); err != errInterrupted {
		t.Errorf("%v", err)
	}
}

func TestReadGiven(t *testing.T) {
	for _, good := range []string{canary, strings.ToUpper(canary), "wP/uAMD/7gDA/+4AwP/uAMD/7gDA/+4AwP/uAMD/7gA="} {
		for _, space := range []string{"", " ", "\t", "\r\n"} {
			given, err := readGiven([]byte(space + good + space))
			share := given.text
			if err != nil || string(share.Reveal()) != good {
				t.Errorf("%q: %v, %d bytes", space+good+space, err, share.Len())
			}
		}
	}
	for _, bad := range []string{"", "  ", canary + `"`, canary + " " + canary, "a-b_c", "a\x00b", "ü", `\u0061`} {
		line := []byte(bad)
		given, err := readGiven(line)
		share := given.text
		if err == nil || !share.Empty() {
			t.Errorf("%q passed", bad)
		}
		hides(t, err.Error())
		if strings.Contains(bad, canary) && strings.Contains(string(line), canary) {
			t.Errorf("%q was not wiped", bad)
		}
	}
}

// The body is valid JSON, and the share in it is what was given.
func TestShareBody(t *testing.T) {
	s := &session{app: &app{}}
	for _, c := range []struct {
		fields map[string]any
		want   string
	}{
		{map[string]any{}, `{"key":"` + canary + `"}`},
		{map[string]any{"nonce": `a"b`}, `{"key":"` + canary + `","nonce":"a\"b"}`},
		{map[string]any{"otp": "", "pgp_key": ""}, `{"key":"` + canary + `","otp":"","pgp_key":""}`},
	} {
		given, err := readGiven([]byte(canary))
		share := given.text
		if err != nil {
			t.Fatal(err)
		}
		want(t, "body", string(s.shareBody(share, c.fields)), c.want)
	}
}

func TestNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, stdin := range map[string]io.Reader{"a pipe": strings.NewReader("x"), "a file": f} {
		if _, err := openTerminal(stdin); !errors.Is(err, errNoTerminal) {
			t.Errorf("%s passes for a terminal: %v", name, err)
		}
	}
}
