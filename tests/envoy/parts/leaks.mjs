// Search for secrets in what an operator or a caller can see. Each Envoy of the suite is searched when it stops (envoy.mjs), for
// every secret of this process.

/** Secrets: tokens, assertions, client secrets, private keys. Code that makes or receives one adds it. */
export const secrets = new Set();

/** Answers to clients through any Envoy. Code that sends a request adds the answer. */
export const answers = new Set();

// Shorter strings would be found by chance.
const SHORTEST = 8;
const PROBE = 12;
/** Any signed JWT: a header that begins with `{"`, a payload, and a signature. */
const COMPACT_JWS = /eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}/g;

/** Parts of a secret that must not appear anywhere. */
function traces(secret) {
  if (secret.startsWith('-----BEGIN')) {
    // Certificates are not secret.
    if (!secret.includes('PRIVATE KEY')) return [];
    const lines = secret.split('\n').filter((line) => line && !line.startsWith('-----'));
    return [lines.join(''), lines[0]];
  }
  const segments = secret.split('.');
  if (segments.length < 3) return [secret, encodeURIComponent(secret)].filter(({ length }) => length >= SHORTEST);
  // Payload and signature of a JWT are secret; the header alone is not.
  return segments.slice(1).filter((segment) => segment.length > SHORTEST);
}

/** Traces in a text. It reads the text once: there may be thousands of traces and megabytes of text. */
function inText(wanted, text) {
  const found = new Set();
  const byProbe = new Map();
  for (const trace of wanted) {
    if (trace.length < PROBE) {
      if (text.includes(trace)) found.add(trace);
      continue;
    }
    const probe = trace.slice(0, PROBE);
    byProbe.set(probe, [...(byProbe.get(probe) ?? []), trace]);
  }
  for (let at = 0; at + PROBE <= text.length; at += 1) {
    for (const trace of byProbe.get(text.slice(at, at + PROBE)) ?? []) if (text.startsWith(trace, at)) found.add(trace);
  }
  return found;
}

/**
 * Places where secrets are visible, as `place: number`, and the number of traces. In the places of an operator, no signed token
 * at all may appear. `exposed` are secrets that a test shows on purpose.
 */
export function seenIn({ operator, client }, exposed = []) {
  const spared = new Set(exposed.flatMap(traces));
  const wanted = new Set([...secrets].flatMap(traces).filter((trace) => !spared.has(trace)));
  const found = {};
  for (const [place, text] of Object.entries({ ...operator, ...client })) {
    const isShown = (token) => traces(token).every((trace) => spared.has(trace));
    const tokens = (place in operator ? (text.match(COMPACT_JWS) ?? []) : []).filter((token) => !isShown(token));
    const count = inText(wanted, text).size + tokens.length;
    if (count) found[place] = count;
  }
  return { found, looked: wanted.size };
}

/** Pages of the admin interface of an Envoy, and its log. */
async function operatorSees(envoy) {
  const places = { log: envoy.log };
  for (const page of ['/stats', '/stats/prometheus', '/config_dump', '/clusters', '/listeners']) places[page] = await envoy.get(page);
  return places;
}

/** Secrets that are visible at a running Envoy, and in all answers so far. */
export async function leaksOf(envoy, exposed) {
  return seenIn({ operator: await operatorSees(envoy), client: { answers: [...answers].join('\n') } }, exposed);
}

/** Secrets that are visible at a gateway. */
export const leaks = ({ envoy }) => leaksOf(envoy, envoy.exposes);
