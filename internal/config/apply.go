package config

import (
	"bytes"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/policy"
)

// maxPassword is the longest password in bytes, since bcrypt looks at no more.
const maxPassword = 72

// Request is an update of a path of a mount.
type Request struct {
	Path string
	Data map[string]any
}

// path is where the auth method keeps the user or role.
func (l *Login) path() string {
	if l.Kind == Role {
		return l.Auth + "role/" + l.Name
	}
	return l.Auth + "users/" + l.Name
}

// Requests are what makes the users and roles, in order, once the mounts are there. Password files are read now, which is
// only needed for a new cluster; nothing but a hash of a password leaves this function.
func (i *Initialize) Requests() ([]Request, error) {
	var list []Request
	for _, l := range i.Logins {
		data := map[string]any{}
		maps.Copy(data, l.Fields)
		names, err := policy.Normalize(l.Policies)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			data["token_policies"] = names
		}
		if l.Kind == User {
			if data["password_hash"], err = l.hash(); err != nil {
				return nil, l.written.failf("password_file", "user %q: %w", l.Name, err)
			}
		}
		list = append(list, Request{l.path(), data})
	}
	return list, nil
}

func (l *Login) hash() (string, error) {
	if l.PasswordHash != "" {
		return l.PasswordHash, nil
	}
	content, err := readRegular(l.PasswordFile, 4096)
	if err != nil {
		return "", fmt.Errorf("the password file can't be read: %w", err)
	}
	defer clear(content)
	password := bytes.TrimRight(content, "\r\n")
	if len(password) == 0 || len(password) > maxPassword {
		return "", fmt.Errorf("the password must have from 1 to %d bytes", maxPassword)
	}
	hash, err := bcrypt.GenerateFromPassword(password, minCost)
	return string(hash), err
}

// Describe says in one line each what the block does to a new cluster.
func (i *Initialize) Describe() (lines []string) {
	if i == nil {
		return nil
	}
	for _, p := range i.Policies {
		lines = append(lines, fmt.Sprintf("write policy %s", strings.ToLower(strings.TrimSpace(p.Name))))
	}
	for _, m := range i.Mounts {
		what := "mount the secrets engine"
		if m.Auth() {
			what = "enable the auth method"
		}
		line := fmt.Sprintf("%s %s at %s", what, m.Type, m.Path)
		if version := m.Options["version"]; version != "" {
			line += ", version " + version
		}
		lines = append(lines, line)
	}
	for _, l := range i.Logins {
		line := fmt.Sprintf("create %s %s in %s", l.Kind, l.Name, l.Auth)
		if names, err := policy.Normalize(l.Policies); err == nil && len(names) > 0 {
			line += ", with the policies " + strings.Join(names, ", ")
		}
		lines = append(lines, line)
	}
	return lines
}
