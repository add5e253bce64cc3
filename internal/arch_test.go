// Package internal_test holds the picture of ARCHITECTURE.md against the code.
package internal_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const prefix = "github.com/quorate/quorate/"

// levels is the table of ARCHITECTURE.md: a package imports only packages of lower levels.
var levels = map[string]int{
	"internal/shamir": 0, "internal/secret": 0, "internal/fault": 0, "internal/store": 0, "internal/wholefile": 0,
	"internal/store/storetest": 1, "internal/store/bolt": 1, "internal/store/inmem": 1,
	"internal/store/postgres": 1, "internal/store/etcd": 1, "internal/store/anystore": 2,
	"internal/body": 1, "internal/holder": 1, "internal/delivery": 1, "internal/ceremony": 1, "internal/policy": 1,
	"internal/barrier": 2, "internal/seal": 2, "internal/transcript": 2, "internal/audit": 2, "internal/engine": 2,
	"internal/token": 3, "internal/mount": 3, "internal/snapshot": 3,
	"internal/engine/kv": 3, "internal/engine/cubbyhole": 3, "internal/engine/enginetest": 3,
	"internal/auth/userpass": 3, "internal/auth/approle": 3,
	"internal/node":    4,
	"internal/httpapi": 5,
	"internal/config":  6, "internal/server": 6, "internal/cli": 6,
	"cmd/quorate": 7,
}

// sideways are the imports inside one level that the picture names.
var sideways = map[string][]string{
	"internal/ceremony": {"internal/holder"},
	"internal/seal":     {"internal/barrier"},
	"internal/server":   {"internal/config"},
	"internal/cli":      {"internal/config", "internal/server"},
}

// speaksHTTP are the packages of which package cli may know nothing: its commands speak HTTP only.
var speaksHTTP = []string{"internal/node", "internal/httpapi", "internal/seal", "internal/token", "internal/barrier", "internal/store"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []goPackage
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, prefix)
		level, known := levels[name]
		if !known {
			if name != "internal" {
				t.Errorf("%s is not in the picture: add it to ARCHITECTURE.md and to levels", name)
			}
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, prefix)
			if !ours {
				continue
			}
			if levels[to] >= level && !slices.Contains(sideways[name], to) {
				t.Errorf("%s (level %d) imports %s (level %d)", name, level, to, levels[to])
			}
			if name == "internal/cli" && slices.Contains(speaksHTTP, to) {
				t.Errorf("%s imports %s: commands speak HTTP only", name, to)
			}
		}
	}
}

// longFunctions are the exceptions to the budget of 70 lines, at most three.
var longFunctions = []string{}

func TestSizes(t *testing.T) {
	eachFile(t, func(path string, fset *token.FileSet, f *ast.File) {
		if n := fset.File(f.Pos()).LineCount(); n > 600 {
			t.Errorf("%s has %d lines: two things live in one room", path, n)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1
			if lines > 70 && !slices.Contains(longFunctions, fn.Name.Name) {
				t.Errorf("%s: %s has %d lines", path, fn.Name.Name, lines)
			}
		}
	})
}

// TestSecretsAreComparedInConstantTime bans the comparisons that stop at the first difference.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	eachFile(t, func(path string, fset *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && name(sel) == "bytes.Equal" && slices.ContainsFunc(n.Args, reveals) {
					t.Errorf("%s: bytes.Equal on a revealed secret: use crypto/subtle or secret.Bytes.Equal", fset.Position(n.Pos()))
				}
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && (reveals(n.X) || reveals(n.Y)) {
					t.Errorf("%s: a revealed secret compared with %s", fset.Position(n.Pos()), n.Op)
				}
			}
			return true
		})
	})
}

func name(sel *ast.SelectorExpr) string {
	if x, ok := sel.X.(*ast.Ident); ok {
		return x.Name + "." + sel.Sel.Name
	}
	return ""
}

// reveals reports whether e contains a call of Reveal that is not merely measured, or compared as it should be.
func reveals(e ast.Expr) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "len" {
				return false
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				if name(sel) == "subtle.ConstantTimeCompare" {
					return false
				}
				found = found || sel.Sel.Name == "Reveal"
			}
		}
		return !found
	})
	return found
}

func eachFile(t *testing.T, fn func(path string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	for _, root := range []string{".", "../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			fn(path, fset, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
