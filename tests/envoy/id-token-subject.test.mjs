// ID token as the subject token: it comes with the access token, in a header or in a cookie.

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
  describe(`an ID token in a ${where}`, () => {
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

    it('the ID token is exchanged in place of the access token', async () => {
      const seen = await gateway.whoami(bob.accessToken, { headers: brings(bob.idToken) });
      assert.equal(seen.subject, 'bob@acme.example');
      assert.equal(
        parts.okta.forMcp.exchanges.at(-1).values.subject_token_type,
        'urn:ietf:params:oauth:token-type:id_token',
      );
    });

    it('the ID token is not forwarded', async () => {
      const answer = await gateway.call(bob.accessToken, brings(bob.idToken));
      assert.equal(answer.status, 200);
      const arrived = parts.mcp.requests.at(-1);
      assert.ok(!arrived.headerNames.includes('x-id-token'));
      assert.ok(!arrived.cookieNames.includes('id_token'));
      if (where === 'cookie') assert.deepEqual(arrived.cookieNames, ['theme', 'lang']);
    });

    it('users of the other provider need no ID token', async () => {
      const alice = await parts.alice();
      assert.equal((await gateway.call(alice.accessToken)).status, 200);
    });

    it('a missing ID token gets 401, also with a cached token', () =>
      assertRefused(
        gateway,
        { reason: 'subject_token_missing', status: 401, error: 'invalid_token', challenge: 'error' },
        () => gateway.call(bob.accessToken),
      ));

    it('two ID tokens get 401', async () => {
      const answer = await gateway.send({
        method: 'POST',
        headers: ['authorization', `Bearer ${bob.accessToken}`, ...bringsTwo(bob.idToken)],
      });
      assert.equal(answer.status, 401);
      assert.equal(answer.json.reason, 'subject_token_missing');
    });

    it('an ID token of another user gets 401, also with both cached', async () => {
      const carol = await signIn(parts.okta, 'carol@acme.example', { idToken: true });
      assert.equal((await gateway.call(carol.accessToken, brings(carol.idToken))).status, 200);
      await assertRefused(
        gateway,
        { reason: 'subject_mismatch', status: 401, error: 'invalid_token', challenge: 'error' },
        () => gateway.call(bob.accessToken, brings(carol.idToken)),
      );
    });

    it('the module never trapped, and no secret is visible', () => assertSoundAndSilent(gateway));
  });
}
