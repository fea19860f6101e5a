// OCI image: a registry stores it, and Envoy loads what was pulled. All servers are on loopback.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { startEnvoy } from '../tests/envoy/parts/envoy.mjs';
import { until } from '../tests/envoy/parts/until.mjs';
import { bootstrap, cluster, listener, wasmFilter } from './envoy-config.mjs';

const run = promisify(execFile);
const checkout = fileURLToPath(new URL('..', import.meta.url));
const image = join(checkout, 'target/oci');
const module = readFileSync(join(checkout, 'target/onbehalf.wasm'));
const work = mkdtempSync(join(tmpdir(), 'onbehalf-oci-'));
after(() => rmSync(work, { recursive: true, force: true }));

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));
const blobPath = (layout, digest) => join(layout, 'blobs', ...digest.split(':'));

/** Parts of an image layout with one image; each blob is checked against its digest and size. */
function open(layout) {
  assert.deepEqual(readJson(join(layout, 'oci-layout')), { imageLayoutVersion: '1.0.0' });
  const { manifests } = readJson(join(layout, 'index.json'));
  assert.equal(manifests.length, 1);
  const manifest = readJson(blobPath(layout, manifests[0].digest));
  for (const { digest, size } of [manifests[0], manifest.config, ...manifest.layers]) {
    const bytes = readFileSync(blobPath(layout, digest));
    assert.equal(`sha256:${sha256(bytes)}`, digest);
    assert.equal(bytes.length, size);
  }
  return { reference: manifests[0], manifest, config: readJson(blobPath(layout, manifest.config.digest)) };
}

/** `plugin.wasm` of the last layer, unpacked by tar and not by the code under test. */
async function unpack(layout) {
  const layer = blobPath(layout, open(layout).manifest.layers.at(-1).digest);
  const { stdout } = await run('tar', ['--extract', '--gzip', '--to-stdout', '--file', layer, 'plugin.wasm'], { encoding: 'buffer', maxBuffer: 1 << 26 });
  return stdout;
}

