package enginetest_test

import (
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/engine/enginetest"
)

func TestConformance(t *testing.T) { enginetest.Run(t, New) }

func TestLock(t *testing.T) {
	s := enginetest.New(t, New())
	s.Want(404, engine.Read, "locks/Deploy", "")
	s.Want(204, engine.Update, "locks/deploy", `{"ttl":"10m"}`)
	if a := s.Want(200, engine.Read, "locks/deploy", ""); a.Data["mine"] != true || a.Data["ttl"] != 600.0 {
		t.Errorf("%v", a.Data)
	}
	s.Holder = "another"
	s.Want(400, engine.Update, "locks/deploy", "")
	s.Want(400, engine.Delete, "locks/deploy", "")
	s.Now = s.Now.Add(10 * time.Minute)
	s.Want(404, engine.Read, "locks/deploy", "")
	s.Want(204, engine.Update, "locks/deploy", "")
	s.Now = s.Now.Add(24 * time.Hour)
	s.Sweep()
	s.Want(404, engine.List, "locks", "")
}
