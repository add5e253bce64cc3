package clients

//lint:file-ignore SA1019 people use the older functions too

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// plan is what both libraries ask of a rekey; kept is what they retrieve of its backup.
type (
	plan = bao.RekeyInitRequest
	kept = bao.RekeyRetrieveResponse
)

// renewal is the part of a client library that gives the holders new shares. Its types are those of the newer library,
// which has all fields of the older.
type renewal struct {
	init        func(*plan) (*bao.RekeyStatusResponse, error)
	status      func() (*bao.RekeyStatusResponse, error)
	update      func(share, nonce string) (*bao.RekeyUpdateResponse, error)
	cancel      func() error
	verifyState func() (*bao.RekeyVerificationStatusResponse, error)
	verify      func(share, nonce string) (*bao.RekeyVerificationUpdateResponse, error)
	restart     func() error
	backup      func() (*kept, error)
	forget      func() error
	setToken    func(string)
	refused     func(error) int
}

func baoRekey(t *testing.T, url string) renewal {
	l := newBao(t, url).(baoLibrary)
	s := l.Sys()
	return renewal{
		s.RekeyInit, s.RekeyStatus, s.RekeyUpdate, s.RekeyCancel, s.RekeyVerificationStatus, s.RekeyVerificationUpdate, s.RekeyVerificationCancel,
		s.RekeyRetrieveBackup, s.RekeyDeleteBackup, l.SetToken, l.Refused,
	}
}

func baoRotateRoot(t *testing.T, url string) renewal {
	l := newBao(t, url).(baoLibrary)
	s := l.Sys()
	return renewal{
		s.RotateRootInit, s.RotateRootStatus, s.RotateRootUpdate, s.RotateRootCancel, s.RotateRootVerificationStatus, s.RotateRootVerificationUpdate,
		s.RotateRootVerificationCancel, s.RotateRootRetrieveBackup, s.RotateRootDeleteBackup, l.SetToken, l.Refused,
	}
}

func vaultRekey(t *testing.T, url string) renewal {
	l := newVault(t, url).(vaultLibrary)
	s := l.Sys()
	status := func(r *vault.RekeyStatusResponse, err error) (*bao.RekeyStatusResponse, error) {
		if err != nil {
			return nil, err
		}
		return &bao.RekeyStatusResponse{
			Nonce: r.Nonce, Started: r.Started, T: r.T, N: r.N, Progress: r.Progress, Required: r.Required, PGPFingerprints: r.PGPFingerprints,
			Backup: r.Backup, VerificationRequired: r.VerificationRequired, VerificationNonce: r.VerificationNonce,
		}, nil
	}
	return renewal{
		init: func(p *plan) (*bao.RekeyStatusResponse, error) {
			return status(s.RekeyInit(&vault.RekeyInitRequest{
				SecretShares: p.SecretShares, SecretThreshold: p.SecretThreshold, PGPKeys: p.PGPKeys, Backup: p.Backup, RequireVerification: p.RequireVerification,
			}))
		},
		status: func() (*bao.RekeyStatusResponse, error) { return status(s.RekeyStatus()) },
		update: func(share, nonce string) (*bao.RekeyUpdateResponse, error) {
			r, err := s.RekeyUpdate(share, nonce)
			if err != nil {
				return nil, err
			}
			u := bao.RekeyUpdateResponse(*r)
			return &u, nil
		},
		cancel: s.RekeyCancel,
		verifyState: func() (*bao.RekeyVerificationStatusResponse, error) {
			r, err := s.RekeyVerificationStatus()
			if err != nil {
				return nil, err
			}
			v := bao.RekeyVerificationStatusResponse(*r)
			return &v, nil
		},
		verify: func(share, nonce string) (*bao.RekeyVerificationUpdateResponse, error) {
			r, err := s.RekeyVerificationUpdate(share, nonce)
			if err != nil {
				return nil, err
			}
			v := bao.RekeyVerificationUpdateResponse(*r)
			return &v, nil
		},
		restart: s.RekeyVerificationCancel,
		backup: func() (*kept, error) {
			r, err := s.RekeyRetrieveBackup()
			if err != nil {
				return nil, err
			}
			k := kept(*r)
			return &k, nil
		},
		forget: s.RekeyDeleteBackup, setToken: l.SetToken, refused: l.Refused,
	}
}

