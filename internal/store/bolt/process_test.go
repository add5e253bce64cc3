package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/store"
)

// The environment of a child: what it shall do, and with which file.
const (
	childEnv     = "QUORATE_TEST_BOLT_CHILD"
	childFileEnv = "QUORATE_TEST_BOLT_FILE"
)

// runChild is the whole life of a child process.
func runChild(what, path string) (exitCode int) {
	s, err := Open(path, Options{})
	if err != nil {
		fmt.Println(err)
		return 0
	}
	switch what {
	case "open":
		fmt.Println("opened")
		err = s.Close()
	case "count":
		err = countForEver(s)
	case "fill":
		err = fillToTheLimit(s)
	default:
		err = errors.New("no such child")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

type child struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startChild(t *testing.T, what, path string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what, childFileEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() }) // when the test fails half-way
	return &child{cmd, bufio.NewReader(out)}
}

// wait returns what the child printed until it ended well.
func (c *child) wait(t *testing.T) string {
	t.Helper()
	out, err := io.ReadAll(c.out)
	if err := errors.Join(err, c.cmd.Wait()); err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	return string(out)
}

// kill ends the child in the middle of whatever it does, and returns the rest of what it printed.
func (c *child) kill(t *testing.T) string {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(c.out)
	c.cmd.Wait()
	return string(out)
}

const countWriters = 4

// countForEver increments counters and prints each value that was acknowledged. Every transaction also writes a second
// key, which must never differ from the first.
func countForEver(s *Store) error {
	var wg sync.WaitGroup
	for w := range countWriters {
		wg.Go(func() {
			for {
				var n int
				err := s.Update(context.Background(), func(tx store.Tx) error {
					values, err := tx.Get(fmt.Sprintf("a/%d", w))
					if err != nil {
						return err
					}
					n, _ = strconv.Atoi(string(values[0]))
					n++
					return errors.Join(tx.Put(fmt.Sprintf("a/%d", w), strconv.AppendInt(nil, int64(n), 10)),
						tx.Put(fmt.Sprintf("b/%d", w), strconv.AppendInt(nil, int64(n), 10)),
						tx.Put(fmt.Sprintf("log/%d/%08d", w, n), nil))
				})
				if err != nil {
					fmt.Println("error", err)
					return
				}
				fmt.Printf("%d %d\n", w, n)
			}
		})
	}
	wg.Wait()
	return nil
}

// A process that is killed loses nothing that it acknowledged, and leaves no half of a transaction.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorate.db")
	acknowledged := make([]int, countWriters)
	for round := range 6 {
		c := startChild(t, "count", path)
		var lines strings.Builder
		for range 20 + 17*round { // a different moment each time
			line, err := c.out.ReadString('\n')
			if err != nil {
				t.Fatalf("child: %v, after %q", err, lines.String())
			}
			lines.WriteString(line)
		}
		lines.WriteString(c.kill(t))
		noteAcknowledged(t, lines.String(), acknowledged)

		s := reopen(t, path)
		for w, least := range acknowledged {
			a, _ := get(s, fmt.Sprintf("a/%d", w))
			b, _ := get(s, fmt.Sprintf("b/%d", w))
			n, _ := strconv.Atoi(a)
			if a != b {
				t.Errorf("round %d: half a transaction: %q and %q", round, a, b)
			}
			if n < least || n > least+1 { // the one more was being written
				t.Errorf("round %d: writer %d had %d acknowledged, %d are there", round, w, least, n)
			}
			wantLog(t, s, w, n)
			acknowledged[w] = n
		}
		checkFile(t, s, path)
	}
}

// noteAcknowledged takes the last number of each writer; a line that was cut off doesn't count.
func noteAcknowledged(t *testing.T, out string, acknowledged []int) {
	t.Helper()
	lines := strings.SplitAfter(out, "\n")
	for _, line := range lines {
		var w, n int
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%d %d\n", &w, &n); err != nil {
			t.Fatalf("child says %q", line)
		}
		if n != acknowledged[w]+1 {
			t.Errorf("writer %d went from %d to %d", w, acknowledged[w], n)
		}
		acknowledged[w] = n
	}
}

func wantLog(t *testing.T, s *Store, w, n int) {
	t.Helper()
	entries := 0
	err := s.View(context.Background(), func(r store.Reader) error {
		for _, err := range r.Scan(fmt.Sprintf("log/%d/", w), "") {
			if err != nil {
				return err
			}
			entries++
		}
		return nil
	})
	if err != nil || entries != n {
		t.Errorf("writer %d has counted to %d, with %d log entries (%v)", w, n, entries, err)
	}
}
