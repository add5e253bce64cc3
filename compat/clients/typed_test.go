package clients

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

// client is what applications use of a Go client library: its own typed functions. Where the libraries' types have
// different names, those here are the newer library's.
type client struct {
	sys     system
	tokens  tokens
	logical logical
	kv1     func(mount string) kv1
	kv2     func(mount string) kv2

	login    func(method) (*bao.Secret, error) // the client then has the token
	setToken func(string)
	token    func() string
	wrapping func(func(operation, path string) string)
	watch    func(*bao.LifetimeWatcherInput) (*watcher, error)
	retries  func(int)
	failure  func(error) (code int, message string)
	fresh    func() *client // another one for the same server, without a token
}

type system interface {
	PutPolicy(name, rules string) error
	GetPolicy(name string) (string, error)
	ListPolicies() ([]string, error)
	DeletePolicy(name string) error
	Capabilities(token, path string) ([]string, error)
	CapabilitiesSelf(path string) ([]string, error)

	Mount(path string, info *bao.MountInput) error
	Unmount(path string) error
	Remount(from, to string) error
	ListMounts() (map[string]*bao.MountOutput, error)
	TuneMount(path string, config bao.MountConfigInput) error
	MountConfig(path string) (*bao.MountConfigOutput, error)
	MountInfo(path string) (*bao.MountOutput, error)

	EnableAuth(path, authType, desc string) error
	EnableAuthWithOptions(path string, options *bao.EnableAuthOptions) error
	ListAuth() (map[string]*bao.AuthMount, error)
	DisableAuth(path string) error

	EnableAuditWithOptions(path string, options *bao.EnableAuditOptions) error
	ListAudit() (map[string]*bao.Audit, error)
	DisableAudit(path string) error
	AuditHash(path, input string) (string, error)

	Lookup(id string) (*bao.Secret, error)
	Renew(id string, increment int) (*bao.Secret, error)
	Revoke(id string) error
	RevokePrefix(id string) error
	RevokeForce(id string) error
	RevokeWithOptions(*bao.RevokeOptions) error

	CORSStatus() (*bao.CORSResponse, error)
	ConfigureCORS(*bao.CORSRequest) error
	DisableCORS() error
}

type tokens interface {
	Create(*bao.TokenCreateRequest) (*bao.Secret, error)
	CreateOrphan(*bao.TokenCreateRequest) (*bao.Secret, error)
	CreateWithRole(r *bao.TokenCreateRequest, role string) (*bao.Secret, error)
	Lookup(token string) (*bao.Secret, error)
	LookupAccessor(accessor string) (*bao.Secret, error)
	LookupSelf() (*bao.Secret, error)
	Renew(token string, increment int) (*bao.Secret, error)
	RenewAccessor(accessor string, increment int) (*bao.Secret, error)
	RenewSelf(increment int) (*bao.Secret, error)
	RevokeAccessor(accessor string) error
	RevokeOrphan(token string) error
	RevokeSelf(token string) error
	RevokeTree(token string) error
}

type logical interface {
	Read(path string) (*bao.Secret, error)
	ReadWithData(path string, query map[string][]string) (*bao.Secret, error)
	List(path string) (*bao.Secret, error)
	Write(path string, data map[string]any) (*bao.Secret, error)
	Delete(path string) (*bao.Secret, error)
	Unwrap(token string) (*bao.Secret, error)
}

type kv1 interface {
	Get(ctx context.Context, path string) (*bao.KVSecret, error)
	Put(ctx context.Context, path string, data map[string]any) error
	Delete(ctx context.Context, path string) error
}

