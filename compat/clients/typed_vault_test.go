package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"
)

func vaultClient(t *testing.T, url string) *client {
	c := newVault(t, url).(vaultLibrary).Client
	return &client{
		sys: vaultSystem{c.Sys()}, tokens: vaultTokens{c.Auth().Token()}, logical: vaultLogical{c.Logical()},
		kv1: func(mount string) kv1 { return vaultKV1{c.KVv1(mount)} },
		kv2: func(mount string) kv2 { return vaultKV2{c.KVv2(mount)} },
		login: func(m method) (*bao.Secret, error) {
			return like[*bao.Secret](c.Auth().Login(t.Context(), vaultMethod(m)))
		},
		setToken: c.SetToken, token: c.Token, retries: c.SetMaxRetries,
		wrapping: func(fn func(op, path string) string) { c.SetWrappingLookupFunc(fn) },
		watch: func(in *bao.LifetimeWatcherInput) (*watcher, error) {
			w, err := c.NewLifetimeWatcher(of[*vault.LifetimeWatcherInput](in))
			if err != nil {
				return nil, err
			}
			return &watcher{w.Start, w.Stop, func() *bao.Secret {
				select {
				case r := <-w.RenewCh():
					return of[*bao.Secret](r.Secret)
				case <-w.DoneCh():
					return nil
				}
			}}, nil
		},
		failure: func(err error) (int, string) {
			var r *vault.ResponseError
			if !errors.As(err, &r) {
				return 0, fmt.Sprint(err)
			}
			return r.StatusCode, strings.Join(r.Errors, "; ")
		},
		fresh: func() *client { return vaultClient(t, url) },
	}
}

type vaultMethod method

func (m vaultMethod) Login(ctx context.Context, c *vault.Client) (*vault.Secret, error) {
	return c.Logical().WriteWithContext(ctx, m.path, m.data)
}

// like is what one library answered, in the type of the other that has the same fields.
func like[T any](v any, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return of[T](v), nil
}

func of[T any](v any) (same T) {
	b, err := json.Marshal(v)
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		err = d.Decode(&same)
	}
	if err != nil {
		panic(err) // the libraries' types drifted apart
	}
	return same
}

type vaultSystem struct{ *vault.Sys }

func (s vaultSystem) Mount(path string, info *bao.MountInput) error {
	return s.Sys.Mount(path, of[*vault.MountInput](info))
}

func (s vaultSystem) ListMounts() (map[string]*bao.MountOutput, error) {
	return like[map[string]*bao.MountOutput](s.Sys.ListMounts())
}

func (s vaultSystem) TuneMount(path string, config bao.MountConfigInput) error {
	//lint:ignore SA1019 people use the older function too
	return s.Sys.TuneMount(path, of[vault.MountConfigInput](config))
}

func (s vaultSystem) MountConfig(path string) (*bao.MountConfigOutput, error) {
	return like[*bao.MountConfigOutput](s.Sys.MountConfig(path))
}

func (s vaultSystem) MountInfo(path string) (*bao.MountOutput, error) {
	return like[*bao.MountOutput](s.GetMount(path))
}

func (s vaultSystem) EnableAuthWithOptions(path string, o *bao.EnableAuthOptions) error {
	return s.Sys.EnableAuthWithOptions(path, of[*vault.EnableAuthOptions](o))
}

func (s vaultSystem) ListAuth() (map[string]*bao.AuthMount, error) {
	return like[map[string]*bao.AuthMount](s.Sys.ListAuth())
}

func (s vaultSystem) EnableAuditWithOptions(path string, o *bao.EnableAuditOptions) error {
	return s.Sys.EnableAuditWithOptions(path, of[*vault.EnableAuditOptions](o))
}

func (s vaultSystem) ListAudit() (map[string]*bao.Audit, error) {
	return like[map[string]*bao.Audit](s.Sys.ListAudit())
}

func (s vaultSystem) Lookup(id string) (*bao.Secret, error) {
	return like[*bao.Secret](s.Sys.Lookup(id))
}

func (s vaultSystem) Renew(id string, increment int) (*bao.Secret, error) {
	return like[*bao.Secret](s.Sys.Renew(id, increment))
}

func (s vaultSystem) RevokeWithOptions(o *bao.RevokeOptions) error {
	return s.Sys.RevokeWithOptions(of[*vault.RevokeOptions](o))
}

