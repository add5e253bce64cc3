package clients

import (
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// A cluster's first day and its nights, by the OpenBao library.
func TestBaoInitUnsealSeal(t *testing.T) {
	s := harness.Start(t, harness.Options{Uninitialised: true})
	c := newBao(t, s.URL).(baoLibrary).Client
	if is, err := c.Sys().InitStatus(); err != nil || is {
		t.Fatalf("initialised %v, %v", is, err)
	}
	if h, err := c.Sys().Health(); err != nil || h.Initialized || !h.Sealed {
		t.Fatalf("health %+v, %v", h, err)
	}
	init, err := c.Sys().Init(&bao.InitRequest{SecretShares: 5, SecretThreshold: 3})
	if err != nil || len(init.Keys) != 5 || len(init.KeysB64) != 5 || init.RootToken == "" {
		t.Fatalf("init: %v", err)
	}
	for i := range 3 {
		st, err := c.Sys().Unseal(init.KeysB64[i])
		if err != nil || st.Sealed != (i < 2) {
			t.Fatalf("share %d: %+v, %v", i, st, err)
		}
	}
	if h, err := c.Sys().Health(); err != nil || h.Sealed || h.Standby || h.ClusterID == "" {
		t.Errorf("health %+v, %v", h, err)
	}
	if _, err := c.Sys().Leader(); err != nil {
		t.Errorf("leader: %v", err)
	}
	if err := c.Sys().Seal(); err == nil {
		t.Error("sealed without a token")
	}
	c.SetToken(init.RootToken)
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Sys().SealStatus(); err != nil || !st.Sealed || st.T != 3 || st.N != 5 {
		t.Errorf("seal status %+v, %v", st, err)
	}
	if _, err := c.Sys().Unseal(init.Keys[0]); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Sys().ResetUnsealProcess(); err != nil || st.Progress != 0 {
		t.Errorf("reset over a local connection: %+v, %v", st, err)
	}
}

// A token's life, by the Vault library.
func TestVaultTokens(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newVault(t, s.URL).(vaultLibrary).Client
	c.SetToken(s.Root)
	created, err := c.Auth().Token().Create(&vault.TokenCreateRequest{
		Policies: []string{"default"}, TTL: "1h", DisplayName: "job", Metadata: map[string]string{"team": "a"},
	})
	if err != nil || created.Auth.LeaseDuration != 3600 || !created.Auth.Renewable {
		t.Fatalf("create: %+v, %v", created.Auth, err)
	}
	accessor := created.Auth.Accessor
	found, err := c.Auth().Token().LookupAccessor(accessor)
	if err != nil || found.Data["id"] != "" || found.Data["display_name"] != "token-job" {
		t.Fatalf("lookup by accessor: %+v, %v", found, err)
	}
	if renewed, err := c.Auth().Token().Renew(created.Auth.ClientToken, 7200); err != nil || renewed.Auth.LeaseDuration != 7200 {
		t.Errorf("renew: %+v, %v", renewed, err)
	}
	user := newVault(t, s.URL).(vaultLibrary).Client
	user.SetToken(created.Auth.ClientToken)
	if self, err := user.Auth().Token().LookupSelf(); err != nil || self.Data["orphan"] != false {
		t.Errorf("lookup-self: %+v, %v", self, err)
	}
	if _, err := user.Auth().Token().Create(&vault.TokenCreateRequest{}); err == nil {
		t.Error("a default token created a child")
	}
	if err := c.Auth().Token().RevokeAccessor(accessor); err != nil {
		t.Fatal(err)
	}
	if _, err := user.Auth().Token().LookupSelf(); err == nil {
		t.Error("alive after its revocation")
	}
	if list, err := c.Logical().List("auth/token/accessors"); err != nil || len(list.Data["keys"].([]any)) != 1 {
		t.Errorf("accessors: %+v, %v", list, err)
	}
}
