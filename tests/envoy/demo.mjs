// Demonstration on this machine, step by step: `make demo`. With --keep (`make run`) it stays up and prints commands to try.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import YAML from 'yaml';
import { ENVOY, scratchFolder } from './parts/envoy.mjs';
import { challengeOf } from './parts/expect.mjs';
import { freePort } from './parts/free-port.mjs';
import { bootstrapOf, ENTRA_PATH, MCP_HOST, metadataPathOf, OKTA_PATH, startGateway, startParts } from './parts/gateway.mjs';
import { leaks } from './parts/leaks.mjs';
import { until } from './parts/until.mjs';

const keep = process.argv.includes('--keep');
const colour = process.stdout.isTTY ? (code, text) => `\x1b[${code}m${text}\x1b[0m` : (_, text) => text;
const bold = (text) => colour(1, text);
const say = (text = '') => console.log(text);

const summary = [];
let current = 'starting';

/** Begins a section of the output. */
function chapter(title) {
  current = title;
  say(`\n${bold(title)}`);
}

/** Prints a fact and checks it. The first false one ends the demonstration. */
function fact(what, holds, found = '') {
  if (!holds) throw new Error(`${what}${found ? ` (found: ${found})` : ''}`);
  summary.push([current, what]);
  say(`  ${colour(32, 'ok')}  ${what}`);
}

const detail = (text) => say(`        ${text}`);

function showSeen(seen) {
  detail(`audience  ${[seen.audience].flat().join(', ')}`);
  detail(`issuer    ${seen.issuer}`);
  detail(`subject   ${seen.subject}`);
  detail(`scopes    ${seen.scopes.join(' ')}`);
}

function showExchange(server) {
  const request = server.exchanges.at(-1);
  detail(`POST ${server.urls.token}`);
  for (const name of request.parameters) detail(`  ${name} = ${request.values[name]}`);
  const { assertion } = request;
  const how = assertion ? ` (${assertion.alg}, key ${assertion.kid}, good for ${assertion.seconds} s)` : '';
  detail(`client authentication: ${request.clientAuthentication}${how}`);
}

/** Sends a request that must be refused and must not reach the MCP server. */
async function refusal(gateway, what, { status, reason }, act) {
  const before = gateway.parts.mcp.requests.length;
  const answer = await act();
  const found = `${answer.status} ${answer.text}`;
  fact(`${what}: ${status} ${reason}`, answer.status === status && answer.json.reason === reason, found);
  detail(answer.json.error_description);
  const challenge = challengeOf(answer);
  if (challenge) {
    const { error = 'none', scope, resource_metadata } = challenge;
    detail(`WWW-Authenticate: error ${error}, scope ${scope}, metadata ${resource_metadata}`);
  }
  if (answer.headers['retry-after']) detail(`Retry-After: ${answer.headers['retry-after']}`);
  fact('nothing of it reached the MCP server', gateway.parts.mcp.requests.length === before);
}

