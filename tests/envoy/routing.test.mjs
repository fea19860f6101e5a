// Paths and hosts between client and upstream: the two forms of a resource's URL, an ingress that changes host or path, and `%2F`.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { freePort } from './parts/free-port.mjs';
import { MCP_HOST, metadataPathOf, RESOURCE, startGateway, startParts } from './parts/gateway.mjs';
import { putBehind, startRecorder } from './parts/recorder.mjs';
import { until } from './parts/until.mjs';

const SEARCH = `https://${MCP_HOST}/tenants/emea/search`;
const PLAIN = `https://${MCP_HOST}/plain`;
const INTERNAL = 'search.emea.svc:8080';
const urlOf = (path) => `https://${MCP_HOST}${path}`;
const nameOf = (url) => new URL(url).pathname;

let parts;
let recorder;
let gateway;
let ingressPort;
let token;

const managerOf = (listener) => listener.filter_chains[0].filters[0].typed_config;

/** A second listener, in front of that of the filter, with the given routes. */
function addIngress({ static_resources: { listeners, clusters } }, port, ingress, routes) {
  const [listener] = listeners;
  listener.address.socket_address.port_value = port;
  const manager = structuredClone(managerOf(listener));
  delete manager.access_log;
  manager.stat_prefix = 'ingress';
  manager.http_filters = manager.http_filters.filter(({ name }) => name === 'envoy.filters.http.router');
  manager.route_config.virtual_hosts[0].routes = routes.map(({ prefix, ...route }) => ({
    match: { path_separated_prefix: prefix },
    route: { cluster: 'gateway', ...route },
  }));
  const address = (port_value) => ({ socket_address: { address: '127.0.0.1', port_value } });
  listeners.push({
    name: 'ingress',
    address: address(ingress),
    filter_chains: [{ filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: manager }] }],
  });
  clusters.push({
    name: 'gateway',
    type: 'STATIC',
    load_assignment: { cluster_name: 'gateway', endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }] },
  });
}

before(async () => {
  parts = await startParts();
  recorder = await startRecorder();
  const port = await freePort();
  ingressPort = await freePort();
  gateway = await startGateway(parts, {
    change: (filter, bootstrap) => {
      putBehind(bootstrap, recorder);
      const manager = managerOf(bootstrap.static_resources.listeners[0]);
      assert.deepEqual([manager.normalize_path, manager.merge_slashes], [true, true]);
      manager.path_with_escaped_slashes_action = 'KEEP_UNCHANGED';
      addIngress(bootstrap, port, ingressPort, [
        { prefix: nameOf(SEARCH), prefix_rewrite: '/search', host_rewrite_literal: INTERNAL },
        { prefix: '/plain', prefix_rewrite: '/added/plain' },
        { prefix: '/unknown', prefix_rewrite: '/search/unknown', host_rewrite_literal: 'other.emea.svc:8080' },
        // The paths of documents stay.
        { prefix: metadataPathOf(nameOf(SEARCH)), host_rewrite_literal: INTERNAL },
        { prefix: metadataPathOf('/plain') },
      ]);
      const { exchange } = filter.resources[0];
      const resource = (url, more) => ({ url, scopes: ['mcp:read'], exchange: structuredClone(exchange), ...more });
      filter.resources = [
        resource(RESOURCE),
        resource(SEARCH, { aliases: [`http://${INTERNAL}/search`] }),
        resource(PLAIN, { aliases: [urlOf('/added/plain')] }),
        resource(urlOf('/git'), { encoded_slashes: true }),
        resource(urlOf('/git/admin'), { encoded_slashes: true, scopes: ['mcp:write'] }),
      ];
    },
  });
  token = (await parts.bob()).accessToken;
});
after(async () => {
  await gateway?.stop();
  await recorder?.stop();
  await parts?.stop();
});

/** Sends a request, and returns the answer with `arrived`: the request that the upstream got, if any. */
async function ask(path, { authorized = true, ...more } = {}) {
  const { length } = recorder.requests;
  const headers = authorized ? { authorization: `Bearer ${token}` } : {};
  const answer = await gateway.send({ path, headers, ...more });
  assert.ok(recorder.requests.length <= length + 1);
  return Object.assign(answer, { arrived: recorder.requests[length] });
}

describe('the two forms of a URL', () => {
  for (const path of ['/mcp', '/mcp/']) {
    it(`a client with ${path} finds its own URL in challenge and document`, async () => {
      const refused = await ask(path, { authorized: false });
      assert.deepEqual([refused.status, challengeOf(refused).resource_metadata], [401, urlOf(metadataPathOf(path))]);
      const document = await ask(metadataPathOf(path), { authorized: false });
      assert.deepEqual([document.status, document.json.resource], [200, urlOf(path)]);
      const { status, arrived } = await ask(path);
      assert.deepEqual([status, arrived.path], [200, path]);
    });

    it(`an MCP client with ${path} signs in and is served`, async () => {
      const own = await startGateway(parts, { change: ({ resources: [resource] }) => (resource.authorization_servers = ['okta']) });
      try {
        const { seen } = await own.visit('bob@acme.example', { path, provider: parts.okta });
        assert.equal(seen.issuer, parts.okta.forMcp.issuer);
        // The client takes it from the document.
        assert.equal(parts.okta.signIn.signIns.at(-1).resource, urlOf(path));
      } finally {
        await own.stop();
      }
    });
  }

  it('slashes that Envoy merges lead to the form with one', async () => {
    for (const [path, arrives] of [['//mcp', '/mcp'], ['/mcp//', '/mcp/'], ['/./mcp/x/..//', '/mcp/']]) {
      const { status, arrived } = await ask(path);
      assert.deepEqual([status, arrived?.path], [200, arrives], path);
      const refused = await ask(path, { authorized: false });
      assert.equal(challengeOf(refused).resource_metadata, urlOf(metadataPathOf(arrives)));
    }
  });
});

