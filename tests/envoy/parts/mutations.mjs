// Mutations of tokens: header, JSON, claims, serialization, signature. The file is a list, and may exceed the length of others.

import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { Draft } from './draft.mjs';
import { canSign, signature } from './hostile-issuers.mjs';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const json = JSON.stringify;
/** Writes one character of a name as an escape: the same name for a reader that resolves it. */
const escaped = (name) => json(name).replace(/[a-z]/, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`);

const RSA_OTHERS = generateKeyPairSync('rsa', { modulusLength: 2048 });
const STRANGERS = {
  rsa: RSA_OTHERS,
  ec: {
    prime256v1: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    secp384r1: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    secp521r1: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  },
  ed25519: generateKeyPairSync('ed25519'),
};

/** Key pair of the same kind as `key` that no issuer has published. */
function stranger(key) {
  if (key.asymmetricKeyType === 'ec') return STRANGERS.ec[key.asymmetricKeyDetails.namedCurve];
  return STRANGERS[key.asymmetricKeyType] ?? RSA_OTHERS;
}

const ORDER = {
  ES256: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  ES384: BigInt(`0x${'f'.repeat(48)}c7634d81f4372ddf581a0db248b0a77aecec196accc52973`),
  EdDSA: 2n ** 252n + 27742317777372353535851937790883648493n,
};
const toInt = (bytes) => BigInt(`0x${bytes.toString('hex')}`);
const toBytes = (int, length) => Buffer.from(int.toString(16).padStart(length * 2, '0'), 'hex').subarray(-length);
const half = (bytes, index) => bytes.subarray((index * bytes.length) / 2, ((index + 1) * bytes.length) / 2);
const kind = (alg) => (ORDER[alg] ? alg : alg.slice(0, 2));

/** Mutations: `{name, apply(draft, random), fits(draft)}`. A name is "what: how"; a token gets one of each "what". */
export const MUTATIONS = [];
function mutation(name, apply, fits = () => true) {
  MUTATIONS.push({ name, what: name.split(':')[0], apply, fits });
}
function values(part, member, table) {
  for (const [how, value] of Object.entries(table)) {
    mutation(`${part === 'header' ? 'header ' : ''}${member}: ${how}`, (draft, random) => {
      const text = typeof value === 'function' ? value(draft, random) : value;
      if (text === undefined) draft[part].remove(member);
      else draft[part].set(member, text);
    });
  }
}
const WITHOUT = () => undefined;

// The header: key and algorithm.

for (const alg of ['none', 'None', 'NONE', 'nOnE']) {
  for (const [how, third] of [['', ''], [' and a signature', undefined]]) {
    mutation(`alg: ${alg}${how}`, (draft) => {
      draft.header.set('alg', json(alg));
      draft.forced = true;
      if (third !== undefined) draft.ofSegment[2] = () => third;
    });
  }
}
for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519', 'ES256K', 'RSA-OAEP', 'HS512']) {
  mutation(`alg: ${alg} instead`, (draft) => {
    draft.header.set('alg', json(alg));
    if (canSign(alg, draft.key)) draft.alg = alg;
  }, (draft) => draft.signer.alg !== alg);
}
values('header', 'alg', {
  'lower case': (draft) => json(draft.signer.alg.toLowerCase()),
  'with a space': (draft) => json(`${draft.signer.alg} `),
  'with NUL': (draft) => json(`${draft.signer.alg}\0`),
  missing: WITHOUT,
  number: '256',
  null: 'null',
  array: (draft) => `[${json(draft.signer.alg)}]`,
  empty: '""',
});
const publicForms = {
  'PEM as': (key) => key.export({ type: 'spki', format: 'pem' }),
  'trimmed PEM as': (key) => key.export({ type: 'spki', format: 'pem' }).trim(),
  'DER as': (key) => key.export({ type: 'spki', format: 'der' }),
  'JWK as': (key) => json(key.export({ format: 'jwk' })),
  'first number as': (key) => {
    const { n, x } = key.export({ format: 'jwk' });
    return Buffer.from(n ?? x, 'base64url');
  },
};
for (const [how, form] of Object.entries(publicForms)) {
  mutation(`alg: HS256 with the public key’s ${how} secret`, (draft) => {
    const { issuer, signer } = draft;
    draft.header.set('alg', '"HS256"');
    draft.alg = 'HS256';
    draft.key = form(signer.key.asymmetricKeyType ? createPublicKey(signer.key) : issuer.published[0]);
    draft.forced = true;
  });
}

values('header', 'kid', {
  missing: WITHOUT,
  unknown: '"no-such-key"',
  number: '1',
  null: 'null',
  array: (draft) => `[${json(draft.signer.kid)}]`,
  empty: '""',
  huge: () => json('k'.repeat(6000)),
  path: '"../../../../dev/null"',
  SQL: `"x' UNION SELECT 'k'; --"`,
  'look-alike': (draft) => json((draft.signer.kid ?? 'E').replace(/[AES]/, 'Ε')),
  'with NUL': (draft) => json(`${draft.signer.kid}\0`),
  'with a space': (draft) => json(` ${draft.signer.kid}`),
  'other case': (draft) => json(String(draft.signer.kid).toLowerCase()),
  'of another key': (draft, random) => {
    const kids = Object.values(draft.issuer.signers).map(({ kid }) => kid).filter((kid) => kid && kid !== draft.signer.kid);
    return json(kids.length ? random.pick(kids) : 'other');
  },
  escaped: (draft) => (draft.signer.kid ? escaped(draft.signer.kid) : '"\\u0061"'),
});
values('header', 'crit', { exp: '["exp"]', b64: '["b64"]', empty: '[]', string: '"exp"', null: 'null', unknown: '["urn:x"]' });
values('header', 'b64', { 'false': 'false', 'true': 'true' });
mutation('b64: false and crit', (draft) => {
  draft.header.set('b64', 'false');
  draft.header.set('crit', '["b64"]');
});
mutation('b64: true and crit', (draft) => {
  draft.header.set('b64', 'true');
  draft.header.set('crit', '["b64"]');
});
values('header', 'zip', { DEF: '"DEF"', null: 'null' });
values('header', 'cty', { JWT: '"JWT"', jwt: '"jwt"', 'application/jwt': '"application/jwt"', json: '"json"', number: '1' });
values('header', 'typ', {
  ...Object.fromEntries(
    [
      ...['JWT', 'jwt', 'at+jwt', 'AT+JWT', 'application/at+jwt', 'application/jwt', 'dpop+jwt', 'logout+jwt', 'secevent+jwt'],
      ...['oauth-id-jag+jwt', 'client-authentication+jwt', 'token-introspection+jwt', 'JOSE', '', 'JWT ', 'text/jwt'],
    ].map((typ) => [typ || 'empty', json(typ)]),
  ),
  number: '1',
  null: 'null',
});
for (const [how, members] of Object.entries({
  jwk: (pair) => [['jwk', json(pair.publicKey.export({ format: 'jwk' }))]],
  'jwk without kid': (pair) => [['kid'], ['jwk', json(pair.publicKey.export({ format: 'jwk' }))]],
  'jwk as kid': (pair) => [['kid', json(json(pair.publicKey.export({ format: 'jwk' })))]],
  jku: (_pair, { issuer }) => [['kid', '"evil"'], ['jku', json(`${issuer.issuer}/evil`)]],
  x5u: (_pair, { issuer }) => [['x5u', json(`${issuer.issuer}/evil`)]],
  x5c: (pair) => [['x5c', json([pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64')])]],
})) {
  mutation(`signer: a stranger, with the key in ${how}`, (draft) => {
    const pair = stranger(draft.signer.key);
    for (const [name, value] of members(pair, draft)) {
      if (value) draft.header.set(name, value);
      else draft.header.remove(name);
    }
    draft.signWith(pair.privateKey);
  }, (draft) => Boolean(draft.key.asymmetricKeyType));
}
values('header', 'jku', { 'beside the good key': (draft) => json(`${draft.issuer.issuer}/evil`) });
values('header', 'x5u', { 'beside the good key': (draft) => json(`${draft.issuer.issuer}/evil`) });
values('header', 'jwk', {
  'beside the good key': (draft) => json(stranger(draft.signer.key).publicKey.export({ format: 'jwk' })),
  'that is a number': '1',
});
values('header', 'x5c', { 'that is a string': '"MII"' });

// Header and payload: serialization of JSON.

for (const part of ['header', 'payload']) {
  const main = part === 'header' ? 'alg' : 'aud';
  const evil = part === 'header' ? '"none"' : '"https://evil.example"';
  const same = (draft) => draft[part].get(main) ?? '"x"';
  const twice = (how, first, second) =>
    mutation(`${part} names: ${how}`, (draft) => {
      const value = same(draft);
      draft[part].remove(main);
      draft[part].pairs.push(first(value), second(value));
    });
  twice('twice the same', (good) => [json(main), good], (good) => [json(main), good]);
  twice('evil, then good', () => [json(main), evil], (good) => [json(main), good]);
  twice('good, then evil', (good) => [json(main), good], () => [json(main), evil]);
  twice('evil by escape, then good', () => [escaped(main), evil], (good) => [json(main), good]);
  twice('good, then evil by escape', (good) => [json(main), good], () => [escaped(main), evil]);
  const member = (how, name, value) =>
    mutation(`${part} member: ${how}`, (draft) => draft[part].pairs.push([name, value]));
  mutation(`${part} names: written with an escape`, (draft) => draft[part].rename(main, escaped(main)));
  mutation(`${part} names: other case instead`, (draft) => draft[part].rename(main, json(main.toUpperCase())));
  member('other case beside', json(main.toUpperCase()), evil);
  mutation(`${part} names: unknown twice`, (draft) => draft[part].pairs.push(['"u"', '1'], ['"u"', '2']));
  mutation(`${part} names: twice in an inner object`, (draft) => draft[part].pairs.push(['"v"', '{"y":1,"y":2}']));
  member('unknown', '"x"', '{"y":[1,null,true,"z"]}');
  member('empty name', '""', '1');
  member('__proto__', '"__proto__"', `{"${main}":${evil}}`);
  member('constructor', '"constructor"', '{"prototype":{"x":1}}');
  member('NUL escape', '"x"', '"a\\u0000b"');
  member('NUL in a name', `"${main}\\u0000"`, evil);
  member('raw NUL', '"x"', '"a\0b"');
  member('raw tab', '"x"', '"a\tb"');
  member('raw newline', '"x"', '"a\nb"');
  member('raw DEL', '"x"', '"a\x7fb"');
  member('unknown escape', '"x"', '"a\\xb"');
  member('escaped slash', '"x"', '"a\\/b"');
  member('pair of surrogates', '"x"', '"\\ud83d\\ude00"');
  member('lone high surrogate', '"x"', '"\\ud800"');
  member('lone low surrogate', '"x"', '"\\udc00"');
  member('lone surrogate in a name', '"x\\ud800"', '1');
  member('noncharacter', '"x"', '"\uffff"');
  member('NaN', '"x"', 'NaN');
  member('Infinity', '"x"', '-Infinity');
  member('1e400', '"x"', '1e400');
  member('-0', '"x"', '-0');
  member('1e-400', '"x"', '1e-400');
  member('long number', '"x"', '9'.repeat(200));
  member('very long number', '"x"', '1'.repeat(2000));
  member('leading zero', '"x"', '01');
  member('plus sign', '"x"', '+1');
  member('dot first', '"x"', '.5');
  member('dot last', '"x"', '1.');
  member('hexadecimal', '"x"', '0x10');
  member('True', '"x"', 'True');
  member('single quotes', '"x"', "'y'");
  member('name without quotes', 'x', '1');
  member('comment', '"x"', '/* 1 */ 2');
  member('line comment', '"x"', '1 // 2\n');
  member('empty value', '"x"', '');
  for (const depth of [20, 60, 95, 110, 126, 200, 3000]) {
    member(`arrays ${depth} deep`, '"x"', `${'['.repeat(depth)}${']'.repeat(depth)}`);
  }
  for (const depth of [20, 60, 200]) {
    member(`objects ${depth} deep`, '"x"', `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`);
  }
  mutation(`${part} member: 800 more`, (draft) => {
    for (let index = 0; index < 800; index += 1) draft[part].pairs.push([`"m${index}"`, '1']);
  });
  const written = (how, write) => mutation(`${part} text: ${how}`, (draft) => (draft[part].write = write));
  written('white space around', (text) => Buffer.from(` \n\t${text}\r\n `));
  written('white space within', (text) => Buffer.from(text.replaceAll('":', '"\n: ')));
  written('form feed before', (text) => Buffer.from(`\f${text}`));
  written('no-break space before', (text) => Buffer.from(`\u00a0${text}`));
  written('BOM', (text) => Buffer.from(`\ufeff${text}`));
  written('UTF-16', (text) => Buffer.from(text, 'utf16le'));
  written('comma at the end', (text) => Buffer.from(`${text.slice(0, -1)},}`));
  written('comma first', (text) => Buffer.from(`{,${text.slice(1)}`));
  written('no closing brace', (text) => Buffer.from(text.slice(0, -1)));
  written('trailing word', (text) => Buffer.from(`${text}x`));
  written('trailing comma', (text) => Buffer.from(`${text},`));
  written('trailing brace', (text) => Buffer.from(`${text}}`));
  written('trailing NUL', (text) => Buffer.from(`${text}\0`));
  written('second object', (text) => Buffer.from(`${text}${text}`));
  written('trailing comment', (text) => Buffer.from(`${text}// x`));
  written('leading comment', (text) => Buffer.from(`/**/${text}`));
  written('prefix against JSON hijacking', (text) => Buffer.from(`)]}'\n${text}`));
  written('in an array', (text) => Buffer.from(`[${text}]`));
  written('as a string', (text) => Buffer.from(json(text)));
  written('a number', () => Buffer.from('1'));
  written('null', () => Buffer.from('null'));
  written('nothing', () => Buffer.alloc(0));
  written('no members', () => Buffer.from('{}'));
  written('noise', () => Buffer.from('\x01\x02\xff', 'latin1'));
  const bytes = (how, hex) =>
    written(how, (text) => Buffer.concat([Buffer.from(`${text.slice(0, -1)},"w":"`), Buffer.from(hex, 'hex'), Buffer.from('"}')]));
  bytes('invalid UTF-8', 'ff');
  bytes('truncated UTF-8', 'e282');
  bytes('overlong UTF-8', 'c0af');
  bytes('overlong UTF-8 quote', 'c0a2');
  bytes('surrogate in UTF-8', 'eda080');
  bytes('beyond Unicode', 'f4908080');
  bytes('valid UTF-8', 'f09f9880c3a9');
}

