// The vectors of tests/vectors once more, with the host's half of the verifier: `crypto::Host` as it is in the module, and
// behind it, by HTTP, the foreign functions of this Envoy.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bootstrap, listener, wasmFilter } from '../../tools/envoy-config.mjs';
import { startEnvoy } from './parts/envoy.mjs';

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url));
const FILTER = `${CHECKOUT}target/foreign_filter.wasm`;

let envoy;
before(async () => {
  const filter = wasmFilter('foreign', FILTER);
  // The body comes although the filter holds the headers back.
  filter.typed_config.config.allow_on_headers_stop_iteration = true;
  envoy = await startEnvoy(bootstrap([listener('foreign', [filter])], []));
});
after(() => envoy?.stop());

/** Runs the tests that need an Envoy: `{status, output}`. */
async function nativeTests() {
  const child = spawn('cargo', ['test', '--locked', '--test', 'vectors', '--', '--ignored', '--nocapture'], {
    cwd: CHECKOUT,
    env: { ...process.env, ONBEHALF_FOREIGN_HOST: `127.0.0.1:${envoy.port}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  const status = await new Promise((resolve) => child.on('close', resolve));
  return { status, output };
}

it('BoringSSL, asked by what asks it in the module, gives every vector its verdict and signs what others accept', async (t) => {
  const { status, output } = await nativeTests();
  assert.equal(status, 0, output);
  assert.match(output, /test result: ok\. 2 passed/);
  assert.deepEqual(await envoy.traps(), []);
  t.diagnostic(output.match(/verify_signature was called \d+ times/)[0]);
});
