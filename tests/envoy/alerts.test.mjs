// Alerts of envoy-config/alerts.yaml: Prometheus fires each one after its event, and not before.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import YAML from 'yaml';
import { answers, refusesWith } from './parts/faults.mjs';
import { startGateway, startParts, wasmOf } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';
import { promtool, startPrometheus } from './parts/prometheus.mjs';
import { withKid } from './parts/tokens.mjs';
import { until } from './parts/until.mjs';

const file = (path) => fileURLToPath(new URL(path, import.meta.url));
const RULES = file('../../envoy-config/alerts.yaml');
const FOREIGN_MODULE = file('../../target/foreign_filter.wasm');
const rules = YAML.parse(readFileSync(RULES, 'utf8')).groups.flatMap((group) => group.rules);
const ruleOf = (name) => rules.find(({ alert }) => alert === name);

it('the rules are valid for Prometheus', async () => {
  const { ok, output } = await promtool('check', 'rules', RULES);
  assert.ok(ok, output);
});

it('the rules pass their own tests of hours and restarts', async () => {
  const { ok, output } = await promtool('test', 'rules', file('alerts.test.yaml'));
  assert.ok(ok, output);
});

it('each alert has a summary, a remedy and a severity', () => {
  for (const { alert, annotations, labels } of rules) {
    assert.match(annotations.summary, /^\S.{20,}\.$/s, alert);
    assert.match(annotations.remedy, /^\S.{20,}\.$/s, alert);
    assert.match(labels.severity, /^(critical|warning)$/, alert);
  }
});

describe('Prometheus', () => {
  let parts;
  let gateways = {};
  let prometheus;
  let number = 0;

  before(async () => {
    parts = await startParts();
    // A module that traps on request takes the place of the filter, with the name and the policy of the recipe.
    const inItsPlace = (_filter, bootstrap) => {
      const wasm = wasmOf(bootstrap);
      wasm.vm_config.code.local.filename = FOREIGN_MODULE;
      wasm.configuration = { '@type': 'type.googleapis.com/google.protobuf.StringValue', value: 'pass' };
    };
    gateways = {
      well: await startGateway(parts),
      troubled: await startGateway(parts),
      crashed: await startGateway(parts, { change: inItsPlace }),
      broken: await startGateway(parts, { change: inItsPlace }),
    };
    const envoys = Object.entries(gateways).map(([name, { envoy }]) => [name, envoy]);
    prometheus = await startPrometheus(RULES, Object.fromEntries(envoys));
  });
  after(async () => {
    await prometheus?.stop();
    for (const gateway of Object.values(gateways)) await gateway.stop();
    await parts?.stop();
  });

  const newcomer = (provider) => {
    number += 1;
    return signIn(parts[provider], `user${number}@${provider}.example`);
  };
  const isTrue = async (alert, instance) => {
    const is = async () => (await prometheus.alerts()).includes(`${alert} of ${instance}`);
    await until(is, `${alert} is true`).catch(async (error) => {
      throw new Error(`${error.message}; true are ${await prometheus.alerts()}`);
    });
  };

  it('no alert fires without a fault', async () => {
    for (const name of ['well', 'troubled']) {
      for (const provider of ['entra', 'okta']) {
        const { accessToken } = await newcomer(provider);
        assert.equal((await gateways[name].call(accessToken)).status, 200);
      }
      assert.equal((await gateways[name].call('no token')).status, 400);
    }
    const counted = async () => (await prometheus.query('onbehalf_decisions{reason="forwarded"} >= 2')).length === 2;
    await until(counted, 'what was done is counted');
    assert.deepEqual(await prometheus.alerts(), []);
  });

  it('an alert fires for a crash once the next request has come', async () => {
    const { crashed } = gateways;
    assert.equal((await crashed.send({ headers: { 'x-trap': 'once' } })).status, 503);
    await until(() => /Function: \w+ failed/.test(crashed.envoy.log), 'the log says so');
    await until(async () => (await crashed.send({})).status !== 503, 'the module is loaded again');
    await isTrue('OnbehalfCrashed', 'crashed');
  });

  it('the counter vm_reload does not count a reload', async () => {
    const [{ value }] = await prometheus.query('envoy_wasm_onbehalf_vm_reload{instance="crashed"}');
    assert.equal(value[1], '0');
    const [loaded] = await prometheus.query('envoy_wasm_onbehalf_vm_reload_success{instance="crashed"}');
    assert.equal(loaded.value[1], '1');
  });

  it('an alert fires for a module that cannot be loaded again', async () => {
    const { broken } = gateways;
    assert.equal((await broken.send({ headers: { 'x-trap': 'forever' } })).status, 503);
    const fails = async () => {
      assert.equal((await broken.send({})).status, 503);
      return (await broken.envoy.stat('wasm.onbehalf.vm_reload_failure')) > 0;
    };
    await until(fails, 'the module is not loaded again');
    await isTrue('OnbehalfNotReloaded', 'broken');
    await isTrue('OnbehalfCrashed', 'broken');
  });

  it('an alert fires for the first refused client authentication', async () => {
    const { accessToken } = await newcomer('okta');
    const repair = parts.okta.forMcp.fail('token', refusesWith('invalid_client'));
    assert.equal((await gateways.troubled.call(accessToken)).json.reason, 'exchange_misconfigured');
    repair();
    await isTrue('OnbehalfMisconfigured', 'troubled');
  });

  it('an alert fires for a provider that fails', async () => {
    const { accessToken } = await newcomer('entra');
    const repair = parts.entra.forMcp.fail('token', answers(503));
    assert.equal((await gateways.troubled.call(accessToken)).json.reason, 'provider_unavailable');
    repair();
    await isTrue('OnbehalfProviderFails', 'troubled');
  });

  it('an alert would fire for old keys whose fetch fails', async () => {
    const { accessToken } = await newcomer('okta');
    const repair = parts.okta.signIn.fail('keys', answers(503));
    await gateways.troubled.call(withKid(accessToken, 'unknown'));
    repair();
    const { expr } = ruleOf('OnbehalfKeysOld');
    const sooner = expr.replace('> 4 * 3600', '>= 0');
    assert.notEqual(sooner, expr);
    const seen = () => prometheus.query(sooner);
    await until(async () => (await seen()).length > 0, 'the failure is counted');
    assert.deepEqual((await seen()).map(({ metric }) => [metric.instance, metric.provider]), [['troubled', 'okta']]);
    assert.deepEqual(await prometheus.query(expr), []);
  });

  it('no alert fires for the other gateways', async () => {
    assert.deepEqual(await prometheus.alerts(), [
      'OnbehalfCrashed of broken',
      'OnbehalfCrashed of crashed',
      'OnbehalfMisconfigured of troubled',
      'OnbehalfNotReloaded of broken',
      'OnbehalfProviderFails of troubled',
    ]);
  });
});
