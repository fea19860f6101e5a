// Differential test of onbehalf, jose and the `jwt_authn` filter of Envoy with the same hostile tokens. Each difference has a
// row in parts/known-differences.mjs, or is a mistake.
//
// The seed, which is printed, determines the mutations of each token. DIFFERENTIAL_SEED=… chooses others, and
// DIFFERENTIAL_TOKENS=… more. DIFFERENTIAL_PAGE=write writes docs/differential.md.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, it } from 'node:test';
import { cases, isSigned } from './parts/hostile-tokens.mjs';
import { DIFFERENCES, asPage } from './parts/known-differences.mjs';
import { MUTATIONS } from './parts/mutations.mjs';
import { startVerifiers } from './parts/three-verifiers.mjs';
import { until } from './parts/until.mjs';

const SEED = Number(process.env.DIFFERENTIAL_SEED ?? 1);
const COUNT = Number(process.env.DIFFERENTIAL_TOKENS ?? 12_000);
const ASKERS = 8;
const OTHERS = ['jose', 'jwt_authn'];
const SIDES = ['onbehalf', ...OTHERS];
const PAGE = new URL('../../docs/differential.md', import.meta.url);

let verifiers;
/** Each token with the three verdicts. */
const judged = [];

before(async () => {
  verifiers = await startVerifiers();
  const { issuers } = verifiers;
  await keysArrive(issuers);
  const waiting = cases(issuers, { seed: SEED, count: COUNT });
  await Promise.all(
    Array.from({ length: ASKERS }, async () => {
      const asker = verifiers.asker();
      for (const one of waiting) {
        const { token, is, header, payload } = one.make();
        const verdicts = {};
        for (const side of SIDES) verdicts[side] = await asker[side](token);
        const again = await asker.onbehalf(token);
        const signed = verdicts.onbehalf.accepts && isSigned(token, one.issuer);
        judged.push({ ...one, is, ...verdicts, again, signed, text: { header, payload } });
      }
      asker.close();
    }),
  );
});

after(() => verifiers?.stop());

async function keysArrive(issuers) {
  const asker = verifiers.asker();
  const good = [...cases(issuers, { seed: SEED, count: 0 })].filter(({ mutations }) => mutations.length === 0);
  for (const issuer of issuers) {
    const one = good.find((candidate) => candidate.issuer === issuer);
    await until(async () => (await asker.onbehalf(one.make().token)).accepts, `the keys of ${issuer.name} are there`);
  }
  asker.close();
}

/** Rows that explain a verdict of `side` that differs from the one of onbehalf, each with the item of the token that it names. */
function explanations(one, side) {
  const does = one[side].accepts ? 'accepts' : 'refuses';
  return DIFFERENCES.filter((row) => row[side] === does).flatMap((row) => {
    const done = !row.on || row.on.includes(one.base) ? one.mutations : [];
    return row.of.filter((item) => [one.base, ...one.is, ...done].includes(item)).map((item) => ({ row, item }));
  });
}

const differences = () =>
  judged.flatMap((one) =>
    OTHERS.filter((side) => one[side].accepts !== one.onbehalf.accepts).map((side) => ({ one, side })),
  );

function unexplained(wanted) {
  const found = differences().filter(({ one, side }) => wanted(one) && explanations(one, side).length === 0);
  return found.map(({ one, side }) => description(one, side));
}

/** Description from which the token can be made again. The token is printed without its signature. */
function description({ base, mutations, resigned, text, ...verdicts }, side) {
  const says = (name) => (verdicts[name].accepts ? 'accepts' : `refuses: ${reasonOf(verdicts[name])}`);
  const shown = (bytes) => JSON.stringify(bytes.toString('latin1').slice(0, 300));
  return [
    `${base} ${JSON.stringify(mutations)}${resigned ? ', signed again' : ''}`,
    ...SIDES.filter((name) => name === 'onbehalf' || !side || name === side).map((name) => `${name} ${says(name)}`),
    `header ${shown(text.header)}`,
    `payload ${shown(text.payload)}`,
  ].join('\n    ');
}
const reasonOf = ({ says, status }) => says.match(/"reason":"(\w+)"/)?.[1] ?? (says || status);

