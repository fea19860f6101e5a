// Writes a module as an OCI image layout: one image with one layer, which contains `plugin.wasm`. Istio and Envoy Gateway pull
// this form. The bytes depend on the module and Cargo.toml only: no time, no user, and a gzip implementation in JavaScript,
// because the output of zlib differs between processors.
//   node tools/oci.mjs MODULE FOLDER
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzip } from 'pako';

const [modulePath, folder] = process.argv.slice(2);
if (!folder) {
  console.error('usage: node tools/oci.mjs MODULE FOLDER');
  process.exit(2);
}
const checkout = fileURLToPath(new URL('..', import.meta.url));
const metadata = JSON.parse(execFileSync('cargo', ['metadata', '--no-deps', '--format-version', '1', '--offline'], { cwd: checkout }));
const crate = metadata.packages.find((found) => found.name === 'onbehalf');

/** Annotations of the OCI image specification, from Cargo.toml. */
const annotations = {};
for (const [name, field] of [['title', 'name'], ['version', 'version'], ['source', 'repository'], ['licenses', 'license'], ['description', 'description']]) {
  if (!crate[field]) throw new Error(`Cargo.toml: package.${field} is missing; the image names it as org.opencontainers.image.${name}`);
  annotations[`org.opencontainers.image.${name}`] = crate[field];
}

rmSync(folder, { recursive: true, force: true });

const archive = tar('plugin.wasm', readFileSync(modulePath));
const layer = blob('application/vnd.oci.image.layer.v1.tar+gzip', gzip(archive, { level: 9 }));
// A module runs on any processor. The image says linux/amd64 because tools look for it first, and some (Kubernetes image
// volumes) refuse any other platform.
const config = blob('application/vnd.oci.image.config.v1+json', json({
  architecture: 'amd64',
  os: 'linux',
  config: { Labels: annotations },
  rootfs: { type: 'layers', diff_ids: [digest(archive)] },
}));
const manifest = blob('application/vnd.oci.image.manifest.v1+json', json({
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config,
  layers: [layer],
  annotations,
}));

write('oci-layout', json({ imageLayoutVersion: '1.0.0' }));
write('index.json', json({
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  manifests: [{ ...manifest, annotations: { 'org.opencontainers.image.ref.name': crate.version } }],
}));
console.log(`${folder}: ${crate.version}, manifest ${manifest.digest}, layer ${layer.size} bytes`);

/** Stores `bytes` under their digest and returns their descriptor. */
function blob(mediaType, bytes) {
  const name = digest(bytes);
  write(join('blobs', ...name.split(':')), bytes);
  return { mediaType, digest: name, size: bytes.length };
}

function write(path, bytes) {
  const full = join(folder, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, bytes);
}

function digest(bytes) {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function json(value) {
  return Buffer.from(JSON.stringify(value));
}

/** Tar archive (POSIX ustar) of one readable file that belongs to root and has no date. */
function tar(name, content) {
  const header = Buffer.alloc(512);
  const octal = (value, at, length) => header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  header.write(name, 0, 'latin1');
  octal(0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(content.length, 124, 12);
  octal(0, 136, 12);
  header.write(' '.repeat(8), 148, 'latin1');
  header.write('0', 156, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  octal(header.reduce((sum, byte) => sum + byte, 0), 148, 7);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return Buffer.concat([header, content, padding, Buffer.alloc(1024)]);
}
