// An ID token that comes with the access token, in a header or in a cookie, is what gets exchanged.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { assertRefused, assertSoundAndSilent } from './parts/expect.mjs';
import { startGateway, startParts } from './parts/gateway.mjs';
import { signIn } from './parts/login.mjs';

let parts;
let bob;
before(async () => {
  parts = await startParts();
  bob = await parts.bob({ idToken: true });
});
after(() => parts?.stop());

const PLACES = {
  header: {
    place: { header: 'x-id-token' },
    brings: (idToken) => ({ 'x-id-token': idToken }),
    bringsTwo: (idToken) => ['x-id-token', idToken, 'x-id-token', idToken],
  },
  cookie: {
    place: { cookie: 'id_token' },
    brings: (idToken) => ({ cookie: `theme=dark; id_token=${idToken}; lang=en` }),
    bringsTwo: (idToken) => ['cookie', `id_token=${idToken}; id_token=${idToken}`],
  },
};

for (const [where, { place, brings, bringsTwo }] of Object.entries(PLACES)) {
  describe(`in a ${where}`, () => {
    let gateway;
    before(async () => {
      gateway = await startGateway(parts, {
        change: ({ identity_providers: { okta } }) => {
          okta.subject_token = {
            type: 'id_token',
            ...place,
            audiences: [parts.okta.ids.mcpClient],
          };
        },
      });
    });
    after(() => gateway?.stop());

    it('it is exchanged in place of the access token', async () => {
      const seen = await gateway.whoami(bob.accessToken, { headers: brings(bob.idToken) });
      assert.equal(seen.subject, 'bob@acme.example');
      assert.equal(
        parts.okta.forMcp.exchanges.at(-1).values.subject_token_type,
        'urn:ietf:params:oauth:token-type:id_token',
      );
    });

    it('it goes no further than here', async () => {
      const answer = await gateway.call(bob.accessToken, brings(bob.idToken));
      assert.equal(answer.status, 200);
      const arrived = parts.mcp.requests.at(-1);
      assert.ok(!arrived.headerNames.includes('x-id-token'));
      assert.ok(!arrived.cookieNames.includes('id_token'));
      if (where === 'cookie') assert.deepEqual(arrived.cookieNames, ['theme', 'lang']);
    });

    it('users of the other provider need none', async () => {
      const alice = await parts.alice();
      assert.equal((await gateway.call(alice.accessToken)).status, 200);
    });

    it('without it the request is refused, also when the token is in the cache', () =>
      assertRefused(
        gateway,
        { reason: 'subject_token_missing', status: 401, error: 'invalid_token', challenge: 'error' },
        () => gateway.call(bob.accessToken),
      ));

    it('two of them are as good as none', async () => {
      const answer = await gateway.send({
        method: 'POST',
        headers: ['authorization', `Bearer ${bob.accessToken}`, ...bringsTwo(bob.idToken)],
      });
      assert.equal(answer.status, 401);
      assert.equal(answer.json.reason, 'subject_token_missing');
    });

    it('one of another user is refused, also when both users are in the cache', async () => {
      const carol = await signIn(parts.okta, 'carol@acme.example', { idToken: true });
      assert.equal((await gateway.call(carol.accessToken, brings(carol.idToken))).status, 200);
      await assertRefused(
        gateway,
        { reason: 'subject_mismatch', status: 401, error: 'invalid_token', challenge: 'error' },
        () => gateway.call(bob.accessToken, brings(carol.idToken)),
      );
    });

    it('nothing trapped and nothing secret can be seen', () => assertSoundAndSilent(gateway));
  });
}
