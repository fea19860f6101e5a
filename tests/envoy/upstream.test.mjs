// Upstreams that reject the exchanged token.

import assert from 'node:assert/strict';
import { createServer as createServer2 } from 'node:http2';
import { after, before, describe, it } from 'node:test';
import { assertSoundAndSilent, challengeOf } from './parts/expect.mjs';
import { refusesWith } from './parts/faults.mjs';
import { MCP_HOST, METADATA_URL, startGateway, startParts } from './parts/gateway.mjs';
import { send2 } from './parts/http2-client.mjs';
import { secrets } from './parts/leaks.mjs';
import { listening } from './parts/listening.mjs';
import { signIn } from './parts/login.mjs';
import { putBehind } from './parts/recorder.mjs';
import { assertReached, reach } from './parts/refusals.mjs';
import { until } from './parts/until.mjs';

const CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}';
const ELSEWHERE = 'Bearer resource_metadata="https://elsewhere.example/x", scope="theirs", error="invalid_token"';
const WANTS_CLAIMS = `Bearer realm="", error="insufficient_claims", claims="${btoa(CLAIMS)}"`;

let parts;
let gateway;
let number = 0;
const newcomer = async (name = 'entra', options = {}) => {
  number += 1;
  const { accessToken } = await signIn(parts[name], `rejected${number}@${name}.example`, options);
  return accessToken;
};

before(async () => {
  parts = await startParts();
  gateway = await startGateway(parts, { change: (filter) => (filter.unauthenticated_paths = ['/healthz']) });
});
after(async () => {
  await gateway?.stop();
  await parts?.stop();
});

/** Returns the parameter `claims` of each exchange that `act` causes. */
async function exchangesOf(act, name = 'entra') {
  const { length } = parts[name].forMcp.exchanges;
  await act();
  return parts[name].forMcp.exchanges.slice(length).map(({ values }) => values.claims);
}

async function rejecting(answer, act) {
  parts.mcp.reject(answer);
  try {
    await act();
  } finally {
    parts.mcp.reject();
  }
}

/** Answers 401 with these headers to requests for which `whom` holds. */
const unauthorized =
  (headers, whom = () => true) =>
  (response, claims) => {
    if (!whom(claims)) return false;
    response.writeHead(401, headers).end('of the upstream');
    return true;
  };

/** A predicate for `unauthorized` that holds for the first token that the upstream gets, and for no other. */
function firstToken() {
  let first;
  return ({ token }) => {
    first ??= token;
    return token === first;
  };
}

function assertIs(answer, status, reason) {
  reach(reason);
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.json.reason, reason);
  assert.equal(answer.headers['content-type'], 'application/json');
  assert.equal(answer.headers['www-authenticate'], undefined);
  assert.doesNotMatch(JSON.stringify(answer.headers) + answer.text, /elsewhere|theirs|of the upstream/);
  assert.equal(answer.headers['retry-after'], status === 503 ? '1' : undefined);
}

