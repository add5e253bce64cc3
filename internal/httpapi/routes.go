package httpapi

import (
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/node"
)

// How much body a route takes: what its fields can hold, and not much more.
const (
	smallBody  = 4 << 10
	tokenBody  = 16 << 10
	createBody = 256 << 10
	startBody  = 128 << 10 // an OpenPGP key of 64 KiB in base64 with line breaks
	initBody   = 2 << 20   // up to 255 OpenPGP keys
)

var (
	errNothing     = fault.New(fault.NotFound, "")
	errUnknownPath = fault.New(fault.NotFound, "unsupported path")
	errNoHandler   = fault.New(fault.NotFound, "no handler for route. route entry not found.")
)

// The fields of a credential, as the table names them: one that approves, and one that starts.
const (
	credentialFields = "key, slot int, signature"
	startFields      = credentialFields + ", signed_at time, reason, ttl duration"
)

// allRoutes is the wire contract: every path there is, in one table.
func allRoutes() []route {
	return slices.Concat(sealRoutes(), rekeyRoutes(), rotateRoutes(), rootRoutes(), ceremonyRoutes(), reportRoutes(), tokenRoutes(),
		roleRoutes(), wrappingRoutes(), policyRoutes(), mountRoutes(), auditRoutes(), leaseRoutes(), quotaRoutes(), toolRoutes(), snapshotRoutes())
}

func sealRoutes() []route {
	return []route{
		{path: "sys/init", raw: true, sealed: true, quiet: true, rootOnly: true, limit: initBody, ops: map[operation]handler{
			opRead: initStatus, opUpdate: initialize,
		}, summary: "whether the cluster is initialised; initialise it", fields: "secret_shares int, secret_threshold int, pgp_keys list, age_recipients list, " +
			"holders list, root_token_pgp_key, root_token_age_recipients lines, root_token_ttl duration, replace bool"},
		{path: "sys/seal-status", raw: true, sealed: true, quiet: true, anywhere: true, limit: smallBody, ops: map[operation]handler{
			opRead: sealStatus,
		}, summary: "how the seal is"},
		{path: "sys/unseal", raw: true, sealed: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{
			opUpdate: unseal,
		}, summary: "give a key share to the unseal, or reset its progress", fields: "key, reset bool"},
		{path: "sys/health", raw: true, sealed: true, quiet: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{
			opRead: health,
		}, summary: "state of the server, as a status code", query: "activecode int, sealedcode int, uninitcode int, haunhealthycode int"},
		{path: "sys/leader", raw: true, sealed: true, quiet: true, limit: smallBody, ops: map[operation]handler{opRead: leader}, summary: "which server is active"},
		{path: "sys/seal", raw: true, sealed: true, rootOnly: true, authority: byToken, sudo: true, limit: smallBody, ops: map[operation]handler{
			opUpdate: sealServer,
		}, summary: "seal the cluster, or this server only", fields: "node_only bool"},
		{path: "sys/ha-status", authority: byToken, limit: smallBody, ops: map[operation]handler{opRead: haStatus}, summary: "the servers of the cluster"},
		// There is nobody to step down for: it does nothing, and looks at nothing.
		{path: "sys/step-down", raw: true, sealed: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{
			opUpdate: func(*exchange) (*reply, error) { return &reply{}, nil },
		}, summary: "does nothing: every server serves"},
		{path: "sys/key-status", authority: byToken, limit: smallBody, ops: map[operation]handler{opRead: keyStatus}, summary: "the keyring's latest term"},
	}
}

