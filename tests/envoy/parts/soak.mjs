// Load of the soak test: many users at many resources through several workers, while clients leave and providers fail, and its
// outcome on both sides.

import { readFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import * as faults from './faults.mjs';
import { MCP_HOST, startGateway, startParts } from './gateway.mjs';
import { answers } from './leaks.mjs';
import { signIn } from './login.mjs';
import { until } from './until.mjs';
import { startUpstream } from './upstream.mjs';

/** Refusals that a failing or slow provider explains. */
const EXPLAINED = ['provider_unavailable', 'provider_answer_invalid'];
const CONNECTIONS = 64;
const SAMPLES = 100;
/** Sum of the longest time limit here and the longest pause of the circuit breaker, in milliseconds. */
const LEFT_IN_PEACE_MS = 5_000 + 30_000;

/** Starts the recipe for both providers with several resources, and half of the users at each provider. */
export async function startScene({ workers, users, resources, timeoutSeconds }) {
  const paths = Array.from({ length: resources }, (_, number) => `/r${number}`);
  const urlOf = (path) => `https://${MCP_HOST}${path}`;
  const appOf = (path) => `api://app${path.slice(1)}`;
  const parts = await startParts();
  for (const path of paths) {
    const resource = { audience: urlOf(path), scopes: ['mcp:call'], appRoles: [] };
    parts.entra.forMcp.settings.resources.push({ ...resource, identifier: appOf(path) });
    parts.okta.forMcp.settings.resources.push({ ...resource, identifier: urlOf(path) });
  }
  await parts.mcp.stop();
  const trust = ({ host, forMcp }) => {
    const { url: jwksUri, headers } = host.reach(forMcp.urls.keys);
    return { issuer: forMcp.issuer, jwksUri, headers };
  };
  parts.mcp = await startUpstream(
    [trust(parts.entra), trust(parts.okta)],
    Object.fromEntries(paths.map((path) => [path, urlOf(path)])),
  );
  const people = await Promise.all(
    Array.from({ length: users }, async (_, number) => {
      const [provider, domain] = number % 2 ? ['okta', 'acme'] : ['entra', 'contoso'];
      const user = `user${number}@${domain}.example`;
      return { user, provider, token: (await signIn(parts[provider], user)).accessToken };
    }),
  );
  const gateway = await startGateway(parts, {
    concurrency: workers,
    change: (filter) => {
      for (const provider of Object.values(filter.identity_providers)) provider.timeout_seconds = timeoutSeconds;
      filter.resources = paths.map((path) => ({
        url: urlOf(path),
        scopes: ['mcp:read'],
        exchange: { entra: { resource: appOf(path) }, okta: { audience: urlOf(path), scopes: ['mcp:call'] } },
      }));
    },
  });
  const scene = {
    workers,
    people,
    paths,
    parts,
    gateway,
    pairs: people.flatMap((person) => paths.map((path) => ({ ...person, path }))),
    async stop() {
      await gateway.stop();
      await parts.stop();
    },
  };
  // Keys are fetched on the first tick; a user who is none of those above waits for them.
  for (const provider of ['entra', 'okta']) {
    const { accessToken: token } = await signIn(parts[provider], 'first@users.example');
    const first = { user: 'first@users.example', token, path: paths[0] };
    await until(async () => (await ask(scene, first)).status === 200, 'the keys are there');
  }
  return scene;
}

/**
 * Sends `count` requests of random users to random resources; clients break off the share `leaving` of them (0 to 1). Returns
 * the numbers of answers by kind, `wrong` answers, and samples of the resident memory of Envoy in bytes.
 */
export async function load(scene, { count, random, leaving = 0 }) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const outcome = { served: 0, refused: {}, left: 0, wrong: [], memory: [] };
  let begun = 0;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const client = async () => {
    while (begun < count) {
      begun += 1;
      if (begun % Math.ceil(count / SAMPLES) === 0) outcome.memory.push(residentBytes(scene.gateway.envoy.pid));
      const pair = pick(scene.pairs);
      const leaves = random() < leaving ? random() * 20 : undefined;
      const answer = await ask(scene, pair, { agent, leaves });
      if (answer === undefined) outcome.left += 1;
      else if (answer.status === 200 && answer.user === pair.user) outcome.served += 1;
      else if (EXPLAINED.includes(answer.reason)) {
        outcome.refused[answer.reason] = (outcome.refused[answer.reason] ?? 0) + 1;
        if (!isExplained(scene, pair)) outcome.wrong.push(`${answer.reason} of ${pair.user} at ${pair.path}, for whom nothing failed`);
      } else outcome.wrong.push(`${answer.status} ${JSON.stringify(answer)} to ${pair.user} at ${pair.path}`);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  agent.destroy();
  return outcome;
}

/** Waits until each user is served at each resource, at the latest after the remembered failures expire. */
export async function everybodyIsServed(scene, { seconds = 30 } = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const left = [...scene.pairs];
  const client = async () => {
    for (let pair; (pair = left.pop()) !== undefined; ) {
      await until(async () => (await ask(scene, pair, { agent })).status === 200, `${pair.user} is served at ${pair.path}`, seconds);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  agent.destroy();
}

/** Sends a request, and resolves with its answer, or with undefined if its client left first (after `leaves` milliseconds). */
export function ask({ gateway }, { token, user, path }, { agent, leaves } = {}) {
  return new Promise((resolve, reject) => {
    const headers = { host: MCP_HOST, authorization: `Bearer ${token}`, 'x-expected-user': user };
    const request = httpRequest({ agent, host: '127.0.0.1', port: gateway.envoy.port, path, headers }, async (response) => {
      try {
        let text = '';
        for await (const chunk of response) text += chunk;
        clearTimeout(timer);
        answers.add(text);
        resolve({ status: response.statusCode, ...JSON.parse(text) });
      } catch (error) {
        failed(error);
      }
    });
    const timer = leaves === undefined ? undefined : setTimeout(() => request.destroy(), leaves);
    const failed = (error) => (leaves === undefined ? reject(error) : resolve(undefined));
    request.on('error', failed);
    request.end();
  });
}

/** Lets one token request in twenty fail, in one of several ways, and one in fifty be slow, within the time limit. */
export function trouble(scene, random, { failing = 0.05, pausing = 0.02, longestPause = 500 } = {}) {
  const ways = [
    faults.answers(503, 'no'),
    faults.answers(500, '{}', { 'content-type': 'application/json' }),
    faults.refusesWith('temporarily_unavailable'),
    faults.dropsTheConnection(),
    faults.neverAnswers(),
  ];
  const repairs = serversOf(scene).map((server) =>
    server.fail('token', (exchange) => {
      const drawn = random();
      if (drawn < failing) return ways[Math.floor(random() * ways.length)](exchange);
      if (drawn < failing + pausing) return faults.isSlow(random() * longestPause)(exchange);
      return exchange.real();
    }),
  );
  return () => repairs.forEach((repair) => repair());
}

/**
 * Counts token requests and issued tokens by user and resource. A call is due if it is the first of its user and resource, or if
 * the one before it failed. `undue` are the others; `missing` are pairs without any token.
 */
export function exchangesOf(scene) {
  const byPair = new Map(scene.pairs.map((pair) => [keyOf(pair), []]));
  for (const server of serversOf(scene)) {
    for (const request of server.exchanges) byPair.get(keyOfRequest(request))?.push(request.status);
  }
  const pairs = [...byPair.values()];
  const all = pairs.flat();
  return {
    pairs: pairs.length,
    calls: all.length,
    issued: all.filter((status) => status === 200).length,
    failed: all.filter((status) => status !== 200).length,
    undue: pairs.reduce((sum, statuses) => sum + statuses.slice(0, -1).filter((status) => status === 200).length, 0),
    missing: pairs.filter((statuses) => !statuses.includes(200)).length,
    mostForOne: Math.max(...pairs.map((statuses) => statuses.filter((status) => status === 200).length)),
  };
}

/** Ratio of the mean of the last quarter of the samples to that of the second one. */
export function growth(samples) {
  const quarter = Math.floor(samples.length / 4);
  const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
  return mean(samples.slice(-quarter)) / mean(samples.slice(quarter, 2 * quarter));
}

const serversOf = ({ parts }) => [parts.entra.forMcp, parts.okta.forMcp];
const keyOf = ({ user, path }) => `${user} ${path}`;

/** User of the subject token and path of the requested resource. */
function keyOfRequest({ subject, values }) {
  const number = (values.audience ?? values.scope).match(/r(\d+)(\/\.default)?$/)?.[1];
  return `${subject} /r${number}`;
}

/**
 * Returns `true` if the provider explains the refusal of this user: a call for this user and resource has failed, or enough
 * calls of others that the circuit breaker is open (docs/adr/0016).
 */
function isExplained(scene, pair) {
  const failed = scene.parts[pair.provider].forMcp.exchanges.filter(({ status }) => status !== 200);
  const recently = performance.now() - LEFT_IN_PEACE_MS;
  return failed.some((request) => keyOfRequest(request) === keyOf(pair)) || failed.filter(({ at }) => at > recently).length >= 3;
}

/** Resident memory of a process in bytes. */
function residentBytes(pid) {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB$/m)[1]) * 1024;
}

/** Pseudo-random numbers from 0 to 1, equal for equal seeds (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