func eachRenewal(t *testing.T, fn func(t *testing.T, s *harness.Server, l renewal)) {
	for name, open := range map[string]func(*testing.T, string) renewal{
		"openbao-rekey": baoRekey, "openbao-rotate-root": baoRotateRoot, "vault-rekey": vaultRekey,
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Shares: 3, Threshold: 2, OneNode: name == "openbao-rotate-root"})
			fn(t, s, open(t, s.URL))
		})
	}
}

// approve gives the present holders' consent, in the ways in which people do, and returns the last reply.
func (l renewal) approve(t *testing.T, s *harness.Server, nonce string) (r *bao.RekeyUpdateResponse) {
	t.Helper()
	var err error
	if _, err = l.update(damaged(s.Hex(0)), nonce); l.refused(err) != 400 {
		t.Errorf("a damaged share: %v", err)
	}
	if _, err = l.update(s.Hex(0), "not the nonce"); l.refused(err) != 400 {
		t.Errorf("a wrong nonce: %v", err)
	}
	for i, share := range []string{s.Hex(0), s.Base64(2)} {
		if r, err = l.update(share, nonce); err != nil || r.Complete != (i == 1) || r.Nonce != nonce {
			t.Fatalf("share %d: %+v, %v", i, r, err)
		}
	}
	return r
}

// opens seals the server and reports whether the shares given unseal it.
func opens(t *testing.T, s *harness.Server, shares ...string) bool {
	t.Helper()
	c := newBao(t, s.URL).(baoLibrary)
	c.SetToken(s.Root)
	if err := c.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
	for _, share := range shares {
		if st, err := c.Sys().Unseal(share); err != nil || !st.Sealed {
			return err == nil
		}
	}
	return false
}

func TestRekey(t *testing.T) {
	eachRenewal(t, func(t *testing.T, s *harness.Server, l renewal) {
		if st, err := l.status(); err != nil || st.Started || st.Required != 2 {
			t.Fatalf("idle: %+v, %v", st, err)
		}
		if err := l.cancel(); err != nil {
			t.Errorf("cancel when idle: %v", err)
		}
		if _, err := l.init(&plan{SecretShares: 2, SecretThreshold: 3}); l.refused(err) != 400 {
			t.Errorf("a threshold above the shares: %v", err)
		}
		st, err := l.init(&plan{SecretShares: 5, SecretThreshold: 3})
		if err != nil || !st.Started || st.Nonce == "" || st.T != 3 || st.N != 5 || st.Required != 2 || st.VerificationRequired {
			t.Fatalf("start: %+v, %v", st, err)
		}
		if _, err := l.init(&plan{SecretShares: 5, SecretThreshold: 3}); l.refused(err) != 400 {
			t.Errorf("a second start: %v", err)
		}
		if _, err := l.update(s.Hex(1), st.Nonce); err != nil {
			t.Fatal(err)
		}
		if now, err := l.status(); err != nil || now.Progress != 1 || now.Nonce != st.Nonce {
			t.Errorf("after one share: %+v, %v", now, err)
		}
		if err := l.cancel(); err != nil {
			t.Fatal(err)
		}
		if st, err = l.init(&plan{SecretShares: 5, SecretThreshold: 3}); err != nil {
			t.Fatal(err)
		}
		done := l.approve(t, s, st.Nonce)
		if len(done.Keys) != 5 || len(done.KeysB64) != 5 || done.VerificationRequired || done.VerificationNonce != "" {
			t.Fatalf("complete: %+v", done)
		}
		if now, err := l.status(); err != nil || now.Started || now.Required != 3 {
			t.Errorf("afterwards: %+v, %v", now, err)
		}
		if !opens(t, s, done.Keys[4], done.KeysB64[0], done.Keys[2]) {
			t.Error("the new shares don't unseal")
		}
		if opens(t, s, s.Hex(0), s.Hex(1)) {
			t.Error("the old shares unseal after the new ones have")
		}
	})
}

