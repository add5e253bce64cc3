package audit

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/fault"
)

func TestCheckRefuses(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name, path, kind, options string // options as name=value, separated by spaces
		config                    bool
		part                      string
	}{
		{name: "no path", path: "", kind: "stdout", part: "path of an audit device"},
		{name: "no slash", path: "a", kind: "stdout", part: "path of an audit device"},
		{name: "only a slash", path: "/", kind: "stdout", part: "path of an audit device"},
		{name: "empty part", path: "a//", kind: "stdout", part: "path of an audit device"},
		{name: "dots", path: "a/../b/", kind: "stdout", part: "path of an audit device"},
		{name: "odd letters", path: "a%2f/", kind: "stdout", part: "path of an audit device"},
		{name: "long path", path: strings.Repeat("a", 128) + "/", kind: "stdout", part: "128 bytes"},
		{name: "unknown type", kind: "canary", part: "file, stdout, socket or syslog"},
		{name: "unknown option", kind: "stdout", options: "canary=1", part: "and no others"},
		{name: "other type's option", kind: "stdout", options: "file_path=/canary", part: "and no others"},
		{name: "log_raw", kind: "stdout", options: "log_raw=true", part: "log_raw"},
		{name: "other format", kind: "stdout", options: "format=canary", part: "JSON"},
		{name: "no boolean", kind: "stdout", options: "hmac_accessor=canary", part: "hmac_accessor"},
		{name: "prefix with a newline", kind: "stdout", options: "prefix=canary\n", part: "prefix"},
		{name: "long prefix", kind: "stdout", options: "prefix=" + strings.Repeat("x", 65), part: "prefix"},

		{name: "no file", kind: "file", part: "below the folder"},
		{name: "no file in the configuration", kind: "file", config: true, part: "absolute"},
		{name: "relative file in the configuration", kind: "file", options: "file_path=canary", config: true, part: "absolute"},
		{name: "above", kind: "file", options: "file_path=../canary", part: "below the folder"},
		{name: "elsewhere", kind: "file", options: "file_path=/canary", part: "below the folder"},
		{name: "folder itself", kind: "file", options: "file_path=" + r.dir, part: "below the folder"},
		{name: "sibling with the same beginning", kind: "file", options: "file_path=" + r.dir + "canary", part: "below the folder"},
		{name: "out and in again", kind: "file", options: "file_path=a/../../canary", part: "below the folder"},
		{name: "NUL", kind: "file", options: "file_path=a\x00", part: "not a path"},
		{name: "no UTF-8", kind: "file", options: "file_path=a\xff", part: "not a path"},
		{name: "no such folder", kind: "file", options: "file_path=canary/a", part: "make it"},
		{name: "no such folder in the configuration", kind: "file", options: "file_path=/canary/a", config: true, part: "make it"},
		{name: "executable", kind: "file", options: "file_path=a mode=0700", part: "mode"},
		{name: "written by all", kind: "file", options: "file_path=a mode=0666", part: "mode"},
		{name: "set-user-id", kind: "file", options: "file_path=a mode=4600", part: "mode"},
		{name: "unreadable", kind: "file", options: "file_path=a mode=0000", part: "mode"},
		{name: "not octal", kind: "file", options: "file_path=a mode=0689", part: "mode"},

		{name: "socket over the API", kind: "socket", options: "address=127.0.0.1:1", part: "only made in the configuration"},
		{name: "no address", kind: "socket", config: true, part: "address"},
		{name: "other socket", kind: "socket", options: "address=x socket_type=canary", config: true, part: "tcp, udp or unix"},
		{name: "long timeout", kind: "socket", options: "address=x write_timeout=5s", config: true, part: "write_timeout"},
		{name: "no timeout", kind: "socket", options: "address=x write_timeout=0s", config: true, part: "write_timeout"},

		{name: "no facility", kind: "syslog", options: "facility=canary", part: "facility"},
		{name: "number of a facility", kind: "syslog", options: "facility=12", part: "facility"},
		{name: "tag with a space", kind: "syslog", options: "tag=\t", part: "tag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Device{Path: "a/", Type: c.kind, Options: map[string]string{}}
			if strings.Contains(c.part, "path of an") || strings.Contains(c.part, "bytes") {
				d.Path = c.path
			}
			for o := range strings.SplitSeq(c.options, " ") {
				if k, v, ok := strings.Cut(o, "="); ok {
					d.Options[k] = v
				}
			}
			err := r.Check(d, c.config)
			wantFault(t, err, fault.Invalid, c.part)
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the fault repeats a value: %v", err)
			}
		})
	}
}