// The payload: user, audience, times.

const audience = (draft) => draft.issuer.audiences[0];
values('payload', 'aud', {
  missing: WITHOUT,
  null: 'null',
  number: '1',
  'true': 'true',
  empty: '""',
  object: (draft) => json({ aud: audience(draft) }),
  'empty array': '[]',
  'array of the good one': (draft) => json([audience(draft)]),
  'good one and another': (draft) => json([audience(draft), 'https://other.example']),
  'another and the good one': (draft) => json(['https://other.example', audience(draft)]),
  'only another': '"https://other.example"',
  'array of others': '["https://other.example","x"]',
  'good one and a number': (draft) => json([audience(draft), 1]),
  'number and the good one': (draft) => json([1, audience(draft)]),
  'good one and null': (draft) => json([audience(draft), null]),
  'array in an array': (draft) => json([[audience(draft)]]),
  'second audience of ours': (draft) => json(draft.issuer.audiences.at(-1)),
  'longer host': (draft) => json(`${audience(draft)}.evil.example`),
  'longer path': (draft) => json(`${audience(draft)}/evil`),
  'one character less': (draft) => json(audience(draft).slice(0, -1)),
  'trailing slash': (draft) => json(`${audience(draft)}/`),
  'upper case': (draft) => json(audience(draft).toUpperCase()),
  'no scheme': (draft) => json(audience(draft).replace(/^https:\/\//, '')),
  'other scheme': (draft) => json(audience(draft).replace(/^https/, 'http')),
  'with a space': (draft) => json(`${audience(draft)} `),
  'both in one string': (draft) => json(`${audience(draft)} https://other.example`),
  'with NUL': (draft) => json(`${audience(draft)}\0`),
  'with a query': (draft) => json(`${audience(draft)}?`),
  'escaped slashes': (draft) => json(audience(draft)).replaceAll('/', '\\/'),
  'escaped letters': (draft) => escaped(audience(draft)),
  'of another issuer of ours': (draft) => json(draft.others.find((other) => !other.audiences.includes(audience(draft)))?.audiences[0] ?? 'x'),
});
values('payload', 'iss', {
  missing: WITHOUT,
  null: 'null',
  number: '1',
  empty: '""',
  array: (draft) => json([draft.issuer.issuer]),
  'trailing slash': (draft) => json(`${draft.issuer.issuer}/`),
  'upper case': (draft) => json(draft.issuer.issuer.toUpperCase()),
  'other scheme': (draft) => json(draft.issuer.issuer.replace(/^http/, 'https')),
  'no scheme': (draft) => json(draft.issuer.issuer.replace(/^http:\/\//, '')),
  'host name': (draft) => json(draft.issuer.issuer.replace('127.0.0.1', 'localhost')),
  userinfo: (draft) => json(draft.issuer.issuer.replace('127.0.0.1', '127.0.0.1@evil.example')),
  'percent-encoded': (draft) => json(draft.issuer.issuer.replace(/\/(\w)/, (_, letter) => `/%${letter.charCodeAt(0).toString(16)}`)),
  'dot segment': (draft) => json(draft.issuer.issuer.replace(/\/(\w+)$/, '/./$1')),
  longer: (draft) => json(`${draft.issuer.issuer}x`),
  shorter: (draft) => json(draft.issuer.issuer.slice(0, -1)),
  'with NUL': (draft) => json(`${draft.issuer.issuer}\0`),
  'with a space': (draft) => json(` ${draft.issuer.issuer}`),
  'stranger’s': '"https://evil.example"',
  'another of ours': (draft, random) => json(random.pick(draft.others).issuer),
  'escaped letters': (draft) => escaped(draft.issuer.issuer),
});

// Times keep at least this distance from a limit, so that the clocks of the three do not matter.
const AWAY = 20;
const times = (member) => ({
  null: 'null',
  string: ({ now }) => json(String(now + (member === 'exp' ? 3600 : -60))),
  'empty string': '""',
  'true': 'true',
  array: ({ now }) => json([now + (member === 'exp' ? 3600 : -60)]),
  object: '{}',
  negative: '-1',
  'very negative': '-1e300',
  zero: '0',
  '-0': '-0',
  float: ({ now }) => `${now + (member === 'exp' ? 3600 : -60)}.75`,
  'many decimals': ({ now }) => `${now + (member === 'exp' ? 3600 : -60)}.${'3'.repeat(40)}`,
  exponent: ({ now }) => `${(now + (member === 'exp' ? 3600 : -60)) / 1e9}e9`,
  'exponent with plus': ({ now }) => `${(now + (member === 'exp' ? 3600 : -60)) / 1e9}E+09`,
  'zero with an exponent': '0e999',
  tiny: '1e-300',
  'the year 9999': '253402300799',
  'after the year 9999': '253402300800',
  '2^53': '9007199254740992',
  '2^53 + 2': '9007199254740994',
  'largest i64': '9223372036854775807',
  '2^63': '9223372036854775808',
  'largest u64': '18446744073709551615',
  '2^64 and an hour': ({ now }) => String(2n ** 64n + BigInt(now + 3600)),
  '2^32 and an hour': ({ now }) => String(2 ** 32 + now + 3600),
  '1e300': '1e300',
  '1e400': '1e400',
  'leading zero': ({ now }) => `0${now + 3600}`,
  'plus sign': ({ now }) => `+${now + 3600}`,
  NaN: 'NaN',
  Infinity: 'Infinity',
  hexadecimal: ({ now }) => `0x${(now + 3600).toString(16)}`,
  'in milliseconds': ({ now }) => String((now + (member === 'exp' ? 3600 : -60)) * 1000),
  missing: WITHOUT,
  'long past': ({ now }) => String(now - 10_000),
  'past the leeway': ({ now, issuer }) => String(now - issuer.leeway - AWAY),
  'just within the leeway, past': ({ now, issuer }) => String(now - issuer.leeway + AWAY),
  'in a moment': ({ now }) => String(now + AWAY),
  'just within the leeway, ahead': ({ now, issuer }) => String(now + issuer.leeway - AWAY),
  'ahead of the leeway': ({ now, issuer }) => String(now + issuer.leeway + AWAY),
  'far ahead': ({ now }) => String(now + 10_000),
});
for (const member of ['exp', 'nbf', 'iat']) values('payload', member, times(member));

const otherTypes = { null: 'null', number: '1', object: '{}', array: '["x"]', 'array of numbers': '[1]', 'false': 'false' };
values('payload', 'sub', { ...otherTypes, missing: WITHOUT, empty: '""' });
values('payload', 'jti', { ...otherTypes, missing: WITHOUT });
values('payload', 'scope', { ...otherTypes, missing: WITHOUT, empty: '""', spaces: '"mcp:read  mcp:write "', tabs: '"mcp:read\\tmcp:write"' });
values('payload', 'scp', { ...otherTypes, string: '"mcp:read"' });
values('payload', 'client_id', { ...otherTypes, missing: WITHOUT, 'the subject': '"user-1"' });
values('payload', 'azp', { ...otherTypes, 'the subject': '"user-1"' });
values('payload', 'roles', { string: '"admin"', number: '1' });
values('payload', 'groups', { overage: 'null', array: '["g"]' });
values('payload', 'cnf', { ...otherTypes, 'of a key': '{"jkt":"x"}', 'of nothing': '{}' });
values('payload', 'act', { actor: '{"sub":"agent","act":{"sub":"other"}}' });
values('payload', 'nonce', { 'of an ID token': '"n"' });
values('payload', 'at_hash', { 'of an ID token': '"h"' });
values('payload', 'events', { 'of a logout token': '{"http://schemas.openid.net/event/backchannel-logout":{}}' });
mutation('payload text: another JWT', (draft) => {
  const inner = new Draft({ issuer: draft.issuer, signer: draft.signer }, draft.others, draft.now).token();
  draft.payload.write = () => Buffer.from(inner);
});
for (const [how, length] of [['12 KiB', 8500], ['18 KiB', 13_000], ['40 KiB', 29_000]]) {
  mutation(`size: ${how}`, (draft) => draft.payload.pairs.push(['"filler"', json('f'.repeat(length))]));
}

// Serialization.

const at = (text, index, what) => text.slice(0, index) + what + text.slice(index);
const middle = (text, what) => at(text, text.length >> 1, what);
const looseBits = (text) => {
  const spare = { 2: 4, 3: 2 }[text.length % 4];
  return spare ? text.slice(0, -1) + ALPHABET[ALPHABET.indexOf(text.at(-1)) | 1] : text;
};
const segments = ['header', 'payload', 'signature'];
for (const [index, segment] of segments.entries()) {
  const encoding = (how, change) =>
    mutation(`encoding of the ${segment}: ${how}`, (draft) => (draft.ofSegment[index] = change));
  encoding('padded', (text) => text + '='.repeat((4 - (text.length % 4)) % 4 || 4));
  encoding('one equals sign', (text) => `${text}=`);
  encoding('loose bits at the end', looseBits);
  encoding('plus sign', (text) => middle(text, '+'));
  encoding('slash', (text) => middle(text, '/'));
  encoding('standard alphabet', (text) => Buffer.from(text, 'base64url').toString('base64').replace(/=+$/, ''));
  encoding('space within', (text) => middle(text, ' '));
  encoding('space before', (text) => ` ${text}`);
  encoding('space behind', (text) => `${text} `);
  encoding('tab within', (text) => middle(text, '\t'));
  encoding('newline within', (text) => middle(text, '\n'));
  encoding('CR LF within', (text) => middle(text, '\r\n'));
  encoding('folded', (text) => middle(text, '\r\n '));
  encoding('NUL within', (text) => middle(text, '\0'));
  encoding('DEL within', (text) => middle(text, '\x7f'));
  encoding('exclamation mark within', (text) => middle(text, '!'));
  encoding('tilde within', (text) => middle(text, '~'));
  encoding('percent-encoded', (text) => middle(text, '%41'));
  encoding('a byte above ASCII', (text) => middle(text, '\xe9'));
  encoding('in quotes', (text) => `"${text}"`);
  encoding('one character more', (text) => `${text}A`);
  if (segment === 'signature') encoding('one character less', (text) => text.slice(0, -1));
  else encoding('half of it', (text) => text.slice(0, text.length >> 1));
  encoding('two characters more', (text) => `${text}AA`);
  encoding('empty', () => '');
  encoding('twice', (text) => text + text);
}
const whole = (how, change) => mutation(`token: ${how}`, (draft) => (draft.ofToken = change));
whole('two segments', (token) => token.split('.').slice(0, 2).join('.'));
whole('one segment', (token) => token.split('.')[0]);
whole('dot at the end', (token) => `${token}.`);
whole('dot in front', (token) => `.${token}`);
whole('two dots between', (token) => token.replace('.', '..'));
whole('four segments', (token) => `${token}.AAAA`);
whole('five segments', (token) => `${token}.AAAA.AAAA`);
whole('six segments', (token) => `${token}.AAAA.AAAA.AAAA`);
whole('order of segments changed', (token) => token.split('.').toReversed().join('.'));
whole('in quotes', (token) => `"${token}"`);
whole('scheme twice', (token) => `Bearer ${token}`);
whole('comma behind', (token) => `${token},`);
whole('two tokens, with a comma', (token) => `${token}, ${token}`);
whole('two tokens, with a space', (token) => `${token} ${token}`);
whole('junk in front, with a comma', (token) => `junk, ${token}`);
whole('semicolon behind', (token) => `${token};x=y`);
whole('equals sign behind', (token) => `${token}=`);
whole('spaces behind', (token) => `${token}   `);
whole('spaces in front', (token) => `   ${token}`);
whole('percent-encoded dots', (token) => token.replaceAll('.', '%2e'));
whole('JSON serialization', (token) => {
  const [header, payload, third] = token.split('.');
  return json({ payload, protected: header, signature: third });
});
whole('opaque', () => 'opaque-token');

// The signature.

const sized = (how, change, fits) => mutation(`signature: ${how}`, (draft) => (draft.ofSignature = change(draft)), fits);
const isEcdsa = ({ alg }) => alg === 'ES256' || alg === 'ES384';
const isRsa = ({ alg }) => /^[RP]S/.test(alg);
const isEdwards = ({ alg }) => kind(alg) === 'EdDSA' || alg === 'Ed25519';
const every = () => true;
sized('empty', () => () => Buffer.alloc(0), every);
sized('one byte less', () => (bytes) => bytes.subarray(0, -1), every);
sized('one byte more', () => (bytes) => Buffer.concat([bytes, Buffer.of(0)]), every);
sized('zero in front', () => (bytes) => Buffer.concat([Buffer.of(0), bytes]), every);
sized('all zero', () => (bytes) => Buffer.alloc(bytes.length), every);
sized('all ones', () => (bytes) => Buffer.alloc(bytes.length, 0xff), every);
sized('the number one', () => (bytes) => toBytes(1n, bytes.length), every);
sized('reversed', () => (bytes) => Buffer.from(bytes).reverse(), every);
sized('half of it', () => (bytes) => half(bytes, 0), every);
sized('twice', () => (bytes) => Buffer.concat([bytes, bytes]), every);
mutation('signature: a bit flipped', (draft, random) => {
  const [where, bit] = [random.below(1 << 16), random.below(8)];
  draft.ofSignature = (bytes) => {
    const flipped = Buffer.from(bytes);
    flipped[where % bytes.length] ^= 1 << bit;
    return flipped;
  };
});
mutation('signature: of another message', (draft) => {
  const other = signature(draft.alg, draft.key, Buffer.from('another.message'));
  draft.ofSignature = () => other;
});
mutation('signer: a stranger', (draft) => {
  draft.signWith(stranger(draft.signer.key).privateKey);
}, (draft) => Boolean(draft.key.asymmetricKeyType));
mutation('signer: another issuer’s key of that name', (draft) => {
  draft.signWith(draft.others.map((other) => other.signers[draft.signer.label]).find(Boolean).key);
}, (draft) => draft.others.some((other) => other.signers[draft.signer.label]));
mutation('signer: another key of the issuer', (draft) => {
  const { signer, issuer } = draft;
  draft.signWith(Object.values(issuer.signers).find((other) => other.key !== signer.key && canSign(signer.alg, other.key)).key);
}, ({ signer, issuer }) => Object.values(issuer.signers).some((other) => other.key !== signer.key && canSign(signer.alg, other.key)));

const halves = (change) => (draft) => (bytes) => {
  const length = bytes.length / 2;
  const [r, s] = change(toInt(half(bytes, 0)), toInt(half(bytes, 1)), ORDER[draft.signer.alg], length);
  return Buffer.concat([toBytes(r, length), toBytes(s, length)]);
};
sized('r zero', halves((_r, s) => [0n, s]), isEcdsa);
sized('s zero', halves((r) => [r, 0n]), isEcdsa);
sized('r the order', halves((_r, s, n) => [n, s]), isEcdsa);
sized('s the order', halves((r, _s, n) => [r, n]), isEcdsa);
sized('r and s one', halves(() => [1n, 1n]), isEcdsa);
sized('r and s exchanged', halves((r, s) => [s, r]), isEcdsa);
sized('other s of the same', halves((r, s, n) => [r, n - s]), isEcdsa);
sized('low s', halves((r, s, n) => [r, s > n / 2n ? n - s : s]), isEcdsa);
sized('high s', halves((r, s, n) => [r, s > n / 2n ? s : n - s]), isEcdsa);
sized('padded halves', () => (bytes) => Buffer.concat([Buffer.of(0), half(bytes, 0), Buffer.of(0), half(bytes, 1)]), isEcdsa);
mutation('signature: DER', (draft) => (draft.signed = { encoding: 'der' }), isEcdsa);
sized('s and the order', () => (bytes) => {
  const s = toInt(Buffer.from(half(bytes, 1)).reverse());
  return Buffer.concat([half(bytes, 0), Buffer.from(toBytes(s + ORDER.EdDSA, 32)).reverse()]);
}, isEdwards);
sized('small point', () => () => Buffer.concat([Buffer.of(1), Buffer.alloc(63)]), isEdwards);
mutation('signature: with SHA-1', (draft) => (draft.signed = { hash: 'sha1' }), ({ alg }) => alg.startsWith('RS'));
mutation('signature: with SHA-384', (draft) => (draft.signed = { hash: 'sha384' }), ({ alg }) => alg.startsWith('RS'));
/** Lengths of the salt of RSA-PSS signatures, none of which is that of the hash. */
export const SALTS = [0, 20, 64];
for (const saltLength of SALTS) {
  mutation(`signature: salt of ${saltLength}`, (draft) => (draft.signed = { saltLength }), ({ alg }) => alg.startsWith('PS'));
}
sized('and the modulus', (draft) => (bytes) => {
  const modulus = toInt(Buffer.from(draft.signer.key.export({ format: 'jwk' }).n, 'base64url'));
  const sum = toInt(bytes) + modulus;
  const length = bytes.length + (sum >> BigInt(bytes.length * 8) ? 1 : 0);
  return toBytes(sum, length);
}, isRsa);
