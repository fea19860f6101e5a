// Search for secrets (parts/leaks.mjs), which runs when an Envoy of the suite stops: it finds them in each place.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { it } from 'node:test';
import { fileURLToPath } from 'node:url';

const BLABBING = fileURLToPath(new URL('./parts/blabbing.mjs', import.meta.url));

/** Exit status and error output of a process with an Envoy that shows a secret in one place. */
const run = (place) =>
  new Promise((resolve) => {
    execFile(process.execPath, [BLABBING, place], (error, stdout, stderr) => resolve({ status: error?.code ?? 0, stdout, stderr }));
  });

it('an Envoy that shows no secret stops without an error', async () => {
  assert.deepEqual(await run('nothing'), { status: 0, stdout: '', stderr: '' });
});

for (const [place, what, found] of [
  ['log', 'a token in the log', ['log']],
  ['part', 'the signature of a token in the log', ['log']],
  ['stranger', 'a signed token in the log that nobody has named', ['log']],
  ['name', 'a secret in statistics and the list of clusters', ['/stats', '/stats/prometheus', '/config_dump', '/clusters']],
  ['config', 'a secret in the configuration', ['/config_dump']],
  ['answers', 'a token in an answer', ['answers']],
]) {
  it(`${what} makes the run fail, and is not printed`, async () => {
    const { status, stdout, stderr } = await run(place);
    assert.equal(status, 1, stderr);
    assert.equal(stdout, '');
    const [, complaint] = stderr.match(/^secrets can be seen: (\{.*\})\n$/) ?? assert.fail(stderr);
    assert.deepEqual(Object.keys(JSON.parse(complaint)).sort(), found.sort());
  });
}
