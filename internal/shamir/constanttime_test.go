package shamir

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// secrets lists every function of the package with its parameters that are secret, by position, and the names of its
// parameters and variables that hold secret bytes; what is computed from those is found by the check. A new function
// has to be entered here.
var secrets = map[string]struct {
	parameters []int
	names      []string
}{
	"Split":       {[]int{1}, []string{"key", "coefficients", "shares"}},
	"Combine":     {[]int{0}, []string{"shares", "key"}},
	"coordinates": {[]int{0}, []string{"shares"}},
	"weight":      {},
	"evaluate":    {[]int{0, 1, 2}, []string{"out", "key", "coefficients"}},
	"accumulate":  {[]int{0, 1}, []string{"sum", "share"}},
	"mul":         {[]int{0, 1}, []string{"a", "b"}},
	"inverse":     {[]int{0}, []string{"a"}},
}

// publicResults are calls whose results are public whatever they were given: the x coordinates, and an error.
var publicResults = []string{"coordinates", "io.ReadFull"}

// T40: no branch, comparison, index, bound, shift count, division or call out of the package depends on a secret.
func TestConstantTimeSource(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range checkSource(t, string(source)) {
			t.Errorf("%s:%s", f.Name(), problem)
		}
		checked++
	}
	if checked == 0 {
		t.Fatal("no source was checked")
	}
}

// T40: the check finds what it is there to find.
func TestConstantTimeCheckFinds(t *testing.T) {
	for name, source := range map[string]string{
		"package variable":        `var table [256]byte`,
		"table of products":       `func mul(a, b byte) byte { return [2]byte{0, 1}[a&b&1] }`,
		"index by derived":        `func mul(a, b byte) byte { c := a ^ 1; var t [256]byte; return t[c] }`,
		"index by later derived":  `func mul(a, b byte) byte { var c byte; var t [256]byte; for range 2 { _ = t[c]; c = a }; return c }`,
		"branch":                  `func mul(a, b byte) byte { if a == 0 { return 0 }; return b }`,
		"zero test kept":          `func mul(a, b byte) bool { z := a == 0; return z }`,
		"switch":                  `func inverse(a byte) byte { switch a { case 0: return 0 }; return 1 }`,
		"loop until":              `func mul(a, b byte) byte { for b > 0 { b >>= 1 }; return a }`,
		"secret number of rounds": `func mul(a, b byte) byte { for range b { a ^= 1 }; return a }`,
		"shift by":                `func mul(a, b byte) byte { return 1 << a }`,
		"division":                `func mul(a, b byte) byte { return a / b }`,
		"remainder":               `func mul(a, b byte) byte { a %= 255; return a }`,
		"slice bound":             `func accumulate(sum, share []byte, w byte) { clear(sum[:share[0]]) }`,
		"call out":                `func accumulate(sum, share []byte, w byte) { fmt.Println(share) }`,
		"secret in an error":      `func Combine(shares [][]byte, threshold int) ([]byte, error) { return nil, fmt.Errorf("%x", shares[0]) }`,
		"secret to public":        `func accumulate(sum, share []byte, w byte) { weight(share, 0) }`,
		"range value":             `func accumulate(sum, share []byte, w byte) { for _, b := range share { if b > 1 { return } } }`,
		"first byte taken for x":  `func coordinates(shares [][]byte) bool { x := shares[0][0]; return x == 0 }`,
		"stored":                  `func accumulate(sum, share []byte, w byte) { v := make([]byte, 1); v[0] = share[0]; if v[0] == 1 { return } }`,
		"closure":                 `func inverse(a byte) byte { return func() byte { return a }() }`,
		"unlisted function":       `func square(a byte) byte { return mul(a, a) }`,
	} {
		if len(checkSource(t, "package shamir\n"+source)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// checkSource returns what is wrong in a file, each with its line.
func checkSource(t *testing.T, source string) []string {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var problems []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.GenDecl:
			if d.Tok == token.VAR {
				problems = append(problems, "a package-level variable")
			}
		case *ast.FuncDecl:
			listing, listed := secrets[d.Name.Name]
			if !listed {
				problems = append(problems, d.Name.Name+" is not listed in this test")
				continue
			}
			c := &checker{fset: fset, function: d, named: listing.names, tainted: map[string]bool{}}
			problems = append(problems, c.run()...)
		}
	}
	return problems
}

// checker follows secrets through one function.
type checker struct {
	fset     *token.FileSet
	function *ast.FuncDecl
	named    []string        // as listed
	tainted  map[string]bool // variable → holds, or was computed from, a secret
	problems []string
}

func (c *checker) run() []string {
	for _, name := range c.named {
		c.tainted[name] = true
	}
	for before := -1; before != len(c.tainted); { // loops carry secrets back to earlier lines
		before = len(c.tainted)
		ast.Inspect(c.function.Body, c.follow)
	}
	ast.Inspect(c.function.Body, c.check)
	return c.problems
}

// follow marks the variables that a node gives a secret to.
func (c *checker) follow(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if slices.ContainsFunc(n.Rhs, c.secret) {
			for _, left := range n.Lhs {
				c.taint(left)
			}
		}
	case *ast.ValueSpec:
		if slices.ContainsFunc(n.Values, c.secret) {
			for _, name := range n.Names {
				c.taint(name)
			}
		}
	case *ast.RangeStmt:
		if n.Value != nil && c.secret(n.X) {
			c.taint(n.Value)
		}
	}
	return true
}

