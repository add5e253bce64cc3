package config

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/quorate/quorate/internal/auth/approle"
	"github.com/quorate/quorate/internal/auth/userpass"
	"github.com/quorate/quorate/internal/engine"
)

const (
	testHash = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
	weakHash = "$2a$05$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
)

// TestInitializeRejected: each block is refused with its line, and the error says what to do. The block's first line is
// the third of the file.
func TestInitializeRejected(t *testing.T) {
	const userpass = "auth \"userpass\" {}\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"attribute", `colour = 1`, []string{":3:", `"colour" is not expected`}},
		{"secret", `secret "x" {}`, []string{":3:", `"secret" are not expected`}},

		{"policy without text", `policy "app" {}`, []string{":3:", "has no text"}},
		{"policy with an empty text", "policy \"app\" {\npolicy = \"\"\n}", []string{":4:", "not empty"}},
		{"policy of a number", "policy \"app\" {\npolicy = 1\n}", []string{":4:", "file("}},
		{"policy that isn't one", "policy \"app\" {\npolicy = \"path\"\n}", []string{":4:", `policy "app": `, "line 1"}},
		{"policy root", "policy \" Root\" {\npolicy = \"path x {}\"\n}", []string{":4:", "built in"}},
		{"policy with an odd name", "policy \"a b\" {\npolicy = \"path x {}\"\n}", []string{":4:", "policy name"}},
		{
			"policy twice", "policy \"app\" {\npolicy = \"# nothing\"\n}\npolicy \"APP\" {\npolicy = \"# nothing\"\n}",
			[]string{":6:", `"app" already`},
		},
		{"policy in an absent file", "policy \"app\" {\npolicy = file(\"absent\")\n}", []string{":4:", "absent"}},
		{"policy in a folder", "policy \"app\" {\npolicy = file(\".\")\n}", []string{":4:", "not a regular file"}},
		{"policy in an unnamed file", "policy \"app\" {\npolicy = file(\"\")\n}", []string{":4:", "file must be a string"}},
		{"policy in two files", "policy \"app\" {\npolicy = file(\"a\", \"b\")\n}", []string{":4:", "unction"}},
		{"another function", "policy \"app\" {\npolicy = abs(1)\n}", []string{":4:", "plain value"}},
		{"file for something else", "mount \"a\" {\ntype = file(\"x\")\n}", []string{":4:", "plain value"}},
		{"heredoc for something else", "mount \"a\" {\ntype = <<E\nx\nE\n}", []string{":4:", "plain value"}},
		{"file inside a map", "mount \"kv\" {\noptions = { policy = file(\"x\") }\n}", []string{":4:", "unction"}},
		{"reference in a heredoc", "policy \"app\" {\npolicy = <<E\n${x}\nE\n}", []string{":5:", "plain value"}},
		{"file of a file", "policy \"app\" {\npolicy = file(policy = file(\"x\"))\n}", []string{":4:"}},
		{"deep files", "policy \"app\" {\npolicy = " + strings.Repeat("file(", 20_000), []string{":4:", "plain value"}},

		{"mount without type", `mount "a" {}`, []string{":3:", "type of a/ must be one of kv"}},
		{"mount of an unknown type", "mount \"a\" {\ntype = \"pki\"\n}", []string{":4:", "must be one of kv"}},
		{"mount of an auth type", "mount \"a\" {\ntype = \"approle\"\n}", []string{":4:", "must be one of kv"}},
		{"mount at no path", `mount "a/../b" {}`, []string{":3:", "choose another path"}},
		{"mount at auth", `mount "auth/x" {}`, []string{":3:", "belong to auth methods"}},
		{"mount at sys", `mount "sys" {}`, []string{":3:", "in use at sys/"}},
		{"mount at identity", "mount \"identity\" {\ntype = \"kv\"\n}", []string{":3:", "reserved"}},
		{"mounts inside each other", "mount \"kv\" {}\nmount \"kv/x\" {\ntype = \"kv\"\n}", []string{":4:", "in use at kv/"}},
		{"mount version", "mount \"kv\" {\noptions = { version = 3 }\n}", []string{":4:", "1 or 2"}},
		{"mount options of a list", "mount \"kv\" {\noptions = [1]\n}", []string{":4:", "map"}},
		{"mount option of a list", "mount \"kv\" {\noptions = { version = [] }\n}", []string{":4:", "must be a string"}},
		{"mount TTLs", "mount \"kv\" {\nmax_lease_ttl = 1\ndefault_lease_ttl = 2\n}", []string{":5:", "max_lease_ttl"}},
		{"auth without type", `auth "x" {}`, []string{":3:", "must be one of approle, userpass"}},
		{"auth token", `auth "token" {}`, []string{":3:", "in use at auth/token/"}},

		{"user without auth", "user \"a\" {\npassword_hash = \"" + testHash + "\"\n}", []string{":3:", `auth "userpass" { type = "userpass" }`}},
		{
			"user of another auth method", userpass + "auth \"approle\" {}\nuser \"a\" {\npassword_hash = \"" + testHash + "\"\nauth = \"approle\"\n}",
			[]string{":7:", `auth "approle" { type = "userpass" }`},
		},
		{"role without auth", `role "a" {}`, []string{":3:", `auth "approle" { type = "approle" }`}},
		{"user in a strange place", userpass + "user \"a\" {\nauth = \"..\"\n}", []string{":5:", "choose another path"}},
		{"user without password", userpass + `user "a" {}`, []string{":4:", "either password_file or password_hash"}},
		{
			"user with two", userpass + "user \"a\" {\npassword_hash = \"" + testHash + "\"\npassword_file = \"x\"\n}",
			[]string{":4:", "either password_file or password_hash"},
		},
		{"user with a clear password", userpass + "user \"a\" {\npassword = \"x\"\n}", []string{":5:", "password_file or password_hash"}},
		{"user with no hash", userpass + "user \"a\" {\npassword_hash = \"x\"\n}", []string{":5:", "bcrypt hash of cost 10"}},
		{"user with a weak hash", userpass + "user \"a\" {\npassword_hash = \"" + weakHash + "\"\n}", []string{":5:", "bcrypt hash of cost 10"}},
		{"user with an odd name", userpass + "user \"a/b\" {\npassword_hash = \"" + testHash + "\"\n}", []string{":4:", "slashes"}},
		{"user without name", userpass + "user \" \" {\npassword_hash = \"" + testHash + "\"\n}", []string{":4:", "slashes"}},
		{
			"user twice", userpass + "user \"a\" {\npassword_hash = \"" + testHash + "\"\n}\nuser \"A \" {\npassword_hash = \"" + testHash + "\"\n}",
			[]string{":7:", `user "a" already`},
		},
		{"user with root", userpass + "user \"a\" {\npolicies = \"dev, Root\"\n}", []string{":5:", "root"}},
		{"user with an odd policy", userpass + "user \"a\" {\npolicies = [\"a b\"]\n}", []string{":5:", "policy name"}},
		{
			"policies in two ways", userpass + "user \"a\" {\npolicies = [\"a\"]\ntoken_policies = [\"a\"]\n}",
			[]string{":6:", "token_policies says the same"},
		},
		{"user with a role's field", userpass + "user \"a\" {\nbind_secret_id = true\n}", []string{":5:", "not expected"}},
		{"users without end", strings.Repeat("user \"a\" {}\n", maxEntries+1), []string{"more than 256"}},
		{"close field", "role \"a\" {\ntoken_tll = 1\n}", []string{":4:", `Did you mean "token_ttl"?`}},
		{"field of a map", "role \"a\" {\ntoken_ttl = {}\n}", []string{":4:", "list of strings"}},
		{"field of a fraction", "role \"a\" {\ntoken_ttl = 1.5\n}", []string{":4:", "whole number"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, "q.hcl", "storage \"inmem\" {}\ninitialize {\n"+c.text+"\n}\n")
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), testHash[10:]) || strings.Contains(err.Error(), weakHash[10:]) || len(err.Error()) > 4096 {
				t.Errorf("the error says too much: %v", err)
			}
		})
	}
}

