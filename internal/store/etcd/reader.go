package etcd

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/store"
)

// Pages of a scan begin small, because it may stop at once, and grow while they stay below pageBytes. That is a guess: the
// largest records may follow the smallest, and a page of them has to fit into memory, and through the network in time.
const (
	firstPage = 16
	maxPage   = 64
	pageBytes = 4 << 20
)

// reader reads one revision of the cluster and remembers what it read. The first read is linearizable and fixes the
// revision; later ones may come from any member.
type reader struct {
	ctx    context.Context
	s      *Store
	rev    int64 // 0 until something was read
	points map[string]*mvccpb.KeyValue
	spans  []*span
	rows   int   // read by scans
	failed error // of the first read that failed: after it the transaction can't succeed
}

// span is a part of the key space that a scan has seen.
type span struct {
	prefix   string // as asked, without the store's
	from, to string // full keys, to excluded
}

func newReader(ctx context.Context, s *Store) *reader {
	return &reader{ctx: ctx, s: s, points: map[string]*mvccpb.KeyValue{}}
}

// dataKey is the full key of a record: records have a part below the prefix for themselves.
func (s *Store) dataKey(key string) string { return s.prefix + "k/" + key }

// fetch makes one request of the reads that build makes with the options given.
func (r *reader) fetch(build func(...clientv3.OpOption) []clientv3.Op) ([]*pb.ResponseOp, error) {
	if r.failed != nil {
		return nil, r.failed
	}
	var resp *clientv3.TxnResponse
	var err error
	if r.rev == 0 {
		resp, err = r.first(build())
	} else {
		at := clientv3.WithRev(r.rev)
		resp, err = r.s.txn(r.ctx, nil, build(at, clientv3.WithSerializable())...)
		if errors.Is(err, rpctypes.ErrFutureRev) { // the member that was asked lags behind
			resp, err = r.s.txn(r.ctx, nil, build(at)...)
		}
	}
	if err != nil {
		if errors.Is(err, rpctypes.ErrCompacted) {
			err = errCompacted
		}
		r.failed = err
		return nil, err
	}
	return resp.Responses, nil
}

// first makes the first read. A journal that is on its way is finished before: its change was committed, but isn't
// visible as a whole yet.
func (r *reader) first(ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ops = append(ops, clientv3.OpGet(r.s.pendingKey()))
	for {
		resp, err := r.s.txn(r.ctx, nil, ops...)
		if err != nil {
			return nil, err
		}
		pending := resp.Responses[len(ops)-1].GetResponseRange().Kvs
		if len(pending) == 0 {
			r.rev = resp.Header.Revision
			return resp, nil
		}
		if err := r.s.rollForward(r.ctx, string(pending[0].Value)); err != nil {
			return nil, err
		}
	}
}

// Get implements store.Reader.
func (r *reader) Get(keys ...string) ([][]byte, error) {
	var missing []string
	for _, key := range keys {
		if _, ok := r.points[key]; !ok {
			missing = append(missing, key)
		}
	}
	for part := range slices.Chunk(missing, maxOps) {
		found, err := r.fetch(func(opts ...clientv3.OpOption) []clientv3.Op {
			var ops []clientv3.Op
			for _, key := range part {
				ops = append(ops, clientv3.OpGet(r.s.dataKey(key), opts...))
			}
			return ops
		})
		if err != nil {
			return nil, err
		}
		for i, key := range part {
			r.points[key] = nil
			if kvs := found[i].GetResponseRange().Kvs; len(kvs) > 0 {
				r.points[key] = kvs[0]
			}
		}
	}
	values := make([][]byte, len(keys))
	for i, key := range keys {
		if kv := r.points[key]; kv != nil {
			values[i] = present(kv.Value)
		}
	}
	return values, r.failed
}

// present makes an empty value differ from an absent one.
func present(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// Scan implements store.Reader.
func (r *reader) Scan(prefix, after string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		from := r.s.dataKey(max(prefix, after+"\x00"))
		end := clientv3.GetPrefixRangeEnd(r.s.dataKey(prefix))
		if from >= end {
			return
		}
		seen := &span{prefix: prefix, from: from, to: from}
		r.spans = append(r.spans, seen)
		for limit := firstPage; ; {
			found, err := r.fetch(func(opts ...clientv3.OpOption) []clientv3.Op {
				opts = append(opts, clientv3.WithRange(end), clientv3.WithLimit(int64(limit)))
				return []clientv3.Op{clientv3.OpGet(seen.to, opts...)}
			})
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			page := found[0].GetResponseRange()
			bytes := 0
			for _, kv := range page.Kvs {
				bytes += len(kv.Key) + len(kv.Value)
				r.rows++
				seen.to = string(kv.Key) + "\x00"
				if !yield(store.Entry{Key: strings.TrimPrefix(string(kv.Key), r.s.dataKey("")), Value: present(kv.Value)}, nil) {
					return
				}
			}
			if !page.More {
				seen.to = end
				return
			}
			limit = nextPage(limit, len(page.Kvs), bytes)
		}
	}
}

// nextPage is how many records to ask for after a page of n that took so many bytes.
func nextPage(limit, n, bytes int) int {
	return max(1, min(4*limit, maxPage, pageBytes*n/max(1, bytes)))
}