test('the image is one OCI image whose last layer has plugin.wasm', async () => {
  const { reference, manifest, config } = open(image);
  assert.equal(reference.mediaType, 'application/vnd.oci.image.manifest.v1+json');
  assert.equal(manifest.mediaType, reference.mediaType);
  assert.equal(manifest.config.mediaType, 'application/vnd.oci.image.config.v1+json');
  assert.equal(manifest.layers.at(-1).mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');

  const layer = blobPath(image, manifest.layers.at(-1).digest);
  assert.deepEqual(config.rootfs, { type: 'layers', diff_ids: [`sha256:${sha256(gunzipSync(readFileSync(layer)))}`] });
  const { stdout: list } = await run('tar', ['--list', '--verbose', '--numeric-owner', '--gzip', '--file', layer], { env: { ...process.env, TZ: 'UTC' } });
  assert.match(list, /^-rw-r--r-- 0\/0 +\d+ 1970-01-01 00:00 plugin\.wasm\n$/);
  assert.ok((await unpack(image)).equals(module));
});

test('the image has title, version, source and licence', () => {
  const { manifest, config, reference } = open(image);
  const manifestOfCrate = readFileSync(join(checkout, 'Cargo.toml'), 'utf8');
  const field = (name) => manifestOfCrate.match(new RegExp(`^${name} = "(.*)"$`, 'm'))[1];
  const expected = {
    'org.opencontainers.image.title': 'onbehalf',
    'org.opencontainers.image.version': field('version'),
    'org.opencontainers.image.source': field('repository'),
    'org.opencontainers.image.licenses': 'Apache-2.0',
    'org.opencontainers.image.description': field('description'),
  };
  assert.deepEqual(manifest.annotations, expected);
  assert.deepEqual(config.config.Labels, expected);
  assert.equal(reference.annotations['org.opencontainers.image.ref.name'], field('version'));
});

test('the module contains no path of the build machine', () => {
  const text = module.toString('latin1');
  for (const folder of [checkout, homedir() + '/', process.env.CARGO_HOME, '.cargo/registry']) {
    if (folder) assert.ok(!text.includes(folder), `the module contains ${folder}`);
  }
});

test('a registry keeps the image, and Envoy runs the pulled module', async () => {
  const registry = await startRegistry();
  try {
    const { reference } = open(image);
    const remote = `docker://127.0.0.1:${registry.port}/mcp/onbehalf:${reference.annotations['org.opencontainers.image.ref.name']}`;
    const pulled = join(work, 'pulled');
    await run('skopeo', ['copy', '--insecure-policy', '--dest-tls-verify=false', `oci:${image}`, remote]);
    const { stdout: found } = await run('skopeo', ['inspect', '--tls-verify=false', remote]);
    assert.equal(JSON.parse(found).Digest, reference.digest);
    await run('skopeo', ['copy', '--insecure-policy', '--src-tls-verify=false', remote, `oci:${pulled}`]);

    assert.equal(open(pulled).reference.digest, reference.digest);
    const plugin = join(work, 'plugin.wasm');
    writeFileSync(plugin, await unpack(pulled));
    assert.ok(readFileSync(plugin).equals(module));
    await runInEnvoy(plugin);
  } finally {
    await registry.stop();
  }
});

test('the sources build the same image in another folder and home', async () => {
  const other = join(work, 'other folder');
  const left = new Set(['.git', '.tools', 'node_modules', 'target'].map((name) => join(checkout, name)));
  cpSync(checkout, other, { recursive: true, filter: (path) => !left.has(path) && !path.endsWith('/node_modules') });
  symlinkSync(join(checkout, '.tools'), join(other, '.tools'));
  symlinkSync(join(checkout, 'tools/node_modules'), join(other, 'tools/node_modules'));

  // Another home for cargo, with downloaded crates and no unpacked ones.
  const home = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const otherHome = join(work, 'other home');
  mkdirSync(join(otherHome, 'registry'), { recursive: true });
  for (const part of ['config.toml', 'registry/cache', 'registry/index']) {
    if (existsSync(join(home, part))) symlinkSync(join(home, part), join(otherHome, part));
  }

  const { CARGO_TARGET_DIR: _, ...environment } = process.env;
  const options = { cwd: other, env: { ...environment, CARGO_HOME: otherHome } };
  await run('tools/build-module.sh', ['.', 'onbehalf', 'target/onbehalf.wasm', 'tools/exports.json'], options);
  assert.equal(sha256(readFileSync(join(other, 'target/onbehalf.wasm'))), sha256(module));
  await run(process.execPath, ['tools/oci.mjs', 'target/onbehalf.wasm', 'target/oci'], options);
  assert.equal(open(join(other, 'target/oci')).reference.digest, open(image).reference.digest);
});

/** docker-registry of Debian on a free port, with its files in `work`. */
async function startRegistry() {
  const port = await freePort();
  const config = join(work, 'registry.json');
  writeFileSync(config, JSON.stringify({
    version: '0.1',
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: join(work, 'registry') } },
    http: { addr: `127.0.0.1:${port}` },
  }));
  const registry = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  const exit = new Promise((resolve) => registry.once('error', resolve).once('close', resolve));
  await until(() => fetch(`http://127.0.0.1:${port}/v2/`).then((response) => response.ok, () => false), 'the registry answers');
  return {
    port,
    async stop() {
      registry.kill();
      await exit;
    },
  };
}

/** Starts Envoy with the module at `path`, and asserts that it refuses a request without a token. */
async function runInEnvoy(path) {
  const configuration = {
    identity_providers: {
      okta: {
        profile: 'okta_obo',
        issuer: 'https://acme.okta.com/oauth2/default',
        cluster: 'okta',
        audiences: ['api://default'],
        client: { id: 'onbehalf', authentication: { method: 'client_secret_post', secret: { env: 'OKTA_CLIENT_SECRET' } } },
      },
    },
    resources: [{ url: 'https://mcp.example.com/mcp', scopes: ['mcp:read'], exchange: { okta: { audience: 'api://mcp' } } }],
  };
  const filter = wasmFilter('onbehalf', path, configuration, ['OKTA_CLIENT_SECRET']);
  const envoy = await startEnvoy(bootstrap([listener('pulled', [filter])], [cluster('okta', await freePort())]), {
    env: { OKTA_CLIENT_SECRET: 'never sent' },
  });
  try {
    const { status, headers, body } = await get(envoy.port, '/mcp', { host: 'mcp.example.com' });
    assert.equal(status, 401);
    assert.match(headers['www-authenticate'], /^Bearer .*resource_metadata="https:\/\/mcp\.example\.com\/\.well-known\/oauth-protected-resource\/mcp"/);
    assert.equal(JSON.parse(body).reason, 'no_credentials');
  } finally {
    await envoy.stop();
  }
}

async function get(port, path, headers) {
  const response = await new Promise((resolve, reject) => request({ host: '127.0.0.1', port, path, headers }, resolve).once('error', reject).end());
  let body = '';
  for await (const text of response.setEncoding('utf8')) body += text;
  return { status: response.statusCode, headers: response.headers, body };
}

/** Free port of the loopback interface. */
async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
