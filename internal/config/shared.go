package config

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/secret"
)

// Where secrets may be instead of a file of the configuration. What the environment says counts more than what is written,
// as users know it.
const (
	envConnectionURL = "QUORATE_PG_CONNECTION_URL"
	envEtcdPassword  = "QUORATE_ETCD_PASSWORD"
)

const (
	maxRequestTimeout   = 5 * time.Minute
	maxStoreConnections = 1000
	maxPrefix           = 256
	maxCredential       = 16 << 10 // bytes of a file with a connection URL or a password
)

// Shared reports whether several servers can use the store at once.
func (s Storage) Shared() bool { return s.Type == StoragePostgreSQL || s.Type == StorageEtcd }

// defaults fills in what depends on the type.
func (s *Storage) defaults() {
	if !s.Shared() {
		return
	}
	s.RequestTimeout = 5 * time.Second
	if s.Type == StoragePostgreSQL {
		s.Table, s.MaxConnections = "quorate", 16
	} else {
		s.Prefix = "quorate/"
	}
}

// sharedOptions are those of the stores on other machines.
func (s *Storage) sharedOptions() []option {
	common := []option{
		{"state_dir", text(&s.StateDir)},
		{"request_timeout", duration(&s.RequestTimeout)},
		{"ha_enabled", truth(new(bool))},
	}
	if s.Type == StoragePostgreSQL {
		return append(common,
			option{"connection_url", hidden(&s.ConnectionURL)},
			option{"connection_url_file", text(&s.ConnectionURLFile)},
			option{"table", text(&s.Table)},
			option{"max_connections", number(&s.MaxConnections)},
			option{"max_parallel", number(&s.MaxConnections)},
		)
	}
	return append(common,
		option{"address", into(&s.Endpoints, value.list)},
		option{"path", text(&s.Prefix)},
		option{"username", text(&s.Username)},
		option{"password", hidden(&s.Password)},
		option{"password_file", text(&s.PasswordFile)},
		option{"tls_ca_file", text(&s.TLSCAFile)},
		option{"tls_cert_file", text(&s.TLSCertFile)},
		option{"tls_key_file", text(&s.TLSKeyFile)},
	)
}

// hidden reads a text that must not be seen again.
func hidden(p *secret.Bytes) func(value) error {
	return func(v value) error {
		s, err := v.text()
		if err == nil {
			*p = secret.Own([]byte(s))
		}
		return err
	}
}

// warnings are about settings without effect, and about what a valid setting costs.
func (s *Storage) warnings() (list []string) {
	if _, ok := s.written.options["ha_enabled"]; ok {
		list = append(list, "ha_enabled has no effect: every server over a shared store serves, and none leads")
	}
	if s.Type == StorageEtcd && !s.EtcdTLS() && slices.ContainsFunc(s.Endpoints, elsewhere) {
		list = append(list, "the connection to etcd is not encrypted: whoever is on the way can read the etcd password and change or remove records; "+
			"write https:// in address, or name a tls_ca_file")
	}
	return list
}

// ReadConnectionURL returns where the PostgreSQL database is: from the environment, the file that is named, or the configuration.
func (s Storage) ReadConnectionURL() (secret.Bytes, error) {
	return s.credential(envConnectionURL, s.ConnectionURL, "connection_url_file", s.ConnectionURLFile)
}

// ReadPassword returns the password for etcd, as ReadConnectionURL does; empty if there is none.
func (s Storage) ReadPassword() (secret.Bytes, error) {
	return s.credential(envEtcdPassword, s.Password, "password_file", s.PasswordFile)
}

func (s Storage) credential(env string, written secret.Bytes, option, file string) (secret.Bytes, error) {
	if v := os.Getenv(env); v != "" {
		return secret.Own([]byte(v)), nil
	}
	if file == "" {
		return written, nil
	}
	content, err := readRegular(file, maxCredential)
	if err != nil {
		return secret.Bytes{}, s.written.failf(option, "%s can't be read: %w", option, err)
	}
	content = bytes.TrimSpace(content)
	if len(content) == 0 {
		return secret.Bytes{}, s.written.failf(option, "%s is empty", option)
	}
	return secret.Own(content), nil
}

// EtcdTLS reports whether the connection to etcd is encrypted.
func (s Storage) EtcdTLS() bool {
	return s.TLSCAFile != "" || s.TLSCertFile != "" || len(s.Endpoints) > 0 && strings.HasPrefix(s.Endpoints[0], "https://")
}

// elsewhere reports whether an address of etcd is on another machine, as far as it tells.
func elsewhere(endpoint string) bool {
	host, _, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/"))
	return !loopbackHost(host)
}

