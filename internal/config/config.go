// Package config says how a server is to run: it reads a file or a folder in the shape that users of the Vault family
// know (HCL or JSON), refuses what it doesn't know, and checks every value in one place.
//
// It promises that a Config that Load, Default or Dev returned is complete and valid, that whatever was not written
// has its safe default, and that an error names file and line. Beside the files of the configuration it opens only the
// policies that an initialize block names: whether a certificate can be loaded, a password read or a folder used is found out by
// package server, and what an audit device accepts by package audit.
package config

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/secret"
)

// Config is everything that a server is told. Who changes a field afterwards calls Validate again.
type Config struct {
	Storage         Storage
	Listeners       []Listener
	APIAddr         string // URL under which clients reach this server; empty when not said
	ClusterAddr     string // URL under which other nodes do; empty when not said
	Cluster         Cluster
	ClusterName     string // empty: init makes one up
	LogLevel        slog.Level
	LogFormat       string // FormatStandard or FormatJSON
	DefaultLeaseTTL time.Duration
	MaxLeaseTTL     time.Duration
	RootTokenTTL    time.Duration // of root tokens that ceremonies make; 0: they do not expire
	PIDFile         string        // empty: none
	Ceremony        Ceremony
	Audit           []audit.Device // their types and options are for package audit to judge
	AuditDir        string         // where audit devices made over the API may have files; empty: nowhere
	Initialize      *Initialize    // what a new cluster is set up with; nil: nothing

	// Warnings are sentences about accepted settings without effect, to be logged at start.
	Warnings []string

	written      place
	auditWritten []place // of Audit
}

// Storage says where the data lives.
type Storage struct {
	Type string // one of the constants below
	Path string // bolt: the folder of the data file

	// Of the stores that servers share.
	StateDir       string // folder on this machine for what it has seen of the transcript; empty: that isn't kept
	RequestTimeout time.Duration

	// postgresql. ReadConnectionURL says which of the two counts.
	ConnectionURL     secret.Bytes
	ConnectionURLFile string
	Table             string
	MaxConnections    int

	// etcd. ReadPassword says which password counts.
	Endpoints    []string
	Prefix       string
	Username     string
	Password     secret.Bytes
	PasswordFile string
	TLSCAFile    string
	TLSCertFile  string
	TLSKeyFile   string

	written place
}

// Listener is one address to serve on.
type Listener struct {
	Type    string // TCP or Unix
	Address string // host:port, or the path of the socket

	TLSCertFile     string
	TLSKeyFile      string
	TLSClientCAFile string // set: every client must show a certificate that one of these signed
	TLSMinVersion   uint16 // as in crypto/tls
	// TLSDisable is the written consent to plaintext off loopback.
	TLSDisable bool

	SocketMode os.FileMode // unix

	Ceremonies     string // who may start and cancel ceremonies: CeremoniesLocal, CeremoniesToken, CeremoniesOpen
	LocalAuthority bool   // TCP loopback stays local although api_addr is not loopback
	TrustedProxies []netip.Prefix
	// ResponseHeaders are added to every reply.
	ResponseHeaders http.Header
	// OpenMetrics lets anybody read sys/metrics, also while the server is sealed.
	OpenMetrics bool

	MaxRequestSize     int64 // bytes
	MaxRequestDuration time.Duration
	ReadHeaderTimeout  time.Duration // also the time for a TLS handshake
	ReadTimeout        time.Duration // for a whole request, headers and body
	IdleTimeout        time.Duration
	MaxConnections     int

	written place
}

// Ceremony holds the time limits of attempts.
type Ceremony struct {
	UnapprovedTimeout time.Duration // from the start to the first approval
	IdleTimeout       time.Duration // between two approvals
	TotalTimeout      time.Duration
	ResultTTL         time.Duration // how long the reply that completed an attempt can be had again
	// VerificationTimeout is how long a rekey waits for the next of its new holders to prove their share.
	VerificationTimeout time.Duration

	written place
}

// The values of the settings that are words.
const (
	StorageBolt       = "bolt"
	StorageInmem      = "inmem"
	StoragePostgreSQL = "postgresql"
	StorageEtcd       = "etcd"

	TCP  = "tcp"
	Unix = "unix"

	FormatStandard = "standard"
	FormatJSON     = "json"

	CeremoniesLocal = "local"
	CeremoniesToken = "token"
	CeremoniesOpen  = "open"
)

// LevelTrace is the log level below slog's own.
const LevelTrace = slog.LevelDebug - 4

const (
	defaultAddress = "127.0.0.1:8200"
	defaultDataDir = "quorate-data"
)

// Default is the configuration without a file: data in ./quorate-data, plaintext on loopback.
func Default() *Config {
	c := empty()
	c.Storage = Storage{Type: StorageBolt, Path: defaultDataDir}
	c.Listeners = []Listener{newListener(TCP)}
	return c
}

// Dev is the configuration of a server to play with: nothing is kept, plaintext on loopback.
func Dev() *Config {
	c := Default()
	c.Storage = Storage{Type: StorageInmem}
	return c
}

// APIAddrLoopback reports whether clients are told to reach this server over loopback only, or told nothing.
func (c *Config) APIAddrLoopback() bool {
	if c.APIAddr == "" {
		return true
	}
	u, err := url.Parse(c.APIAddr)
	return err == nil && loopbackHost(u.Hostname())
}

// TLS reports whether the listener speaks TLS.
func (l *Listener) TLS() bool { return l.Type == TCP && !l.TLSDisable && l.TLSCertFile != "" }

// Loopback reports whether only this machine can reach the listener, as far as the address tells.
func (l *Listener) Loopback() bool {
	if l.Type == Unix {
		return true
	}
	host, _, err := net.SplitHostPort(l.Address)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// empty has every default that doesn't depend on which blocks are written.
func empty() *Config {
	name, _ := os.Hostname() // without one, who needs it must write a node_name
	name = name[:min(len(name), maxClusterName)]
	return &Config{
		Cluster:         Cluster{NodeName: name},
		LogLevel:        slog.LevelInfo,
		LogFormat:       FormatStandard,
		DefaultLeaseTTL: 768 * time.Hour,
		MaxLeaseTTL:     768 * time.Hour,
		Ceremony: Ceremony{
			UnapprovedTimeout:   5 * time.Minute,
			IdleTimeout:         time.Hour,
			TotalTimeout:        24 * time.Hour,
			ResultTTL:           5 * time.Minute,
			VerificationTimeout: 7 * 24 * time.Hour,
		},
	}
}

func newListener(kind string) Listener {
	l := Listener{
		Type:               kind,
		TLSMinVersion:      minTLS,
		SocketMode:         0o600,
		Ceremonies:         CeremoniesLocal,
		MaxRequestSize:     32 << 20,
		MaxRequestDuration: 90 * time.Second,
		ReadHeaderTimeout:  10 * time.Second,
		ReadTimeout:        30 * time.Second,
		IdleTimeout:        5 * time.Minute,
		MaxConnections:     1024,
	}
	if kind == TCP {
		l.Address = defaultAddress
	}
	return l
}
