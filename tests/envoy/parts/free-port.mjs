// Free port, for programs that cannot choose one and report it.

import { createServer } from 'node:net';

/** Returns a free port of loopback. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
