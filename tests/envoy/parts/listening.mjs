// Servers on loopback.

/**
 * Starts a server on a free port: `{port, refuse, again, stop}`. `refuse` closes the port, and `again` opens it; `stop` also closes all
 * connections.
 */
export async function listening(server) {
  const open = new Set();
  const track = (connection) => {
    open.add(connection);
    connection.on('close', () => open.delete(connection));
  };
  server.on('connection', track);
  const listen = (port) =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ port, host: '127.0.0.1', backlog: 4096 }, resolve);
    });
  await listen(0);
  const { port } = server.address();
  return {
    port,
    refuse: () => void server.close(),
    again: () => listen(port),
    async stop() {
      server.close();
      for (const connection of open) connection.destroy();
    },
  };
}
