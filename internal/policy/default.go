package policy

// DefaultText is what the policy default says until somebody changes it.
const DefaultText = `# What a token needs for itself. This policy is attached to every token that isn't created without it. It can be
# changed, but not deleted.

# Look up, renew and revoke the token itself.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# See what the token may do.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

# Look up and renew leases whose IDs are known. The first path is for old clients.
path "sys/renew" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/leases/lookup" {
  capabilities = ["update"]
}

# The token's own cubbyhole, which nobody else can see.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

# Wrap data, and look at and unwrap what was wrapped.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}
path "sys/wrapping/lookup" {
  capabilities = ["update"]
}
path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}

# Hash data. The second path is that of the older form, with the algorithm in it.
path "sys/tools/hash" {
  capabilities = ["update"]
}
path "sys/tools/hash/*" {
  capabilities = ["update"]
}
`
