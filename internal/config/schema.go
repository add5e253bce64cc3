package config

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

const minTLS = tls.VersionTLS12

// option is one key that may be written, and what its value does.
type option struct {
	name string
	set  func(value) error
}

// place remembers where a block and its options were written, so that a check of their meaning can name the line.
type place struct {
	block   string
	options map[string]string // :: option → file:line
}

// at is the position of an option, of its block when the option wasn't written, or nothing without a file.
func (p place) at(option string) string {
	pos := p.options[option]
	if pos == "" {
		pos = p.block
	}
	if pos == "" {
		return ""
	}
	return pos + ": "
}

// decodeConfig reads the whole configuration and checks it.
func decodeConfig(body hcl.Body) (*Config, error) {
	c := empty()
	blocks, diags := fill(body, c.options(), &c.written,
		hcl.BlockHeaderSchema{Type: "storage", LabelNames: []string{"type"}},
		hcl.BlockHeaderSchema{Type: "listener", LabelNames: []string{"type"}},
		hcl.BlockHeaderSchema{Type: "ceremony"},
		hcl.BlockHeaderSchema{Type: "audit", LabelNames: []string{"type", "path"}},
		hcl.BlockHeaderSchema{Type: "initialize"},
		hcl.BlockHeaderSchema{Type: "cluster"},
	)
	seen := map[string]hcl.Range{}
	for _, b := range blocks {
		if first, ok := seen[b.Type]; ok && slices.Contains([]string{"storage", "ceremony", "cluster"}, b.Type) {
			diags = append(diags, problem(b.DefRange, "there is a %s block at %s already: keep one of them", b.Type, position(first)))
			continue
		}
		seen[b.Type] = b.DefRange
		diags = append(diags, c.block(b)...)
	}
	if diags.HasErrors() {
		return nil, problems(diags)
	}
	if len(c.Listeners) == 0 {
		c.Listeners = []Listener{newListener(TCP)}
	}
	c.follow()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Warnings = append(c.Warnings, c.Initialize.warnings()...)
	c.Warnings = append(c.Warnings, c.Storage.warnings()...)
	return c, nil
}

// follow makes defaults that nobody wrote give way to what was written, instead of a complaint about them.
func (c *Config) follow() {
	c.followCluster()
	if _, written := c.written.options["default_lease_ttl"]; !written && c.MaxLeaseTTL > 0 {
		c.DefaultLeaseTTL = min(c.DefaultLeaseTTL, c.MaxLeaseTTL)
	}
	for name, d := range map[string]*time.Duration{
		"unapproved_timeout": &c.Ceremony.UnapprovedTimeout, "idle_timeout": &c.Ceremony.IdleTimeout,
	} {
		if _, written := c.Ceremony.written.options[name]; !written && c.Ceremony.TotalTimeout > 0 {
			*d = min(*d, c.Ceremony.TotalTimeout)
		}
	}
}

// block reads one block into its place.
func (c *Config) block(b *hcl.Block) hcl.Diagnostics {
	switch b.Type {
	case "storage":
		c.Storage = Storage{Type: b.Labels[0], written: place{block: position(b.DefRange)}}
		if c.Storage.options() == nil {
			return hcl.Diagnostics{problem(b.LabelRanges[0], unknownStorage, b.Labels[0])}
		}
		c.Storage.defaults()
		_, diags := fill(b.Body, c.Storage.options(), &c.Storage.written)
		return diags
	case "listener":
		l := newListener(b.Labels[0])
		l.written.block = position(b.DefRange)
		if l.options() == nil {
			return hcl.Diagnostics{problem(b.LabelRanges[0], "listener %q is not one of \"tcp\" and \"unix\"", b.Labels[0])}
		}
		blocks, diags := fill(b.Body, l.options(), &l.written, hcl.BlockHeaderSchema{Type: "telemetry"})
		for _, t := range blocks {
			_, more := fill(t.Body, l.telemetry(), &place{})
			diags = append(diags, more...)
		}
		c.Listeners = append(c.Listeners, l)
		return diags
	case "audit":
		return c.audit(b)
	case "initialize":
		return c.initialize(b)
	case "cluster":
		c.Cluster.written.block = position(b.DefRange)
		_, diags := fill(b.Body, c.Cluster.options(), &c.Cluster.written)
		return diags
	default:
		c.Ceremony.written.block = position(b.DefRange)
		_, diags := fill(b.Body, c.Ceremony.options(), &c.Ceremony.written)
		return diags
	}
}

// fill reads the attributes of a body through a table of options and returns its blocks.
func fill(body hcl.Body, options []option, written *place, blocks ...hcl.BlockHeaderSchema) (hcl.Blocks, hcl.Diagnostics) {
	schema := &hcl.BodySchema{Blocks: blocks}
	for _, o := range options {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: o.name})
	}
	content, diags := body.Content(schema)
	written.options = map[string]string{}
	for _, o := range options {
		attr, ok := content.Attributes[o.name]
		if !ok {
			continue
		}
		written.options[o.name] = position(attr.Range)
		v, more := evaluate(attr)
		if diags = append(diags, more...); more.HasErrors() {
			continue
		}
		if err := o.set(value{v}); err != nil {
			diags = append(diags, problem(attr.Range, "%s %v", o.name, err))
		}
	}
	return content.Blocks, diags
}

