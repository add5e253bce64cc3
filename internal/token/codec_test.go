package token

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/engine"
)

// fullEntry has something in every field, so that TestRecord notices one that was forgotten.
func fullEntry() *Entry {
	meta := map[string]string{"username": "alice", "team": "", "": "unnamed"}
	return &Entry{
		Key: "the-key", RecordID: "rid", Ancestors: []Ancestor{{"rid-1", "key-1", true}, {"rid-2", "key-2", false}},
		Accessor: "accessor", Type: Service, Policies: []string{"default", "dev"}, Path: "auth/userpass/login/alice",
		DisplayName: "userpass-alice", Ceremony: "a-nonce", Role: "a-role", Mount: "a-uuid",
		Login: &engine.Login{Path: "login/alice", DisplayName: "userpass-alice", Metadata: meta}, Meta: meta,
		BoundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
		Created:    epoch.Add(1), NeverExpires: true, Expires: epoch.AddDate(300, 0, 0), TTL: 1, CreationTTL: 2, MaxTTL: 3,
		ExplicitMaxTTL: 4, Period: 1<<63 - 1, Renewable: true, LastRenewal: epoch.Add(-time.Hour), Limited: true, NumUses: 7,
	}
}

func TestRecord(t *testing.T) {
	full := fullEntry()
	for v, i := reflect.ValueOf(*full), 0; i < v.NumField(); i++ {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "Orphan" {
			t.Errorf("the test leaves %s empty", name)
		}
	}
	for name, e := range map[string]*Entry{
		"full":  full,
		"empty": {Key: "k", Policies: []string{}, Orphan: true},
		"oldest and latest": {
			Key: "k", Policies: []string{}, Orphan: true, Created: time.Unix(-1<<40, 1).UTC(), Expires: time.Unix(1<<40, 999_999_999).UTC(),
			TTL: -1 << 63, NumUses: -1,
		},
	} {
		got, err := decode(e.Key, encode(e))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: read\n%+v, written\n%+v (%v)", name, got, e, err)
		}
		up, err := decodeLife(encode(e))
		if want := (life{e.RecordID, e.NeverExpires, e.Expires}); err != nil || up != want {
			t.Errorf("%s: life read as %+v, written %+v (%v)", name, up, want, err)
		}
	}
}

func TestRecordDamaged(t *testing.T) {
	record := encode(fullEntry())
	for n := range record {
		if _, err := decode("k", record[:n]); err != errRecord {
			t.Errorf("%d of %d bytes: %v", n, len(record), err)
		}
	}
	huge := append(encode(&Entry{})[:2:2], 0xff, 0xff, 0xff, 0xff, 0x0f)
	for name, bad := range map[string]string{
		"longer":        string(record) + "\x00",
		"later version": "\x02" + string(record[1:]),
		"huge length":   string(huge),
		"long text":     "\x01\x7e",
		"negative text": "\x01\x01",
		"JSON":          "{}",
	} {
		if _, err := decode("k", []byte(bad)); err != errRecord {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeLife([]byte("\x01\x02")); err != errRecord {
		t.Errorf("a life without an end: %v", err)
	}
	if _, err := decodeLife([]byte("\x01\x00\x04\x00\x00")); err != errRecord {
		t.Errorf("a flag that is neither true nor false: %v", err)
	}
}

// FuzzRecord: whatever is read is written and read again as the same, and its life is the one that its descendants see.
func FuzzRecord(f *testing.F) {
	f.Add(encode(fullEntry()))
	f.Add(encode(&Entry{}))
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := decode("k", record)
		if err != nil {
			return
		}
		again, err := decode("k", encode(e))
		if err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("read\n%+v, then\n%+v (%v)", e, again, err)
		}
		up, err := decodeLife(record)
		if err != nil || up.RecordID != e.RecordID || up.NeverExpires != e.NeverExpires || !up.Expires.Equal(e.Expires) {
			t.Fatalf("life %+v of %+v, %v", up, e, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e := fullEntry()
	record := encode(e)
	text, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("as=record", func(b *testing.B) {
		for b.Loop() {
			if _, err := decode("k", record); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(record)), "B")
	})
	b.Run("as=JSON", func(b *testing.B) {
		for b.Loop() {
			if err := json.Unmarshal(text, new(Entry)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(text)), "B")
	})
}

func TestAllowedFrom(t *testing.T) {
	nets := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, test := range []struct {
		bound []netip.Prefix
		from  string // "" is a Unix socket
		want  bool
	}{
		{nil, "", true},
		{nil, "192.0.2.1", true},
		{nets("10.0.0.0/8"), "10.255.0.1", true},
		{nets("10.0.0.0/8"), "::ffff:10.255.0.1", true},
		{nets("10.0.0.0/8"), "11.0.0.1", false},
		{nets("10.0.0.0/8"), "::1", false},
		{nets("10.0.0.0/8"), "", false},
		{nets("0.0.0.0/0", "::/0"), "", false},
		{nets("192.0.2.1/32", "10.0.0.0/8"), "10.0.0.1", true},
		{nets("fe80::/10"), "fe80::1%eth0", true},
		{nets("2001:db8::/32"), "2001:db9::1", false},
		{[]netip.Prefix{{}}, "10.0.0.1", false},
		{[]netip.Prefix{{}}, "", false},
	} {
		var addr netip.Addr
		if test.from != "" {
			addr = netip.MustParseAddr(test.from)
		}
		if got := (&Entry{BoundCIDRs: test.bound}).AllowedFrom(addr); got != test.want {
			t.Errorf("bound to %v, from %q: %v", test.bound, test.from, got)
		}
	}
}

// TestLeasePath: whatever the path, the lease ID is a key that can be stored, and has the path as far as that allows.
func TestLeasePath(t *testing.T) {
	for path, want := range map[string]string{
		"auth/token/create":       "auth/token/create",
		"/secret/data/a/":         "secret/data/a",
		"":                        "",
		"///":                     "",
		"se\x00cret/\xff\xfedata": "secret/data",
		"secret/" + strings.Repeat("x", maxLeasePath):    "secret",
		strings.Repeat("x", maxLeasePath+1):              "",
		strings.Repeat("0123456789abcde/", 1000) + "end": strings.TrimSuffix(strings.Repeat("0123456789abcde/", maxLeasePath/16), "/"),
	} {
		e := &Entry{Path: path, Key: "k", RecordID: "r"}
		got := e.LeaseID()
		last := strings.LastIndexByte(got, '/')
		if got[:max(last, 0)] != want || len(got)-last-1 != 65 || got[last+1] != 'h' {
			t.Errorf("path %.40q: lease ID %q", path, got)
		}
	}
	a, b := &Entry{Key: "k", RecordID: "r"}, &Entry{Key: "k", RecordID: "s"}
	if a.LeaseID() == b.LeaseID() || (&Entry{NeverExpires: true, Path: "a"}).LeaseID() != "" {
		t.Error("two tokens of one ID have one lease, or one that never expires has one")
	}
}
