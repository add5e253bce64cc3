package shamir

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// TestSharesOfTheVaultFamily combines shares that Vault 0.10.4's own shamir package made. Their x coordinates are
// random; the last threshold shares are tried as well as the first, so that more than one set is.
func TestSharesOfTheVaultFamily(t *testing.T) {
	b, err := os.ReadFile("testdata/vault-family.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret    string
		Threshold int
		Shares    []string
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range vectors {
		shares := make([][]byte, len(v.Shares))
		for i, s := range v.Shares {
			if shares[i], err = hex.DecodeString(s); err != nil {
				t.Fatal(err)
			}
		}
		last := slices.Clone(shares[len(shares)-v.Threshold:])
		for name, set := range map[string][][]byte{"first": shares[:v.Threshold], "last": last} {
			key, err := Combine(set, v.Threshold)
			if err != nil || hex.EncodeToString(key) != v.Secret {
				t.Errorf("%d of %d, %s: %x, %v", v.Threshold, len(shares), name, key, err)
			}
		}
	}
}
