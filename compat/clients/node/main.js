'use strict';
// Drives an uninitialised server at VAULT_ADDR with node-vault, from its first day on. It ends with an error at the
// first thing that isn't as a user of the library expects it.

const assert = require('node:assert/strict');
const connect = require('node-vault');

const client = (token) => connect({ endpoint: process.env.VAULT_ADDR, token });

const refused = (promise, status, text = '') => assert.rejects(promise, (err) => {
    assert.equal(err.response && err.response.statusCode, status, `${err}`);
    assert.ok(err.message.includes(text), `${err.message} lacks ${text}`);
    return true;
});

async function initAndUnseal() {
    const stranger = client();
    assert.equal((await stranger.initialized()).initialized, false);
    const { keys, keys_base64: base64, root_token: token } = await stranger.init({ secret_shares: 3, secret_threshold: 2 });
    assert.equal(keys.length, 3);
    assert.equal((await stranger.status()).sealed, true);
    assert.equal((await stranger.unseal({ key: keys[0] })).progress, 1);
    assert.equal((await stranger.unseal({ key: base64[1] })).sealed, false);
    assert.equal((await stranger.health()).sealed, false);
    await refused(stranger.mounts(), 403, 'permission denied');
    return { root: client(token), keys };
}

async function mounts(root) {
    await root.mount({ mount_point: 'kv', type: 'kv', description: 'old', options: { version: '1' } });
    await root.mount({ mount_point: 'secret', type: 'kv', options: { version: '2' } });
    const list = await root.mounts();
    assert.equal(list['secret/'].options.version, '2');
    assert.equal(list.data['kv/'].description, 'old');
    await root.mount({ mount_point: 'gone', type: 'kv' });
    await root.unmount({ mount_point: 'gone' });
    await root.mount({ mount_point: 'from', type: 'kv' });
    await root.remount({ from: 'from', to: 'to' });
    assert.ok((await root.mounts())['to/']);
}

async function kv1(root) {
    await refused(root.read('kv/app'), 404);
    await root.write('kv/app', { user: 'app', nested: { list: [1, 'two', null] } });
    assert.deepEqual((await root.read('kv/app')).data, { user: 'app', nested: { list: [1, 'two', null] } });
    assert.deepEqual((await root.list('kv')).data.keys, ['app']);
    await root.delete('kv/app');
    await refused(root.list('kv'), 404);
}

async function kv2(root) {
    const written = await root.write('secret/data/app', { data: { user: 'app', old: 1 }, options: { cas: 0 } });
    assert.equal(written.data.version, 1);
    await refused(root.write('secret/data/app', { data: {}, options: { cas: 0 } }), 400, 'check-and-set');
    assert.equal((await root.update('secret/data/app', { data: { old: null, host: 'db' } })).data.version, 2);
    assert.deepEqual((await root.read('secret/data/app')).data.data, { user: 'app', host: 'db' });
    assert.deepEqual((await root.read('secret/data/app?version=1')).data.data, { user: 'app', old: 1 });
    await root.delete('secret/data/app');
    await assert.rejects(root.read('secret/data/app'), (err) => {
        assert.equal(err.response.statusCode, 404);
        assert.notEqual(err.response.body.data.metadata.deletion_time, '');
        return true;
    });
    await root.write('secret/undelete/app', { versions: [2] });
    await root.destroySecretVersions({ path: 'app', versions: [1] });
    const { versions } = (await root.read('secret/metadata/app')).data;
    assert.deepEqual([versions['1'].destroyed, versions['2'].destroyed], [true, false]);
    assert.deepEqual((await root.list('secret/metadata')).data.keys, ['app']);
}

async function policies(root) {
    await root.addPolicy({ name: 'app', rules: 'path "secret/data/app" { capabilities = ["read"] }' });
    assert.deepEqual((await root.policies()).policies.sort(), ['app', 'default', 'root']);
    assert.match((await root.getPolicy({ name: 'app' })).rules, /secret\/data\/app/);
    await refused(root.addPolicy({ name: 'bad', rules: 'path {' }), 400);
    await root.addPolicy({ name: 'gone', rules: '{"path":{"x":{"capabilities":["read"]}}}' });
    await root.removePolicy({ name: 'gone' });
    await refused(root.getPolicy({ name: 'gone' }), 404);
}

async function userpass(root) {
    await root.enableAuth({ mount_point: 'userpass', type: 'userpass', description: 'people' });
    assert.equal((await root.auths())['userpass/'].type, 'userpass');
    await root.write('auth/userpass/users/ann', { password: 'correct horse', policies: 'app' });
    await refused(client().userpassLogin({ username: 'ann', password: 'wrong' }), 400, 'invalid username or password');
    const ann = client();
    await ann.userpassLogin({ username: 'ann', password: 'correct horse' });
    assert.equal((await ann.read('secret/data/app')).data.data.user, 'app');
    await refused(ann.write('secret/data/app', { data: {} }), 403, 'permission denied');
    assert.deepEqual((await ann.tokenLookupSelf()).data.policies, ['app', 'default']);
    assert.ok((await ann.tokenRenewSelf({ increment: '1h' })).auth.renewable);
    await ann.tokenRevokeSelf();
    await refused(ann.tokenLookupSelf(), 403);
    await root.disableAuth({ mount_point: 'userpass' });
}

