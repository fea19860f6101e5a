// Bursts of waiting requests during other load of a gateway: tokens with unknown `kid`s while the providers delay their answer,
// and new users with many requests each.

import { setTimeout as pause } from 'node:timers/promises';
import { connectCrowd, tally } from './crowd-client.mjs';
import { gate } from './faults.mjs';
import { signIn } from './login.mjs';
import { withKid } from './tokens.mjs';
import { until } from './until.mjs';

/** Interval of bursts: keys are fetched for unknown `kid`s at most this often. */
const APART_MS = 31_000;
/**
 * The providers answer when this share of the requests waits, or after this many seconds, which is below the time limit of
 * callouts.
 */
const ENOUGH = 0.9;
const LONGEST_SECONDS = 2;
/** Requests of each worker for the keys of one of two providers, the limit of waiting requests. */
const WAITING = 256;
/** Requests of each new user. Envoy sends fewer concurrent requests to an upstream than wait here. */
const NEWCOMERS_REQUESTS = 200;
/** Connections for each worker: enough that all workers get about equal numbers. */
const CONNECTIONS = 6;
const PROVIDERS = ['entra', 'okta'];

/** Allowed answers to tokens with unknown `kid`s, and to new users whose provider may fail. */
const OF_FORGED = ['401 unknown_key', '503 overloaded', '503 jwks_unavailable'];
const OF_NEWCOMERS = ['200', '503 overloaded', '503 provider_unavailable', '502 provider_answer_invalid'];

/**
 * Starts bursts at a scene of soak.mjs, the first of them at once. The returned function waits for the last one, and returns the
 * number of bursts, the numbers of answers by kind, and `wrong` answers.
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

/** Runs one burst, and returns the answers to tokens with unknown `kid`s and to new users. */
async function burst({ parts, gateway, paths, workers }, number) {
  const connections = CONNECTIONS * workers;
  const newcomers = await Promise.all(
    PROVIDERS.map(async (name) => {
      const user = `burst${number}@${name}.example`;
      return { user, token: (await signIn(parts[name], user)).accessToken };
    }),
  );
  // Both providers answer at the same moment, so that a worker that waits for another releases all requests at once.
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
