package enginetest

import (
	"os"
	"strings"
	"testing"
)

// TestDocumentedExample: the code in docs/engines.md is the one that is compiled and run here.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/engines.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"example_test.go", "example_use_test.go"} {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := "```go\n" + strings.Replace(string(code), "package enginetest_test", "package lock", 1) + "```\n"
		if !strings.Contains(string(doc), want) {
			t.Errorf("docs/engines.md doesn't hold %s as it is", file)
		}
	}
}
