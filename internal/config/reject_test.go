package config

import (
	"strings"
	"testing"
)

// TestRejected: each file is refused, and the error names the line and says what to do.
func TestRejected(t *testing.T) {
	const ok = "storage \"inmem\" {}\n"
	tcp := func(lines string) string {
		return ok + "listener \"tcp\" {\n  address = \"127.0.0.1:1\"\n" + lines + "\n}"
	}
	unix := func(lines string) string { return ok + "listener \"unix\" {\n" + lines + "\n}" }
	for _, c := range []struct {
		name, text string
		want       []string // each in the error
	}{
		// Unknown things.
		{"unknown key", ok + "colour = \"red\"", []string{":2:", `"colour" is not expected`}},
		{"close key", ok + "log_levle = \"info\"", []string{":2:", `Did you mean "log_level"?`}},
		{"close key in a listener", tcp("tls_crt_file = \"x\""), []string{":4:", `Did you mean "tls_cert_file"?`}},
		{"unknown key in storage", "storage \"inmem\" {\n  path = \"x\"\n}", []string{":2:", `"path" is not expected`}},
		{"unix key on tcp", tcp("socket_mode = \"0600\""), []string{":4:", `"socket_mode"`}},
		{"tcp key on unix", unix("address = \"/x\"\ntls_disable = true"), []string{":4:", `"tls_disable"`}},
		{"unknown block", ok + "seal \"awskms\" {\n}", []string{":2:", `"seal" are not expected`}},
		{"close block", ok + "listner \"tcp\" {\n}", []string{":2:", `Did you mean "listener"?`}},
		{"unknown block in a listener", tcp("profiling {\n}"), []string{":4:", `"profiling"`}},
		{"unknown key in ceremony", ok + "ceremony {\n  timeout = 1\n}", []string{":3:", `"timeout"`}},
		{"key as block", ok + "api_addr {\n}", []string{":2:", `define argument "api_addr"`}},
		{"block as key", "storage = \"inmem\"", []string{":1:", `block of type "storage"`}},
		{"unknown key in telemetry", tcp("telemetry {\nunauthenticated_pprof_access = true\n}"), []string{":5:", `"unauthenticated_pprof_access"`}},
		{"cluster_addr", ok + `cluster_addr = "http://127.0.0.1:8201"`, []string{":2:", "add cluster {"}},
		{"cluster_address", tcp(`cluster_address = "127.0.0.1:8201"`), []string{":4:", "write cluster {"}},

		// Storage.
		{"nothing at all", "", []string{`add storage "bolt"`}},
		{"only comments", "# nothing\n", []string{`add storage "bolt"`}},
		{"unknown storage", "\nstorage \"raft\" {\n}", []string{":2:", `"bolt", "postgresql", "etcd" and "inmem"`}},
		{"two storages", ok + ok, []string{":2:", ":1 already", "keep one"}},
		{"storage without type", "storage {\n}", []string{":1:", "type"}},
		{"bolt without path", "storage \"bolt\" {\n}", []string{":1:", "needs a path"}},
		{"bolt with empty path", "storage \"bolt\" {\n  path = \"\"\n}", []string{":2:", "path", "not empty"}},

		// Listeners.
		{"unknown listener", ok + "listener \"udp\" {\n}", []string{":2:", `"tcp" and "unix"`}},
		{"tcp with an empty address", ok + "listener \"tcp\" {\n  address = \"\"\n}", []string{":3:", "address must be a string"}},
		{"no port", ok + "listener \"tcp\" {\n  address = \"127.0.0.1\"\n}", []string{":3:", "host and a port"}},
		{"port out of range", ok + "listener \"tcp\" {\n  address = \"127.0.0.1:65536\"\n}", []string{":3:", "host and a port"}},
		{"named port", ok + "listener \"tcp\" {\n  address = \"127.0.0.1:http\"\n}", []string{":3:", "host and a port"}},
		{"URL as address", ok + "listener \"tcp\" {\n  address = \"http://127.0.0.1:80\"\n}", []string{":3:", "host and a port"}},
		{"space in the host", ok + "listener \"tcp\" {\n  address = \"a b:80\"\n}", []string{":3:", "host and a port"}},
		{"same address twice", tcp("") + "\nlistener \"tcp\" {\n  address = \"127.0.0.1:1\"\n}", []string{":7:", "already"}},
		{"plaintext on all interfaces", ok + "listener \"tcp\" {\n  address = \":8200\"\n}", []string{":3:", "tls_disable = true"}},
		{"plaintext on 0.0.0.0", ok + "listener \"tcp\" {\n  address = \"0.0.0.0:8200\"\n}", []string{":3:", "tls_disable = true"}},
		{"plaintext on an address", ok + "listener \"tcp\" {\n  address = \"192.0.2.1:8200\"\n}", []string{":3:", "tls_disable = true"}},
		{"plaintext on a name", ok + "listener \"tcp\" {\n  address = \"example.org:8200\"\n}", []string{":3:", "tls_disable = true"}},
		{
			"tls_disable = false is no consent", ok + "listener \"tcp\" {\n  address = \"0.0.0.0:1\"\n  tls_disable = false\n}",
			[]string{":3:", "tls_disable = true"},
		},
		{"disable and files", tcp("tls_disable = true\ntls_cert_file = \"x\"\ntls_key_file = \"y\""), []string{":4:", "contradict"}},
		{"cert without key", tcp("tls_cert_file = \"x\""), []string{":4:", "tls_key_file"}},
		{"key without cert", tcp("tls_key_file = \"x\""), []string{":2:", "tls_cert_file"}},
		{"client CA alone", tcp("tls_client_ca_file = \"x\""), []string{":2:", "tls_cert_file"}},
		{"TLS 1.0", tcp("tls_min_version = \"tls10\""), []string{":4:", "tls12 and tls13"}},
		{"TLS 1.1", tcp("tls_min_version = \"tls11\""), []string{":4:", "tls12 and tls13"}},
		{"ceremonies", tcp("ceremonies = \"everybody\""), []string{":4:", "local, token or open"}},
		{"proxies not an address", tcp("x_forwarded_for_authorized_addrs = [\"proxy.example.org\"]"), []string{":4:", "networks"}},
		{"proxies with a zone", tcp("x_forwarded_for_authorized_addrs = [\"fe80::1%eth0\"]"), []string{":4:", "networks"}},
		{"proxies of numbers", tcp("x_forwarded_for_authorized_addrs = [1]"), []string{":4:", "list of strings"}},
		{"request size 0", tcp("max_request_size = 0"), []string{":4:", "from 1 byte"}},
		{"request size too big", tcp("max_request_size = \"1GiB\""), []string{":4:", "64 MiB"}},
		{"request size unit", tcp("max_request_size = \"1MB\""), []string{":4:", "32MiB"}},
		{"request size overflow", tcp("max_request_size = \"99999999999999GiB\""), []string{":4:", "32MiB"}},
		{"no header timeout", tcp("http_read_header_timeout = 0"), []string{":4:", "more than nothing"}},
		{"no read timeout", tcp("http_read_timeout = \"0s\""), []string{":4:", "more than nothing"}},
		{"no idle timeout", tcp("http_idle_timeout = 0"), []string{":4:", "more than nothing"}},
		{"no duration", tcp("max_request_duration = 0"), []string{":4:", "more than nothing"}},
		{"duration of years", tcp("max_request_duration = \"9999h\""), []string{":4:", "24 hours"}},
		{"no connections", tcp("max_connections = 0"), []string{":4:", "from 1 to"}},
		{"too many connections", tcp("max_connections = 1000000000000"), []string{":4:", "whole number"}},
		{"unix without address", unix("socket_mode = \"0600\""), []string{":2:", "path of the socket"}},
		{"abstract socket", unix("address = \"@quorate\""), []string{":3:", "abstract"}},
		{"long socket path", unix("address = \"/" + strings.Repeat("x", 101) + "\""), []string{":3:", "100 bytes"}},
		{"socket mode number", unix("address = \"/x\"\nsocket_mode = 600"), []string{":4:", "double quotes"}},
		{"socket mode not octal", unix("address = \"/x\"\nsocket_mode = \"0689\""), []string{":4:", "octal"}},
		{"socket mode setuid", unix("address = \"/x\"\nsocket_mode = \"4600\""), []string{":4:", "octal"}},
		{"socket mode shuts out the owner", unix("address = \"/x\"\nsocket_mode = \"0066\""), []string{":4:", "octal"}},

		// The rest.
		{"api_addr without scheme", ok + `api_addr = "vault.example.org:8200"`, []string{":2:", "must be a URL"}},
		{"api_addr ftp", ok + `api_addr = "ftp://vault.example.org"`, []string{":2:", "must be a URL"}},
		{"api_addr with a user", ok + `api_addr = "https://user:pw@vault.example.org"`, []string{":2:", "must be a URL"}},
		{"api_addr with a path", ok + `api_addr = "https://vault.example.org/v1"`, []string{":2:", "must be a URL"}},
		{"cluster_name with spaces", ok + `cluster_name = "a b"`, []string{":2:", "without spaces"}},
		{"cluster_name too long", ok + `cluster_name = "` + strings.Repeat("x", 65) + `"`, []string{":2:", "64"}},
		{"log_level", ok + `log_level = "loud"`, []string{":2:", "trace, debug"}},
		{"log_level number", ok + `log_level = 3`, []string{":2:", "double quotes"}},
		{"log_format", ok + `log_format = "xml"`, []string{":2:", "standard and json"}},
		{"ui", ok + `ui = true`, []string{":2:", "no web interface"}},
		{"ui word", ok + `ui = "maybe"`, []string{":2:", "true or false"}},
		{"ui number", ok + `ui = 2`, []string{":2:", "true or false"}},
		{"ui list", ok + `ui = []`, []string{":2:", "true or false"}},
		{"disable_mlock word", ok + `disable_mlock = "yes please"`, []string{":2:", "true or false"}},
		{"pid_file with a control character", ok + `pid_file = "a\nb"`, []string{":2:", "control characters"}},
		{"ttl word", ok + `max_lease_ttl = "forever"`, []string{":2:", "duration"}},
		{"ttl negative", ok + `max_lease_ttl = "-1h"`, []string{":2:", "duration"}},
		{"ttl bad days", ok + `max_lease_ttl = "1.5d"`, []string{":2:", "duration"}},
		{"ttl zero", ok + `default_lease_ttl = 0`, []string{":2:", "more than nothing"}},
		{"max ttl zero", ok + `max_lease_ttl = 0`, []string{":2:", "more than nothing"}},
		{"ttl of centuries", ok + `max_lease_ttl = "99999d"`, []string{":2:", "36500 days"}},
		{"ttl of centuries in hours", ok + `max_lease_ttl = "2000000h"`, []string{":2:", "36500 days"}},
		{"ttl of centuries in seconds", ok + `max_lease_ttl = 9223372036854775807`, []string{":2:", "36500 days"}},
		{"ttl over the max", ok + "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"", []string{":2:", "max_lease_ttl"}},
		{"null", ok + `api_addr = null`, []string{":2:", "double quotes"}},
		{"list for a string", ok + `api_addr = ["x"]`, []string{":2:", "double quotes"}},
		{"object", ok + `api_addr = {}`, []string{":2:", "double quotes"}},
		{"ceremony zero", ok + "ceremony {\n  idle_timeout = 0\n}", []string{":3:", "from 1 second"}},
		{"ceremony too long", ok + "ceremony {\n  total_timeout = \"91d\"\n}", []string{":3:", "90 days"}},
		{"ceremony unapproved over total", ok + "ceremony {\n  unapproved_timeout = \"25h\"\n}", []string{":3:", "total_timeout"}},
		{"ceremony idle over total", ok + "ceremony {\n  idle_timeout = \"1h\"\n  total_timeout = \"30m\"\n}", []string{":3:", "total_timeout"}},
		{"ceremony result", ok + "ceremony {\n  result_ttl = \"10ms\"\n}", []string{":3:", "from 1 second"}},
		{"two ceremonies", ok + "ceremony {\n}\nceremony {\n}", []string{":4:", ":2 already"}},

		// Syntax.
		{"key twice", ok + "log_level = \"info\"\nlog_level = \"warn\"", []string{":3:", "already set"}},
		{"unclosed block", "storage \"inmem\" {", []string{":1:"}},
		{"unclosed string", ok + `api_addr = "x`, []string{":2:"}},
		{"no value", ok + `api_addr =`, []string{":2:"}},
		{"reference", ok + `api_addr = storage`, []string{":2:", "ariables"}},
		{"function", ok + `api_addr = file("x")`, []string{":2:", "plain value"}},
		{"template", ok + `api_addr = "${x}"`, []string{":2:", "plain value"}},
		{"template control", ok + `api_addr = "%{if true}x%{endif}"`, []string{":2:", "plain value"}},
		{"heredoc", ok + "api_addr = <<E\nx\nE\n", []string{":2:", "plain value"}},
		{"arithmetic", ok + `max_lease_ttl = 1 + 1`, []string{":2:", "plain value"}},
		{"negation", ok + `max_lease_ttl = ` + strings.Repeat("-", 100_000) + `1`, []string{":2:", "plain value"}},
		{"logic", ok + `ui = ` + strings.Repeat("!", 100_000) + `true`, []string{":2:", "plain value"}},
		{"condition", ok + `ui = true ? false : false`, []string{":2:", "plain value"}},
		{"for", ok + `x_forwarded_for_authorized_addrs = [for a in b : a]`, []string{":2:", "plain value"}},
		{"parentheses", ok + `max_lease_ttl = ` + strings.Repeat("(", 100_000), []string{":2:", "plain value"}},
		{"deep lists", ok + `api_addr = ` + strings.Repeat("[", 100_000), []string{":2:", "deeper than 16"}},
		{"deep blocks", strings.Repeat("a {\n", 17), []string{":17:", "deeper than 16"}},
		{"huge exponent", ok + `max_lease_ttl = 1e999999999`, []string{":2:"}},
		{"tiny exponent", ok + `max_lease_ttl = 1e-999999999`, []string{":2:"}},
		{"fraction", ok + `max_lease_ttl = 1.5`, []string{":2:", "duration"}},
		{"NUL", ok + "api_addr = \"a\x00b\"", []string{":2:", "control characters"}},
		{"not UTF-8", ok + "api_addr = \"\xff\xfe\"", []string{":2:"}},
		{"binary", "\x7fELF\x02\x01\x01", []string{":1:"}},
		{"too big", ok + "#" + strings.Repeat("x", maxSize), []string{"256 KiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, "q.hcl", c.text)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			if got != nil {
				t.Error("a configuration came back with the error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if len(err.Error()) > 4096 {
				t.Errorf("the error has %d characters", len(err.Error()))
			}
		})
	}
}

func TestRejectedJSON(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "{\"storage\": {\"inmem\": {}},\n\"colour\": 1}", []string{":2:", `"colour"`}},
		{"close key", "{\"storage\": {\"inmem\": {}},\n\"log_levle\": \"info\"}", []string{":2:", `Did you mean "log_level"?`}},
		{"unknown storage", `{"storage": {"raft": {}}}`, []string{":1:", `"bolt", "postgresql", "etcd" and "inmem"`}},
		{"key twice", "{\"storage\": {\"inmem\": {}},\n\"log_level\": \"info\",\n\"log_level\": \"warn\"}", []string{":3:", "already"}},
		{"storage of a wrong shape", `{"storage": "inmem"}`, []string{":1:"}},
		{"storage without type", `{"storage": {}}`, []string{":1:"}},
		{"listener of a wrong shape", `{"storage": {"inmem": {}}, "listener": {"tcp": 1}}`, []string{":1:"}},
		{"template", "{\"storage\": {\"inmem\": {}},\n\"api_addr\": \"${x}\"}", []string{":2:", "URL"}},
		{"trailing text", `{"storage": {"inmem": {}}} x`, []string{":1:"}},
		{"array", `[]`, []string{`add storage "bolt"`}},
		{"array of text", `["x"]`, []string{":1:"}},
		{"empty", ``, []string{"q.json"}},
		{"deep", "{\"a\":\n" + strings.Repeat("[", 100_000), []string{":2:", "deeper than 16"}},
		{"huge exponent", `{"storage": {"inmem": {}}, "max_lease_ttl": 1e999999999}`, []string{":1:"}},
		{"huge exponent for a string", `{"storage": {"inmem": {}}, "api_addr": 1e999999999}`, []string{":1:", "string"}},
		{"null", `{"storage": {"inmem": {}}, "max_lease_ttl": null}`, []string{":1:", "duration"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, "q.json", c.text)
			if err == nil {
				t.Fatalf("accepted: %+v", got)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

// TestAllProblemsAtOnce: somebody who mends a file learns of several problems in one go, in their order, but not of
// endless ones.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := load(t, "q.hcl", "storage \"inmem\" {}\nzebra = 1\nui = true\napple = 2\nlog_level = \"loud\"")
	if err == nil {
		t.Fatal("accepted")
	}
	last := -1
	for _, line := range []string{":2:", ":3:", ":4:", ":5:"} {
		at := strings.Index(err.Error(), line)
		if at <= last {
			t.Fatalf("line %s is missing or out of order in\n%v", line, err)
		}
		last = at
	}
	var many strings.Builder
	for i := range 1000 {
		many.WriteString("unknown_" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + "q {}\n")
	}
	_, err = load(t, "q.hcl", many.String())
	if err == nil || strings.Count(err.Error(), "\n") > maxProblems {
		t.Errorf("a thousand problems: %v", err)
	}
}
