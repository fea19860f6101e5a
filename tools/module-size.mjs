// Size of the module by subsystem, against the budgets of docs/adr/0023-module-size-budget.md.
//   .tools/bin/node tools/module-size.mjs [COUNT]
// Builds the module with its name section and assigns each function to a subsystem by its name. Inlined code counts where it is
// inlined. COUNT is the number of largest functions to list for each subsystem.
// Exits with 1 if a subsystem is larger than its budget.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const CHECKOUT = fileURLToPath(new URL('../', import.meta.url));
const FOLDER = 'target/size';

/** Name, budget in bytes and functions of each subsystem. The first pattern that matches counts. */
const SUBSYSTEMS = [
  ['cryptography', 312_000, /^(rsa|crypto_\w+|der|pkcs\d|spki|sec1|pem_rfc7468|const_oid|p256|p384|prime\w+|elliptic_curve|ecdsa|rfc6979|ed25519_compact|sha\d|digest|hmac\w*|chacha20\w*|poly1305|aead|cipher|universal_hash|jwt_simple|anyhow|subtle|zeroize|base16ct|hybrid_array|block_buffer|cmov|ctutils|wnaf|onbehalf::crypto|onbehalf::config::client::signing_key)\b/],
  ['JSON', 30_000, /^(serde_json|serde_core|itoa|zmij|onbehalf::json)\b/],
  ['configuration', 100_000, /^onbehalf::config\b|::on_configure$/],
  ['identity providers', 46_000, /^onbehalf::provider\b/],
  ['tokens', 16_000, /^onbehalf::(jose|dpop)\b/],
  ['filter and SDK', 76_000, /^(onbehalf::filter|proxy_wasm|log|proxy_\w+)\b/],
  ['engine', 232_000, /^(onbehalf|http|httpdate|form_urlencoded|percent_encoding|base64|bytes|lru|rustc_hash)\b/],
  ['standard library', 186_000, /^/],
];

/** Parts of the module that are not functions. */
const SECTIONS = [['data', 130_000], ['other sections', 6_000]];

/** Sum of all budgets: the largest module that bench/bench.mjs accepts. */
export const BUDGET = [...SUBSYSTEMS, ...SECTIONS].reduce((sum, [, budget]) => sum + budget, 0);

/** Readable form of a mangled name. Only the precompiled standard library has names that begin with `_R`. */
function demangle(name) {
  if (name.startsWith('_R')) return `std::${name}`;
  if (!name.startsWith('_ZN')) return name;
  const parts = [];
  let rest = name.slice(3);
  for (let length = /^\d+/.exec(rest); length; length = /^\d+/.exec(rest)) {
    const start = length[0].length;
    parts.push(rest.slice(start, start + Number(length[0])));
    rest = rest.slice(start + Number(length[0]));
  }
  if (/^h[0-9a-f]{16}$/.test(parts.at(-1))) parts.pop();
  const signs = { LT: '<', GT: '>', RF: '&', C: ',', u20: ' ', u7b: '{', u7d: '}', u5b: '[', u5d: ']', LP: '(', RP: ')', BP: '*' };
  return parts.join('::').replace(/\$(\w+)\$/g, (sign, code) => signs[code] ?? sign).replaceAll('..', '::').replace(/^_</, '<');
}

/** Path that decides about a function's subsystem: our own type in a generic function, else the function's crate. */
function placeOf(name) {
  const path = /[a-z_][a-z_0-9]*::.*/.exec(name)?.[0] ?? name;
  const isGeneric = /^(core|alloc|std|hashbrown|lru|serde_core|serde_json)::/.test(path);
  return (isGeneric && /onbehalf::.*/.exec(path)?.[0]) || path;
}

/** Functions, with their names and sizes, and the size of everything else in a module. */
function parse(module) {
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = module[at++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  const text = () => {
    const length = number();
    at += length;
    return module.toString('latin1', at - length, at);
  };
  let imported = 0;
  let data = 0;
  let other = 8;
  const bodies = [];
  const names = new Map();
  while (at < module.length) {
    const begin = at;
    const id = module[at++];
    const length = number();
    const end = at + length;
    if (id === 2) {
      for (let left = number(); left > 0; left -= 1) {
        text();
        text();
        if (module[at++] !== 0) throw new Error('an import that is no function');
        number();
        imported += 1;
      }
    } else if (id === 10) {
      for (let left = number(); left > 0; left -= 1) {
        const body = at;
        const size = number();
        at += size;
        bodies.push(at - body);
      }
    } else if (id === 0 && text() === 'name') {
      while (at < end) {
        const kind = module[at++];
        const size = number();
        const next = at + size;
        if (kind === 1) for (let left = number(); left > 0; left -= 1) names.set(number(), text());
        at = next;
      }
    }
    if (id === 11) data += end - begin;
    else if (id !== 0 && id !== 10) other += end - begin;
    at = end;
  }
  return { functions: bodies.map((size, index) => ({ size, name: demangle(names.get(imported + index) ?? '') })), data, other };
}

function build() {
  const run = (program, parameters, environment = {}) =>
    execFileSync(program, parameters, { cwd: CHECKOUT, env: { ...process.env, ...environment }, stdio: ['ignore', 'ignore', 'inherit'] });
  mkdirSync(`${CHECKOUT}${FOLDER}`, { recursive: true });
  run('tools/build-module.sh', ['.', 'onbehalf', `${FOLDER}/onbehalf.wasm`, 'tools/exports.json'], { CARGO_PROFILE_RELEASE_STRIP: 'debuginfo' });
  const built = `${process.env.CARGO_TARGET_DIR ?? 'target'}/wasm32-wasip1/release/onbehalf.wasm`;
  const named = `${FOLDER}/named.wasm`;
  const binaryen = 'tools/node_modules/binaryen/bin';
  const features = ['bulk-memory', 'bulk-memory-opt', 'multivalue', 'mutable-globals', 'nontrapping-float-to-int', 'reference-types', 'sign-ext', 'simd'];
  const enabled = features.map((feature) => `--enable-${feature}`);
  run('.tools/bin/node', [`${binaryen}/wasm-metadce`, built, '--graph-file=tools/exports.json', '-g', '--output', named, ...enabled]);
  run('.tools/bin/node', [`${binaryen}/wasm-opt`, named, '-g', '--output', named, '-Os', ...enabled]);
  return readFileSync(`${CHECKOUT}${named}`);
}

function report(count) {
  const { functions, data, other } = parse(build());
  const rows = SUBSYSTEMS.map(([name, budget]) => ({ name, budget, bytes: 0, functions: [] }));
  for (const one of functions) {
    const row = rows[SUBSYSTEMS.findIndex(([, , pattern]) => pattern.test(placeOf(one.name)))];
    row.bytes += one.size;
    row.functions.push(one);
  }
  for (const [index, bytes] of [data, other].entries()) {
    const [name, budget] = SECTIONS[index];
    rows.push({ name, budget, bytes, functions: [] });
  }
  rows.push({ name: 'sum', budget: BUDGET, bytes: rows.reduce((sum, { bytes }) => sum + bytes, 0), functions: [] });
  for (const row of rows) {
    console.log(`${row.name.padEnd(20)}${row.bytes.toLocaleString('en').padStart(10)} of ${row.budget.toLocaleString('en').padStart(10)}`);
    row.functions.sort((one, another) => another.size - one.size);
    for (const { size, name } of row.functions.slice(0, count)) console.log(`${String(size).padStart(12)}  ${name}`);
  }
  if (rows.some(({ bytes, budget }) => bytes > budget)) process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) report(Number(process.argv[2] ?? 0));