func TestAuditAndHeadersRejected(t *testing.T) {
	const listener = "listener \"tcp\" {\ncustom_response_headers = "
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"no path", `audit "file" {}`, []string{":2:", "path"}},
		{"empty path", `audit "file" "" {}`, []string{":2:", "lower-case"}},
		{"odd path", `audit "file" "a/b" {}`, []string{":2:", "lower-case"}},
		{"twice", "audit \"file\" \"a\" {}\naudit \"stdout\" \"a/\" {}", []string{":3:", `"a" already`}},
		{"twice, once inside initialize", "audit \"file\" \"a\" {}\ninitialize {\naudit \"stdout\" \"a\" {}\n}", []string{":4:", `"a" already`}},
		{"unknown option", "audit \"file\" \"a\" {\nfile_pth = \"/x\"\n}", []string{":3:", `Did you mean "file_path"?`}},
		{"unknown option inside", "audit \"file\" \"a\" {\noptions {\nfile_pth = \"/x\"\n}\n}", []string{":4:", `Did you mean "file_path"?`}},
		{"option of a list", "audit \"file\" \"a\" {\nfile_path = []\n}", []string{":3:", "must be a string"}},
		{"relative audit_dir", `audit_dir = "audit"`, []string{":2:", "absolute"}},

		{"headers of a string", listener + "\"x\"\n}", []string{":3:", "map"}},
		{"headers for a status", listener + "{ \"4xx\" = {} }\n}", []string{":3:", `only "default"`}},
		{"headers of a list", listener + "{ default = [] }\n}", []string{":3:", "map"}},
		{"header with a strange name", listener + "{ default = { \"a b\" = \"x\" } }\n}", []string{":3:", "name of a header"}},
		{"header of the server", listener + "{ default = { content-type = \"x\" } }\n}", []string{":3:", "Content-Type", "server's"}},
		{"header of the protocol", listener + "{ default = { x-vault-token = \"x\" } }\n}", []string{":3:", "X-Vault-Token"}},
		{"header twice", listener + "{ default = { a = \"x\", A = \"y\" } }\n}", []string{":3:", "A twice"}},
		{"header without value", listener + "{ default = { a = [] } }\n}", []string{":3:", "give A a text"}},
		{"header of a number", listener + "{ default = { a = 1 } }\n}", []string{":3:", "give A a string"}},
		{"header with a line", listener + "{ default = { a = [\"x\\ny\"] } }\n}", []string{":3:", "give A a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := load(t, "q.hcl", "storage \"inmem\" {}\n"+c.text+"\n")
			if err == nil || got != nil {
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

// writeFile puts a file beside a configuration.
func writeFile(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const withBob = `
storage "inmem" {}
initialize {
  auth "userpass" {}
  user "bob" {
    password_file = "bob"
    policies      = ["dev"]
  }
}
`

func TestRequests(t *testing.T) {
	c, err := Load("testdata/full.hcl")
	if err != nil {
		t.Fatal(err)
	}
	i := c.Initialize
	dir := t.TempDir()
	i.Logins[1].PasswordFile = writeFile(t, dir, "bob", "correct horse\n", 0o600)
	got, err := i.Requests()
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	hash, _ := got[1].Data["password_hash"].(string)
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte("correct horse")); err != nil {
		t.Errorf("bob's hash is not that of the line in the file: %v", err)
	}
	want := []Request{
		{"auth/userpass/users/alice", map[string]any{"password_hash": testHash, "token_policies": []string{"ops"}, "token_ttl": "8h"}},
		{"auth/userpass/users/bob", map[string]any{"password_hash": hash}},
		{"auth/machines/role/app", map[string]any{
			"role_id": "app", "bind_secret_id": true, "secret_id_num_uses": int64(5),
			"secret_id_bound_cidrs": []string{"10.0.0.0/8"}, "token_policies": []string{"app", "default"},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for text, sentence := range map[string]string{
		"":                              "from 1 to 72 bytes",
		"\r\n":                          "from 1 to 72 bytes",
		strings.Repeat("canary", 13):    "from 1 to 72 bytes",
		strings.Repeat("canary ", 1000): "over the limit",
	} {
		writeFile(t, dir, "bob", text, 0o600)
		if _, err := i.Requests(); err == nil || !strings.Contains(err.Error(), sentence) || strings.Contains(err.Error(), "canary") {
			t.Errorf("a password file of %d bytes: %v", len(text), err)
		}
	}
	if err := os.Remove(i.Logins[1].PasswordFile); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Requests(); err == nil || !strings.Contains(err.Error(), `: user "bob": the password file can`) {
		t.Errorf("an absent password file: %v", err)
	}
}

func TestPasswordFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no such modes here")
	}
	dir := t.TempDir()
	config := writeFile(t, dir, "q.hcl", withBob, 0o600)
	c, err := Load(config)
	if err != nil || len(c.Warnings) != 2 || !strings.Contains(c.Warnings[0], "which it doesn't have") || !strings.Contains(c.Warnings[1], "no password file") {
		t.Fatalf("without the file: %v, %v", c, err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o604: false, 0o602: false, 0o644: false} {
		writeFile(t, dir, "bob", "secret", 0o600)
		if err := os.Chmod(filepath.Join(dir, "bob"), mode); err != nil {
			t.Fatal(err)
		}
		c, err := Load(config)
		if ok && (err != nil || len(c.Warnings) != 1) {
			t.Errorf("mode %o: %v, %v", mode, c, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "q.hcl:6: everybody on this machine")) {
			t.Errorf("mode %o: %v", mode, err)
		}
		if err := os.Remove(filepath.Join(dir, "bob")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDescribe(t *testing.T) {
	c, err := Load("testdata/full.hcl")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"write policy app", "write policy ops",
		"mount the secrets engine kv at secret/, version 2",
		"enable the auth method userpass at auth/userpass/", "enable the auth method approle at auth/machines/",
		"create user alice in auth/userpass/, with the policies ops", "create user bob in auth/userpass/",
		"create role app in auth/machines/, with the policies app, default",
	}
	if got := c.Initialize.Describe(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := Default().Initialize.Describe(); got != nil {
		t.Errorf("no block is described as %q", got)
	}
}

// TestFieldsAreKnown: the auth methods know what is passed on to them.
func TestFieldsAreKnown(t *testing.T) {
	for path, c := range map[string]struct {
		engine engine.Engine
		fields []string
	}{
		"users/{username}": {userpass.New(), append([]string{"password_hash", "token_policies"}, loginFields...)},
		"role/{role}":      {approle.New(), slices.Concat([]string{"token_policies"}, loginFields, roleFields)},
	} {
		routes := c.engine.Routes()
		i := slices.IndexFunc(routes, func(r engine.Route) bool { return r.Path == path })
		if i < 0 {
			t.Errorf("there is no route %s", path)
			continue
		}
		for _, field := range c.fields {
			if !slices.ContainsFunc(strings.Split(routes[i].Fields, ","), func(f string) bool {
				name, _, _ := strings.Cut(strings.TrimSpace(f), " ")
				return name == field
			}) {
				t.Errorf("%s has no field %s", path, field)
			}
		}
	}
}
