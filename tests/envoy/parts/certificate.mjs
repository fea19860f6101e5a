// X.509 certificates made by the tests, for TLS between Envoy and the identity providers without a key or a certificate in the
// repository. It has just enough DER (X.690) for that.

import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';

function der(tag, ...parts) {
  const content = Buffer.concat(parts);
  const length = content.length;
  const size =
    length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const sequence = (...parts) => der(0x30, ...parts);
const set = (...parts) => der(0x31, ...parts);
const integer = (bytes) => der(0x02, bytes);
const octets = (content) => der(0x04, content);
const boolean = der(0x01, Buffer.from([0xff]));
const utf8 = (text) => der(0x0c, Buffer.from(text));
const bits = (content) => der(0x03, Buffer.from([0]), content);
const explicit = (number, content) => der(0xa0 | number, content);

function oid(dotted) {
  const [first, second, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const base128 = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) base128.unshift((left & 0x7f) | 0x80);
    bytes.push(...base128);
  }
  return der(0x06, Buffer.from(bytes));
}

const utcTime = (date) =>
  der(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replace(/[-T:]/g, '')}Z`));

const name = (commonName) => sequence(set(sequence(oid('2.5.4.3'), utf8(commonName))));

const SIGNATURE_ALGORITHMS = {
  ec: sequence(oid('1.2.840.10045.4.3.2')), // ecdsa-with-SHA256
  rsa: sequence(oid('1.2.840.113549.1.1.11'), der(0x05)), // sha256WithRSAEncryption
};

const basicConstraints = sequence(oid('2.5.29.19'), boolean, octets(sequence(boolean)));

function subjectAltNames(hosts) {
  const names = hosts.map((host) =>
    /^[\d.]+$/.test(host)
      ? der(0x87, Buffer.from(host.split('.').map(Number)))
      : der(0x82, Buffer.from(host)),
  );
  return sequence(oid('2.5.29.17'), octets(sequence(...names)));
}

function certificate({ subject, publicKey, issuer, privateKey, extensions }) {
  const algorithm = SIGNATURE_ALGORITHMS[privateKey.asymmetricKeyType];
  const day = 24 * 60 * 60 * 1000;
  const toBeSigned = sequence(
    explicit(0, integer(Buffer.from([2]))),
    integer(Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    name(issuer),
    sequence(utcTime(new Date(Date.now() - day)), utcTime(new Date(Date.now() + 30 * day))),
    name(subject),
    publicKey.export({ type: 'spki', format: 'der' }),
    ...(extensions.length ? [explicit(3, sequence(...extensions))] : []),
  );
  return sequence(toBeSigned, algorithm, bits(sign('sha256', toBeSigned, privateKey)));
}

const pem = (bytes) =>
  `-----BEGIN CERTIFICATE-----\n${bytes
    .toString('base64')
    .replace(/.{64}/g, '$&\n')
    .trimEnd()}\n-----END CERTIFICATE-----\n`;

/** Makes a certificate authority for this process: `{certificate, issue(hosts)}`, PEM. */
export function throwAwayAuthority() {
  const subject = 'onbehalf test authority';
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const own = certificate({
    subject,
    issuer: subject,
    ...authority,
    extensions: [basicConstraints],
  });
  return {
    certificate: pem(own),
    issue(hosts) {
      const server = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const issued = certificate({
        subject: hosts[0],
        issuer: subject,
        publicKey: server.publicKey,
        privateKey: authority.privateKey,
        extensions: [subjectAltNames(hosts)],
      });
      return { cert: pem(issued), key: server.privateKey.export({ type: 'pkcs8', format: 'pem' }) };
    },
  };
}

/** Certificate of the key of a client in the form of an operator’s upload, PEM, and its SHA-256 thumbprint. */
export function ofClient(subject, keys) {
  const own = certificate({ subject, issuer: subject, ...keys, extensions: [] });
  return { pem: pem(own), thumbprint: createHash('sha256').update(own).digest('base64url') };
}

/** JWK members of a certificate: `x5c`, and its SHA-1 thumbprint `x5t`. */
export function selfSigned({ subject, publicKey, privateKey }) {
  const own = certificate({ subject, issuer: subject, publicKey, privateKey, extensions: [] });
  return {
    x5c: [own.toString('base64')],
    x5t: createHash('sha1').update(own).digest('base64url'),
  };
}
