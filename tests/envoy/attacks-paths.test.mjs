// Attack 21 of docs/attacks.md: paths.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import {
  arrivals,
  assertServes,
  configure,
  gateway,
  managerOf,
  parts,
  raw,
  reasonOf,
  refused,
  served,
  start,
  statusOf,
  stop,
  token,
} from './parts/attacks.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { RESOURCE, startGateway } from './parts/gateway.mjs';

before(start);
afterEach(assertServes);
after(stop);

/** Paths that a server may read in this one if it decodes once, in one order or another. */
function readings(path) {
  const bare = path.split(/[?#]/)[0];
  const withoutParameters = (text) => text.replace(/;[^/]*/g, '');
  const decoded = (text) => text.replace(/%[0-9a-f]{2}/gi, (escape) => String.fromCharCode(parseInt(escape.slice(1), 16)));
  const resolved = (text) => {
    const segments = [];
    for (const segment of text.replaceAll('\\', '/').split('/').filter((part) => part !== '' && part !== '.')) {
      if (segment === '..') segments.pop();
      else segments.push(segment);
    }
    return `/${segments.join('/')}`;
  };
  const spelled = [bare, decoded(bare), withoutParameters(bare), withoutParameters(decoded(bare)), decoded(withoutParameters(bare))];
  return spelled.flatMap((text) => [resolved(text), resolved(text.split('\0')[0])]);
}

const ADMIN = [
  '/mcp/admin',
  '/mcp/admin/',
  '/mcp/admin/x',
  '/mcp//admin',
  '//mcp//admin',
  '/mcp/./admin',
  '/mcp/x/../admin',
  '/mcp/x/..;/admin',
  '/mcp/x/..;a=b/admin',
  '/mcp/;/admin',
  '/mcp/admin;x',
  '/mcp;x/admin',
  '/mcp/.;/admin',
  '/mcp/%2e/admin',
  '/mcp/x/%2e%2e/admin',
  '/mcp/x/%2E%2E%3b/admin',
  '/mcp/x/.%2e/admin',
  '/mcp%2Fadmin',
  '/mcp%2fadmin/x',
  '/mcp/%61dmin',
  '/mcp/%61%64%6d%69%6e/x',
  '/mcp/admin%2fx',
  '/mcp/admin%00',
  '/mcp/admin%3bx',
  '/mcp/admin%3Fx',
  '/mcp/admin%23x',
  '/mcp\\admin',
  '/mcp%5cadmin',
  '/mcp/x\\..\\admin',
  '/mcp/x/..%5cadmin',
  '/mcp/x%2f..%2fadmin',
  '/mcp/x/..%2fadmin',
  '/mcp/admin#x',
  '/mcp#/../mcp/admin',
  '/mcp/admin?x',
  '/mcp?/../admin',
  '/healthz/../mcp/admin',
  '/healthz/..;/mcp/admin',
  '/healthz;/../mcp/admin',
  '/healthz%2f..%2fmcp/admin',
  '/healthz#/../mcp/admin',
  '/healthz?/../mcp/admin',
  '/x/../mcp/admin',
  '/.well-known/oauth-protected-resource/../../mcp/admin',
  '/.well-known/oauth-protected-resource/mcp/..;/..;/..;/mcp/admin',
  '/nonced/../mcp/admin',
];

const METADATA = [
  '//.well-known/oauth-protected-resource/mcp',
  '/.well-known//oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource//mcp',
  '/.well-known/./oauth-protected-resource/mcp',
  '/mcp/../.well-known/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/mcp/',
  '/.well-known/oauth-protected-resource/mcp/..',
  '/.well-known/oauth-protected-resource/%6dcp',
  '/%2ewell-known/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource%2fmcp',
  '/.well-known%2foauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/mcp;x',
  '/.well-known/oauth-protected-resource;x/mcp',
  '/.well-known/oauth-protected-resource/mcp%00',
  '/.well-known/oauth-protected-resource/mcp\\x',
  '/.well-known/oauth-protected-resource/mcp#x',
  '/.well-known/oauth-protected-resource/mcp?x',
  '/.WELL-KNOWN/oauth-protected-resource/mcp',
  '/.well-known/oauth-protected-resource/MCP',
  '/.well-known/oauth-protected-resource/mcp/x',
  '/.well-known/oauth-protected-resource/healthz',
  '/.well-known/oauth-protected-resource/../../healthz/x',
];

for (const [what, change] of [
  ['that Envoy normalises as in the recipes', () => {}],
  [
    'that Envoy does not normalise',
    (bootstrap) => {
      const manager = managerOf(bootstrap);
      for (const option of ['normalize_path', 'merge_slashes', 'path_with_escaped_slashes_action']) {
        assert.ok(option in manager, option);
        delete manager[option];
      }
    },
  ],
]) {
  describe(`21: a path ${what}`, () => {
    let own;
    before(async () => {
      own = await startGateway(parts, {
        change: (filter, bootstrap) => {
          configure(filter, bootstrap);
          change(bootstrap);
        },
      });
    });
    after(() => own?.stop());
    const credentials = () => [`authorization: Bearer ${token}`];

    it('no spelling of a path reaches the administrators’ resource', async () => {
      assert.ok(ADMIN.slice(0, 12).every((path) => readings(path).some((read) => read.startsWith('/mcp/admin'))));
      for (const path of ADMIN) {
        for (const lines of [credentials(), []]) {
          const { answer, arrived } = await arrivals(() => raw(lines, { path, at: own }));
          for (const { path: seen, identity } of arrived) {
            const reads = readings(seen);
            assert.ok(!reads.some((read) => read === '/mcp/admin' || read.startsWith('/mcp/admin/')), `${path} arrived as ${seen}`);
            assert.ok(identity || reads.every((read) => read === '/healthz'), `${path} arrived as ${seen} without a token`);
          }
          assert.ok([200, 301, 307, 400, 401, 403, 404].includes(statusOf(answer)) || arrived.length, `${path}: ${answer.slice(0, 200)}`);
        }
      }
      await arrivals(() => raw(credentials(), { path: '/mcp/admin', at: own })).then(({ answer }) =>
        assert.equal(reasonOf(answer), 'insufficient_scope'),
      );
    });

    it('a trailing slash or upper case does not bypass the token', async () => {
      await refused(401, 'no_credentials', [], { path: '/mcp/', at: own });
      assert.equal((await served(credentials(), { path: '/mcp/', at: own })).path, '/mcp/');
      for (const path of ['/MCP', '/Mcp/admin', '/HEALTHZ', '/healthz/', '/mcpx']) {
        await refused(404, 'unknown_resource', credentials(), { path, at: own });
        await refused(404, 'unknown_resource', [], { path, at: own });
      }
    });

    it('no spelling of the metadata path reaches the upstream', async () => {
      for (const path of METADATA) {
        for (const lines of [credentials(), []]) {
          const { answer, arrived } = await arrivals(() => raw(lines, { path, at: own }));
          assert.equal(arrived.length, 0, `${path} arrived as ${arrived[0]?.path}`);
          const status = statusOf(answer);
          if (status === 200) {
            const [, body] = answer.split('\r\n\r\n');
            // Each form of the resource's URL, with and without a slash at the end, has a document of its own.
            assert.ok([RESOURCE, `${RESOURCE}/`].includes(JSON.parse(body).resource), path);
          } else {
            assert.ok([301, 307, 400, 404].includes(status), `${path}: ${answer.slice(0, 200)}`);
          }
        }
      }
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(own));
  });
}

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
