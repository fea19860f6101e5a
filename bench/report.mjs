// Figures as tables with goals, and as target/bench/latest.json.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { ENVOY } from '../tests/envoy/parts/envoy.mjs';
import { BUDGET } from '../tools/module-size.mjs';
import { run } from './load.mjs';
import { median, verdict } from './statistics.mjs';

/** Goals of comparisons with the module of another commit. */
const GOALS_AGAINST = {
  '04eb90b2f0a0ebe7fbef4b1fc6600f78cd668037': {
    warm_vs_before: ['≥', 0.99],
    cold_rs256_vs_before: ['≥', 0.99],
  },
  '8f793a7e0534fec44d5070175329e90215b26700': {
    warm_vs_before: ['≥', 1.10],
    warm_default_vs_before_default: ['≥', 0.91],
  },
};
const GOALS = {
  warm_vs_empty_wasm: ['≥', 0.97],
  warm_vs_jwt_authn_cached: ['≥', 0.80],
  warm_1000_paths_vs_1: ['≥', 0.98],
  cold_rs256_vs_jwt_authn: ['≥', 1],
  cold_es256_vs_jwt_authn: ['≥', 1],
  first_request_added_ms_secret: ['≤', 1],
  first_request_added_ms_es256: ['≤', 1],
  first_request_added_ms_rs256: ['≤', 2],
  exchanges_for_50_parallel_first_requests: ['=', 1],
  calls_for_50_parallel_first_requests_failing_endpoint: ['=', 1],
  exchanges_in_last_30s_of_a_token: ['=', 1],
  p99_after_100k_tokens_vs_before: ['≤', 1.5],
  jwks_fetches_in_unknown_kid_flood: ['≤', 1],
  exchanges_in_soak_over_minimum: ['≤', 1],
  reloads_over_all_ways_of_waiting: ['=', 0],
  module_bytes: ['≤', BUDGET],
};

/** Prints the turns of each side. */
export function printTurns(what, measured) {
  const row = (name, cells) => console.log(name.padEnd(24) + cells.map((cell) => cell.padStart(12)).join(''));
  console.log('');
  row(what, ['CPU, µs', 'lowest', 'highest', 'requests/s', 'lowest', 'highest', 'busy', 'waited']);
  const spread = (numbers, digits) => [median(numbers), Math.min(...numbers), Math.max(...numbers)].map((number) => number.toFixed(digits));
  const percent = (numbers) => `${(median(numbers) * 100).toFixed(0)} %`;
  const of = (turns, key) => turns.map((turn) => turn[key]);
  for (const [side, turns] of Object.entries(measured)) {
    row(side, [...spread(of(turns, 'cpu').map((cpu) => cpu / 1000), 2), ...spread(of(turns, 'rate'), 0), percent(of(turns, 'busy')), percent(of(turns, 'waited'))]);
  }
  const all = Object.values(measured).flat();
  const shared = all.filter(({ busy }) => busy < 0.9);
  if (shared.length > 0) {
    console.log(`Envoy had less than 90 % of its core in ${shared.length} of ${all.length} turns (median ${percent(of(all, 'busy'))}, and ${percent(of(all, 'waited'))} in wait `
      + 'for it): something else ran there, or the load came too slowly. Requests a second mean little then; processor time in pairs means more.');
  }
}

/**
 * Prints the figures with their goals, and writes them to the file. Figures of an earlier run with the same modules stay if this
 * run did not measure them.
 */
export async function report(path, figures, notes, about) {
  const { stdout: version } = await run(ENVOY, ['--version']);
  const machine = `${cpus()[0].model}, ${cpus().length} cores; Envoy ${version.match(/\/(\d+\.\d+\.\d+)\//)[1]}`;
  const { about: then, ...earlier } = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  const kept = then?.module_sha256 === about.module_sha256 && then.before === about.before ? earlier : {};
  const all = Object.fromEntries(Object.entries({ ...kept, ...figures }).filter(([, figure]) => figure));

  const goals = { ...GOALS, ...GOALS_AGAINST[about.before] };
  const digits = { ratio: 3, ms: 3, 'µs': 1 };
  const row = (name, cells, end) => console.log(`${name.padEnd(54)}${cells.map((cell) => cell.padStart(10)).join('')}  ${end}`);
  console.log('');
  row('(from, to: 95 % interval of the median)', ['median', 'from', 'to', 'lowest', 'highest', 'rounds'], 'goal');
  for (const [name, figure] of Object.entries(all)) {
    const show = (number) => number.toFixed(digits[figure.unit] ?? 0);
    const cells = ({ value, interval, rounds }) => [value, ...(interval ?? ['', '']), Math.min(...rounds), Math.max(...rounds)]
      .map((cell) => (cell === '' ? '' : show(cell))).concat(String(rounds.length));
    const goal = goals[name] ? `${goals[name].join(' ')} ${verdict(figure, goals[name])}` : '';
    row(name, cells(figure), name in figures ? goal : `${goal} (earlier run)`);
    if (figure.throughput) row('  in requests a second', cells(figure.throughput), '');
  }
  const same = Object.entries(all).filter(([name, { interval }]) => name.startsWith('same_vs_same') && interval);
  if (same.length > 0) {
    const off = Math.max(...same.flatMap(([, { interval }]) => interval.map((end) => Math.abs(end - 1))));
    console.log(`\nThe same side measured twice is within ${(off * 100).toFixed(1)} % of itself: a difference below that is none that was seen.`);
  }
  console.log('');
  for (const note of notes) console.log(note);
  console.log(`${machine}; one worker where nothing else is said; wrk with ${about.load}; before: ${about.before ?? 'nothing'}`);
  writeFileSync(path, `${JSON.stringify({ ...all, about: { ...about, machine } }, undefined, 2)}\n`);
  console.log('target/bench/latest.json');
}
