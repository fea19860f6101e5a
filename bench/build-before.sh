#!/bin/sh
# Builds the module as it was at a commit, to be measured beside the present one.
#   bench/build-before.sh COMMIT OUTPUT
set -eu
cd "$(dirname "$0")/.."
commit=$1
output=$PWD/$2
if ! git rev-parse --quiet --verify "$commit^{commit}" >/dev/null; then
    echo "commit $commit is not here (no git history?): nothing to compare with" >&2
    rm -f "$output"
    exit 0
fi
sources=$PWD/target/bench/before/$commit
if ! [ -e "$output" ] || ! [ "$output" -nt "$sources/.stamp" ] || ! [ -e "$sources/.stamp" ]; then
    rm -rf "$PWD/target/bench/before"
    mkdir -p "$sources"
    git archive "$commit" | tar -x -C "$sources"
    ln -s "$PWD/.tools" "$sources/.tools"
    ln -s "$PWD/tools/node_modules" "$sources/tools/node_modules"
    touch "$sources/.stamp"
    CARGO_TARGET_DIR=$PWD/target/bench/before/target "$sources/tools/build-module.sh" . onbehalf onbehalf.wasm tools/exports.json
    cp "$sources/onbehalf.wasm" "$output"
fi
