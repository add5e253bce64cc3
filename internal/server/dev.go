package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/internal/mount"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/policy"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

// DevOptions are the wishes of somebody who wants a server to play with.
type DevOptions struct {
	// RootTokenID becomes the ID of the root token; empty: a random one.
	RootTokenID string
	// StoreToken keeps the root token where commands look for it, and tells where. Nil: it is not kept.
	StoreToken func(token string) (path string, err error)
}

// startDev initialises and unseals a development server, and prints what it was made with.
func (s *server) startDev(ctx context.Context) error {
	if s.Dev == nil {
		return nil
	}
	res, err := s.node.Init(ctx, node.InitRequest{Shares: 1, Threshold: 1, Local: true})
	if err != nil {
		return fmt.Errorf("start the development server: %w", err)
	}
	defer res.Wipe()
	if _, err := s.node.Unseal(ctx, secret.Copy(res.Keys[0]), true, ""); err != nil {
		return fmt.Errorf("start the development server: %w", err)
	}
	token := res.RootToken
	if s.Dev.RootTokenID != "" {
		if token, err = s.replaceRoot(ctx, token); err != nil {
			return err
		}
	}
	if err := s.mountSecret(ctx, token); err != nil {
		return err
	}
	kept := ""
	if s.Dev.StoreToken != nil {
		path, err := s.Dev.StoreToken(string(token.Reveal()))
		if err != nil {
			return fmt.Errorf("keep the root token for other commands (or use -dev-no-store-token): %w", err)
		}
		kept = fmt.Sprintf("\nThe root token is also in %s, where commands find it.\n", path)
	}
	fmt.Fprintf(s.Stdout, devBanner, s.address(), base64.StdEncoding.EncodeToString(res.Keys[0]), token.Reveal(), kept)
	return nil
}

const devBanner = `
WARNING! This is a development server. It is unsealed, its root token is printed here, and everything in it
is lost when it stops. Never give it a secret that matters.

    export BAO_ADDR='%s'

Unseal Key: %s
Root Token: %s
%s
`

// replaceRoot makes the wished ID the root token and revokes the one that init made.
func (s *server) replaceRoot(ctx context.Context, first secret.Bytes) (secret.Bytes, error) {
	id := s.Dev.RootTokenID
	if strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return secret.Bytes{}, errors.New("the root token ID of a development server must be of printable characters without spaces")
	}
	wish := secret.Own([]byte(id))
	access := node.Access{Token: first, Path: "auth/token/create", Capability: policy.Update}
	err := s.node.Update(ctx, access, func(c *node.Call) error {
		key, err := c.Tokens.Key(c.Tx, wish.Reveal())
		if err != nil {
			return err
		}
		if _, err := c.Tokens.CreateRoot(c.Tx, key, token.RootOptions{}); err != nil {
			return err
		}
		return c.Revoke(c.Token, false)
	})
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("give the development server its root token: %w", err)
	}
	return wish, nil
}

// mountSecret enables key/value version 2 at secret/, where everybody's examples look for it.
func (s *server) mountSecret(ctx context.Context, root secret.Bytes) error {
	access := node.Access{Token: root, Path: "sys/mounts/secret", Capability: policy.Update}
	return s.node.Update(ctx, access, func(c *node.Call) error {
		return c.Enable(mount.Entry{
			Path: "secret/", Type: "kv", Description: "key/value secret storage", Options: map[string]string{"version": "2"},
		})
	})
}
