package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/node"
)

// engineOps are the operations of engines, in the words of the wire.
var engineOps = map[operation]engine.Operation{
	opRead: engine.Read, opUpdate: engine.Update, opDelete: engine.Delete, opList: engine.List, opPatch: engine.Patch,
}

// mountedRoute is a route of an engine as one of the table's.
func mountedRoute(e *engine.Route) *route {
	r := &route{
		path: e.Path, authority: byToken, sudo: e.Sudo, limit: e.Limit, ops: make(map[operation]handler),
		summary: e.Summary, fields: e.Fields, query: e.Query, clear: e.Clear,
	}
	r.index()
	switch {
	case e.Login: // strangers send it
		r.authority, r.limit = byNone, smallBody
	case r.limit == 0:
		r.limit = tokenBody
	}
	for op, of := range engineOps {
		if e.Ops[of] != nil {
			r.ops[op] = serveMount
		}
	}
	return r
}

// mountedRoutes are the routes of the mounts in which the request's token has any right, as paths of the whole.
func (x *exchange) mountedRoutes() (list []route, err error) {
	err = x.Node.View(x.r.Context(), x.access(), func(c *node.Call) error {
		list = nil
		for _, e := range c.AllMounts() {
			kind := x.Node.KindOf(e)
			if kind == nil || !c.Seen(e) {
				continue
			}
			for i := range kind.Routes {
				r := *x.mounted[&kind.Routes[i]]
				r.path = e.Path + r.path
				list = append(list, r)
			}
		}
		return nil
	})
	return list, err
}

// locate looks for the mount of a path that isn't in the table.
func (x *exchange) locate() {
	if x.route != x.unknown || x.outside || x.redirect != "" || x.err != nil {
		return
	}
	op, err := x.route.operation(x.r)
	if err != nil {
		return
	}
	// One path for the routes and for policies: without the slash, but for a list, whose path always has it.
	path := strings.TrimSuffix(x.path, "/")
	if op == opList {
		path += "/"
	}
	if p := x.Node.Locate(path); p != nil && p.Route != nil {
		x.place, x.route, x.params = p, x.mounted[p.Route], p.Params
	}
}

// serveMount answers a request to a mount.
func serveMount(x *exchange) (*reply, error) {
	resp, issued, err := x.Node.Serve(x.r.Context(), x.access(), x.place, node.EngineRequest{
		Op: engineOps[x.op], Fields: &x.fields, Query: x.r.URL.Query(), Client: x.client.addr,
	})
	if err != nil {
		return nil, err
	}
	if resp == nil {
		resp = new(engine.Response)
	}
	x.fields.Own(resp.Own...)
	rep := &reply{data: resp.Data, warnings: resp.Warnings, lease: resp.LeaseDuration, inner: resp.WrappedAccessor}
	switch {
	case resp.NotFound:
		rep.status = http.StatusNotFound
	case resp.Accepted:
		rep.status = http.StatusAccepted
	}
	if issued != nil {
		x.fields.Own(issued.ID.Reveal())
		rep.auth, rep.made = newAuth(issued.Token, issued.ID.Reveal()), true
		rep.warnings = append(rep.warnings, issued.Warnings...)
		rep.inner = issued.Token.Accessor
	}
	return rep, nil
}

// again answers a request whose path has come to lead elsewhere since it was located.
func (x *exchange) again(handle handler) (*reply, error) {
	rep, err := handle(x)
	for tries := 0; errors.Is(err, node.ErrMoved) && tries < 3; tries++ {
		if err = x.Node.Refresh(x.r.Context()); err != nil {
			return nil, err
		}
		x.target = x.match(x.r.URL)
		x.locate()
		if handle, err = x.routed(); err == nil {
			err = x.relocated()
		}
		if err == nil {
			rep, err = handle(x)
		}
	}
	return rep, err
}

// relocated does again what answer did for another route: its body is still to be read where there seemed to be nothing,
// and what audit devices were told of the request was not all of it.
func (x *exchange) relocated() error {
	x.trail.asked = false
	if x.reads() && x.body == nil {
		if err := x.decode(); err != nil {
			return err
		}
	}
	return x.auditOpen()
}
