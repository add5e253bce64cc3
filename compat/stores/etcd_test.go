package stores

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/internal/barrier"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/etcd"
	"github.com/quorate/quorate/internal/store/storetest"
)

// openEtcd opens a store that is patient: the machine of the tests may be busy with others.
func openEtcd(t testing.TB, c *engines.EtcdCluster, prefix string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), etcd.Options{Endpoints: c.Endpoints(), Prefix: prefix, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// rawEtcd is a client past the store.
func rawEtcd(t testing.TB, c *engines.EtcdCluster) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func etcdUpdate(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// etcdAll returns everything that a store holds, as one text per key.
func etcdAll(t testing.TB, s store.Store) map[string]string {
	t.Helper()
	var all map[string]string
	err := s.View(t.Context(), func(r store.Reader) error {
		all = map[string]string{}
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			all[e.Key] = string(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func etcdSame(got, want map[string]string) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d records, want %d", len(got), len(want))
	}
	for key, value := range want {
		if got[key] != value {
			return fmt.Errorf("%s has %d bytes, want %d", key, len(got[key]), len(value))
		}
	}
	return nil
}

// TestEtcd runs what needs a cluster, but not one of its own.
func TestEtcd(t *testing.T) {
	c := engines.Etcd(t)
	for name, test := range map[string]func(*testing.T, *engines.EtcdCluster){
		"Conformance":               testEtcdConformance,
		"ReadSet":                   testEtcdReadSet,
		"LargeReadSet":              testEtcdLargeReadSet,
		"JournalIsFinishedByOthers": testEtcdJournalIsFinishedByOthers,
		"OrphanedJournalVanishes":   testEtcdOrphanedJournalVanishes,
		"JournalConflict":           testEtcdJournalConflict,
		"RefusesHugeChanges":        testEtcdRefusesHugeChanges,
	} {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

func testEtcdConformance(t *testing.T, c *engines.EtcdCluster) {
	t.Run("plain", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return openEtcd(t, c, rand.Text()) })
	})
	t.Run("through a barrier", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			st := openEtcd(t, c, rand.Text())
			key := func() secret.Bytes { return secret.Own([]byte(strings.Repeat("r", 32))) }
			etcdUpdate(t, st, func(tx store.Tx) error {
				_, err := barrier.Create(tx, key(), time.Now())
				return err
			})
			b, err := barrier.Open(t.Context(), st, key())
			if err != nil {
				t.Fatal(err)
			}
			return closingBarrier{b, st}
		})
	})
}

// closingBarrier closes the store below as well, as the suite expects of what it is given.
type closingBarrier struct {
	*barrier.Barrier
	below store.Store
}

func (c closingBarrier) Close() error { return errors.Join(c.Barrier.Close(), c.below.Close()) }

