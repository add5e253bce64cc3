package audit

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/internal/fault"
)

// settings is what the options of a device mean.
type settings struct {
	kind    string
	invalid error // why the device may not be opened at all

	prefix        string // of every line
	clearAccessor bool
	elide         bool // lists are told by their length

	folder string // file: what name is below, also when there are links
	name   string
	mode   fs.FileMode
	sync   bool

	network string // socket
	address string
	timeout time.Duration

	facility int // syslog
	tag      string

	stdout io.Writer
	now    func() time.Time
}

// The kinds of devices.
const (
	kindFile   = "file"
	kindStdout = "stdout"
	kindSocket = "socket"
	kindSyslog = "syslog"
)

const (
	maxPath       = 128
	maxPrefix     = 64
	defaultMode   = 0o600
	allowedMode   = 0o664
	defaultWrite  = 2 * time.Second
	syslogNetwork = "unixgram"
	syslogSocket  = "/dev/log"
)

// facilities are those of RFC 5424 by the names that syslog(3) gives them; the place is the number.
var facilities = [...]string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	"", "", "", "", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

// read finds out what a device's options mean. Its faults repeat nothing of a request.
func (b *Broker) read(d Device, fromConfig bool) (settings, error) {
	s := settings{kind: d.Type, stdout: b.o.Stdout, now: b.o.Now}
	if !soundPath(d.Path) {
		return s, fault.Newf(fault.Invalid, "the path of an audit device has letters, digits, '-', '_' and '.' between slashes, "+
			"and at most %d bytes: choose another one", maxPath)
	}
	o := &options{left: maps.Clone(d.Options)}
	o.common(&s)
	var names string
	switch d.Type {
	case kindFile:
		names = "file_path, mode, sync, "
		o.file(&s, b.o.Dir, fromConfig)
	case kindStdout:
	case kindSocket:
		names = "address, socket_type, write_timeout, "
		o.socket(&s, fromConfig)
	case kindSyslog:
		names = "facility, tag, "
		o.syslog(&s)
	default:
		o.fail("the type of an audit device is file, stdout, socket or syslog")
	}
	if s.kind == kindStdout && s.stdout == nil {
		o.fail("this process has no standard output for audit entries: choose another type")
	}
	if len(o.left) > 0 {
		o.fail("an audit device of this type has the options " + names + "prefix, hmac_accessor and elide_list_responses, and no others")
	}
	return s, o.err
}

// soundPath reports whether a path is canonical and can be typed.
func soundPath(path string) bool {
	inner, ok := strings.CutSuffix(path, "/")
	if !ok || len(path) > maxPath {
		return false
	}
	for part := range strings.SplitSeq(inner, "/") {
		strange := strings.ContainsFunc(part, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
		})
		if strange || strings.Trim(part, ".") == "" {
			return false
		}
	}
	return true
}

// options reads a device's options and keeps the first thing that is wrong.
type options struct {
	left map[string]string
	err  error
}

func (o *options) fail(sentence string) {
	if o.err == nil {
		o.err = fault.New(fault.Invalid, sentence)
	}
}

func (o *options) text(name string) string {
	v := o.left[name]
	delete(o.left, name)
	return v
}

// flag is a boolean that is absent if it isn't given.
func (o *options) flag(name string, absent bool) bool {
	v := o.text(name)
	if v == "" {
		return absent
	}
	yes, err := strconv.ParseBool(v)
	if err != nil {
		o.fail(`the option "` + name + `" of an audit device is true or false`)
	}
	return yes
}

func (o *options) common(s *settings) {
	s.clearAccessor = !o.flag("hmac_accessor", true)
	s.elide = o.flag("elide_list_responses", false)
	s.prefix = o.text("prefix")
	if len(s.prefix) > maxPrefix || strings.ContainsFunc(s.prefix, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
		o.fail("the prefix of an audit device is at most 64 printable ASCII characters")
	}
	if o.flag("log_raw", false) {
		o.fail("entries without HMACs are not offered: leave log_raw out, and use sys/audit-hash to find a value")
	}
	if f := o.text("format"); f != "" && f != "json" {
		o.fail("audit entries are JSON: leave format out")
	}
}

