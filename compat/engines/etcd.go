// Package engines starts the real engines that the stores need, for tests: nothing of it is part of the product.
//
// It promises that what it starts listens on the loopback interface only, keeps its data in a temporary directory, and
// is gone when it is stopped. It does not promise that the data survives a power cut: etcd runs without fsync here.
package engines

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// EtcdCluster is a cluster of etcd in this process.
type EtcdCluster struct {
	configs []*embed.Config

	mu      sync.Mutex
	members []*embed.Etcd // nil: killed
}

// sharedEtcd is the cluster that the tests of one process share while any of them runs.
var sharedEtcd struct {
	mu      sync.Mutex
	users   int
	cluster *EtcdCluster
	dir     string
}

// Etcd returns a cluster of three members that all tests of the process share: each needs a prefix of its own and must
// leave the members alone.
func Etcd(t testing.TB) *EtcdCluster {
	t.Helper()
	cluster, release, err := HoldEtcd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return cluster
}

// HoldEtcd is Etcd for a TestMain, which keeps the cluster from being started anew by each test.
func HoldEtcd() (*EtcdCluster, func(), error) {
	shared := &sharedEtcd
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		dir, err := tempDir("quorate-etcd-")
		if err != nil {
			return nil, nil, err
		}
		cluster, err := StartEtcd(dir, 3)
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(dir))
		}
		shared.cluster, shared.dir = cluster, dir
	}
	shared.users++
	return shared.cluster, sync.OnceFunc(func() {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		if shared.users--; shared.users == 0 {
			shared.cluster.Stop()
			os.RemoveAll(shared.dir)
		}
	}), nil
}

// OwnEtcd returns a cluster for one test, which may do to it what it wants. change adapts the members' settings.
func OwnEtcd(t testing.TB, members int, change ...func(*embed.Config)) *EtcdCluster {
	t.Helper()
	cluster, err := StartEtcd(testDir(t, "quorate-etcd-"), members, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	return cluster
}

// StartEtcd starts a cluster with its data below dir.
func StartEtcd(dir string, members int, change ...func(*embed.Config)) (cluster *EtcdCluster, err error) {
	for try := range 3 { // somebody may take a free port before the member does
		cluster = &EtcdCluster{members: make([]*embed.Etcd, members)}
		if err = cluster.configure(filepath.Join(dir, fmt.Sprint(try)), members, change); err != nil {
			return nil, err
		}
		if err = cluster.start(); err == nil {
			return cluster, nil
		}
		cluster.Stop()
	}
	return nil, fmt.Errorf("start etcd: %w", err)
}

func (c *EtcdCluster) configure(dir string, members int, change []func(*embed.Config)) error {
	ports, err := freePorts(2 * members)
	if err != nil {
		return err
	}
	var initial []string
	for i := range members {
		name := fmt.Sprintf("m%d", i)
		client, peer := loopback(ports[2*i]), loopback(ports[2*i+1])
		initial = append(initial, name+"="+peer.String())
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = name, filepath.Join(dir, name)
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		cfg.TickMs, cfg.ElectionMs = 50, 750
		cfg.UnsafeNoFsync = true
		cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		for _, fn := range change {
			fn(cfg)
		}
		c.configs = append(c.configs, cfg)
	}
	for _, cfg := range c.configs {
		cfg.InitialCluster = strings.Join(initial, ",")
	}
	return nil
}

// start starts all members at once: none is ready before most of them are there.
func (c *EtcdCluster) start() error {
	errs := make([]error, len(c.configs))
	var wg sync.WaitGroup
	for i := range c.configs {
		wg.Go(func() { errs[i] = c.Restart(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Restart starts a member that was killed, with the data it had, and waits until it serves.
func (c *EtcdCluster) Restart(i int) error {
	cfg := *c.configs[i]
	member, err := embed.StartEtcd(&cfg)
	if err != nil {
		return err
	}
	select {
	case <-member.Server.ReadyNotify():
	case err := <-member.Err():
		member.Close()
		return err
	case <-time.After(time.Minute):
		member.Server.HardStop()
		member.Close()
		return errors.New("a member of etcd was not ready within a minute")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i] = member
	return nil
}

// Kill stops a member. A server inside this process must end in order, or what it still does for a client would meet a
// closed database and take the tests with it; package cluster kills processes.
func (c *EtcdCluster) Kill(i int) {
	c.mu.Lock()
	member := c.members[i]
	c.members[i] = nil
	c.mu.Unlock()
	if member != nil {
		member.Close()
	}
}

// Leader is the number of the member that leads, -1 if there is none.
func (c *EtcdCluster) Leader() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, member := range c.members {
		if member != nil && member.Server.Leader() == member.Server.MemberID() {
			return i
		}
	}
	return -1
}

// Endpoints are the members' addresses.
func (c *EtcdCluster) Endpoints() []string {
	var endpoints []string
	for _, cfg := range c.configs {
		endpoints = append(endpoints, cfg.ListenClientUrls[0].String())
	}
	return endpoints
}

// Stop kills what runs.
func (c *EtcdCluster) Stop() {
	for i := range c.members {
		c.Kill(i)
	}
}

func loopback(port int) url.URL {
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only now, so that all differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
