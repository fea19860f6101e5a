#!/bin/sh
# Installs a cargo subcommand into .tools/bin. Low optimisation keeps the build at about one minute on two cores.
#   tools/install-cargo-tool.sh cargo-deny 0.20.2
set -eu
cd "$(dirname "$0")/.."
name=$1
version=$2
".tools/bin/$name" --version 2>/dev/null | grep -qx "$name $version" && exit 0
CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install "$name" --version "$version" --locked --root .tools --target-dir ".tools/$name-target"
rm -rf ".tools/$name-target"
