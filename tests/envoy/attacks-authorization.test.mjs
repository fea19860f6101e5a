// Attack 18 of docs/attacks.md: the Authorization field over HTTP/1.1.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { assertServes, gateway, refused, served, start, stop, token } from './parts/attacks.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';

before(start);
afterEach(assertServes);
after(stop);

describe('18: the Authorization field over HTTP/1.1', () => {
  it('a missing, empty or other Authorization field is not a credential', async () => {
    await refused(401, 'no_credentials', []);
    for (const value of ['', ' ', '\t', 'Basic YTpi', 'Negotiate x', `Bearerx ${token}`, token]) {
      await refused(401, 'no_credentials', [`authorization: ${value}`]);
    }
    await refused(401, 'no_credentials', [`proxy-authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`x-authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`cookie: authorization=Bearer ${token}`]);
  });

  it('an Authorization field with another separator gets 400', async () => {
    for (const value of [
      'Bearer',
      'Bearer ',
      'Bearer,',
      `Bearer\t${token}`,
      `Bearer \t${token}`,
      `Bearer,${token}`,
      `Bearer:${token}`,
      `Bearer=${token}`,
      `Bearer "${token}"`,
      `Bearer ${token} ${token}`,
      `Bearer ${token};x=y`,
      `Bearer ${token}\xe9`,
      `Bearer \xff\xfe`,
    ]) {
      await refused(400, 'malformed_credentials', [`authorization: ${value}`]);
    }
  });

  it('the scheme takes any case, and spaces around the token', async () => {
    for (const line of [
      `authorization: bearer ${token}`,
      `AUTHORIZATION: BEARER ${token}`,
      `authorization: Bearer  ${token}`,
      `authorization:Bearer     ${token}`,
      `authorization: \t  Bearer ${token} \t `,
    ]) {
      await served([line]);
    }
  });

  it('two Authorization fields get 400, in two lines and in one', async () => {
    const good = `Bearer ${token}`;
    for (const [first, second] of [
      [good, good],
      [good, 'Bearer junk'],
      ['Bearer junk', good],
      [good, 'Basic YTpi'],
    ]) {
      const [one, two] = [first, second].map((value) => `authorization: ${value}`);
      await refused(400, 'multiple_credentials', [one, two]);
      await refused(400, 'multiple_credentials', [one, 'x-between: 1', two.replace('authorization', 'AuthoriZation')]);
    }
    // Envoy joins the two fields; the scheme is then that of the first. An empty field adds nothing.
    await refused(401, 'no_credentials', ['authorization: Basic YTpi', `authorization: ${good}`]);
    await served(['authorization:', `authorization: ${good}`]);
    await served([`authorization: ${good}`, 'authorization:']);
    for (const value of [`${good}, ${good}`, `${good},${good}`, `${good},`, `Bearer junk, ${good}`]) {
      await refused(400, 'multiple_credentials', [`authorization: ${value}`]);
    }
  });

  it('a folded line is one line with a space (RFC 9112 section 5.2)', async () => {
    const half = token.length >> 1;
    await served([`authorization: Bearer\r\n ${token}`]);
    await served([`authorization:\r\n Bearer ${token}`]);
    await served(['x-other: 1\r\n authorization: Bearer x', `authorization: Bearer ${token}`]);
    await refused(401, 'no_credentials', [`x-other: 1\r\n authorization: Bearer ${token}`]);
    const folded = `authorization: Bearer ${token.slice(0, half)}\r\n\t${token.slice(half)}`;
    await refused(400, 'malformed_credentials', [folded]);
    await refused(400, 'multiple_credentials', [`authorization: Bearer ${token},\r\n Bearer ${token}`]);
  });

  it('a malformed line gets 400 from Envoy', async () => {
    for (const lines of [
      [`authorization : Bearer ${token}`],
      [`authorization: Bearer ${token}\0`],
      [` authorization: Bearer ${token}`],
      [`\0authorization: Bearer ${token}`],
      [`author\xefzation: Bearer ${token}`],
    ]) {
      await refused(400, undefined, lines);
    }
    // A single carriage return does not end a line in Envoy.
    await refused(400, 'malformed_credentials', [`authorization: Bearer ${token}\rx: y`]);
    await refused(401, 'no_credentials', [`x: y\rauthorization: Bearer ${token}`]);
  });

  it('a token longer than 16 KiB is not parsed', async () => {
    await refused(400, 'token_too_large', [`authorization: Bearer ${'A'.repeat(16 * 1024 + 1)}`]);
    await refused(401, 'opaque_token', [`authorization: Bearer ${'A'.repeat(16 * 1024)}`]);
  });

  it('a token in the query gets 400, with a valid token too', async () => {
    for (const query of [`access_token=${token}`, 'access_token=', 'access_token', 'x=y&%61ccess%5Ftoken=z']) {
      for (const lines of [[], [`authorization: Bearer ${token}`]]) {
        await refused(400, 'multiple_credentials', lines, { path: `/mcp?${query}` });
      }
      await refused(400, 'multiple_credentials', [], { path: `/healthz?${query}` });
    }
  });

  it('a token in a form or in a trailer is not a credential', async () => {
    const form = `access_token=${token}`;
    const formLines = ['content-type: application/x-www-form-urlencoded', `content-length: ${form.length}`];
    await refused(401, 'no_credentials', formLines, { method: 'POST', body: form });
    const trailer = `0\r\nauthorization: Bearer ${token}\r\n\r\n`;
    const chunked = ['transfer-encoding: chunked', 'trailer: authorization'];
    await refused(401, 'no_credentials', chunked, { method: 'POST', body: trailer });
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
