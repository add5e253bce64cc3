// Package clients drives Quorate with the client libraries people already have, unmodified (promise 8).
package clients

import (
	"encoding/base64"
	"errors"
	"net/http"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// status is what both libraries tell of a root generation.
type status struct {
	Nonce, OTP, EncodedToken string
	Started, Complete        bool
	Progress, Required       int
	OTPLength                int
}

// library is the part of a client library that a root generation needs.
type library interface {
	Start(otp, pgpKey string) (status, error)
	Status() (status, error)
	Update(share, nonce string) (status, error)
	Cancel() error
	SetToken(string)
	Policies() ([]string, error)
	Refused(error) (code int)
}

type baoLibrary struct{ *bao.Client }

func newBao(t *testing.T, url string) library {
	config := bao.DefaultConfig()
	config.Address = url
	c, err := bao.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.ClearToken()
	return baoLibrary{c}
}

func fromBao(r *bao.GenerateRootStatusResponse, err error) (status, error) {
	if err != nil {
		return status{}, err
	}
	return status{r.Nonce, r.OTP, r.EncodedToken, r.Started, r.Complete, r.Progress, r.Required, r.OTPLength}, nil
}

func (l baoLibrary) Start(otp, key string) (status, error) {
	return fromBao(l.Sys().GenerateRootInit(otp, key))
}
func (l baoLibrary) Status() (status, error) { return fromBao(l.Sys().GenerateRootStatus()) }
func (l baoLibrary) Update(share, nonce string) (status, error) {
	return fromBao(l.Sys().GenerateRootUpdate(share, nonce))
}
func (l baoLibrary) Cancel() error { return l.Sys().GenerateRootCancel() }
func (l baoLibrary) Policies() ([]string, error) {
	s, err := l.Auth().Token().LookupSelf()
	if err != nil {
		return nil, err
	}
	return s.TokenPolicies()
}

func (l baoLibrary) Refused(err error) int {
	var r *bao.ResponseError
	if errors.As(err, &r) {
		return r.StatusCode
	}
	return 0
}

type vaultLibrary struct{ *vault.Client }

func newVault(t *testing.T, url string) library {
	config := vault.DefaultConfig()
	config.Address = url
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.ClearToken()
	return vaultLibrary{c}
}

func fromVault(r *vault.GenerateRootStatusResponse, err error) (status, error) {
	if err != nil {
		return status{}, err
	}
	return status{r.Nonce, r.OTP, r.EncodedToken, r.Started, r.Complete, r.Progress, r.Required, r.OTPLength}, nil
}

func (l vaultLibrary) Start(otp, key string) (status, error) {
	return fromVault(l.Sys().GenerateRootInit(otp, key))
}
func (l vaultLibrary) Status() (status, error) { return fromVault(l.Sys().GenerateRootStatus()) }
func (l vaultLibrary) Update(share, nonce string) (status, error) {
	return fromVault(l.Sys().GenerateRootUpdate(share, nonce))
}
func (l vaultLibrary) Cancel() error { return l.Sys().GenerateRootCancel() }
func (l vaultLibrary) Policies() ([]string, error) {
	s, err := l.Auth().Token().LookupSelf()
	if err != nil {
		return nil, err
	}
	return s.TokenPolicies()
}

func (l vaultLibrary) Refused(err error) int {
	var r *vault.ResponseError
	if errors.As(err, &r) {
		return r.StatusCode
	}
	return 0
}

func eachLibrary(t *testing.T, fn func(t *testing.T, s *harness.Server, l library)) {
	for name, open := range map[string]func(*testing.T, string) library{"openbao": newBao, "vault": newVault} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			fn(t, s, open(t, s.URL))
		})
	}
}

// Somebody who lost every root token gets one back: no token at all, over a local connection.
func TestRootGenerationWithoutAnyToken(t *testing.T) {
	eachLibrary(t, func(t *testing.T, s *harness.Server, l library) { generate(t, s, l) })
}