// rootRoutes are the three path families of the one root generation. They differ in shape only, but for one thing:
// in the first the token is data.
func rootRoutes() []route {
	var list []route
	for _, f := range []rootFamily{
		{path: "sys/root-generation", of: node.RootGeneration, show: showFive},
		{path: "sys/generate-root", of: node.GenerateRoot, show: showTen},
		{path: "sys/generate-root-token", of: node.GenerateRoot, show: showEnveloped, trim: true},
	} {
		raw := !f.trim
		attempt := map[operation]handler{opRead: f.status, opUpdate: f.start, opDelete: f.cancel}
		limit, fields := int64(startBody), "otp, pgp_key, age_recipients lines, root_token_ttl duration, "+startFields
		if f.of == node.RootGeneration {
			limit, fields = smallBody, startFields
		}
		if !raw {
			attempt[opList] = nothingListed
		}
		list = append(
			list,
			route{
				path: f.path + "/attempt", raw: raw, rootOnly: raw, authority: byCeremony, limit: limit, ops: attempt,
				summary: "generation of a root token: status, start, cancel", fields: fields,
			},
			route{
				path: f.path + "/update", raw: raw, rootOnly: raw, authority: byCeremony, limit: smallBody, ops: map[operation]handler{opUpdate: f.approve},
				summary: "approve the generation of a root token", fields: credentialFields + ", nonce",
			},
		)
	}
	return append(list, route{
		path: "sys/decode-token", limit: smallBody, ops: map[operation]handler{opUpdate: decodeToken},
		summary: "take the one-time password off an encoded token", fields: "encoded_token, otp",
	})
}

// ceremonyRoutes are the one native API of all ceremonies.
func ceremonyRoutes() []route {
	one := ceremonies + anyNonce
	list := []route{
		{path: strings.TrimSuffix(ceremonies, "/"), limit: initBody, ops: map[operation]handler{
			opRead: listCeremonies, opList: listCeremonies, opUpdate: startCeremony,
		}, summary: "the open ceremonies and the cluster; start one", fields: "kind, " + startFields + ", " + fieldNames(ownFields(""))},
		{path: one, limit: smallBody, ops: map[operation]handler{
			opRead: readCeremony, opDelete: cancelCeremony,
		}, summary: "one ceremony; cancel it"},
		{path: one + "/approve", limit: smallBody, ops: map[operation]handler{
			opUpdate: approveCeremony,
		}, summary: "approve a ceremony", fields: credentialFields},
		{path: one + "/verify", limit: smallBody, ops: map[operation]handler{
			opUpdate: verifyCeremony,
		}, summary: "prove possession of a new key share", fields: credentialFields},
		{path: one + "/cancel", limit: smallBody, ops: map[operation]handler{
			opUpdate: cancelCeremony,
		}, summary: "cancel a ceremony, or object to it", fields: credentialFields},
		{path: one + "/result", limit: smallBody, ops: map[operation]handler{
			opRead: ceremonyResult, opUpdate: ceremonyResult, opDelete: acknowledgeResult,
		}, summary: "the encrypted result, while it is kept; acknowledge it, so that it is destroyed", fields: credentialFields + ", signed_at time", dropFields: "signed_at time"},
		{path: one + "/watch", raw: true, endless: true, media: "text/event-stream", limit: smallBody, ops: map[operation]handler{
			opRead: watchCeremony,
		}, summary: "follow a ceremony as server-sent events"},
	}
	for i := range list {
		list[i].authority = byCeremony
	}
	return append(list,
		route{path: ceremonies + "holders", sealed: true, quiet: true, limit: smallBody, ops: map[operation]handler{
			opRead: listHolders,
		}, summary: "the key holders of each generation, and when each was last proven"},
		route{path: ceremonies + "root-tokens", authority: byToken, sudo: true, limit: smallBody, ops: map[operation]handler{
			opRead: listRootTokens,
		}, summary: "the live root tokens, and the ceremony that each came from"},
	)
}

// reportRoutes tell what has happened, how the server does and what it can do.
func reportRoutes() []route {
	list := []route{
		{path: "sys/transcript", sealed: true, ops: map[operation]handler{opRead: transcriptState}, summary: "size, root and alarms of the transcript"},
		{path: "sys/transcript/entries", sealed: true, ops: map[operation]handler{
			opRead: transcriptEntries,
		}, summary: "entries of the transcript", query: "start int, limit int"},
		{path: "sys/transcript/checkpoint", raw: true, sealed: true, ops: map[operation]handler{
			opRead: transcriptCheckpoint,
		}, summary: "the transcript's latest checkpoint, a signed note"},
		{path: "sys/transcript/proof", sealed: true, ops: map[operation]handler{
			opRead: transcriptProof,
		}, summary: "proof that an entry is in the transcript, or that it has only grown", query: "index int, size int, old int, new int"},
		{path: metricsPath, raw: true, authority: byToken, ops: map[operation]handler{opRead: metrics}, summary: "metrics in the Prometheus text format"},
		{path: "sys/internal/specs/openapi", raw: true, authority: byToken, ops: map[operation]handler{opRead: openAPI}, summary: "this document"},
	}
	for i := range list {
		list[i].limit, list[i].quiet = smallBody, list[i].sealed
	}
	return list
}

