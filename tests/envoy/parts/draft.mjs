// Draft of a token, which mutations change before it is signed and serialized.

import { signature } from './hostile-issuers.mjs';

const b64url = (bytes) => Buffer.from(bytes).toString('base64url');
const json = JSON.stringify;

/** Token before its serialization: mutations change it. */
export class Draft {
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
