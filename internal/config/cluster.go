package config

import (
	"net"
	"net/url"
	"strings"
)

// Cluster says how the servers over one store reach each other. Without an address they don't.
type Cluster struct {
	Address   string // host:port to listen on for other nodes
	Advertise string // host:port under which they reach this one
	NodeName  string

	TLSCertFile string
	TLSKeyFile  string
	TLSCAFile   string // of the certificates that nodes show each other
	// ShareUnseal lets an unsealed node hand the root key to sealed ones.
	ShareUnseal bool

	written place
}

func (c *Cluster) options() []option {
	return []option{
		{"address", text(&c.Address)},
		{"advertise", text(&c.Advertise)},
		{"node_name", text(&c.NodeName)},
		{"tls_cert_file", text(&c.TLSCertFile)},
		{"tls_key_file", text(&c.TLSKeyFile)},
		{"tls_ca_file", text(&c.TLSCAFile)},
		{"share_unseal", truth(&c.ShareUnseal)},
	}
}

// followCluster finds out how this node is reached, where that isn't written.
func (c *Config) followCluster() {
	if c.Cluster.Advertise != "" || c.Cluster.Address == "" {
		return
	}
	c.Cluster.Advertise = c.Cluster.Address
	if u, err := url.Parse(c.ClusterAddr); err == nil && c.ClusterAddr != "" {
		c.Cluster.Advertise = u.Host
	}
}

func (c *Config) checkCluster() error {
	l, w := c.Cluster, c.Cluster.written
	files := l.TLSCertFile != "" || l.TLSKeyFile != "" || l.TLSCAFile != ""
	switch {
	case c.ClusterAddr != "" && l.Address == "":
		return c.written.failf("cluster_addr", "cluster_addr has no meaning unless servers talk to each other: "+
			"add cluster { address = ... }, or remove the line")
	case c.ClusterAddr != "" && !clusterURL(c.ClusterAddr):
		return c.written.failf("cluster_addr", "cluster_addr must be a URL such as \"https://10.0.0.1:8201\"")
	case w.block != "" && !c.Storage.Shared():
		return w.failf("", "a cluster block needs a store that servers can share: storage \"postgresql\" or \"etcd\"")
	case len(l.NodeName) > maxClusterName || strings.ContainsFunc(l.NodeName, notPlain):
		return w.failf("node_name", "node_name must be at most %d printable characters without spaces", maxClusterName)
	case l.Address == "" && (files || l.ShareUnseal || l.Advertise != ""):
		return w.failf("", "the cluster block needs an address on which to listen for other nodes, such as \"10.0.0.1:8201\"")
	case l.Address == "":
		return nil
	case !c.Storage.Shared():
		return w.failf("address", "nodes need a store that they can share: storage \"postgresql\" or \"etcd\"")
	case l.TLSCertFile == "" || l.TLSKeyFile == "" || l.TLSCAFile == "":
		return w.failf("", "the cluster block needs tls_cert_file, tls_key_file and tls_ca_file: nodes talk to each other only when both show a certificate")
	case l.NodeName == "":
		return w.failf("", "the cluster block needs a node_name, because this machine has no host name")
	case hostPort(l.Address) != nil:
		return w.failf("address", "address must be a host and a port, such as \"10.0.0.1:8201\"")
	case hostPort(l.Advertise) != nil || nowhere(l.Advertise):
		return w.failf("advertise", "advertise must be a host and a port where other nodes reach this one, such as \"10.0.0.1:8201\"")
	}
	return nil
}

func clusterURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && hostPort(u.Host) == nil && "https://"+u.Host == strings.TrimSuffix(s, "/")
}

// nowhere reports whether an address can't be dialled from another machine: all interfaces, or a port that the system picks.
func nowhere(s string) bool {
	host, port, _ := net.SplitHostPort(s)
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified() || strings.Trim(port, "0") == ""
}
