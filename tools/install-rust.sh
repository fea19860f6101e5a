#!/bin/sh
# Installs the module's target for the pinned toolchain (rust-toolchain.toml) if it is missing.
set -eu
cd "$(dirname "$0")/.."
if command -v rustup >/dev/null 2>&1; then
    target=$(sed -n 's/^targets = \["\(.*\)"\]/\1/p' rust-toolchain.toml)
    rustup target list --installed 2>/dev/null | grep -qx "$target" || rustup target add "$target"
elif ! command -v cargo >/dev/null 2>&1; then
    echo "Missing: cargo. Install rustup, see https://rustup.rs" >&2
    exit 1
fi
