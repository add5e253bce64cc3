package config

import (
	"os"
	"testing"
	"time"
)

// FuzzConfig: no text makes the parser panic or take long, and what is accepted is valid in itself.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"testdata/full.hcl", "testdata/full.json"} {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, seed := range []string{
		"", "{", "{}", "[]", "\xef\xbb\xbf{}", "storage \"inmem\" {}",
		"storage \"inmem\" {}\nmax_lease_ttl = 1e999999999",
		`{"storage": {"inmem": {}}, "max_lease_ttl": 1e-999999999}`,
		"storage \"bolt\" { path = \"\\u0000\\\"\" }", "a = \"$${x} %%{y}\"", "a = <<-X\n  ${{{\nX\n",
		"listener \"tcp\" { address = \"[::1%25lo]:0\" }", "a.b = 1", "a = [,]", "a = {b = {c = [1,2,", "/* ", "# \r\n\r",
		`{"storage": [[{"inmem": {}}], null], "//": 1}`, `{"listener": {"unix": [{"address": "/x", "socket_mode": "0777"}]}}`,
		"initialize {\npolicy \"a\" {\npolicy = <<E\nx\nE\n}\n}", "initialize {\npolicy \"a\" {\npolicy = file(\"testdata/policies/app.hcl\")\n}\n}",
		"initialize {\nmount \"kv\" { options = { version = 2 } }\nauth \"approle\" {}\nrole \"r\" { token_ttl = 1 }\n}",
		"cluster_addr = \"https://[::1]:1\"\nstorage \"etcd\" { address = \"https://a:1,b\" }\ncluster { address = \":1\" }",
		`{"storage": {"postgresql": {"connection_url": "a=b", "max_parallel": "3"}}, "cluster": {"advertise": "[::]:0", "address": "x:1"}}`,
		"audit \"file\" \"a\" {\noptions { mode = \"0600\" }\n}", `{"initialize": [{"policy": {"a": {"policy": "${file(\"x\")}"}}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > maxSize {
			return
		}
		start := time.Now()
		for _, name := range []string{"f.hcl", "f.json", "f.conf"} {
			body, err := parse(name, src)
			if err != nil {
				continue
			}
			c, err := decodeConfig(body)
			if err != nil {
				if c != nil {
					t.Error("a configuration came back with an error")
				}
				continue
			}
			if err := c.Validate(); err != nil {
				t.Errorf("accepted, and then: %v", err)
			}
			if i := c.Initialize; i != nil && len(i.Describe()) != len(i.Policies)+len(i.Mounts)+len(i.Logins) {
				t.Errorf("of %+v, this is told: %q", i, i.Describe())
			}
			for _, l := range c.Listeners {
				if l.Type == TCP && !l.TLS() && !l.Loopback() && !l.TLSDisable {
					t.Errorf("plaintext off loopback without consent: %q", l.Address)
				}
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%d bytes took %s", len(src), took)
		}
	})
}
