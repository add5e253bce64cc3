package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/bolt"
	"github.com/quorate/quorate/internal/store/etcd"
	"github.com/quorate/quorate/internal/store/inmem"
	"github.com/quorate/quorate/internal/store/postgres"
)

// openStorage opens the store that a storage block describes. The error is written for the operator, and never has what
// leads into the store.
func openStorage(ctx context.Context, s config.Storage, log *slog.Logger) (store.Store, error) {
	if dir := localDir(s); dir != "" {
		if err := bolt.CheckDir(dir); err != nil {
			return nil, err
		}
	}
	switch s.Type {
	case config.StorageInmem:
		return inmem.New(), nil
	case config.StorageBolt:
		return opened(bolt.Open(filepath.Join(s.Path, dataFile), bolt.Options{Logger: log}))
	case config.StoragePostgreSQL:
		url, err := s.ReadConnectionURL()
		if err != nil {
			return nil, err
		}
		return opened(postgres.Open(ctx, postgres.Options{
			URL: string(url.Reveal()), Table: s.Table, MaxConnections: s.MaxConnections, Timeout: s.RequestTimeout, Logger: log,
		}))
	case config.StorageEtcd:
		return openEtcd(ctx, s, log)
	}
	return nil, fmt.Errorf("storage %q is unknown", s.Type)
}

// opened keeps the nil pointer of a failure from becoming a store.
func opened[T store.Store](st T, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return st, nil
}

func openEtcd(ctx context.Context, s config.Storage, log *slog.Logger) (store.Store, error) {
	password, err := s.ReadPassword()
	if err != nil {
		return nil, err
	}
	secure, err := etcdTLS(s)
	if err != nil {
		return nil, err
	}
	o := etcd.Options{
		Prefix: s.Prefix, Username: s.Username, Password: string(password.Reveal()), TLS: secure, Timeout: s.RequestTimeout, Logger: log,
	}
	for _, e := range s.Endpoints {
		switch {
		case strings.Contains(e, "://"):
		case secure != nil:
			e = "https://" + e
		default:
			e = "http://" + e
		}
		o.Endpoints = append(o.Endpoints, e)
	}
	return opened(etcd.Open(ctx, o))
}

// etcdTLS is nil for plaintext.
func etcdTLS(s config.Storage) (*tls.Config, error) {
	if !s.EtcdTLS() {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.TLSCAFile != "" {
		pool, err := loadPool(s.TLSCAFile)
		if err != nil {
			return nil, fmt.Errorf("the tls_ca_file for etcd can't be read, or has no certificate in PEM form: %w", err)
		}
		c.RootCAs = pool
	}
	if s.TLSCertFile != "" {
		cert, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSKeyFile)
		if err != nil {
			return nil, fmt.Errorf("the certificate for etcd can't be loaded: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// checkStorage finds what openStorage would, without going to another machine and without making anything.
func checkStorage(s config.Storage) error {
	var errs []error
	switch s.Type {
	case config.StoragePostgreSQL:
		_, err := s.ReadConnectionURL()
		errs = append(errs, err)
	case config.StorageEtcd:
		_, err := s.ReadPassword()
		_, errTLS := etcdTLS(s)
		errs = append(errs, err, errTLS)
	}
	if dir := localDir(s); dir != "" {
		// CheckDir would create an absent one.
		switch _, err := os.Stat(dir); {
		case err == nil:
			errs = append(errs, bolt.CheckDir(dir))
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("the data folder can't be used: %w", err))
		}
	}
	return errors.Join(errs...)
}

// localDir is the folder on this machine that belongs to a store; empty: there is none.
func localDir(s config.Storage) string {
	if s.Shared() {
		return s.StateDir
	}
	return s.Path
}
