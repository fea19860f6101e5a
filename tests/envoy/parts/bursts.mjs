// Bursts of many who wait at once, beside whatever else is done at a gateway: tokens whose keys nobody has, while the providers
// take their time to say so, and newcomers with many requests each.

import { setTimeout as pause } from 'node:timers/promises';
import { connectCrowd, tally } from './crowd-client.mjs';
import { gate } from './faults.mjs';
import { signIn } from './login.mjs';
import { until } from './until.mjs';

/** Keys are fetched for unknown ones no sooner after the last time. */
const APART_MS = 31_000;
/** The providers answer when so many wait, or after so many seconds: the time limit of calls is longer. */
const ENOUGH = 0.9;
const LONGEST_SECONDS = 2;
/** As many in each worker as wait for the keys of one of two providers. */
const WAITING = 256;
/** Of a newcomer in all. Envoy does not send as many to an upstream at once as wait here. */
const NEWCOMERS_REQUESTS = 200;
/** So many connections a worker are in about equal numbers in all of them. */
const CONNECTIONS = 6;
const PROVIDERS = ['entra', 'okta'];

/** What may become of those whose keys nobody has, and of newcomers: whose provider may fail, where it is made to. */
const OF_FORGED = ['401 unknown_key', '503 overloaded', '503 jwks_unavailable'];
const OF_NEWCOMERS = ['200', '503 overloaded', '503 provider_unavailable', '502 provider_answer_invalid'];

/**
 * Bursts at a scene of soak.mjs, the first of them at once. The function that is returned waits for the last one to end, and
 * says how many there were, how often requests were answered in which way, and what was `wrong` with that.
 */
export function burstNowAndThen(scene) {
  const ending = new AbortController();
  const outcome = { bursts: 0, answered: {}, wrong: [] };
  const add = (counts, allowed) => {
    for (const [kind, count] of Object.entries(counts)) {
      outcome.answered[kind] = (outcome.answered[kind] ?? 0) + count;
      if (!allowed.includes(kind)) outcome.wrong.push(`${count} of a burst had ${kind}`);
    }
  };
  const all = (async () => {
    while (!ending.signal.aborted) {
      outcome.bursts += 1;
      const [forged, newcomers] = await burst(scene, outcome.bursts);
      add(forged, OF_FORGED);
      add(newcomers, OF_NEWCOMERS);
      await pause(APART_MS, undefined, { signal: ending.signal }).catch(() => {});
    }
  })();
  return async () => {
    ending.abort();
    await all;
    return outcome;
  };
}

/** One burst: how those were answered whose keys nobody has, and how newcomers. */
async function burst({ parts, gateway, paths, workers }, number) {
  const connections = CONNECTIONS * workers;
  const newcomers = await Promise.all(
    PROVIDERS.map(async (name) => {
      const user = `burst${number}@${name}.example`;
      return { user, token: (await signIn(parts[name], user)).accessToken };
    }),
  );
  // Both answer in the same moment, so that a worker that waits for another lets all go at once.
  const hold = gate();
  const held = PROVIDERS.flatMap((name) => [[parts[name].signIn, 'keys'], [parts[name].forMcp, 'token']]);
  const repairs = held.map(([server, endpoint]) => server.fail(endpoint, hold.behave));
  const crowd = await connectCrowd(gateway.envoy.port, 'HTTP/2', connections);
  try {
    const count = (length) => Array.from({ length: length * PROVIDERS.length }, (_, index) => index);
    const send = (index, token, user) =>
      crowd.send(index % connections, {
        path: paths[0],
        headers: { authorization: `Bearer ${token}`, ...(user && { 'x-expected-user': user }) },
      });
    const of = (index) => newcomers[index % newcomers.length];
    const forged = count(WAITING * workers).map((index) => send(index, withKid(of(index).token, `burst${number}-${index}`)));
    const known = count(NEWCOMERS_REQUESTS).map((index) => send(index, of(index).token, of(index).user));
    const wait = ENOUGH * forged.length;
    const active = 'http.gateway.downstream_rq_active';
    await until(async () => (await gateway.envoy.stat(active)) >= wait, 'many wait', LONGEST_SECONDS).catch(() => {});
    hold.release();
    return [tally(await Promise.all(forged)), tally(await Promise.all(known))];
  } finally {
    hold.release();
    crowd.leave();
    for (const repair of repairs) repair();
  }
}

/** The same token with the name of another key in its header. */
function withKid(token, kid) {
  const [header, ...rest] = token.split('.');
  const read = JSON.parse(Buffer.from(header, 'base64url').toString());
  return [Buffer.from(JSON.stringify({ ...read, kid })).toString('base64url'), ...rest].join('.');
}
