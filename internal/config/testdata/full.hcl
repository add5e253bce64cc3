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

  telemetry {
    unauthenticated_metrics_access = true
  }

  custom_response_headers = {
    default = {
      Strict-Transport-Security = ["max-age=31536000"]
      x-who                     = "quorate"
    }
  }
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

audit "file" "main" {
  description = "for the shipper"
  file_path   = "/var/log/quorate/audit.log"
  sync        = true
}

initialize {
  policy "app" {
    policy = file("policies/app.hcl")
  }
  policy "Ops" {
    policy = <<-EOT
      path "secret/*" {
        capabilities = ["list"]
      }
    EOT
  }
  mount "secret" {
    type              = "kv"
    description       = "what applications read"
    options           = { version = 2 }
    default_lease_ttl = "1h"
    max_lease_ttl     = "2h"
  }
  auth "userpass" {}
  auth "machines" {
    type = "approle"
  }
  audit "socket" "siem" {
    local = true
    options {
      address     = "siem.example.org:514"
      socket_type = "tcp"
    }
  }
  user "Alice" {
    password_hash = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
    policies      = ["ops"]
    token_ttl     = "8h"
  }
  user "bob" {
    auth          = "userpass"
    password_file = "/run/secrets/bob"
  }
  role "app" {
    auth                  = "machines"
    policies              = "app,default"
    role_id               = "app"
    bind_secret_id        = true
    secret_id_num_uses    = 5
    secret_id_bound_cidrs = ["10.0.0.0/8"]
  }
}

api_addr          = "https://quorate.example.org:8200"
cluster_name      = "paris"
log_level         = "debug"
log_format        = "json"
default_lease_ttl = "1h"
max_lease_ttl     = "30d"
audit_dir         = "/var/log/quorate"
pid_file          = "/run/quorate/quorate.pid"
disable_mlock     = true
ui                = false
