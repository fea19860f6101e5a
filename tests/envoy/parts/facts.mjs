// Facts of the code: tests/facts.json, which `make docs` writes.

import { readFileSync } from 'node:fs';

export const facts = JSON.parse(readFileSync(new URL('../../facts.json', import.meta.url), 'utf8'));
