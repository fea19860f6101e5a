// Sends request bodies of 1 B to 5 MB through the filter, with and without `allow_on_headers_stop_iteration`, and prints a table of
// what arrives at the upstream. `make bodies` runs it.
//
// BODIES_ROUNDS (2): each case is sent so many times.  ENVOY  ONBEHALF_WASM

import { everyCase, SIZES, startBodies } from './parts/bodies.mjs';
import { version } from './parts/version.mjs';

const ROUNDS = Number(process.env.BODIES_ROUNDS ?? 2);
const scene = await startBodies();
const rows = new Map();
try {
  for (const one of everyCase()) {
    const { stopIteration, token, protocol, pace, size } = one;
    const row = [stopIteration ? 'on' : 'off', token, protocol, pace].join(' | ');
    const results = new Set();
    for (let round = 0; round < ROUNDS; round += 1) results.add(await scene.send(one));
    rows.set(row, [...(rows.get(row) ?? []), [...results].join(' or ')]);
  }
  for (const gateway of scene.gateways) {
    const traps = await gateway.envoy.traps();
    if (traps.length > 0) throw new Error(`the module trapped: ${traps}`);
  }
} finally {
  await scene.stop();
}

console.log(`Envoy ${version}, ${new Date().toISOString().slice(0, 10)}, each case ${ROUNDS} times`);
console.log(`| option | token | protocol | body is sent | ${Object.keys(SIZES).join(' | ')} |`);
console.log(`|---|---|---|---|${'---|'.repeat(Object.keys(SIZES).length)}`);
for (const [row, results] of rows) console.log(`| ${row} | ${results.join(' | ')} |`);