func (s *Storage) checkShared() error {
	w := s.written
	switch {
	case s.RequestTimeout < 100*time.Millisecond || s.RequestTimeout > maxRequestTimeout:
		return w.failf("request_timeout", "request_timeout must be from 100 milliseconds to %d minutes", maxRequestTimeout/time.Minute)
	case s.StateDir != "" && !filepath.IsAbs(s.StateDir):
		return w.failf("state_dir", "state_dir must be an absolute path, such as \"/var/lib/quorate\"")
	case s.Type == StoragePostgreSQL:
		return s.checkPostgreSQL()
	}
	return s.checkEtcd()
}

// tableName is a name that needs no quotes, with or without a schema. PostgreSQL cuts names after 63 bytes, and a second table
// has a longer name.
var tableName = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,55}$`)

func (s *Storage) checkPostgreSQL() error {
	w := s.written
	_, byMax := w.options["max_connections"]
	_, byParallel := w.options["max_parallel"]
	switch {
	case !s.ConnectionURL.Empty() && s.ConnectionURLFile != "":
		return w.failf("connection_url_file", "connection_url and connection_url_file contradict each other: keep one of them")
	case s.ConnectionURL.Empty() && s.ConnectionURLFile == "" && os.Getenv(envConnectionURL) == "":
		return w.failf("", "storage \"postgresql\" needs a connection_url, a connection_url_file or %s in the environment", envConnectionURL)
	case !s.ConnectionURL.Empty() && !plausibleURL(string(s.ConnectionURL.Reveal())):
		return w.failf("connection_url", "connection_url must look like \"postgres://user@host:5432/database?sslmode=verify-full\", or be a list of key=value")
	case !tableName.MatchString(s.Table):
		return w.failf("table", "table must be a name of lower-case letters, digits and _, and may have a schema before it, such as \"app.quorate\"")
	case byMax && byParallel:
		return w.failf("max_parallel", "max_parallel is another name for max_connections: keep one of them")
	case s.MaxConnections < 2 || s.MaxConnections > maxStoreConnections:
		return w.failf(map[bool]string{true: "max_parallel", false: "max_connections"}[byParallel],
			"max_connections must be from 2 to %d", maxStoreConnections)
	}
	return nil
}

// plausibleURL finds mistakes of typing; whether the URL means something is for the driver to say.
func plausibleURL(s string) bool {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return true
	}
	return strings.Contains(s, "=") && !strings.Contains(s, "://")
}

func (s *Storage) checkEtcd() error {
	w := s.written
	switch {
	case len(s.Endpoints) == 0:
		return w.failf("", "storage \"etcd\" needs an address: a list such as [\"https://10.0.0.1:2379\", \"https://10.0.0.2:2379\"]")
	case len(s.Prefix) > maxPrefix || strings.ContainsFunc(s.Prefix, notPlain):
		return w.failf("path", "path must be at most %d printable characters without spaces", maxPrefix)
	case !s.Password.Empty() && s.PasswordFile != "":
		return w.failf("password_file", "password and password_file contradict each other: keep one of them")
	case s.Username == "" && (!s.Password.Empty() || s.PasswordFile != ""):
		return w.failf("", "storage \"etcd\" has a password but no username")
	case (s.TLSCertFile == "") != (s.TLSKeyFile == ""):
		return w.failf("tls_cert_file", "tls_cert_file and tls_key_file belong together")
	}
	secure := 0
	for _, e := range s.Endpoints {
		https, err := endpoint(e)
		if err != nil {
			return w.failf("address", "address must list host:port or URLs such as \"https://10.0.0.1:2379\": %w", err)
		}
		if https {
			secure++
		}
	}
	switch {
	case secure != 0 && secure != len(s.Endpoints):
		return w.failf("address", "address mixes https:// with plaintext: write https:// before all")
	case strings.HasPrefix(s.Endpoints[0], "http://") && s.EtcdTLS():
		return w.failf("address", "address says http:// although there are TLS files: write https://")
	}
	return nil
}

// endpoint checks one address of etcd.
func endpoint(s string) (https bool, err error) {
	host := s
	if before, after, ok := strings.Cut(s, "://"); ok {
		if https = before == "https"; !https && before != "http" {
			return false, errors.New("neither http nor https")
		}
		host = strings.TrimSuffix(after, "/")
	}
	return https, hostPort(host)
}

// hostPort reports what isn't a host and a port.
func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || strings.ContainsFunc(host, notPlain) || strings.ContainsAny(host, "/?#@") {
		return errors.New("not a host and a port")
	}
	return nil
}