// Whatever another store does in a part that was read, the transaction runs again; what it does elsewhere leaves it alone.
func testEtcdReadSet(t *testing.T, c *engines.EtcdCluster) {
	scan := func(prefix, after string, stop int) func(store.Reader) error {
		return func(r store.Reader) error {
			n := 0
			for _, err := range r.Scan(prefix, after) {
				if n++; err != nil || n == stop {
					return err
				}
			}
			return nil
		}
	}
	get := func(keys ...string) func(store.Reader) error {
		return func(r store.Reader) error {
			_, err := r.Get(keys...)
			return err
		}
	}
	put := func(key string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Put(key, []byte("other")) }
	}
	del := func(key string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.Delete(key) }
	}
	many := make([]string, 150)
	for i := range many {
		many[i] = fmt.Sprintf("many/%d", i)
	}
	large := func(tx store.Tx) error {
		for i := range 300 {
			if err := tx.Delete(fmt.Sprintf("a/%d", i)); err != nil {
				return err
			}
		}
		return nil
	}
	for name, test := range map[string]struct {
		read   func(store.Reader) error
		other  func(store.Tx) error
		reruns uint64
	}{
		"point, overwritten":           {get("a/1"), put("a/1"), 1},
		"point, deleted":               {get("a/1"), del("a/1"), 1},
		"point, created":               {get("a/9"), put("a/9"), 1},
		"point, another":               {get("a/1"), put("a/2"), 0},
		"point, another deleted":       {get("a/1"), del("a/2"), 0},
		"range, overwritten":           {scan("a/", "", 0), put("a/1"), 1},
		"range, created":               {scan("a/", "", 0), put("a/9"), 1},
		"range, deleted":               {scan("a/", "", 0), del("a/2"), 1},
		"range, last deleted":          {scan("a/", "", 0), del("a/3"), 1},
		"range, another":               {scan("a/", "", 0), put("b/1"), 0},
		"range, another deleted":       {scan("a/", "", 0), del("b/1"), 0},
		"range, behind where it ended": {scan("a/", "", 2), put("a/3"), 0},
		"range, before it began":       {scan("a/", "a/1", 0), put("a/1"), 0},
		"empty range, created":         {scan("c/", "", 0), put("c/1"), 1},
		"half a segment, deleted":      {scan("a", "", 0), del("a/1"), 1},
		"half a segment, key alone":    {scan("alo", "", 0), del("alone"), 1},
		"everything, deleted":          {scan("", "", 0), del("b/1"), 1},
		"everything, key alone":        {scan("", "", 0), del("alone"), 1},
		"many points, one deleted":     {get(many...), del("many/7"), 1},
		"many points, after a journal": {get(many...), large, 1},
		"range, deleted by a journal":  {scan("a/", "", 0), large, 1},
		"point, deleted by a journal":  {get("a/1"), large, 1},
	} {
		t.Run(name, func(t *testing.T) {
			prefix := rand.Text()
			mine, other := openEtcd(t, c, prefix), openEtcd(t, c, prefix)
			etcdUpdate(t, mine, func(tx store.Tx) error {
				for _, key := range append([]string{"a/1", "a/2", "a/3", "b/1", "alone"}, many[:20]...) {
					if err := tx.Put(key, []byte("first")); err != nil {
						return err
					}
				}
				return nil
			})
			runs := uint64(0)
			etcdUpdate(t, mine, func(tx store.Tx) error {
				if err := test.read(tx); err != nil {
					return err
				}
				if runs++; runs == 1 {
					etcdUpdate(t, other, test.other)
				}
				return tx.Put("result", nil)
			})
			if runs != 1+test.reruns || mine.Retries() != test.reruns {
				t.Errorf("ran %d times, %d retries, want %d", runs, mine.Retries(), test.reruns)
			}
		})
	}
}

