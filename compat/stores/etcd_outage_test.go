package stores

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/compat/engines"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
	"github.com/quorate/quorate/internal/store/etcd"
)

// A transaction whose revision is compacted away begins again; one that always loses it says what to do.
func TestEtcdCompaction(t *testing.T) {
	c := engines.OwnEtcd(t, 1)
	client := rawEtcd(t, c)
	s := openEtcd(t, c, rand.Text())
	lose := func(r store.Reader, times *int, max int) error {
		if _, err := r.Get("a"); err != nil {
			return err
		}
		if *times++; *times <= max {
			resp, err := client.Put(t.Context(), "elsewhere", fmt.Sprint(*times))
			if err == nil {
				_, err = client.Compact(t.Context(), resp.Header.Revision)
			}
			if err != nil {
				return err
			}
		}
		_, err := r.Get("b")
		if err != nil {
			return errors.New("swallowed") // fn's own error must not hide that it has to run again
		}
		return nil
	}
	times := 0
	if err := s.View(t.Context(), func(r store.Reader) error { return lose(r, &times, 1) }); err != nil || times != 2 {
		t.Errorf("after one compaction: %d runs, %v", times, err)
	}
	times = 0
	err := s.View(t.Context(), func(r store.Reader) error { return lose(r, &times, 1000) })
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || !strings.Contains(f.Sentence, "--auto-compaction-retention") {
		t.Errorf("under constant compaction: %v", err)
	}
}

func TestEtcdFullDatabase(t *testing.T) {
	c := engines.OwnEtcd(t, 1)
	s := openEtcd(t, c, rand.Text())
	etcdUpdate(t, s, func(tx store.Tx) error { return tx.Put("k", []byte("before")) })
	conn, err := grpc.NewClient(strings.TrimPrefix(c.Endpoints()[0], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	alarm := func(action pb.AlarmRequest_AlarmAction) {
		t.Helper()
		if _, err := pb.NewMaintenanceClient(conn).Alarm(t.Context(), &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE}); err != nil {
			t.Fatal(err)
		}
	}
	alarm(pb.AlarmRequest_ACTIVATE)
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put("k", []byte("after")) })
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || !strings.Contains(f.Sentence, "NOSPACE") || errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("a write without room: %v", err)
	}
	if got := etcdAll(t, s)["k"]; got != "before" {
		t.Errorf("reads %q", got)
	}
	alarm(pb.AlarmRequest_DEACTIVATE)
	etcdUpdate(t, s, func(tx store.Tx) error { return tx.Put("k", []byte("after")) })
}

func TestEtcdServerLimits(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*embed.Config)
		says   string
	}{
		"operations": {func(cfg *embed.Config) { cfg.MaxTxnOps = 50 }, "--max-txn-ops"},
		"bytes":      {func(cfg *embed.Config) { cfg.MaxRequestBytes = 64 << 10 }, "--max-request-bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openEtcd(t, engines.OwnEtcd(t, 1, test.change), rand.Text())
			err := s.Update(t.Context(), func(tx store.Tx) error {
				for i := range 90 {
					if err := tx.Put(fmt.Sprint(i), make([]byte, 8<<10)); err != nil {
						return err
					}
				}
				return nil
			})
			if f := fault.As(err); f == nil || !strings.Contains(f.Sentence, test.says) || errors.Is(err, store.ErrUnknownOutcome) {
				t.Errorf("Update: %v", err)
			}
		})
	}
}

func TestEtcdLogin(t *testing.T) {
	c := engines.OwnEtcd(t, 1)
	client := rawEtcd(t, c)
	const password = "the known password 7h3"
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"root", "quorate", "stranger"} {
		do(client.UserAdd(t.Context(), user, password))
		do(client.RoleAdd(t.Context(), user))
		do(client.UserGrantRole(t.Context(), user, user))
	}
	do(client.RoleGrantPermission(t.Context(), "quorate", "ours/", clientv3.GetPrefixRangeEnd("ours/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	do(client.AuthEnable(t.Context()))
	open := func(user, password string) (*etcd.Store, error) {
		return etcd.Open(t.Context(), etcd.Options{Endpoints: c.Endpoints(), Prefix: "ours/", Username: user, Password: password})
	}
	for _, test := range []struct{ user, password, says string }{
		{"quorate", "wrong " + password, "refused the user name and password"},
		{"nobody", password, "refused the user name and password"},
		{"stranger", password, "readwrite on the prefix"},
		{"", "", "wants a user name and password"},
	} {
		_, err := open(test.user, test.password)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: %v", test.user, err)
			continue
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("the password is in the error: %v", err)
		}
	}
	s, err := open("quorate", password)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	etcdLarge(t, s) // a right to the prefix is enough for journals and scans of everything
}

// The leader is killed again and again while writers write: what was acknowledged stays, what was refused has not been
// written, and the service resumes without help.
func TestEtcdLeaderKilled(t *testing.T) {
	c := engines.OwnEtcd(t, 3)
	s := openEtcd(t, c, rand.Text())
	const writers = 4
	var mu sync.Mutex
	acknowledged, refused := map[string]bool{}, map[string]error{}
	var enough atomic.Bool
	var wg sync.WaitGroup
	written := make(chan struct{}, 100)
	for w := range writers {
		wg.Go(func() {
			for i := 0; !enough.Load(); i++ {
				key := fmt.Sprintf("%d/%06d", w, i)
				err := s.Update(context.Background(), func(tx store.Tx) error { return tx.Put(key, nil) })
				mu.Lock()
				switch {
				case err == nil:
					acknowledged[key] = true
					select {
					case written <- struct{}{}:
					default:
					}
				case errors.Is(err, store.ErrUnknownOutcome):
				default:
					refused[key] = err
				}
				if err != nil && fault.As(err) == nil {
					t.Errorf("%s: no sentence in %v", key, err)
				}
				mu.Unlock()
			}
		})
	}
	progress := func() {
		for range 50 {
			<-written
		}
	}
	for range 3 {
		progress()
		leader := c.Leader()
		if leader < 0 {
			continue
		}
		c.Kill(leader)
		for len(written) > 0 {
			<-written
		}
		progress() // with two members
		if err := c.Restart(leader); err != nil {
			t.Fatal(err)
		}
	}
	enough.Store(true)
	wg.Wait()
	all := etcdAll(t, s)
	for key := range acknowledged {
		if _, ok := all[key]; !ok {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
	for key, err := range refused {
		if _, ok := all[key]; ok {
			t.Errorf("%s was written, but the writer was told: %v", key, err)
		}
	}
}

// Without a majority nothing is acknowledged, and everything ends in time with a sentence; with it the same store goes on.
func TestEtcdWithoutMajority(t *testing.T) {
	c := engines.OwnEtcd(t, 3)
	s, err := etcd.Open(t.Context(), etcd.Options{Endpoints: c.Endpoints(), Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	etcdUpdate(t, s, func(tx store.Tx) error { return tx.Put("k", []byte("before")) })
	c.Kill(0)
	c.Kill(1)
	err = s.View(t.Context(), func(r store.Reader) error {
		_, err := r.Get("k")
		return err
	})
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable {
		t.Errorf("a read: %v", err)
	}
	err = s.Update(t.Context(), func(tx store.Tx) error { return tx.Put("k", []byte("blind")) })
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable {
		t.Errorf("a write: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if err := c.Restart(i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	etcdUpdate(t, s, func(tx store.Tx) error { return tx.Put("k", []byte("after")) })
	if got := etcdAll(t, s)["k"]; got != "after" {
		t.Errorf("reads %q", got)
	}
}
