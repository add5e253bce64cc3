package httpapi

import (
	"github.com/quorate/quorate/internal/ceremony"
	"github.com/quorate/quorate/internal/node"
)

// rotateRoutes change keys that no holder has: the root key and the keyring. With new shares for the holders it is a
// ceremony (wire reference 4.2), without it takes a token (4.3).
func rotateRoutes() []route {
	list := append(rekeyFamily{path: "sys/rotate/root", kind: ceremony.RotateRoot}.routes(), recoveryRoutes("sys/rotate/recovery", false)...)
	list = append(
		list,
		backupRoute("sys/rotate/recovery/backup", noBackup, nothingDeleted),
		route{path: "sys/rotate/root", sudo: true, ops: map[operation]handler{opUpdate: rotateRootKey}, summary: "a new root key, with the key shares there are"},
	)
	for _, path := range []string{"sys/rotate", "sys/rotate/keyring"} {
		list = append(
			list,
			route{path: path, sudo: true, ops: map[operation]handler{opUpdate: rotateKeyring}, summary: "a new term of the keyring"},
			route{path: path + "/config", ops: map[operation]handler{
				opRead: rotationConfig, opUpdate: setRotationConfig,
			}, summary: "when the keyring gets a new term by itself", fields: "enabled bool, interval duration, max_operations int"},
		)
	}
	for i := range list {
		if r := &list[i]; r.limit == 0 {
			r.authority, r.limit = byToken, smallBody
		}
	}
	return list
}

func rotateRootKey(x *exchange) (*reply, error) {
	return &reply{}, x.Node.RotateRootKey(x.r.Context(), x.access())
}

func rotateKeyring(x *exchange) (*reply, error) {
	return &reply{}, x.Node.RotateKeyring(x.r.Context(), x.access())
}

// rotationSettings say when the keyring gets a new term by itself. The interval is text, such as "48h0m0s", or 0.
type rotationSettings struct {
	Enabled       bool   `json:"enabled"`
	Interval      any    `json:"interval"`
	MaxOperations uint64 `json:"max_operations"`
}

func rotationConfig(x *exchange) (*reply, error) {
	c, err := x.Node.RotationConfig(x.r.Context(), x.access())
	if err != nil {
		return nil, err
	}
	data := rotationSettings{Enabled: c.Enabled, Interval: 0, MaxOperations: c.MaxOperations}
	if c.Interval > 0 {
		data.Interval = c.Interval.String()
	}
	return &reply{data: data}, nil
}

// setRotationConfig leaves as it is what isn't given.
func setRotationConfig(x *exchange) (*reply, error) {
	f := &x.fields
	return &reply{}, x.Node.SetRotationConfig(x.r.Context(), x.access(), func(c *node.RotationConfig) error {
		c.Enabled = f.Flag("enabled", c.Enabled)
		if f.Has("interval") {
			c.Interval = f.Duration("interval")
		}
		if f.Has("max_operations") {
			c.MaxOperations = uint64(max(0, f.Int("max_operations")))
		}
		return f.Err()
	})
}
