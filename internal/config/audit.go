package config

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/net/http/httpguts"

	"github.com/quorate/quorate/internal/audit"
)

// deviceOptions are those of all types of audit devices; which of them belong together is for package audit to say.
var deviceOptions = []string{
	"file_path", "mode", "sync", "address", "socket_type", "write_timeout", "facility", "tag", "prefix", "hmac_accessor",
	"elide_list_responses", "log_raw", "format",
}

// audit reads an audit block. Options may stand in it, or in a block or map of their own.
func (c *Config) audit(b *hcl.Block) hcl.Diagnostics {
	d := audit.Device{Type: b.Labels[0], Path: strings.TrimSuffix(b.Labels[1], "/") + "/", Options: make(map[string]string)}
	var inner []option
	for _, name := range deviceOptions {
		inner = append(inner, option{name, func(v value) (err error) {
			d.Options[name], err = v.word()
			return err
		}})
	}
	outer := append([]option{{"description", text(&d.Description)}, {"local", truth(&d.Local)}}, inner...)
	written := place{block: position(b.DefRange)}
	blocks, diags := fill(b.Body, outer, &written, hcl.BlockHeaderSchema{Type: "options"})
	for _, o := range blocks {
		_, more := fill(o.Body, inner, &place{})
		diags = append(diags, more...)
	}
	c.Audit = append(c.Audit, d)
	c.auditWritten = append(c.auditWritten, written)
	return diags
}

// checkAudit looks at what the devices have to do with each other.
func (c *Config) checkAudit() error {
	var errs []error
	seen, files := map[string]bool{}, map[string]bool{}
	for i, d := range c.Audit {
		var written place
		if i < len(c.auditWritten) {
			written = c.auditWritten[i]
		}
		name := strings.TrimSuffix(d.Path, "/")
		switch {
		case name == "" || strings.ContainsFunc(name, notDeviceName):
			errs = append(errs, written.failf("", "the path of an audit device must be a name of lower-case letters, digits, - and _"))
		case seen[name]:
			errs = append(errs, written.failf("", "there is an audit device %q already: give this one another path", name))
		}
		seen[name] = true
		if file := d.Options["file_path"]; file != "" && file != "stdout" {
			if file = filepath.Clean(file); files[file] {
				errs = append(errs, written.failf("", "another audit device writes to this file already: give this one another, best on another disk"))
			}
			files[file] = true
		}
	}
	return errors.Join(errs...)
}

func notDeviceName(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
}

// ownHeaders are those that the server sets itself, or that change how a reply is read.
var ownHeaders = []string{
	"Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Keep-Alive", "Retry-After", "Set-Cookie",
	"Trailer", "Transfer-Encoding", "Upgrade",
}

// setHeaders reads { default = { Name = ["value"] } }.
func (l *Listener) setHeaders(v value) error {
	kinds, err := v.object()
	if err != nil {
		return err
	}
	l.ResponseHeaders = make(http.Header)
	for kind, of := range kinds {
		if kind != "default" {
			return errors.New("can have only \"default\", which goes with every reply")
		}
		headers, err := of.object()
		if err != nil {
			return err
		}
		for name, values := range headers {
			if err := l.setHeader(http.CanonicalHeaderKey(name), values); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Listener) setHeader(name string, values value) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return errors.New("has something that can't be the name of a header")
	case slices.Contains(ownHeaders, name), strings.HasPrefix(name, "X-Vault-"), strings.HasPrefix(name, "Access-Control-"):
		return fmt.Errorf("can't have %s, which is the server's to set", name)
	case l.ResponseHeaders[name] != nil:
		return fmt.Errorf("has %s twice", name)
	}
	if s, err := values.text(); err == nil {
		l.ResponseHeaders[name] = []string{s}
	} else if l.ResponseHeaders[name], err = values.list(); err != nil {
		return fmt.Errorf("must give %s a string or a list of strings", name)
	}
	if len(l.ResponseHeaders[name]) == 0 || slices.ContainsFunc(l.ResponseHeaders[name], notHeaderValue) {
		return fmt.Errorf("must give %s a text that can stand in a header", name)
	}
	return nil
}

func notHeaderValue(s string) bool { return !httpguts.ValidHeaderFieldValue(s) }
