// Differences between onbehalf, jose and jwt_authn, with their reasons. Any other difference is a mistake.
//
// A row: `what` is its subject; `jose` and `jwt_authn` say what they do that onbehalf does not (`accepts`: onbehalf refuses, and
// vice versa; absent: they agree); `of`: the mutations (parts/mutations.mjs) or signers (parts/hostile-issuers.mjs), each of
// which causes it; `on`: the only signers for which the mutations cause it; `isOf`: false for an Envoy that does not do so.

import { LONG } from './hostile-tokens.mjs';
import { SALTS } from './mutations.mjs';
import { isAtLeast } from './version.mjs';

const all = (what, ...hows) => hows.map((how) => `${what}: ${how}`);
const both = (...names) => names.flatMap((name) => [`header ${name}`, `payload ${name}`]);

const JSON_RFC = 'RFC 7515, 7517 and 7519 (section 4 each) allow a parser to refuse the object or to take the last one';
const TYPES = ['null', 'number', 'object', 'array', 'array of numbers', 'false'];

const ALL = [
  // Algorithms and keys
  {
    what: '`alg` is `Ed25519`',
    jwt_authn: 'refuses',
    of: ['odd/bare Ed25519 by its new name', 'alg: Ed25519 instead'],
    on: ['odd/bare Ed25519'],
    why: 'jwt_authn supports only `EdDSA`, the older name (RFC 9864).',
  },
  {
    what: '`alg` is `Ed25519` and the JWK has `EdDSA`',
    jose: 'refuses',
    jwt_authn: 'refuses',
    of: ['alg: Ed25519 instead'],
    on: ['plain/EdDSA'],
    why: 'jose and jwt_authn compare names. Both names mean one algorithm, because Ed25519 is the only Edwards curve of onbehalf.',
  },
  {
    what: 'An RSA key without `alg`, used with another algorithm than RS256',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/bare RSA as RS512', 'odd/bare RSA as PS256', ...all('alg', 'RS384 instead', 'RS512 instead', 'PS256 instead', 'PS512 instead')],
    on: ['odd/bare RSA', 'sole/nameless'],
    why: 'onbehalf uses a key with one algorithm (RFC 8725 section 3.1): without `alg` in the JWK, the default of its type.',
  },
  {
    what: 'An elliptic curve key without `alg`, and a token with `alg` of another key type',
    jwt_authn: 'accepts',
    of: all('alg', ...['RS256', 'RS384', 'RS512', 'PS256', 'PS512', 'HS512'].map((alg) => `${alg} instead`)),
    on: ['odd/bare P-256', 'odd/bare Ed25519', 'odd/bare Ed25519 by its new name'],
    why: 'jwt_authn verifies by the type of the key and ignores `alg`. The signature is still that of the key.',
  },
  {
    what: 'A P-256 key without `alg`, and a token with `EdDSA`',
    jwt_authn: 'accepts',
    of: ['alg: EdDSA instead'],
    on: ['odd/bare P-256'],
    why: 'jwt_authn verifies by the type of the key and ignores `alg`, as above.',
  },
  {
    what: 'An Ed25519 key without `alg`, and a token with an ECDSA algorithm',
    jwt_authn: 'accepts',
    of: all('alg', 'ES256 instead', 'ES384 instead', 'ES512 instead'),
    on: ['odd/bare Ed25519', 'odd/bare Ed25519 by its new name'],
    why: 'jwt_authn verifies by the type of the key and ignores `alg`, as above.',
  },
  {
    what: 'ES512',
    jwt_authn: 'accepts',
    of: ['odd/P-521'],
    why: 'onbehalf does not support P-521, and the test restricts jose to the algorithms of onbehalf.',
  },
  {
    what: 'HMAC with a symmetric key from the JWKS',
    jwt_authn: 'accepts',
    of: ['odd/symmetric', 'odd/bare symmetric'],
    why: 'A published key is not secret: onbehalf has no HMAC, and the test restricts jose to the algorithms of onbehalf.',
  },
  {
    what: 'A private key in the JWKS',
    jwt_authn: 'accepts',
    of: ['odd/private'],
    why: 'Anyone can sign with a published private key: onbehalf does not use it.',
  },
  {
    what: 'A JWK that is not for verification (`use`, `key_ops`)',
    jwt_authn: 'accepts',
    of: ['odd/for encryption', 'odd/for signing'],
    why: 'jwt_authn does not read these members (RFC 7517 sections 4.2 and 4.3).',
  },
  {
    what: 'An RSA key of 1024 bits',
    jwt_authn: 'accepts',
    of: ['odd/1024 bits'],
    why: 'RFC 7518 section 3.3 requires 2048 bits or more.',
  },
  {
    what: 'An RSA key with exponent 3, a leading zero or padding in its JWK',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/exponent 3', 'odd/leading zero', 'odd/padded modulus'],
    why: 'onbehalf accepts exponent 65537 only, and a JWK only in the form of RFC 7518 sections 2 and 6.3.1.',
  },
  {
    what: 'A JWK with another `issuer`',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/of another issuer'],
    why: 'Some multi-tenant providers publish this member; only onbehalf reads it.',
  },
  {
    what: 'Two different keys with the same `kid` and `alg`',
    jwt_authn: 'accepts',
    of: ['odd/twin 1', 'odd/twin 2'],
    why: 'jwt_authn tries both keys; onbehalf and jose refuse an ambiguous key.',
  },
  {
    what: 'One key that the JWKS lists twice',
    jose: 'refuses',
    of: ['odd/copy 1'],
    why: 'Some providers list a key twice. For onbehalf it is one key, for jose two that fit.',
  },
  {
    what: 'No `kid`, and several keys that fit',
    jwt_authn: 'accepts',
    of: ['header kid: missing'],
    on: ['odd/RS256', 'odd/ES256', 'odd/bare RSA', 'odd/bare P-256', 'odd/pair P-256'],
    why: 'jwt_authn tries all keys, as above.',
  },
  {
    what: 'No `kid`, a key of that algorithm, and another key without `alg`',
    jose: 'refuses',
    of: ['header kid: missing'],
    on: ['odd/RS512', 'odd/PS384'],
    why: 'For jose a key without `alg` fits as well; for onbehalf it has the default algorithm of its type.',
  },
  {
    what: 'An empty `kid`',
    jwt_authn: 'accepts',
    of: ['header kid: empty'],
    why: 'jwt_authn reads an empty `kid` as no `kid`.',
  },
  {
    what: 'A `kid` in the token, and a key without `kid`',
    jwt_authn: 'accepts',
    of: [
      'sole/named by the token only',
      ...all('header kid', 'unknown', 'huge', 'path', 'SQL', 'look-alike', 'with NUL', 'with a space', 'other case', 'of another key', 'escaped'),
    ],
    on: ['sole/nameless'],
    why: 'For jwt_authn a key without `kid` fits every `kid`.',
  },

  // The header
  {
    what: '`crit`',
    jwt_authn: 'accepts',
    of: [...all('header crit', 'exp', 'b64', 'empty', 'string', 'null', 'unknown'), 'b64: false and crit'],
    why: 'jwt_authn ignores `crit`, which RFC 7515 section 4.1.11 forbids.',
  },
  {
    what: '`b64`, a `zip` that is DEF or not a string, or a `cty` that is JWT or not a string',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [
      ...all('header b64', 'false', 'true'),
      'b64: true and crit',
      ...all('header zip', 'DEF', 'null'),
      ...all('header cty', 'JWT', 'jwt', 'application/jwt', 'number'),
    ],
    why: 'jose and jwt_authn ignore these members; onbehalf refuses a header that gives the payload another meaning.',
  },
  {
    what: '`typ` of another kind of JWT, or not a string',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all(
      'header typ',
      ...['dpop+jwt', 'logout+jwt', 'secevent+jwt', 'oauth-id-jag+jwt', 'client-authentication+jwt', 'token-introspection+jwt'],
      ...['JOSE', 'empty', 'JWT ', 'text/jwt', 'number', 'null'],
    ),
    why: 'RFC 8725 section 3.11. jose can require one `typ`, and an access token may have one of several or none.',
  },

  // JSON
  {
    what: 'A repeated member name, at any depth',
    jose: 'accepts',
    of: both('names: twice the same', 'names: evil, then good', 'names: evil by escape, then good', 'names: unknown twice', 'names: twice in an inner object'),
    why: `jose takes the last one. ${JSON_RFC}.`,
  },
  {
    what: 'A lone surrogate',
    jose: 'accepts',
    of: both('member: lone high surrogate', 'member: lone low surrogate', 'member: lone surrogate in a name'),
    why: 'JavaScript strings can hold it; it is not Unicode text (RFC 8259 section 8.2).',
  },
  {
    what: 'A number beyond the range of a double, in any member',
    jose: 'accepts',
    of: [...both('member: 1e400', 'member: very long number'), ...all('exp', '1e400'), ...all('iat', '1e400')],
    why: 'jose reads infinity.',
  },
  {
    what: 'Arrays or objects nested 200 deep and more',
    jose: 'accepts',
    of: both('member: arrays 200 deep', 'member: arrays 3000 deep', 'member: objects 200 deep'),
    why: 'onbehalf limits the depth to 128, because its stack is limited.',
  },
  {
    what: 'Arrays nested 100 to 127 deep',
    jwt_authn: 'refuses',
    of: both('member: arrays 110 deep', 'member: arrays 126 deep'),
    why: 'jwt_authn limits the depth to 100.',
  },
  {
    what: 'A byte order mark',
    jose: 'accepts',
    of: both('text: BOM'),
    why: 'The decoder of jose removes it; RFC 8259 section 8.1 allows either.',
  },
  {
    what: 'Text that is not JSON: raw control characters, single quotes, names without quotes, a trailing comma',
    jwt_authn: 'accepts',
    of: both('member: raw NUL', 'member: raw tab', 'member: raw newline', 'member: single quotes', 'member: name without quotes', 'text: comma at the end'),
    why: 'The parser of jwt_authn, that of protocol buffers, is lenient.',
  },

  // Claims
  {
    what: '`aud` with another scheme, without a scheme, or with a trailing slash',
    jwt_authn: 'accepts',
    of: all('aud', 'trailing slash', 'no scheme', 'other scheme'),
    why: 'jwt_authn compares without scheme and trailing slash; RFC 7519 section 4.1.3 compares strings exactly.',
  },
  {
    what: '`aud` with a member that is not a string',
    jose: 'accepts',
    of: all('aud', 'good one and a number', 'number and the good one', 'good one and null'),
    why: 'jose checks only that the expected audience is a member.',
  },
  {
    what: 'No `exp`',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['exp: missing'],
    why: 'An access token has `exp` (RFC 9068 section 2.2); jose and jwt_authn require it only if they are configured so.',
  },
  {
    what: '`exp` is 0 or less than one second',
    jwt_authn: 'accepts',
    of: all('exp', 'zero', '-0', 'zero with an exponent', 'tiny'),
    why: 'jwt_authn reads 0 as no `exp`.',
  },
  {
    what: 'A time beyond 2^53 seconds',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [...all('exp', '2^53 + 2', 'largest i64', '2^63'), ...all('iat', '2^53 + 2', 'largest i64', '2^63')],
    why: 'onbehalf accepts no integer that a double cannot represent exactly.',
  },
  {
    what: 'A time beyond 2^63 seconds',
    jose: 'accepts',
    of: [
      ...all('exp', 'largest u64', '2^64 and an hour', '1e300'),
      ...all('iat', 'largest u64', '2^64 and an hour', '1e300'),
    ],
    why: 'jose accepts any number.',
  },
  {
    what: '`nbf` or `iat` is `null`',
    jose: 'refuses',
    jwt_authn: 'refuses',
    of: ['nbf: null', 'iat: null'],
    why: 'For onbehalf a claim that is `null` counts as absent (docs/adr/0026).',
  },
  {
    what: '`nbf` or `iat` before 1970',
    jwt_authn: 'refuses',
    of: ['nbf', 'iat'].flatMap((name) => all(name, 'negative', 'very negative')),
    why: 'Such a time is in the past, as 0 is.',
  },
  {
    what: '`iat` in the future',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all(
      'iat',
      ...['the year 9999', 'after the year 9999', '2^53', '2^32 and an hour', 'in milliseconds', 'ahead of the leeway', 'far ahead'],
    ),
    why: 'RFC 7519 section 4.1.6 does not require the check; an issuer with a wrong clock sets a wrong `exp` as well.',
  },
  {
    what: 'No `sub` or an empty one',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all('sub', 'missing', 'empty'),
    why: 'onbehalf exchanges the token of a user, and must know the user.',
  },
  {
    what: '`sub` that is not a string',
    jose: 'accepts',
    of: all('sub', ...TYPES),
    why: 'jose does not check `sub`.',
  },
  {
    what: '`jti` that is not a string',
    jwt_authn: 'refuses',
    of: all('jti', ...TYPES),
    why: 'onbehalf and jose do not read `jti`.',
  },
  {
    what: '`cnf` of any form but `null`',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all('cnf', ...TYPES.filter((type) => type !== 'null'), 'of a key', 'of nothing'),
    why: 'A sender-constrained token without a proof (RFC 9449 section 7.1, RFC 8705 section 3) may be stolen.',
  },
  {
    what: 'A token of an application, an ID token or a logout token',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['client_id: the subject', 'azp: the subject', 'nonce: of an ID token', 'at_hash: of an ID token', 'events: of a logout token'],
    why: 'jose and jwt_authn do not distinguish access tokens (RFC 9068 sections 2.2 and 5).',
  },

  // Serialization
  {
    what: 'A token longer than 16 KiB',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [LONG],
    why: 'The limit bounds work and memory.',
  },
  {
    what: 'Padding, white space or loose bits in base64url',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [
      ...['header', 'payload'].flatMap((part) => all(`encoding of the ${part}`, 'one equals sign', 'space behind')),
      ...['header', 'payload', 'signature'].flatMap((part) =>
        all(`encoding of the ${part}`, 'padded', 'loose bits at the end', 'space within', 'tab within'),
      ),
      'encoding of the payload: space before',
      ...all('encoding of the signature', 'space before', 'folded'),
    ],
    why: 'RFC 7515 section 2 allows none of them; several texts of one token would be several cache keys.',
  },
  {
    what: 'Line breaks in base64url',
    jose: 'accepts',
    of: [
      ...['header', 'payload', 'signature'].flatMap((part) => all(`encoding of the ${part}`, 'newline within', 'CR LF within')),
      ...['header', 'payload'].map((part) => `encoding of the ${part}: folded`),
    ],
    why: 'jose skips them; HTTP does not carry them in a field.',
  },
  {
    what: 'An additional empty segment',
    jwt_authn: 'accepts',
    of: all('token', 'dot at the end', 'dot in front', 'two dots between'),
    why: 'jwt_authn ignores empty segments.',
  },
  {
    what: 'An ECDSA signature with additional bytes',
    jwt_authn: 'accepts',
    of: [...all('signature', 'one byte more', 'padded halves'), ...all('encoding of the signature', 'one character more', 'two characters more')],
    why: 'jwt_authn splits the signature in half and ignores the rest. RFC 7518 section 3.4 requires two numbers of fixed length.',
  },
  {
    what: 'An RSA-PSS signature with a salt of another length (Envoy 1.36 and 1.37 only)',
    isOf: () => !isAtLeast('1.38'),
    jwt_authn: 'accepts',
    of: SALTS.map((length) => `signature: salt of ${length}`),
    why: 'jwt_authn accepted every length before 1.38. RFC 7518 section 3.5 requires the length of the hash.',
  },
];

/** Rows that apply to the Envoy under test. */
export const DIFFERENCES = ALL.filter(({ isOf }) => isOf?.() ?? true);

/** Table of docs/differential.md. */
export function asPage() {
  const rows = ALL.map((row) => {
    const ours = [row.jose, row.jwt_authn].includes('accepts') ? 'refused' : 'accepted';
    const theirs = (side) => ({ accepts: 'accepted', refuses: 'refused' })[row[side]] ?? ours;
    return `| ${row.what} | ${ours} | ${theirs('jose')} | ${theirs('jwt_authn')} | ${row.why} |`;
  });
  return `# Differences between onbehalf, jose and jwt_authn

\`tests/envoy/differential.test.mjs\` makes several thousand tokens, most of them hostile, and compares three verdicts: of onbehalf, of
jose (npm), and of Envoy’s own \`jwt_authn\`, with the same issuers, audiences, keys and clock skew. The three agree except in the rows of
this table. A difference without a row fails the test, and so does a row that explains no difference.

| Token | onbehalf | jose | jwt_authn | Reason |
|---|---|---|---|---|
${rows.join('\n')}
`;
}
