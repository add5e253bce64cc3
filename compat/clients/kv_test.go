package clients

import (
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/quorate/quorate/compat/harness"
)

func mountKV(t *testing.T, c *client, path, version string) {
	t.Helper()
	succeed(t, c.sys.Mount(path, &bao.MountInput{Type: "kv", Options: map[string]string{"version": version}}))
}

func absent(err error) bool {
	return errors.Is(err, bao.ErrSecretNotFound) || errors.Is(err, vault.ErrSecretNotFound)
}

func holds(t *testing.T, got *bao.KVSecret, version int, want map[string]any) {
	t.Helper()
	if got.VersionMetadata == nil || got.VersionMetadata.Version != version || !reflect.DeepEqual(got.Data, want) {
		t.Errorf("got %+v of version %+v, want %v of version %d", got.Data, got.VersionMetadata, want, version)
	}
}

type object = map[string]any

func TestKVVersion1(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "old", "1")
		kv, ctx := c.kv1("old"), t.Context()
		if _, err := kv.Get(ctx, "app/db"); !absent(err) {
			t.Errorf("before the first write: %v", err)
		}
		value := object{"user": "app", "tags": []any{"a", "b"}, "deep": object{"x": true, "y": nil}}
		succeed(t, kv.Put(ctx, "app/db", value))
		succeed(t, kv.Put(ctx, "app", object{"leaf": "and folder", "ttl": "1h"}))
		if got := must[*bao.KVSecret](t)(kv.Get(ctx, "app/db")); !reflect.DeepEqual(got.Data, value) || got.Raw.LeaseDuration != 2764800 || got.Raw.LeaseID != "" {
			t.Errorf("got %+v, %+v", got.Data, got.Raw)
		}
		if got := must[*bao.KVSecret](t)(kv.Get(ctx, "app")); got.Raw.LeaseDuration != 3600 {
			t.Errorf("ttl: %d", got.Raw.LeaseDuration)
		}
		c.want(t, kv.Put(ctx, "empty", object{}), http.StatusBadRequest, "")
		if got := keys(must[*bao.Secret](t)(c.logical.List("old"))); !slices.Equal(got, []string{"app", "app/"}) {
			t.Errorf("list %q", got)
		}
		succeed(t, kv.Delete(ctx, "app/db"))
		succeed(t, kv.Delete(ctx, "app/db"))
		if _, err := kv.Get(ctx, "app/db"); !absent(err) {
			t.Errorf("after the deletion: %v", err)
		}
		if got := must[*bao.Secret](t)(c.logical.List("old/app")); got != nil {
			t.Errorf("an empty folder: %+v", got)
		}
	})
}

func TestKVVersion2Values(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "secret", "2")
		kv, ctx := c.kv2("secret"), t.Context()
		done := must[*bao.KVSecret](t)
		if _, err := kv.Get(ctx, "app/db"); !absent(err) {
			t.Errorf("before the first write: %v", err)
		}
		if _, err := kv.Patch(ctx, "app/db", object{"a": "b"}); !absent(err) {
			t.Errorf("a patch of nothing: %v", err)
		}
		first := object{"user": "app", "deep": object{"keep": "1", "drop": "2"}}
		if got := done(kv.Put(ctx, "app/db", first, bao.WithCheckAndSet(0))); got.VersionMetadata.Version != 1 || got.VersionMetadata.CreatedTime.IsZero() {
			t.Errorf("written: %+v", got.VersionMetadata)
		}
		_, err := kv.Put(ctx, "app/db", first, bao.WithCheckAndSet(0))
		c.want(t, err, http.StatusBadRequest, "check-and-set parameter did not match the current version")
		holds(t, done(kv.Get(ctx, "app/db")), 1, first)

		done(kv.Patch(ctx, "app/db", object{"user": "new", "deep": object{"drop": nil}}, bao.WithMergeMethod(bao.KVMergeMethodPatch), bao.WithCheckAndSet(1)))
		holds(t, done(kv.Get(ctx, "app/db")), 2, object{"user": "new", "deep": object{"keep": "1"}})
		_, err = kv.Patch(ctx, "app/db", object{"user": "late"}, bao.WithCheckAndSet(1))
		c.want(t, err, http.StatusBadRequest, "check-and-set")
		done(kv.Patch(ctx, "app/db", object{"host": "db1"}, bao.WithMergeMethod(bao.KVMergeMethodReadWrite)))
		holds(t, done(kv.Get(ctx, "app/db")), 3, object{"user": "new", "host": "db1", "deep": object{"keep": "1"}})
		holds(t, done(kv.GetVersion(ctx, "app/db", 1)), 1, first)
		if _, err := kv.GetVersion(ctx, "app/db", 9); !absent(err) {
			t.Errorf("a version of the future: %v", err)
		}
		if got := done(kv.Rollback(ctx, "app/db", 1)); got.VersionMetadata.Version != 4 {
			t.Errorf("rolled back: %+v", got.VersionMetadata)
		}
		holds(t, done(kv.Get(ctx, "app/db")), 4, first)

		sub := must[*bao.Secret](t)(c.logical.ReadWithData("secret/subkeys/app/db", map[string][]string{"depth": {"1"}}))
		if got := sub.Data["subkeys"]; !reflect.DeepEqual(got, object{"user": nil, "deep": nil}) {
			t.Errorf("subkeys: %v", got)
		}
	})
}

