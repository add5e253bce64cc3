package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/internal/config"
)

// loadedTLS is a configuration that can be served with, and what is odd about it.
type loadedTLS struct {
	config   *tls.Config
	warnings []string
}

// loadTLS reads the files that l names. Everything but versions and certificates is the Go library's choice.
func loadTLS(l config.Listener, now time.Time) (*loadedTLS, error) {
	cert, err := tls.LoadX509KeyPair(l.TLSCertFile, l.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate of listener %s can't be loaded: %w", l.Address, err)
	}
	out := &loadedTLS{config: &tls.Config{
		MinVersion:   l.TLSMinVersion,
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"h2", "http/1.1"},
	}}
	switch {
	case now.After(cert.Leaf.NotAfter):
		out.warnings = append(out.warnings, "the certificate has expired: clients will refuse it")
	case now.Before(cert.Leaf.NotBefore):
		out.warnings = append(out.warnings, "the certificate is not valid yet: clients will refuse it")
	}
	if l.TLSClientCAFile != "" {
		if out.config.ClientCAs, err = loadPool(l.TLSClientCAFile); err != nil {
			return nil, fmt.Errorf("the client CA of listener %s can't be loaded: %w", l.Address, err)
		}
		out.config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return out, nil
}

func loadPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(path + " has no PEM certificate in it")
	}
	return pool, nil
}
