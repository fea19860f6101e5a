// Promises of docs/filter-state.md, with its own examples behind the filter.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { decodeJwt } from 'jose';
import YAML from 'yaml';
import { wasmFilter } from '../../tools/envoy-config.mjs';
import { assertSoundAndSilent } from './parts/expect.mjs';
import { facts } from './parts/facts.mjs';
import { gate, refusesWith } from './parts/faults.mjs';
import { METADATA_PATH, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { send2 } from './parts/http2-client.mjs';
import { signIn } from './parts/login.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

const CHECKOUT = fileURLToPath(new URL('../../', import.meta.url));
const PAGE = readFileSync(`${CHECKOUT}docs/filter-state.md`, 'utf8');
const OPEN = '/healthz';
const FACTS = facts.filter_state.every_call;

/** Returns an example of the page, by its heading and its index below the heading, with words replaced as a reader does. */
function example(heading, place, words = {}) {
  const section = PAGE.split('\n## ').find((text) => text.startsWith(heading));
  const blocks = section.replaceAll(/^> ?/gm, '').split('```yaml\n').slice(1);
  let text = blocks[place].split('```')[0];
  for (const [word, value] of Object.entries(words)) {
    assert.ok(text.includes(word), `${word} is in the example`);
    text = text.replaceAll(word, value);
  }
  return YAML.parse(text);
}

it('the page lists the facts of every request', () => {
  const rows = [...PAGE.matchAll(/^\| `wasm\.onbehalf\.(\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows.sort(), [...FACTS].sort());
});

let parts;
let recorder;
let mallory;
let number = 0;
const newcomer = async (name = 'entra') => {
  number += 1;
  return (await signIn(parts[name], `known${number}@${name}.example`)).accessToken;
};
const blocked = async () => (await signIn(parts.entra, 'mallory@contoso.example')).accessToken;

function subjectOf(token) {
  const { tid, oid, uid } = decodeJwt(token);
  return uid ?? `${tid}/${oid}`;
}

before(async () => {
  parts = await startParts();
  recorder = await startRecorder({ http2: true });
  mallory = await blocked();
});
after(async () => {
  await recorder?.stop();
  await parts?.stop();
});

const managerOf = (bootstrap) => bootstrap.static_resources.listeners[0].filter_chains[0].filters[0].typed_config;

/** Starts a gateway with these filters before and behind onbehalf, and with the access log of the page. */
function start({ audit = {}, concurrency = 1, front = [], behind = [], change = () => {} }) {
  return startGateway(parts, {
    concurrency,
    change: (filter, bootstrap) => {
      filter.audit = audit;
      filter.unauthenticated_paths = [OPEN];
      putBehind(bootstrap, recorder);
      const manager = managerOf(bootstrap);
      manager.http_protocol_options = { enable_trailers: true };
      const [ours, router] = manager.http_filters;
      manager.http_filters = [...front, ours, ...behind.flat(), router];
      const { log_format } = manager.access_log[0].typed_config;
      const more = { call: '%REQ(X-CALL)%', event: '%FILTER_STATE(wasm.onbehalf.event:PLAIN)%' };
      log_format.json_format = { ...example('The access log', 0).json_format, ...more };
      change(filter, bootstrap);
    },
  });
}

/** Runs `act`, and returns the requests that reach the upstream meanwhile. */
async function arrivals(act) {
  const { length } = recorder.requests;
  await act();
  return recorder.requests.slice(length);
}

const statuses = async (count, act) => {
  const seen = [];
  for (let round = 0; round < count; round += 1) seen.push((await act()).status);
  return seen;
};
const all = (count, status) => Array.from({ length: count }, () => status);

/** Line of the access log about the request with that `x-call`. */
async function logged(gateway, call) {
  const find = () =>
    gateway.envoy.log
      .split('\n')
      .filter((line) => line.startsWith('{"') && line.endsWith('}'))
      .map((line) => JSON.parse(line))
      .find((line) => line.call === call);
  return until(find, `the access log has ${call}`, 30);
}

/** Sends two requests with a new token, both held until the exchange ends. */
async function twoThatWait(gateway, token) {
  const hold = gate();
  const repair = parts.entra.forMcp.fail('token', hold.behave);
  try {
    const calls = [gateway.call(token), gateway.call(token)];
    await until(async () => {
      const stats = await gateway.envoy.stats('http.gateway.downstream_rq_active');
      return hold.waiting() === 1 && stats['http.gateway.downstream_rq_active'] === calls.length;
    }, 'both wait');
    hold.release();
    return (await Promise.all(calls)).map(({ status }) => status);
  } finally {
    hold.release();
    repair();
  }
}

const HEADER_MUTATION = 'header_mutation: tell the upstream who it is';
const LIMIT = 'Rate limits: three calls a minute for each user';
const RBAC = 'RBAC: block a user';

for (const [what, options] of Object.entries({
  'audit.hits: false': { audit: { hits: false } },
  'audit.hits: true': { audit: { hits: true } },
  'four workers': { audit: { hits: false }, concurrency: 4 },
})) {
  describe(`filters behind onbehalf, with ${what}`, () => {
    let gateway;
    before(async () => {
      gateway = await start({
        ...options,
        behind: [
          example(RBAC, 0, { SUBJECT: subjectOf(mallory) }),
          // A bucket that fills this slowly returns no call on a slow machine either.
          example(LIMIT, 0, { '60s': '36000s' }),
          ...[0, 1, 2].map((place) => example(HEADER_MUTATION, place)),
        ],
      });
    });
    after(() => gateway?.stop());

    it('RBAC refuses every request of a blocked user, and of no other', async () => {
      const token = await newcomer();
      const arrived = await arrivals(async () => {
        assert.deepEqual(await statuses(20, () => gateway.call(mallory)), all(20, 403));
        assert.deepEqual(await statuses(3, () => gateway.call(token)), all(3, 200));
      });
      assert.equal(arrived.length, 3);
    });

    it('RBAC refuses a blocked user after the exchange', async () => {
      const exchanges = parts.entra.forMcp.exchanges.length;
      await gateway.settled();
      const forwarded = await gateway.decisions('forwarded');
      assert.equal((await gateway.call(await blocked(), { 'x-call': 'blocked' })).status, 403);
      const { event, status, response_details } = await logged(gateway, 'blocked');
      const details = 'rbac_access_denied_matched_policy[blocked]';
      assert.deepEqual([event, status, response_details], ['forwarded', 403, details]);
      assert.equal(parts.entra.forMcp.exchanges.length, exchanges + 1);
      await gateway.expectCount('decisions.reason.forwarded', forwarded + 1);
    });

    it('RBAC refuses a blocked user whose requests waited', async () => {
      const arrived = await arrivals(async () => {
        assert.deepEqual(await twoThatWait(gateway, await blocked()), [403, 403]);
      });
      assert.deepEqual(arrived, []);
      assert.deepEqual(await twoThatWait(gateway, await newcomer()), [200, 200]);
    });

    it('RBAC refuses a blocked user after a key rotation', async () => {
      parts.entra.signIn.rotate();
      const [fresh, other] = [await blocked(), await newcomer()];
      const arrived = await arrivals(async () => {
        for (const token of [fresh, mallory, fresh]) assert.equal((await gateway.call(token)).status, 403);
        assert.equal((await gateway.call(other)).status, 200);
      });
      assert.equal(arrived.length, 1);
    });

    it('RBAC does not refuse a blocked user on an unauthenticated path', async () => {
      assert.equal((await gateway.call(mallory, {}, { path: OPEN })).status, 200);
    });

    it('a rate limit of three passes three requests of each user', async () => {
      const users = [await newcomer(), await newcomer(), await newcomer('okta')];
      const seen = users.map(() => []);
      for (let round = 0; round < 8; round += 1) {
        for (const [index, token] of users.entries()) seen[index].push((await gateway.call(token)).status);
      }
      for (const statusesOfOne of seen) assert.deepEqual(statusesOfOne, [...all(3, 200), ...all(5, 429)]);
    });

    it('a rate limit of three holds for concurrent requests that wait', async () => {
      const token = await newcomer();
      const answers = await Promise.all(Array.from({ length: 12 }, () => gateway.call(token)));
      assert.deepEqual(answers.map(({ status }) => status).sort(), [...all(3, 200), ...all(9, 429)]);
    });

    it('a rate limit does not count requests on an unauthenticated path', async () => {
      assert.deepEqual(await statuses(8, () => gateway.send({ path: OPEN })), all(8, 200));
    });

    it('header_mutation sets the user, and the unsafe example does not', async () => {
      const token = await newcomer();
      const claims = {
        'x-user': ['victim', 'root'],
        'x-onbehalf-user': ['victim', 'root'],
        'x-onbehalf-subject': 'victim',
        'x-unsafe-user': 'victim',
      };
      const asTrailers = { x_user: 'z', 'x-user': 'victim', 'x-onbehalf-user': 'victim', 'x-harmless': 'yes' };
      const post = (path, headers) =>
        send2({ ...gateway.target, path, headers: { ...headers, ...claims }, trailers: asTrailers });
      const authorization = `Bearer ${token}`;
      for (const [path, headers, subject] of [
        ['/mcp', { authorization }, subjectOf(token)],
        ['/mcp', { authorization }, subjectOf(token)],
        [OPEN, { authorization }, undefined],
        [OPEN, {}, undefined],
      ]) {
        const [arrived] = await arrivals(async () => assert.equal((await post(path, headers)).status, 200));
        const expected = subject === undefined ? [] : [subject];
        assert.deepEqual(arrived.all('x-user'), expected);
        assert.deepEqual(arrived.all('x-onbehalf-user'), expected);
        assert.deepEqual(arrived.all('x-onbehalf-subject'), []);
        assert.deepEqual(arrived.trailers, [['x-harmless', 'yes']]);
        // The page warns of this: a field that is overwritten on one path may pass on another.
        assert.deepEqual(arrived.all('x-unsafe-user'), [subject ?? 'victim']);
      }
    });

    it('a field of the client is removed in every spelling', async () => {
      const token = await newcomer();
      const lines = ['X-USER', 'x-User', 'x_user', 'X_Onbehalf_User', 'x-onbehalf_user', 'X-ONBEHALF-USER'];
      for (const [path, headers] of [['/mcp', ['authorization', `Bearer ${token}`]], [OPEN, []]]) {
        const spoofed = lines.flatMap((name) => [name, 'victim']);
        const [arrived] = await arrivals(() => gateway.send({ path, headers: [...headers, ...spoofed] }));
        assert.ok(!arrived.text.includes('victim'), arrived.fields.map(([name]) => name).join());
      }
    });

    it('the access log names the caller of every request', async () => {
      const token = await newcomer();
      const { tid } = decodeJwt(token);
      const alice = {
        provider: 'entra',
        subject: subjectOf(token),
        client: parts.entra.ids.mcpClient,
        tenant: tid,
        resource: RESOURCE,
      };
      const nobody = FACTS.map(() => null);
      for (const call of ['first', 'second', 'third']) {
        assert.equal((await gateway.call(token, { 'x-call': call })).status, 200);
        const entry = await logged(gateway, call);
        assert.deepEqual(Object.fromEntries(FACTS.map((name) => [name, entry[name]])), alice);
        // Another worker shares the token of the first one.
        const isHit = call !== 'first' && options.concurrency === undefined;
        if (isHit) assert.equal(entry.event, options.audit.hits ? 'forwarded' : null);
      }
      for (const path of [OPEN, METADATA_PATH]) {
        const headers = { authorization: `Bearer ${token}`, 'x-call': path };
        assert.equal((await gateway.send({ path, headers })).status, 200);
        const entry = await logged(gateway, path);
        assert.deepEqual(FACTS.map((name) => entry[name]), nobody);
      }
    });

    it('the access log names the caller of a refused request', async () => {
      const token = await newcomer();
      const repair = parts.entra.forMcp.fail('token', refusesWith('invalid_client'));
      assert.equal((await gateway.call(token, { 'x-call': 'refused' })).status, 502);
      repair();
      const { event, subject, resource } = await logged(gateway, 'refused');
      assert.deepEqual([event, subject, resource], ['refused', subjectOf(token), RESOURCE]);
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}

describe('a gateway for known users only, with hashed subjects', () => {
  let gateway;
  before(async () => {
    const inFront = example(HEADER_MUTATION, 0);
    inFront[0].typed_config.mutations.request_mutations[0].append.header.key = 'x-before';
    gateway = await start({
      audit: { subjects: 'hashed' },
      concurrency: 4,
      front: inFront,
      behind: [example(RBAC, 1), example(HEADER_MUTATION, 1)],
      change: (filter, bootstrap) => {
        filter.request_headers_to_remove = ['x-user'];
        // Tokens of Okta are not exchanged.
        const { okta } = filter.identity_providers;
        okta.profile = 'validate_only';
        delete okta.client;
        delete okta.token_endpoint;
        filter.resources[0].exchange.okta = {};
        managerOf(bootstrap).common_http_protocol_options.headers_with_underscores_action = 'ALLOW';
      },
    });
  });
  after(() => gateway?.stop());

  it('a rule against unknown callers refuses unauthenticated paths', async () => {
    const arrived = await arrivals(async () => {
      assert.equal((await gateway.send({ path: OPEN })).status, 403);
      assert.equal((await gateway.call(mallory, {}, { path: OPEN })).status, 403);
    });
    assert.deepEqual(arrived, []);
    assert.deepEqual(await statuses(8, () => gateway.call(mallory)), all(8, 200));
  });

  it('a user has one digest in all workers, and other users have others', async () => {
    const users = [await newcomer(), await newcomer()];
    const digests = [];
    for (const token of users) {
      const arrived = await arrivals(() => statuses(12, () => gateway.call(token)));
      const values = new Set(arrived.flatMap((request) => request.all('x-user')));
      assert.deepEqual([arrived.length, values.size], [12, 1]);
      digests.push(...values);
      assert.match(digests.at(-1), /^[\w-]{22}$/);
    }
    assert.notEqual(digests[0], digests[1]);
  });

  it('a caller whose token is not exchanged is named in each request', async () => {
    const token = await newcomer('okta');
    const arrived = await arrivals(() => statuses(12, () => gateway.call(token)));
    const values = arrived.map((request) => request.all('x-user'));
    assert.equal(values.length, 12);
    assert.match(values[0][0], /^[\w-]{22}$/);
    for (const value of values) assert.deepEqual(value, values[0]);
  });

  it('a filter before onbehalf sees no filter state', async () => {
    const [arrived] = await arrivals(() => gateway.call(mallory));
    assert.deepEqual(arrived.all('x-before'), []);
    assert.equal(arrived.all('x-user').length, 1);
  });

  it('a field of request_headers_to_remove is removed in every spelling', async () => {
    const names = ['x-user', 'x_user', 'x-onbehalf-user', 'x_onbehalf_user', 'x-onbehalf_user'];
    const spoofed = Object.fromEntries(names.map((name) => [name, 'victim']));
    const headers = { authorization: `Bearer ${mallory}`, ...spoofed, x_other: 'theirs' };
    const [arrived] = await arrivals(() => send2({ ...gateway.target, headers, trailers: { ...spoofed, x_other: 'theirs' } }));
    assert.ok(!arrived.text.includes('victim'), arrived.text.slice(0, 400));
    assert.deepEqual([arrived.all('x_other'), arrived.trailers], [['theirs'], [['x_other', 'theirs']]]);
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});

describe('a name that another plugin has declared read-only', () => {
  let gateway;
  before(async () => {
    const taker = wasmFilter('taker', `${CHECKOUT}target/foreign_filter.wasm`);
    taker.typed_config.config.configuration = { '@type': 'type.googleapis.com/google.protobuf.StringValue', value: 'onbehalf.provider' };
    gateway = await start({ audit: { subjects: 'none' }, front: [taker], behind: [example(HEADER_MUTATION, 1)] });
  });
  after(() => gateway?.stop());

  it('a request gets 500 if its filter state cannot be set', async () => {
    const token = await newcomer();
    const arrived = await arrivals(async () => {
      for (let round = 0; round < 3; round += 1) assert.equal((await gateway.call(token, { 'x-taken': 'yes' })).status, 500);
    });
    assert.deepEqual(arrived, []);
    assert.match(gateway.envoy.log, /\[error\].*the filter state onbehalf\.provider could not be set/);
    assert.equal((await gateway.call(token)).status, 200);
  });

  it('a request on an unauthenticated path needs no filter state', async () => {
    assert.equal((await gateway.call(undefined, { 'x-taken': 'yes' }, { path: OPEN })).status, 200);
  });

  it('no subject is set with subjects: none, and none of the client is kept', async () => {
    const token = await newcomer();
    for (const call of ['none-first', 'none-cached']) {
      const [arrived] = await arrivals(() => gateway.call(token, { 'x-user': 'victim', 'x-call': call }));
      assert.deepEqual(arrived.all('x-user'), []);
      const { subject, provider } = await logged(gateway, call);
      assert.deepEqual([subject, provider], [null, 'entra']);
    }
  });

  it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
});
