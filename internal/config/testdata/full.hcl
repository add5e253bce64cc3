# Every setting there is.
storage "bolt" {
  path = "/var/lib/quorate"
}

listener "tcp" {
  address                          = "0.0.0.0:8200"
  tls_cert_file                    = "/etc/quorate/server.pem"
  tls_key_file                     = "/etc/quorate/server.key"
  tls_client_ca_file               = "/etc/quorate/clients.pem"
  tls_min_version                  = "tls13"
  ceremonies                       = "token"
  local_authority                  = true
  x_forwarded_for_authorized_addrs = ["10.1.2.3", "10.2.0.0/16", "2001:db8::/32"]
  max_request_size                 = "1MiB"
  max_request_duration             = "45s"
  http_read_header_timeout         = 5
  http_read_timeout                = "20s"
  http_idle_timeout                = "2m"
  max_connections                  = 500
}

listener "tcp" {
  address     = "192.0.2.1:80"
  tls_disable = true
  ceremonies  = "open"
}

listener "unix" {
  address     = "/run/quorate/quorate.sock"
  socket_mode = "0660"
}

ceremony {
  unapproved_timeout = "10m"
  idle_timeout       = "2h"
  total_timeout      = "2d"
  result_ttl         = "1m"
}

api_addr          = "https://quorate.example.org:8200"
cluster_name      = "paris"
log_level         = "debug"
log_format        = "json"
default_lease_ttl = "1h"
max_lease_ttl     = "30d"
pid_file          = "/run/quorate/quorate.pid"
disable_mlock     = true
ui                = false
