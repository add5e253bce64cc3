package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/wholefile"
)

// currentToken is BAO_TOKEN or VAULT_TOKEN, else what login stored; empty if there is neither.
func currentToken() (string, error) {
	if token := api.ReadBaoVariable(api.EnvVaultToken); token != "" {
		return token, nil
	}
	path, err := tokenPath()
	if err != nil {
		return "", nil // no home directory, so nothing was stored
	}
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", localf("reading the stored token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// tokenPath is the file that the command lines of the Vault family share.
func tokenPath() (string, error) {
	if path := api.ReadBaoVariable(api.EnvTokenPath); path != "" {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the home directory to keep the token in (or set %s): %w", api.EnvTokenPath, err)
	}
	return filepath.Join(home, ".vault-token"), nil
}

// storeToken replaces the token file by one that only its owner can read. It is never there half-written.
func storeToken(token string) (path string, err error) {
	if path, err = tokenPath(); err != nil {
		return "", err
	}
	if err := wholefile.Replace(path, token, 0o600); err != nil {
		return "", err
	}
	return path, nil
}

func (a *app) printTokenCommand() *command.C {
	return &command.C{
		Name: "token", Usage: "[flags]",
		Help: "Print the token that commands use now, for use in other programs.",
		Run: func(env *command.Env) error {
			if _, err := positional(env, 0, 0); err != nil {
				return err
			}
			token, err := currentToken()
			if err != nil {
				return err
			}
			if token == "" {
				return localf("there is no token: log in, or set BAO_TOKEN")
			}
			return a.write(token + "\n")
		},
	}
}