func (s vaultSystem) CORSStatus() (*bao.CORSResponse, error) {
	return like[*bao.CORSResponse](s.Sys.CORSStatus())
}

func (s vaultSystem) ConfigureCORS(r *bao.CORSRequest) error {
	return s.Sys.ConfigureCORS(of[*vault.CORSRequest](r))
}

type vaultTokens struct{ *vault.TokenAuth }

func (a vaultTokens) Create(r *bao.TokenCreateRequest) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.Create(of[*vault.TokenCreateRequest](r)))
}

func (a vaultTokens) CreateOrphan(r *bao.TokenCreateRequest) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.CreateOrphan(of[*vault.TokenCreateRequest](r)))
}

func (a vaultTokens) CreateWithRole(r *bao.TokenCreateRequest, role string) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.CreateWithRole(of[*vault.TokenCreateRequest](r), role))
}

func (a vaultTokens) Lookup(token string) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.Lookup(token))
}

func (a vaultTokens) LookupAccessor(accessor string) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.LookupAccessor(accessor))
}

func (a vaultTokens) LookupSelf() (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.LookupSelf())
}

func (a vaultTokens) Renew(token string, increment int) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.Renew(token, increment))
}

func (a vaultTokens) RenewAccessor(accessor string, increment int) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.RenewAccessor(accessor, increment))
}

func (a vaultTokens) RenewSelf(increment int) (*bao.Secret, error) {
	return like[*bao.Secret](a.TokenAuth.RenewSelf(increment))
}

type vaultLogical struct{ *vault.Logical }

func (l vaultLogical) Read(path string) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.Read(path))
}

func (l vaultLogical) ReadWithData(path string, query map[string][]string) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.ReadWithData(path, query))
}

func (l vaultLogical) List(path string) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.List(path))
}

func (l vaultLogical) Write(path string, data map[string]any) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.Write(path, data))
}

func (l vaultLogical) Delete(path string) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.Delete(path))
}

func (l vaultLogical) Unwrap(token string) (*bao.Secret, error) {
	return like[*bao.Secret](l.Logical.Unwrap(token))
}

type vaultKV1 struct{ *vault.KVv1 }

func (k vaultKV1) Get(ctx context.Context, path string) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv1.Get(ctx, path))
}

type vaultKV2 struct{ *vault.KVv2 }

func vaultOptions(list []bao.KVOption) []vault.KVOption {
	var all []vault.KVOption
	for _, o := range list {
		all = append(all, vault.KVOption(o))
	}
	return all
}

func (k vaultKV2) Get(ctx context.Context, path string) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv2.Get(ctx, path))
}

func (k vaultKV2) GetVersion(ctx context.Context, path string, version int) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv2.GetVersion(ctx, path, version))
}

func (k vaultKV2) GetVersionsAsList(ctx context.Context, path string) ([]bao.KVVersionMetadata, error) {
	return like[[]bao.KVVersionMetadata](k.KVv2.GetVersionsAsList(ctx, path))
}

func (k vaultKV2) GetMetadata(ctx context.Context, path string) (*bao.KVMetadata, error) {
	return like[*bao.KVMetadata](k.KVv2.GetMetadata(ctx, path))
}

func (k vaultKV2) Put(ctx context.Context, path string, data map[string]any, o ...bao.KVOption) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv2.Put(ctx, path, data, vaultOptions(o)...))
}

func (k vaultKV2) PutMetadata(ctx context.Context, path string, m bao.KVMetadataPutInput) error {
	return k.KVv2.PutMetadata(ctx, path, vault.KVMetadataPutInput(m))
}

func (k vaultKV2) Patch(ctx context.Context, path string, data map[string]any, o ...bao.KVOption) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv2.Patch(ctx, path, data, vaultOptions(o)...))
}

func (k vaultKV2) PatchMetadata(ctx context.Context, path string, m bao.KVMetadataPatchInput) error {
	return k.KVv2.PatchMetadata(ctx, path, vault.KVMetadataPatchInput(m))
}

func (k vaultKV2) Rollback(ctx context.Context, path string, version int) (*bao.KVSecret, error) {
	return like[*bao.KVSecret](k.KVv2.Rollback(ctx, path, version))
}
