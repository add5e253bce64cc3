package httpapi

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/fault"
	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/node"
	"github.com/quorate/quorate/internal/secret"
	"github.com/quorate/quorate/internal/token"
)

var (
	errRecovery = fault.New(fault.Invalid, "parameters recovery_shares, recovery_threshold, recovery_pgp_keys not applicable to seal type shamir: leave them out")
	errNoKey    = fault.New(fault.Invalid, "'key' must be specified in request body as JSON, or 'reset' set to true")
)

// text sends bytes as a JSON string, hexText and base64 as their encoding: secrets in a reply don't become Go strings.
type (
	text    []byte
	hexText []byte
)

func (t text) MarshalText() ([]byte, error)    { return t, nil }
func (h hexText) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func initStatus(x *exchange) (*reply, error) {
	done, err := x.Node.Initialized(x.r.Context())
	return &reply{raw: struct {
		Initialized bool `json:"initialized"`
	}{done}}, err
}

// initReply is the one time that the shares are seen. Byte slices are base64 in JSON, which is what KeysBase64 wants.
type initReply struct {
	shareTexts
	RootToken  text   `json:"root_token"`
	ClusterID  string `json:"cluster_id"`
	Generation uint64 `json:"generation"`
}

// shareTexts are new shares, or the messages that hold them, in both encodings.
type shareTexts struct {
	Keys       []hexText `json:"keys"`
	KeysBase64 [][]byte  `json:"keys_base64"`
}

// shareTexts takes over keys, which are wiped when the reply is out.
func (x *exchange) shareTexts(keys [][]byte) shareTexts {
	x.fields.Own(keys...)
	t := shareTexts{Keys: []hexText{}, KeysBase64: append([][]byte{}, keys...)}
	for _, key := range keys {
		t.Keys = append(t.Keys, key)
	}
	return t
}

func initialize(x *exchange) (*reply, error) {
	f := &x.fields
	req := node.InitRequest{
		Shares: f.Int("secret_shares"), Threshold: f.Int("secret_threshold"),
		Labels: f.StrsPerShare("holders"), PGPKeys: f.PerShare("pgp_keys"), Age: f.StrsPerShare("age_recipients"),
		RootTokenPGPKey: f.Text("root_token_pgp_key"), RootTokenAge: f.Lines("root_token_age_recipients"), RootTokenTTL: rootTokenTTL(f),
		Replace: f.Flag("replace", false), Local: x.client.local(),
	}
	recovery := f.Int("recovery_shares") != 0 || f.Int("recovery_threshold") != 0 || len(f.Texts("recovery_pgp_keys")) > 0
	switch {
	case f.Err() != nil:
		return nil, f.Err()
	case recovery:
		return nil, errRecovery
	}
	res, err := x.Node.Init(x.r.Context(), req)
	if err != nil {
		return nil, err
	}
	f.Own(res.RootToken.Reveal())
	return &reply{raw: initReply{
		shareTexts: x.shareTexts(res.Keys), RootToken: res.RootToken.Reveal(), ClusterID: res.ClusterID, Generation: res.Generation,
	}}, nil
}

// sealState is the reply of seal-status and unseal.
type sealState struct {
	Type         string `json:"type"`
	Initialized  bool   `json:"initialized"`
	Sealed       bool   `json:"sealed"`
	Threshold    int    `json:"t"`
	Shares       int    `json:"n"`
	Progress     int    `json:"progress"`
	Nonce        string `json:"nonce"`
	Version      string `json:"version"`
	BuildDate    string `json:"build_date"`
	CommitDate   string `json:"commit_date"`
	Migration    bool   `json:"migration"`
	ClusterName  string `json:"cluster_name,omitempty"`
	ClusterID    string `json:"cluster_id,omitempty"`
	RecoverySeal bool   `json:"recovery_seal"`
	StorageType  string `json:"storage_type"`

	Warnings  []string `json:"warnings,omitempty"`
	*retiring          // only while there is one
}

// retiring is an old generation that can still unseal, because not enough holders of the new one have yet.
type retiring struct {
	Threshold int `json:"retiring_t"`
	Shares    int `json:"retiring_n"`
	Progress  int `json:"retiring_progress"`
}

