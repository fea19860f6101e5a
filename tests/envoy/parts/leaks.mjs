// Looks for what must never be seen in what an operator or a caller can see. Every Envoy of the suite is looked through when
// it stops (envoy.mjs), for every secret that any part of this process has seen.

/** Tokens in and out, assertions, client secrets, private keys. Whoever makes or sees one adds it. */
export const secrets = new Set();

/** What clients were answered through any Envoy. Whoever asks adds what comes back. */
export const answers = new Set();

// Shorter ones would be found by chance.
const SHORTEST = 8;
const PROBE = 12;
/** A signed JWT, whoever made it: a header that begins with `{"`, a payload, and a signature. */
const COMPACT_JWS = /eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}/g;

/** The parts of a secret whose appearance anywhere means that it got out. */
function traces(secret) {
  if (secret.startsWith('-----BEGIN')) {
    // Certificates are no secrets.
    if (!secret.includes('PRIVATE KEY')) return [];
    const lines = secret.split('\n').filter((line) => line && !line.startsWith('-----'));
    return [lines.join(''), lines[0]];
  }
  const segments = secret.split('.');
  if (segments.length < 3) return [secret, encodeURIComponent(secret)].filter(({ length }) => length >= SHORTEST);
  // Payload and signature of a JWT; the header alone is no secret.
  return segments.slice(1).filter((segment) => segment.length > SHORTEST);
}

/** Which of the traces are in a text. In one pass: there may be thousands of them, and megabytes of text. */
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
 * Where secrets can be seen, as `place: how many`, and how many traces were looked for. In what only an operator sees, no signed
 * token at all may appear. `exposed` are secrets that a test shows on purpose.
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

/** The pages of an Envoy’s admin interface, and its log. */
async function operatorSees(envoy) {
  const places = { log: envoy.log };
  for (const page of ['/stats', '/stats/prometheus', '/config_dump', '/clusters', '/listeners']) places[page] = await envoy.get(page);
  return places;
}

/** What can be seen of an Envoy that runs, and in all answers so far. */
export async function leaksOf(envoy, exposed) {
  return seenIn({ operator: await operatorSees(envoy), client: { answers: [...answers].join('\n') } }, exposed);
}

/** The same of a gateway. */
export const leaks = ({ envoy }) => leaksOf(envoy, envoy.exposes);
