package kv

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
)

// metadata is all that is known about a secret, as clients see it.
func (m *meta) metadata() map[string]any {
	list := make(map[string]any, len(m.versions))
	for i, v := range m.versions {
		list[strconv.Itoa(m.first()+i)] = map[string]any{
			"created_time": stamp(v.Created), "deletion_time": stamp(v.Deletion), "destroyed": v.Destroyed,
		}
	}
	return map[string]any{
		"cas_required": m.CASRequired, "created_time": stamp(m.Created), "current_metadata_version": m.MetadataVersion,
		"current_version": m.Current, "custom_metadata": m.Custom, "delete_version_after": m.DeleteVersionAfter.String(),
		"max_versions": m.MaxVersions, "metadata_cas_required": m.MetadataCASRequired, "oldest_version": m.Oldest,
		"updated_time": stamp(m.Updated), "versions": list,
	}
}

func readMetadata(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	m, err := readMeta(tx, r.Params["path"])
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errAbsent
	}
	return &engine.Response{Data: m.metadata()}, nil
}

// writeMetadata sets the fields that are given, also for a secret that has no version yet.
func writeMetadata(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return changeMetadata(tx, r, false)
}

// patchMetadata is writeMetadata for a secret that is there. Null sets a field to what it was at first, and custom_metadata
// is merged.
func patchMetadata(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	return changeMetadata(tx, r, true)
}

func changeMetadata(tx engine.Tx, r *engine.Request, patch bool) (*engine.Response, error) {
	path := r.Params["path"]
	if err := checkPath(path); err != nil {
		return nil, err
	}
	m, c, err := readBoth(tx, path)
	if err != nil {
		return nil, err
	}
	absent := m == nil
	if absent {
		m = newMeta()
		m.Created, m.Updated = r.Now.UnixNano(), r.Now.UnixNano()
	}
	required, current := c.MetadataCASRequired || m.MetadataCASRequired, m.MetadataVersion
	warnings, changed := m.set(r.Fields, c, patch)
	if err := r.Fields.Err(); err != nil {
		return nil, err
	}
	switch {
	case absent && patch:
		return nil, errAbsent
	case !changed:
		return &engine.Response{}, nil
	}
	if err := checkAndSet(r.Fields, "metadata_cas", "metadata check-and-set", required, current); err != nil {
		return nil, err
	}
	m.MetadataVersion++
	return &engine.Response{Warnings: warnings}, m.store(tx, path)
}

// set takes over the fields that a request gives, and reports whether there were any.
func (m *meta) set(f *body.Fields, c config, patch bool) (warnings []string, changed bool) {
	names := f.Names()
	has := func(name string) bool {
		found := f.Has(name) || patch && slices.Contains(names, name)
		changed = changed || found
		return found
	}
	ignored := func(name string) {
		warnings = append(warnings, `"`+name+`" set to false, but is mandated by backend config. This value will be ignored.`)
	}
	if has("max_versions") {
		m.MaxVersions = readMaxVersions(f)
	}
	if has("cas_required") {
		m.CASRequired = f.Flag("cas_required", false)
		if c.CASRequired && !m.CASRequired {
			ignored("cas_required")
		}
	}
	if has("metadata_cas_required") {
		m.MetadataCASRequired = f.Flag("metadata_cas_required", false)
		if c.MetadataCASRequired && !m.MetadataCASRequired {
			ignored("metadata_cas_required")
		}
	}
	if has("delete_version_after") {
		m.DeleteVersionAfter = readLife(f)
	}
	if has("custom_metadata") {
		m.setCustom(f, patch)
	}
	return warnings, changed
}

// Bounds of custom metadata.
const (
	maxCustom      = 64
	maxCustomName  = 128
	maxCustomValue = 512
)

var errCustom = fault.Newf(fault.Invalid,
	"custom_metadata validation failed: it may have at most %d names; a name must have 1 to %d bytes and a value 1 to %d, all printable",
	maxCustom, maxCustomName, maxCustomValue)

func (m *meta) setCustom(f *body.Fields, patch bool) {
	custom := make(map[string]string)
	raw := f.Find("custom_metadata")
	if patch && raw != nil {
		maps.Copy(custom, m.Custom)
	}
	m.Custom = custom
	if raw == nil {
		return
	}
	sent, err := body.Decode(raw, false)
	if err != nil {
		f.Wrong("custom_metadata", "an object whose values are strings")
		return
	}
	for _, name := range sent.Names() {
		if patch && !sent.Has(name) {
			delete(custom, name)
			continue
		}
		value := sent.Str(name)
		if !fits(name, maxCustomName) || !fits(value, maxCustomValue) {
			f.Fail(errCustom)
			return
		}
		custom[name] = value
	}
	if sent.Err() != nil || len(custom) > maxCustom {
		f.Fail(errCustom)
	}
}

func fits(text string, most int) bool {
	return text != "" && len(text) <= most && strings.IndexFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) < 0
}

// deleteMetadata removes a secret with all its versions.
func deleteMetadata(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	m, err := readMeta(tx, r.Params["path"])
	if err != nil || m == nil {
		return &engine.Response{}, err
	}
	for i := range m.versions {
		if err := tx.Delete(m.key(m.first() + i)); err != nil {
			return nil, err
		}
	}
	return &engine.Response{}, tx.Delete(metaPrefix + r.Params["path"])
}

func listSecrets(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	list, err := names(tx, r, metaPrefix, 0)
	if err != nil {
		return nil, err
	}
	return &engine.Response{Data: map[string]any{"keys": list}}, nil
}

// mostDetailed is how many secrets are listed with their metadata in one reply.
const mostDetailed = 10_000

func listDetailed(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	list, err := names(tx, r, metaPrefix, mostDetailed)
	if err != nil {
		return nil, err
	}
	folder := strings.TrimSuffix(r.Params["path"], "/")
	if folder != "" {
		folder += "/"
	}
	info := make(map[string]any)
	for _, name := range list {
		if strings.HasSuffix(name, "/") {
			continue
		}
		m, err := readMeta(tx, folder+name)
		if err != nil {
			return nil, err
		}
		info[name] = m.metadata()
	}
	return &engine.Response{Data: map[string]any{"keys": list, "key_info": info}}, nil
}