func TestKVVersion2Deletions(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "secret", "2")
		kv, ctx := c.kv2("secret"), t.Context()
		done := must[*bao.KVSecret](t)
		for _, v := range []string{"1", "2", "3"} {
			done(kv.Put(ctx, "a", object{"v": v}))
		}
		succeed(t, kv.Delete(ctx, "a"))
		got := done(kv.Get(ctx, "a"))
		if got.Data != nil || got.VersionMetadata.Version != 3 || got.VersionMetadata.DeletionTime.IsZero() || got.VersionMetadata.Destroyed {
			t.Errorf("deleted: %+v of %+v", got.Data, got.VersionMetadata)
		}
		succeed(t, kv.Undelete(ctx, "a", []int{3}))
		holds(t, done(kv.Get(ctx, "a")), 3, object{"v": "3"})
		succeed(t, kv.DeleteVersions(ctx, "a", []int{1}))
		succeed(t, kv.Destroy(ctx, "a", []int{2}))
		if got := done(kv.GetVersion(ctx, "a", 2)); got.Data != nil || !got.VersionMetadata.Destroyed {
			t.Errorf("destroyed: %+v of %+v", got.Data, got.VersionMetadata)
		}
		if _, err := kv.Rollback(ctx, "a", 2); err == nil {
			t.Error("rolled back to what is destroyed")
		}
		all := must[[]bao.KVVersionMetadata](t)(kv.GetVersionsAsList(ctx, "a"))
		if len(all) != 3 || all[0].DeletionTime.IsZero() || !all[1].Destroyed || !all[2].DeletionTime.IsZero() {
			t.Errorf("versions: %+v", all)
		}
		if got := done(kv.Put(ctx, "a", object{"v": "4"})); got.VersionMetadata.Version != 4 {
			t.Errorf("counted on: %+v", got.VersionMetadata)
		}
		succeed(t, kv.DeleteMetadata(ctx, "a"))
		succeed(t, kv.DeleteMetadata(ctx, "a"))
		if _, err := kv.Get(ctx, "a"); !absent(err) {
			t.Errorf("after all is gone: %v", err)
		}
		if _, err := kv.GetVersionsAsList(ctx, "a"); !absent(err) {
			t.Errorf("versions after all is gone: %v", err)
		}
	})
}

func TestKVVersion2Metadata(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		mountKV(t, c, "secret", "2")
		kv, ctx := c.kv2("secret"), t.Context()
		done, meta := must[*bao.KVSecret](t), must[*bao.KVMetadata](t)
		if _, err := kv.GetMetadata(ctx, "a"); !absent(err) {
			t.Errorf("before: %v", err)
		}
		owner := object{"owner": "team a"}
		succeed(t, kv.PutMetadata(ctx, "a", bao.KVMetadataPutInput{CASRequired: true, MaxVersions: 2, DeleteVersionAfter: time.Hour, CustomMetadata: owner}))
		_, err := kv.Put(ctx, "a", object{"v": "1"})
		c.want(t, err, http.StatusBadRequest, "check-and-set parameter required for this call")
		for i := range 3 {
			done(kv.Put(ctx, "a", object{"v": "x"}, bao.WithCheckAndSet(i)))
		}
		got := meta(kv.GetMetadata(ctx, "a"))
		versions := slices.Sorted(maps.Keys(got.Versions))
		if !got.CASRequired || got.MaxVersions != 2 || got.DeleteVersionAfter != time.Hour || !reflect.DeepEqual(got.CustomMetadata, owner) ||
			got.CurrentVersion != 3 || got.OldestVersion != 2 || !slices.Equal(versions, []string{"2", "3"}) || got.CreatedTime.IsZero() || got.UpdatedTime.Before(got.CreatedTime) {
			t.Errorf("metadata %+v", got)
		}
		if v := done(kv.Get(ctx, "a")); v.VersionMetadata.DeletionTime.IsZero() || v.Data == nil || !reflect.DeepEqual(v.CustomMetadata, owner) {
			t.Errorf("a version that will be deleted: %+v, %+v", v.VersionMetadata, v.CustomMetadata)
		}

		no, never := false, time.Duration(0)
		succeed(t, kv.PatchMetadata(ctx, "a", bao.KVMetadataPatchInput{CASRequired: &no, DeleteVersionAfter: &never, CustomMetadata: object{"owner": nil, "since": "2026"}}))
		got = meta(kv.GetMetadata(ctx, "a"))
		if got.CASRequired || got.MaxVersions != 2 || got.DeleteVersionAfter != 0 || !reflect.DeepEqual(got.CustomMetadata, object{"since": "2026"}) {
			t.Errorf("patched metadata %+v", got)
		}
		succeed(t, kv.PatchMetadata(ctx, "a", bao.KVMetadataPatchInput{CustomMetadata: object{}}))
		if got = meta(kv.GetMetadata(ctx, "a")); len(got.CustomMetadata) != 0 {
			t.Errorf("emptied: %+v", got.CustomMetadata)
		}
		if err := kv.PatchMetadata(ctx, "nothing", bao.KVMetadataPatchInput{CASRequired: &no}); err == nil {
			t.Error("patched the metadata of nothing")
		}
	})
}

