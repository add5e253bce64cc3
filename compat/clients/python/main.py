"""Drives an uninitialised server at VAULT_ADDR with hvac, from its first day on.

It ends with an error at whatever isn't as a user of the library expects it. It runs with hvac 0.11 and later.
"""

import base64
import os
import sys
import traceback

import hvac
from hvac import exceptions


def client(token=None):
    return hvac.Client(url=os.environ["VAULT_ADDR"], token=token)


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def refused(kind, text, call, *args, **named):
    try:
        got = call(*args, **named)
    except kind as err:
        if text not in str(err):
            raise AssertionError(f"{err} lacks {text!r}") from err
        return err
    raise AssertionError(f"not refused: {got!r}")


def init_and_unseal():
    stranger = client("")
    same(stranger.sys.is_initialized(), False)
    same(stranger.sys.read_health_status().status_code, 501)
    made = stranger.sys.initialize(secret_shares=3, secret_threshold=2)
    same(len(made["keys"]), 3)
    same(stranger.sys.is_sealed(), True)
    same(stranger.sys.submit_unseal_key(made["keys"][0])["progress"], 1)
    same(stranger.sys.submit_unseal_key(made["keys_base64"][1])["sealed"], False)
    same(stranger.sys.read_health_status().status_code, 200)
    same(stranger.sys.read_leader_status()["ha_enabled"], False)
    same(stranger.is_authenticated(), False)
    root = client(made["root_token"])
    same(root.is_authenticated(), True)
    return root, made["keys"]


def mounts(root, _):
    root.sys.enable_secrets_engine("kv", path="kv", description="old", options={"version": "1"})
    root.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    listed = root.sys.list_mounted_secrets_engines()
    same(listed["secret/"]["options"], {"version": "2"})
    same(listed["data"]["kv/"]["description"], "old")
    same(root.sys.retrieve_mount_option("secret", "version"), "2")
    root.sys.tune_mount_configuration("kv", default_lease_ttl="1h", max_lease_ttl="2h")
    same(root.sys.read_mount_configuration("kv")["data"]["max_lease_ttl"], 7200)
    root.sys.enable_secrets_engine("kv", path="from")
    root.sys.move_backend("from", "to")
    root.sys.disable_secrets_engine("to")
    refused(exceptions.InvalidRequest, "already in use", root.sys.enable_secrets_engine, "kv", path="secret")


def kv1(root, _):
    kv = root.secrets.kv.v1
    refused(exceptions.InvalidPath, "", kv.read_secret, "app", mount_point="kv")
    kv.create_or_update_secret("app", {"user": "app", "list": [1, None]}, mount_point="kv")
    same(kv.read_secret("app", mount_point="kv")["data"], {"user": "app", "list": [1, None]})
    same(kv.list_secrets("", mount_point="kv")["data"]["keys"], ["app"])
    kv.delete_secret("app", mount_point="kv")
    refused(exceptions.InvalidPath, "", kv.list_secrets, "", mount_point="kv")


def kv2(root, _):
    kv = root.secrets.kv.v2
    kv.configure(max_versions=5, cas_required=False)
    same(kv.read_configuration()["data"]["max_versions"], 5)
    same(kv.create_or_update_secret("app", {"user": "app", "n": 1}, cas=0)["data"]["version"], 1)
    refused(exceptions.InvalidRequest, "check-and-set", kv.create_or_update_secret, "app", {}, cas=0)
    kv.patch("app", {"host": "db"})
    same(kv.read_secret_version("app")["data"]["data"], {"user": "app", "n": 1, "host": "db"})
    same(kv.read_secret_version("app", version=1)["data"]["data"], {"user": "app", "n": 1})
    kv.delete_latest_version_of_secret("app")
    refused(exceptions.InvalidPath, "", kv.read_secret_version, "app")
    kv.undelete_secret_versions("app", [2])
    kv.delete_secret_versions("app", [1])
    kv.destroy_secret_versions("app", [1])
    kv.update_metadata("app", max_versions=3, cas_required=True)
    metadata = kv.read_secret_metadata("app")["data"]
    same((metadata["current_version"], metadata["max_versions"], metadata["versions"]["1"]["destroyed"]), (2, 3, True))
    refused(exceptions.InvalidRequest, "check-and-set parameter required", kv.create_or_update_secret, "app", {})
    kv.create_or_update_secret("gone/a", {"x": "y"})
    same(kv.list_secrets("")["data"]["keys"], ["app", "gone/"])
    kv.delete_metadata_and_all_versions("gone/a")
    refused(exceptions.InvalidPath, "", kv.list_secrets, "gone")


