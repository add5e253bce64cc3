package promises

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/storetest"
)

// way is one of the ways to a root token.
type way struct {
	name    string
	start   request
	token   string                               // in the header of the start: data in the first seed
	approve func(nonce string) (request, string) // and where in the reply the encoded token is
	decode  func(t *testing.T, started fields, encoded string) string
}

func field(reply fields, name string) any {
	if data, ok := reply["data"].(map[string]any); ok {
		return data[name]
	}
	return reply[name]
}

// ways are all of them. The token that comes encrypted to age recipients comes to two people, of whom each can read it.
func ways(t *testing.T) []way {
	keys, recipients := identities(t, 2)
	const own, chosen = "OtpOfWhoBeganItOtpOfWho0", "q.ChosenChosenChosen1234"
	update := func(path string) func(string) (request, string) {
		return func(nonce string) (request, string) {
			return request{"PUT", path, fields{"nonce": nonce}}, "encoded_token"
		}
	}
	native := func(nonce string) (request, string) {
		return request{"POST", ceremonies + "/" + nonce + "/approve", nil}, "encoded_token"
	}
	otp := func(t *testing.T, started fields, encoded string) string {
		return decode(t, encoded, field(started, "otp").(string))
	}
	return []way{
		{"generate-root", request{"PUT", attempt, nil}, "", update("sys/generate-root/update"), otp},
		{"generate-root-token", request{"PUT", "sys/generate-root-token/attempt", nil}, "", update("sys/generate-root-token/update"), otp},
		{"root-generation", request{"PUT", "sys/root-generation/attempt", nil}, chosen, update("sys/root-generation/update"), func(*testing.T, fields, string) string { return chosen }},
		{"native", request{"POST", ceremonies, fields{"kind": "root-token"}}, "", native, otp},
		{"native-own-otp", request{"POST", ceremonies, fields{"kind": "root-token", "otp": own}}, "", native, func(t *testing.T, _ fields, encoded string) string { return decode(t, encoded, own) }},
		{"native-age", request{"POST", ceremonies, fields{"kind": "root-token", "age_recipients": strings.Join(recipients, ","), "root_token_ttl": "1h"}}, "", native, func(t *testing.T, _ fields, encoded string) string {
			token := opened(t, keys[0], encoded)
			if opened(t, keys[1], encoded) != token {
				t.Error("the two recipients have different tokens")
			}
			return token
		}},
		{"native-started-at-the-seed", request{"PUT", attempt, nil}, "", native, otp},
	}
}

// rootTokens are the live root tokens. :: nonce of the ceremony, or init → how many
func (a asker) rootTokens() map[string]int {
	a.t.Helper()
	list := map[string]int{}
	reply := a.with(a.server.Root).want(200, "GET", ceremonies+"/root-tokens", nil)
	for _, token := range reply["data"].(map[string]any)["root_tokens"].([]any) {
		list[token.(map[string]any)["ceremony"].(string)]++
	}
	return list
}