// A mount's own configuration, and the two mistakes that everybody makes with version 2.
func TestKVVersion2Mount(t *testing.T) {
	eachClient(t, func(t *testing.T, _ *harness.Server, c *client) {
		succeed(t, c.sys.Mount("secret", &bao.MountInput{Type: "kv-v2"}))
		kv, ctx := c.kv2("secret"), t.Context()
		read := must[*bao.Secret](t)
		must[*bao.Secret](t)(c.logical.Write("secret/config", object{"max_versions": 1, "delete_version_after": "90m", "cas_required": true}))
		config := read(c.logical.Read("secret/config")).Data
		if config["cas_required"] != true || config["delete_version_after"] != "1h30m0s" || config["max_versions"].(interface{ String() string }).String() != "1" {
			t.Errorf("config %v", config)
		}
		for i := range 2 {
			must[*bao.KVSecret](t)(kv.Put(ctx, "app/a", object{"v": "1"}, bao.WithCheckAndSet(i)))
		}
		if got := must[*bao.KVMetadata](t)(kv.GetMetadata(ctx, "app/a")); got.OldestVersion != 2 || got.CurrentVersion != 2 || got.MaxVersions != 0 {
			t.Errorf("metadata %+v", got)
		}
		s, err := c.logical.Read("secret/app/a")
		if err != nil || s == nil || s.Data != nil || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "version") {
			t.Errorf("a path of version 1: %+v, %v", s, err)
		}
		_, err = c.logical.Write("secret/data/app/b", object{"v": "not below data"})
		c.want(t, err, http.StatusBadRequest, "no data provided")
		if got := keys(read(c.logical.List("secret/metadata/app"))); !slices.Equal(got, []string{"a"}) {
			t.Errorf("list %q", got)
		}
		if got := read(c.logical.List("secret/metadata/none")); got != nil {
			t.Errorf("no list: %+v", got)
		}
	})
}

// Pages, and lists with details, are the newer library's.
func TestBaoLists(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	c := newBao(t, s.URL).(baoLibrary).Client
	c.SetToken(s.Root)
	for mount, version := range map[string]string{"old": "1", "secret": "2"} {
		succeed(t, c.Sys().Mount(mount, &bao.MountInput{Type: "kv", Options: map[string]string{"version": version}}))
	}
	names := []string{"a", "b/x", "b/y", "c", "d"}
	for _, name := range names {
		succeed(t, c.KVv1("old").Put(t.Context(), name, object{"v": "1"}))
		must[*bao.KVSecret](t)(c.KVv2("secret").Put(t.Context(), name, object{"v": "1"}))
	}
	folder := []string{"a", "b/", "c", "d"}
	for _, list := range []*bao.KVList{
		must[*bao.KVList](t)(c.KVv1("old").List(t.Context(), "")),
		must[*bao.KVList](t)(c.KVv2("secret").List(t.Context(), "")),
	} {
		if !slices.Equal(list.Keys, folder) {
			t.Errorf("list %q", list.Keys)
		}
	}
	detailed := must[*bao.KVList](t)(c.KVv2("secret").ListWithDetails(t.Context(), ""))
	if !slices.Equal(detailed.Keys, folder) || detailed.Metadata["a"] == nil || detailed.Metadata["a"].CurrentVersion != 1 {
		t.Errorf("details %+v", detailed)
	}
	for _, path := range []string{"old", "secret/metadata"} {
		var all []string
		for after := ""; ; after = all[len(all)-1] {
			page := keys(must[*bao.Secret](t)(c.Logical().ListPage(path, after, 3)))
			if len(page) == 0 || len(page) > 3 {
				break
			}
			all = append(all, page...)
		}
		if !slices.Equal(all, folder) {
			t.Errorf("pages of %s: %q", path, all)
		}
	}
}