func (c *checker) taint(e ast.Expr) {
	switch e := e.(type) {
	case *ast.Ident:
		if e.Name != "_" {
			c.tainted[e.Name] = true
		}
	case *ast.IndexExpr:
		c.taint(e.X)
	case *ast.StarExpr:
		c.taint(e.X)
	}
}

// secret reports whether e's value depends on a secret. Lengths don't, and neither does a share's last byte, its x.
func (c *checker) secret(e ast.Expr) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			name := callee(n)
			if name == "len" || slices.Contains(publicResults, name) {
				return false
			}
		case *ast.IndexExpr:
			if name, ok := n.X.(*ast.Ident); ok && render(n.Index) == "len("+name.Name+") - 1" {
				return false
			}
		case *ast.Ident:
			found = found || c.tainted[n.Name]
		}
		return true
	})
	return found
}

// check reports the uses of secrets that take time, or a path, that depends on them.
func (c *checker) check(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IndexExpr:
		c.refuse(n, "index", n.Index)
	case *ast.SliceExpr:
		c.refuse(n, "slice bound", n.Low, n.High, n.Max)
	case *ast.IfStmt:
		c.refuse(n, "branch", n.Cond)
	case *ast.ForStmt:
		c.refuse(n, "loop condition", n.Cond)
	case *ast.SwitchStmt:
		c.refuse(n, "switch", n.Tag)
	case *ast.CaseClause:
		c.refuse(n, "case", n.List...)
	case *ast.RangeStmt:
		if !c.isSlice(n.X) {
			c.refuse(n, "number of rounds", n.X)
		}
	case *ast.BinaryExpr:
		c.operator(n, n.Op, n.X, n.Y)
	case *ast.AssignStmt:
		if op, ok := assignOperators[n.Tok]; ok {
			c.operator(n, op, n.Lhs[0], n.Rhs[0])
		}
	case *ast.CallExpr:
		c.call(n)
	case *ast.FuncLit, *ast.TypeSwitchStmt, *ast.SelectStmt, *ast.GoStmt:
		c.problem(n, "%T is beyond this check", n)
	}
	return true
}

var assignOperators = map[token.Token]token.Token{
	token.QUO_ASSIGN: token.QUO, token.REM_ASSIGN: token.REM, token.MUL_ASSIGN: token.MUL,
	token.SHL_ASSIGN: token.SHL, token.SHR_ASSIGN: token.SHR,
}

func (c *checker) operator(n ast.Node, op token.Token, x, y ast.Expr) {
	switch op {
	case token.SHL, token.SHR:
		c.refuse(n, "shift count", y)
	case token.XOR, token.AND, token.OR, token.AND_NOT, token.ADD, token.SUB:
	default: // comparisons, && and ||, and arithmetic that some processors do in variable time
		c.refuse(n, "operand of "+op.String(), x, y)
	}
}

// call reports a secret that leaves the package, or goes to a parameter that isn't listed.
func (c *checker) call(n *ast.CallExpr) {
	name := callee(n)
	if slices.Contains([]string{"len", "clear", "byte", "io.ReadFull"}, name) {
		return
	}
	listing, ours := secrets[name]
	if !ours {
		c.refuse(n, "argument of "+name, n.Args...)
		return
	}
	for i, argument := range n.Args {
		if !slices.Contains(listing.parameters, i) {
			c.refuse(n, "public parameter of "+name, argument)
		}
	}
}

func (c *checker) refuse(n ast.Node, use string, expressions ...ast.Expr) {
	for _, e := range expressions {
		if e != nil && c.secret(e) {
			c.problem(n, "%s: a secret as %s (secret here: %v)", c.function.Name.Name, use,
				slices.Sorted(maps.Keys(c.tainted)))
		}
	}
}

func (c *checker) problem(n ast.Node, format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf("%d: ", c.fset.Position(n.Pos()).Line)+fmt.Sprintf(format, args...))
}

// isSlice reports whether e is a listed name that isn't a byte: ranging over it takes its length of rounds.
func (c *checker) isSlice(e ast.Expr) bool {
	name, ok := e.(*ast.Ident)
	if !ok || !slices.Contains(c.named, name.Name) {
		return false
	}
	for _, field := range c.function.Type.Params.List {
		for _, parameter := range field.Names {
			if parameter.Name == name.Name {
				return strings.HasPrefix(render(field.Type), "[]")
			}
		}
	}
	return true
}

func callee(n *ast.CallExpr) string { return render(n.Fun) }

// render writes the expressions that the check compares by text.
func render(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.BasicLit:
		return e.Value
	case *ast.SelectorExpr:
		return render(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		if len(e.Args) == 1 {
			return render(e.Fun) + "(" + render(e.Args[0]) + ")"
		}
	case *ast.BinaryExpr:
		return render(e.X) + " " + e.Op.String() + " " + render(e.Y)
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + render(e.Elt)
		}
	}
	return fmt.Sprintf("%T", e)
}
