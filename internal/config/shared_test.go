package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/secret"
)

const (
	pg        = "storage \"postgresql\" {\n  connection_url = \"postgres://q@db/q\"\n"
	etcd      = "storage \"etcd\" {\n  address = \"https://10.0.0.1:2379\"\n"
	peerFiles = "  tls_cert_file = \"/c\"\n  tls_key_file = \"/k\"\n  tls_ca_file = \"/a\"\n"
)

func TestSharedStorage(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Storage
	}{
		"postgresql": {pg + "}", Storage{
			Type: StoragePostgreSQL, RequestTimeout: 5 * time.Second, ConnectionURL: secret.Own([]byte("postgres://q@db/q")), Table: "quorate", MaxConnections: 16,
		}},
		"all of postgresql": {
			"storage \"postgresql\" {\n connection_url_file = \"/run/secrets/pg\"\n table = \"app.vault_kv\"\n max_parallel = \"64\"\n request_timeout = \"3s\"\n" +
				"state_dir = \"/var/lib/quorate\"\n ha_enabled = \"true\"\n}",
			Storage{
				Type: StoragePostgreSQL, StateDir: "/var/lib/quorate", RequestTimeout: 3 * time.Second, ConnectionURLFile: "/run/secrets/pg", Table: "app.vault_kv",
				MaxConnections: 64,
			},
		},
		"etcd": {etcd + "}", Storage{
			Type: StorageEtcd, RequestTimeout: 5 * time.Second, Endpoints: []string{"https://10.0.0.1:2379"}, Prefix: "quorate/",
		}},
		"all of etcd": {
			"storage \"etcd\" {\n address = [\"10.0.0.1:2379\", \"etcd-2:2379\"]\n path = \"/vault/\"\n username = \"q\"\n password = \"hush\"\n" +
				"tls_ca_file = \"/ca\"\n tls_cert_file = \"/c\"\n tls_key_file = \"/k\"\n request_timeout = 2\n}",
			Storage{
				Type: StorageEtcd, RequestTimeout: 2 * time.Second, Endpoints: []string{"10.0.0.1:2379", "etcd-2:2379"}, Prefix: "/vault/", Username: "q",
				Password: secret.Own([]byte("hush")), TLSCAFile: "/ca", TLSCertFile: "/c", TLSKeyFile: "/k",
			},
		},
		"etcd here": {
			"storage \"etcd\" {\n address = \"http://127.0.0.1:2379/,[::1]:2379\"\n}",
			Storage{Type: StorageEtcd, RequestTimeout: 5 * time.Second, Endpoints: []string{"http://127.0.0.1:2379/", "[::1]:2379"}, Prefix: "quorate/"},
		},
		"etcd by commas": {
			"storage \"etcd\" {\n address = \"http://a:1,http://b:2\"\n}",
			Storage{Type: StorageEtcd, RequestTimeout: 5 * time.Second, Endpoints: []string{"http://a:1", "http://b:2"}, Prefix: "quorate/"},
		},
	} {
		got, err := load(t, "q.hcl", c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if forget(got); !reflect.DeepEqual(got.Storage, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got.Storage, c.want)
		}
		if !got.Storage.Shared() {
			t.Errorf("%s isn't shared", name)
		}
		warned := fmt.Sprint(got.Warnings)
		if want := strings.Contains(c.text, "ha_enabled"); strings.Contains(warned, "ha_enabled") != want {
			t.Errorf("%s warns of %s", name, warned)
		}
		if want := name == "etcd by commas"; strings.Contains(warned, "not encrypted") != want {
			t.Errorf("%s warns of %s", name, warned)
		}
	}
	for _, s := range []Storage{Default().Storage, Dev().Storage} {
		if s.Shared() {
			t.Errorf("%s is shared", s.Type)
		}
	}
}

