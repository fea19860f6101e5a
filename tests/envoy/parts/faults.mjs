// Faults at an endpoint of an identity provider, for `server.fail(endpoint, …)`.

async function finish({ request, response, server }, status, body, headers, error) {
  if (request.method === 'POST') await server.recordFaulty(request, status, error);
  response.writeHead(status, headers);
  response.end(body);
}

/** Fixed answer. */
export const answers =
  (status, body = '', headers = { 'content-type': 'text/plain' }) =>
  (exchange) =>
    finish(exchange, status, body, headers);

/** 200 with these members as JSON. */
export const answersJson = (members) =>
  answers(200, JSON.stringify(members), { 'content-type': 'application/json' });

/** HTML page in place of JSON, as of a captive portal or a proxy. */
export const answersHtml = (status = 200) =>
  answers(status, '<!doctype html><title>Sign in</title><p>Please sign in.</p>', {
    'content-type': 'text/html',
  });

/** OAuth error in the form of the provider, with its status and its headers. */
export const refusesWith =
  (error, details = {}) =>
  (exchange) => {
    const { status, body, headers } = exchange.server.dialect.error(error, details);
    const json = typeof body !== 'string';
    return finish(
      exchange,
      status,
      json ? JSON.stringify(body) : body,
      { 'content-type': json ? 'application/json' : 'text/plain', ...headers },
      error,
    );
  };

/** Throttling answer of the provider. */
export const throttles = () => (exchange) => {
  const { status, body, headers } = exchange.server.dialect.throttled();
  return finish(exchange, status, body, headers, 'throttled');
};

/** Closes the connection without an answer. */
export const dropsTheConnection =
  () =>
  async ({ request, server }) => {
    if (request.method === 'POST') await server.recordFaulty(request, 0, 'dropped');
    request.socket.destroy();
  };

/** Accepts the request and never answers. */
export const neverAnswers =
  () =>
  async ({ request, server }) => {
    if (request.method === 'POST') await server.recordFaulty(request, 0, 'silent');
  };

/** Sends half of the announced bytes, then closes the connection. */
export const breaksOffHalfway =
  () =>
  async ({ request, response, server }) => {
    if (request.method === 'POST') await server.recordFaulty(request, 0, 'broken off');
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
    response.write('{"access_token":"', () => request.socket.destroy());
  };

/** White space without end, byte by byte: `{behave, closed}`; `closed` resolves when the client closes the connection. */
export function trickle() {
  let close;
  const closed = new Promise((resolve) => {
    close = resolve;
  });
  return {
    closed,
    behave: async ({ request, response, server }) => {
      await server.recordFaulty(request, 200, 'byte by byte');
      response.writeHead(200, { 'content-type': 'application/json' });
      const timer = setInterval(() => response.write(' '), 100);
      response.on('close', () => {
        clearInterval(timer);
        close();
      });
    },
  };
}

/** Delays the real answer. */
export const isSlow = (milliseconds) => async (exchange) => {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  return exchange.real();
};

/** Holds the real answer until the test releases it: `{behave, waiting(), release()}`. It uses no clock. */
export function gate() {
  let open;
  const opened = new Promise((resolve) => {
    open = resolve;
  });
  let waiting = 0;
  return {
    behave: async (exchange) => {
      waiting += 1;
      await opened;
      return exchange.real();
    },
    waiting: () => waiting,
    release: () => open(),
  };
}
