// Hostile tokens: valid tokens with mutations, which a seed determines. Only keys and signatures are new in each run.

import { verify } from 'node:crypto';
import { Draft } from './draft.mjs';
import { canSign } from './hostile-issuers.mjs';
import { MUTATIONS } from './mutations.mjs';

/** mulberry32: small, and equal on all platforms. */
export function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  const below = (limit) => next() % limit;
  return { below, pick: (list) => list[below(list.length)] };
}

/** Label of a token that is too long after its mutations. */
export const LONG = 'of more than 16 KiB';

/**
 * Valid tokens, then each mutation alone, then two or three combined until there are `count`. Each is `{base, issuer, mutations,
 * resigned, make()}`; call `make` just before the token is used, because it contains times.
 */
export function* cases(issuers, { seed, count }) {
  const dice = random(seed);
  const bases = issuers.flatMap((issuer) => Object.values(issuer.signers).map((signer) => ({ issuer, signer })));
  let made = 0;
  const one = (base, mutations, resigned) => {
    made += 1;
    const inner = dice.below(2 ** 32);
    return {
      base: `${base.issuer.name}/${base.signer.label}`,
      issuer: base.issuer,
      mutations: mutations.map(({ name }) => name),
      resigned,
      make: () => make(base, issuers, mutations, resigned, random(inner)),
    };
  };
  const fits = (base, { fits }) => fits(new Draft(base, others(issuers, base), 0));
  for (const base of bases) yield one(base, [], true);
  const main = bases.filter(({ issuer }) => issuer.name === 'plain');
  for (const mutation of MUTATIONS) {
    const everywhere = /^(alg|header kid|signer|signature)$/.test(mutation.what) ? bases : main;
    const fitting = everywhere.filter((base) => fits(base, mutation));
    for (const base of fitting) yield one(base, [mutation], true);
    // A mutation of the signature needs no second signature.
    if (!/^sign/.test(mutation.what)) yield one(dice.pick(fitting), [mutation], false);
    const elsewhere = bases.filter((base) => !everywhere.includes(base) && fits(base, mutation));
    if (elsewhere.length) yield one(dice.pick(elsewhere), [mutation], true);
  }
  while (made < count) {
    const base = dice.pick(dice.below(2) ? main : bases);
    const mutations = [];
    const wanted = 2 + dice.below(2);
    while (mutations.length < wanted) {
      const mutation = dice.pick(MUTATIONS);
      if (mutations.every(({ what }) => what !== mutation.what) && fits(base, mutation)) mutations.push(mutation);
    }
    yield one(base, mutations, dice.below(8) > 0);
  }
}

const others = (issuers, { issuer }) => issuers.filter((other) => other !== issuer);

function make(base, issuers, mutations, resigned, dice) {
  const now = Math.floor(Date.now() / 1000);
  const untouched = new Draft(base, others(issuers, base), now).signingInput();
  const draft = new Draft(base, others(issuers, base), now);
  for (const { apply } of mutations) apply(draft, dice);
  const token = draft.token(resigned || draft.forced ? undefined : untouched);
  // Several mutations together can make the token this long.
  const is = token.length > 16 * 1024 ? [LONG] : [];
  return { token, is, header: draft.header.bytes(), payload: draft.payload.bytes() };
}

function check(alg, publicKey, input, bytes) {
  const hash = `sha${alg.slice(-3)}`;
  if (alg.startsWith('RS')) return verify(hash, input, publicKey, bytes);
  if (alg.startsWith('PS')) return verify(hash, input, { key: publicKey, padding: 6, saltLength: Number(alg.slice(-3)) / 8 }, bytes);
  if (alg.startsWith('ES')) return verify(hash, input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, bytes);
  return verify(null, input, publicKey, bytes);
}

/** Returns `true` if a key of the issuer has signed exactly this text. It checks nothing else. */
export function isSigned(token, issuer) {
  const text = token.trim();
  const end = text.lastIndexOf('.');
  const input = Buffer.from(text.slice(0, end), 'latin1');
  const bytes = Buffer.from(text.slice(end + 1), 'base64url');
  const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'];
  return issuer.published.some((key) => algorithms.some((alg) => canSign(alg, key) && check(alg, key, input, bytes)));
}