// TestStorageSecrets: what leads into a store comes from the environment, from a file or from the configuration, and is never
// printed.
func TestStorageSecrets(t *testing.T) {
	const url, password = "postgres://q:hunter2@db/q", "hunter3"
	c, err := load(t, "q.hcl", "storage \"postgresql\" {\n  connection_url = \""+url+"\"\n}")
	if err != nil {
		t.Fatal(err)
	}
	want := func(s Storage, read func(Storage) (secret.Bytes, error), text string) {
		t.Helper()
		if got, err := read(s); err != nil || string(got.Reveal()) != text {
			t.Errorf("%q, %v, want %q", got.Reveal(), err, text)
		}
	}
	want(c.Storage, Storage.ReadConnectionURL, url)
	want(Storage{Type: StorageEtcd, Password: secret.Copy([]byte(password))}, Storage.ReadPassword, password)
	want(Storage{Type: StorageEtcd}, Storage.ReadPassword, "")
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(format, c); strings.Contains(text, "hunter") || strings.Contains(text, fmt.Sprintf("%x", "hunter")) {
			t.Errorf("%s prints it: %s", format, text)
		}
	}

	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	want(Storage{ConnectionURLFile: file}, Storage.ReadConnectionURL, "from a file")
	want(Storage{PasswordFile: file}, Storage.ReadPassword, "from a file")
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Storage{{ConnectionURLFile: file}, {ConnectionURLFile: file + ".absent"}, {ConnectionURLFile: filepath.Dir(file)}} {
		if got, err := s.ReadConnectionURL(); err == nil {
			t.Errorf("%+v: %q", s, got.Reveal())
		}
	}

	t.Setenv("QUORATE_PG_CONNECTION_URL", "from the environment")
	t.Setenv("QUORATE_ETCD_PASSWORD", "of the environment")
	want(c.Storage, Storage.ReadConnectionURL, "from the environment")
	want(Storage{PasswordFile: file}, Storage.ReadPassword, "of the environment")
	if _, err := load(t, "q.hcl", "storage \"postgresql\" {\n}"); err != nil {
		t.Errorf("a connection URL in the environment only: %v", err)
	}
}

func TestCluster(t *testing.T) {
	host := empty().Cluster.NodeName
	files := Cluster{TLSCertFile: "/c", TLSKeyFile: "/k", TLSCAFile: "/a"}
	for name, c := range map[string]struct {
		text string
		want Cluster
	}{
		"nothing":   {"", Cluster{NodeName: host}},
		"name only": {"cluster {\n  node_name = \"n1\"\n}", Cluster{NodeName: "n1"}},
		"address": {
			"cluster {\n  address = \"10.0.0.1:8201\"\n" + peerFiles + "}",
			Cluster{NodeName: host, Address: "10.0.0.1:8201", Advertise: "10.0.0.1:8201"},
		},
		"cluster_addr": {
			"cluster_addr = \"https://n1.example.org:8201\"\ncluster {\n  address = \":8201\"\n" + peerFiles + "}",
			Cluster{NodeName: host, Address: ":8201", Advertise: "n1.example.org:8201"},
		},
		"advertise": {
			"cluster_addr = \"https://other:1\"\ncluster {\n  address = \"0.0.0.0:8201\"\n  advertise = \"n1:8201\"\n  share_unseal = true\n  node_name = \"n1\"\n" + peerFiles + "}",
			Cluster{NodeName: "n1", Address: "0.0.0.0:8201", Advertise: "n1:8201", ShareUnseal: true},
		},
	} {
		got, err := load(t, "q.hcl", pg+"}\n"+c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.want.Address != "" {
			c.want.TLSCertFile, c.want.TLSKeyFile, c.want.TLSCAFile = files.TLSCertFile, files.TLSKeyFile, files.TLSCAFile
		}
		if forget(got); got.Cluster.Address != c.want.Address || !reflect.DeepEqual(got.Cluster, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, got.Cluster, c.want)
		}
	}
}