func TestRekeyWithVerification(t *testing.T) {
	eachRenewal(t, func(t *testing.T, s *harness.Server, l renewal) {
		if _, err := l.verifyState(); l.refused(err) != 400 {
			t.Errorf("verification when idle: %v", err)
		}
		st, err := l.init(&plan{SecretShares: 4, SecretThreshold: 3, RequireVerification: true})
		if err != nil || !st.VerificationRequired {
			t.Fatalf("start: %+v, %v", st, err)
		}
		done := l.approve(t, s, st.Nonce)
		if len(done.Keys) != 4 || !done.VerificationRequired || done.VerificationNonce == "" {
			t.Fatalf("approved: %+v", done)
		}
		now, err := l.verifyState()
		if err != nil || !now.Started || now.Nonce != done.VerificationNonce || now.T != 3 || now.N != 4 || now.Progress != 0 {
			t.Fatalf("verification: %+v, %v", now, err)
		}
		if st, err := l.status(); err != nil || st.VerificationNonce != now.Nonce {
			t.Errorf("status: %+v, %v", st, err)
		}
		if _, err := l.verify(s.Hex(0), now.Nonce); l.refused(err) != 400 {
			t.Errorf("an old share: %v", err)
		}
		if r, err := l.verify(done.Keys[0], now.Nonce); err != nil || r.Complete {
			t.Fatalf("the first new share: %+v, %v", r, err)
		}
		if err := l.restart(); err != nil {
			t.Fatal(err)
		}
		again, err := l.verifyState()
		if err != nil || again.Progress != 0 || again.Nonce == now.Nonce {
			t.Fatalf("begun anew: %+v, %v", again, err)
		}
		for i, share := range []string{done.Keys[3], done.KeysB64[0], done.Keys[1]} {
			r, err := l.verify(share, again.Nonce)
			if err != nil || r.Complete != (i == 2) || r.Nonce != again.Nonce {
				t.Fatalf("new share %d: %+v, %v", i, r, err)
			}
		}
		if opens(t, s, s.Hex(0), s.Hex(1)) || !opens(t, s, done.Keys[2], done.Keys[1], done.Keys[0]) {
			t.Error("the wrong shares unseal")
		}
	})
}