describe('an upstream that rejects a token', () => {
  for (const name of ['entra', 'okta']) {
    for (const [what, headers] of [
      ['with a challenge', { 'www-authenticate': ELSEWHERE }],
      ['without a challenge', { 'content-type': 'text/plain', 'mcp-session-id': 'theirs' }],
    ]) {
      it(`${name}: a rejection ${what} gets 503, and the next request 200`, async () => {
        const token = await newcomer(name);
        assert.equal((await gateway.call(token)).status, 200);
        await rejecting(unauthorized(headers, firstToken()), async () => {
          const exchanges = await exchangesOf(async () => {
            assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
            for (let round = 0; round < 3; round += 1) assert.equal((await gateway.call(token)).status, 200);
          }, name);
          assert.deepEqual(exchanges, [undefined]);
        });
      });
    }
  }

  it('one rejection at four workers costs one 503 and one exchange', async () => {
    const four = await startGateway(parts, { concurrency: 4 });
    try {
      const token = await newcomer();
      // Each request has a new connection, so every worker gets some.
      for (let call = 0; call < 60; call += 1) assert.equal((await four.call(token)).status, 200);
      await rejecting(unauthorized({ 'www-authenticate': ELSEWHERE }, firstToken()), async () => {
        const exchanges = await exchangesOf(async () => {
          assertIs(await four.call(token), 503, 'upstream_rejected_token');
          for (let call = 0; call < 60; call += 1) assert.equal((await four.call(token)).status, 200, `call ${call}`);
        });
        assert.deepEqual(exchanges, [undefined]);
      });
    } finally {
      await four.stop();
    }
  });

  it('a rejection of the first request, which waited, gets 503', async () => {
    const token = await newcomer();
    await rejecting(unauthorized({ 'www-authenticate': ELSEWHERE }), async () => {
      assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
    });
    assert.deepEqual(await exchangesOf(async () => assert.equal((await gateway.call(token)).status, 200)), [undefined]);
  });

  it('an upstream that rejects all tokens costs one exchange in a minute', async () => {
    const token = await newcomer();
    await rejecting(unauthorized({ 'www-authenticate': ELSEWHERE }), async () => {
      const exchanges = await exchangesOf(async () => {
        assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
        for (let round = 0; round < 20; round += 1) {
          assertIs(await gateway.call(token), 502, 'upstream_rejects_tokens');
        }
      });
      assert.equal(exchanges.length, 2);
    });
    assert.deepEqual(await exchangesOf(async () => assert.equal((await gateway.call(token)).status, 200)), []);
  });

  it('a rejection of concurrent requests costs one exchange', async () => {
    const token = await newcomer();
    assert.equal((await gateway.call(token)).status, 200);
    await rejecting(unauthorized({ 'www-authenticate': ELSEWHERE }, firstToken()), async () => {
      const exchanges = await exchangesOf(async () => {
        const answers = await Promise.all(Array.from({ length: 40 }, () => gateway.call(token)));
        assert.ok(answers.some(({ status }) => status === 503));
        for (const answer of answers) {
          if (answer.status !== 200) assertIs(answer, 503, 'upstream_rejected_token');
        }
        assert.equal((await gateway.call(token)).status, 200);
      });
      assert.equal(exchanges.length, 1);
    });
  });

  it('a rejection with a long or endless body, or to a HEAD, gets 503', async () => {
    const bodies = [
      (response) => response.end('x'.repeat(3_000_000)),
      (response) => response.write('of the upstream'),
    ];
    for (const body of bodies) {
      const token = await newcomer();
      const answer = (response) => {
        response.writeHead(401, { 'www-authenticate': ELSEWHERE });
        body(response);
        return true;
      };
      await rejecting(answer, async () => assertIs(await gateway.call(token), 503, 'upstream_rejected_token'));
      assert.equal((await gateway.call(token)).status, 200);
    }
    const token = await newcomer();
    await rejecting(unauthorized({ 'www-authenticate': ELSEWHERE }), async () => {
      const headers = { authorization: `Bearer ${token}` };
      const { status, text } = await gateway.send({ method: 'HEAD', headers });
      assert.deepEqual([status, text], [503, '']);
    });
    assert.equal((await gateway.call(token)).status, 200);
  });
});

describe('an upstream that requires claims', () => {
  const lacks = ({ acrs = [] }) => !acrs.includes('c1');

  it('claims that the upstream requires are in the next exchange', async () => {
    const token = await newcomer();
    await rejecting(unauthorized({ 'www-authenticate': WANTS_CLAIMS }, lacks), async () => {
      const exchanges = await exchangesOf(async () => {
        assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
        for (let round = 0; round < 3; round += 1) assert.equal((await gateway.call(token)).status, 200);
      });
      assert.deepEqual(exchanges, [undefined, CLAIMS]);
    });
  });

  it('claims that the upstream requires are known to all four workers', async () => {
    const four = await startGateway(parts, { concurrency: 4 });
    try {
      await rejecting(unauthorized({ 'www-authenticate': WANTS_CLAIMS }, lacks), async () => {
        // Envoy chooses the worker: with ten users, the next request reaches another worker than the first several times.
        for (let user = 0; user < 10; user += 1) {
          const token = await newcomer();
          const exchanges = await exchangesOf(async () => {
            assertIs(await four.call(token), 503, 'upstream_rejected_token');
            for (let call = 0; call < 8; call += 1) assert.equal((await four.call(token)).status, 200, `call ${call}`);
          });
          assert.deepEqual(exchanges, [undefined, CLAIMS], `user ${user}`);
        }
      });
      await assertSoundAndSilent(four);
    } finally {
      await four.stop();
    }
  });

  for (const [what, client, status] of [
    ['gets 401 if it declares cp1', 'mcpClient', 401],
    ['gets 403 if it does not declare cp1', 'oldClient', 403],
  ]) {
    it(`a client whose user must act for the claims ${what}`, async () => {
      const token = await newcomer('entra', { client: parts.entra.ids[client] });
      const theirs = '{"access_token":{"capolids":{"essential":true,"values":["a"]}}}';
      await rejecting(unauthorized({ 'www-authenticate': WANTS_CLAIMS }, lacks), async () => {
        assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
        const repair = parts.entra.forMcp.fail('token', refusesWith('interaction_required', { claims: theirs }));
        try {
          for (let round = 0; round < 2; round += 1) {
            const answer = await gateway.call(token);
            assert.equal(answer.status, status);
            assert.equal(answer.json.reason, 'interaction_required');
            const { error, claims, resource_metadata } = challengeOf(answer) ?? {};
            assert.deepEqual(
              [error, claims && atob(claims), resource_metadata],
              status === 401 ? ['insufficient_claims', theirs, METADATA_URL] : [undefined, undefined, undefined],
            );
          }
        } finally {
          repair();
        }
        assert.equal(parts.entra.forMcp.exchanges.at(-1).values.claims, CLAIMS);
      });
    });
  }
});

