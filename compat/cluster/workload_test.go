package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	clients   = 8
	openCells = 4
	cellOps   = 100 // operations in one cell's life
	// cellLost is how many operations of unknown outcome end a cell's life: each doubles what the check has to look at.
	cellLost = 6
	// answerBy is when a client gives up waiting.
	answerBy = 5 * time.Second
)

// cell is where clients meet.
type cell struct {
	id     int
	tokens [people]string

	mu       sync.Mutex // guards what follows
	ops      int
	lost     int
	version  int            // the last that was seen
	accepted map[int]string // :: version → what was acknowledged to be written as it
}

func (c *cell) path(two bool) string {
	if two {
		return fmt.Sprintf("two/data/cell/%d", c.id)
	}
	return fmt.Sprintf("one/cell/%d", c.id)
}

// workload is clients that ask all nodes for everything at once.
type workload struct {
	*cluster
	history  *history
	seed     uint64
	total    int // how many operations are to be answered
	progress *progress

	mu    sync.Mutex // guards what follows
	cells []*cell    // all there ever were; the last openCells are in use
	wrong []string
}

// progress counts what the clients do, for whoever waits until they have done some more.
type progress struct {
	mu                 sync.Mutex
	changed            sync.Cond
	tried, answered    int
	finished           bool
	last               error // why a client got no answer
	byNode, failedNode [3]int
}

func newProgress() *progress {
	p := &progress{}
	p.changed.L = &p.mu
	return p
}

func (p *progress) count(node int, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried++
	if failed == nil {
		p.answered++
		p.byNode[node]++
	} else {
		p.failedNode[node]++
		p.last = failed
	}
	p.changed.Broadcast()
}

// wait waits for so many more tries and answers; false: there is nothing more to come.
func (p *progress) wait(tries, answers int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	tries, answers = p.tried+tries, p.answered+answers
	for !p.finished && (p.tried < tries || p.answered < answers) {
		p.changed.Wait()
	}
	return !p.finished
}

func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = true
	p.changed.Broadcast()
}

func (p *progress) done(total int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered >= total
}

// newWorkload makes a workload of so many operations. The seed is told, and can be given: with it, clients ask for the
// same things, though nothing makes them do so in the same order.
func newWorkload(t *testing.T, c *cluster, total int) *workload {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("QUORATE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("QUORATE_SEED=%d", seed)
	c.mounts()
	w := &workload{cluster: c, history: newHistory(), seed: seed, total: total, progress: newProgress()}
	for range openCells {
		if _, err := w.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// open makes a new cell.
func (w *workload) open(ctx context.Context) (*cell, error) {
	c := &cell{accepted: map[int]string{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	c.id = len(w.cells)
	c.tokens[asRoot] = w.root
	policy := "app"
	if c.id%2 == 1 {
		policy = "root" // a parent that can't expire: its child learns of its end in another way
	}
	for _, make := range []struct {
		who, by who
		body    map[string]any
	}{
		{asParent, asRoot, map[string]any{"policies": []string{policy}}},
		{asChild, asParent, map[string]any{"policies": []string{"app"}}},
		{asLimited, asRoot, map[string]any{"policies": []string{"app"}, "num_uses": uses, "no_parent": true}},
	} {
		m := w.nodes[c.id%len(w.nodes)]
		a, err := m.ask(ctx, "POST", "auth/token/create", c.tokens[make.by], make.body)
		if err != nil {
			return nil, err
		}
		auth, ok := a.body["auth"].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("token create: %d %s", a.code, a.text)
		}
		c.tokens[make.who] = auth["client_token"].(string)
	}
	w.cells = append(w.cells, c)
	return c, nil
}

// pick returns a cell that is in use. One that has lived its life is replaced, as soon as that is possible.
func (w *workload) pick(ctx context.Context, rng *rand.Rand) (*cell, error) {
	w.mu.Lock()
	recent := w.cells[len(w.cells)-openCells:]
	c := recent[rng.IntN(openCells)]
	oldest := recent[0]
	w.mu.Unlock()
	if oldest.over() {
		ctx, cancel := context.WithTimeout(ctx, answerBy)
		defer cancel()
		if _, err := w.open(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cell) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops >= cellOps || c.lost >= cellLost
}

// run lets the clients work until enough has been answered.
func (w *workload) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w.seed, uint64(i)))
			shy := false // after a failure only reads are tried, until one succeeds
			for n := 0; !w.progress.done(w.total) && ctx.Err() == nil; n++ {
				node := rng.IntN(len(w.nodes))
				c, err := w.pick(ctx, rng)
				if err != nil {
					w.progress.count(node, err)
					continue
				}
				r := c.think(rng, fmt.Sprintf("%d-%d", i, n))
				if r.node = node; shy {
					r = request{cell: c.id, what: readTwo, node: node}
				}
				err = w.do(ctx, i, c, r)
				w.progress.count(node, err)
				shy = err != nil
			}
		})
	}
	wg.Wait()
	w.progress.finish()
}

