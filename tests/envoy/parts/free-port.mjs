// A port for whoever cannot be told to take a free one and say which.

import { createServer } from 'node:net';

/** A port of loopback that nobody has. */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
