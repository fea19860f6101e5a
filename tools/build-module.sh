#!/bin/sh
# Builds a Wasm module reproducibly: the same sources give the same bytes in every folder and for every user. The module contains no
# path of the build machine, no function names and no tool versions.
#   tools/build-module.sh FOLDER LIBRARY OUTPUT [EXPORTS]
# EXPORTS is a graph for wasm-metadce that lists the exports to keep. The SDK exports a function for every callback of the ABI, and
# Envoy calls each exported callback in every request, even if it does nothing.
set -eu
cd "$(dirname "$0")/.."
folder=$1
library=$2
output=$3
exports=${4:-}
target_dir=${CARGO_TARGET_DIR:-target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
triple=wasm32-wasip1
manifest=$folder/Cargo.toml

cargo fetch --locked --quiet --manifest-path "$manifest" --target "$triple"

# The last matching prefix wins. The name of a registry's folder contains its host, so it is replaced as well.
separator=$(printf '\037')
flags="--remap-path-prefix=$PWD=/onbehalf"
flags="$flags$separator--remap-path-prefix=$cargo_home=/cargo"
for registry in "$cargo_home"/registry/src/*/; do
    flags="$flags$separator--remap-path-prefix=${registry%/}=/crates"
done
sources=$(rustc --print sysroot)/lib/rustlib/src/rust
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
flags="$flags$separator--remap-path-prefix=$sources=/rustc/$commit"

# 128-bit vectors make copying and hashing smaller: 2.5 % of the module. V8 and wasmtime support them.
flags="$flags$separator-Ctarget-feature=+simd128"

unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 \
    cargo build --release --locked --manifest-path "$manifest" --lib --target "$triple" --target-dir "$target_dir"

built=$target_dir/$triple/release/$library.wasm
if ! [ "$output" -nt "$built" ] || ! [ "$output" -nt "$0" ] || { [ -n "$exports" ] && ! [ "$output" -nt "$exports" ]; }; then
    mkdir -p "$(dirname "$output")"
    # Features that rustc enables for this target, and simd128 from above. V8 and wasmtime support all of them.
    features="--enable-bulk-memory --enable-bulk-memory-opt --enable-multivalue --enable-mutable-globals
        --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd"
    binaryen=tools/node_modules/binaryen/bin
    cp "$built" "$output.new"
    # shellcheck disable=SC2086  # features are words
    if [ -n "$exports" ]; then
        .tools/bin/node $binaryen/wasm-metadce "$built" --graph-file="$exports" --output "$output.new" $features >/dev/null
    fi
    # shellcheck disable=SC2086
    .tools/bin/node $binaryen/wasm-opt "$output.new" --output "$output.new" -Os $features \
        --strip-debug --strip-producers --strip-target-features
    mv "$output.new" "$output"
fi
python3 - "$output" <<'EOF'
import hashlib, sys
module = open(sys.argv[1], "rb").read()
print(f"{sys.argv[1]}: {len(module):,} bytes, sha256 {hashlib.sha256(module).hexdigest()}")
EOF
