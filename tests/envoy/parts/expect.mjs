// Assertions about a refusal as a client sees it.

import assert from 'node:assert/strict';
import { METADATA_URL } from './gateway.mjs';
import { leaks } from './leaks.mjs';

/** Parameters of the only challenge of a WWW-Authenticate value; each must be quoted. */
export function challengeOf(answer, scheme = 'Bearer') {
  const value = answer.headers['www-authenticate'];
  if (value === undefined) return undefined;
  const [, rest] = value.match(new RegExp(`^${scheme} (.*)$`)) ?? assert.fail(`not a ${scheme} challenge: ${value}`);
  const parameters = {};
  const pattern = /([a-z_]+)="([^"\\]*)"(, |$)/y;
  while (pattern.lastIndex < rest.length) {
    const found = pattern.exec(rest) ?? assert.fail(`not well formed: ${value}`);
    assert.ok(!(found[1] in parameters), `twice in the challenge: ${found[1]}`);
    parameters[found[1]] = found[2];
  }
  return parameters;
}

/**
 * Runs `act`, and asserts that it is refused as described, that the refusal is counted once, and that nothing reaches the MCP
 * server.
 * @param {string[]} members further members of the body
 * @param {'none' | 'bare' | 'error'} challenge
 */
export async function assertRefused(
  gateway,
  { reason, status, error, members = [], challenge = 'none', scope = 'mcp:read', metadata = METADATA_URL, retryAfter = false, scheme = 'Bearer' },
  act,
) {
  const counter = `decisions.reason.${reason}`;
  const counted = await gateway.count(counter);
  const arrived = gateway.parts.mcp.requests.length;
  const answer = await act();

  const shown = `${answer.status} ${answer.text}`;
  assert.equal(answer.status, status, shown);
  assert.equal(answer.headers['content-type'], 'application/json', shown);
  assert.equal(answer.headers['cache-control'], 'no-store', shown);
  assert.deepEqual(Object.keys(answer.json).sort(), ['error', 'error_description', ...members, 'reason'].sort(), shown);
  assert.equal(answer.json.reason, reason, shown);
  assert.equal(answer.json.error, error, shown);
  assert.match(answer.json.error_description, /^\w.{20,}\.$/, shown);

  const parameters = challengeOf(answer, scheme);
  if (challenge === 'none') assert.equal(parameters, undefined, shown);
  else {
    assert.equal(parameters.resource_metadata, metadata, shown);
    assert.equal(parameters.scope, scope, shown);
    assert.equal(parameters.error, challenge === 'error' ? error : undefined, shown);
    const described = challenge === 'error' ? answer.json.error_description : undefined;
    assert.equal(parameters.error_description, described, shown);
  }
  if (retryAfter) assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/, shown);
  else assert.equal(answer.headers['retry-after'], undefined, shown);

  await gateway.expectCount(counter, counted + 1);
  assert.equal(gateway.parts.mcp.requests.length, arrived, 'something reached the MCP server');
  return answer;
}

/** Asserts that the module never trapped and that no secret is visible. Each file ends with it. */
export async function assertSoundAndSilent(gateway) {
  assert.deepEqual(await gateway.envoy.traps(), [], 'the module trapped');
  const { found, looked } = await leaks(gateway);
  assert.ok(looked > 0, 'there was nothing to look for');
  assert.deepEqual(found, {}, 'secrets can be seen');
}
