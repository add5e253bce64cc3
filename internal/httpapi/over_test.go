package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/store"
)

// Whoever cancels what came to another end is told so: it is not to be taken for cancelled. The families of the stock
// clients answer as ever.
func TestCancelOfWhatIsOver(t *testing.T) {
	s := ready(t, 3, 2)
	cancel := func(nonce string, code int, contains string) {
		t.Helper()
		for _, o := range []option{withToken(s.root), stranger, func(*http.Request) {}} {
			for _, body := range []string{"", `{"key":"` + s.keys[0] + `"}`} {
				s.do("DELETE", native+"/"+nonce, body, o).want(code, contains)
				s.do("POST", native+"/"+nonce+"/cancel", body, o).want(code, contains)
			}
		}
	}
	done := s.begin(`{"kind":"root-token"}`)
	for _, key := range s.keys[:2] {
		s.do("POST", native+"/"+done+"/approve", `{"key":"`+key+`"}`).want(200)
	}
	cancel(done, 400, "the ceremony is over: complete")
	cancelled := s.begin(`{"kind":"rekey","secret_shares":2,"secret_threshold":2}`)
	s.do("DELETE", native+"/"+cancelled, "").want(204)
	cancel(cancelled, 400, "the ceremony is over: cancelled")
	expired := s.begin(`{"kind":"root-token"}`)
	s.clock.step(5 * time.Minute)
	cancel(expired, 400, "the ceremony is over: expired")
	cancel(neverNonce, 404, "")
	for _, path := range []string{attempt, attemptOne, attemptB, rekeyInit, rotateInit} {
		s.do("DELETE", path, "", withToken(s.root)).want(204)
	}

	next := s.begin(`{"kind":"rekey","secret_shares":2,"secret_threshold":2}`)
	for _, key := range s.keys[:2] {
		s.do("POST", native+"/"+next+"/approve", `{"key":"`+key+`"}`).want(200)
	}
	s.view(next).is("state", "verifying")
	s.do("POST", native+"/"+next+"/cancel", "", stranger).want(403)
	s.do("POST", native+"/"+next+"/cancel", "").want(204)
}

// ending is a store in which something else ends what is about to be cancelled: after so many more views.
type ending struct {
	store.Store
	views *atomic.Int64
	end   func()
}

func (e ending) View(ctx context.Context, fn func(store.Reader) error) error {
	if e.views.Add(-1) == 0 {
		e.end()
	}
	return e.Store.View(ctx, fn)
}

// The same when it ends between the look at it and the cancel.
func TestCancelRacesWithTheLastApproval(t *testing.T) {
	s := ready(t, 3, 2)
	for views := int64(1); ; views++ {
		nonce := ""
		late := &atomic.Int64{}
		s.serve(ending{s.store, late, func() {
			s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[1]+`"}`, stranger)
		}})
		s.unseal(2)
		nonce = s.begin(`{"kind":"root-token"}`)
		s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+s.keys[0]+`"}`, stranger).want(200)
		late.Store(views)
		got := s.do("DELETE", native+"/"+nonce, "")
		if late.Swap(0) > 0 { // it was cancelled before
			if got.want(204); views < 3 {
				t.Errorf("a cancel took %d views", views-1)
			}
			return
		}
		if s.view(nonce).str("state") == "complete" {
			got.want(400, "the ceremony is over: complete")
		} else {
			got.want(204)
		}
	}
}

// Who signs to read a result hasn't signed that it be destroyed, and the other way round.
func TestResultBySignature(t *testing.T) {
	s := ready(t, 3, 2)
	nonce := s.begin(`{"kind":"root-token"}`)
	for _, key := range s.keys[:2] {
		s.do("POST", native+"/"+nonce+"/approve", `{"key":"`+key+`"}`, stranger).want(200)
	}
	path, at, key := native+"/"+nonce+"/result", s.clock.now(), s.key(3, 1)
	by := func(statement holder.Statement) string {
		return signatureBody(3, key.Sign(statement), fmt.Sprintf(`,"signed_at":%q`, at.Format(time.RFC3339Nano)))
	}
	read := by(ceremony.ResultStatement(s.clusterID(), 1, 3, holder.ModeSignature, nonce, at))
	destroy := by(ceremony.AcknowledgeStatement(s.clusterID(), 1, 3, holder.ModeSignature, nonce, at))
	s.do("DELETE", path, read, stranger).want(400, "signature")
	s.do("POST", path, destroy, stranger).want(400, "signature")
	s.do("DELETE", path, strings.ReplaceAll(destroy, "signed_at", "at"), stranger).want(400, "signed_at")
	s.do("POST", path, read, stranger).want(200, "encoded_token")
	s.do("DELETE", path, destroy, stranger).want(204)
	s.do("POST", path, read, stranger).want(404)
}
