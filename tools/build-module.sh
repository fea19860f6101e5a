#!/bin/sh
# Builds a Wasm module so that the same sources give the same bytes in every folder and for every user:
# no path of this machine, no names and no tool versions are in it.
#   tools/build-module.sh FOLDER LIBRARY OUTPUT [EXPORTS]
# EXPORTS: the graph for wasm-metadce whose exports are kept. The SDK exports a function for every callback that there is,
# and Envoy enters the module for each of them in every request, to find that it does nothing.
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

# The last prefix that matches wins. A registry's folder is named after its host: that goes too.
separator=$(printf '\037')
flags="--remap-path-prefix=$PWD=/onbehalf"
flags="$flags$separator--remap-path-prefix=$cargo_home=/cargo"
for registry in "$cargo_home"/registry/src/*/; do
    flags="$flags$separator--remap-path-prefix=${registry%/}=/crates"
done
sources=$(rustc --print sysroot)/lib/rustlib/src/rust
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
flags="$flags$separator--remap-path-prefix=$sources=/rustc/$commit"

# In vectors of 128 bits what is copied and hashed takes a fortieth less of the module. V8 and wasmtime have them.
flags="$flags$separator-Ctarget-feature=+simd128"

unset RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 \
    cargo build --release --locked --manifest-path "$manifest" --lib --target "$triple" --target-dir "$target_dir"

built=$target_dir/$triple/release/$library.wasm
if ! [ "$output" -nt "$built" ] || ! [ "$output" -nt "$0" ] || { [ -n "$exports" ] && ! [ "$output" -nt "$exports" ]; }; then
    mkdir -p "$(dirname "$output")"
    # Those that rustc enables for this target and the one from above; all are in V8 and wasmtime.
    features="--enable-bulk-memory --enable-bulk-memory-opt --enable-multivalue --enable-mutable-globals
        --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext --enable-simd"
    binaryen=tools/node_modules/binaryen/bin
    cp "$built" "$output.new"
    # shellcheck disable=SC2086  # features are words
    if [ -n "$exports" ]; then
        .tools/bin/node $binaryen/wasm-metadce "$built" --graph-file="$exports" --output "$output.new" $features >/dev/null
    fi
    # shellcheck disable=SC2086
    .tools/bin/node $binaryen/wasm-opt "$output.new" --output "$output.new" -O3 $features \
        --strip-debug --strip-producers --strip-target-features
    mv "$output.new" "$output"
fi
python3 - "$output" <<'EOF'
import hashlib, sys
module = open(sys.argv[1], "rb").read()
print(f"{sys.argv[1]}: {len(module):,} bytes, sha256 {hashlib.sha256(module).hexdigest()}")
EOF
