package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// Bounds of what can be set.
const (
	maxRequestSize   = 64 << 20
	maxConnections   = 100_000
	maxClusterName   = 64
	maxSocketPath    = 100               // bytes; systems allow 104 or 108
	socketNursery    = "/.q1234567890/s" // beside the socket, where it is made before it is moved into place
	maxHTTPTimeout   = 24 * time.Hour
	maxCeremonyTime  = 90 * 24 * time.Hour
	maxListenerCount = 16
)

// Validate checks what the settings mean, alone and together. It is the one place that does, for files, for the
// command line and for the built-in configurations alike.
func (c *Config) Validate() error {
	checks := []error{c.checkTop(), c.checkStorage(), c.checkCluster(), c.Ceremony.check(), c.checkAudit(), c.Initialize.check()}
	addresses := map[string]bool{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		checks = append(checks, l.check())
		if key := l.Type + " " + l.Address; addresses[key] && !strings.HasSuffix(key, ":0") {
			checks = append(checks, l.written.failf("address", "another listener has the address %s already", l.Address))
		} else {
			addresses[key] = true
		}
	}
	switch {
	case len(c.Listeners) == 0:
		checks = append(checks, errors.New("there is no listener: add listener \"tcp\" { address = \"127.0.0.1:8200\" }"))
	case len(c.Listeners) > maxListenerCount:
		checks = append(checks, fmt.Errorf("there are %d listeners, more than the limit of %d", len(c.Listeners), maxListenerCount))
	}
	return errors.Join(checks...)
}

// failf is an error about an option, with the line where it was written.
func (p place) failf(option, format string, args ...any) error {
	return fmt.Errorf("%s"+format, append([]any{p.at(option)}, args...)...)
}

func (c *Config) checkTop() error {
	w := c.written
	switch {
	case c.LogFormat != FormatStandard && c.LogFormat != FormatJSON:
		return w.failf("log_format", "log_format must be %s or %s", FormatStandard, FormatJSON)
	case len(c.ClusterName) > maxClusterName || strings.ContainsFunc(c.ClusterName, notPlain):
		return w.failf("cluster_name", "cluster_name must be at most %d printable characters without spaces", maxClusterName)
	case c.DefaultLeaseTTL <= 0 || c.DefaultLeaseTTL > maxDuration:
		return w.failf("default_lease_ttl", "default_lease_ttl must be more than nothing")
	case c.MaxLeaseTTL <= 0 || c.MaxLeaseTTL > maxDuration:
		return w.failf("max_lease_ttl", "max_lease_ttl must be more than nothing")
	case c.RootTokenTTL < 0 || c.RootTokenTTL > maxDuration || c.RootTokenTTL%time.Second != 0:
		return w.failf("root_token_ttl", "root_token_ttl must be whole seconds, or 0 for root tokens that don't expire")
	case c.AuditDir != "" && !filepath.IsAbs(c.AuditDir):
		return w.failf("audit_dir", "audit_dir must be an absolute path, such as \"/var/log/quorate\"")
	case c.DefaultLeaseTTL > c.MaxLeaseTTL:
		return w.failf("default_lease_ttl", "default_lease_ttl must not be longer than max_lease_ttl (%s)", c.MaxLeaseTTL)
	}
	return c.checkAPIAddr()
}

func notPlain(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }

func (c *Config) checkAPIAddr() error {
	if c.APIAddr == "" {
		return nil
	}
	u, err := url.Parse(c.APIAddr)
	bad := err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/"
	if bad {
		return c.written.failf("api_addr", "api_addr must be a URL such as \"https://vault.example.org:8200\"")
	}
	return nil
}

const unknownStorage = "storage %q is not one of \"bolt\", \"postgresql\", \"etcd\" and \"inmem\""

func (c *Config) checkStorage() error {
	w := c.Storage.written
	switch {
	case c.Storage.Type == "":
		return errors.New("there is no storage: add storage \"bolt\" { path = \"/var/lib/quorate\" }, or storage \"inmem\" {} to keep nothing")
	case c.Storage.Shared():
		return c.Storage.checkShared()
	case c.Storage.Type != StorageBolt && c.Storage.Type != StorageInmem:
		return w.failf("", unknownStorage, c.Storage.Type)
	case c.Storage.Type == StorageBolt && c.Storage.Path == "":
		return w.failf("", "storage \"bolt\" needs a path: the folder for the data")
	}
	return nil
}

