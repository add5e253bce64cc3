package promises

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/compat/harness"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/httpapi"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/shamir"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/anystore"
	"github.com/quorate/quorate/internal/transcript"
)

// keeper knows all secrets of a cluster, and looks for them where they must not be.
type keeper struct {
	asker
	harness.Canaries
}

// knows takes the shares of a generation: as they are, armoured, without their slots, combined, and the private keys
// that holders derive from them.
func (k *keeper) knows(people []seat, threshold int) {
	k.t.Helper()
	shares := make([][]byte, len(people))
	for i, p := range people {
		shares[i] = p.share
		name := fmt.Sprintf("share %d of generation %d", p.slot, p.generation)
		k.Canaries[name] = p.share
		armoured, err := holder.Armour{
			ClusterID: p.clusterID, Generation: p.generation, Slot: p.slot, Threshold: threshold, Share: secret.Copy(p.share),
		}.Encode()
		if err != nil {
			k.t.Fatal(err)
		}
		k.Canaries[name+", armoured"] = armoured[len("qshare1")+40:] // what is before the share isn't secret
		if len(people) > 1 {
			k.Canaries[name+", without its slot"] = p.share[:32]
		}
		seed, err := hkdf.Key(sha256.New, p.share, []byte(p.clusterID), fmt.Sprintf("quorate/holder-key/v1/%d", p.generation), 32)
		if err != nil {
			k.t.Fatal(err)
		}
		k.Canaries["the private key of "+name] = seed
	}
	unsealKey, err := shamir.Combine(shares[:threshold], threshold)
	if err != nil {
		k.t.Fatal(err)
	}
	k.Canaries[fmt.Sprintf("the unseal key of generation %d", people[0].generation)] = unsealKey
}

// wrongly sends secrets, in the places where they belong and where they don't, in ways that end in an error, to every
// route that reads a body.
func (k *keeper) wrongly(nonce string, texts ...string) {
	k.t.Helper()
	paths := []string{
		"sys/init", "sys/unseal", "sys/decode-token", "auth/token/lookup", "auth/token/create", "sys/no-such-path", attempt, update,
		"sys/generate-root-token/attempt", "sys/generate-root-token/update", "sys/root-generation/update", ceremonies,
	}
	for _, family := range []string{"sys/rekey", "sys/rotate/root"} {
		paths = append(paths, family+"/init", family+"/update", family+"/verify")
	}
	for _, verb := range []string{"/approve", "/verify", "/cancel", "/result"} {
		paths = append(paths, ceremonies+"/"+nonce+verb)
	}
	for _, text := range texts {
		for _, body := range []fields{
			{"key": text + "x", "nonce": text},
			{"key": []string{text}},
			{text: text},
			{"slot": text, "signature": text},
			{"slot": 1, "signature": text, "signed_at": text, "nonce": nonce},
			{"kind": text, "reason": text + "\n", "ttl": text},
			{"kind": "rekey", "secret_shares": text, "secret_threshold": 1, "holders": []string{text}},
			{"kind": "rekey", "secret_shares": 1, "secret_threshold": 1, "pgp_keys": []string{text}},
			{"secret_shares": 1, "secret_threshold": 1, "age_recipients": []string{text}},
			{"kind": "root-token", "age_recipients": text},
			{"kind": "root-token", "otp": text + "x"},
			{"kind": "holders", "holders": []string{text}},
			{"otp": text + "x"},
			{"pgp_key": text},
			{"encoded_token": text, "otp": text + "x"},
			{"token": text + "x", "accessor": text},
		} {
			for _, path := range paths {
				if code, _, reply := k.stranger().with(text+"x").ask("PUT", path, body); code >= 400 {
					k.Absent(k.t, "the error of "+path, []byte(reply))
				}
			}
		}
		for _, path := range []string{ceremonies + "/" + text, "sys/transcript/entries?start=" + text, "sys/transcript/proof?index=" + text, "auth/token/" + text} {
			if code, _, reply := k.stranger().ask("GET", path, nil); code >= 400 {
				k.Absent(k.t, "the error of "+path, []byte(reply))
			}
		}
	}
}

