package cluster

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkTrips counts how often a node goes to its engine and waits for the answer, for one request of a lone client.
func BenchmarkTrips(b *testing.B) {
	b.Run("postgresql", func(b *testing.B) {
		e := newPostgres(b, 1)
		trips(b, e, e.countTrips())
	})
	b.Run("etcd", func(b *testing.B) {
		e := newEtcd(b, 1)
		trips(b, e, func() int { return e.countCalls(b) })
	})
}

func trips(b *testing.B, e engine, count func() int) {
	b.Helper()
	c := newIdleCluster(b, 24*time.Hour, 1, 1, 1, e.open)
	c.mounts()
	m := c.nodes[0]
	token := c.newToken(m, c.root, map[string]any{"policies": []string{"app"}})
	secret := map[string]any{"data": map[string]string{"v": "1"}}
	for _, one := range []struct {
		name string
		do   func(mark func())
	}{
		{"write2", func(mark func()) { mark(); c.must(m, "POST", "two/data/x", token, secret, 200) }},
		{"read2", func(mark func()) { mark(); c.must(m, "GET", "two/data/x", token, nil, 200) }},
		{"write1", func(mark func()) { mark(); c.must(m, "POST", "one/x", token, secret, 204) }},
		{"read1", func(mark func()) { mark(); c.must(m, "GET", "one/x", token, nil, 200) }},
		{"lookup", func(mark func()) { mark(); c.must(m, "GET", "auth/token/lookup-self", token, nil, 200) }},
		{"create", func(mark func()) { mark(); c.newToken(m, token, map[string]any{}) }},
		{"revoke", func(mark func()) {
			child := c.newToken(m, token, map[string]any{})
			mark()
			c.must(m, "POST", "auth/token/revoke", c.root, map[string]string{"token": child}, 204)
		}},
		{"health", func(mark func()) { mark(); c.must(m, "GET", "sys/health", "", nil, 200) }},
	} {
		b.Run(one.name, func(b *testing.B) {
			one.do(func() {}) // what is remembered from now on isn't asked for again
			total := 0
			for range b.N {
				before := 0
				one.do(func() { before = count() })
				total += count() - before
			}
			b.ReportMetric(float64(total)/float64(b.N), "trips/op")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// countTrips counts how often the server answers after it was asked: what is sent in one go is one trip.
func (e *postgresEngine) countTrips() func() int {
	var mu sync.Mutex
	asked, trips := false, 0
	e.nodes[0][0].Filter(func(toServer bool, _ []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if asked && !toServer {
			trips++
		}
		asked = toServer
		return true
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return trips
	}
}

// countCalls counts the calls that the members have served.
func (e *etcdEngine) countCalls(b *testing.B) int {
	b.Helper()
	total := 0.0
	for _, s := range e.members.settings {
		res, err := http.Get("http://" + s.Client + "/metrics")
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			if name, value, _ := strings.Cut(lines.Text(), "} "); strings.HasPrefix(name, "grpc_server_handled_total") && strings.Contains(name, `"etcdserverpb.KV"`) {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					b.Fatal(err)
				}
				total += n
			}
		}
	}
	return int(total)
}
