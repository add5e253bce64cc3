storage "etcd" {
  address       = ["https://etcd1:2379", "https://etcd2:2379", "https://etcd3:2379"]
  tls_ca_file   = "/secrets/ca.pem"
  tls_cert_file = "/secrets/node1/server.pem"
  tls_key_file  = "/secrets/node1/server.key"
  state_dir     = "/var/lib/quorate/state"
}

# The servers hand the root key to each other once one of them was unsealed.
cluster {
  node_name     = "node1"
  address       = "0.0.0.0:8201"
  advertise     = "node1:8201"
  tls_cert_file = "/secrets/node1/node.pem"
  tls_key_file  = "/secrets/node1/node.key"
  tls_ca_file   = "/secrets/nodes-ca.pem"
  share_unseal  = true
}

listener "tcp" {
  address                          = "0.0.0.0:8200"
  tls_cert_file                    = "/secrets/node1/server.pem"
  tls_key_file                     = "/secrets/node1/server.key"
  x_forwarded_for_authorized_addrs = ["172.31.82.2"] # the load balancer
}

# For Prometheus; the load balancer doesn't lead here.
listener "tcp" {
  address       = "0.0.0.0:8202"
  tls_cert_file = "/secrets/node1/server.pem"
  tls_key_file  = "/secrets/node1/server.key"
  ceremonies    = "token"

  telemetry {
    unauthenticated_metrics_access = true
  }
}

# For operators: docker compose exec node1 quorate status
listener "unix" {
  address = "/run/quorate/quorate.sock"
}

audit "stdout" "main" {}

api_addr   = "https://node1:8200"
log_format = "json"
