package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

// watchers holds the places of those who follow ceremonies: so many in all, so many for one client. Strangers, who are
// neither local nor have a live token, can have a part of each only, so that they can't take the places of the others.
type watchers struct {
	interval  time.Duration // between two looks
	heartbeat time.Duration // a comment is sent after so long without an event
	life      time.Duration // of one watch
	patience  time.Duration // with the node, and with a client that doesn't read

	ended context.Context // once the server shuts down
	end   context.CancelFunc

	mu             sync.Mutex
	all, strangers share
}

// share is a number of places, and who has them.
type share struct {
	total, perClient int

	open     int
	byClient map[netip.Prefix]int // :: client.bucket() → its watches
}

func newShare(total, perClient int) share {
	return share{total: total, perClient: perClient, byClient: make(map[netip.Prefix]int)}
}

func (s *share) full(client netip.Prefix) bool {
	return s.open >= s.total || s.byClient[client] >= s.perClient
}

func (s *share) enter(client netip.Prefix) {
	s.open++
	s.byClient[client]++
}

func (s *share) leave(client netip.Prefix) {
	s.open--
	if s.byClient[client]--; s.byClient[client] == 0 {
		delete(s.byClient, client)
	}
}

func newWatchers() *watchers {
	w := &watchers{
		interval: time.Second, heartbeat: 15 * time.Second, life: time.Hour, patience: 10 * time.Second,
		all: newShare(256, 64), strangers: newShare(128, 8),
	}
	w.ended, w.end = context.WithCancel(context.Background())
	return w
}

var (
	errManyWatchers = &fault.Error{
		Kind: fault.Limited, RetryAfter: 15 * time.Second,
		Sentence: "too many ceremonies are being watched: end another watch first, or read the ceremony's status instead",
	}
	errShuttingDown = &fault.Error{
		Kind: fault.Unavailable, RetryAfter: 5 * time.Second, Sentence: "this server is shutting down: ask again when it is back",
	}
)

// enter takes a place, which leave gives back.
func (w *watchers) enter(client netip.Prefix, stranger bool) (leave func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended.Err() != nil:
		return nil, errShuttingDown
	case w.all.full(client), stranger && w.strangers.full(client):
		return nil, errManyWatchers
	}
	w.all.enter(client)
	if stranger {
		w.strangers.enter(client)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all.leave(client)
		if stranger {
			w.strangers.leave(client)
		}
	}, nil
}

// watchCeremony answers with an event for every change that a look once a second finds, until the ceremony is over, the
// client has gone, or the server has something else to do.
func watchCeremony(x *exchange) (*reply, error) {
	leave, err := x.watchers.enter(x.client.bucket(), x.stranger())
	if err != nil {
		return nil, err
	}
	first, err := x.look(x.r.Context())
	if err != nil {
		leave()
		return nil, err
	}
	return &reply{stream: func() {
		defer leave()
		ctx, cancel := context.WithTimeout(x.r.Context(), x.watchers.life)
		defer cancel()
		defer context.AfterFunc(x.watchers.ended, cancel)()
		x.follow(ctx, first)
	}}, nil
}

// look reads the ceremony as its events show it: without the keys of a rekey's recipients, which are long, never change,
// and would be read once a second for everybody who watches.
func (x *exchange) look(ctx context.Context) (ceremonyJSON, error) {
	ctx, cancel := context.WithTimeout(ctx, x.watchers.patience)
	defer cancel()
	list, id, err := x.Node.Ceremonies(ctx)
	if err != nil {
		return ceremonyJSON{}, err
	}
	for _, c := range list {
		if c.Attempt.Nonce == x.nonce() {
			c.Checkpoint = id.Checkpoint
			return viewOf(c), nil
		}
	}
	c, err := x.Node.Ceremony(ctx, x.nonce()) // it has ended
	if err != nil {
		return ceremonyJSON{}, err
	}
	v := viewOf(c)
	v.RecipientKeys = nil
	return v, nil
}

// follow writes the stream.
func (x *exchange) follow(ctx context.Context, v ceremonyJSON) {
	out := x.beginEvents()
	if x.r.Method == http.MethodHead {
		return
	}
	tick := time.NewTicker(x.watchers.interval)
	defer tick.Stop()
	var last []byte
	for {
		now, err := json.Marshal(unsealed(v))
		if err != nil {
			x.logFailure(err)
			return
		}
		switch {
		case !bytes.Equal(now, last):
			last = now
			if !out.event("ceremony", v) {
				return
			}
		case time.Since(out.wrote) >= x.watchers.heartbeat:
			if !out.send(": still there\n\n") {
				return
			}
		}
		if v.State != node.Open && v.State != node.Verifying {
			out.event("end", map[string]any{"state": v.State})
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		next, err := x.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case fault.As(err) == node.ErrNoCeremony, fault.As(err) == node.ErrSealed:
			out.event("end", map[string]any{"reason": fault.As(err).Sentence})
			return
		case err == nil:
			v = next
		case fault.As(err) == nil:
			x.logFailure(err)
			return
		}
	}
}

// unsealed is what counts as the ceremony itself: the checkpoint moves with everything that is recorded.
func unsealed(v ceremonyJSON) ceremonyJSON {
	v.Checkpoint = ""
	return v
}

// events is a reply of server-sent events.
type events struct {
	x     *exchange
	rc    *http.ResponseController
	wrote time.Time
}

// beginEvents sends the head. The deadlines of the connection, which are made for replies that end, are moved: the one
// for reading away, as a client that reads sends nothing, and the one for writing with every write.
func (x *exchange) beginEvents() *events {
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // or a proxy may hold events back
	x.status = http.StatusOK
	e := &events{x: x, rc: http.NewResponseController(x.w), wrote: time.Now()}
	_ = e.rc.SetReadDeadline(time.Time{})
	x.w.WriteHeader(x.status)
	return e
}

func (e *events) event(name string, data any) bool {
	text, err := json.Marshal(data) // has no line break in it
	if err != nil {
		e.x.logFailure(err)
		return false
	}
	return e.send("event: " + name + "\ndata: " + string(text) + "\n\n")
}

// send reports whether the client is still there. Until the next write there may pass a heartbeat, and for as long the
// deadline must not: in HTTP/2 it ends the stream.
func (e *events) send(text string) bool {
	e.wrote = time.Now()
	_ = e.rc.SetWriteDeadline(e.wrote.Add(e.x.watchers.heartbeat + e.x.watchers.patience))
	if _, err := e.x.w.Write([]byte(text)); err != nil {
		return false
	}
	return e.rc.Flush() == nil
}