// think makes up what to ask for.
func (c *cell) think(rng *rand.Rand, value string) request {
	r := request{cell: c.id, value: value}
	switch n := rng.IntN(100); {
	case n < 28:
		r.what = readTwo
	case n < 44:
		r.what = writeTwo
	case n < 60:
		r.what = casTwo
	case n < 70:
		r.what = readOne
	case n < 80:
		r.what = writeOne
	case n < 83:
		r.what = deleteOne
	case n < 90:
		r.what = lookUp
	case n < 97:
		r.what = create
	default:
		r.what = revoke
		r.target = asParent + who(rng.IntN(int(people-asParent)))
		return r
	}
	switch n := rng.IntN(100); {
	case n < 35:
	case n < 60:
		r.who = asParent
	case n < 85:
		r.who = asChild
	case r.what != create: // children of a token with few uses are another story
		r.who = asLimited
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.cas = c.version
	return r
}

// wire says how a request is sent.
func (c *cell) wire(r request) (method, path string, body any) {
	value := map[string]string{"value": r.value}
	switch r.what {
	case readTwo:
		return "GET", c.path(true), nil
	case writeTwo:
		return "POST", c.path(true), map[string]any{"data": value}
	case casTwo:
		return "POST", c.path(true), map[string]any{"data": value, "options": map[string]int{"cas": r.cas}}
	case readOne:
		return "GET", c.path(false), nil
	case writeOne:
		return "POST", c.path(false), value
	case deleteOne:
		return "DELETE", c.path(false), nil
	case create:
		return "POST", "auth/token/create", map[string]any{}
	case revoke:
		return "POST", "auth/token/revoke", map[string]string{"token": c.tokens[r.target]}
	}
	return "GET", "auth/token/lookup-self", nil
}

// do asks once and remembers what came of it, unless that says nothing. The error says why there was no answer.
func (w *workload) do(ctx context.Context, client int, c *cell, r request) error {
	made, err := w.doAs(ctx, client, c, r, c.tokens[r.who])
	if made != "" { // a child must live as long as its parent, from the moment that its maker knows it
		w.doAs(ctx, client, c, request{cell: c.id, what: lookUp, who: r.who, node: (r.node + 1) % len(w.nodes)}, made)
	}
	return err
}

func (w *workload) doAs(ctx context.Context, client int, c *cell, r request, token string) (made string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerBy)
	defer cancel()
	method, path, body := c.wire(r)
	call := w.history.now()
	a, err := w.nodes[r.node].ask(ctx, method, path, token, body)
	got := understand(r.what, a)
	if err == nil && a.code >= 500 {
		err = fmt.Errorf("node %c: %d %s", 'A'+r.node, a.code, a.text)
	}
	if err != nil {
		got = result{unknown: true}
		if unsent(err) || !r.changes() {
			return "", err
		}
	}
	w.history.add(client, r, call, got)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ops++
	if got.unknown {
		c.lost++
		return "", err
	}
	c.version = max(c.version, got.version)
	if (r.what == writeTwo || r.what == casTwo) && got.code == 200 {
		if other, ok := c.accepted[got.version]; ok {
			w.problem("%s: %q and %q were both acknowledged as version %d", c.path(true), other, r.value, got.version)
		}
		c.accepted[got.version] = r.value
	}
	if r.what == create && got.code == 200 {
		made = a.body["auth"].(map[string]any)["client_token"].(string)
	}
	return made, nil
}

// understand takes out of an answer what the model knows of.
func understand(asked what, a answer) result {
	got := result{code: a.code}
	if a.code != 200 {
		return got
	}
	number := func(v any) int {
		f, _ := v.(float64)
		return int(f)
	}
	switch asked {
	case readTwo:
		value, _ := a.data("data").(map[string]any)
		meta, _ := a.data("metadata").(map[string]any)
		got.value, _ = value["value"].(string)
		got.version = number(meta["version"])
	case writeTwo, casTwo:
		got.version = number(a.data("version"))
	case readOne:
		got.value, _ = a.data("value").(string)
	}
	return got
}

func (w *workload) problem(format string, a ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, a...))
}

// settle reads everything once more, when all is well again, and holds it against what was acknowledged. It returns what
// was lost.
func (w *workload) settle(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(w.cells); n = int(next.Add(1)) - 1 {
				w.settleCell(ctx, clients+i, w.cells[n])
			}
		})
	}
	wg.Wait()
	return w.wrong
}

func (w *workload) settleCell(ctx context.Context, client int, c *cell) {
	node := c.id % len(w.nodes)
	for _, r := range []request{{what: readTwo}, {what: readOne}, {what: lookUp, who: asParent}, {what: lookUp, who: asChild}} {
		r.cell, r.node = c.id, node
		w.until(ctx, "a last look", func() error { return w.do(ctx, client, c, r) })
	}
	for version, value := range c.accepted {
		w.checkVersion(ctx, w.nodes[(node+1)%len(w.nodes)], c, version, value)
	}
}

func (w *workload) checkVersion(ctx context.Context, m *machine, c *cell, version int, want string) {
	a, err := m.ask(ctx, "GET", fmt.Sprintf("%s?version=%d", c.path(true), version), w.root, nil)
	if got := understand(readTwo, a); err != nil || got.value != want {
		w.problem("%s: %q was acknowledged as version %d, but that is %q (%d, %v)", c.path(true), want, version, got.value, a.code, err)
	}
}
