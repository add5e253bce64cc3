package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

func TestOptions(t *testing.T) {
	const password = "the known password 7h3"
	one := []string{"http://127.0.0.1:2379"}
	secure := []string{"https://a:2379", "https://b:2379"}
	for name, test := range map[string]struct {
		o    Options
		says string // "" = fine
	}{
		"plain":              {Options{Endpoints: one}, ""},
		"secure":             {Options{Endpoints: secure}, ""},
		"login":              {Options{Endpoints: secure, Username: "u", Password: password}, ""},
		"none":               {Options{}, "at least one"},
		"no scheme":          {Options{Endpoints: []string{"127.0.0.1:2379"}}, "not like https://"},
		"no host":            {Options{Endpoints: []string{"https://:2379"}}, "not like https://"},
		"other scheme":       {Options{Endpoints: []string{"unix:///etcd.sock"}}, "not like https://"},
		"a path":             {Options{Endpoints: []string{"https://a:2379/v3"}}, "not like https://"},
		"login in address":   {Options{Endpoints: []string{"https://u:" + password + "@a:2379"}}, "not like https://"},
		"broken login":       {Options{Endpoints: []string{"https://u:%zz" + password + "@a"}}, "not like https://"},
		"mixed":              {Options{Endpoints: append(slices.Clone(one), secure...)}, "make them all https"},
		"TLS for http":       {Options{Endpoints: one, TLS: &tls.Config{}}, "make them https"},
		"name alone":         {Options{Endpoints: one, Username: "u"}, "together"},
		"password alone":     {Options{Endpoints: one, Password: password}, "together"},
		"long prefix":        {Options{Endpoints: one, Prefix: strings.Repeat("p", maxPrefix)}, "prefix"},
		"prefix with a NUL":  {Options{Endpoints: one, Prefix: "a\x00b"}, "prefix"},
		"prefix not UTF-8":   {Options{Endpoints: one, Prefix: "\xff"}, "prefix"},
		"time goes backward": {Options{Endpoints: one, Timeout: -1}, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.o.check()
			switch {
			case test.says == "" && err != nil, test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("check: %v", err)
			case err != nil && strings.Contains(err.Error(), password):
				t.Errorf("the password is in %v", err)
			case err == nil && (test.o.Prefix != "quorate/" || test.o.Timeout != 5*time.Second || test.o.Logger == nil):
				t.Errorf("defaults: %+v", test.o)
			case err == nil && (test.o.TLS != nil) != strings.HasPrefix(test.o.Endpoints[0], "https"):
				t.Errorf("TLS is %v for %s", test.o.TLS, test.o.Endpoints)
			}
		})
	}
	o := Options{Endpoints: one, Prefix: "a"}
	if err := o.check(); err != nil || o.Prefix != "a/" {
		t.Errorf("prefix a becomes %q, %v", o.Prefix, err)
	}
}

// Nobody listens: the error is a sentence, comes in time, and a write is known not to have happened.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	l.Close()
	const password = "the known password 7h3"
	for _, o := range []Options{
		{Endpoints: []string{address}, Timeout: 200 * time.Millisecond},
		{Endpoints: []string{address}, Timeout: 200 * time.Millisecond, Username: "u", Password: password},
	} {
		_, err = Open(t.Context(), o)
		if fault.As(err) != errUnreachable || errors.Is(err, store.ErrUnknownOutcome) || strings.Contains(err.Error(), password) {
			t.Errorf("Open: %v", err)
		}
	}
	s, err := connect(t.Context(), Options{Endpoints: []string{address}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put("k", nil) })
	if fault.As(err) != errUnreachable || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("a blind write: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.View(ctx, func(r store.Reader) error {
		cancel()
		_, err := r.Get("k")
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled read: %v", err)
	}
}

