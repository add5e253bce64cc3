package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/secret"
)

func fullEntry() *Entry {
	return &Entry{
		Type: "response", Time: theTime,
		Auth: &Auth{
			ClientToken: []byte("tok"), Accessor: "acc", DisplayName: "userpass-alice", Policies: []string{"default", "dev"},
			TokenPolicies: []string{"dev"}, PolicyResults: &PolicyResults{Allowed: true, Granting: []string{"dev"}},
			Metadata: map[string]string{"username": "alice", "a": "b"}, TokenType: "service", TokenTTL: time.Hour,
			TokenIssueTime: theTime.Add(-time.Minute), RemainingUses: 3,
		},
		Request: Request{
			ID: "id-1", Operation: "update", ClientID: "cid", ClientToken: []byte("tok"), ClientTokenAccessor: "acc",
			Path: "secret/data/\"app", Data: []byte(`{"data":{"password":"hunter2"},"options":{"cas":1}}`), Clear: map[string]bool{"options": true},
			MountType: "kv", MountPoint: "secret/", MountClass: "secret", RemoteAddress: "192.0.2.1", RemotePort: 4711,
			Headers: map[string][]string{
				"User-Agent": {"curl/8\n"}, "X-Request-Id": {"r", "dropped"}, "Authorization": {"Bearer canary"},
				"X-Vault-Token": {"canary"}, "Cookie": {"canary"},
			},
			WrapTTL: time.Minute,
		},
		Response: &Response{
			Auth: &Auth{ClientToken: []byte("new"), Accessor: "newacc", TokenType: "service"},
			Data: []byte(`{"version":2}`), LeaseID: "auth/userpass/login/alice/h1",
			WrapInfo: &WrapInfo{
				TTL: time.Minute, Token: []byte("wrap"), Accessor: "wrapacc", CreationTime: theTime, CreationPath: "auth/x", WrappedAccessor: "newacc",
			},
			Warnings: []string{"careful"},
		},
		Error: "permission denied",
	}
}

func TestLine(t *testing.T) {
	m := macOf
	auth := `"display_name":"userpass-alice","policies":["default","dev"],"token_policies":["dev"],"policy_results":{"allowed":true,` +
		`"granting_policies":[{"name":"dev","namespace_id":"root","type":"acl"}]},"metadata":{"a":"b","username":"alice"},"remaining_uses":3,` +
		`"token_ttl":3600,"token_issue_time":"2026-11-24T02:59:00.123456789Z","token_type":"service"}`
	request := `"namespace":{"id":"root"},"path":"secret/data/\"app","data":{"data":{"password":"` + m("hunter2") + `"},"options":{"cas":1}},` +
		`"remote_address":"192.0.2.1","remote_port":4711,"wrap_ttl":60,"headers":{"user-agent":["curl/8\u000a"],"x-request-id":["r"]}}`
	want := `@cee: {"time":"2026-11-24T03:00:00.123456789Z","type":"response","auth":{"client_token":"` + m("tok") + `","accessor":"` + m("acc") + `",` + auth +
		`,"request":{"id":"id-1","client_id":"cid","operation":"update","mount_point":"secret/","mount_type":"kv","mount_class":"secret",` +
		`"client_token":"` + m("tok") + `","client_token_accessor":"` + m("acc") + `",` + request +
		`,"response":{"auth":{"client_token":"` + m("new") + `","accessor":"` + m("newacc") + `","token_type":"service"},"data":{"version":"` + m("2") + `"},` +
		`"secret":{"lease_id":"auth/userpass/login/alice/h1"},"wrap_info":{"ttl":60,"token":"` + m("wrap") + `","accessor":"` + m("wrapacc") + `",` +
		`"creation_time":"2026-11-24T03:00:00.123456789Z","creation_path":"auth/x","wrapped_accessor":"` + m("newacc") + `"},` +
		`"warnings":["careful"]},"error":"permission denied"}` + "\n"
	got := string(appendLine(nil, fullEntry(), &settings{prefix: "@cee: "}, secret.Copy(testSalt)))
	if got != want {
		t.Errorf("line\n%s, want\n%s", got, want)
	}
	if !json.Valid([]byte(strings.TrimPrefix(got, "@cee: "))) {
		t.Error("not JSON")
	}
}

