// Test vectors of tests/vectors with the cryptography of the host: `crypto::Host` as in the module, with the foreign functions
// of this Envoy behind HTTP.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bootstrap, listener, wasmFilter } from '../../tools/envoy-config.mjs';
import { startEnvoy } from './parts/envoy.mjs';
import { needs } from './parts/version.mjs';

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url));
const FILTER = `${CHECKOUT}target/foreign_filter.wasm`;

let envoy;
before(async () => {
  const filter = wasmFilter('foreign', FILTER);
  // The body arrives although the filter pauses on the header.
  filter.typed_config.config.allow_on_headers_stop_iteration = true;
  envoy = await startEnvoy(bootstrap([listener('foreign', [filter])], []));
});
after(() => envoy?.stop());

/** Runs a Rust test that needs an Envoy: `{status, output}`. */
async function nativeTest(name) {
  const child = spawn('cargo', ['test', '--locked', '--test', 'vectors', '--', '--ignored', '--nocapture', name], {
    cwd: CHECKOUT,
    env: { ...process.env, ONBEHALF_FOREIGN_HOST: `127.0.0.1:${envoy.port}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const status = await new Promise((resolve) => child.on('close', resolve));
  return { status, output };
}

it('BoringSSL gives every vector its verdict', async (t) => {
  const { status, output } = await nativeTest('boringssl_gives_every_vector_its_verdict');
  assert.equal(status, 0, output);
  assert.match(output, /test result: ok\. 1 passed/);
  assert.deepEqual(await envoy.traps(), []);
  t.diagnostic(output.match(/verify_signature was called \d+ times/)[0]);
});

it('signatures of BoringSSL verify', { skip: needs('1.37', 'the foreign function sign') }, async () => {
  const { status, output } = await nativeTest('software_accepts_signatures_of_boringssl');
  assert.equal(status, 0, output);
  assert.match(output, /test result: ok\. 1 passed/);
  assert.deepEqual(await envoy.traps(), []);
});
