#!/bin/sh
# Makes every test, measurement and fuzz target, on every Envoy of $1, and adds a table with date and commit to docs/releases.md.
# A failure does not stop the others, and is a row of the table; the exit status is 1.
set -u
cd "$(dirname "$0")/.."
test -z "$(git status --porcelain --untracked-files=no)" || { echo "test-all: commit your changes first" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
page=docs/releases.md
rows=
failed=0

row() { # row WHAT TARGET [VARIABLE=VALUE]
    what=$1
    shift
    began=$(date +%s)
    if "${MAKE:-make}" "$@"; then result=passed; else result=FAILED failed=1; fi
    rows="$rows
| $what | \`make $*\` | $result | $(($(date +%s) - began)) s |"
}

for target in lint test-engine test-wasm; do row "$target" "$target"; done
for envoy in $1; do
    row "Envoy $envoy" test-envoy ENVOY_VERSION="$envoy"
    row "bodies on Envoy $envoy" bodies ENVOY_VERSION="$envoy"
done
for target in test-oci test-conformance-next soak fuzz waiting bench; do row "$target" "$target"; done

printf '\n## %s, %s, commit %s\n\n%s\n\n| what | command | result | time |\n|---|---|---|---|%s\n' \
    "$version" "$(date -u +%Y-%m-%d)" "$(git rev-parse --short HEAD)" "$(uname -sm), $(getconf _NPROCESSORS_ONLN) cores." "$rows" >> "$page"
tail -n 30 "$page"
exit "$failed"