func (c *Ceremony) check() error {
	for _, o := range []struct {
		name string
		d    time.Duration
	}{
		{"unapproved_timeout", c.UnapprovedTimeout},
		{"idle_timeout", c.IdleTimeout},
		{"total_timeout", c.TotalTimeout},
		{"result_ttl", c.ResultTTL},
		{"verification_timeout", c.VerificationTimeout},
	} {
		if o.d < time.Second || o.d > maxCeremonyTime {
			return c.written.failf(o.name, "%s must be from 1 second to %d days", o.name, maxCeremonyTime/(24*time.Hour))
		}
	}
	switch {
	case c.UnapprovedTimeout > c.TotalTimeout:
		return c.written.failf("unapproved_timeout", "unapproved_timeout must not be longer than total_timeout (%s)", c.TotalTimeout)
	case c.IdleTimeout > c.TotalTimeout:
		return c.written.failf("idle_timeout", "idle_timeout must not be longer than total_timeout (%s)", c.TotalTimeout)
	}
	return nil
}

func (l *Listener) check() error {
	var where error
	switch l.Type {
	case TCP:
		where = l.checkTCP()
	case Unix:
		where = l.checkUnix()
	default:
		return l.written.failf("", "listener %q is not one of \"tcp\" and \"unix\"", l.Type)
	}
	return errors.Join(where, l.checkLimits())
}

func (l *Listener) checkTCP() error {
	if l.Address == "" {
		return l.written.failf("address", "listener \"tcp\" needs an address such as \"127.0.0.1:8200\"")
	}
	if hostPort(l.Address) != nil {
		return l.written.failf("address", "address must be a host and a port, such as \"127.0.0.1:8200\"")
	}
	return l.checkTLS()
}

func (l *Listener) checkTLS() error {
	w := l.written
	files := l.TLSCertFile != "" || l.TLSKeyFile != "" || l.TLSClientCAFile != ""
	switch {
	case l.TLSDisable && files:
		return w.failf("tls_disable", "tls_disable = true and TLS files contradict each other: remove one or the other")
	case l.TLSCertFile == "" && files:
		return w.failf("", "listener \"tcp\" has other TLS files but no tls_cert_file")
	case l.TLSKeyFile == "" && files:
		return w.failf("tls_cert_file", "tls_cert_file needs a tls_key_file")
	case !files && !l.TLSDisable && !l.Loopback():
		return w.failf("address", "%s can be reached from other machines: add tls_cert_file and tls_key_file, "+
			"or accept that everybody on the way reads the secrets by writing tls_disable = true", l.Address)
	case l.TLSMinVersion < minTLS:
		return w.failf("tls_min_version", "tls_min_version is not one of tls12 and tls13")
	}
	return nil
}

func (l *Listener) checkUnix() error {
	w := l.written
	switch {
	case l.Address == "":
		return w.failf("", "listener \"unix\" needs an address: the path of the socket")
	case max(len(l.Address), len(filepath.Dir(l.Address))+len(socketNursery)) > maxSocketPath:
		return w.failf("address", "the path of the socket is longer than %d bytes, which systems don't allow", maxSocketPath)
	case l.Address[0] == '@':
		return w.failf("address", "address must be a path: abstract sockets have no file mode that protects them")
	case l.SocketMode&^0o777 != 0 || l.SocketMode&0o600 != 0o600:
		return w.failf("socket_mode", "socket_mode must let the owner read and write")
	}
	return nil
}

func (l *Listener) checkLimits() error {
	w := l.written
	for _, o := range []struct {
		name string
		d    time.Duration
	}{
		{"max_request_duration", l.MaxRequestDuration},
		{"http_read_header_timeout", l.ReadHeaderTimeout},
		{"http_read_timeout", l.ReadTimeout},
		{"http_idle_timeout", l.IdleTimeout},
	} {
		// No limit at all would let one client hold a connection for good.
		if o.d < time.Millisecond || o.d > maxHTTPTimeout {
			return w.failf(o.name, "%s must be more than nothing and at most %d hours", o.name, maxHTTPTimeout/time.Hour)
		}
	}
	switch {
	case l.MaxRequestSize < 1 || l.MaxRequestSize > maxRequestSize:
		return w.failf("max_request_size", "max_request_size must be from 1 byte to %d MiB", maxRequestSize>>20)
	case l.MaxConnections < 1 || l.MaxConnections > maxConnections:
		return w.failf("max_connections", "max_connections must be from 1 to %d", maxConnections)
	case l.Ceremonies != CeremoniesLocal && l.Ceremonies != CeremoniesToken && l.Ceremonies != CeremoniesOpen:
		return w.failf("ceremonies", "ceremonies must be %s, %s or %s", CeremoniesLocal, CeremoniesToken, CeremoniesOpen)
	}
	return nil
}
