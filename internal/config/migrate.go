package config

import (
	"errors"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
)

// Migration says from which store everything is to be brought into which.
type Migration struct{ From, To Storage }

// The blocks of a migration. In each stands what would stand in a storage block.
const (
	sourceBlock      = "storage_source"
	destinationBlock = "storage_destination"
)

// LoadMigration reads a file, or a folder as Load does, and returns a valid Migration.
func LoadMigration(path string) (*Migration, error) {
	body, err := open(path)
	if err != nil {
		return nil, err
	}
	var m Migration
	sides := map[string]*Storage{sourceBlock: &m.From, destinationBlock: &m.To}
	blocks, diags := fill(body, nil, &place{},
		hcl.BlockHeaderSchema{Type: sourceBlock, LabelNames: []string{"type"}},
		hcl.BlockHeaderSchema{Type: destinationBlock, LabelNames: []string{"type"}},
	)
	for _, b := range blocks {
		side := sides[b.Type]
		if side.Type != "" {
			diags = append(diags, problem(b.DefRange, "there is a %s block at %s already: keep one of them", b.Type, side.written.block))
			continue
		}
		var c Config
		as := *b
		as.Type = "storage"
		diags = append(diags, c.block(&as)...)
		*side = c.Storage
	}
	if diags.HasErrors() {
		return nil, problems(diags)
	}
	return &m, m.check()
}

func (m *Migration) check() error {
	if m.From.Type == "" || m.To.Type == "" {
		return errors.New("a migration needs both a " + sourceBlock + " and a " + destinationBlock + " block, each with what a storage block would have")
	}
	for _, side := range []Storage{m.From, m.To} {
		if side.Type == StorageInmem {
			return side.written.failf("", "storage \"inmem\" keeps nothing: name a store that does")
		}
		if err := (&Config{Storage: side}).checkStorage(); err != nil {
			return err
		}
	}
	if m.From.Type == StorageBolt && m.To.Type == StorageBolt && filepath.Clean(m.From.Path) == filepath.Clean(m.To.Path) {
		return m.To.written.failf("path", "%s is the folder of %s, too: name another one", m.To.Path, sourceBlock)
	}
	return nil
}
