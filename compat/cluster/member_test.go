package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/quorate/quorate/compat/engines"
)

// The members of etcd are processes of their own, this program once more, so that they can be killed as processes are.

// memberEnv holds the settings of a member, in a process that is one.
const memberEnv = "QUORATE_TEST_ETCD_MEMBER"

func TestMain(m *testing.M) {
	if settings := os.Getenv(memberEnv); settings != "" {
		if err := serveMember(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	_, release, err := engines.HoldPostgreSQL() // one server for all tests
	code := m.Run()
	if err == nil {
		release()
	}
	os.Exit(code)
}

// memberSettings are those in which members differ.
type memberSettings struct {
	Name, Dir, Client, Peer, Cluster string
	Fsync                            bool
}

// serveMember runs a member until whoever started it is gone, or kills it.
func serveMember(text string) error {
	var s memberSettings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.UnsafeNoFsync = s.Name, s.Dir, s.Cluster, !s.Fsync
	client, peer := url.URL{Scheme: "http", Host: s.Client}, url.URL{Scheme: "http", Host: s.Peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// members are a cluster of etcd.
type members struct {
	settings []memberSettings

	mu      sync.Mutex
	running []*exec.Cmd // nil: killed
}

// startMembers starts three of them.
func startMembers(t testing.TB, fsync bool) *members {
	t.Helper()
	m := &members{running: make([]*exec.Cmd, 3)}
	dir := t.TempDir()
	addresses := freeAddresses(t, 6)
	var all []string
	for i := range 3 {
		name := fmt.Sprintf("m%d", i)
		all = append(all, name+"=http://"+addresses[2*i])
		m.settings = append(m.settings, memberSettings{
			Name: name, Dir: filepath.Join(dir, name), Peer: addresses[2*i], Client: addresses[2*i+1], Fsync: fsync,
		})
	}
	for i := range m.settings {
		m.settings[i].Cluster = strings.Join(all, ",")
	}
	t.Cleanup(func() {
		for i := range m.running {
			m.kill(i)
		}
	})
	if err := m.start(0, 1, 2); err != nil {
		t.Fatal(err)
	}
	return m
}

func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only now, so that all differ
		list = append(list, l.Addr().String())
	}
	return list
}

// start starts members at once, and waits until they serve: none does before most of them are there.
func (m *members) start(list ...int) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for n, i := range list {
		wg.Go(func() { errs[n] = m.startOne(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (m *members) startOne(i int) error {
	settings, err := json.Marshal(m.settings[i])
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memberEnv+"="+string(settings))
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // open as long as this process lives
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.mu.Lock()
	m.running[i] = cmd
	m.mu.Unlock()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("member %d of etcd did not come up: %w", i, err)
	}
	return nil
}

func (m *members) kill(i int) {
	m.mu.Lock()
	cmd := m.running[i]
	m.running[i] = nil
	m.mu.Unlock()
	if cmd != nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// leader is the number of the member that leads; the first one if none does.
func (m *members) leader() int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i, s := range m.settings {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.Client}, Logger: zap.NewNop()})
		if err != nil {
			continue
		}
		status, err := c.Status(ctx, "http://"+s.Client)
		c.Close()
		if err == nil && status.Leader == status.Header.MemberId {
			return i
		}
	}
	return 0
}