def policies(root, _):
    root.sys.create_or_update_policy("app", 'path "secret/data/app" { capabilities = ["read"] }')
    root.sys.create_or_update_policy("gone", {"path": {"secret/*": {"capabilities": ["list"]}}})
    same(root.sys.list_policies()["data"]["policies"], ["app", "default", "gone", "root"])
    same("secret/data/app" in root.sys.read_policy("app")["data"]["rules"], True)
    root.sys.delete_policy("gone")
    refused(exceptions.InvalidPath, "", root.sys.read_policy, "gone")
    refused(exceptions.InvalidRequest, "", root.sys.create_or_update_policy, "bad", "path {")
    made = root.auth.token.create(policies=["app"], ttl="1h")["auth"]
    asked = root.sys.get_capabilities(["secret/data/app", "secret/data/b"], accessor=made["accessor"])["data"]
    same((asked["secret/data/app"], asked["secret/data/b"]), (["read"], ["deny"]))
    user = client(made["client_token"])
    same(user.sys.get_capabilities(["secret/data/app"])["data"]["capabilities"], ["read"])
    refused(exceptions.Forbidden, "permission denied", user.sys.list_mounted_secrets_engines)


def userpass(root, _):
    root.sys.enable_auth_method("userpass", description="people")
    same(root.sys.list_auth_methods()["userpass/"]["type"], "userpass")
    root.sys.tune_auth_method("userpass", default_lease_ttl="20m", max_lease_ttl="1h")
    same(root.sys.read_auth_method_tuning("userpass")["data"]["default_lease_ttl"], 1200)
    people = root.auth.userpass
    people.create_or_update_user("ann", password="correct horse", policies="app")
    same(people.read_user("ann")["data"]["token_policies"], ["app"])
    same(people.list_user()["data"]["keys"], ["ann"])
    ann = client("")
    refused(exceptions.InvalidRequest, "invalid username or password", ann.auth.userpass.login, "ann", "wrong")
    same(ann.auth.userpass.login("ann", "correct horse")["auth"]["lease_duration"], 1200)
    same(ann.secrets.kv.v2.read_secret_version("app")["data"]["data"]["user"], "app")
    refused(exceptions.Forbidden, "permission denied", ann.secrets.kv.v2.create_or_update_secret, "app", {})
    people.update_password_on_user("ann", "battery staple")
    same(ann.auth.userpass.login("ann", "battery staple")["auth"]["metadata"]["username"], "ann")
    ann.logout(revoke_token=True)
    people.delete_user("ann")
    root.sys.disable_auth_method("userpass")


def approle(root, _):
    root.sys.enable_auth_method("approle")
    roles = root.auth.approle
    roles.create_or_update_approle("web", token_policies=["app"], token_ttl="10m", secret_id_num_uses=5)
    same(roles.read_role("web")["data"]["token_policies"], ["app"])
    same(roles.list_roles()["data"]["keys"], ["web"])
    role = roles.read_role_id("web")["data"]["role_id"]
    made = roles.generate_secret_id("web", metadata={"host": "web1"})["data"]
    plain = roles.generate_secret_id("web")["data"]
    app = client("")
    auth = app.auth.approle.login(role, made["secret_id"])["auth"]
    same((auth["lease_duration"], auth["metadata"]["host"]), (600, "web1"))
    same(app.secrets.kv.v2.read_secret_version("app")["data"]["data"]["user"], "app")
    same(roles.read_secret_id("web", plain["secret_id"])["data"]["secret_id_num_uses"], 5)
    same(len(roles.list_secret_id_accessors("web")["data"]["keys"]), 2)
    roles.destroy_secret_id_accessor("web", made["secret_id_accessor"])
    refused(exceptions.InvalidPath, "", roles.read_secret_id_accessor, "web", made["secret_id_accessor"])
    refused(exceptions.InvalidRequest, "invalid role or secret", app.auth.approle.login, role, made["secret_id"])
    roles.update_role_id("web", "web")
    roles.create_custom_secret_id("web", "of our own making")
    app.auth.approle.login("web", "of our own making")
    roles.delete_role("web")


