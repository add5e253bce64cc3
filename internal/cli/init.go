package cli

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"
)

// initialisation is the operator init command.
type initialisation struct {
	conn              connection
	out               output
	shares, threshold int
	pgpKeys           keyFiles
	rootKey           keyFiles
	replace, status   bool
}

func (a *app) initCommand() *command.C {
	in := &initialisation{shares: 5, threshold: 3}
	c := &command.C{
		Name: "init", Usage: "[flags]",
		Help: `Initialize the server: make its keys, and split the unseal key among the key holders.

The shares and the initial root token are printed once, and kept nowhere. Where they were lost before the server was
unsealed for the first time, -replace makes new ones, on the server's own machine.

With -status: exit code 0 if the server is initialized, 2 if it isn't, 1 if it can't be asked.`,
	}
	in.flags(&c.Flags)
	c.Run = func(env *command.Env) error {
		if _, err := positional(env, 0, 0); err != nil {
			return err
		}
		if in.status {
			return a.initStatus(env.Context(), in)
		}
		return a.initialise(env.Context(), in)
	}
	return c
}

func (in *initialisation) flags(fs *flag.FlagSet) {
	in.conn.flags(fs, hidden)
	in.out.flags(fs)
	fs.IntVar(&in.shares, "key-shares", in.shares, "`NUMBER` of shares, one per key holder")
	fs.IntVar(&in.shares, "n", in.shares, "short for -key-shares, `NUMBER`")
	fs.IntVar(&in.threshold, "key-threshold", in.threshold, "`NUMBER` of shares that unseal the server and approve its ceremonies")
	fs.IntVar(&in.threshold, "t", in.threshold, "short for -key-threshold, `NUMBER`")
	fs.Var(&in.pgpKeys, "pgp-keys", "`FILES` with one OpenPGP public key per share, comma-separated; each share is encrypted to one")
	fs.Var(&in.rootKey, "root-token-pgp-key", "`FILE` with an OpenPGP public key that the root token is encrypted to")
	fs.BoolVar(&in.replace, "replace", false, "make new keys in place of those of an earlier init, if nothing was unsealed with them yet")
	fs.BoolVar(&in.status, "status", false, "only tell whether the server is initialized")
}

func (a *app) initStatus(ctx context.Context, in *initialisation) error {
	client, err := in.conn.client("")
	if err != nil {
		return err
	}
	done, err := client.Sys().InitStatusWithContext(ctx)
	if err != nil {
		return &failure{code: exitLocal, action: "asking whether the server is initialized", err: err, hint: hintFor(err)}
	}
	text := map[bool]string{true: "the server is initialized", false: "the server is not initialized"}[done]
	err = a.print(&in.out, map[string]bool{"initialized": done}, func() string {
		a.say("%s", text)
		return ""
	})
	if err == nil && !done {
		return silent(exitServer)
	}
	return err
}

// initResult is what init prints, in the shape that scripts of the Vault family read.
type initResult struct {
	UnsealKeysB64     []string `json:"unseal_keys_b64"`
	UnsealKeysHex     []string `json:"unseal_keys_hex"`
	UnsealShares      int      `json:"unseal_shares"`
	UnsealThreshold   int      `json:"unseal_threshold"`
	RecoveryKeysB64   []string `json:"recovery_keys_b64"`
	RecoveryKeysHex   []string `json:"recovery_keys_hex"`
	RecoveryShares    int      `json:"recovery_keys_shares"`
	RecoveryThreshold int      `json:"recovery_keys_threshold"`
	RootToken         string   `json:"root_token"`
}

func (a *app) initialise(ctx context.Context, in *initialisation) error {
	if len(in.rootKey) > 1 {
		return localf("-root-token-pgp-key takes one file")
	}
	// The format is checked before anything happens: the answer can't be had a second time.
	if _, err := in.out.format.resolve(); err != nil {
		return err
	}
	client, err := in.conn.client("")
	if err != nil {
		return err
	}
	defer outlivePipe()()
	var resp api.InitResponse
	if err := call(ctx, client, http.MethodPut, "sys/init", in.request(), &resp); err != nil {
		return in.again(asking("initializing", err))
	}
	result := initResult{
		UnsealKeysB64: resp.KeysB64, UnsealKeysHex: resp.Keys, UnsealShares: in.shares, UnsealThreshold: in.threshold,
		RecoveryKeysB64: []string{}, RecoveryKeysHex: []string{}, RootToken: resp.RootToken,
	}
	if err := a.print(&in.out, result, result.text); err != nil {
		return unprinted(err, "the server is initialized, but its key shares are lost: see to the output, then make new ones "+onceMore)
	}
	a.initAdvice(in)
	return nil
}

// request is the body: that of stock clients, and our own field only where it is asked for.
func (in *initialisation) request() []byte {
	req := struct {
		api.InitRequest
		Replace bool `json:"replace,omitempty"`
	}{api.InitRequest{SecretShares: in.shares, SecretThreshold: in.threshold, PGPKeys: in.pgpKeys}, in.replace}
	if len(in.rootKey) == 1 {
		req.RootTokenPGPKey = in.rootKey[0]
	}
	return jsonBody(req)
}

const onceMore = "on the server's own machine, before anything is unsealed: quorate operator init -replace"

// again tells whoever lost the output of an earlier init that it can be repeated.
func (in *initialisation) again(err error) error {
	if in.replace || !strings.Contains(err.Error(), "already initialized") {
		return err
	}
	return hinted(err, http.StatusBadRequest, "if the key shares of that init are lost, make new ones "+onceMore)
}

// text is the table format of init, which is no table.
func (r *initResult) text() string {
	var b strings.Builder
	for i, key := range r.UnsealKeysB64 {
		fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, visible(key, ""))
	}
	fmt.Fprintf(&b, "\nInitial Root Token: %s\n", visible(r.RootToken, ""))
	return b.String()
}

func (a *app) initAdvice(in *initialisation) {
	if in.shares == 1 {
		a.say("\nthe server is initialized with one key share, and it is sealed")
		if len(in.pgpKeys) > 0 {
			a.say("the share is encrypted to the key of -pgp-keys: whoever has its private key %s", decryptHint)
		}
		a.say("whoever has the share unseals it: quorate operator unseal")
		a.say("the share is kept nowhere: without it the data can't be opened again")
		a.say("the same share makes a new root token when all are lost: quorate operator generate-root")
		return
	}
	a.say("\nthe server is initialized with %d key shares and a threshold of %d, and it is sealed", in.shares, in.threshold)
	if len(in.pgpKeys) > 0 {
		a.say("the shares are each encrypted to the key in the same place of -pgp-keys: whoever has its private key %s", decryptHint)
	}
	a.say("give each share to a different person; any %d of them unseal it: quorate operator unseal", in.threshold)
	a.say("the shares are kept nowhere: fewer than %d left means that the data can't be opened again", in.threshold)
	a.say("the same quorum makes a new root token when all are lost: quorate operator generate-root")
}

// keyFiles are OpenPGP public keys named by files, read while the flags are parsed, in base64 as the server wants them.
type keyFiles []string

func (k *keyFiles) String() string { return "" }

// Set implements flag.Value.
func (k *keyFiles) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		key, err := readPGPKey(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		*k = append(*k, key)
	}
	return nil
}
