package etcd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// A change that doesn't fit into one transaction of etcd is committed in three steps:
//
//  1. Its writes are stored as chunks below j/<id>/, which hang on a lease: if nothing else happens they vanish.
//  2. One transaction checks what was read, takes the chunks off the lease and puts the journal's name into the key
//     "pending". This is the commit.
//  3. The chunks are applied one by one, and the last transaction removes chunks and "pending".
//
// While there is a "pending" nobody else commits, and nobody begins to read: whoever meets it carries out step 3 first.
// Every part of that step is bound to "pending" and may be repeated, so any number of processes may do it at once, and
// any of them may die. Nobody sees half of the change, because a snapshot never lies inside step 3. The price: if the
// database becomes full there, nothing can be read either until it has room.
const (
	maxChange    = 32 << 20 // bytes of a whole change
	leaseSeconds = 60
)

var errTooLarge = fault.Newf(fault.TooLarge,
	"the change is over the limit of %d MiB of the storage in etcd: make it in smaller parts", maxChange>>20)

func (s *Store) pendingKey() string { return s.prefix + "pending" }

// journal is what "pending" names: its text is <number of chunks>/<id>.
type journal struct {
	name   string
	dir    string // prefix of the chunks
	chunks int
}

func (s *Store) newJournal(name string) (journal, error) {
	count, id, ok := strings.Cut(name, "/")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 {
		return journal{}, errDamaged
	}
	return journal{name: name, dir: s.prefix + "j/" + id + "/", chunks: n}, nil
}

func (j journal) chunkKey(n int) string { return fmt.Sprintf("%s%04d", j.dir, n) }

// commitLarge is commit for a change of any size.
func (s *Store) commitLarge(ctx context.Context, r *reader, tx *store.Overlay) error {
	chunks, err := encode(tx.Changes())
	if err != nil {
		return err
	}
	j, err := s.newJournal(fmt.Sprintf("%d/%s", len(chunks), rand.Text()))
	if err != nil {
		return err
	}
	var lease clientv3.LeaseID
	err = s.repeat(ctx, func(ctx context.Context) error {
		granted, err := s.client.Grant(ctx, leaseSeconds)
		if err == nil {
			lease = granted.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	defer s.revoke(ctx, lease)
	cmps := r.compares(maxOps - len(chunks))
	ops := []clientv3.Op{clientv3.OpPut(s.pendingKey(), j.name)}
	for n, chunk := range chunks {
		// Only where it isn't yet: a request that was sent again may also come late, and must not hang a committed chunk on
		// the lease again.
		absent := clientv3.Compare(clientv3.CreateRevision(j.chunkKey(n)), "=", 0)
		if _, err := s.txn(ctx, []clientv3.Cmp{absent}, clientv3.OpPut(j.chunkKey(n), string(chunk), clientv3.WithLease(lease))); err != nil {
			return err
		}
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(j.chunkKey(n)), ">", 0))
		ops = append(ops, clientv3.OpPut(j.chunkKey(n), "", clientv3.WithIgnoreValue())) // and without a lease
	}
	if err := s.decide(ctx, cmps, ops); err != nil {
		return err
	}
	if err := s.rollForward(ctx, j.name); err != nil {
		s.log.Warn("a large change is committed, but not carried out yet: whoever comes next will do so", "error", err)
	}
	return nil
}

// revoke ends a lease, and with it a journal that was not committed. If it fails the lease ends by itself.
func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	if _, err := s.client.Revoke(ctx, lease); err != nil {
		s.log.Debug("a lease in etcd was left to expire", "error", err)
	}
}

// rollForward carries out a journal, or what others have left of it.
func (s *Store) rollForward(ctx context.Context, name string) error {
	select {
	case s.finish <- struct{}{}:
		defer func() { <-s.finish }()
	case <-ctx.Done():
		return ctx.Err()
	}
	j, err := s.newJournal(name)
	if err != nil {
		return err
	}
	for n := range j.chunks {
		ok, err := s.applyChunk(ctx, j, n)
		if err != nil || !ok {
			return err
		}
	}
	_, err = s.whilePending(ctx, j, clientv3.OpDelete(s.pendingKey()), clientv3.OpDelete(j.dir, clientv3.WithPrefix()),
		clientv3.OpPut(s.writesKey(), ""))
	return err
}

// whilePending makes one transaction of step 3; ok is false if somebody else has ended the journal.
func (s *Store) whilePending(ctx context.Context, j journal, ops ...clientv3.Op) (ok bool, err error) {
	pending := clientv3.Compare(clientv3.Value(s.pendingKey()), "=", j.name)
	resp, err := s.txn(ctx, []clientv3.Cmp{pending}, ops...)
	return err == nil && resp.Succeeded, err
}

func (s *Store) applyChunk(ctx context.Context, j journal, n int) (ok bool, err error) {
	pending := clientv3.Compare(clientv3.Value(s.pendingKey()), "=", j.name)
	resp, err := s.txn(ctx, []clientv3.Cmp{pending}, clientv3.OpGet(j.chunkKey(n)))
	if err != nil || !resp.Succeeded {
		return false, err
	}
	found := resp.Responses[0].GetResponseRange().Kvs
	if len(found) == 0 {
		return false, errDamaged
	}
	b := s.newBatch()
	for change, err := range decode(found[0].Value) {
		if err != nil {
			return false, err
		}
		if b.add(change.Key, change.Value) {
			continue
		}
		if ok, err := s.whilePending(ctx, j, b.ops...); err != nil || !ok {
			return false, err
		}
		b = s.newBatch()
		b.add(change.Key, change.Value) // an empty one takes any
	}
	return s.whilePending(ctx, j, b.ops...)
}

// encode packs changes into chunks: for each the length of the key, the key, the length of the value plus one, or 0 for
// a deletion, and the value.
func encode(changes iter.Seq2[string, []byte]) ([][]byte, error) {
	chunks := [][]byte{nil}
	total := 0
	for key, value := range changes {
		size := weight(key, value)
		if total += size; total > maxChange {
			return nil, errTooLarge
		}
		last := len(chunks) - 1
		if len(chunks[last]) > 0 && len(chunks[last])+size > maxBytes {
			chunks, last = append(chunks, nil), last+1
		}
		chunk := binary.AppendUvarint(chunks[last], uint64(len(key)))
		chunk = append(chunk, key...)
		if value == nil {
			chunk = append(chunk, 0)
		} else {
			chunk = binary.AppendUvarint(chunk, uint64(len(value))+1)
			chunk = append(chunk, value...)
		}
		chunks[last] = chunk
	}
	return chunks, nil
}

// decode yields the changes of a chunk, with a nil value for a deleted key.
func decode(chunk []byte) iter.Seq2[store.Entry, error] {
	next := func(extra uint64) (part []byte, length uint64, err error) {
		length, n := binary.Uvarint(chunk)
		if n <= 0 || length > uint64(len(chunk))+extra {
			return nil, 0, errDamaged
		}
		chunk = chunk[n:]
		size := length - min(length, extra)
		if size > uint64(len(chunk)) {
			return nil, 0, errDamaged
		}
		part, chunk = chunk[:size], chunk[size:]
		return part, length, nil
	}
	return func(yield func(store.Entry, error) bool) {
		for len(chunk) > 0 {
			key, _, err := next(0)
			value, length, err2 := next(1)
			if err := errors.Join(err, err2); err != nil {
				yield(store.Entry{}, errDamaged)
				return
			}
			if length == 0 {
				value = nil
			}
			if !yield(store.Entry{Key: string(key), Value: value}, nil) {
				return
			}
		}
	}
}
