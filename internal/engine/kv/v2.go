package kv

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
)

// V2 is the engine that keeps versions.
func V2() engine.Engine { return v2{} }

type v2 struct{}

// Routes implements engine.Engine.
func (v2) Routes() []engine.Route {
	const paging = "after, limit int"
	marking := func(name, summary string, how marker) engine.Route {
		return engine.Route{
			Path: name + "/{path...}", Ops: ops{engine.Update: engine.InUpdate(markSent(how))}, Summary: summary, Fields: "versions list", Clear: "versions",
		}
	}
	return []engine.Route{
		{
			Path:    "config",
			Ops:     ops{engine.Read: engine.InView(readConfig), engine.Update: engine.InUpdate(writeConfig)},
			Summary: "Settings for all secrets of the mount.",
			Fields:  "max_versions int, cas_required bool, metadata_cas_required bool, delete_version_after duration",
			Clear:   "max_versions cas_required metadata_cas_required delete_version_after",
		},
		{
			Path: "data/{path...}",
			Ops: ops{
				engine.Read: engine.InView(readData), engine.Update: engine.InUpdate(writeData), engine.Patch: engine.InUpdate(patchData), engine.Delete: engine.InUpdate(markCurrent(remove)),
			},
			Limit:   bodyLimit,
			Exists:  metaExists,
			Summary: "Read a version of a secret, write or merge a new one, delete the newest.",
			Fields:  "data map, options map",
			Query:   "version int",
		},
		{
			Path: "metadata/{path...}",
			Ops: ops{
				engine.Read: engine.InView(readMetadata), engine.Update: engine.InUpdate(writeMetadata), engine.Patch: engine.InUpdate(patchMetadata),
				engine.Delete: engine.InUpdate(deleteMetadata), engine.List: engine.InView(listSecrets),
			},
			Limit:   64 << 10,
			Exists:  metaExists,
			Summary: "Settings and versions of a secret; delete it for good; list secrets.",
			Fields: "max_versions int, cas_required bool, metadata_cas_required bool, metadata_cas int, delete_version_after duration, " +
				"custom_metadata map",
			Query: paging,
		},
		marking("delete", "Delete versions of a secret, so that they can be restored.", remove),
		marking("undelete", "Restore deleted versions of a secret.", restore),
		marking("destroy", "Destroy versions of a secret for good.", destroy),
		{
			Path: "subkeys/{path...}", Ops: ops{engine.Read: engine.InView(readSubkeys)},
			Summary: "Read the names in a version of a secret, without their values.", Query: "version int, depth int",
		},
		{
			Path: "detailed-metadata/{path...}", Ops: ops{engine.List: engine.InView(listDetailed)},
			Summary: "List secrets with their metadata.", Query: paging,
		},
		{
			Path: "{path...}",
			Ops: ops{
				engine.Read: engine.InView(misplaced("get")), engine.Update: engine.InView(misplaced("put")), engine.Patch: engine.InView(misplaced("patch")),
				engine.Delete: engine.InView(misplaced("delete")), engine.List: engine.InView(misplaced("list")),
			},
			Limit: bodyLimit, Summary: "Nothing is here: tells clients of version 1 what to do.", Fields: "*",
		},
	}
}

type ops = map[engine.Operation]engine.Handler

// misplaced answers what is sent to a path that only version 1 has.
func misplaced(command string) engine.TxHandler {
	return func(_ engine.Tx, r *engine.Request) (*engine.Response, error) {
		warning := fmt.Sprintf("Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. "+
			"If using the CLI, use 'kv %s' for this operation.", command)
		switch strings.TrimSuffix(r.Params["path"], "/") {
		case "metadata", "data", "delete", "undelete", "destroy":
			warning = "Non-listing operations on the root of a K/V v2 mount are not supported."
		}
		return &engine.Response{NotFound: true, Warnings: []string{warning}}, nil
	}
}

// config is what holds for all secrets of a mount.
type config struct {
	MaxVersions         int           `json:"max_versions"` // 0: defaultVersions
	CASRequired         bool          `json:"cas_required"`
	MetadataCASRequired bool          `json:"metadata_cas_required"`
	DeleteVersionAfter  time.Duration `json:"delete_version_after"` // 0: never; neverDelete: not even where a secret's metadata says so
}

const (
	configKey   = "config"
	neverDelete = -time.Second

	// What one transaction drops, and what a record of metadata holds, stays in bounds by these.
	defaultVersions = 10
	mostVersions    = 1000
	longestLife     = 100 * 365 * 24 * time.Hour // its end has a place in the 64 bits of a record
)

func decodeConfig(stored []byte) (c config, err error) {
	if stored != nil {
		err = json.Unmarshal(stored, &c)
	}
	return c, err
}

func readConfig(tx engine.Tx, _ *engine.Request) (*engine.Response, error) {
	stored, err := engine.Get(tx, configKey)
	if err != nil {
		return nil, err
	}
	c, err := decodeConfig(stored)
	return &engine.Response{Data: map[string]any{
		"max_versions": c.MaxVersions, "cas_required": c.CASRequired, "metadata_cas_required": c.MetadataCASRequired,
		"delete_version_after": c.DeleteVersionAfter.String(),
	}}, err
}

func writeConfig(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	stored, err := engine.Get(tx, configKey)
	if err != nil {
		return nil, err
	}
	c, err := decodeConfig(stored)
	if err != nil {
		return nil, err
	}
	f := r.Fields
	if f.Has("max_versions") {
		c.MaxVersions = readMaxVersions(f)
	}
	c.CASRequired = f.Flag("cas_required", c.CASRequired)
	c.MetadataCASRequired = f.Flag("metadata_cas_required", c.MetadataCASRequired)
	if f.Has("delete_version_after") {
		if after, negative := strings.CutPrefix(f.Str("delete_version_after"), "-"); !negative {
			c.DeleteVersionAfter = readLife(f)
		} else if _, ok := body.ParseDuration(after); ok {
			c.DeleteVersionAfter = neverDelete
		} else {
			f.Wrong("delete_version_after", `a duration, such as "720h", or a negative one for never`)
		}
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	record, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return &engine.Response{}, tx.Put(configKey, record)
}

func readMaxVersions(f *body.Fields) int {
	n := f.Int("max_versions")
	if n < 0 || n > mostVersions {
		f.Fail(fault.Newf(fault.Invalid, `"max_versions" must be from 0, which means the default, to %d`, mostVersions))
	}
	return n
}

func readLife(f *body.Fields) time.Duration {
	d := f.Duration("delete_version_after").Truncate(time.Second)
	if d > longestLife {
		f.Fail(fault.Newf(fault.Invalid, `"delete_version_after" can be at most %dh`, longestLife/time.Hour))
	}
	return d
}

// checkAndSet compares the version that a request names with the current one; if it is required it can't be left out.
// Null counts as 0, so that a client's missing value never becomes an unconditional write.
func checkAndSet(f *body.Fields, name, what string, required bool, current int) error {
	if !slices.Contains(f.Names(), name) {
		if required {
			return fault.New(fault.Invalid, what+" parameter required for this call")
		}
		return nil
	}
	version := f.Int(name)
	if err := f.Err(); err != nil {
		return err
	}
	if version != current {
		return fault.New(fault.Invalid, what+" parameter did not match the current version")
	}
	return nil
}
