// Browser clients of other origins, with the configuration of docs/guides/existing-envoy.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import YAML from 'yaml';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';

const PAGE = readFileSync(new URL('../../docs/guides/existing-envoy.md', import.meta.url), 'utf8');
const [, section] = PAGE.split('### Browsers: CORS');
const [FILTERS, POLICY] = [...section.matchAll(/```yaml\n(.*?)```/gs)].map(([, text]) => YAML.parse(text));

const ORIGIN = 'https://app.acme.com';
const ELSEWHERE = 'https://elsewhere.example';

/** Puts the filters and the policy of the guide around the filter. `only`: names of the CORS filters that are there. */
const withCors = (only) => (_filter, { static_resources: { listeners } }) => {
  const manager = listeners[0].filter_chains[0].filters[0].typed_config;
  const known = new Map(manager.http_filters.map((filter) => [filter.name, filter]));
  manager.http_filters = FILTERS.http_filters
    .filter(({ name }) => known.has(name) || only.includes(name))
    .map((filter) => known.get(filter.name) ?? filter);
  const policies = Object.entries(POLICY.typed_per_filter_config).filter(([name]) => only.includes(name));
  manager.route_config.virtual_hosts[0].typed_per_filter_config = Object.fromEntries(policies);
};

let parts;
let gateway;
let number = 0;
const newcomer = async () => {
  number += 1;
  return (await signIn(parts.entra, `browser${number}@contoso.example`)).accessToken;
};

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, { change: withCors(['cors', 'cors_of_upstream']) });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

const preflight = (origin, to = gateway) =>
  to.send({
    method: 'OPTIONS',
    path: '/mcp',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization, mcp-session-id',
    },
  });

/** Asserts that a script of `ORIGIN` can read the answer, its challenge and its session. */
function assertReadable({ headers }) {
  assert.equal(headers['access-control-allow-origin'], ORIGIN);
  const exposed = headers['access-control-expose-headers'].split(/, */);
  for (const name of ['www-authenticate', 'mcp-session-id', 'retry-after']) assert.ok(exposed.includes(name), name);
}

async function rejectingAll(act) {
  parts.mcp.reject((response) => {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end();
    return true;
  });
  try {
    await act();
  } finally {
    parts.mcp.reject();
  }
}

describe('a script of an origin that the policy lists', () => {
  it('gets a preflight answered without a token', async () => {
    const { length } = parts.mcp.requests;
    const { status, headers } = await preflight(ORIGIN);
    assert.equal(status, 200);
    assert.equal(headers['access-control-allow-origin'], ORIGIN);
    assert.match(headers['access-control-allow-headers'], /authorization.*mcp-session-id/);
    assert.equal(parts.mcp.requests.length, length, 'the upstream gets none');
  });

  it('can read a response of the upstream', async () => {
    const answer = await gateway.call(await newcomer(), { origin: ORIGIN });
    assert.equal(answer.status, 200);
    assertReadable(answer);
  });

  it('can read the challenge of a refusal', async () => {
    for (const token of [undefined, 'opaque']) {
      const answer = await gateway.call(token, { origin: ORIGIN });
      assert.equal(answer.status, 401);
      assert.ok(answer.headers['www-authenticate']);
      assertReadable(answer);
    }
  });

  it('can read the reply in place of a 401 of the upstream', async () => {
    const token = await newcomer();
    await rejectingAll(async () => {
      for (const [status, reason] of [[503, 'upstream_rejected_token'], [502, 'upstream_rejects_tokens']]) {
        const answer = await gateway.call(token, { origin: ORIGIN });
        assert.deepEqual([answer.status, answer.json.reason], [status, reason]);
        assertReadable(answer);
      }
    });
  });
});

describe('a script of another origin', () => {
  it('gets no field of CORS, and its preflight gets 401', async () => {
    const token = await newcomer();
    const refused = await preflight(ELSEWHERE);
    assert.equal(refused.status, 401);
    const answers = [refused, await gateway.call(token, { origin: ELSEWHERE }), await gateway.call(undefined, { origin: ELSEWHERE })];
    await rejectingAll(async () => answers.push(await gateway.call(token, { origin: ELSEWHERE })));
    assert.deepEqual(answers.map(({ status }) => status), [401, 200, 401, 503]);
    for (const { headers } of answers) assert.equal(headers['access-control-allow-origin'], undefined);
  });
});

it('the first filter alone does not make the reply for a 401 readable', async () => {
  const first = await startGateway(parts, { change: withCors(['cors']) });
  try {
    const token = await newcomer();
    assertReadable(await first.call(token, { origin: ORIGIN }));
    await rejectingAll(async () => {
      const answer = await first.call(token, { origin: ORIGIN });
      assert.deepEqual([answer.status, answer.headers['access-control-allow-origin']], [503, undefined]);
    });
  } finally {
    await first.stop();
  }
});

it('the module is sound, and no secret is visible', () => assertSoundAndSilent(gateway));
