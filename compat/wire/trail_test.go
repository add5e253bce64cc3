package wire

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/audit"
)

// trail is the standard output that audit devices of the type stdout write to. It can break.
type trail struct {
	mu     sync.Mutex
	b      bytes.Buffer
	broken bool
}

func (a *trail) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken {
		return 0, errors.New("no space left on device")
	}
	return a.b.Write(b)
}

func (a *trail) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.b.String()
}

// brokers makes those without audit devices yet. They may write to the player's trail, and to a folder of the test.
func (p *player) brokers(t *testing.T) func() *audit.Broker {
	dir := t.TempDir()
	return func() *audit.Broker {
		b := audit.New(audit.Options{Logger: slog.New(slog.DiscardHandler), Now: p.clock.now, Stdout: p.trail, Dir: dir})
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	}
}

func (p *player) auditing(t *testing.T, arg []string) {
	p.trail.mu.Lock()
	defer p.trail.mu.Unlock()
	switch arg[0] {
	case "broken", "whole":
		p.trail.broken = arg[0] == "broken"
	default:
		t.Fatalf("audit devices are broken or whole, not %s", arg[0])
	}
}

// audited wants one entry that holds all the texts.
func (p *player) audited(t *testing.T, arg []string) {
	for line := range strings.Lines(p.trail.String()) {
		found := true
		for _, text := range arg {
			found = found && strings.Contains(line, text)
		}
		if found {
			return
		}
	}
	t.Fatalf("no audit entry holds %q:\n%s", arg, p.trail)
}

func (p *player) unaudited(t *testing.T, arg []string) {
	for _, text := range arg {
		if strings.Contains(p.trail.String(), text) {
			t.Fatalf("%s is in an audit entry", text)
		}
	}
}
