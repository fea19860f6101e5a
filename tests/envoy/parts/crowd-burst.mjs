// One crowd at one Envoy: so many requests of each worker wait, something lets all of them go, and then it is looked whether
// each had its answer, and whether nothing else was disturbed.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { tally } from './crowd-client.mjs';

/** Whoever has no answer after this, in milliseconds, is lost. */
const LONGEST = 20_000;

export class Burst {
  static #count = 0;
  #sent = [];
  #streams = [];
  #crowds = [];
  #left = false;

  /** @param size how many requests there are for each worker */
  constructor(scene, protocol, size) {
    Burst.#count += 1;
    Object.assign(this, { scene, protocol, size, workers: scene.workers });
    this.place = scene.provider.place(`place${Burst.#count}`);
    scene.upstream.arrivals.length = 0;
    scene.upstream.mistaken.length = 0;
  }

  /**
   * Listeners for these configurations, the last of which the crowd goes to, and streams of events through it.
   * @param known the providers whose keys are there before the crowd is
   */
  async listen(configurations, { known = ['one'] } = {}) {
    this.listeners = await this.scene.listen(...configurations);
    await this.scene.servesEverywhere(this.scene.calm);
    for (const each of this.listeners) {
      for (const provider of known) await this.scene.servesEverywhere(each, { provider });
    }
    this.#streams = await this.scene.openEventStreams(this.listeners.at(-1));
    await this.connect();
    // Of a crowd before this one.
    await this.scene.newTraps();
  }

  /** Connections for the crowd, in place of those that it has left. */
  async connect() {
    this.#left = false;
    this.#crowds = await Promise.all(this.listeners.map(({ port }) => this.scene.connect(port, this.protocol)));
  }

  /** A user whom no other worker has. */
  user(worker, number) {
    return `user${worker}-${number}`;
  }

  /** Sends a request to the last listener, or to the one of `at`; one in four has a body. */
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

  /** As many requests as there are for each worker; `make(worker, number)` gives what is sent. */
  sendAll(make) {
    for (let worker = 0; worker < this.workers; worker += 1) {
      for (let number = 0; number < this.size; number += 1) this.send(worker, make(worker, number));
    }
  }

  /** A request of a user of a provider with the user’s own token. */
  of(user, { provider, ...rest } = {}) {
    return { token: this.scene.provider.token(user, provider), user, ...rest };
  }

  /** A request with a token that nobody has signed. */
  forged(number, { provider } = {}) {
    return { token: this.scene.provider.forged(number, provider) };
  }

  /** Waits until so many requests of each worker wait at the last listener, or at the one of `at`. */
  async waits(each, at = this.listeners.length - 1) {
    const streams = at === this.listeners.length - 1 ? this.workers : 0;
    await this.scene.isActive(this.listeners[at], each * this.workers + streams);
    if (each > 0) await this.scene.expectEqualShares(this.listeners[at]);
  }

  /** What each of them was answered, or that it was late. */
  answered() {
    const late = pause(LONGEST, { error: 'late' }, { ref: false });
    return Promise.all(this.#sent.map(({ answered }) => Promise.race([answered, late])));
  }

  /** All clients leave, whatever is under way. */
  leave() {
    this.#left = true;
    for (const crowd of this.#crowds) crowd.leave();
  }

  /**
   * Each request has its answer, of each kind so many in each worker and so many `beside` in all; those of a user and a
   * connection went on in the order in which they came; the streams are whole; nothing has trapped; and the next user of each
   * worker is served at once, at the last listener, too, if its provider is `well`.
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

  /** How many requests came to the upstream behind one that came to Envoy after them, of the same user by the same connection. */
  #overtaken() {
    const last = new Map();
    let overtaken = 0;
    // Over HTTP/1.1 each has a connection of its own.
    if (this.protocol !== 'HTTP/2') return overtaken;
    for (const number of this.scene.upstream.arrivals) {
      const { group } = this.#sent[number];
      if (number < last.get(group)) overtaken += 1;
      last.set(group, number);
    }
    return overtaken;
  }
}