func TestLineWithoutToken(t *testing.T) {
	got := string(appendLine(nil, ask("sys/generate-root/attempt"), &settings{}, secret.Bytes{}))
	want := `{"time":"2026-11-24T03:00:00.123456789Z","type":"request","auth":{"token_type":"default"},` +
		`"request":{"operation":"read","namespace":{"id":"root"},"path":"sys/generate-root/attempt"}}` + "\n"
	if got != want {
		t.Errorf("line\n%s, want\n%s", got, want)
	}
}

func TestLineWithClearAccessors(t *testing.T) {
	got := string(appendLine(nil, fullEntry(), &settings{clearAccessor: true}, secret.Copy(testSalt)))
	for _, want := range []string{`"accessor":"acc"`, `"client_token_accessor":"acc"`, `"accessor":"newacc"`, `"accessor":"wrapacc"`, `"wrapped_accessor":"newacc"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	for _, never := range []string{`"tok"`, `"new"`, `"wrap"`} {
		if strings.Contains(got, never) {
			t.Errorf("%s is in %s", never, got)
		}
	}
}

func TestLineElidesOnlyLists(t *testing.T) {
	e := ask("secret/metadata/")
	e.Response = &Response{Data: []byte(`{"keys":["a","b"]}`)}
	for _, c := range []struct {
		operation string
		elide     bool
		want      string
	}{
		{"list", true, `"data":{"keys":2}`},
		{"list", false, `"data":{"keys":["` + macOf("a")},
		{"read", true, `"data":{"keys":["` + macOf("a")},
	} {
		e.Request.Operation = c.operation
		if got := appendLine(nil, e, &settings{elide: c.elide}, secret.Copy(testSalt)); !bytes.Contains(got, []byte(c.want)) {
			t.Errorf("%s, elide %v: %s, want %s", c.operation, c.elide, got, c.want)
		}
	}
}

// TestNothingSecretIsInALine fills every field that holds a secret with a canary, sealed and not. A field that is added
// to Entry must be put on one side or the other here.
func TestNothingSecretIsInALine(t *testing.T) {
	shown := map[string]bool{
		"Type": true, "DisplayName": true, "Policies": true, "TokenPolicies": true, "Granting": true, "Metadata": true, "EntityID": true,
		"TokenType": true, "ID": true, "Operation": true, "ClientID": true, "Path": true, "MountType": true, "MountPoint": true,
		"MountClass": true, "RemoteAddress": true, "LeaseID": true, "CreationPath": true, "Warnings": true, "Error": true,
	}
	const canary = "canary"
	filled := 0
	var fill func(v reflect.Value, name string)
	fill = func(v reflect.Value, name string) {
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), name)
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[time.Time]() {
				return
			}
			for i := range v.NumField() {
				fill(v.Field(i), v.Type().Field(i).Name)
			}
		default:
			if shown[name] {
				return
			}
			filled++
			switch v.Interface().(type) {
			case string:
				v.SetString(canary)
			case []byte:
				text := canary
				if name == "Data" {
					text = `{"a":"canary","b":["canary",{"c":"c\u0061nary"}]}`
				}
				v.SetBytes([]byte(text))
			case map[string][]string:
				v.Set(reflect.ValueOf(map[string][]string{"X-Vault-Token": {canary}, "Authorization": {canary}, "Forwarded": {canary}}))
			case map[string]bool, int, time.Duration, bool:
				filled--
			default:
				t.Errorf("field %s of type %s is neither shown nor a secret that this test can fill", name, v.Type())
			}
		}
	}
	e := &Entry{}
	fill(reflect.ValueOf(e).Elem(), "Entry")
	if filled != 12 {
		t.Errorf("%d fields with secrets", filled)
	}
	for _, salt := range []secret.Bytes{{}, secret.Copy(testSalt)} {
		got := appendLine(nil, e, &settings{}, salt)
		if bytes.Contains(got, []byte(canary)) {
			t.Errorf("a secret is in %s", got)
		}
		if stands := bytes.Count(got, []byte("hmac-sha256:")) + bytes.Count(got, []byte(whileSealed)); stands < 12 {
			t.Errorf("%d values in %s", stands, got)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	e, s, salt := fullEntry(), &settings{}, secret.Copy(testSalt)
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = appendLine(buf[:0], e, s, salt)
	}
}
