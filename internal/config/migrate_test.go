package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func loadMigration(t *testing.T, text string) (*Migration, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "migrate.hcl")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadMigration(name)
}

func TestLoadMigration(t *testing.T) {
	m, err := loadMigration(t, `
storage_destination "etcd" { address = "https://127.0.0.1:2379" }
storage_source "bolt" { path = "data" }
`)
	if err != nil {
		t.Fatal(err)
	}
	if m.From.Type != StorageBolt || m.From.Path != "data" || m.To.Type != StorageEtcd || m.To.Prefix != "quorate/" || m.To.RequestTimeout == 0 {
		t.Errorf("%+v", m)
	}
}

func TestMigrationsThatMakeNoSense(t *testing.T) {
	const from, to = "storage_source \"bolt\" { path = \"a\" }\n", "storage_destination \"bolt\" { path = \"b\" }\n"
	for text, want := range map[string]string{
		"":          "both a storage_source and a storage_destination",
		from:        "both a storage_source and a storage_destination",
		to:          "both a storage_source and a storage_destination",
		from + from: "migrate.hcl:2: there is a storage_source block at ",
		from + to + "storage \"bolt\" { path = \"c\" }":           "migrate.hcl:3: ",
		from + "storage_destination \"inmem\" {}":                 "migrate.hcl:2: storage \"inmem\" keeps nothing",
		from + "storage_destination \"bolt\" {}":                  "migrate.hcl:2: storage \"bolt\" needs a path",
		from + "storage_destination \"files\" {}":                 "migrate.hcl:2: storage \"files\" is not one of",
		from + "storage_destination \"bolt\" { path = \"./a/\" }": "migrate.hcl:2: ./a/ is the folder of storage_source",
		from + "storage_destination \"bolt\" { paht = \"x\" }":    "migrate.hcl:2: ",
		"storage_source {}\n" + to:                                "migrate.hcl:1: ",
	} {
		if _, err := loadMigration(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := LoadMigration(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no file, and no error")
	}
}
