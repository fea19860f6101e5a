#!/bin/sh
# Builds cargo-deny into .tools/bin. Optimised only as far as pays: about a minute on two cores.
set -eu
cd "$(dirname "$0")/.."
version=0.20.2
.tools/bin/cargo-deny --version 2>/dev/null | grep -qx "cargo-deny $version" && exit 0
CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install cargo-deny --version "$version" --locked --root .tools --target-dir .tools/cargo-deny-target
rm -rf .tools/cargo-deny-target
