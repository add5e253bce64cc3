package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/creachadair/command"
	"github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/internal/holder"
	"github.com/quorate/quorate/internal/secret"
)

// initialisation is the operator init command.
type initialisation struct {
	session
	shareSpec
	rootKey, rootAge []string
	rootTTL          durationText
	replace, status  bool
}

func (a *app) initCommand() *command.C {
	in := &initialisation{session: session{app: a}}
	c := &command.C{
		Name: "init", Usage: "[flags]",
		Help: `Initialize the server: make its keys, and split the unseal key among the key holders.

The shares and the initial root token are printed once, and kept nowhere. Where they were lost before the server was
unsealed for the first time, -replace makes new ones, on the server's own machine.

With -status: exit code 0 if the server is initialized, 2 if it isn't, 1 if it can't be asked.`,
	}
	in.shareSpec.flags(&c.Flags, "")
	c.Flags.Func("root-token-pgp-key", "`FILE` with an OpenPGP public key that the root token is encrypted to", each(&in.rootKey, readPGPKey))
	c.Flags.Func("root-token-age-recipients", "`FILE` with age public keys that the root token is encrypted to", each(&in.rootAge, readAgeRecipients))
	c.Flags.Var(&in.rootTTL, "root-token-ttl", "`DURATION` after which the root token expires; without it, the server's root_token_ttl applies")
	c.Flags.BoolVar(&in.replace, "replace", false, "make new keys in place of those of an earlier init, if nothing was unsealed with them yet")
	c.Flags.BoolVar(&in.status, "status", false, "only tell whether the server is initialized")
	return in.command(c, answers|byNobody, 0, 0, func(ctx context.Context, _ []string) error {
		if in.status {
			return in.tell(ctx)
		}
		return in.run(ctx)
	})
}