func TestClassify(t *testing.T) {
	for _, test := range []struct {
		err              error
		refused, passing bool
		says             string
	}{
		{rpctypes.ErrNoSpace, true, false, "NOSPACE"},
		{rpctypes.ErrTooManyRequests, true, true, "later"},
		{rpctypes.ErrNoLeader, true, true, "leader"},
		{rpctypes.ErrTimeoutDueToLeaderFail, false, true, "leader"},
		{rpctypes.ErrTimeout, false, true, "leader"},
		{rpctypes.ErrLeaderChanged, false, true, "leader"},
		{rpctypes.ErrStopped, false, true, "leader"},
		{rpctypes.ErrAuthFailed, true, false, "user name"},
		{rpctypes.ErrPermissionDenied, true, false, "readwrite"},
		{rpctypes.ErrTooManyOps, true, false, "--max-txn-ops"},
		{rpctypes.ErrRequestTooLarge, true, false, "--max-request-bytes"},
		{rpctypes.ErrDuplicateKey, true, false, "log"},
		{rpctypes.ErrFutureRev, true, false, "log"},
		{fmt.Errorf("wrapped: %w", rpctypes.ErrNoSpace), true, false, "NOSPACE"},
		{status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: refused"`), true, true, "leader"},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), false, true, "leader"},
		{status.Error(codes.ResourceExhausted, "grpc: received message larger than max (3 vs. 2)"), true, false, "--max-request-bytes"},
		{status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM"), false, true, "leader"},
		{status.Error(codes.Unauthenticated, "no"), true, false, "log"},
		{status.Error(codes.Internal, "stream reset"), false, true, "leader"},
		{context.DeadlineExceeded, false, true, "leader"},
	} {
		c := classify(test.err)
		if c.refused != test.refused || c.passing != test.passing || !strings.Contains(c.sentence.Sentence, test.says) {
			t.Errorf("%v: refused %v, passing %v, %q", test.err, c.refused, c.passing, c.sentence)
		}
		if wrapped := c.wrap(test.err); !errors.Is(wrapped, test.err) || fault.As(wrapped) != c.sentence {
			t.Errorf("%v is wrapped as %v", test.err, wrapped)
		}
	}
}

// conditions prints compares shortly.
func conditions(cmps []clientv3.Cmp) []string {
	var all []string
	for _, cmp := range cmps {
		c := cmp.GetCompare()
		text := string(c.Key)
		if len(c.RangeEnd) > 0 {
			text += " .. " + string(c.RangeEnd)
		}
		all = append(all, fmt.Sprintf("%s %v %d", text, c.Result, c.GetModRevision()))
	}
	slices.Sort(all)
	return all
}

func TestCompares(t *testing.T) {
	s := &Store{prefix: "p/"}
	read := func(prefix, from, to string) *span { return &span{prefix, s.dataKey(from), s.dataKey(to)} }
	for name, test := range map[string]struct {
		points []string
		spans  []*span
		rows   int
		want   []string
	}{
		"nothing": {},
		"points":  {points: []string{"a", "b/1"}, want: []string{"p/k/a EQUAL 5", "p/k/b/1 EQUAL 5"}},
		"one group": {
			spans: []*span{read("a/", "a/", "a0"), read("a/b/", "a/b/", "a/b0")},
			want:  []string{"p/d/a LESS 8", "p/k/a/ .. p/k/a0 LESS 8", "p/k/a/b/ .. p/k/a/b0 LESS 8"},
		},
		"unknown groups": {
			spans: []*span{read("a", "a", "b")},
			want:  []string{"p/d/ .. p/d0 LESS 8", "p/k/a .. p/k/b LESS 8"},
		},
		"keys that begin with a slash": {
			spans: []*span{read("/", "/", "0")},
			want:  []string{"p/d/ LESS 8", "p/k// .. p/k/0 LESS 8"},
		},
		"too many": {points: strings.Split("abcdefghijk", ""), want: []string{"p/w LESS 8"}},
		"too much": {points: []string{"a"}, rows: maxRows + 1, want: []string{"p/w LESS 8"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader(t.Context(), s)
			r.rev, r.spans, r.rows = 7, test.spans, test.rows
			for _, key := range test.points {
				r.points[key] = &mvccpb.KeyValue{ModRevision: 5}
			}
			if got := conditions(r.compares(10)); !slices.Equal(got, test.want) {
				t.Errorf("compares %q, want %q", got, test.want)
			}
		})
	}
	r := newReader(t.Context(), s)
	r.rev, r.points["absent"] = 7, nil
	if got := conditions(r.compares(10)); !slices.Equal(got, []string{"p/k/absent EQUAL 0"}) {
		t.Errorf("an absent key: %q", got)
	}
}

func TestBatch(t *testing.T) {
	s := &Store{prefix: "p/"}
	b := s.newBatch()
	for key, value := range map[string][]byte{"a/1": nil, "a/2": nil, "b/1": {}, "alone": nil} {
		if !b.add(key, value) {
			t.Fatal("no room")
		}
	}
	var got []string
	for _, op := range b.ops {
		got = append(got, fmt.Sprint(op.IsPut(), " ", string(op.KeyBytes())))
	}
	slices.Sort(got)
	want := []string{"false p/k/a/1", "false p/k/a/2", "false p/k/alone", "true p/d/", "true p/d/a", "true p/k/b/1"}
	if !slices.Equal(got, want) {
		t.Errorf("operations %q, want %q", got, want)
	}
	b = s.newBatch()
	for i := 0; b.add(fmt.Sprintf("%d/x", i), nil); i++ { // each with a mark of its own
	}
	if len(b.ops) < maxOps-2 || len(b.ops) > maxOps {
		t.Errorf("%d operations, the limit is %d", len(b.ops), maxOps)
	}
	b = s.newBatch()
	if !b.add(strings.Repeat("k", store.MaxKey), make([]byte, store.MaxValue)) {
		t.Error("an empty batch didn't take the largest record")
	}
	if b.add("k", make([]byte, maxBytes-store.MaxValue)) || len(b.ops) != 1 {
		t.Error("a full batch took more")
	}
}

func TestChunks(t *testing.T) {
	o := store.NewOverlay(nil)
	want := map[string]string{}
	put := func(key, value string) {
		want[key] = value
		if err := o.Put(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		put(fmt.Sprintf("s/%d", i), strings.Repeat("v", i%300))
	}
	for i := range 5 {
		put(fmt.Sprintf("b/%d", i), strings.Repeat("v", store.MaxValue-i))
	}
	if err := o.Delete("gone"); err != nil {
		t.Fatal(err)
	}
	chunks, err := encode(o.Changes())
	if err != nil || len(chunks) < 5 {
		t.Fatalf("%d chunks, %v", len(chunks), err)
	}
	deleted := 0
	for _, chunk := range chunks {
		if len(chunk) > maxBytes {
			t.Errorf("a chunk of %d bytes", len(chunk))
		}
		for e, err := range decode(chunk) {
			value, ok := want[e.Key]
			switch {
			case err != nil:
				t.Fatal(err)
			case e.Value == nil && e.Key == "gone":
				deleted++
			case e.Value == nil || !ok || value != string(e.Value):
				t.Errorf("%s has %d bytes, nil: %v", e.Key, len(e.Value), e.Value == nil)
			}
			delete(want, e.Key)
		}
	}
	if len(want) > 0 || deleted != 1 {
		t.Errorf("%d records are missing, %d deletions", len(want), deleted)
	}
	small, err := encode(func(yield func(string, []byte) bool) { yield("key", []byte("value")) })
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(small[0]); cut++ {
		ok := false
		for _, err := range decode(small[0][:cut]) {
			ok = err == errDamaged
		}
		if !ok {
			t.Errorf("a chunk cut to %d bytes was not noticed", cut)
		}
	}
	for _, name := range []string{"", "x", "1", "0/a", "-1/a", "x/a"} {
		if _, err := (&Store{}).newJournal(name); err != errDamaged {
			t.Errorf("journal %q: %v", name, err)
		}
	}
}

func TestNextPage(t *testing.T) {
	for _, test := range []struct{ limit, n, bytes, want int }{
		{16, 16, 1600, 64},
		{512, 512, 51200, maxPage},
		{16, 16, 16 << 20, 4},
		{1, 1, 5 << 20, 1},
		{16, 16, 0, 64},
	} {
		if got := nextPage(test.limit, test.n, test.bytes); got != test.want {
			t.Errorf("after %d of %d with %d bytes: %d, want %d", test.n, test.limit, test.bytes, got, test.want)
		}
	}
	if worst := maxPage * store.MaxValue; worst > 64<<20 {
		t.Errorf("a page can have %d MiB", worst>>20)
	}
}

// Every chunk of the largest change has its place in the transaction that commits the journal.
func TestLargestChangeFitsOneCommit(t *testing.T) {
	chunks, err := encode(func(yield func(string, []byte) bool) {
		value := make([]byte, maxBytes/2) // the worst: one fits, two don't
		for i := range maxChange/weight("00", value) - 1 {
			if !yield(fmt.Sprintf("%02d", i), value) {
				return
			}
		}
	})
	if err != nil || len(chunks) < 40 || len(chunks)+1 > maxOps || maxOps-len(chunks) < 1 {
		t.Errorf("%d chunks, %v", len(chunks), err)
	}
	_, err = encode(func(yield func(string, []byte) bool) {
		for i := 0; yield(fmt.Sprint(i), make([]byte, store.MaxValue)); i++ {
		}
	})
	if err == nil {
		t.Error("an endless change was taken")
	}
}

// chunkRequests notes the requests that store chunks, and refuses the commit.
type chunkRequests struct {
	pb.KVClient
	pb.LeaseClient
	seen []*pb.TxnRequest
}

func (c *chunkRequests) Txn(_ context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	if r.Success[0].GetRequestPut().GetLease() == 0 {
		return nil, rpctypes.ErrGRPCNoSpace
	}
	c.seen = append(c.seen, r)
	return &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: true}, nil
}

func (c *chunkRequests) LeaseGrant(context.Context, *pb.LeaseGrantRequest, ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{ID: 7}, nil
}

func (c *chunkRequests) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest, ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{}, nil
}

// A chunk's request that arrives once more, after the commit, would put the chunk back on a lease that ends: it has to be
// bound to the chunk's absence.
func TestLateChunkChangesNothing(t *testing.T) {
	c := &chunkRequests{}
	client := clientv3.NewCtxClient(t.Context())
	client.KV, client.Lease = clientv3.NewKVFromKVClient(c, nil), clientv3.NewLeaseFromLeaseClient(c, nil, time.Second)
	defer client.Lease.Close()
	s := &Store{
		client: client, prefix: "p/", timeout: time.Second, log: slog.New(slog.DiscardHandler),
		lane: make(chan struct{}, 1), finish: make(chan struct{}, 1),
	}
	err := s.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.Put("a", make([]byte, store.MaxValue)), tx.Put("b", make([]byte, store.MaxValue)))
	})
	if fault.As(err) != known[rpctypes.ErrNoSpace] || len(c.seen) != 2 {
		t.Fatalf("%d chunks, %v", len(c.seen), err)
	}
	for _, r := range c.seen {
		key := r.Success[0].GetRequestPut().Key
		if len(r.Compare) != 1 || string(r.Compare[0].Key) != string(key) || r.Compare[0].Target != pb.Compare_CREATE ||
			r.Compare[0].Result != pb.Compare_EQUAL || r.Compare[0].GetCreateRevision() != 0 {
			t.Errorf("%s is stored on condition of %v", key, r.Compare)
		}
	}
}
