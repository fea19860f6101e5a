#!/bin/sh
# Builds target/onbehalf.wasm so that the same sources give the same bytes in every folder and for every user:
# no path of this machine, no names and no tool versions are in it.
#   tools/build-module.sh [OUTPUT]
set -eu
cd "$(dirname "$0")/.."
output=${1:-target/onbehalf.wasm}
target_dir=${CARGO_TARGET_DIR:-target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
triple=wasm32-wasip1

cargo fetch --locked --quiet --target "$triple"

# The last prefix that matches wins. A registry's folder is named after its host: that goes too.
separator=$(printf '\037')
flags="--remap-path-prefix=$cargo_home=/cargo"
for registry in "$cargo_home"/registry/src/*/; do
    flags="$flags$separator--remap-path-prefix=${registry%/}=/crates"
done
sources=$(rustc --print sysroot)/lib/rustlib/src/rust
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
flags="$flags$separator--remap-path-prefix=$sources=/rustc/$commit"
flags="$flags$separator--remap-path-prefix=$PWD=/onbehalf"

unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 \
    cargo build --release --locked --target "$triple" --package onbehalf

built=$target_dir/$triple/release/onbehalf.wasm
mkdir -p "$(dirname "$output")"
new=$output.new
# The features are those that rustc enables for this target; all are in V8 and wasmtime.
.tools/bin/node tools/node_modules/binaryen/bin/wasm-opt "$built" --output "$new" "${WASM_OPT_LEVEL:--O3}" \
    --enable-bulk-memory --enable-bulk-memory-opt --enable-multivalue --enable-mutable-globals \
    --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext \
    --strip-debug --strip-producers --strip-target-features

# Left alone when nothing changed, so that nothing that depends on it is made again.
if cmp -s "$new" "$output"; then rm "$new"; else mv "$new" "$output"; fi
echo "$output: $(wc -c <"$output") bytes, sha256 $(sha256sum "$output" | cut -d ' ' -f 1)"