func TestSharedRejected(t *testing.T) {
	t.Setenv("QUORATE_PG_CONNECTION_URL", "")
	in := func(block, lines string) string { return block + lines + "\n}" }
	cluster := func(lines string) string { return pg + "}\ncluster {\n" + lines + "\n}" } // whose lines begin at 5
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"no URL", "storage \"postgresql\" {\n}", []string{":1:", "connection_url_file or QUORATE_PG_CONNECTION_URL"}},
		{"not a URL", "storage \"postgresql\" {\n  connection_url = \"mysql://q:hunter2@db/q\"\n}", []string{":2:", "must look like"}},
		{"two URLs", in(pg, "connection_url_file = \"/x\""), []string{":3:", "keep one"}},
		{"table with capitals", in(pg, "table = \"Quorate\""), []string{":3:", "lower-case"}},
		{"table with quotes", in(pg, "table = \"a\\\"b\""), []string{":3:", "lower-case"}},
		{"long table", in(pg, "table = \""+strings.Repeat("x", 60)+"\""), []string{":3:", "lower-case"}},
		{"one connection", in(pg, "max_connections = 1"), []string{":3:", "from 2 to"}},
		{"by another name", in(pg, "max_parallel = 5000"), []string{":3:", "from 2 to"}},
		{"both names", in(pg, "max_parallel = 5\nmax_connections = 5"), []string{":3:", "keep one"}},
		{"no time", in(pg, "request_timeout = 0"), []string{":3:", "100 milliseconds"}},
		{"too much time", in(etcd, "request_timeout = \"1h\""), []string{":3:", "5 minutes"}},
		{"relative state_dir", in(etcd, "state_dir = \"data\""), []string{":3:", "absolute"}},
		{"ha_enabled", in(pg, "ha_enabled = \"perhaps\""), []string{":3:", "true or false"}},
		{"key of another store", in(pg, "path = \"x\""), []string{":3:", `"path"`}},
		{"no address", "storage \"etcd\" {\n}", []string{":1:", "needs an address"}},
		{"empty addresses", "storage \"etcd\" {\n  address = []\n}", []string{":1:", "needs an address"}},
		{"address without port", "storage \"etcd\" {\n  address = \"10.0.0.1\"\n}", []string{":2:", "host:port"}},
		{"address with a password", "storage \"etcd\" {\n  address = \"https://q:hunter2@a:1\"\n}", []string{":2:", "host:port"}},
		{"address of another kind", "storage \"etcd\" {\n  address = \"unix://a:1\"\n}", []string{":2:", "host:port"}},
		{"mixed addresses", "storage \"etcd\" {\n  address = \"https://a:1,http://b:1\"\n}", []string{":2:", "mixes"}},
		{"plaintext and TLS files", "storage \"etcd\" {\n  address = \"http://a:1\"\n  tls_ca_file = \"/x\"\n}", []string{":2:", "write https://"}},
		{"space in path", in(etcd, "path = \"a b\""), []string{":3:", "without spaces"}},
		{"password without username", in(etcd, "password = \"hunter2\""), []string{":1:", "no username"}},
		{"two passwords", in(etcd, "username = \"q\"\npassword = \"hunter2\"\npassword_file = \"/x\""), []string{":5:", "keep one"}},
		{"certificate without key", in(etcd, "tls_cert_file = \"/c\""), []string{":3:", "belong together"}},
		{"key without certificate", in(etcd, "tls_key_file = \"/c\""), []string{":1:", "belong together"}},

		{"cluster over bolt", "storage \"bolt\" {\n  path = \"x\"\n}\ncluster {\n}", []string{":4:", "can share"}},
		{"two clusters", pg + "}\ncluster {\n}\ncluster {\n}", []string{":6:", "keep one"}},
		{"unknown key", cluster("adress = \"a:1\""), []string{":5:", `Did you mean "address"?`}},
		{"no files", cluster("address = \"10.0.0.1:8201\""), []string{":4:", "tls_ca_file"}},
		{"two of three files", cluster("address = \"10.0.0.1:8201\"\ntls_cert_file = \"/c\"\ntls_key_file = \"/k\""), []string{":4:", "tls_ca_file"}},
		{"files without address", cluster(peerFiles), []string{":4:", "needs an address"}},
		{"share_unseal without address", cluster("share_unseal = true"), []string{":4:", "needs an address"}},
		{"address without port", cluster("address = \"10.0.0.1\"\n" + peerFiles), []string{":5:", "host and a port"}},
		{"nowhere", cluster("address = \":8201\"\n" + peerFiles), []string{":4:", "advertise"}},
		{"all interfaces", cluster("advertise = \"[::]:8201\"\naddress = \":8201\"\n" + peerFiles), []string{":5:", "advertise"}},
		{"port 0", cluster("advertise = \"a:0\"\naddress = \":8201\"\n" + peerFiles), []string{":5:", "advertise"}},
		{"node_name with a space", cluster("node_name = \"a b\""), []string{":5:", "without spaces"}},
		{"cluster_addr of http", "cluster_addr = \"http://a:1\"\n" + cluster("address = \"a:1\"\n"+peerFiles), []string{":1:", "https://"}},
		{"cluster_addr with a path", "cluster_addr = \"https://a:1/x\"\n" + cluster("address = \"a:1\"\n"+peerFiles), []string{":1:", "https://"}},
		{"cluster_addr without port", "cluster_addr = \"https://a\"\n" + cluster("address = \"a:1\"\n"+peerFiles), []string{":1:", "https://"}},
		{"cluster_addr without address", "cluster_addr = \"https://a:1\"\n" + cluster(""), []string{":1:", "add cluster {"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, "q.hcl", c.text)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
			missing := slices.DeleteFunc(c.want, func(s string) bool { return strings.Contains(err.Error(), s) })
			if len(missing) > 0 {
				t.Errorf("error %q lacks %q", err, missing)
			}
		})
	}
}