async function approle(root) {
    await root.enableAuth({ mount_point: 'approle', type: 'approle' });
    await root.addApproleRole({ role_name: 'web', policies: 'app', token_ttl: 600 });
    assert.deepEqual((await root.approleRoles()).data.keys, ['web']);
    const { role_id: role } = (await root.getApproleRoleId({ role_name: 'web' })).data;
    const { secret_id: secret, secret_id_accessor: accessor } = (await root.getApproleRoleSecret({ role_name: 'web' })).data;
    const app = client();
    const { auth } = await app.approleLogin({ role_id: role, secret_id: secret });
    assert.equal(auth.lease_duration, 600);
    assert.equal((await app.read('secret/data/app')).data.data.user, 'app');
    assert.deepEqual((await root.approleSecretAccessors({ role_name: 'web' })).data.keys, [accessor]);
    assert.equal((await root.approleSecretLookup({ role_name: 'web', secret_id: secret })).data.secret_id_accessor, accessor);
    await root.approleSecretAccessorDestroy({ role_name: 'web', secret_id_accessor: accessor });
    await refused(client().approleLogin({ role_id: role, secret_id: secret }), 400);
}

async function tokensAndLeases(root) {
    const maker = client(root.token); // becomes what it creates
    await root.addTokenRole({ role_name: 'job', allowed_policies: 'app', orphan: true });
    assert.deepEqual((await root.tokenRoles()).data.keys, ['job']);
    const { auth } = await maker.tokenCreateRole({ role_name: 'job', policies: ['app'], ttl: '5m' });
    assert.equal(auth.orphan, true);
    assert.equal((await root.tokenLookupAccessor({ accessor: auth.accessor })).data.role, 'job');
    const { keys } = (await root.list('sys/leases/lookup/auth/token/create/job')).data;
    const lease = `auth/token/create/job/${keys[0]}`;
    assert.equal((await root.write('sys/leases/lookup', { lease_id: lease })).data.id, lease);
    await root.renew({ lease_id: lease, increment: 600 });
    await root.revoke({ lease_id: lease });
    await refused(root.tokenLookup({ token: auth.client_token }), 403);
    const made = await client(root.token).tokenCreate({ policies: ['default'] });
    await root.revokePrefix({ path_prefix: 'auth/token/create' });
    await refused(root.tokenLookup({ token: made.auth.client_token }), 403);
}

async function wrapping(root) {
    const wrapped = await root.read('secret/data/app', { headers: { 'X-Vault-Wrap-TTL': '60s' } });
    assert.equal(wrapped.data, null);
    const { token } = wrapped.wrap_info;
    assert.equal((await client(token).unwrap()).data.data.user, 'app');
    await refused(client(token).unwrap(), 400, 'wrapping token is not valid');
    const again = await root.write('sys/wrapping/wrap', { note: 'for you' }, { headers: { 'X-Vault-Wrap-TTL': 60 } });
    assert.equal((await root.unwrap({ token: again.wrap_info.token })).data.note, 'for you');
}

async function generateRoot(root, keys) {
    const idle = await root.read('sys/generate-root/attempt');
    assert.deepEqual([idle.started, idle.progress, idle.required], [false, 0, 2]);
    const started = await client().generateRootInit();
    assert.equal(started.started, true);
    await client().generateRootCancel();
    const { nonce, otp } = await client().generateRootInit();
    assert.equal((await client().generateRootUpdate({ key: keys[0], nonce })).progress, 1);
    assert.equal((await root.read('sys/generate-root/attempt')).progress, 1);
    const done = await client().generateRootUpdate({ key: keys[2], nonce });
    assert.equal(done.complete, true);
    const token = Buffer.from(done.encoded_token, 'base64').map((b, i) => b ^ otp.charCodeAt(i)).toString('latin1');
    assert.deepEqual((await client(token).tokenLookupSelf()).data.policies, ['root']);
}

async function seal(root) {
    await root.stepDown();
    await root.seal();
    assert.equal((await client().status()).sealed, true);
    await refused(root.read('secret/data/app'), 503, 'sealed');
}

async function main() {
    const { root, keys } = await initAndUnseal();
    const parts = [mounts, kv1, kv2, policies, userpass, approle, tokensAndLeases, wrapping, generateRoot, seal];
    for (const part of parts) {
        try {
            await part(root, keys);
        } catch (err) {
            console.error(`${part.name}: ${err.stack}`);
            process.exitCode = 1;
        }
    }
}

main().catch((err) => {
    console.error(err.stack);
    process.exitCode = 1;
});