func (c *Config) options() []option {
	return []option{
		{"api_addr", text(&c.APIAddr)},
		{"cluster_name", text(&c.ClusterName)},
		{"log_level", func(v value) error { return v.parsed(c.SetLogLevel) }},
		{"log_format", func(v value) error { return v.parsed(c.setFormat) }},
		{"default_lease_ttl", duration(&c.DefaultLeaseTTL)},
		{"max_lease_ttl", duration(&c.MaxLeaseTTL)},
		{"root_token_ttl", duration(&c.RootTokenTTL)},
		{"pid_file", text(&c.PIDFile)},
		{"audit_dir", text(&c.AuditDir)},
		{"disable_mlock", func(v value) error {
			c.Warnings = append(c.Warnings, "disable_mlock has no effect: only keys are locked in memory, where the system allows it")
			_, err := v.boolean()
			return err
		}},
		{"ui", func(v value) error {
			on, err := v.boolean()
			if err == nil && on {
				return errNoUI
			}
			return err
		}},
		{"cluster_addr", text(&c.ClusterAddr)},
	}
}

// options is nil for an unknown type.
func (s *Storage) options() []option {
	switch s.Type {
	case StorageBolt:
		return []option{{"path", text(&s.Path)}}
	case StorageInmem:
		return []option{}
	case StoragePostgreSQL, StorageEtcd:
		return s.sharedOptions()
	}
	return nil
}

// options is nil for an unknown type.
func (l *Listener) options() []option {
	common := []option{
		{"address", text(&l.Address)},
		{"ceremonies", text(&l.Ceremonies)},
		{"max_request_size", size(&l.MaxRequestSize)},
		{"max_request_duration", duration(&l.MaxRequestDuration)},
		{"http_read_header_timeout", duration(&l.ReadHeaderTimeout)},
		{"http_read_timeout", duration(&l.ReadTimeout)},
		{"http_idle_timeout", duration(&l.IdleTimeout)},
		{"max_connections", number(&l.MaxConnections)},
		{"custom_response_headers", l.setHeaders},
	}
	switch l.Type {
	case TCP:
		return append(common,
			option{"tls_cert_file", text(&l.TLSCertFile)},
			option{"tls_key_file", text(&l.TLSKeyFile)},
			option{"tls_client_ca_file", text(&l.TLSClientCAFile)},
			option{"tls_disable", truth(&l.TLSDisable)},
			option{"tls_min_version", func(v value) error { return v.parsed(l.setMinTLS) }},
			option{"local_authority", truth(&l.LocalAuthority)},
			option{"x_forwarded_for_authorized_addrs", l.setProxies},
			option{"cluster_address", refuse("has no meaning in a listener: write cluster { address = ... } beside it, or remove the line")},
		)
	case Unix:
		return append(common, option{"socket_mode", func(v value) error { return v.parsed(l.setMode) }})
	}
	return nil
}

// telemetry is what may stand in the block of that name.
func (l *Listener) telemetry() []option {
	return []option{{"unauthenticated_metrics_access", truth(&l.OpenMetrics)}}
}

func (c *Ceremony) options() []option {
	return []option{
		{"unapproved_timeout", duration(&c.UnapprovedTimeout)},
		{"idle_timeout", duration(&c.IdleTimeout)},
		{"total_timeout", duration(&c.TotalTimeout)},
		{"result_ttl", duration(&c.ResultTTL)},
		{"verification_timeout", duration(&c.VerificationTimeout)},
	}
}

// SetLogLevel takes a level by its name.
func (c *Config) SetLogLevel(s string) error {
	switch strings.ToLower(s) {
	case "trace":
		c.LogLevel = LevelTrace
	case "debug":
		c.LogLevel = slog.LevelDebug
	case "info":
		c.LogLevel = slog.LevelInfo
	case "warn", "warning":
		c.LogLevel = slog.LevelWarn
	case "error", "err":
		c.LogLevel = slog.LevelError
	default:
		return fmt.Errorf("is not one of trace, debug, info, warn and error")
	}
	return nil
}

func (c *Config) setFormat(s string) error {
	s = strings.ToLower(s)
	if s != FormatStandard && s != FormatJSON {
		return fmt.Errorf("is not one of %s and %s", FormatStandard, FormatJSON)
	}
	c.LogFormat = s
	return nil
}

func (l *Listener) setMinTLS(s string) error {
	switch s {
	case "tls12":
		l.TLSMinVersion = tls.VersionTLS12
	case "tls13":
		l.TLSMinVersion = tls.VersionTLS13
	default:
		return fmt.Errorf("is not one of tls12 and tls13: older versions are not safe")
	}
	return nil
}

func (l *Listener) setMode(s string) error {
	mode, err := strconv.ParseUint(s, 8, 32)
	if err != nil || mode > 0o777 || mode&0o600 != 0o600 {
		return fmt.Errorf("must be octal digits in quotes that let the owner read and write, such as \"0600\" or \"0660\"")
	}
	l.SocketMode = os.FileMode(mode)
	return nil
}

// setProxies reads addresses and networks, in a list or separated by commas.
func (l *Listener) setProxies(v value) error {
	names, err := v.list()
	if err != nil {
		return err
	}
	for _, s := range names {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, err := netip.ParseAddr(s)
			if err != nil || addr.Zone() != "" {
				return fmt.Errorf("must list IP addresses or networks such as \"10.1.0.0/16\"")
			}
			prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		}
		l.TrustedProxies = append(l.TrustedProxies, prefix.Masked())
	}
	return nil
}