def tokens_and_leases(root, _):
    root.auth.token.create_or_update_role("job", allowed_policies=["app"], orphan=True)
    same(root.auth.token.list_roles()["data"]["keys"], ["job"])
    made = root.auth.token.create(policies=["app"], role_name="job", ttl="5m")["auth"]
    same(root.auth.token.lookup_accessor(made["accessor"])["data"]["role"], "job")
    prefix = "auth/token/create/job/"
    lease = prefix + root.sys.list_leases(prefix)["data"]["keys"][0]
    same(root.sys.read_lease(lease)["data"]["id"], lease)
    root.sys.renew_lease(lease, increment=600)
    same(root.auth.token.renew(made["client_token"], increment="15m")["auth"]["lease_duration"], 900)
    root.sys.revoke_lease(lease)
    refused(exceptions.Forbidden, "bad token", root.auth.token.lookup, made["client_token"])
    other = root.auth.token.create(policies=["default"])["auth"]
    root.sys.revoke_prefix("auth/token/create")
    refused(exceptions.Forbidden, "permission denied", client(other["client_token"]).auth.token.lookup_self)
    root.auth.token.delete_role("job")
    root.auth.token.tidy()


def wrapping(root, _):
    wrapped = root.read("secret/data/app", wrap_ttl="60s")
    same((wrapped["data"], wrapped["wrap_info"]["ttl"]), (None, 60))
    token = wrapped["wrap_info"]["token"]
    same(client(token).sys.unwrap()["data"]["data"]["user"], "app")
    refused(exceptions.InvalidRequest, "wrapping token is not valid", client(token).sys.unwrap)
    again = root.write("sys/wrapping/wrap", wrap_ttl="60s", note="for you")
    same(root.sys.unwrap(again["wrap_info"]["token"])["data"]["note"], "for you")
    made = root.auth.token.create(policies=["default"], wrap_ttl="60s")
    inside = client(made["wrap_info"]["token"]).sys.unwrap()
    same(client(inside["auth"]["client_token"]).is_authenticated(), True)


def generate_root(root, keys):
    idle = root.sys.read_root_generation_progress()
    same((idle["started"], idle["progress"], idle["required"]), (False, 0, 2))
    stranger = client("")
    started = stranger.sys.start_root_token_generation()
    same(started["started"], True)
    same(stranger.sys.generate_root(keys[0], started["nonce"])["progress"], 1)
    stranger.sys.cancel_root_generation()
    started = stranger.sys.start_root_token_generation()
    stranger.sys.generate_root(keys[2], started["nonce"])
    done = stranger.sys.generate_root(keys[0], started["nonce"])
    same(done["complete"], True)
    encoded = base64.b64decode(done["encoded_token"] + "==")
    token = bytes(a ^ b for a, b in zip(encoded, started["otp"].encode())).decode()
    same(client(token).auth.token.lookup_self()["data"]["policies"], ["root"])


def seal(root, _):
    root.sys.step_down()
    root.sys.seal()
    same(root.sys.is_sealed(), True)
    same(root.sys.read_health_status().status_code, 503)
    refused(exceptions.VaultDown, "sealed", root.read, "secret/data/app")


def main():
    root, keys = init_and_unseal()
    parts = [mounts, kv1, kv2, policies, userpass, approle, tokens_and_leases, wrapping, generate_root, seal]
    failed = False
    for part in parts:
        try:
            part(root, keys)
        except Exception:
            traceback.print_exc()
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
