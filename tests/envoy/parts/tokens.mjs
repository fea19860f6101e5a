// Changes of signed tokens.

/** JSON of a segment of a token. */
export const decode = (segment) => JSON.parse(Buffer.from(segment, 'base64url').toString());
const encode = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');

/** Returns the token with another header or other claims, and its old signature. */
export function edited(token, { header = (h) => h, claims = (c) => c }) {
  const [h, c, signature] = token.split('.');
  return [encode(header(decode(h))), encode(claims(decode(c))), signature].join('.');
}

/** Returns the token with another `kid` in its header. */
export const withKid = (token, kid) => edited(token, { header: (header) => ({ ...header, kid }) });
