// Looks for what must never be seen in what an operator or a caller can see.

/** Every secret of a scene: tokens in and out, assertions, client secrets, private keys. */
function secretsOf(parts) {
  const seen = new Set([...Object.values(parts.env), ...parts.mcp.tokens]);
  for (const server of parts.servers) for (const secret of server.secretsSeen) seen.add(secret);
  return [...seen];
}

/** The parts of a secret whose appearance anywhere means that it got out. */
function traces(secret) {
  if (secret.startsWith('-----BEGIN')) {
    const lines = secret.split('\n').filter((line) => line && !line.startsWith('-----'));
    return [lines.join(''), lines[0]];
  }
  const segments = secret.split('.');
  if (segments.length < 3) return [secret, encodeURIComponent(secret)];
  // Payload and signature of a JWT; the header alone is no secret.
  return segments.slice(1).filter((segment) => segment.length > 8);
}

/** Where secrets of the scene appear, as `place: how many`; empty is good. */
export async function leaks(gateway) {
  const places = {
    log: gateway.envoy.log,
    stats: await gateway.envoy.get('/stats'),
    prometheus: await gateway.envoy.prometheus(),
    'config dump': await gateway.envoy.configDump(),
    answers: gateway.answers.join('\n'),
  };
  const wanted = secretsOf(gateway.parts).flatMap(traces);
  const found = {};
  for (const [place, text] of Object.entries(places)) {
    const count = wanted.filter((trace) => text.includes(trace)).length;
    if (count) found[place] = count;
  }
  return { found, looked: wanted.length };
}