func tokenRoutes() []route {
	const spec = "id, policies list, no_default_policy bool, no_parent bool, renewable bool, ttl duration, lease duration, explicit_max_ttl duration, " +
		"period duration, num_uses int, display_name, meta map, type"
	list := []route{
		{path: "auth/token/create", limit: createBody, ops: map[operation]handler{opUpdate: create(false)}, summary: "create a token", fields: spec},
		{path: "auth/token/create-orphan", limit: createBody, ops: map[operation]handler{
			opUpdate: create(true),
		}, summary: "create a token without a parent", fields: spec},
		{path: "auth/token/create/{role}", limit: createBody, ops: map[operation]handler{
			opUpdate: create(false),
		}, summary: "create a token by a role", fields: spec},
		{path: "auth/token/lookup", ops: map[operation]handler{
			opRead: lookup(self), opUpdate: lookup(byIDOrSelf),
		}, summary: "look a token up", fields: "token"},
		{path: "auth/token/lookup-self", ops: map[operation]handler{
			opRead: lookup(self), opUpdate: lookup(self),
		}, summary: "look up the token of the request"},
		{path: "auth/token/lookup-accessor", ops: map[operation]handler{
			opUpdate: lookup(byAccessor),
		}, summary: "look up the token of an accessor", fields: "accessor"},
		{path: "auth/token/renew", ops: map[operation]handler{
			opUpdate: renew(byID(errTokenGone)),
		}, summary: "renew a token", fields: "token, increment duration"},
		{path: "auth/token/renew-self", ops: map[operation]handler{
			opUpdate: renew(self),
		}, summary: "renew the token of the request", fields: "increment duration"},
		{path: "auth/token/renew-accessor", ops: map[operation]handler{
			opUpdate: renew(byAccessor),
		}, summary: "renew the token of an accessor", fields: "accessor, increment duration"},
		{path: "auth/token/revoke", ops: map[operation]handler{opUpdate: revocation{
			find: byID(errTokenGone), absent: errTokenGone,
		}.handle}, summary: "revoke a token and its children", fields: "token"},
		{path: "auth/token/revoke-self", ops: map[operation]handler{
			opUpdate: revocation{find: self}.handle,
		}, summary: "revoke the token of the request and its children"},
		{path: "auth/token/revoke-accessor", ops: map[operation]handler{opUpdate: revocation{
			find: byAccessor, absent: errAccessorGone, warning: warnNoAccessor,
		}.handle}, summary: "revoke the token of an accessor and its children", fields: "accessor"},
		{path: "auth/token/revoke-orphan", sudo: true, ops: map[operation]handler{opUpdate: revocation{
			find: byID(errTokenGone), orphanChildren: true,
		}.handle}, summary: "revoke a token, and let its children live on", fields: "token"},
		{path: "auth/token/accessors", sudo: true, ops: map[operation]handler{
			opList: listAccessors,
		}, summary: "the accessors of all live tokens", query: "after, limit int"},
	}
	return ofToken(list)
}

// unknownRoute answers for every path that isn't in the table: that there is nothing is told only to who would be
// allowed to use it. Its body is not read.
func unknownRoute() *route {
	r := &route{authority: byToken, ops: map[operation]handler{}}
	for _, op := range []operation{opRead, opUpdate, opDelete, opList, opPatch} {
		r.ops[op] = unknownPath
	}
	return r
}

func unknownPath(x *exchange) (*reply, error) {
	// Another server may have mounted something there, of which this one hasn't heard.
	if err := x.Node.Refresh(x.r.Context()); err != nil {
		return nil, err
	}
	if x.locate(); x.place != nil {
		return nil, node.ErrMoved
	}
	if strings.HasPrefix(x.path, "sys/") || strings.HasPrefix(x.path, "auth/token/") || x.Node.Locate(x.path) != nil {
		return nothingHere(errUnknownPath)(x)
	}
	return nothingHere(errNoHandler)(x)
}

// nothingListed is a list without entries.
func nothingListed(*exchange) (*reply, error) { return nil, errNothing }
