// Set-up of the tests of refusals, and the reasons that each file must reach.

import assert from 'node:assert/strict';
import { assertRefused } from './expect.mjs';
import { facts } from './facts.mjs';
import { MCP_HOST, startGateway, startParts } from './gateway.mjs';
import { signIn } from './login.mjs';
import { decode } from './tokens.mjs';

/** Reasons of each test file. */
const SHARES = {
  requests: [
    'unknown_resource',
    'not_an_authorization_server',
    'ambiguous_path',
    'method_not_allowed',
    'no_credentials',
    'malformed_credentials',
    'multiple_credentials',
    'token_too_large',
  ],
  tokens: [
    'opaque_token',
    'malformed_token',
    'encrypted_token',
    'unsupported_algorithm',
    'unsupported_token_type',
    'unknown_issuer',
    'wrong_tenant',
    'unknown_key',
    'bad_signature',
    'expired',
    'not_yet_valid',
    'wrong_audience',
    'invalid_claims',
    'id_token_as_access_token',
    'not_a_user_token',
    'insufficient_scope',
    'required_claim_missing',
    'no_exchange',
    'subject_token_missing',
    'subject_token_invalid',
    'subject_mismatch',
    'access_token_as_id_token',
    'sender_constrained_token',
    'invalid_dpop_proof',
    'wrong_certificate',
    'token_not_sender_constrained',
    'use_dpop_nonce',
    'actor_not_allowed',
    'actor_token_missing',
  ],
  exchanges: [
    'exchange_rejected',
    'interaction_required',
    'exchange_denied',
    'exchange_misconfigured',
    'provider_answer_invalid',
    'provider_unavailable',
    'provider_throttled',
    'overloaded',
    'jwks_unavailable',
  ],
  upstream: [
    'upstream_rejected_token',
    'upstream_rejects_tokens',
    'upstream_session_gone',
    'second_pass',
  ],
};

/** Providers, gateway and users, between `start` and `stop`. */
export let parts;
export let gateway;
export let alice;
export let bob;

const reached = new Set();
let number = 0;

/** Signs in a user who has not called before. */
export const newcomer = (name, options) => {
  number += 1;
  return signIn(parts[name], `user${number}@${name}.example`, options);
};

/** Asserts the refusal (see `assertRefused`), and counts its reason as reached. */
export const refused = (row, act, at = gateway) => {
  reach(row.reason);
  return assertRefused(at, row, act);
};

/** Counts a reason as reached. */
export const reach = (reason) => reached.add(reason);

/** Asserts that this process reached the reasons of a file, and no other reason. */
export const assertReached = (file) => assert.deepEqual([...reached].sort(), [...SHARES[file]].sort());

/** Asserts that each reason of the filter belongs to one file. */
export function assertShares() {
  assert.deepEqual(Object.values(SHARES).flat().sort(), facts.reasons.map(({ label }) => label).sort());
}

export const invalidToken = (reason) => ({
  reason,
  status: 401,
  error: 'invalid_token',
  challenge: 'error',
});
export const invalidRequest = (reason) => ({
  reason,
  status: 400,
  error: 'invalid_request',
  challenge: 'error',
});

/** Lets the provider sign a token with claims that no sign-in gives. */
export const signed = (server, token, change, header = {}) => {
  const [h, claims] = token.split('.').slice(0, 2).map(decode);
  return server.sign({ ...claims, ...change }, { ...(h.typ ? { typ: h.typ } : {}), ...header });
};

export async function start() {
  parts = await startParts();
  gateway = await startGateway(parts, {
    change: (filter) => {
      filter.identity_providers.entra.timeout_seconds = 2;
      filter.identity_providers.okta.timeout_seconds = 2;
      filter.resources.push({
        url: `https://${MCP_HOST}/bound`,
        scopes: ['mcp:read'],
        dpop: { mode: 'required', nonce: true },
        certificate_bound_tokens: 'optional',
        exchange: structuredClone(filter.resources[0].exchange),
      });
      filter.resources.push({
        url: `https://${MCP_HOST}/okta-only`,
        scopes: ['mcp:read'],
        exchange: { okta: structuredClone(filter.resources[0].exchange.okta) },
      });
    },
  });
  alice = await parts.alice({ idToken: true });
  bob = await parts.bob({ idToken: true });
  assert.equal((await gateway.call(alice.accessToken)).status, 200);
  assert.equal((await gateway.call(bob.accessToken)).status, 200);
}

export async function stop() {
  await gateway?.stop();
  await parts?.stop();
}
