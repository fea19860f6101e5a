// Hostile tokens: valid tokens with mutations, which a seed determines. Only keys and signatures are new in each run.

import { verify } from 'node:crypto';
import { canSign, signature } from './hostile-issuers.mjs';
import { MUTATIONS } from './mutations.mjs';

const b64url = (bytes) => Buffer.from(bytes).toString('base64url');
const json = JSON.stringify;

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

/** Token before its serialization: mutations change it. */
class Draft {
  constructor({ issuer, signer }, others, now) {
    Object.assign(this, { issuer, signer, others, now, alg: signer.alg, key: signer.key, forced: false });
    this.header = new Members([['alg', json(signer.alg)], ...(signer.kid ? [['kid', json(signer.kid)]] : [])]);
    this.payload = new Members([
      ['iss', json(issuer.issuer)],
      ['sub', '"user-1"'],
      ['aud', json(issuer.audiences[0])],
      ['exp', String(now + 3600)],
      ['iat', String(now - 5)],
      ['client_id', '"mcp-client"'],
      ['scope', '"mcp:read"'],
      ['jti', '"1"'],
    ]);
    this.signed = {};
    this.ofSignature = (bytes) => bytes;
    this.ofSegment = {};
    this.ofToken = (token) => token;
  }

  /** Signs with another asymmetric key. */
  signWith(key) {
    this.key = key;
    this.forced = true;
    if (this.alg.startsWith('HS')) this.alg = this.signer.alg;
  }

  segment(index) {
    const bytes = (index === 0 ? this.header : this.payload).bytes();
    return (this.ofSegment[index] ?? ((text) => text))(b64url(bytes));
  }

  signingInput() {
    return `${this.segment(0)}.${this.segment(1)}`;
  }

  /** Serializes the token. `untouched`: text that is signed unless the mutated text is signed again. */
  token(untouched) {
    const input = this.signingInput();
    const bytes = signature(this.alg, this.key, Buffer.from(untouched ?? input, 'latin1'), this.signed);
    const third = (this.ofSegment[2] ?? ((text) => text))(b64url(this.ofSignature(bytes)));
    return this.ofToken(`${input}.${third}`);
  }
}

/** JSON object as text: names may repeat, and neither names nor values need be JSON. */
class Members {
  constructor(pairs) {
    this.pairs = pairs.map(([name, value]) => [json(name), value]);
    this.write = (text) => Buffer.from(text);
  }

  set(name, value) {
    const pair = this.pairs.find(([written]) => written === json(name));
    if (pair) pair[1] = value;
    else this.pairs.push([json(name), value]);
  }

  get(name) {
    return this.pairs.find(([written]) => written === json(name))?.[1];
  }

  remove(name) {
    this.pairs = this.pairs.filter(([written]) => written !== json(name));
  }

  /** Writes a name in another way; other mutations still find the member by its name. */
  rename(name, written) {
    this.written = { name: json(name), written };
  }

  bytes() {
    const asWritten = (name) => (this.written?.name === name ? this.written.written : name);
    return this.write(`{${this.pairs.map(([name, value]) => `${asWritten(name)}:${value}`).join(',')}}`);
  }
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
