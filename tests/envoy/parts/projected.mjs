// File that is replaced as Kubernetes replaces projected files of a pod: the folder holds links, and a link to a new folder is
// renamed over the old one, so that a reader sees the old file or the new one.

import { mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratchFolder } from './envoy.mjs';

export class Projected {
  #versions = 0;

  constructor(name, content) {
    this.folder = scratchFolder();
    this.file = join(this.folder, name);
    this.name = name;
    this.replace(content);
    symlinkSync(join('..data', name), this.file);
  }

  replace(content) {
    const version = `..${(this.#versions += 1)}`;
    mkdirSync(join(this.folder, version));
    writeFileSync(join(this.folder, version, this.name), content);
    symlinkSync(version, join(this.folder, '..data_tmp'));
    renameSync(join(this.folder, '..data_tmp'), join(this.folder, '..data'));
  }
}