func (x *exchange) sealState(st node.SealStatus, err error) (*reply, error) {
	var old *retiring
	if st.RetiringShares > 0 {
		old = &retiring{st.RetiringThreshold, st.RetiringShares, st.RetiringProgress}
	}
	return &reply{raw: sealState{
		Type: "shamir", Initialized: st.Initialized, Sealed: st.Sealed, Threshold: st.Threshold, Shares: st.Shares,
		Progress: st.Progress, Nonce: st.Nonce, Version: x.Version, BuildDate: x.CommitDate, CommitDate: x.CommitDate,
		ClusterName: st.ClusterName, ClusterID: st.ClusterID, StorageType: x.StorageType, Warnings: st.Warnings, retiring: old,
	}}, err
}

func sealStatus(x *exchange) (*reply, error) { return x.sealState(x.Node.SealStatus(x.r.Context())) }

func unseal(x *exchange) (*reply, error) {
	key, reset := x.fields.Text("key"), x.fields.Flag("reset", false)
	switch {
	case x.fields.Err() != nil:
		return nil, x.fields.Err()
	case len(key) == 0 && !reset:
		return nil, errNoKey
	}
	share, err := optionalShare(key)
	if err != nil {
		return nil, err
	}
	if reset {
		return x.sealState(x.Node.ResetUnseal(x.r.Context(), share, x.client.local()))
	}
	return x.sealState(x.Node.Unseal(x.r.Context(), share, x.client.local(), x.client.bucket().String()))
}

// optionalShare reads a share where one may be given. Who gets it wipes it.
func optionalShare(key []byte) (secret.Bytes, error) {
	if len(key) == 0 {
		return secret.Bytes{}, nil
	}
	return holder.ParseShare(key)
}

func sealServer(x *exchange) (*reply, error) {
	a, alone := x.access(), x.fields.Flag("node_only", false)
	note := a.Note
	a.Note = func(e *token.Entry, denied error) error {
		if note != nil {
			if err := note(e, denied); err != nil {
				return err
			}
		}
		return cmp.Or(denied, x.fields.Err()) // which is told to nobody who may not seal
	}
	return &reply{}, x.Node.Seal(x.r.Context(), a, alone)
}

// leaderReply says who leads: where there are several servers each that is unsealed says so of itself, for each serves all.
type leaderReply struct {
	HAEnabled                bool      `json:"ha_enabled"`
	IsSelf                   bool      `json:"is_self"`
	ActiveTime               time.Time `json:"active_time"`
	LeaderAddress            string    `json:"leader_address"`
	LeaderClusterAddress     string    `json:"leader_cluster_address"`
	PerformanceStandby       bool      `json:"performance_standby"`
	PerformanceStandbyLastRW int       `json:"performance_standby_last_remote_wal"`
}

func leader(x *exchange) (*reply, error) {
	self := x.Node.Self()
	if x.Node.Cluster == nil {
		return &reply{raw: leaderReply{}}, nil
	}
	rep := leaderReply{HAEnabled: true, IsSelf: !self.Sealed}
	if rep.IsSelf {
		rep.LeaderAddress, rep.LeaderClusterAddress, rep.ActiveTime = self.APIAddr, self.ClusterAddr, self.Started
		return &reply{raw: rep}, nil
	}
	list, err := x.Node.Nodes(x.r.Context())
	for _, n := range list {
		if !n.Sealed {
			rep.LeaderAddress, rep.LeaderClusterAddress = n.APIAddr, n.ClusterAddr
			break
		}
	}
	return &reply{raw: rep}, err
}

// nodeJSON is a server in sys/ha-status. All that are unsealed are active.
type nodeJSON struct {
	Hostname       string    `json:"hostname"`
	APIAddress     string    `json:"api_address"`
	ClusterAddress string    `json:"cluster_address"`
	ActiveNode     bool      `json:"active_node"`
	LastEcho       time.Time `json:"last_echo"`
	Version        string    `json:"version"`
	Sealed         bool      `json:"sealed"`
	Started        time.Time `json:"started"`
	Self           bool      `json:"self"`
}

func haStatus(x *exchange) (*reply, error) {
	if err := x.allowed(); err != nil {
		return nil, err
	}
	list, err := x.Node.Nodes(x.r.Context())
	if err != nil {
		return nil, err
	}
	nodes := []nodeJSON{}
	for _, n := range list {
		nodes = append(nodes, nodeJSON{
			Hostname: n.Name, APIAddress: n.APIAddr, ClusterAddress: n.ClusterAddr, ActiveNode: !n.Sealed, LastEcho: n.LastEcho,
			Version: cmp.Or(n.Version, x.Version), Sealed: n.Sealed, Started: n.Started, Self: n.ID == x.Node.Self().ID,
		})
	}
	data := struct {
		Nodes []nodeJSON `json:"nodes"`
	}{nodes}
	return &reply{data: data, inject: func(e envelope) any {
		return struct {
			Nodes []nodeJSON `json:"nodes"`
			envelope
		}{nodes, e}
	}}, nil
}

