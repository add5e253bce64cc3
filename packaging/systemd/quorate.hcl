# One machine. For several over one database see ../examples.
storage "bolt" {
  path = "/var/lib/quorate"
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/quorate/server.pem"
  tls_key_file  = "/etc/quorate/server.key"
}

# For operators on this machine, who are in the group quorate.
listener "unix" {
  address     = "/run/quorate/quorate.sock"
  socket_mode = "0660"
}

# For a Prometheus on this machine.
listener "tcp" {
  address = "127.0.0.1:8202"

  telemetry {
    unauthenticated_metrics_access = true
  }
}

audit "file" "main" {
  file_path = "/var/log/quorate/audit.log"
  mode      = "0640"
}

api_addr = "https://quorate.example.org:8200"
