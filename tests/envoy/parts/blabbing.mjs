// Runs an Envoy without the filter that shows a secret in the place that the first argument names, for leaks.test.mjs.

import { createHmac, randomBytes } from 'node:crypto';
import { bootstrap, cluster, listener } from '../../../tools/envoy-config.mjs';
import { startEnvoy } from './envoy.mjs';
import { secrets } from './leaks.mjs';
import { send } from './mcp-client.mjs';
import { until } from './until.mjs';

const [place] = process.argv.slice(2);
const secret = place === 'part' ? jwt().split('.')[2] : place === 'stranger' ? jwt() : randomBytes(24).toString('base64url');
if (place === 'part') secrets.add(`e30.e30.${secret}`);
else if (place !== 'stranger') secrets.add(secret);

const blabs = listener('blabs', []);
const { typed_config: manager } = blabs.filter_chains[0].filters[0];
if (['log', 'part', 'stranger'].includes(place)) {
  manager.access_log = [
    {
      name: 'envoy.access_loggers.stdout',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog',
        log_format: { text_format_source: { inline_string: 'seen %REQ(AUTHORIZATION)%\n' } },
      },
    },
  ];
}
const [route] = manager.route_config.virtual_hosts[0].routes;
if (place === 'answers') route.response_headers_to_add = [{ header: { key: 'x-seen', value: '%REQ(AUTHORIZATION)%' } }];
if (place === 'config') route.metadata = { filter_metadata: { blab: { secret } } };
const clusters = [cluster(place === 'name' ? secret : 'upstream', 9)];

const envoy = await startEnvoy(bootstrap([blabs], clusters));
await send({ port: envoy.port, host: 'blab.example', headers: { authorization: `Bearer ${secret}` } });
if (manager.access_log) await until(() => envoy.log.includes('seen '), 'the request is in the log', 30);
await envoy.stop();

function jwt() {
  const [header, payload] = [{ alg: 'HS256' }, { sub: randomBytes(12).toString('hex') }].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
  return `${header}.${payload}.${createHmac('sha256', randomBytes(32)).update(payload).digest('base64url')}`;
}