func (o *options) file(s *settings, dir string, fromConfig bool) {
	path := o.text("file_path")
	s.sync = o.flag("sync", false)
	s.mode = defaultMode
	if m := o.text("mode"); m != "" {
		n, err := strconv.ParseUint(m, 8, 32)
		s.mode = fs.FileMode(n)
		if err != nil || n&^allowedMode != 0 || n&defaultMode != defaultMode {
			o.fail("the mode of an audit file is octal, from 0600 to 0664: it is never executable, nor written by everybody")
		}
	}
	switch {
	case path == kindStdout: // as in other servers' configurations
		s.kind = kindStdout
	case !utf8.ValidString(path) || strings.ContainsRune(path, 0):
		o.fail("file_path is not a path")
	case fromConfig:
		if !filepath.IsAbs(path) {
			o.fail("give the audit device an absolute file_path")
		}
		s.folder, s.name = filepath.Split(filepath.Clean(path))
	case dir == "":
		o.fail("files for audit entries are made in the configuration, or over the API once it names a folder for them in audit_dir")
	default:
		o.below(s, dir, path)
	}
}

// below confines path to dir. What links in dir lead to is for os.Root to judge, when the file is opened.
func (o *options) below(s *settings, dir, path string) {
	if filepath.IsAbs(path) {
		rel, err := filepath.Rel(dir, filepath.Clean(path))
		if err != nil {
			rel = ""
		}
		path = rel
	}
	s.folder, s.name = dir, filepath.Clean(path)
	if path == "" || s.name == "." || !filepath.IsLocal(s.name) {
		o.fail("file_path must be below the folder that audit_dir in the configuration names")
	}
}

func (o *options) socket(s *settings, fromConfig bool) {
	if !fromConfig {
		o.fail("sockets for audit entries are only made in the configuration")
	}
	s.address = o.text("address")
	if s.address == "" {
		o.fail("give the audit device an address")
	}
	switch s.network = o.text("socket_type"); s.network {
	case "":
		s.network = "tcp"
	case "tcp", "udp", "unix":
	default:
		o.fail("the socket_type of an audit device is tcp, udp or unix")
	}
	s.timeout = defaultWrite
	if t := o.text("write_timeout"); t != "" {
		d, err := time.ParseDuration(t)
		s.timeout = d
		if err != nil || d <= 0 || d >= patience {
			o.fail("the write_timeout of an audit device is a duration such as \"2s\", shorter than " + patience.String())
		}
	}
}

func (o *options) syslog(s *settings) {
	s.network, s.address, s.timeout, s.facility = syslogNetwork, syslogSocket, defaultWrite, -1
	name := o.text("facility")
	if name == "" {
		name = "AUTH"
	}
	for i, f := range facilities {
		if f != "" && f == strings.ToUpper(name) {
			s.facility = i
		}
	}
	if s.facility < 0 {
		o.fail("the facility of an audit device is one of syslog's, such as AUTH or LOCAL7")
	}
	if s.tag = o.text("tag"); s.tag == "" {
		s.tag = "quorate"
	}
	if len(s.tag) > 48 || strings.ContainsFunc(s.tag, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		o.fail("the tag of an audit device is at most 48 printable ASCII characters without spaces")
	}
	if !hasSyslog {
		o.fail("this system has no syslog that entries could be sent to: choose another type")
	}
}

// checkPlace looks at the folder of a file without making anything.
func (s *settings) checkPlace() error {
	if s.kind != kindFile {
		return nil
	}
	root, err := os.OpenRoot(s.folder)
	if err == nil {
		_, err = checkFile(root, s.name)
		root.Close()
	}
	var unsound *unsoundError
	switch {
	case errors.As(err, &unsound):
		return fault.New(fault.Invalid, unsound.sentence)
	case err != nil:
		return fault.New(fault.Invalid, "the folder of the audit file can't be used: make it, below audit_dir if the device is made over the API")
	}
	return nil
}

// shares reports whether two devices write to one file, however each of them spells it.
func (s *settings) shares(other *settings) bool {
	if s.kind != kindFile || other.kind != kindFile {
		return false
	}
	a, b := filepath.Join(s.folder, s.name), filepath.Join(other.folder, other.name)
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return a == b || err == nil && err2 == nil && os.SameFile(one, two)
}

// open makes the device ready to be written.
func (s *settings) open() (sink, error) {
	switch {
	case s.invalid != nil:
		return nil, s.invalid
	case s.kind == kindFile:
		return openFile(s)
	case s.kind == kindStdout:
		return stream{s.stdout}, nil
	}
	return dial(s)
}