// A scan of more records than a commit compares one by one is checked by the mark that every commit leaves.
func testEtcdLargeReadSet(t *testing.T, c *engines.EtcdCluster) {
	prefix := rand.Text()
	mine, other := openEtcd(t, c, prefix), openEtcd(t, c, prefix)
	etcdUpdate(t, mine, func(tx store.Tx) error {
		for i := range 1500 {
			if err := tx.Put(fmt.Sprintf("many/%04d", i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	for name, change := range map[string]func(store.Tx) error{
		"deleted": func(tx store.Tx) error { return tx.Delete("many/0700") },
		"created": func(tx store.Tx) error { return tx.Put("many/0700x", nil) },
	} {
		counts := []string{}
		etcdUpdate(t, mine, func(tx store.Tx) error {
			n := 0
			for _, err := range tx.Scan("many/", "") {
				if err != nil {
					return err
				}
				n++
			}
			if counts = append(counts, fmt.Sprint(n)); len(counts) == 1 {
				etcdUpdate(t, other, change)
			}
			return tx.Put("count", []byte(fmt.Sprint(n)))
		})
		if len(counts) != 2 || counts[0] == counts[1] || etcdAll(t, other)["count"] != counts[1] {
			t.Errorf("%s: counted %v", name, counts)
		}
	}
}

// etcdLarge writes a large change of every kind into a store that has records, and returns what it holds then.
func etcdLarge(t *testing.T, s store.Store) (before, after map[string]string) {
	etcdUpdate(t, s, func(tx store.Tx) error {
		for i := range 20 {
			if err := tx.Put(fmt.Sprintf("old/%d", i), []byte("old")); err != nil {
				return err
			}
		}
		return nil
	})
	before = etcdAll(t, s)
	etcdUpdate(t, s, func(tx store.Tx) error {
		for i := range 3000 {
			if err := tx.Put(fmt.Sprintf("small/%04d", i), []byte(fmt.Sprint(i))); err != nil {
				return err
			}
		}
		for i := range 4 {
			if err := tx.Put(fmt.Sprintf("big/%d", i), []byte(strings.Repeat(fmt.Sprint(i), store.MaxValue))); err != nil {
				return err
			}
		}
		for i := range 20 {
			key := fmt.Sprintf("old/%d", i)
			if err := tx.Delete(key); err != nil {
				return err
			}
			if i%2 == 0 {
				if err := tx.Put(key, nil); err != nil {
					return err
				}
			}
		}
		return nil
	})
	after = etcdAll(t, s)
	if len(after) != 3000+4+10 || after["big/3"] != strings.Repeat("3", store.MaxValue) {
		t.Fatalf("a large change left %d records", len(after))
	}
	return before, after
}

// etcdHistory returns the revisions at which a prefix was written, with the revision of the journal's commit and of its
// end.
func etcdHistory(t *testing.T, client *clientv3.Client, prefix string) (revs []int64, commit, end int64) {
	ctx := clientv3.WithRequireLeader(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFragment()) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range resp.Events {
			rev := event.Kv.ModRevision
			if len(revs) == 0 || revs[len(revs)-1] != rev {
				revs = append(revs, rev)
			}
			if string(event.Kv.Key) != prefix+"pending" {
				continue
			}
			if event.Type == mvccpb.Event_PUT {
				commit = rev
			} else {
				return revs, commit, rev
			}
		}
	}
	t.Fatal("no journal was finished")
	return nil, 0, 0
}

// etcdCopy makes prefix to what prefix from was at a revision: what a process leaves that dies there.
func etcdCopy(t *testing.T, client *clientv3.Client, from, to string, rev int64, opts ...clientv3.OpOption) {
	state, err := client.Get(t.Context(), from, clientv3.WithPrefix(), clientv3.WithRev(rev))
	if err != nil {
		t.Fatal(err)
	}
	var ops []clientv3.Op
	bytes := 0
	flush := func() {
		if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
		ops, bytes = nil, 0
	}
	for _, kv := range state.Kvs {
		if len(ops) == 100 || len(ops) > 0 && bytes+len(kv.Value) > 1200<<10 {
			flush()
		}
		bytes += len(kv.Value)
		ops = append(ops, clientv3.OpPut(to+strings.TrimPrefix(string(kv.Key), from), string(kv.Value), opts...))
	}
	flush()
}

// The state after each step of a large change, as a process leaves it that dies there: before the commit the next store
// sees nothing of the change, after it everything, whether it reads or writes first.
func testEtcdJournalIsFinishedByOthers(t *testing.T, c *engines.EtcdCluster) {
	client := rawEtcd(t, c)
	from := rand.Text() + "/"
	before, after := etcdLarge(t, openEtcd(t, c, from))
	revs, commit, end := etcdHistory(t, client, from)
	tested := map[bool]int{}
	for i, rev := range revs {
		state, err := client.Get(t.Context(), from+"j/", clientv3.WithPrefix(), clientv3.WithRev(rev))
		if err != nil {
			t.Fatal(err)
		}
		if rev >= end && len(state.Kvs) > 0 || rev >= commit && rev < end && len(state.Kvs) < 4 {
			t.Errorf("%d chunks at revision %d (commit %d, end %d)", len(state.Kvs), rev, commit, end)
		}
		for _, kv := range state.Kvs {
			if (kv.Lease != 0) != (rev < commit) {
				t.Errorf("a chunk hangs on lease %d at revision %d, commit %d", kv.Lease, rev, commit)
			}
		}
		// Every step is too many; those around the commit and the end, and some between.
		if len(state.Kvs) == 0 || rev > commit && i%13 != 0 && rev < end-2 {
			continue
		}
		tested[rev >= commit]++
		want := before
		if rev >= commit {
			want = after
		}
		reader, writer := rand.Text()+"/", rand.Text()+"/"
		etcdCopy(t, client, from, reader, rev)
		if err := etcdSame(etcdAll(t, openEtcd(t, c, reader)), want); err != nil {
			t.Errorf("revision %d, commit %d, a reader: %v", rev, commit, err)
		}
		etcdCopy(t, client, from, writer, rev)
		s := openEtcd(t, c, writer)
		etcdUpdate(t, s, func(tx store.Tx) error { return tx.Put("old/0", []byte("written blindly later")) })
		got := etcdAll(t, s)
		if got["old/0"] != "written blindly later" {
			t.Errorf("revision %d, commit %d: the journal overwrote a later write", rev, commit)
		}
		got["old/0"] = want["old/0"]
		if err := etcdSame(got, want); err != nil {
			t.Errorf("revision %d, commit %d, a writer: %v", rev, commit, err)
		}
		for _, prefix := range []string{reader, writer} {
			if _, err := client.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if tested[false] < 3 || tested[true] < 3 {
		t.Errorf("steps tested: %v", tested)
	}
}

// What is left of a change that was not committed hangs on a lease and goes with it.
func testEtcdOrphanedJournalVanishes(t *testing.T, c *engines.EtcdCluster) {
	client := rawEtcd(t, c)
	from, to := rand.Text()+"/", rand.Text()+"/"
	before, _ := etcdLarge(t, openEtcd(t, c, from))
	_, commit, _ := etcdHistory(t, client, from)
	lease, err := client.Grant(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	etcdCopy(t, client, from+"k/", to+"k/", commit-1)
	s := openEtcd(t, c, to)
	gone := client.Watch(t.Context(), to+"j/", clientv3.WithPrefix())
	etcdCopy(t, client, from+"j/", to+"j/", commit-1, clientv3.WithLease(lease.ID))
	for puts, deletes := 0, 0; puts == 0 || deletes < puts; {
		resp := <-gone
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, event := range resp.Events {
			if event.Type == mvccpb.Event_PUT {
				puts++
			} else {
				deletes++
			}
		}
	}
	if err := etcdSame(etcdAll(t, s), before); err != nil {
		t.Error(err)
	}
}

// A large change that lost against another one leaves nothing behind and is made again.
func testEtcdJournalConflict(t *testing.T, c *engines.EtcdCluster) {
	prefix := rand.Text() + "/"
	mine, other := openEtcd(t, c, prefix), openEtcd(t, c, prefix)
	runs := 0
	etcdUpdate(t, mine, func(tx store.Tx) error {
		values, err := tx.Get("k")
		if err != nil {
			return err
		}
		if runs++; runs == 1 {
			etcdUpdate(t, other, func(tx store.Tx) error { return tx.Put("k", []byte("other")) })
		}
		for i := range 500 {
			if err := tx.Put(fmt.Sprint(i), values[0]); err != nil {
				return err
			}
		}
		return nil
	})
	if all := etcdAll(t, other); runs != 2 || len(all) != 501 || all["499"] != "other" {
		t.Errorf("%d runs, %d records", runs, len(all))
	}
	rest, err := rawEtcd(t, c).Get(t.Context(), prefix+"j/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil || rest.Count > 0 {
		t.Errorf("%d chunks are left, %v", rest.Count, err)
	}
}

func testEtcdRefusesHugeChanges(t *testing.T, c *engines.EtcdCluster) {
	s := openEtcd(t, c, rand.Text())
	value := make([]byte, store.MaxValue)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := range 33 {
			if err := tx.Put(fmt.Sprintf("%02d", i), value); err != nil {
				return err
			}
		}
		return nil
	})
	if f := fault.As(err); f == nil || f.Kind != fault.TooLarge || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("a change of 33 MiB: %v", err)
	}
	if n := len(etcdAll(t, s)); n != 0 {
		t.Errorf("it left %d records", n)
	}
}