describe('an upstream that rejects a session', () => {
  const forgotten = (response) => {
    if (response.req.headers['mcp-session-id'] !== 'old') return false;
    response.writeHead(401, { 'content-type': 'text/plain' }).end('of the upstream');
    return true;
  };

  it('a forgotten session gets 404, and a new one is served', async () => {
    await rejecting(forgotten, async () => {
      for (let user = 0; user < 5; user += 1) {
        const token = await newcomer();
        const exchanges = await exchangesOf(async () => {
          assertIs(await gateway.call(token, { 'mcp-session-id': 'old' }), 503, 'upstream_rejected_token');
          for (let round = 0; round < 3; round += 1) {
            assertIs(await gateway.call(token, { 'mcp-session-id': 'old' }), 404, 'upstream_session_gone');
          }
          assert.equal((await gateway.call(token)).status, 200);
        });
        assert.equal(exchanges.length, 2);
      }
    });
    // The sessions of five users do not count against the upstream.
    const token = await newcomer();
    await rejecting(unauthorized({}, firstToken()), async () => {
      assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
      assert.equal((await gateway.call(token)).status, 200);
    });
  });
});

describe('an upstream that has forgotten all sessions', () => {
  it('forty sessions at once do not harm a user of another one', async () => {
    // Tokens of 16 sessions are dropped in a second; the other sessions are told the same and keep theirs.
    const tokens = [];
    while (tokens.length < 40) tokens.push(await newcomer());
    const healthy = await newcomer();
    const revoked = await newcomer();
    for (const token of [...tokens, healthy, revoked]) assert.equal((await gateway.call(token)).status, 200);
    const isRevoked = firstToken();
    const restarted = (response, claims) => {
      const session = response.req.headers['mcp-session-id'];
      if (session !== 'old' && !(session === undefined && isRevoked(claims))) return false;
      // Without the challenge, a worker reads one such status in a millisecond.
      response.writeHead(401, { 'www-authenticate': ELSEWHERE }).end('of the upstream');
      return true;
    };
    const inOld = (token) => gateway.call(token, { 'mcp-session-id': 'old' });
    await rejecting(restarted, async () => {
      const own = await exchangesOf(async () => {
        const first = tokens.map(inOld);
        const others = tokens.slice(0, 20).map(() => gateway.call(healthy, { 'mcp-session-id': 'new' }));
        for (const answer of await Promise.all(first)) assertIs(answer, 503, 'upstream_rejected_token');
        for (const { status } of await Promise.all(others)) assert.equal(status, 200);
      });
      assert.deepEqual(own, [], 'no request of a valid session exchanges');

      let waiting = tokens;
      let most = 0;
      await until(async () => {
        const answers = await Promise.all(waiting.map(inOld));
        waiting = waiting.filter((_, index) => answers[index].status !== 404);
        most = Math.max(most, waiting.length);
        for (const answer of answers) {
          if (answer.status === 404) assertIs(answer, 404, 'upstream_session_gone');
          else assertIs(answer, 503, 'upstream_rejected_token');
        }
        assert.equal((await gateway.call(healthy, { 'mcp-session-id': 'new' })).status, 200);
        return waiting.length === 0;
      }, 'every client learns that its session is gone', 20);
      assert.ok(most > 0, 'more sessions than are dropped in a second');

      // The upstream counts as one that takes replacements: a token that it really rejects is replaced.
      await until(async () => {
        const answer = await gateway.call(revoked);
        if (answer.status !== 200) assertIs(answer, 503, 'upstream_rejected_token');
        return answer.status === 200;
      }, 'the revoked token is replaced', 10);
      for (const token of tokens) assert.equal((await gateway.call(token)).status, 200);
    });
  });
});

