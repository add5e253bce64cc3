package httpapi

import (
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

// allRoutes is the wire contract: every path there is, in one table.
func allRoutes() []route {
	return append(append(sealRoutes(), rootRoutes()...), tokenRoutes()...)
}

func sealRoutes() []route {
	return []route{
		{path: "sys/init", raw: true, sealed: true, rootOnly: true, limit: initBody, ops: map[operation]handler{
			opRead: initStatus, opUpdate: initialize,
		}},
		{path: "sys/seal-status", raw: true, sealed: true, anywhere: true, limit: smallBody, ops: map[operation]handler{opRead: sealStatus}},
		{path: "sys/unseal", raw: true, sealed: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{opUpdate: unseal}},
		{path: "sys/health", raw: true, sealed: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{opRead: health}},
		{path: "sys/leader", raw: true, sealed: true, limit: smallBody, ops: map[operation]handler{opRead: leader}},
		{path: "sys/seal", raw: true, sealed: true, rootOnly: true, authority: byToken, sudo: true, limit: smallBody, ops: map[operation]handler{
			opUpdate: seal,
		}},
		// There is nobody to step down for: it does nothing, and looks at nothing.
		{path: "sys/step-down", raw: true, sealed: true, rootOnly: true, limit: smallBody, ops: map[operation]handler{
			opUpdate: func(*exchange) (*reply, error) { return &reply{}, nil },
		}},
		{path: "sys/key-status", authority: byToken, limit: smallBody, ops: map[operation]handler{opRead: keyStatus}},
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
		limit := int64(startBody)
		if f.of == node.RootGeneration {
			limit = smallBody
		}
		if !raw {
			attempt[opList] = nothingListed
		}
		list = append(
			list,
			route{path: f.path + "/attempt", raw: raw, rootOnly: raw, authority: byCeremony, limit: limit, ops: attempt},
			route{path: f.path + "/update", raw: raw, rootOnly: raw, authority: byCeremony, limit: smallBody, ops: map[operation]handler{opUpdate: f.approve}},
		)
	}
	return append(list, route{path: "sys/decode-token", limit: smallBody, ops: map[operation]handler{opUpdate: decodeToken}})
}

func tokenRoutes() []route {
	list := []route{
		{path: "auth/token/create", limit: createBody, ops: map[operation]handler{opUpdate: create(false)}},
		{path: "auth/token/create-orphan", limit: createBody, ops: map[operation]handler{opUpdate: create(true)}},
		{path: "auth/token/lookup", ops: map[operation]handler{opRead: lookup(self), opUpdate: lookup(byIDOrSelf)}},
		{path: "auth/token/lookup-self", ops: map[operation]handler{opRead: lookup(self), opUpdate: lookup(self)}},
		{path: "auth/token/lookup-accessor", ops: map[operation]handler{opUpdate: lookup(byAccessor)}},
		{path: "auth/token/renew", ops: map[operation]handler{opUpdate: renew(byID(errTokenGone))}},
		{path: "auth/token/renew-self", ops: map[operation]handler{opUpdate: renew(self)}},
		{path: "auth/token/renew-accessor", ops: map[operation]handler{opUpdate: renew(byAccessor)}},
		{path: "auth/token/revoke", ops: map[operation]handler{opUpdate: revocation{
			find: byID(errTokenGone), absent: errTokenGone,
		}.handle}},
		{path: "auth/token/revoke-self", ops: map[operation]handler{opUpdate: revocation{find: self}.handle}},
		{path: "auth/token/revoke-accessor", ops: map[operation]handler{opUpdate: revocation{
			find: byAccessor, absent: errAccessorGone, warning: warnNoAccessor,
		}.handle}},
		{path: "auth/token/revoke-orphan", sudo: true, ops: map[operation]handler{opUpdate: revocation{
			find: byID(errTokenGone), orphanChildren: true,
		}.handle}},
		{path: "auth/token/accessors", sudo: true, ops: map[operation]handler{opList: listAccessors}},
	}
	for i := range list {
		list[i].authority = byToken
		list[i].limit = max(list[i].limit, tokenBody)
	}
	return list
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
	if strings.HasPrefix(x.path, "sys/") || strings.HasPrefix(x.path, "auth/token/") {
		return nothingHere(errUnknownPath)(x)
	}
	return nothingHere(errNoHandler)(x)
}

// nothingListed is a list without entries.
func nothingListed(*exchange) (*reply, error) { return nil, errNothing }
