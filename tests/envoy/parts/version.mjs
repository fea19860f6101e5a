// Version of the Envoy under test, and tests that need a newer one.

import { execFileSync } from 'node:child_process';
import { ENVOY } from './envoy.mjs';

/** Version, such as `1.40.0`. */
export const version = execFileSync(ENVOY, ['--version'], { encoding: 'utf8' }).match(/\/(\d+\.\d+\.\d+)\//)[1];

/** Returns `true` if this Envoy is of that minor version, such as `1.37`, or newer. */
export function isAtLeast(minor) {
  const [[major, one], [expectedMajor, other]] = [version, minor].map((text) => text.split('.').map(Number));
  return major > expectedMajor || (major === expectedMajor && one >= other);
}

/** Value of `skip` of a test: the reason why this Envoy cannot run it, or false. */
export const needs = (minor, feature) => !isAtLeast(minor) && `Envoy ${version} lacks ${feature}, which came with ${minor}`;
