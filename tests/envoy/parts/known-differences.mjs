// Differences between onbehalf, jose and jwt_authn, with their reasons. Any other difference is a mistake.
//
// A row: `what` is its subject; `jose` and `jwt_authn` say what they do that onbehalf does not (`accepts`: onbehalf refuses, and
// vice versa; absent: they agree); `of`: the mutations (parts/mutations.mjs) or signers (parts/hostile-issuers.mjs), each of
// which causes it; `on`: the only signers for which the mutations cause it.

import { LONG } from './hostile-tokens.mjs';

const all = (what, ...hows) => hows.map((how) => `${what}: ${how}`);
const both = (...names) => names.flatMap((name) => [`header ${name}`, `payload ${name}`]);

const JSON_RFC = 'RFC 7515, 7517 and 7519 (section 4 each) allow to refuse or to take the last';
const TYPES = ['null', 'number', 'object', 'array', 'array of numbers', 'false'];

export const DIFFERENCES = [
  // Algorithms and keys
  {
    what: '`alg` is `Ed25519`',
    jwt_authn: 'refuses',
    of: ['odd/bare Ed25519 by its new name', 'alg: Ed25519 instead'],
    on: ['odd/bare Ed25519'],
    why: 'It knows only `EdDSA`, the older name of the same (RFC 9864).',
  },
  {
    what: '`alg` is `Ed25519`, that of the JWK `EdDSA`',
    jose: 'refuses',
    jwt_authn: 'refuses',
    of: ['alg: Ed25519 instead'],
    on: ['plain/EdDSA'],
    why: 'They compare names; with the one curve that onbehalf takes, both name the same algorithm.',
  },
  {
    what: 'An RSA key without `alg`, for another algorithm than RS256',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/bare RSA as RS512', 'odd/bare RSA as PS256', ...all('alg', 'RS384 instead', 'RS512 instead', 'PS256 instead', 'PS512 instead')],
    on: ['odd/bare RSA', 'sole/nameless'],
    why: 'onbehalf uses a key with one algorithm (RFC 8725 section 3.1): where the JWK names none, the usual one.',
  },
  {
    what: 'An elliptic key without `alg`, and an `alg` of another kind of key',
    jwt_authn: 'accepts',
    of: all('alg', ...['RS256', 'RS384', 'RS512', 'PS256', 'PS512', 'HS512'].map((alg) => `${alg} instead`)),
    on: ['odd/bare P-256', 'odd/bare Ed25519', 'odd/bare Ed25519 by its new name'],
    why: 'It lets the kind of key decide and not `alg`. The signature is still the key’s.',
  },
  {
    what: 'A P-256 key without `alg`, and `EdDSA`',
    jwt_authn: 'accepts',
    of: ['alg: EdDSA instead'],
    on: ['odd/bare P-256'],
    why: 'As above.',
  },
  {
    what: 'An Ed25519 key without `alg`, and an ECDSA algorithm',
    jwt_authn: 'accepts',
    of: all('alg', 'ES256 instead', 'ES384 instead', 'ES512 instead'),
    on: ['odd/bare Ed25519', 'odd/bare Ed25519 by its new name'],
    why: 'As above.',
  },
  {
    what: 'ES512',
    jwt_authn: 'accepts',
    of: ['odd/P-521'],
    why: 'onbehalf does not support P-521, and jose was told so.',
  },
  {
    what: 'HMAC with a symmetric key from the JWK Set',
    jwt_authn: 'accepts',
    of: ['odd/symmetric', 'odd/bare symmetric'],
    why: 'A published key is no secret: onbehalf has no HMAC, and jose was told so.',
  },
  {
    what: 'A private key in the JWK Set',
    jwt_authn: 'accepts',
    of: ['odd/private'],
    why: 'Everybody can sign with it: onbehalf does not use it.',
  },
  {
    what: 'A JWK that is not for verifying (`use`, `key_ops`)',
    jwt_authn: 'accepts',
    of: ['odd/for encryption', 'odd/for signing'],
    why: 'It does not read those members (RFC 7517 sections 4.2 and 4.3).',
  },
  {
    what: 'An RSA key of 1024 bits',
    jwt_authn: 'accepts',
    of: ['odd/1024 bits'],
    why: 'RFC 7518 section 3.3: 2048 bits or more.',
  },
  {
    what: 'An RSA key with exponent 3, a leading zero or padding in its JWK',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/exponent 3', 'odd/leading zero', 'odd/padded modulus'],
    why: 'onbehalf takes exponent 65537 only, and a JWK only as RFC 7518 sections 2 and 6.3.1 have it.',
  },
  {
    what: 'A JWK whose `issuer` is another one',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['odd/of another issuer'],
    why: 'A member of some multi-tenant providers, which only onbehalf knows.',
  },
  {
    what: 'Two keys with the same `kid` and `alg`',
    jwt_authn: 'accepts',
    of: ['odd/twin 1', 'odd/twin 2', 'odd/copy 1'],
    why: 'It tries one after the other; onbehalf and jose want to know which.',
  },
  {
    what: 'No `kid`, and several keys that could be meant',
    jwt_authn: 'accepts',
    of: ['header kid: missing'],
    on: ['odd/RS256', 'odd/ES256', 'odd/bare RSA', 'odd/bare P-256', 'odd/pair P-256'],
    why: 'As above.',
  },
  {
    what: 'No `kid`, and one key of that algorithm beside one without `alg`',
    jose: 'refuses',
    of: ['header kid: missing'],
    on: ['odd/RS512', 'odd/PS384'],
    why: 'To jose a key without `alg` could be meant, too; to onbehalf it has its usual algorithm.',
  },
  {
    what: 'An empty `kid`',
    jwt_authn: 'accepts',
    of: ['header kid: empty'],
    why: 'It takes that for no `kid`.',
  },
  {
    what: 'A `kid`, and a key without',
    jwt_authn: 'accepts',
    of: [
      'sole/named by the token only',
      ...all('header kid', 'unknown', 'huge', 'path', 'SQL', 'look-alike', 'with NUL', 'with a space', 'other case', 'of another key', 'escaped'),
    ],
    on: ['sole/nameless'],
    why: 'To it a key without name has every name.',
  },

  // The header
  {
    what: '`crit`',
    jwt_authn: 'accepts',
    of: [...all('header crit', 'exp', 'b64', 'empty', 'string', 'null', 'unknown'), 'b64: false and crit'],
    why: 'It ignores `crit`, which RFC 7515 section 4.1.11 forbids.',
  },
  {
    what: '`b64` or `zip`, or `cty` that says JWT or is no string',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [
      ...all('header b64', 'false', 'true'),
      'b64: true and crit',
      ...all('header zip', 'DEF', 'null'),
      ...all('header cty', 'JWT', 'jwt', 'application/jwt', 'number'),
    ],
    why: 'They ignore it, or it changes nothing; onbehalf refuses what says that the payload is something else.',
  },
  {
    what: '`typ` of another kind of JWT, or no string',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all(
      'header typ',
      ...['dpop+jwt', 'logout+jwt', 'secevent+jwt', 'oauth-id-jag+jwt', 'client-authentication+jwt', 'token-introspection+jwt'],
      ...['JOSE', 'empty', 'JWT ', 'text/jwt', 'number', 'null'],
    ),
    why: 'RFC 8725 section 3.11. jose can be told one `typ`, and an access token may have one of several or none.',
  },

  // JSON
  {
    what: 'A member name that stands twice, at any depth',
    jose: 'accepts',
    of: both('names: twice the same', 'names: evil, then good', 'names: evil by escape, then good', 'names: unknown twice', 'names: twice in an inner object'),
    why: `It takes the last. ${JSON_RFC}.`,
  },
  {
    what: 'A lone surrogate',
    jose: 'accepts',
    of: both('member: lone high surrogate', 'member: lone low surrogate', 'member: lone surrogate in a name'),
    why: 'JavaScript’s strings hold it; it is no Unicode text (RFC 8259 section 8.2).',
  },
  {
    what: 'A number beyond what a double holds, in any member',
    jose: 'accepts',
    of: [...both('member: 1e400', 'member: very long number'), ...all('exp', '1e400'), ...all('iat', '1e400')],
    why: 'It reads infinity.',
  },
  {
    what: 'Arrays or objects in one another, 200 deep and more',
    jose: 'accepts',
    of: both('member: arrays 200 deep', 'member: arrays 3000 deep', 'member: objects 200 deep'),
    why: 'onbehalf stops at 128: its stack is not without end.',
  },
  {
    what: 'Arrays in one another, 100 to 127 deep',
    jwt_authn: 'refuses',
    of: both('member: arrays 110 deep', 'member: arrays 126 deep'),
    why: 'It stops at 100.',
  },
  {
    what: 'A byte order mark',
    jose: 'accepts',
    of: both('text: BOM'),
    why: 'Its decoder takes it off; RFC 8259 section 8.1 allows either.',
  },
  {
    what: 'What is no JSON: raw control characters, single quotes, names without quotes, a comma at the end',
    jwt_authn: 'accepts',
    of: both('member: raw NUL', 'member: raw tab', 'member: raw newline', 'member: single quotes', 'member: name without quotes', 'text: comma at the end'),
    why: 'Its reader, that of protocol buffers, is lenient.',
  },

  // Claims
  {
    what: '`aud` with another scheme, without one, or with a slash at the end',
    jwt_authn: 'accepts',
    of: all('aud', 'trailing slash', 'no scheme', 'other scheme'),
    why: 'It compares without them; RFC 7519 section 4.1.3 has strings that are equal or not.',
  },
  {
    what: '`aud` with a member that is no string',
    jose: 'accepts',
    of: all('aud', 'good one and a number', 'number and the good one', 'good one and null'),
    why: 'It looks only whether ours is among them.',
  },
  {
    what: 'No `exp`',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['exp: missing'],
    why: 'An access token has one (RFC 9068 section 2.2); the two would have to be told.',
  },
  {
    what: '`exp` is 0, or less than one second',
    jwt_authn: 'accepts',
    of: all('exp', 'zero', '-0', 'zero with an exponent', 'tiny'),
    why: 'It takes 0 for no `exp`.',
  },
  {
    what: 'A time beyond 2^53 seconds',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [...all('exp', '2^53 + 2', 'largest i64', '2^63'), ...all('iat', '2^53 + 2', 'largest i64', '2^63')],
    why: 'onbehalf takes no number that a double does not count exactly.',
  },
  {
    what: 'A time beyond 2^63 seconds, or before 1970',
    jose: 'accepts',
    of: [
      ...all('exp', 'largest u64', '2^64 and an hour', '1e300'),
      ...all('nbf', 'negative', 'very negative'),
      ...all('iat', 'negative', 'very negative', 'largest u64', '2^64 and an hour', '1e300'),
    ],
    why: 'Any number will do for jose.',
  },
  {
    what: '`iat` that is ahead',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all(
      'iat',
      ...['the year 9999', 'after the year 9999', '2^53', '2^32 and an hour', 'in milliseconds', 'ahead of the leeway', 'far ahead'],
    ),
    why: 'RFC 7519 section 4.1.6 does not ask for it; whoever issues from the future is mistaken about the end, too.',
  },
  {
    what: 'No `sub`, or an empty one',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all('sub', 'missing', 'empty'),
    why: 'onbehalf exchanges for a user, and must know which.',
  },
  {
    what: '`sub` that is no string',
    jose: 'accepts',
    of: all('sub', ...TYPES),
    why: 'It does not look at it.',
  },
  {
    what: '`jti` that is no string',
    jwt_authn: 'refuses',
    of: all('jti', ...TYPES),
    why: 'onbehalf and jose do not use it.',
  },
  {
    what: 'Scopes that are neither text nor a list of texts',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['scope', 'scp'].flatMap((name) => all(name, 'null', 'number', 'object', 'array of numbers', 'false')),
    why: 'They have no notion of scopes.',
  },
  {
    what: '`cnf`, whatever it says',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: all('cnf', ...TYPES, 'of a key', 'of nothing'),
    why: 'A bound token, sent without proof (RFC 9449 section 7.1, RFC 8705 section 3): whoever has it may have stolen it.',
  },
  {
    what: 'An application’s own token, an ID token, or a logout token',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: ['client_id: the subject', 'azp: the subject', 'nonce: of an ID token', 'at_hash: of an ID token', 'events: of a logout token'],
    why: 'They have no notion of access tokens (RFC 9068 sections 2.2 and 5).',
  },

  // Serialization
  {
    what: 'A token of more than 16 KiB',
    jose: 'accepts',
    jwt_authn: 'accepts',
    of: [LONG],
    why: 'A bound on work, and on what is remembered.',
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
    why: 'RFC 7515 section 2 allows none; several texts for one token are several keys in a cache.',
  },
  {
    what: 'Line breaks in base64url',
    jose: 'accepts',
    of: [
      ...['header', 'payload', 'signature'].flatMap((part) => all(`encoding of the ${part}`, 'newline within', 'CR LF within')),
      ...['header', 'payload'].map((part) => `encoding of the ${part}: folded`),
    ],
    why: 'It skips them; HTTP does not bring them that far.',
  },
  {
    what: 'An empty segment too many',
    jwt_authn: 'accepts',
    of: all('token', 'dot at the end', 'dot in front', 'two dots between'),
    why: 'It splits without counting empty ones.',
  },
  {
    what: 'An ECDSA signature with bytes too many',
    jwt_authn: 'accepts',
    of: [...all('signature', 'one byte more', 'padded halves'), ...all('encoding of the signature', 'one character more', 'two characters more')],
    why: 'It halves whatever comes and drops what is left. RFC 7518 section 3.4: two numbers of fixed length.',
  },
];

/** Table of docs/differential.md. */
export function asPage() {
  const rows = DIFFERENCES.map((row) => {
    const ours = [row.jose, row.jwt_authn].includes('accepts') ? 'refused' : 'accepted';
    const theirs = (side) => ({ accepts: 'accepted', refuses: 'refused' })[row[side]] ?? ours;
    return `| ${row.what} | ${ours} | ${theirs('jose')} | ${theirs('jwt_authn')} | ${row.why} |`;
  });
  return `# Where onbehalf reads a token differently

\`tests/envoy/differential.test.mjs\` makes some thousand tokens, most of them hostile, and asks three for a verdict: onbehalf,
npm’s jose, and Envoy’s own \`jwt_authn\`, all three told the same issuers, audiences, keys and leeway. They agree except for what
is in this table. A difference that is not in it fails the test, and so does a row that explains nothing any more.

| Token | onbehalf | jose | jwt_authn | Why |
|---|---|---|---|---|
${rows.join('\n')}
`;
}
