package promises

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

const ceremonies = "sys/ceremonies"

// shown is a ceremony as the native API shows it.
type shown struct {
	Nonce        string               `json:"nonce"`
	Kind         ceremony.Kind        `json:"kind"`
	State        string               `json:"state"`
	ClusterID    string               `json:"cluster_id"`
	Generation   uint64               `json:"generation"`
	Threshold    int                  `json:"threshold"`
	Holders      int                  `json:"holders"`
	Parameters   []ceremony.Parameter `json:"parameters"`
	Recipient    string               `json:"recipient"`
	Reason       string               `json:"reason"`
	Initiator    ceremony.Initiator   `json:"initiator"`
	Started      time.Time            `json:"started"`
	Expires      time.Time            `json:"expires"`
	UnapprovedMS int64                `json:"unapproved_ms"`
	IdleMS       int64                `json:"idle_ms"`
	Digest       ceremony.Digest      `json:"digest"`
	Progress     int                  `json:"progress"`
	Required     int                  `json:"required"`
	Objections   []struct{ Slot int } `json:"objections"`
	Verification *shownVerification   `json:"verification"`
	OTP          string               `json:"otp"`
	EncodedToken string               `json:"encoded_token"`
	Keys         []string             `json:"keys"`
	KeysBase64   []string             `json:"keys_base64"`
	Approvals    []struct{ Slot int } `json:"approvals"`
	Checkpoint   string               `json:"checkpoint"`
	RecipientKey string               `json:"recipient_key"`
}

type shownVerification struct {
	Nonce              string
	Generation         uint64
	Progress, Required int
}

// attempt is what a holder at home signs: rebuilt from what is shown, with the digest that this makes.
func (s *shown) attempt() *ceremony.Attempt {
	a := &ceremony.Attempt{
		Nonce: s.Nonce, Kind: s.Kind, ClusterID: s.ClusterID, Generation: s.Generation, Threshold: s.Threshold, Holders: s.Holders,
		Parameters: s.Parameters, Recipient: s.Recipient, Reason: s.Reason, Initiator: s.Initiator, Started: s.Started, Expires: s.Expires,
		Limits: ceremony.Limits{
			Unapproved: time.Duration(s.UnapprovedMS) * time.Millisecond, Idle: time.Duration(s.IdleMS) * time.Millisecond,
			Total: s.Expires.Sub(s.Started),
		},
	}
	a.Digest = a.ComputeDigest()
	return a
}

// asShown reads data of the native API.
func asShown(t *testing.T, reply fields) *shown {
	t.Helper()
	b, err := json.Marshal(reply["data"])
	s := &shown{}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// begin starts a ceremony through the native API.
func (a asker) begin(body fields) *shown {
	a.t.Helper()
	return asShown(a.t, a.want(200, "POST", ceremonies, body))
}

// look reads one.
func (a asker) look(nonce string) *shown {
	a.t.Helper()
	return asShown(a.t, a.want(200, "GET", ceremonies+"/"+nonce, nil))
}

// stands demands that a ceremony stands where it stood.
func (a asker) stands(before *shown) {
	a.t.Helper()
	now := a.look(before.Nonce)
	proofs := func(s *shown) int {
		if s.Verification == nil {
			return -1
		}
		return s.Verification.Progress
	}
	if now.State != before.State || now.Progress != before.Progress || now.Digest != before.Digest || proofs(now) != proofs(before) ||
		len(now.Objections) != len(before.Objections) {
		a.t.Fatalf("the ceremony is now %+v, and was %+v", now, before)
	}
}

// seat is a holder at home: a share and where it belongs.
type seat struct {
	share      []byte
	slot       int
	clusterID  string
	generation uint64
}

// seatsOf gives the shares of a generation their seats.
func seatsOf(shares [][]byte, clusterID string, generation uint64) []seat {
	list := make([]seat, len(shares))
	for i, share := range shares {
		list[i] = seat{share, i + 1, clusterID, generation}
	}
	return list
}

// signs makes the credential of a holder who keeps the share at home.
func (s seat) signs(statement holder.Statement) fields {
	return fields{"slot": s.slot, "signature": base64.StdEncoding.EncodeToString(s.sign(statement))}
}

func (s seat) sign(statement holder.Statement) []byte {
	key := holder.Derive(secret.Copy(s.share), s.clusterID, s.generation)
	defer key.Wipe()
	return key.Sign(statement)
}

func (s seat) approves(a *ceremony.Attempt) fields {
	return s.signs(a.Statement(s.slot, holder.ModeSignature))
}

// proves signs that the holder of a new share has it.
func (s seat) proves(nonce string) fields {
	return s.signs(ceremony.ProveStatement(s.clusterID, s.generation, s.slot, holder.ModeSignature, nonce))
}

func (s seat) gives() fields { return fields{"key": hex.EncodeToString(s.share)} }

func unhex(t *testing.T, texts []string) (list [][]byte) {
	t.Helper()
	for _, text := range texts {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// merge makes one body of several.
func merge(list ...fields) fields {
	all := fields{}
	for _, m := range list {
		for name, v := range m {
			all[name] = v
		}
	}
	return all
}

func texts(v any) (list []string) {
	all, _ := v.([]any)
	for _, text := range all {
		list = append(list, text.(string))
	}
	return list
}

// identities are people with age keys.
func identities(t *testing.T, n int) (keys []*age.X25519Identity, recipients []string) {
	t.Helper()
	for range n {
		k, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		keys, recipients = append(keys, k), append(recipients, k.Recipient().String())
	}
	return keys, recipients
}

// opened decrypts an age message in base64.
func opened(t *testing.T, key *age.X25519Identity, message string) string {
	t.Helper()
	r, err := age.Decrypt(base64.NewDecoder(base64.StdEncoding, strings.NewReader(message)), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