// tell tells whether the server is initialized.
func (in *initialisation) tell(ctx context.Context) error {
	done, err := in.client.Sys().InitStatusWithContext(ctx)
	if err != nil {
		return unasked("asking whether the server is initialized", err)
	}
	text := map[bool]string{true: "the server is initialized", false: "the server is not initialized"}[done]
	err = in.print(map[string]bool{"initialized": done}, func() string {
		in.say("%s", text)
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

	UnsealKeysArmoured []string `json:"unseal_keys_armoured"` // empty if they are encrypted, or the server isn't ours
	ClusterID          string   `json:"cluster_id,omitempty"`
	Generation         uint64   `json:"generation,omitempty"`

	labels []string
}

// check refuses what contradicts itself.
func (in *initialisation) check() error {
	switch {
	case len(in.rootKey) > 1:
		return localf("-root-token-pgp-key takes one file")
	case len(in.rootAge) > 1:
		return localf("-root-token-age-recipients takes one file")
	case len(in.rootKey) > 0 && len(in.rootAge) > 0:
		return localf("-root-token-pgp-key and -root-token-age-recipients exclude each other")
	}
	return in.shareSpec.check()
}

func (in *initialisation) run(ctx context.Context) error {
	if err := in.check(); err != nil {
		return err
	}
	// The format is checked before anything happens: the answer can't be had a second time.
	if _, err := in.out.format.resolve(); err != nil {
		return err
	}
	defer outlivePipe()()
	var resp struct {
		api.InitResponse
		ClusterID  string `json:"cluster_id"` // these two are ours
		Generation uint64 `json:"generation"`
	}
	if err := call(ctx, in.client, http.MethodPut, "sys/init", in.request(), &resp); err != nil {
		return in.again(asking("initializing", err))
	}
	result := initResult{
		UnsealKeysB64: resp.KeysB64, UnsealKeysHex: resp.Keys, UnsealShares: in.shares, UnsealThreshold: in.threshold,
		RecoveryKeysB64: []string{}, RecoveryKeysHex: []string{}, RootToken: resp.RootToken, ClusterID: resp.ClusterID, Generation: resp.Generation, labels: in.labels,
	}
	result.armour()
	if err := in.print(result, result.text); err != nil {
		return unprinted(err, "the server is initialized, but its key shares are lost: see to the output, then make new ones "+onceMore)
	}
	if n := len(resp.Keys); n != in.shares || len(resp.KeysB64) != n { // printed all the same: they are had once
		return &failure{code: exitServer, action: "initializing", err: fmt.Errorf("%d key shares were asked for, and the server answers with %d and %d", in.shares, n, len(resp.KeysB64))}
	}
	in.advise()
	return nil
}

// request is the body: that of stock clients, and our own field only where it is asked for.
func (in *initialisation) request() []byte {
	req := struct {
		api.InitRequest
		Replace bool     `json:"replace,omitempty"`
		Holders []string `json:"holders,omitempty"`
		Age     []string `json:"age_recipients,omitempty"`
		RootAge string   `json:"root_token_age_recipients,omitempty"`
		RootTTL string   `json:"root_token_ttl,omitempty"`
	}{
		InitRequest: api.InitRequest{SecretShares: in.shares, SecretThreshold: in.threshold, PGPKeys: in.pgpKeys},
		Replace:     in.replace, Holders: in.labels, Age: in.age, RootAge: strings.Join(in.rootAge, ""), RootTTL: string(in.rootTTL),
	}
	req.RootTokenPGPKey = strings.Join(in.rootKey, "")
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

// armour puts the shares into their armour, where they aren't encrypted and the server says what is needed for it.
func (r *initResult) armour() {
	list, err := armourEach(r.UnsealKeysB64, func(i int, raw secret.Bytes) ([]byte, error) {
		return holder.Armour{ClusterID: r.ClusterID, Generation: r.Generation, Slot: i + 1, Threshold: r.UnsealThreshold, Share: raw}.Encode()
	})
	if r.UnsealKeysArmoured = list; err != nil || list == nil {
		r.UnsealKeysArmoured = []string{}
	}
}

// text is the table format of init, which is no table.
func (r *initResult) text() string {
	keys := r.UnsealKeysB64
	if len(r.UnsealKeysArmoured) > 0 {
		keys = r.UnsealKeysArmoured
	}
	var b strings.Builder
	for i, key := range keys {
		if i < len(r.labels) {
			b.WriteString("# " + foldedLabel(r.labels[i]) + "\n")
		}
		fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, visible(key, ""))
	}
	fmt.Fprintf(&b, "\nInitial Root Token: %s\n", visible(r.RootToken, ""))
	return b.String()
}

func (in *initialisation) advise() {
	to, how := "", "" // the flag that says to whom the shares are encrypted, and how they are read
	switch {
	case len(in.pgpKeys) > 0:
		to, how = "-pgp-keys", decryptHint
	case len(in.age) > 0:
		to, how = "-age-recipients", ageHint
	}
	if in.shares == 1 {
		in.say("\nthe server is initialized with one key share, and it is sealed")
		if to != "" {
			in.say("the share is encrypted to the key of %s: whoever has its private key %s", to, how)
		}
		in.say("whoever has the share unseals it: quorate operator unseal")
		in.say("the share is kept nowhere: without it the data can't be opened again")
		in.say("the same share makes a new root token when all are lost: quorate operator generate-root")
		return
	}
	in.say("\nthe server is initialized with %d key shares and a threshold of %d, and it is sealed", in.shares, in.threshold)
	if to != "" {
		in.say("the shares are each encrypted to the key in the same place of %s: whoever has its private key %s", to, how)
	}
	in.say("give each share to a different person; any %d of them unseal it: quorate operator unseal", in.threshold)
	in.say("the shares are kept nowhere: fewer than %d left means that the data can't be opened again", in.threshold)
	in.say("the same quorum makes a new root token when all are lost: quorate operator generate-root")
}