func TestCheckAccepts(t *testing.T) {
	r := newRig(t)
	if err := os.Mkdir(filepath.Join(r.dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for _, c := range []struct {
		name    string
		kind    string
		options map[string]string
		config  bool
	}{
		{name: "stdout", kind: "stdout"},
		{name: "stdout by a client that says all", kind: "stdout", options: map[string]string{"log_raw": "false", "format": "json", "hmac_accessor": "true"}},
		{name: "stdout as a file", kind: "file", options: map[string]string{"file_path": "stdout"}},
		{name: "relative", kind: "file", options: map[string]string{"file_path": "a", "mode": "0640", "sync": "true", "prefix": "@cee: "}},
		{name: "absolute", kind: "file", options: map[string]string{"file_path": filepath.Join(r.dir, "sub", "a")}},
		{name: "untidy", kind: "file", options: map[string]string{"file_path": "./sub/../a"}},
		{name: "configured", kind: "file", options: map[string]string{"file_path": filepath.Join(outside, "a")}, config: true},
		{name: "socket", kind: "socket", options: map[string]string{"address": "127.0.0.1:1", "write_timeout": "1s"}, config: true},
		{name: "syslog", kind: "syslog", options: map[string]string{"facility": "local7", "tag": "q"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.kind == "syslog" && !hasSyslog {
				t.Skip("this system has no syslog")
			}
			options := maps.Clone(c.options)
			if err := r.Check(Device{Path: "a/b.c-d_1/", Type: c.kind, Options: c.options}, c.config); err != nil {
				t.Error(err)
			}
			if !maps.Equal(options, c.options) {
				t.Error("the options were changed")
			}
		})
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) > 0 {
		t.Errorf("checking made %v, %v", list, err)
	}
}

func TestFilesOverTheAPINeedAFolder(t *testing.T) {
	r := newRig(t)
	r.o.Dir = ""
	wantFault(t, r.Check(fileDevice("a/", "a"), false), fault.Invalid, "audit_dir")
	r.o.Stdout = nil
	wantFault(t, r.Check(stdout("a/"), false), fault.Invalid, "standard output")
}

func TestPathInUse(t *testing.T) {
	r := newRig(t)
	if err := r.SetConfigured([]Device{stdout("conf/")}); err != nil {
		t.Fatal(err)
	}
	r.SetStored([]Device{stdout("api/")})
	wantFault(t, r.Check(stdout("conf/"), false), fault.Invalid, "already")
	wantFault(t, r.Check(stdout("api/"), false), fault.Invalid, "already")
	if err := r.Check(stdout("other/"), false); err != nil {
		t.Error(err)
	}
}

// FuzzCheck looks for a device over the API that writes to a place which isn't below the folder.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		`{"path":"a/","type":"file","options":{"file_path":"a","mode":"0640"}}`,
		`{"path":"a/","type":"file","options":{"file_path":"/audit/../b"}}`,
		`{"path":"a/b/","type":"syslog","options":{"facility":"local0","tag":"x"}}`,
		`{"path":"a/","type":"socket","options":{"address":"x","socket_type":"udp"}}`,
		`{"path":"a/","type":"stdout","options":{"prefix":"x","elide_list_responses":"1"}}`,
	} {
		f.Add([]byte(s))
	}
	b := New(Options{Dir: "/audit", Stdout: &buffer{}})
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Device
		if json.Unmarshal(text, &d) != nil {
			return
		}
		s, err := b.read(d, false)
		if err != nil {
			if fault.As(err) == nil {
				t.Fatalf("%v is not a fault", err)
			}
			return
		}
		if d.Path != filepath.Clean(d.Path)+"/" || strings.HasPrefix(d.Path, "/") || strings.HasPrefix(d.Path, "..") {
			t.Fatalf("path %q", d.Path)
		}
		if s.kind == kindFile && (s.folder != "/audit" || !strings.HasPrefix(filepath.Join(s.folder, s.name), "/audit/") || s.mode&^allowedMode != 0) {
			t.Fatalf("%q below %q, mode %o", s.name, s.folder, s.mode)
		}
		if s.kind == kindSocket || strings.ContainsAny(s.prefix+s.tag, "\n\r") {
			t.Fatalf("%+v was accepted", s)
		}
	})
}

// However the file of another device is spelled, it stays that device's.
func TestFileInUse(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(r.dir, "audit.log")
	if err := r.SetConfigured([]Device{{Path: "first/", Type: "file", Options: map[string]string{"file_path": file}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(r.dir, "hard.log")); err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{file, "audit.log", "./x/../audit.log", r.dir + "//audit.log", "hard.log"} {
		err := r.Check(Device{Path: "second/", Type: "file", Options: map[string]string{"file_path": spelling, "mode": "0664"}}, false)
		if err == nil || !strings.Contains(err.Error(), "writes to this file already") {
			t.Errorf("%s: %v", spelling, err)
		}
	}
	if err := r.Check(Device{Path: "second/", Type: "file", Options: map[string]string{"file_path": "other.log"}}, false); err != nil {
		t.Error(err)
	}
}
