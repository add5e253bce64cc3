package kv

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/quorate/quorate/internal/body"
	"github.com/quorate/quorate/internal/engine"
	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/store"
)

// versionInfo is the metadata of one version as clients see it.
type versionInfo struct {
	CreatedTime    string            `json:"created_time"`
	CustomMetadata map[string]string `json:"custom_metadata"`
	DeletionTime   string            `json:"deletion_time"`
	Destroyed      bool              `json:"destroyed"`
	Version        int               `json:"version"`
}

func (m *meta) info(n int) versionInfo {
	v := m.version(n)
	return versionInfo{stamp(v.Created), m.Custom, stamp(v.Deletion), v.Destroyed, n}
}

type dataReply struct {
	Data     any         `json:"data"`
	Metadata versionInfo `json:"metadata"`
}

type subkeysReply struct {
	Metadata versionInfo `json:"metadata"`
	Subkeys  any         `json:"subkeys"`
}

func metaExists(tx store.Reader, r *engine.Request) (bool, error) {
	stored, err := engine.Get(tx, metaPrefix+r.Params["path"])
	return stored != nil, err
}

// open finds the version that a request asks for, the current one if it names none, and a copy of its JSON, which is nil
// for a version that was deleted or destroyed.
func open(tx engine.Tx, r *engine.Request) (versionInfo, []byte, error) {
	n, err := number(r, "version")
	if err != nil {
		return versionInfo{}, nil, err
	}
	m, err := readMeta(tx, r.Params["path"])
	if err != nil {
		return versionInfo{}, nil, err
	}
	if m != nil && n <= 0 {
		n = m.Current
	}
	if m == nil || m.version(n) == nil {
		return versionInfo{}, nil, errAbsent
	}
	if m.version(n).gone(r.Now) {
		return m.info(n), nil, nil
	}
	value, err := engine.Get(tx, m.key(n))
	return m.info(n), bytes.Clone(value), err
}

// number reads a whole number from the query, 0 if it isn't there.
func number(r *engine.Request, name string) (int, error) {
	text := r.Query.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fault.Newf(fault.Invalid, "%q must be a whole number that isn't negative", name)
	}
	return n, nil
}

func readData(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	info, value, err := open(tx, r)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return &engine.Response{Data: dataReply{Metadata: info}, NotFound: true}, nil
	}
	return &engine.Response{Data: dataReply{json.RawMessage(value), info}, Own: [][]byte{value}}, nil
}

func readSubkeys(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	depth, err := number(r, "depth")
	if err != nil {
		return nil, err
	}
	info, value, err := open(tx, r)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return &engine.Response{Data: subkeysReply{Metadata: info}, NotFound: true}, nil
	}
	defer clear(value)
	names, err := subkeys(value, depth)
	return &engine.Response{Data: subkeysReply{info, names}}, err
}

// sent returns the secret in a request, and where it belongs: the metadata, nil if there is none, and the configuration.
func sent(tx engine.Tx, r *engine.Request) ([]byte, *meta, config, error) {
	if err := checkPath(r.Params["path"]); err != nil {
		return nil, nil, config{}, err
	}
	value := r.Fields.Find("data")
	switch {
	case value == nil && r.Fields.Err() == nil:
		return nil, nil, config{}, fault.New(fault.Invalid, `no data provided: send the secret as the object "data"`)
	case value != nil && value[0] != '{':
		r.Fields.Wrong("data", "an object")
	}
	if err := r.Fields.Err(); err != nil {
		return nil, nil, config{}, err
	}
	m, c, err := readBoth(tx, r.Params["path"])
	return value, m, c, err
}

// checkOptions compares the version that a write must follow, if it names one.
func checkOptions(f *body.Fields, m *meta, c config) error {
	options := new(body.Fields)
	if raw := f.Find("options"); raw != nil {
		o, err := body.Decode(raw, false)
		if err != nil {
			f.Wrong("options", "an object")
			return f.Err()
		}
		options = &o
	}
	return checkAndSet(options, "cas", "check-and-set", c.CASRequired || m.CASRequired, m.Current)
}

func writeData(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	value, m, c, err := sent(tx, r)
	if err != nil {
		return nil, err
	}
	if m == nil {
		m = newMeta()
	}
	if err := checkOptions(r.Fields, m, c); err != nil {
		return nil, err
	}
	return addVersion(tx, r, m, c, value)
}

func addVersion(tx engine.Tx, r *engine.Request, m *meta, c config, value []byte) (*engine.Response, error) {
	if err := m.add(tx, c, value, r.Now); err != nil {
		return nil, err
	}
	return &engine.Response{Data: m.info(m.Current)}, m.store(tx, r.Params["path"])
}

// patchData merges into the current version what is sent, as RFC 7396 says.
func patchData(tx engine.Tx, r *engine.Request) (*engine.Response, error) {
	patch, m, c, err := sent(tx, r)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errAbsent
	}
	if err := checkOptions(r.Fields, m, c); err != nil {
		return nil, err
	}
	switch v := m.version(m.Current); {
	case v == nil:
		return nil, errAbsent
	case v.gone(r.Now):
		return &engine.Response{Data: m.info(m.Current), NotFound: true}, nil
	}
	value, err := engine.Get(tx, m.key(m.Current))
	if err != nil {
		return nil, err
	}
	merged, err := merge(value, patch)
	if err != nil {
		return nil, err
	}
	defer clear(merged)
	return addVersion(tx, r, m, c, merged)
}
