package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/quorate/quorate/internal/transcript"
)

func hashes(t *testing.T, got *response) []tlog.Hash {
	t.Helper()
	var data struct{ Hashes [][]byte }
	if err := json.Unmarshal([]byte(got.want(200).in("data").text), &data); err != nil {
		t.Fatal(err)
	}
	list := []tlog.Hash{}
	for _, h := range data.Hashes {
		list = append(list, tlog.Hash(h))
	}
	return list
}

// What a client reads is enough to check the log without trusting the server: root, inclusion, consistency, signature.
func TestTranscript(t *testing.T) {
	s := ready(t, 3, 2)
	first := s.do("GET", "sys/transcript", "", stranger).want(200).in("data")
	first.fieldsAre("alarms", "checkpoint", "cluster_id", "root", "size", "verifier_key")
	nonce := s.begin(`{"kind":"root-token"}`)
	for _, key := range s.keys[:2] {
		s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+key+`"}`).want(200)
	}
	state := s.do("GET", "sys/transcript", "", stranger).want(200).in("data")
	size := state.num("size")
	if size <= first.num("size") {
		t.Fatalf("nothing was recorded: %s", state.text)
	}
	head, err := transcript.OpenCheckpoint([]byte(state.str("checkpoint")), state.str("verifier_key"))
	if err != nil || head.Size != int64(size) || base64.StdEncoding.EncodeToString(head.Root[:]) != state.str("root") {
		t.Fatalf("%+v, %v, but %s", head, err, state.text)
	}
	note := s.do("GET", "sys/transcript/checkpoint", "", stranger).want(200)
	if note.text != state.str("checkpoint") || note.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%q %q", note.header.Get("Content-Type"), note.text)
	}
	var entries []string
	for len(entries) < size {
		page := s.do("GET", fmt.Sprintf("sys/transcript/entries?start=%d&limit=2", len(entries)), "", stranger).want(200).in("data")
		page.is("size", size)
		page.is("start", len(entries))
		list := page.body["entries"].([]any)
		if len(list) == 0 || len(list) > 2 {
			t.Fatalf("%d entries", len(list))
		}
		for _, e := range list {
			entries = append(entries, e.(string))
		}
	}
	for i, e := range entries {
		proof := hashes(t, s.do("GET", fmt.Sprintf("sys/transcript/proof?index=%d&size=%d", i, size), "", stranger))
		if err := tlog.CheckRecord(proof, int64(size), head.Root, int64(i), tlog.RecordHash([]byte(e))); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		for _, secret := range []string{s.keys[0], s.root} {
			if strings.Contains(e, secret) {
				t.Errorf("a secret is in entry %d", i)
			}
		}
	}
	if !strings.Contains(strings.Join(entries, "\n"), nonce) {
		t.Error("the ceremony isn't in the transcript")
	}
	older, err := transcript.OpenCheckpoint([]byte(first.str("checkpoint")), state.str("verifier_key"))
	if err != nil {
		t.Fatal(err)
	}
	proof := hashes(t, s.do("GET", fmt.Sprintf("sys/transcript/proof?old=%d&new=%d", older.Size, size), "", stranger))
	if err := transcript.VerifyConsistency(older, head, proof); err != nil {
		t.Error(err)
	}
	// It is all there while sealed, too, but for the key.
	s.do("PUT", "sys/seal", "", withToken(s.root)).want(204)
	s.do("GET", "sys/transcript", "", stranger).want(200).in("data").is("verifier_key", "")
	if got := s.do("GET", "sys/transcript/entries?limit=1000", "", stranger).want(200).in("data"); got.num("size") <= size {
		t.Errorf("sealing isn't recorded: %s", got.text)
	}
	s.do("GET", "sys/ceremonies/holders", "", stranger).want(200, `"verifier"`)
}

func TestTranscriptRefuses(t *testing.T) {
	s := ready(t, 1, 1)
	size := s.do("GET", "sys/transcript", "").want(200).in("data").num("size")
	for _, q := range []string{
		"start=-1", "start=x", "start=", "start=1.0", "limit=0", "limit=1001", "limit=-5", "limit=x", "start=99999999999999999999", "start=0x1",
	} {
		s.do("GET", "sys/transcript/entries?"+q, "").want(400, "whole number")
	}
	for _, q := range []string{fmt.Sprintf("start=%d", size), "start=9223372036854775807"} {
		if got := s.do("GET", "sys/transcript/entries?"+q, "").want(200).in("data"); fmt.Sprint(got.body["entries"]) != "[]" {
			t.Errorf("%s: %s", q, got.text)
		}
	}
	for _, q := range []string{
		"", "index=0", "size=1", "index=1&size=1", "index=-1&size=1", "index=x&size=1", "index=0&size=0", "old=1", "new=1", "old=0&new=1",
		"old=2&new=1", "old=-1&new=1", "index=0&size=1&old=1&new=1", "index=0&new=1", "old=1&size=1", "old=1&new=1&index=0",
		fmt.Sprintf("index=0&size=%d", size+1), fmt.Sprintf("old=1&new=%d", size+1), "index=0&size=9223372036854775807", "old=1&new=9223372036854775807",
	} {
		s.do("GET", "sys/transcript/proof?"+q, "").want(400, "give index and size")
	}
	empty := newServer(t)
	empty.do("GET", "sys/transcript/checkpoint", "").want(404, "no checkpoint")
	empty.do("GET", "sys/transcript", "").want(200).in("data").is("size", 0)
	empty.do("GET", "sys/transcript/proof?index=0&size=1", "").want(400)
}

// FuzzProofQuery: whatever is asked for, a proof is made of numbers that are in range, or refused.
func FuzzProofQuery(f *testing.F) {
	for _, q := range []string{"index=0&size=1", "old=1&new=2", "old=1&new=1", "index=-1&size=2", "old=&new=", "index=1;size=2", "a=%zz"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, q string) {
		r := httptest.NewRequest("GET", "http://x/", nil)
		r.URL.RawQuery = q
		prove, err := proofOf(r.URL.Query())
		if (prove == nil) == (err == nil) {
			t.Fatalf("%q: %v", q, err)
		}
		if err == nil {
			if _, err := prove(nil, 0); err != errProof {
				t.Errorf("%q: a proof in an empty transcript: %v", q, err)
			}
		}
	})
}