describe('an ingress', () => {
  const byIngress = (path, more) => ask(path, { port: ingressPort, ...more });

  for (const [what, url, arrives] of [
    ['removes a part of the path and changes the host', SEARCH, '/search'],
    ['adds a part to the path', PLAIN, '/added/plain'],
  ]) {
    it(`a resource is served behind one that ${what}`, async () => {
      for (const below of ['', '/', '/tools?a=b']) {
        const { status, arrived, text } = await byIngress(nameOf(url) + below);
        assert.deepEqual([status, arrived?.path], [200, arrives + below], text);
      }
    });

    it(`challenge and document name the public URL behind one that ${what}`, async () => {
      const refused = await byIngress(nameOf(url), { authorized: false });
      assert.equal(refused.status, 401);
      const { resource_metadata: address } = challengeOf(refused);
      assert.equal(address, urlOf(metadataPathOf(nameOf(url))));
      const document = await byIngress(nameOf(address), { authorized: false });
      assert.deepEqual([document.status, document.json.resource], [200, url]);
    });
  }

  it('a host that is no alias gets 404, and the log has the nearest URL', async () => {
    const { status, json, text, arrived } = await byIngress('/unknown/x?token=y');
    assert.deepEqual([status, json.reason, arrived], [404, 'unknown_resource', undefined]);
    assert.doesNotMatch(text, /emea|search/);
    const line = await until(() => gateway.envoy.log.split('\n').find((line) => / reason=unknown_resource .*\/unknown\//.test(line)), 'the line');
    assert.match(line, new RegExp(` host="?other\\.emea\\.svc:8080"? path="?/search/unknown/x"? nearest="?${SEARCH}"? `));
  });

  it('the path of an alias at the public host is not served', async () => {
    const { status, json } = await ask('/search');
    assert.deepEqual([status, json.reason], [404, 'unknown_resource']);
  });
});

describe('%2F, kept by Envoy', () => {
  it('an encoded slash reaches the upstream as it is', async () => {
    for (const [path, arrives = path] of [
      ['/git/projects/group%2Fproject'],
      ['/git/queues/%2F/name'],
      ['/git/%40scope%2fname?a=%2F'],
      // Envoy normalises the rest of the path, and keeps the escape.
      ['/git//projects/./a%2Fb', '/git/projects/a%2Fb'],
      ['/x/../git/a%2Fb', '/git/a%2Fb'],
    ]) {
      const { status, arrived, text } = await ask(path);
      assert.deepEqual([status, arrived?.path], [200, arrives], `${path}: ${text}`);
    }
  });

  it('an encoded slash that could lead to another resource gets 400', async () => {
    for (const path of [
      '/git%2Fadmin',
      '/git%2Fx',
      '/git/%2Fadmin',
      '/git//%2fadmin/x',
      '/git/x%2F..%2Fadmin',
      '/git/x%2F..%2Fy',
      '/git/admin%2Fx',
      '/%2Fgit/x',
      '/mcp%2F..%2Fgit',
      // Resources without the option.
      '/mcp/a%2Fb',
      '/tenants/emea/search/a%2Fb',
      '/nothing/a%2Fb',
    ]) {
      const { status, json, arrived } = await ask(path);
      assert.deepEqual([status, json.reason, arrived], [400, 'ambiguous_path', undefined], path);
    }
  });

  it('the rules of the resource below hold for its encoded slashes', async () => {
    const { status, json } = await ask('/git/admin/a%2Fb');
    assert.deepEqual([status, json.reason], [403, 'insufficient_scope']);
  });
});

describe('%2F, refused by Envoy', () => {
  it('with REJECT_REQUEST of the recipes, the option does nothing', async () => {
    const own = await startGateway(parts, {
      change: (filter, bootstrap) => {
        putBehind(bootstrap, recorder);
        const manager = managerOf(bootstrap.static_resources.listeners[0]);
        assert.equal(manager.path_with_escaped_slashes_action, 'REJECT_REQUEST');
        filter.resources[0].encoded_slashes = true;
      },
    });
    try {
      const headers = { authorization: `Bearer ${token}` };
      const { length } = recorder.requests;
      const { status, text } = await own.send({ path: '/mcp/a%2Fb', headers });
      // The answer of Envoy itself: the filter does not see the request.
      assert.deepEqual([status, text, recorder.requests.length], [400, '', length]);
      assert.equal((await own.send({ path: '/mcp/ab', headers })).status, 200);
    } finally {
      await own.stop();
    }
  });
});

it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
