package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/holder"
)

// newSignedRoot is a quorum that speaks sys/generate-root, too.
func newSignedRoot(t *testing.T) *quorum {
	q := newQuorum(t, rootAttempt(nil))
	q.otp = serverOTP
	open := false
	show := func() map[string]any {
		st := map[string]any{"nonce": "", "started": false, "progress": 0, "required": 2, "complete": false, "otp_length": 24}
		if open && q.state == stateOpen {
			st["nonce"], st["started"], st["progress"] = q.attempt.Nonce, true, len(q.attempt.Approvals)
		}
		return st
	}
	q.answers["GET "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, show()) }
	q.answers["PUT "+attemptPath] = func(w http.ResponseWriter, _ *http.Request) {
		open = true
		st := show()
		st["otp"] = serverOTP
		reply(w, 200, st)
	}
	q.ok("operator", "generate-root", "-init")
	q.seen = nil
	return q
}

func TestGenerateRootSignWholeWay(t *testing.T) {
	q := newSignedRoot(t)
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1), bareShare(1, 2), armouredShare(t, 2, nil), serverOTP}}
	q.on("GET auth/token/lookup-self", 200, `{"data":{}}`)
	got := q.ok("operator", "generate-root", "-sign")
	want(t, "stdout", got.out, newToken)
	q.noShare(got.out, got.err)
	if !strings.Contains(strings.Join(q.tty.shown, "\n"), q.words()) || !strings.Contains(got.err, "not sent: this share is of generation 1 (retiring)") {
		t.Errorf("%s%s", q.tty.shown, got.err)
	}
	for _, a := range q.attempt.Approvals {
		if a.Mode != holder.ModeSignature {
			t.Errorf("%+v", a)
		}
	}
	if len(q.tty.prompts) != 5 {
		t.Errorf("%q", q.tty.prompts)
	}
}

func TestGenerateRootSignOnce(t *testing.T) {
	q := newSignedRoot(t)
	q.stdin = bareShare(2, 1)
	got := q.ok("operator", "generate-root", "-sign", "-words="+q.words(), "-nonce="+nonceA, "-")
	want(t, "status", got.out, "Nonce       "+nonceA+"\nStarted     true\nProgress    1/2\nComplete    false\n")
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 2)}}
	got = q.ok("operator", "generate-root", "-sign", "-nonce="+nonceA)
	q.noShare(got.out, got.err)
	if !strings.Contains(got.out, "Encoded Token    "+xor(newToken, serverOTP)) {
		t.Errorf("%s", got.out)
	}
	got = q.ok("operator", "generate-root", "-sign", "-output-curl-string", "-nonce="+nonceA)
	if !strings.Contains(got.out, "/sys/ceremonies/"+nonceA+"/approve") {
		t.Errorf("%s", got.out)
	}
}

func TestGenerateRootSignRefusals(t *testing.T) {
	q := newSignedRoot(t)
	for _, flag := range []string{"-init", "-cancel", "-status", "-generate-otp", "-decode=x"} {
		q.fails(exitLocal, []string{"-sign is for giving shares"}, "operator", "generate-root", "-sign", flag)
	}
	q.fails(exitLocal, []string{"-words and -digest for -sign"}, "operator", "generate-root", "-words=a", "-nonce="+nonceA, "-")
	q.fails(exitLocal, []string{"quorate ceremony start -holder root-token"}, "operator", "generate-root", "-sign", "-holder")
	q.fails(exitLocal, []string{"-nonce of an attempt"}, "operator", "generate-root", "-sign", "-nonce=x", "-output-curl-string")
	q.stdin = bareShare(2, 1)
	q.fails(exitLocal, []string{"another ceremony than you mean"}, "operator", "generate-root", "-sign", "-words=a", "-nonce="+nonceA, "-")
	q.fails(exitLocal, []string{"asking whether to approve"}, "operator", "generate-root", "-sign", "-nonce="+nonceA, "-")
	q.tty = &fakeTTY{answers: []string{"no", bareShare(2, 1)}}
	q.fails(exitLocal, []string{"not confirmed", "the attempt stays open"}, "operator", "generate-root", "-sign")
	if q.tty.hushed != 0 {
		t.Error("the echo is still off")
	}
	q.nothingGiven()

	// Changed between looking and signing; a transcript that was rewritten.
	q.lieFrom, q.lie = q.shown+2, func(i *ceremonyInfo) { i.Digest = strings.Repeat("0", 64) }
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	q.fails(exitServer, []string{"the digest is"}, "operator", "generate-root", "-sign")
	q.nothingGiven()
	q.lie, q.log = nil, newTestLog(t, clusterA, 9)
	q.tty = &fakeTTY{answers: []string{"yes", bareShare(2, 1)}}
	q.fails(exitServer, []string{"not the transcript that was seen before"}, "operator", "generate-root", "-sign")
	q.nothingGiven()
}

// Without -sign, a share in the armour of another cluster is not sent either.
func TestWholeWayOtherCluster(t *testing.T) {
	s := newRootServer(t)
	s.on("GET sys/ceremonies/holders", 200, `{"data":{"cluster_id":"`+clusterA+`"}}`)
	other := armouredShare(t, 1, func(a *holder.Armour) { a.ClusterID = clusterB })
	s.tty = &fakeTTY{answers: []string{other, share(1), share(2)}}
	got := s.ok("operator", "generate-root")
	if got.out != newToken || !strings.Contains(got.err, "not sent: this share belongs to another cluster") {
		t.Errorf("%+v", got)
	}
}
