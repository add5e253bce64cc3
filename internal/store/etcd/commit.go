package etcd

import (
	"context"
	"fmt"
	"iter"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/store"
)

// What one transaction of etcd may hold, chosen below its defaults (--max-txn-ops=128, --max-request-bytes=1572864) so
// that the marks and compares that go with the writes find room, too.
const (
	maxOps   = 100
	maxBytes = 1200 << 10
	maxRows  = 1000 // that a commit compares one by one: etcd reads each again, on every member
)

// Beside the records (k/) a store keeps these keys, all of which only matter for the revision at which they were last
// written:
//
//	w          by every commit
//	d/<group>  by every commit that deletes records of the group
//
// Etcd compares the records of a range that are there: it notices new and overwritten ones, but not that one is gone.
// A scan therefore compares the group's mark as well.
func (s *Store) writesKey() string                { return s.prefix + "w" }
func (s *Store) deletionsKey(group string) string { return s.prefix + "d/" + group }

// group is the first segment of a key, empty when it has only one. A prefix that reaches beyond the first segment has
// its keys in one group; any other has them in unknown ones.
func group(key string) (name string, whole bool) {
	name, _, whole = strings.Cut(key, "/")
	if !whole {
		return "", false
	}
	return name, true
}

// compares returns the conditions under which everything that r read is still true. If there would be more than budget,
// or r scanned too much, it is the condition that nothing at all was written since.
func (r *reader) compares(budget int) []clientv3.Cmp {
	if r.rev == 0 {
		return nil
	}
	unchanged := func(key string) clientv3.Cmp {
		return clientv3.Compare(clientv3.ModRevision(key), "<", r.rev+1)
	}
	var cmps []clientv3.Cmp
	for key, kv := range r.points {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(r.s.dataKey(key)), "=", kv.GetModRevision()))
	}
	groups := map[string]bool{}
	for _, seen := range r.spans {
		cmps = append(cmps, unchanged(seen.from).WithRange(seen.to))
		mark := ""
		if name, whole := group(seen.prefix); whole {
			mark = r.s.deletionsKey(name)
		}
		groups[mark] = true
	}
	for mark := range groups {
		if mark == "" {
			cmps = append(cmps, unchanged(r.s.deletionsKey("")).WithPrefix())
		} else {
			cmps = append(cmps, unchanged(mark))
		}
	}
	if len(cmps) > budget || r.rows > maxRows {
		return []clientv3.Cmp{unchanged(r.s.writesKey())}
	}
	return cmps
}

// batch collects writes, and the marks that go with them, for one transaction of etcd.
type batch struct {
	s     *Store
	ops   []clientv3.Op
	bytes int
	marks map[string]bool
}

func (s *Store) newBatch() *batch { return &batch{s: s, marks: map[string]bool{}} }

// add takes one change in; it reports false, and leaves the batch as it is, if there is no room.
func (b *batch) add(key string, value []byte) bool {
	name, _ := group(key)
	mark := value == nil && !b.marks[name]
	size := weight(key, value) + len(b.s.prefix)
	if mark {
		size += weight(name, nil) + len(b.s.prefix)
	}
	if len(b.ops)+2 > maxOps || len(b.ops) > 0 && b.bytes+size > maxBytes {
		return false
	}
	b.bytes += size
	if value == nil {
		b.ops = append(b.ops, clientv3.OpDelete(b.s.dataKey(key)))
	} else {
		b.ops = append(b.ops, clientv3.OpPut(b.s.dataKey(key), string(value)))
	}
	if mark {
		b.marks[name] = true
		b.ops = append(b.ops, clientv3.OpPut(b.s.deletionsKey(name), ""))
	}
	return true
}

// weight is about what a change takes in a request or a chunk.
func weight(key string, value []byte) int { return len(key) + len(value) + 16 }

// addAll takes all changes in, or reports false.
func (b *batch) addAll(changes iter.Seq2[string, []byte]) bool {
	for key, value := range changes {
		if !b.add(key, value) {
			return false
		}
	}
	return true
}

// commit writes the changes of tx if everything that r read is still true. It returns errConflict if not.
func (s *Store) commit(ctx context.Context, r *reader, tx *store.Overlay) error {
	if !tx.Changed() {
		return nil // it stands at the revision that it read
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b := s.newBatch()
	if !b.addAll(tx.Changes()) {
		return s.commitLarge(ctx, r, tx)
	}
	return s.decide(ctx, r.compares(maxOps), append(b.ops, clientv3.OpPut(s.writesKey(), "")))
}

// decide is the one request after which a transaction is committed or not. It is sent again only if it certainly had no
// effect, and waited for even if ctx ends.
func (s *Store) decide(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) error {
	request, cancel := context.WithTimeout(clientv3.WithRequireLeader(context.WithoutCancel(ctx)), s.timeout)
	defer cancel()
	cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(s.pendingKey()), "=", 0))
	for n := 0; ; n++ {
		resp, err := s.client.Txn(request).If(cmps...).Then(ops...).Else(clientv3.OpGet(s.pendingKey())).Commit()
		if err == nil && resp.Succeeded {
			return nil
		}
		if err == nil {
			if pending := resp.Responses[0].GetResponseRange().Kvs; len(pending) > 0 {
				if err := s.rollForward(ctx, string(pending[0].Value)); err != nil {
					return err
				}
			}
			return errConflict
		}
		c := classify(err)
		if !c.refused {
			s.log.Error("etcd did not confirm a write", "error", err)
			return fmt.Errorf("%w: %w (%w)", store.ErrUnknownOutcome, errUnknown, err)
		}
		if !c.passing || pause(request, n) != nil {
			return c.wrap(err)
		}
	}
}

// txn makes a request that may be repeated without harm, and repeats it while that may help, up to the store's timeout.
func (s *Store) txn(ctx context.Context, cmps []clientv3.Cmp, ops ...clientv3.Op) (resp *clientv3.TxnResponse, err error) {
	err = s.repeat(ctx, func(ctx context.Context) error {
		resp, err = s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
		return err
	})
	return resp, err
}

// repeat calls fn until it succeeds, can't succeed, or the store's timeout is over. One call has a part of that time, so
// that a member that doesn't answer leaves some for another.
func (s *Store) repeat(ctx context.Context, fn func(context.Context) error) error {
	all, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	for n := 0; ; n++ {
		one, done := context.WithTimeout(clientv3.WithRequireLeader(all), s.timeout/3)
		err := fn(one)
		done()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c := classify(err); !c.passing || pause(all, n) != nil {
			return c.wrap(err)
		}
	}
}
