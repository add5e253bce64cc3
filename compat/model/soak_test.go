package model

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/inmem"
)

// soaked is a node that lives through days of fake time.
type soaked struct {
	*testing.T
	st     *inmem.Store
	node   *node.Node
	shares [][]byte
}

func newSoaked(t *testing.T) *soaked {
	s := &soaked{T: t, st: inmem.New()}
	var err error
	// The bubble's time begins in the year 2000.
	if s.node, err = node.New(node.Options{Store: s.st, SweepInterval: 5 * time.Minute, RootTokenTTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	res, err := s.node.Init(t.Context(), node.InitRequest{Shares: 5, Threshold: 3})
	if err != nil {
		t.Fatal(err)
	}
	s.shares = res.Keys
	for i := range 3 {
		if _, err := s.node.Unseal(t.Context(), secret.Copy(s.shares[i]), false, ""); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// records counts what is in the store, the transcript aside.
func (s *soaked) records() (n int) {
	err := s.st.View(s.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			if !strings.HasPrefix(e.Key, "plain/transcript/") {
				n++
			}
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *soaked) credential(slot int) node.Credential {
	return node.Credential{Share: secret.Copy(s.shares[slot-1])}
}

// begin starts an attempt of a kind by the holder of a slot; every other one signs, so that starts are remembered.
func (s *soaked) begin(k ceremony.Kind, slot int, signed bool) *ceremony.Attempt {
	req := node.StartRequest{Kind: k, Reason: "soak"}
	var parameters []ceremony.Parameter
	switch k {
	case ceremony.Rekey, ceremony.RotateRoot:
		signed = false
		req.Rekey = node.RekeyRequest{Shares: 5, Threshold: 3, Verify: true}
	case ceremony.Holders:
		for i := range 5 {
			label := fmt.Sprint("holder ", i+1)
			req.Labels = append(req.Labels, label)
			parameters = append(parameters, ceremony.Parameter{Name: fmt.Sprintf("holder.%03d", i+1), Value: label})
		}
	case ceremony.Drill:
		req.TTL = time.Hour
	}
	who := node.Asker{Credential: s.credential(slot)}
	if signed {
		id, _, err := s.node.HolderTable(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		who.SignedAt = time.Now().UTC().Truncate(time.Millisecond)
		start := ceremony.Start{ClusterID: id, Generation: 1, Kind: k, Parameters: parameters, Reason: "soak", TTL: req.TTL, At: who.SignedAt}
		if k == ceremony.RootToken {
			start.Recipient = "otp"
		}
		key := holder.Derive(secret.Copy(s.shares[slot-1]), id, 1)
		who.Credential = node.Credential{Slot: slot, Signature: key.Sign(start.Statement(slot))}
		key.Wipe()
	}
	c, err := s.node.Start(s.Context(), node.GenerateRoot, who, req)
	if err != nil {
		s.Fatalf("start of a %s: %v", k, err)
	}
	return c.Attempt
}

// round is one attempt of each kind and what becomes of it: cancelled, expired, completed, or given up while the new
// holders verify.
func (s *soaked) round(i int) {
	for j, k := range []ceremony.Kind{ceremony.RootToken, ceremony.Drill, ceremony.Holders, ceremony.Rekey, ceremony.RotateRoot} {
		a := s.begin(k, 1+i%5, i%2 == 0)
		approvals := (i + j) % 4
		if k == ceremony.Drill {
			approvals++
		}
		for slot := 1; slot <= approvals; slot++ {
			c, err := s.node.Approve(s.Context(), k, node.GenerateRoot, a.Nonce, node.Approver{Credential: s.credential(slot)})
			if slot <= a.Threshold && err != nil {
				s.Fatalf("%s: approval %d: %v", k, slot, err)
			}
			if err == nil && c.State == node.Verifying {
				s.proveOne(c)
			}
		}
		for range 3 { // strangers, who must leave nothing behind
			if _, err := s.node.Start(s.Context(), node.GenerateRoot, node.Asker{}, node.StartRequest{Kind: k}); err == nil {
				s.Fatal("a stranger started")
			}
			bad := s.credential(1)
			bad.Share.Reveal()[7] ^= 1
			if _, err := s.node.Approve(s.Context(), k, node.GenerateRoot, a.Nonce, node.Approver{Credential: bad}); err == nil {
				s.Fatal("a damaged share was accepted")
			}
		}
		if expires := i%3 == 0; expires && k != ceremony.Rekey && k != ceremony.RotateRoot {
			continue
		}
		for slot := 1; slot <= 5; slot++ { // whoever may, or enough who object
			if _, over, err := s.node.Cancel(s.Context(), k, "", node.Asker{Credential: s.credential(slot)}); err != nil {
				s.Fatal(err)
			} else if over {
				break
			}
		}
	}
	time.Sleep(61 * time.Minute)
	synctest.Wait()
}

// proveOne is a new holder who comes in vain: the others never do.
func (s *soaked) proveOne(c *node.Ceremony) {
	share := node.Credential{Share: secret.Copy(c.Keys[0])}
	if _, err := s.node.Verify(s.Context(), c.Kind, c.Verification.Nonce, node.Approver{Credential: share}); err != nil {
		s.Fatal(err)
	}
}

// T69: days of attempts that are cancelled, expire or complete leave the store and the process as small as they were.
func TestSoak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSoaked(t)
		defer s.node.Close()
		const warm, days = 12, 72
		var records, goroutines int
		for i := range days {
			s.round(i)
			if i == warm {
				records, goroutines = s.records(), runtime.NumGoroutine()
			}
			if i > warm && s.records() > records+8 {
				t.Fatalf("after %d hours %d records, after %d %d", i, s.records(), warm, records)
			}
		}
		if n := runtime.NumGoroutine(); n > goroutines {
			t.Errorf("%d goroutines, after %d hours %d", n, warm, goroutines)
		}
		t.Logf("records: %d after %d hours, %d after %d; %d goroutines", records, warm, s.records(), days, runtime.NumGoroutine())
	})
}
