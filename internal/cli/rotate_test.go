package cli

import (
	"net/http"
	"strings"
	"testing"
)

func TestRotate(t *testing.T) {
	r := newRig(t)
	t.Setenv("BAO_TOKEN", "q.user")
	r.on("POST sys/rotate", 204, nil)
	r.on("GET sys/key-status", 200, `{"data":{"term":3,"install_time":"2026-01-02T03:04:05Z","encryptions":0}}`)
	got := r.ok("operator", "rotate")
	want(t, "rows", got.out, "Key Term            3\nInstall Time        02 Jan 26 03:04 UTC\nEncryption Count    0\n")
	want(t, "stderr", got.err, "the key is rotated\n")
	r.on("GET sys/rotate/config", 200, `{"data":{"enabled":true,"interval":"48h0m0s","max_operations":3865470566}}`)
	want(t, "config", r.ok("operator", "rotate", "-config").out, `Key               Value
---               -----
enabled           true
interval          48h0m0s
max_operations    3865470566
`)
	r.on("POST sys/rotate/config", 204, nil)
	r.ok("operator", "rotate", "-interval=2d", "-max-operations=1000000", "-enabled=true")
	wantBody(t, r.last(), `{"interval":"172800s","max_operations":"1000000","enabled":"true"}`)
	r.ok("operator", "rotate", "-interval=0")
	wantBody(t, r.last(), `{"interval":"0s"}`)
	r.on("POST sys/rotate/root", 204, nil)
	if got := r.ok("operator", "rotate", "-root-key"); !strings.Contains(got.err, "the root key is rotated; the key shares stay") {
		t.Errorf("%+v", got)
	}
	for _, req := range r.seen {
		if req.header.Get("X-Vault-Token") != "q.user" {
			t.Errorf("%s %s without a token", req.method, req.path)
		}
	}
}

func TestRotateRefusals(t *testing.T) {
	r := newRig(t)
	for want, args := range map[string][]string{
		"exclude each other":          {"-config", "-root-key"},
		"exclude each other ":         {"-root-key", "-interval=24h"},
		" exclude each other":         {"-config", "-enabled=true"},
		"too many arguments":          {"x"},
		"-interval":                   {"-interval=sometimes"},
		"must be table, json or yaml": {"-format=xml"},
	} {
		r.fails(exitLocal, []string{strings.TrimSpace(want)}, append([]string{"operator", "rotate"}, args...)...)
	}
	if len(r.seen) > 0 {
		t.Errorf("sent %v", r.seen)
	}
	for want, args := range map[string][]string{
		"error rotating:":                                       nil,
		"error rotating the root key:":                          {"-root-key"},
		"error reading the settings of the automatic rotation:": {"-config"},
		"error setting the automatic rotation:":                 {"-enabled=false"},
	} {
		r.fails(exitServer, []string{want, "no token is set"}, append([]string{"operator", "rotate"}, args...)...)
	}
	r.on("POST sys/rotate", 204, nil)
	r.fails(exitServer, []string{"the key is rotated\n", "error reading the key status:"}, "operator", "rotate")
	r.on("GET sys/rotate/config", 404, `{"errors":[]}`)
	r.fails(exitServer, []string{"no value found"}, "operator", "rotate", "-config")
	r.answers = map[string]http.HandlerFunc{"POST sys/rotate/config": func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "too short") }}
	r.fails(exitServer, []string{"* too short"}, "operator", "rotate", "-interval=1s")
}
