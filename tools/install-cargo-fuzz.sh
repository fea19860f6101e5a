#!/bin/sh
# Builds cargo-fuzz into .tools/bin, as tools/install-cargo-deny.sh does cargo-deny.
set -eu
cd "$(dirname "$0")/.."
version=0.13.2
.tools/bin/cargo-fuzz --version 2>/dev/null | grep -qx "cargo-fuzz $version" && exit 0
CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install cargo-fuzz --version "$version" --locked --root .tools --target-dir .tools/cargo-fuzz-target
rm -rf .tools/cargo-fuzz-target
