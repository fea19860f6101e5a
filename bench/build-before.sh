#!/bin/sh
# Builds the module of a commit, for a comparison with the present one. OUTPUT.commit names the commit.
#   bench/build-before.sh COMMIT OUTPUT
set -eu
cd "$(dirname "$0")/.."
output=$PWD/$2
if ! commit=$(git rev-parse --quiet --verify "$1^{commit}"); then
    echo "commit $1 is not here (no git history?): nothing to compare with" >&2
    rm -f "$output" "$output.commit"
    exit 0
fi
if [ -e "$output" ] && [ "$(cat "$output.commit" 2>/dev/null)" = "$commit" ]; then
    exit 0
fi
rm -rf "$output" "$output.commit" "$PWD/target/bench/before"
sources=$PWD/target/bench/before/$commit
mkdir -p "$sources"
git archive "$commit" | tar -x -C "$sources"
ln -s "$PWD/.tools" "$sources/.tools"
ln -s "$PWD/tools/node_modules" "$sources/tools/node_modules"
CARGO_TARGET_DIR=$PWD/target/bench/before/target "$sources/tools/build-module.sh" . onbehalf onbehalf.wasm tools/exports.json
cp "$sources/onbehalf.wasm" "$output"
echo "$commit" >"$output.commit"