// Promise 4, over all ways to a root token: holders who all send what they have, twice and at once; a ceremony that is
// cancelled; and a store that fails as the token is written, whether or not it was.
func TestPromise4EveryWay(t *testing.T) {
	for _, w := range ways(t) {
		t.Run(w.name, func(t *testing.T) {
			st := storetest.NewFaulty(inmem.New())
			s := harness.Start(t, harness.Options{Store: st})
			a := operator(t, s)
			completed := map[string]int{"init": 1}
			same := func(when string) {
				t.Helper()
				if got := a.rootTokens(); fmt.Sprint(got) != fmt.Sprint(completed) {
					t.Errorf("%s: root tokens of %v, completed were %v", when, got, completed)
				}
			}
			start := func() (nonce string, started fields) {
				t.Helper()
				by := a
				if w.token != "" {
					by = a.with(w.token)
				}
				started = by.want(200, w.start.method, w.start.path, w.start.body)
				return field(started, "nonce").(string), started
			}

			nonce, started := start()
			r, name := w.approve(nonce)
			c := a.look(nonce)
			people := seatsOf(s.Shares, c.ClusterID, c.Generation)
			encoded := map[string]bool{}
			complete := 0
			var mu sync.Mutex
			var holders sync.WaitGroup
			for i := range 10 {
				holders.Go(func() {
					credential := people[i/2].gives()
					if i%2 == 1 && i > 5 {
						credential = people[i/2].approves(c.attempt())
					}
					code, reply, _ := a.ask(r.method, r.path, merge(r.body, credential))
					mu.Lock()
					defer mu.Unlock()
					if text, _ := field(reply, name).(string); code == 200 && text != "" {
						encoded[text] = true
					}
					if code == 200 && (field(reply, "complete") == true || field(reply, "state") == "complete") {
						complete++
					}
				})
			}
			holders.Wait()
			completed[nonce] = 1
			same("after ten shares at once")
			if complete == 0 || w.token == "" && len(encoded) != 1 {
				t.Fatalf("%d completions and %d tokens", complete, len(encoded))
			}
			text := ""
			for e := range encoded {
				text = e
			}
			if !a.lives(w.decode(t, started, text)) {
				t.Error("the token of the completed ceremony is dead")
			}
			if w.token != "" { // the next would take it away from its own
				a.with(s.Root).want(204, "POST", "auth/token/revoke", fields{"token": w.token})
				delete(completed, nonce)
			}

			nonce, _ = start()
			r, _ = w.approve(nonce)
			for i := range 2 {
				a.want(200, r.method, r.path, merge(r.body, people[i].gives()))
			}
			a.want(204, "DELETE", ceremonies+"/"+nonce, nil)
			a.want(400, r.method, r.path, merge(r.body, people[2].gives()))
			same("after a cancelled one")

			for _, mode := range []storetest.Mode{storetest.Lost, storetest.Kept} {
				nonce, started = start()
				r, name = w.approve(nonce)
				for i := range 2 {
					a.want(200, r.method, r.path, merge(r.body, people[i].gives()))
				}
				st.FailCommit(1, mode)
				code, reply, _ := a.ask(r.method, r.path, merge(r.body, people[2].gives()))
				if code < 500 || field(reply, name) != nil {
					t.Fatalf("a completion that was not acknowledged: %d %v", code, reply)
				}
				st.Recover()
				if mode == storetest.Kept {
					completed[nonce] = 1
				}
				same("after a failure, " + mode.String())
				completed[nonce] = 1
				last := a.want(200, r.method, r.path, merge(r.body, people[2].gives()))
				again := a.want(200, r.method, r.path, merge(r.body, people[2].gives()))
				if field(last, name) != field(again, name) {
					t.Error("the reply is another one the second time")
				}
				text, _ := field(last, name).(string)
				if !a.lives(w.decode(t, started, text)) {
					t.Error("the token is dead")
				}
				same("after the reply was had again")
				if w.token != "" {
					a.with(s.Root).want(204, "POST", "auth/token/revoke", fields{"token": w.token})
					delete(completed, nonce)
				}
			}
			a.audited()
		})
	}
}

// Promise 4: all ways lead to one slot. Of many who start at once, by all of them, one gets it.
func TestPromise4OneSlot(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	a := operator(t, s)
	var mu sync.Mutex
	codes := map[int]int{}
	var starters sync.WaitGroup
	for _, w := range append(ways(t), ways(t)...) {
		starters.Go(func() {
			by := a
			if w.token != "" {
				by = a.with(w.token)
			}
			code, _, _ := by.ask(w.start.method, w.start.path, w.start.body)
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
		})
	}
	starters.Wait()
	if codes[200] != 1 || codes[400] != 13 {
		t.Errorf("fourteen starts at once: %v", codes)
	}
	if got := a.rootTokens(); len(got) != 1 || got["init"] != 1 {
		t.Errorf("root tokens: %v", got)
	}
}