// The day it is needed, the environment still holds a dead token.
func TestRootGenerationWithADeadToken(t *testing.T) {
	eachLibrary(t, func(t *testing.T, s *harness.Server, l library) {
		l.SetToken("q.deaddeaddeaddeaddeadde")
		generate(t, s, l)
	})
}

func TestRootGenerationWithARootToken(t *testing.T) {
	eachLibrary(t, func(t *testing.T, s *harness.Server, l library) {
		l.SetToken(s.Root)
		generate(t, s, l)
	})
}

func generate(t *testing.T, s *harness.Server, l library) {
	t.Helper()
	if st, err := l.Status(); err != nil || st.Started || st.Required != 3 || st.OTPLength != 24 {
		t.Fatalf("idle: %+v, %v", st, err)
	}
	st, err := l.Start("", "")
	if err != nil || !st.Started || len(st.OTP) != 24 {
		t.Fatalf("start: %+v, %v", st, err)
	}
	otp, nonce := st.OTP, st.Nonce
	if _, err := l.Start("", ""); l.Refused(err) != http.StatusBadRequest {
		t.Errorf("a second start: %v", err)
	}
	if _, err := l.Update(s.Hex(0), "not the nonce"); l.Refused(err) != http.StatusBadRequest {
		t.Errorf("a wrong nonce: %v", err)
	}
	if _, err := l.Update(damaged(s.Hex(0)), nonce); l.Refused(err) != http.StatusBadRequest {
		t.Errorf("a damaged share: %v", err)
	}
	for i, share := range []string{s.Hex(4), s.Base64(1), s.Hex(2)} {
		if st, err = l.Update(share, nonce); err != nil || st.Progress != i+1 || st.Complete != (i == 2) {
			t.Fatalf("share %d: %+v, %v", i, st, err)
		}
	}
	l.SetToken(decode(t, st.EncodedToken, otp))
	if policies, err := l.Policies(); err != nil || len(policies) != 1 || policies[0] != "root" {
		t.Errorf("policies of the new token: %v, %v", policies, err)
	}
}

// damaged is a share with its first digit wrong, whatever that was.
func damaged(share string) string {
	if share[0] == '0' {
		return "1" + share[1:]
	}
	return "0" + share[1:]
}

// decode does what the clients' command lines do.
func decode(t *testing.T, encoded, otp string) string {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || len(b) != len(otp) {
		t.Fatalf("encoded token of %d bytes, %v", len(b), err)
	}
	for i := range b {
		b[i] ^= otp[i]
	}
	return string(b)
}

func TestCancelAndOwnOTP(t *testing.T) {
	eachLibrary(t, func(t *testing.T, s *harness.Server, l library) {
		if err := l.Cancel(); err != nil {
			t.Errorf("cancel when idle: %v", err)
		}
		if _, err := l.Start("too short", ""); l.Refused(err) != http.StatusBadRequest {
			t.Errorf("a short OTP: %v", err)
		}
		const otp = "an OTP of 24 characters!"
		st, err := l.Start(otp, "")
		if err != nil || st.OTP != "" {
			t.Fatalf("own OTP: %+v, %v", st, err)
		}
		if _, err := l.Update(s.Hex(0), st.Nonce); err != nil {
			t.Fatal(err)
		}
		if err := l.Cancel(); err != nil {
			t.Fatal(err)
		}
		if now, err := l.Status(); err != nil || now.Started || now.Progress != 0 {
			t.Errorf("after the cancel: %+v, %v", now, err)
		}
		if _, err := l.Update(s.Hex(1), st.Nonce); l.Refused(err) != http.StatusBadRequest {
			t.Errorf("a share with the old nonce: %v", err)
		}
		st, err = l.Start(otp, "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if st, err = l.Update(s.Hex(i), st.Nonce); err != nil {
				t.Fatal(err)
			}
		}
		l.SetToken(decode(t, st.EncodedToken, otp))
		if _, err := l.Policies(); err != nil {
			t.Errorf("the token: %v", err)
		}
	})
}
