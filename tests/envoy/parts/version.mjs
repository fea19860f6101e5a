// Version of the Envoy under test, and tests that need a newer one.

import { execFileSync } from 'node:child_process';
import { ENVOY } from './envoy.mjs';

/** Version, such as `1.40.0`. */
export const version = execFileSync(ENVOY, ['--version'], { encoding: 'utf8' }).match(/\/(\d+\.\d+\.\d+)\//)[1];

/** Returns `true` if this Envoy is of that version, such as `1.37` or `1.39.1`, or newer. */
export function isAtLeast(wanted) {
  const [mine, others] = [version, wanted].map((text) => text.split('.').map(Number));
  const at = others.findIndex((number, place) => number !== mine[place]);
  return at === -1 || mine[at] > others[at];
}

/** Value of `skip` of a test: the reason why this Envoy cannot run it, or false. */
export const needs = (wanted, feature) => !isAtLeast(wanted) && `Envoy ${version} lacks ${feature}, which came with ${wanted}`;