describe('an upstream that speaks gRPC', () => {
  const grpc = (status, { body, whom = () => true } = {}) => (response, claims) => {
    if (!whom(claims)) return false;
    const length = body === undefined ? { 'content-length': '0' } : {};
    response.writeHead(200, { 'content-type': 'application/grpc', 'grpc-status': status, ...length }).end(body);
    return true;
  };

  it('grpc-status 16 without content counts as a 401', async () => {
    const token = await newcomer();
    const exchanges = await exchangesOf(async () => {
      assert.equal((await gateway.call(token)).status, 200);
      await rejecting(grpc('16', { whom: firstToken() }), async () => {
        assertIs(await gateway.call(token), 503, 'upstream_rejected_token');
        assert.equal((await gateway.call(token)).status, 200);
      });
    });
    assert.equal(exchanges.length, 2);
  });

  it('grpc-status 7, and 16 after content, are forwarded', async () => {
    const token = await newcomer();
    const exchanges = await exchangesOf(async () => {
      for (const answer of [grpc('7'), grpc('0'), grpc('16', { body: 'content' })]) {
        await rejecting(answer, async () => {
          const { status, headers, text } = await gateway.call(token);
          assert.equal(status, 200, text);
          assert.match(headers['grpc-status'], /^(7|0|16)$/);
        });
      }
    });
    assert.equal(exchanges.length, 1);
  });

  it('a gRPC client gets UNAVAILABLE in place of UNAUTHENTICATED', async () => {
    const token = await newcomer();
    await rejecting(grpc('16'), async () => {
      const answer = await gateway.call(token, { 'content-type': 'application/grpc' });
      assert.deepEqual([answer.status, answer.headers['grpc-status']], [200, '14']);
    });
  });
});