// Promise 7: no secret leaks sideways. No share, armoured or not, token, one-time password or key appears in a log line at
// its lowest level, an error, a metric, a record or the transcript. (The real binary, its files and its log are searched
// in compat/process; the process list in compat/cli, where a share on the command line is refused.)
func TestPromise7(t *testing.T) {
	st := anystore.New(t)
	s := harness.Start(t, harness.Options{OneNode: true, Store: st, Limits: httpapi.Limits{Open: httpapi.Rate{PerSecond: 1e6, Burst: 1e6}}})
	k := &keeper{operator(t, s), harness.Canaries{"the first root token": []byte(s.Root)}}
	c := k.begin(fields{"kind": "root-token", "reason": "first"})
	people := seatsOf(s.Shares, c.ClusterID, 1)
	k.knows(people, 3)
	k.Canaries["the OTP"] = []byte(c.OTP)
	armoured, err := holder.Armour{ClusterID: c.ClusterID, Generation: 1, Slot: 1, Threshold: 3, Share: secret.Copy(people[0].share)}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	k.wrongly(c.Nonce, s.Root, c.OTP, s.Hex(0))
	k.stands(c)

	events := k.watch(c.Nonce)
	k.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", fields{"key": string(armoured)})
	k.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", people[1].approves(c.attempt()))
	done := asShown(t, k.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", people[2].gives()))
	k.Canaries["the new root token"] = []byte(decode(t, done.EncodedToken, c.OTP))
	watched, err := io.ReadAll(events)
	if err != nil || !bytes.Contains(watched, []byte("event: end")) {
		t.Errorf("what was watched: %v %s", err, watched)
	}
	k.Absent(t, "what can be watched", watched)

	const own = "OtpOfWhoBeganItOtpOfWho0"
	k.Canaries["an OTP of the caller's"] = []byte(own)
	c = k.begin(fields{"kind": "root-token", "otp": own})
	k.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", people[1].gives())
	k.want(204, "DELETE", ceremonies+"/"+c.Nonce, people[1].gives())

	people = k.rekeyed(people, fields{"kind": "rekey", "secret_shares": 4, "secret_threshold": 3, "rotate": true}, 3)
	people = k.rekeyed(people, fields{"kind": "rotate-root", "secret_shares": 3, "secret_threshold": 2, "require_verification": false}, 2)
	keys, recipients := identities(t, 3)
	age := fields{"kind": "rekey", "secret_shares": 3, "secret_threshold": 2, "age_recipients": recipients, "backup": true}
	for i, key := range keys {
		k.Canaries[fmt.Sprintf("age key %d", i)] = []byte(key.String())
	}
	k.rekeyed(people, age, 2, func(i int, message string) string { return opened(t, keys[i], message) })
	k.with(s.Root).want(204, "POST", "sys/rotate/root", nil)
	for _, path := range []string{"sys/metrics", "sys/internal/specs/openapi", ceremonies + "/root-tokens", "sys/rotate/config"} {
		code, _, text := k.with(s.Root).ask("GET", path, nil)
		if code != 200 {
			t.Errorf("%s: %d", path, code)
		}
		k.Absent(t, path, []byte(text))
	}
	k.with(s.Root).want(204, "PUT", "sys/seal", nil)
	k.wrongly(c.Nonce, s.Hex(0), string(armoured))
	k.search(st)
}

// rekeyed gives the holders new shares.
func (k *keeper) rekeyed(people []seat, body fields, threshold int, open ...func(i int, message string) string) []seat {
	k.t.Helper()
	c := k.begin(body)
	for _, p := range people[:c.Required] {
		c = asShown(k.t, k.want(200, "POST", ceremonies+"/"+c.Nonce+"/approve", p.gives()))
	}
	list := c.Keys
	if len(open) > 0 {
		list = nil
		for i, message := range c.KeysBase64 {
			list = append(list, open[0](i, message))
		}
	}
	next := seatsOf(unhex(k.t, list), c.ClusterID, people[0].generation+1)
	k.knows(next, threshold)
	k.wrongly(c.Nonce, hex.EncodeToString(next[0].share))
	for i, p := range next {
		if c.Verification == nil {
			break
		}
		proof := p.gives()
		if i%2 == 1 {
			proof = p.proves(c.Verification.Nonce)
		}
		k.want(200, "POST", ceremonies+"/"+c.Nonce+"/verify", proof)
	}
	if now := k.look(c.Nonce); now.State != "complete" {
		k.t.Fatalf("the rekey: %+v", now)
	}
	return next
}

// watch follows a ceremony until its end.
func (k *keeper) watch(nonce string) io.Reader {
	k.t.Helper()
	res, err := http.Get(k.server.URL + "/v1/" + ceremonies + "/" + nonce + "/watch")
	if err != nil || res.StatusCode != 200 {
		k.t.Fatal(res, err)
	}
	k.t.Cleanup(func() { res.Body.Close() })
	return res.Body
}

// search looks at all that may be read afterwards.
func (k *keeper) search(st store.Store) {
	k.t.Helper()
	log := k.server.Log.String()
	if !strings.Contains(log, "request") || strings.Count(log, "\n") < 300 {
		k.t.Errorf("the log is not as talkative as this test needs it:\n%.2000s", log)
	}
	k.Absent(k.t, "the log", []byte(log))
	records := 0
	err := st.View(k.t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			records++
			k.Absent(k.t, "the record "+e.Key, append([]byte(e.Key), e.Value...))
		}
		return nil
	})
	if err != nil || records < 60 {
		k.t.Errorf("%d records were searched, %v", records, err)
	}
	for _, path := range []string{"sys/transcript", "sys/transcript/entries?limit=1000", "sys/transcript/checkpoint", ceremonies + "/holders", "sys/seal-status"} {
		_, _, text := k.ask("GET", path, nil)
		k.Absent(k.t, path, []byte(text))
	}
	file := k.export()
	k.Absent(k.t, "the export", file)
	report, err := transcript.VerifyExport(bytes.NewReader(file), transcript.VerifyOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	var page bytes.Buffer
	if err := transcript.WriteHTML(&page, report); err != nil || page.Len() == 0 {
		k.t.Errorf("the auditor's page: %v", err)
	}
	k.Absent(k.t, "the auditor's page", page.Bytes())
}
