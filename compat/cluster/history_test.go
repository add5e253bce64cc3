package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A cell is a secret of each version of key/value and three tokens that may change it: a parent, its child, and one that
// can be used a few times. No cell has to do with another, so each is checked alone; and whatever happens to one cell's
// secrets and tokens must fit into one order.

// who asks.
type who int

const (
	asRoot who = iota
	asParent
	asChild
	asLimited
	people
)

func (w who) String() string { return [...]string{"root", "parent", "child", "limited"}[w] }

// uses is how often the limited token of a cell can be used.
const uses = 5

// what is asked for.
type what int

const (
	readTwo what = iota // of key/value 2
	writeTwo
	casTwo
	readOne // of key/value 1
	writeOne
	deleteOne
	lookUp   // of the token by itself
	create   // a child of the token, which its maker must be able to use at once
	revoke   // of the token target, by root
	nextWhat // none
)

func (w what) String() string {
	return [...]string{"read 2", "write 2", "cas 2", "read 1", "write 1", "delete 1", "look up", "create", "revoke"}[w]
}

// request is an operation as it was asked for.
type request struct {
	cell   int
	what   what
	who    who
	target who    // of a revoke
	value  string // of a write: each is unique
	cas    int    // the version that a cas expects
	node   int    // where; nothing depends on it
}

// result is what was answered. Of an operation that failed somehow it is unknown whether and when it takes effect.
type result struct {
	unknown bool
	code    int
	value   string
	version int
}

// state is all that a cell is.
type state struct {
	two     string
	version int
	one     string // empty: there is none
	alive   [people]bool
	uses    int
}

func newState() state { return state{alive: [people]bool{true, true, true, true}, uses: uses} }

// do says what a request must be answered in a state, and what the state is then.
func (s state) do(r request) (result, state) {
	if !s.alive[r.who] {
		return result{code: 403}, s
	}
	if r.who == asLimited { // even if it comes to nothing
		s.uses--
		s.alive[asLimited] = s.uses > 0
	}
	switch r.what {
	case readTwo:
		if s.version == 0 {
			return result{code: 404}, s
		}
		return result{code: 200, value: s.two, version: s.version}, s
	case casTwo, writeTwo:
		if r.what == casTwo && r.cas != s.version {
			return result{code: 400}, s
		}
		s.version++
		s.two = r.value
		return result{code: 200, version: s.version}, s
	case readOne:
		if s.one == "" {
			return result{code: 404}, s
		}
		return result{code: 200, value: s.one}, s
	case writeOne:
		s.one = r.value
		return result{code: 204}, s
	case deleteOne:
		s.one = ""
		return result{code: 204}, s
	case revoke: // also of what is dead
		s.alive[r.target] = false
		if r.target == asParent {
			s.alive[asChild] = false
		}
		return result{code: 204}, s
	}
	return result{code: 200}, s // lookUp, create
}

// changes reports whether a request can have an effect; of one that can't, a failure need not be remembered.
func (r request) changes() bool {
	switch r.what {
	case readTwo, readOne, lookUp, create:
		return r.who == asLimited
	}
	return true
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		cells := map[int][]porcupine.Operation{}
		for _, op := range history {
			cell := op.Input.(request).cell
			cells[cell] = append(cells[cell], op)
		}
		var list [][]porcupine.Operation
		for _, ops := range cells {
			list = append(list, ops)
		}
		return list
	},
	Init: func() any { return newState() },
	Step: func(before, input, output any) (bool, any) {
		got := output.(result)
		want, after := before.(state).do(input.(request))
		return got.unknown || got == want, after
	},
	DescribeOperation: func(input, output any) string {
		r, got := input.(request), output.(result)
		text := fmt.Sprintf("%c: %s as %s", 'A'+r.node, r.what, r.who)
		switch r.what {
		case writeTwo, writeOne:
			text += " " + r.value
		case casTwo:
			text += fmt.Sprintf(" %s over %d", r.value, r.cas)
		case revoke:
			text += " of " + r.target.String()
		}
		if got.unknown {
			return text + ": ?"
		}
		return fmt.Sprintf("%s: %d %s %d", text, got.code, got.value, got.version)
	},
	DescribeState: func(s any) string { return fmt.Sprintf("%+v", s) },
}

// history is what clients saw. It is safe for concurrent use.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func newHistory() *history { return &history{began: time.Now()} }

// forever is when an operation returns of which nobody knows when it takes effect.
const forever = int64(1) << 62

func (h *history) now() int64 { return int64(time.Since(h.began)) }

func (h *history) add(client int, r request, call int64, got result) {
	end := h.now()
	if got.unknown {
		end = forever
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: r, Call: call, Output: got, Return: end})
}

// judge says whether the history fits into one order. It takes far less than the time that it may take.
func (h *history) judge() (porcupine.CheckResult, porcupine.LinearizationInfo) {
	return porcupine.CheckOperationsVerbose(model, h.ops, 2*time.Minute)
}

// check fails the test, and leaves a picture, if the history has no order.
func (h *history) check(t *testing.T) {
	t.Helper()
	verdict, info := h.judge()
	if verdict == porcupine.Ok {
		return
	}
	dir := os.Getenv("QUORATE_PICTURES")
	if dir == "" {
		dir = os.TempDir()
	}
	file := filepath.Join(dir, fmt.Sprintf("quorate-history-%d.html", time.Now().UnixNano()))
	if err := porcupine.VisualizePath(model, info, file); err != nil {
		t.Error(err)
	}
	t.Errorf("the history of %d operations is not linearizable (%s): see %s", len(h.ops), verdict, file)
}

// afterRevocation finds in plain words what the check of the order would find too: a token that was used after its
// revocation had been acknowledged.
func (h *history) afterRevocation() (problems []string) {
	type key struct {
		cell int
		who  who
	}
	dead := map[key]int64{} // since when
	for _, op := range h.ops {
		r, got := op.Input.(request), op.Output.(result)
		if r.what != revoke || got.code != 204 {
			continue
		}
		tokens := []who{r.target}
		if r.target == asParent {
			tokens = append(tokens, asChild)
		}
		for _, w := range tokens {
			k := key{r.cell, w}
			if since, ok := dead[k]; !ok || op.Return < since {
				dead[k] = op.Return
			}
		}
	}
	for _, op := range h.ops {
		r, got := op.Input.(request), op.Output.(result)
		since, ok := dead[key{r.cell, r.who}]
		if ok && op.Call > since && !got.unknown && got.code != 403 {
			problems = append(problems, fmt.Sprintf("cell %d: %s, after its token's revocation was acknowledged", r.cell, model.DescribeOperation(r, got)))
		}
	}
	return problems
}
