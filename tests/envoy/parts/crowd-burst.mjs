// Burst of a crowd at one Envoy: a number of requests of each worker waits, an event ends the wait, and the burst checks that
// each request has its answer and that nothing else is disturbed.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { tally } from './crowd-client.mjs';
import { until } from './until.mjs';

/** Maximum wait for an answer in milliseconds; later ones count as lost. */
const LONGEST = 20_000;

export class Burst {
  static #count = 0;
  #sent = [];
  #streams = [];
  #crowds = [];
  #left = false;

  /** @param size number of requests for each worker */
  constructor(scene, protocol, size) {
    Burst.#count += 1;
    Object.assign(this, { scene, protocol, size, workers: scene.workers });
    this.place = scene.provider.place(`place${Burst.#count}`);
    scene.upstream.arrivals.length = 0;
    scene.upstream.mistaken.length = 0;
  }

  /**
   * Opens a listener for each configuration, and streams of events through the last one, which the crowd uses.
   * @param known the providers whose keys are fetched before the crowd starts
   */
  async listen(configurations, { known = ['one'] } = {}) {
    this.listeners = await this.scene.listen(...configurations);
    await this.scene.servesEverywhere(this.scene.calm);
    for (const each of this.listeners) {
      for (const provider of known) await this.scene.servesEverywhere(each, { provider });
    }
    this.#streams = await this.scene.openEventStreams(this.listeners.at(-1));
    await this.connect();
    // Resets the traps of a former crowd.
    await this.scene.newTraps();
  }

  /** Opens connections for the crowd in place of those that it has left. */
  async connect() {
    this.#left = false;
    // Envoy counts a connection that is being closed when it distributes the next ones.
    for (const listener of this.listeners) await this.scene.hasConnections(listener, this.#streamsAt(listener));
    this.#crowds = await Promise.all(this.listeners.map(({ port }) => this.scene.connect(port, this.protocol)));
  }

  /** Name of a user of this worker only. */
  user(worker, number) {
    return `user${worker}-${number}`;
  }

  /** Sends a request to the last listener, or to the listener `at`; one in four has a body. */
  send(worker, { token, user, path = '/mcp', at = this.listeners.length - 1, signal }) {
    const number = this.#sent.length;
    const hasBody = number % 4 === 3;
    const headers = { authorization: `Bearer ${token}`, 'x-number': String(number), ...(user && { 'x-expected-user': user }) };
    const request = { path, headers, signal, ...(hasBody && { method: 'POST', body: '{"jsonrpc":"2.0"}' }) };
    const answered = this.#crowds[at].send(worker, request).then((answer) => {
      if (answer.status === 200 && answer.user !== user) return { error: `${user} was answered as ${answer.user}` };
      return answer.error && (this.#left || signal?.aborted) ? { error: 'left' } : answer;
    });
    this.#sent.push({ answered, group: `${at} ${worker} ${user}` });
    return number;
  }

  /** Sends `size` requests for each worker; `make(worker, number)` returns each request. */
  sendAll(make) {
    for (let worker = 0; worker < this.workers; worker += 1) {
      for (let number = 0; number < this.size; number += 1) this.send(worker, make(worker, number));
    }
  }

  /** Request of a user of a provider with the token of that user. */
  of(user, { provider, ...rest } = {}) {
    return { token: this.scene.provider.token(user, provider), user, ...rest };
  }

  /** Request with a forged token. */
  forged(number, { provider } = {}) {
    return { token: this.scene.provider.forged(number, provider) };
  }

  /** Waits until this many requests of each worker wait at the last listener, or at the listener `at`. */
  async waits(each, at = this.listeners.length - 1) {
    await this.scene.isActive(this.listeners[at], each * this.workers + this.#streamsAt(this.listeners[at]));
    if (each > 0) await this.scene.expectEqualShares(this.listeners[at]);
  }

  /** Waits until no requests are left at the last listener but those whose token requests `hold` holds; returns their number. */
  async waitsOnlyFor(hold) {
    const { name } = this.listeners.at(-1);
    const left = async () => (await this.scene.envoy.stat(`http.${name}.downstream_rq_active`)) - this.workers;
    await until(async () => hold.waiting() > 0 && (await left()) === hold.waiting(), 'the other requests are answered');
    return hold.waiting();
  }

  /** Number of streams of events through a listener, each on a connection of its own. */
  #streamsAt(listener) {
    return listener === this.listeners.at(-1) ? this.workers : 0;
  }

  /** Answers of all requests; a late one is an error. */
  answered() {
    const late = pause(LONGEST, { error: 'late' }, { ref: false });
    return Promise.all(this.#sent.map(({ answered }) => Promise.race([answered, late])));
  }

  /** Closes all connections of clients. */
  leave() {
    this.#left = true;
    for (const crowd of this.#crowds) crowd.leave();
  }

  /**
   * Asserts the outcome: each request has its answer, of each kind so many in each worker and so many `beside` in total;
   * requests of one user on one connection were forwarded in order; the streams are whole; the module never trapped; and the
   * next user of each worker is served at once, at the last listener as well if its provider is `well`.
   */
  async ends(each, { beside = {}, well = true } = {}) {
    const counts = tally(await this.answered());
    this.leave();
    const isServed = async (at) => this.scene.servesEverywhere(at, { within: 0 }).then(() => 'served', ({ message }) => message);
    const next = [await isServed(this.scene.calm), well ? await isServed(this.listeners.at(-1)) : 'served'];
    const streams = [];
    for (const stream of this.#streams) streams.push(await stream.end(this.scene.upstream));
    const traps = await this.scene.newTraps();
    const kinds = Object.keys({ ...each, ...beside });
    const inAll = kinds.map((kind) => [kind, (each[kind] ?? 0) * this.workers + (beside[kind] ?? 0)]);
    const overtaken = this.#overtaken();
    const { mistaken } = this.scene.upstream;
    const seen = { traps, counts, overtaken, streams: streams.filter(Boolean), next, mistaken };
    const expected = {
      traps: [],
      counts: Object.fromEntries(inAll.filter(([, count]) => count > 0)),
      overtaken: 0,
      streams: [],
      next: ['served', 'served'],
      mistaken: [],
    };
    assert.deepEqual(seen, expected, `${JSON.stringify(seen)}\nin place of ${JSON.stringify(expected)}`);
  }

  /** Number of requests that reached the upstream after a later request of the same user and connection. */
  #overtaken() {
    const last = new Map();
    let overtaken = 0;
    // Over HTTP/1.1 each request has its own connection.
    if (this.protocol !== 'HTTP/2') return overtaken;
    for (const number of this.scene.upstream.arrivals) {
      const { group } = this.#sent[number];
      if (number < last.get(group)) overtaken += 1;
      last.set(group, number);
    }
    return overtaken;
  }
}
