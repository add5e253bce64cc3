package promises

import (
	"fmt"
	"slices"
	"testing"

	"filippo.io/age"
)

// change is a rekey, or a rotation of the root key, from 3 of 4 shares to others.
type change struct {
	kind              string
	shares, threshold int
	verify, all       bool
	rotate            bool // the root key as well
	age               bool // the new shares come encrypted
	signed            bool // consent by signature, where it may be
}

func (c change) String() string {
	return fmt.Sprintf("%s/to=%dof%d,verify=%t,all=%t,rotate=%t,age=%t,signed=%t", c.kind, c.threshold, c.shares, c.verify, c.all, c.rotate, c.age, c.signed)
}

// changes are the ways in which the holders can change: thresholds kept, raised and lowered, down to one share alone, with each
// verification.
// The rest is spread over them.
func changes() (list []change) {
	for _, numbers := range [][2]int{{4, 3}, {5, 4}, {3, 2}, {1, 1}} {
		for _, v := range [][2]bool{{false, false}, {true, false}, {true, true}} {
			i := len(list)/2 + len(list)/6
			c := change{kind: "rekey", shares: numbers[0], threshold: numbers[1], verify: v[0], all: v[1], rotate: i%2 == 1, age: i%3 == 1, signed: i%2 == 0}
			list = append(list, c)
			c.kind, c.rotate, c.age, c.signed = "rotate-root", !c.rotate, !c.age, !c.signed
			list = append(list, c)
		}
	}
	return list
}

// renewal is one change on its way, and what its people hold.
type renewal struct {
	change
	a          asker // the server that runs now
	keys       []*age.X25519Identity
	recipients []string
	old, next  []seat
	nonce      string
}

func newRenewal(t *testing.T, c change, a asker) *renewal {
	t.Helper()
	r := &renewal{change: c, a: a}
	if c.age {
		r.keys, r.recipients = identities(t, c.shares)
	}
	id := a.want(200, "GET", ceremonies, nil)["data"].(map[string]any)
	r.old = seatsOf(a.server.Shares, id["cluster_id"].(string), uint64(id["generation"].(float64)))
	return r
}

// carry does what is still to do, from wherever the change stands, as people do who have lost a reply. It ends early,
// and says so, when the server fails.
func (r *renewal) carry(t *testing.T) (failed bool) {
	t.Helper()
	for range 20 {
		if r.nonce == "" {
			if failed = r.start(t); failed {
				return true
			}
		}
		c := r.a.look(r.nonce)
		switch {
		case c.State == "open":
			failed = r.approve(t, c)
		case c.State == "cancelled":
			r.nonce, r.next = "", nil
		case r.next == nil:
			failed = r.again(t, c)
		case c.State == "verifying":
			failed = r.prove(t, c)
		case c.State == "complete":
			return false
		default:
			t.Fatalf("the change stands as %+v", c)
		}
		if failed {
			return true
		}
	}
	t.Fatal("the change comes to no end")
	return true
}

// do makes one request of the change, and demands that it works or that the server is gone.
func (r *renewal) do(t *testing.T, method, path string, body fields) (reply *shown, failed bool) {
	t.Helper()
	code, got, text := r.a.ask(method, path, body)
	switch {
	case code >= 500:
		return nil, true
	case code != 200 && code != 204:
		t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return asShown(t, got), false
}

func (r *renewal) start(t *testing.T) (failed bool) {
	t.Helper()
	list := r.a.want(200, "GET", ceremonies, nil)["data"].(map[string]any)
	if open := texts(list["keys"]); len(open) > 0 { // the reply to the start was lost
		r.nonce = open[0]
		return false
	}
	body := fields{
		"kind": r.kind, "secret_shares": r.shares, "secret_threshold": r.threshold, "rotate": r.rotate, "require_verification": r.verify,
		"verify_all": r.all, "reason": "a holder leaves",
	}
	if r.age {
		body["age_recipients"] = r.recipients
	}
	c, failed := r.do(t, "POST", ceremonies, body)
	if !failed {
		r.nonce = c.Nonce
	}
	return failed
}

// approve is the consent of the next present holder. New shares that come in clear and at once are given to a share only.
func (r *renewal) approve(t *testing.T, c *shown) (failed bool) {
	t.Helper()
	i := slices.IndexFunc(r.old, func(s seat) bool {
		return !slices.ContainsFunc(c.Approvals, func(a struct{ Slot int }) bool { return a.Slot == s.slot })
	})
	body := r.old[i].gives()
	if last := c.Progress+1 == c.Required; r.signed && (!last || r.age || r.verify) {
		body = r.old[i].approves(c.attempt())
	}
	done, failed := r.do(t, "POST", ceremonies+"/"+r.nonce+"/approve", body)
	if !failed {
		r.received(t, done)
	}
	return failed
}

// received takes the new shares out of a reply that carries them.
func (r *renewal) received(t *testing.T, c *shown) {
	t.Helper()
	if len(c.Keys) == 0 {
		return
	}
	if len(c.Keys) != r.shares {
		t.Fatalf("%d shares came, want %d", len(c.Keys), r.shares)
	}
	list := c.Keys
	if r.age {
		list = nil
		for i, message := range c.KeysBase64 {
			list = append(list, opened(t, r.keys[i], message))
		}
	}
	r.next = seatsOf(unhex(t, list), r.old[0].clusterID, 0)
	table := r.a.want(200, "GET", ceremonies+"/holders", nil)["data"].(map[string]any)
	for _, g := range table["generations"].([]any) { // the new shares are of the latest generation there is
		for i := range r.next {
			r.next[i].generation = max(r.next[i].generation, uint64(g.(map[string]any)["generation"].(float64)))
		}
	}
}

// again asks for new shares whose reply was lost. Where nobody can have them any more nothing is lost either: the
// change is cancelled, and the old shares go on.
func (r *renewal) again(t *testing.T, c *shown) (failed bool) {
	t.Helper()
	if r.age {
		done, failed := r.do(t, "GET", ceremonies+"/"+r.nonce+"/result", nil)
		if !failed {
			r.received(t, done)
		}
		return failed
	}
	last := c.Approvals[len(c.Approvals)-1].Slot - 1
	code, reply, text := r.a.ask("POST", ceremonies+"/"+r.nonce+"/approve", r.old[last].gives())
	switch {
	case code == 200:
		r.received(t, asShown(t, reply))
		return false
	case code < 500 && r.signed && c.State == "verifying":
		_, failed = r.do(t, "DELETE", ceremonies+"/"+r.nonce, nil)
		return failed
	}
	t.Fatalf("the new shares can't be had again: %d %s", code, text)
	return false
}

// prove is the proof of the next new holder.
func (r *renewal) prove(t *testing.T, c *shown) (failed bool) {
	t.Helper()
	s := r.next[c.Verification.Progress]
	body := s.gives()
	if r.signed {
		body = s.proves(c.Verification.Nonce)
	}
	_, failed = r.do(t, "POST", ceremonies+"/"+r.nonce+"/verify", body)
	return failed
}