type kv2 interface {
	Get(ctx context.Context, path string) (*bao.KVSecret, error)
	GetVersion(ctx context.Context, path string, version int) (*bao.KVSecret, error)
	GetVersionsAsList(ctx context.Context, path string) ([]bao.KVVersionMetadata, error)
	GetMetadata(ctx context.Context, path string) (*bao.KVMetadata, error)
	Put(ctx context.Context, path string, data map[string]any, o ...bao.KVOption) (*bao.KVSecret, error)
	PutMetadata(ctx context.Context, path string, m bao.KVMetadataPutInput) error
	Patch(ctx context.Context, path string, data map[string]any, o ...bao.KVOption) (*bao.KVSecret, error)
	PatchMetadata(ctx context.Context, path string, m bao.KVMetadataPatchInput) error
	Delete(ctx context.Context, path string) error
	DeleteVersions(ctx context.Context, path string, versions []int) error
	DeleteMetadata(ctx context.Context, path string) error
	Undelete(ctx context.Context, path string, versions []int) error
	Destroy(ctx context.Context, path string, versions []int) error
	Rollback(ctx context.Context, path string, version int) (*bao.KVSecret, error)
}

// method is a login as both libraries' packages for auth methods make it: a write to a path.
type method struct {
	path string
	data map[string]any
}

type watcher struct {
	start, stop func()
	renewed     func() *bao.Secret // waits for the next renewal; nil after the last
}

func eachClient(t *testing.T, fn func(t *testing.T, s *harness.Server, root *client)) {
	eachClientOf(t, func(t *testing.T) *harness.Server { return harness.Start(t, harness.Options{}) }, fn)
}

// oneNode starts a server for what each process has for itself.
func oneNode(t *testing.T) *harness.Server { return harness.Start(t, harness.Options{OneNode: true}) }

func eachClientOf(t *testing.T, start func(*testing.T) *harness.Server, fn func(*testing.T, *harness.Server, *client)) {
	for name, open := range map[string]func(*testing.T, string) *client{"openbao": baoClient, "vault": vaultClient} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			c := open(t, s.URL)
			c.setToken(s.Root)
			fn(t, s, c)
		})
	}
}

func baoClient(t *testing.T, url string) *client {
	c := newBao(t, url).(baoLibrary).Client
	return &client{
		sys: c.Sys(), tokens: c.Auth().Token(), logical: c.Logical(),
		kv1:      func(mount string) kv1 { return c.KVv1(mount) },
		kv2:      func(mount string) kv2 { return c.KVv2(mount) },
		login:    func(m method) (*bao.Secret, error) { return c.Auth().Login(t.Context(), baoMethod(m)) },
		setToken: c.SetToken, token: c.Token, retries: c.SetMaxRetries,
		wrapping: func(fn func(op, path string) string) { c.SetWrappingLookupFunc(fn) },
		watch: func(in *bao.LifetimeWatcherInput) (*watcher, error) {
			w, err := c.NewLifetimeWatcher(in)
			if err != nil {
				return nil, err
			}
			return &watcher{w.Start, w.Stop, func() *bao.Secret {
				select {
				case r := <-w.RenewCh():
					return r.Secret
				case <-w.DoneCh():
					return nil
				}
			}}, nil
		},
		failure: func(err error) (int, string) {
			var r *bao.ResponseError
			if !errors.As(err, &r) {
				return 0, fmt.Sprint(err)
			}
			return r.StatusCode, strings.Join(r.Errors, "; ")
		},
		fresh: func() *client { return baoClient(t, url) },
	}
}

type baoMethod method

func (m baoMethod) Login(ctx context.Context, c *bao.Client) (*bao.Secret, error) {
	return c.Logical().WriteWithContext(ctx, m.path, m.data)
}

// want demands that err is a refusal with that status, whose text holds part.
func (c *client) want(t *testing.T, err error, code int, part string) {
	t.Helper()
	if got, text := c.failure(err); got != code || !strings.Contains(text, part) {
		t.Errorf("got %d %q, want %d with %q", got, text, code, part)
	}
}

// must is what a call answered, which has to succeed.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keys are the names in a listing, nil without one.
func keys(s *bao.Secret) []string {
	if s == nil {
		return nil
	}
	return texts(s.Data["keys"])
}

func texts(list any) []string {
	var all []string
	for _, v := range list.([]any) {
		all = append(all, v.(string))
	}
	return all
}