/** Repeats the request after Retry-After, a few times. */
async function politely(act) {
  for (let tries = 1; ; tries += 1) {
    const answer = await act();
    if (answer.status !== 503 || tries === 5) return answer;
    const seconds = Number(answer.headers['retry-after']);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

/** Returns the path of a client to the sign-in of its user, and the parameters that it sent there. */
function showSignIn({ asked, authorization }) {
  for (const url of new Set(asked)) detail(`asked  ${url}`);
  for (const name of ['client_id', 'scope', 'resource', 'code_challenge_method', 'redirect_uri']) {
    detail(`  ${name} = ${authorization.searchParams.get(name)}`);
  }
}

async function story(parts, gateway) {
  const { entra, okta, mcp } = parts;
  // Users know only the URL from their company. The client has the ID that was registered for it.
  const atEntra = { path: ENTRA_PATH, provider: entra };
  const atOkta = { path: OKTA_PATH, provider: okta };

  chapter('Alice, whose company signs in with Entra, comes with an MCP client and a URL');
  const alice = await gateway.signIn('alice@contoso.example', atEntra);
  fact('the client found Entra, and Alice signed in there: authorization code with PKCE', alice.accessToken);
  showSignIn(alice);
  const toAlice = await alice.whoami();
  fact('she called the tool whoami, and the MCP server got a token that was issued for it', toAlice.audience === entra.ids.mcpServer);
  showSeen(toAlice);
  fact('and not Alice’s own', !mcp.tokens.has(alice.accessToken) && mcp.tokens.size === 1);

  chapter('Bob, whose company signs in with Okta, comes to the same server');
  const bob = await gateway.signIn('bob@acme.example', atOkta);
  fact('the client found Okta, and Bob signed in there: authorization code with PKCE', bob.accessToken);
  showSignIn(bob);
  const toBob = await bob.whoami();
  fact('he called the tool whoami, and the MCP server got a token that was issued for it', toBob.issuer === okta.forMcp.issuer);
  showSeen(toBob);
  const shape = (seen) => Object.keys(seen).sort().join();
  fact('of the same shape: the server has no code that knows which provider it was', shape(toBob) === shape(toAlice));

  chapter('What was sent to the token endpoints');
  fact('Entra: one on-behalf-of request', entra.signIn.exchanges.length === 1);
  showExchange(entra.signIn);
  fact('Okta: one token exchange', okta.forMcp.exchanges.length === 1);
  showExchange(okta.forMcp);

  chapter('The second call');
  for (const [name, person, server] of [
    ['Alice', alice, entra.signIn],
    ['Bob', bob, okta.forMcp],
  ]) {
    await person.whoami();
    fact(`${name} is served from the cache: still one exchange`, server.exchanges.length === 1);
  }

  chapter('Requests that are refused');
  const tampered = alice.accessToken.split('.');
  tampered[1] = Buffer.from(
    Buffer.from(tampered[1], 'base64url').toString().replace('alice@', 'admin@'),
  ).toString('base64url');
  entra.signIn.clockOffsetSeconds = -2 * 3600;
  const old = await gateway.signIn('alice@contoso.example', atEntra);
  entra.signIn.clockOffsetSeconds = 0;
  // No MCP client requests these two at this URL: she has them from another one.
  const elsewhere = await parts.alice({ resource: `api://${entra.ids.otherApi}` });
  const { idToken } = await parts.alice({ idToken: true });
  const callAtEntra = (token) => gateway.call(token, {}, atEntra);
  await refusal(gateway, 'no token', { status: 401, reason: 'no_credentials' }, () =>
    callAtEntra(undefined),
  );
  await refusal(gateway, 'an expired token', { status: 401, reason: 'expired' }, () =>
    callAtEntra(old.accessToken),
  );
  await refusal(gateway, 'a token for another audience', { status: 401, reason: 'wrong_audience' }, () =>
    callAtEntra(elsewhere.accessToken),
  );
  await refusal(gateway, 'a tampered token', { status: 401, reason: 'bad_signature' }, () =>
    callAtEntra(tampered.join('.')),
  );
  await refusal(
    gateway,
    'an ID token where Entra needs an access token',
    { status: 401, reason: 'id_token_as_access_token' },
    () => callAtEntra(idToken),
  );
  await refusal(gateway, 'a user of the other provider', { status: 403, reason: 'no_exchange' }, () =>
    callAtEntra(bob.accessToken),
  );

  chapter('Both providers go down');
  const carol = await gateway.signIn('carol@contoso.example', atEntra);
  const dave = await gateway.signIn('dave@acme.example', atOkta);
  await Promise.all([entra.host.down(), okta.host.down()]);
  for (const [name, { accessToken }, at] of [
    ['Alice', alice, atEntra],
    ['Bob', bob, atOkta],
  ]) {
    const answer = await gateway.call(accessToken, {}, at);
    fact(`${name}, who was here before, is served`, answer.status === 200, answer.text);
  }
  for (const [name, { accessToken }, at] of [
    ['Carol of Entra', carol, atEntra],
    ['Dave of Okta', dave, atOkta],
  ]) {
    await refusal(gateway, `${name}, who is new`, { status: 503, reason: 'provider_unavailable' }, () =>
      gateway.call(accessToken, {}, at),
    );
  }
  await Promise.all([entra.host.up(), okta.host.up()]);
  for (const [name, { accessToken }, at] of [
    ['Carol', carol, atEntra],
    ['Dave', dave, atOkta],
  ]) {
    const answer = await politely(() => gateway.call(accessToken, {}, at));
    fact(`${name} is served when the provider is back`, answer.status === 200, answer.text);
  }

  chapter('What an operator sees');
  // The module counts in memory and hands its numbers to Envoy once a second: four exchanges have succeeded by now.
  const isOurs = (line) => /^onbehalf_(decisions|exchanges|token_cache|jwks_refreshes)\{/.test(line);
  const numbers = async () => (await gateway.envoy.prometheus()).split('\n').filter(isOurs);
  const exchanged = (lines) =>
    lines.filter((line) => /^onbehalf_exchanges\{.*outcome="ok"/.test(line)).reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
  await until(async () => exchanged(await numbers()) >= 4, 'counters', 10);
  const lines = await numbers();
  fact('metrics with labels', lines.some((line) => line.startsWith('onbehalf_decisions{reason="forwarded"}')));
  for (const line of lines) detail(line);
  const { found, looked } = await leaks(gateway);
  fact(
    `no token, assertion or secret in log, statistics, config dump or answers (looked for ${looked} traces)`,
    looked > 0 && Object.keys(found).length === 0,
    JSON.stringify(found),
  );
  const traps = await gateway.envoy.traps();
  fact('the module never trapped', traps.length === 0, traps.join('; '));
  return { alice: { ...alice, ...atEntra }, bob: { ...bob, ...atOkta } };
}

function summarise() {
  const rows = new Map();
  for (const [title] of summary) rows.set(title, (rows.get(title) ?? 0) + 1);
  const width = Math.max(...[...rows.keys()].map((title) => title.length));
  say(`\n${bold('Summary')}`);
  for (const [title, facts] of rows) say(`  ${title.padEnd(width)}  ${String(facts).padStart(2)} ok`);
  say(`  ${'all'.padEnd(width)}  ${String(summary.length).padStart(2)} ok`);
}

/** Writes the demo's configuration with free ports, and its secrets for a shell, so that another Envoy can run a changed copy. */
async function writeForAnotherEnvoy(gateway, folder) {
  const { parts } = gateway;
  const bootstrap = bootstrapOf('okta-and-entra', parts);
  const port = await freePort();
  bootstrap.static_resources.listeners[0].address.socket_address.port_value = port;
  writeFileSync(join(folder, 'envoy.yaml'), YAML.stringify(bootstrap), { mode: 0o600 });
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const exports = Object.entries(parts.env).map(([name, value]) => `export ${name}=${quoted(value)}\n`);
  writeFileSync(join(folder, 'environment'), exports.join(''), { mode: 0o600 });
  return port;
}

async function stayUp(gateway, users) {
  const folder = scratchFolder();
  const port = await writeForAnotherEnvoy(gateway, folder);
  for (const [name, { accessToken }] of Object.entries(users)) {
    writeFileSync(join(folder, name), accessToken, { mode: 0o600 });
  }
  const url = `http://127.0.0.1:${gateway.envoy.port}`;
  const body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}';
  const call = (path, authorization) =>
    [
      `curl -i ${url}${path} -H 'host: ${MCP_HOST}'`,
      ...authorization,
      `-H 'content-type: application/json' -H 'accept: application/json, text/event-stream'`,
      `-d '${body}'`,
    ].join(' \\\n    ');
  say(`\n${bold('It stays up. Try, in another terminal (the tokens live for an hour):')}\n`);
  for (const [name, { path }] of Object.entries(users)) {
    say(`${call(path, [`-H "authorization: Bearer $(cat ${join(folder, name)})"`])}\n`);
  }
  say(`${call(ENTRA_PATH, [])}\n`);
  say(`curl -i ${url}${metadataPathOf(ENTRA_PATH)} -H 'host: ${MCP_HOST}'\n`);
  say(`curl -s http://${gateway.envoy.admin}/stats/prometheus | grep ^onbehalf\n`);
  say(`tail -f ${gateway.envoy.logFile}\n`);
  say(bold(`For a configuration of your own, with the same providers and MCP server (its listener: port ${port}):`));
  say(`\ncp ${join(folder, 'envoy.yaml')} mine.yaml`);
  say(`(. ${join(folder, 'environment')}; ${ENVOY} --mode validate -c mine.yaml && ${ENVOY} --disable-hot-restart -c mine.yaml)\n`);
  say(bold('Ctrl-C ends it.'));
  process.exitCode = 0;
  setInterval(() => {}, 60_000);
}

let parts;
let gateway;
try {
  say(bold('onbehalf on this machine'));
  current = 'Starting';
  parts = await startParts();
  fact(`an Okta org that answers as https://${parts.okta.host.name}`, parts.okta.host.tlsPort);
  fact(`an Entra tenant that answers as https://${parts.entra.host.name}`, parts.entra.host.tlsPort);
  fact(`an MCP server at ${parts.mcp.url}`, parts.mcp.port);
  gateway = await startGateway(parts, { recipe: 'okta-and-entra' });
  fact(`Envoy on port ${gateway.envoy.port} with envoy-config/okta-and-entra/envoy.yaml`, gateway.envoy.port);
  const users = await story(parts, gateway);
  summarise();
  if (keep) await stayUp(gateway, users);
} catch (error) {
  say(`\n${colour(31, 'FAILED')}  in "${current}": ${error.message}`);
  if (gateway) say(`\nThe end of Envoy's log:\n${gateway.envoy.lastLines()}`);
  process.exitCode = 1;
} finally {
  if (!keep || process.exitCode) {
    await gateway?.stop();
    await parts?.stop();
    process.exit();
  }
}