// healthReply is the body of sys/health.
type healthReply struct {
	Initialized        bool   `json:"initialized"`
	Sealed             bool   `json:"sealed"`
	Standby            bool   `json:"standby"`
	PerformanceStandby bool   `json:"performance_standby"`
	ReplicationPerf    string `json:"replication_performance_mode"`
	ReplicationDR      string `json:"replication_dr_mode"`
	ServerTime         int64  `json:"server_time_utc"`
	Version            string `json:"version"`
	Enterprise         bool   `json:"enterprise"`
	ClusterName        string `json:"cluster_name,omitempty"`
	ClusterID          string `json:"cluster_id,omitempty"`

	StoreUnreachable bool `json:"store_unreachable,omitempty"`
}

// healthPatience is how long a look at the store may take before the server calls itself unhealthy: whoever balances load
// asks every few seconds.
const healthPatience = 2 * time.Second

func health(x *exchange) (*reply, error) {
	codes, err := healthCodes(x.r.URL.Query())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), healthPatience)
	defer cancel()
	st, err := x.Node.SealStatus(ctx)
	if f := fault.As(err); err != nil && (f != nil && f.Kind == fault.Unavailable || errors.Is(err, context.DeadlineExceeded)) {
		// Whether there is a cluster can't be known; one that is unsealed has one.
		open := !x.Node.Sealed()
		return &reply{status: codes["haunhealthycode"], raw: healthReply{
			Initialized: open, Sealed: !open, Standby: true, ReplicationPerf: "unknown", ReplicationDR: "unknown",
			ServerTime: x.Now().Unix(), Version: x.Version, StoreUnreachable: true,
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	rep := healthReply{
		Initialized: st.Initialized, Sealed: st.Sealed, Standby: st.Sealed,
		ReplicationPerf: "disabled", ReplicationDR: "disabled", ServerTime: x.Now().Unix(), Version: x.Version,
		ClusterName: st.ClusterName, ClusterID: st.ClusterID,
	}
	code := codes["activecode"]
	if st.Sealed {
		rep.ReplicationPerf, rep.ReplicationDR = "unknown", "unknown"
		code = codes["sealedcode"]
	}
	if !st.Initialized {
		code = codes["uninitcode"]
	}
	return &reply{status: code, raw: rep}, nil
}

// healthCodes reads which status each state is to have. Those of states that this server is never in are checked all
// the same, so that a mistake in them doesn't wait for another server.
func healthCodes(q url.Values) (map[string]int, error) {
	codes := map[string]int{
		"activecode": http.StatusOK, "sealedcode": http.StatusServiceUnavailable, "uninitcode": http.StatusNotImplemented,
		"standbycode": 0, "drsecondarycode": 0, "performancestandbycode": 0, "removedcode": 0,
		"haunhealthycode": http.StatusServiceUnavailable,
	}
	for name := range codes {
		if !q.Has(name) {
			continue
		}
		code, err := strconv.Atoi(q.Get(name))
		if err != nil || code < 200 || code > 599 {
			return nil, errBadQuery
		}
		codes[name] = code
	}
	for _, name := range []string{"standbyok", "perfstandbyok"} {
		if v := q.Get(name); v != "" {
			if _, err := strconv.ParseBool(v); err != nil {
				return nil, errBadQuery
			}
		}
	}
	return codes, nil
}

// keyState is the data of key-status.
type keyState struct {
	Term        uint32 `json:"term"`
	InstallTime string `json:"install_time"`
	Encryptions uint64 `json:"encryptions"`
}

func keyStatus(x *exchange) (*reply, error) {
	st, err := x.Node.KeyStatus(x.r.Context(), x.access())
	if err != nil {
		return nil, err
	}
	data := keyState{Term: st.Term, InstallTime: rfc3339(st.Installed), Encryptions: st.Encryptions}
	return &reply{data: data, inject: func(e envelope) any {
		return struct {
			keyState
			envelope
		}{data, e}
	}}, nil
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