describe('an upstream that speaks gRPC over HTTP/2', () => {
  let server;
  let overHttp2;
  /** Answers a stream; the token of its request is the second argument. */
  let respond;
  const ended = { ':status': 200, 'content-type': 'application/grpc' };
  /** Trailers-Only: one header block, which ends the stream. */
  const trailersOnly = (status) => (stream) => stream.respond({ ...ended, 'grpc-status': status }, { endStream: true });
  /** Header block, perhaps a message, and `grpc-status` in trailers. */
  const inTrailers = (status, message) => (stream) => {
    stream.respond(ended, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
    stream.end(message);
  };

  before(async () => {
    const http2 = createServer2();
    http2.on('stream', (stream, { authorization }) => {
      const token = authorization.split(' ').at(-1);
      secrets.add(token);
      stream.resume();
      respond(stream, token);
    });
    server = { ...(await listening(http2)), http2: true };
    overHttp2 = await startGateway(parts, { change: (_filter, bootstrap) => putBehind(bootstrap, server) });
  });
  after(async () => {
    await overHttp2?.stop();
    await server?.stop();
  });
  const call = (token) => send2({ ...overHttp2.target, headers: { authorization: `Bearer ${token}`, te: 'trailers' } });

  it('grpc-status 16 in a header block that ends the stream counts as a 401', async () => {
    const token = await newcomer();
    const isFirst = firstToken();
    respond = (stream, sent) => trailersOnly(isFirst({ token: sent }) ? '16' : '0')(stream);
    const exchanges = await exchangesOf(async () => {
      assertIs(await call(token), 503, 'upstream_rejected_token');
      for (let round = 0; round < 2; round += 1) {
        const { status, headers } = await call(token);
        assert.deepEqual([status, headers['grpc-status']], [200, '0']);
      }
    });
    assert.equal(exchanges.length, 2);
  });

  it('other statuses in such a header block keep the token', async () => {
    const token = await newcomer();
    const exchanges = await exchangesOf(async () => {
      for (const other of ['0', '7', '14']) {
        respond = trailersOnly(other);
        const { status, headers } = await call(token);
        assert.deepEqual([status, headers['grpc-status']], [200, other]);
      }
    });
    assert.equal(exchanges.length, 1);
  });

  it('grpc-status 16 in trailers is forwarded, and keeps the token', async () => {
    const token = await newcomer();
    const exchanges = await exchangesOf(async () => {
      for (const message of [undefined, 'message']) {
        respond = inTrailers('16', message);
        const { status, trailers, text } = await call(token);
        assert.deepEqual([status, text, trailers?.['grpc-status']], [200, message ?? '', '16']);
      }
      respond = trailersOnly('0');
      assert.equal((await call(token)).status, 200);
    });
    assert.equal(exchanges.length, 1);
  });

  it('the answers over HTTP/2 leak nothing', () => assertSoundAndSilent(overHttp2));
});

describe('an internal redirect', () => {
  let redirecting;
  before(async () => {
    redirecting = await startGateway(parts, {
      change: (filter, { static_resources: { listeners } }) => {
        filter.unauthenticated_paths = ['/healthz'];
        const { routes } = listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0];
        for (const { route } of routes) route.internal_redirect_policy = { redirect_response_codes: [302, 307] };
      },
    });
  });
  after(() => redirecting?.stop());

  const redirectTo = (path) => (response) => {
    if (response.req.url === path) return false;
    response.writeHead(302, { location: `http://${MCP_HOST}${path}` }).end();
    return true;
  };
  const get = (token, headers = {}) =>
    redirecting.send({ path: '/mcp', headers: { authorization: `Bearer ${token}`, ...headers } });

  it('a second pass gets 502, and no challenge', async () => {
    const token = await newcomer();
    await rejecting(redirectTo('/mcp/elsewhere'), async () => {
      for (let round = 0; round < 2; round += 1) assertIs(await get(token), 502, 'second_pass');
    });
  });

  it('a redirect to an unauthenticated path is served without a token', async () => {
    const token = await newcomer();
    const { length } = parts.mcp.requests;
    await rejecting(redirectTo('/healthz'), async () => {
      const { status, text } = await get(token);
      assert.deepEqual([status, text], [200, 'ok\n']);
    });
    const [first, second] = parts.mcp.requests.slice(length);
    assert.ok(first.headerNames.includes('authorization'));
    assert.deepEqual([second.path, second.headerNames.includes('authorization')], ['/healthz', false]);
  });

  it('no field of a client makes a first pass a second one', async () => {
    const fields = { 'x-envoy-original-url': `http://${MCP_HOST}/mcp`, 'x-envoy-internal': 'true' };
    const { status, json } = await get('opaque', fields);
    assert.deepEqual([status, json.reason], [401, 'opaque_token']);
  });

  it('the first and the second pass leak nothing', () => assertSoundAndSilent(redirecting));
});

describe('other answers', () => {
  it('other statuses are forwarded without their challenge', async () => {
    const token = await newcomer();
    for (const status of [200, 302, 400, 403, 404, 407, 429, 500, 503]) {
      const answer = (response) => {
        response.writeHead(status, { 'www-authenticate': ELSEWHERE, 'x-theirs': 'yes' }).end('of the upstream');
        return true;
      };
      await rejecting(answer, async () => {
        const seen = await gateway.call(token);
        assert.deepEqual([seen.status, seen.text], [status, 'of the upstream']);
        assert.deepEqual([seen.headers['x-theirs'], seen.headers['www-authenticate']], ['yes', undefined]);
      });
    }
    assert.deepEqual(await exchangesOf(() => gateway.call(token)), []);
  });

  it('a stream of events is forwarded unchanged', async () => {
    const token = await newcomer();
    const events = (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
      setTimeout(() => response.end('data: 2\n\n'), 50);
      return true;
    };
    await rejecting(events, async () => {
      const { status, headers, text } = await gateway.call(token);
      assert.deepEqual([status, headers['content-type'], text], [200, 'text/event-stream', 'data: 1\n\ndata: 2\n\n']);
    });
  });

  it('an answer on an unauthenticated path is forwarded unchanged', async () => {
    const { status, text } = await gateway.send({ path: '/healthz' });
    assert.deepEqual([status, text], [200, 'ok\n']);
  });
});

it('every reason of this file has been reached', () => assertReached('upstream'));

it('rejections are counted, and no secret is visible', async () => {
  await gateway.settled();
  assert.ok((await gateway.decisions('upstream_rejected_token')) > 0);
  assert.ok((await gateway.decisions('upstream_rejects_tokens')) >= 20);
  await assertSoundAndSilent(gateway);
});