// The new shares go to OpenPGP keys, and a copy is kept until it is deleted.
func TestRekeyToPGPKeys(t *testing.T) {
	eachRenewal(t, func(t *testing.T, s *harness.Server, l renewal) {
		var people []*openpgp.Entity
		p := &plan{SecretShares: 3, SecretThreshold: 2, Backup: true, RequireVerification: true}
		for i := range 3 {
			e, err := openpgp.NewEntity(fmt.Sprint("holder", i), "", "holder@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
			if err != nil {
				t.Fatal(err)
			}
			var public bytes.Buffer
			if err := e.SerializePrivate(io.Discard, nil); err != nil {
				t.Fatal(err)
			}
			if err := e.Serialize(&public); err != nil {
				t.Fatal(err)
			}
			people, p.PGPKeys = append(people, e), append(p.PGPKeys, base64.StdEncoding.EncodeToString(public.Bytes()))
		}
		st, err := l.init(p)
		if err != nil || len(st.PGPFingerprints) != 3 || !st.Backup {
			t.Fatalf("start: %+v, %v", st, err)
		}
		done := l.approve(t, s, st.Nonce)
		var shares []string
		for i, e := range people {
			if got := hex.EncodeToString(e.PrimaryKey.Fingerprint); done.PGPFingerprints[i] != got {
				t.Errorf("fingerprint %d is %s, want %s", i, done.PGPFingerprints[i], got)
			}
			shares = append(shares, decrypted(t, e, done.KeysB64[i]))
		}
		for i, share := range shares[:2] {
			if r, err := l.verify(share, done.VerificationNonce); err != nil || r.Complete != (i == 1) {
				t.Fatalf("%+v, %v", r, err)
			}
		}
		if _, err := l.backup(); l.refused(err) != 403 {
			t.Errorf("the backup, without a token: %v", err)
		}
		l.setToken(s.Root)
		b, err := l.backup()
		if err != nil || b.Nonce != st.Nonce || len(b.KeysB64) != 3 {
			t.Fatalf("the backup: %+v, %v", b, err)
		}
		for i, e := range people {
			if got := b.KeysB64[done.PGPFingerprints[i]]; len(got) != 1 || !slices.Contains(shares, decrypted(t, e, got[0])) {
				t.Errorf("the backup of share %d: %v", i, got)
			}
		}
		if err := l.forget(); err != nil {
			t.Fatal(err)
		}
		if b, err := l.backup(); err == nil && len(b.KeysB64) > 0 {
			t.Errorf("after the deletion: %+v", b)
		}
		if !opens(t, s, shares[2], shares[0]) {
			t.Error("the new shares don't unseal")
		}
	})
}

func decrypted(t *testing.T, e *openpgp.Entity, message string) string {
	t.Helper()
	m, err := openpgp.ReadMessage(base64.NewDecoder(base64.StdEncoding, strings.NewReader(message)), openpgp.EntityList{e}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(m.UnverifiedBody)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A server without recovery keys says so, in the words that both products use.
func TestNoRecoveryKeys(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	b, v := newBao(t, s.URL).(baoLibrary), newVault(t, s.URL).(vaultLibrary)
	if _, err := b.Sys().RekeyRecoveryKeyInit(&plan{SecretShares: 1, SecretThreshold: 1}); b.Refused(err) != 400 || !strings.Contains(err.Error(), "recovery rekeying not supported") {
		t.Error(err)
	}
	if _, err := v.Sys().RekeyRecoveryKeyStatus(); v.Refused(err) != 400 {
		t.Error(err)
	}
	if _, err := b.Sys().RotateRecoveryInit(&plan{SecretShares: 1, SecretThreshold: 1}); b.Refused(err) != 400 {
		t.Error(err)
	}
}

// Terms of the keyring, and the root key without new shares.
func TestRotate(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	b, v := newBao(t, s.URL).(baoLibrary), newVault(t, s.URL).(vaultLibrary)
	if err := v.Sys().Rotate(); v.Refused(err) != 403 {
		t.Errorf("without a token: %v", err)
	}
	b.SetToken(s.Root)
	v.SetToken(s.Root)
	first, err := b.Sys().KeyStatus()
	if err != nil {
		t.Fatal(err)
	}
	for i, rotate := range []func() error{v.Sys().Rotate, b.Sys().RotateKeyring, b.Sys().RotateRoot} {
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
		if st, err := v.Sys().KeyStatus(); err != nil || st.Term != first.Term+i+1 || st.InstallTime.IsZero() {
			t.Errorf("after rotation %d: %+v, %v", i, st, err)
		}
	}
	if _, err := v.Logical().Write("sys/rotate/config", map[string]any{"interval": "48h", "max_operations": 2_000_000}); err != nil {
		t.Fatal(err)
	}
	config, err := b.Logical().Read("sys/rotate/keyring/config")
	if err != nil || config.Data["interval"] != "48h0m0s" || fmt.Sprint(config.Data["max_operations"]) != "2000000" || config.Data["enabled"] != true {
		t.Errorf("%+v, %v", config, err)
	}
	if !opens(t, s, s.Hex(0), s.Hex(1), s.Hex(2)) {
		t.Error("the shares don't unseal after the rotations")
	}
	if self, err := v.Auth().Token().LookupSelf(); err != nil || self == nil {
		t.Errorf("the root token: %v", err)
	}
}
