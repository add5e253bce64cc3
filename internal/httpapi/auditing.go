package httpapi

import (
	"cmp"

	"github.com/quorate/quorate/internal/audit"
	"github.com/quorate/quorate/internal/node"
)

func auditRoutes() []route {
	const shown = "type description options file_path mode prefix hmac_accessor elide_list_responses sync local path"
	list := ofToken([]route{
		{path: "sys/audit", ops: map[operation]handler{opRead: listAudit}, summary: "the audit devices", clear: shown},
		{path: "sys/audit/{path...}", ops: map[operation]handler{
			opUpdate: enableAudit, opDelete: disableAudit,
		}, summary: "an audit device: enable, disable", fields: "type, description, options map, local bool", clear: shown},
		{path: "sys/audit-hash/{path...}", limit: createBody, ops: map[operation]handler{
			opUpdate: auditHash,
		}, summary: "a value as an audit device would write it", fields: "input"},
	})
	for i := range list {
		list[i].sudo = true
	}
	return list
}

func listAudit(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	data := map[string]audit.Device{}
	for _, d := range x.Node.Audit.Devices() {
		data[d.Path] = d
	}
	return injected(data), nil
}

func enableAudit(x *exchange) (*reply, error) {
	f := &x.fields
	d := audit.Device{
		Path: x.param("path"), Type: f.Str("type"), Description: f.Str("description"), Options: f.Pairs("options"), Local: f.Flag("local", false),
	}
	if f.Err() != nil {
		return nil, cmp.Or(x.allowed(), f.Err())
	}
	return &reply{}, x.Node.EnableAudit(x.r.Context(), x.access(), d)
}

func disableAudit(x *exchange) (*reply, error) {
	return &reply{}, x.Node.Update(x.r.Context(), x.access(), func(c *node.Call) error { return c.DisableAudit(x.param("path")) })
}

func auditHash(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	input := x.fields.Text("input")
	if x.fields.Err() != nil {
		return nil, x.fields.Err()
	}
	hash, err := x.Node.Audit.Hash(x.param("path")+"/", input)
	return injected(map[string]any{"hash": hash}), err
}
