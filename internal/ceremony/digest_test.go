package ceremony

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// The vectors were made by another implementation of the encoding, in another language.
func TestDigestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/digest.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name string `json:"name"`
		Attempt
		StartedMS int64 `json:"started_ms"`
		ExpiresMS int64 `json:"expires_ms"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	seen := map[Digest]string{} // :: digest → name
	for _, v := range vectors {
		a := New(Params{
			Nonce: v.Nonce, Kind: v.Kind, ClusterID: v.ClusterID, Generation: v.Generation, Threshold: v.Threshold,
			Holders: v.Holders, Recipient: v.Recipient, Reason: v.Reason, Initiator: v.Initiator,
			Limits: Limits{Total: time.Duration(v.ExpiresMS-v.StartedMS) * time.Millisecond}, Now: time.UnixMilli(v.StartedMS),
		})
		if a.Digest != v.Digest {
			got, _ := a.Digest.MarshalText()
			t.Errorf("%s: digest %s", v.Name, got)
		}
		if other, ok := seen[a.Digest]; ok {
			t.Errorf("%s and %s have one digest", v.Name, other)
		}
		seen[a.Digest] = v.Name
	}
	if len(vectors) < 9 {
		t.Errorf("%d vectors", len(vectors))
	}
}

// The time zone and what is below a millisecond don't survive storing, so they can't be in the digest.
func TestDigestIsStable(t *testing.T) {
	p := params()
	want := New(p).Digest
	p.Now = p.Now.In(time.FixedZone("", 7200)).Add(999 * time.Microsecond)
	if New(p).Digest != want {
		t.Error("the digest depends on how the time is written")
	}
}

func TestDigestText(t *testing.T) {
	var d Digest
	for _, bad := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("0", 66), strings.Repeat("zz", 32)} {
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}