function none(found, what) {
  const more = found.length > 10 ? `\n  and ${found.length - 10} more` : '';
  assert.ok(found.length === 0, `${what} (seed ${SEED}):\n  ${found.slice(0, 10).join('\n  ')}${more}`);
}

it('tokens that onbehalf alone accepts have a documented reason', () => {
  none(unexplained((one) => one.onbehalf.accepts), 'accepted for no known reason');
});

it('tokens that onbehalf alone refuses have a documented reason', () => {
  none(unexplained((one) => !one.onbehalf.accepts), 'refused for no known reason');
});

it('every accepted token has a signature of the issuer over its text', () => {
  const forged = judged.filter((one) => one.onbehalf.accepts && !one.signed);
  none(forged.map((one) => description(one)), 'accepted and not signed');
});

it('every documented reason explains a difference by itself', () => {
  const needed = new Set();
  const key = (row, side, item) => [DIFFERENCES.indexOf(row), side, item].join(' ');
  for (const { one, side } of differences()) {
    const found = explanations(one, side);
    if (found.length !== 1) continue;
    const [{ row, item }] = found;
    needed.add(key(row, side, item));
    if (row.on && item !== one.base) needed.add(key(row, side, `on ${one.base}`));
  }
  const idle = DIFFERENCES.flatMap((row) =>
    OTHERS.filter((side) => row[side]).flatMap((side) =>
      [...row.of, ...(row.on ?? []).map((base) => `on ${base}`)]
        .filter((item) => !needed.has(key(row, side, item)))
        .map((item) => `${row.what}: ${side} ${row[side]}, ${JSON.stringify(item)}`),
    ),
  );
  none(idle, 'explains nothing');
});

it('the second verdict of onbehalf equals its first one', () => {
  const changed = judged.filter(({ onbehalf, again }) => onbehalf.status !== again.status || reasonOf(onbehalf) !== reasonOf(again));
  none(changed.map((one) => `${description(one)}\n    then: ${reasonOf(one.again)}`), 'another verdict');
});

it('every refusal is 400, 401, 403 or 431, and the module never trapped', async () => {
  // 431: the request exceeds a limit of Envoy.
  const odd = judged.filter(({ onbehalf }) => ![200, 400, 401, 403, 431].includes(onbehalf.status));
  none(odd.map((one) => description(one)), 'neither accepted nor refused');
  assert.deepEqual(await verifiers.envoy.traps(), []);
});

it('no key is fetched from a URL that a token names', () => {
  const mentioned = judged.filter(({ text }) => text.header.includes('/evil"'));
  assert.ok(mentioned.length > 0);
  assert.deepEqual(Object.keys(verifiers.asked).filter((path) => path.includes('evil')), []);
});

it('the tokens have each mutation alone and combined', (t) => {
  t.diagnostic(`seed ${SEED}: ${judged.length} tokens`);
  for (const side of SIDES) {
    const accepted = judged.filter((one) => one[side].accepts).length;
    t.diagnostic(`${side} accepted ${accepted} and refused ${judged.length - accepted}`);
    assert.ok(accepted > 500 && judged.length - accepted > 5000, `${side}: ${accepted} of ${judged.length}`);
  }
  t.diagnostic(`${differences().length} differences, ${DIFFERENCES.length} reasons`);
  const signedAgain = judged.filter(({ resigned, mutations }) => resigned && mutations.length > 0).length;
  assert.ok(signedAgain > judged.length / 2 && signedAgain < judged.length, `${signedAgain} signed again`);
  const seen = (wanted) => new Set(judged.filter(({ mutations }) => wanted(mutations.length)).flatMap(({ mutations }) => mutations));
  assert.equal(seen((length) => length === 1).size, MUTATIONS.length);
  assert.ok(seen((length) => length > 1).size > MUTATIONS.length * 0.95);
  for (const { base, mutations, ...one } of judged) {
    if (base.startsWith('plain/') && mutations.length === 0) assert.ok(SIDES.every((side) => one[side].accepts), base);
  }
});

it('docs/differential.md has every reason and no other', () => {
  if (process.env.DIFFERENTIAL_PAGE === 'write') writeFileSync(PAGE, asPage());
  assert.equal(readFileSync(PAGE, 'utf8'), asPage());
});
