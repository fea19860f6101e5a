#!/bin/sh
# Runs the fuzz targets in FUZZ_TARGETS (default: all) in sequence, for FUZZ_SECONDS (default: 60) each. Prints the number of
# executions, covered edges and new findings of each target. Fails if a target has a finding.
set -eu
cd "$(dirname "$0")/../fuzz"
seconds=${FUZZ_SECONDS:-60}
targets=${FUZZ_TARGETS:-$(cd fuzz_targets && ls -- *.rs | sed 's/\.rs$//')}
triple=x86_64-unknown-linux-gnu

# No sanitizer: the filter has no unsafe code, and the pinned stable compiler can build without one.
cargo fuzz build --sanitizer none --target "$triple"

running=
trap 'test -z "$running" || kill "$running" 2>/dev/null || :' EXIT
trap 'exit 130' INT TERM

found=0
for target in $targets; do
    test -f "fuzz_targets/$target.rs" || { echo "There is no target $target." >&2; exit 2; }
    mkdir -p "corpus/$target" "artifacts/$target"
    before=$(ls "artifacts/$target" | wc -l)
    log=target/$target.log
    # Maximum input size: the filter's limit for a token plus a third. Maximum time for one input: far above the slowest
    # verification.
    "target/$triple/release/$target" "corpus/$target" "seeds/$target" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -max_len=20000 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1 &
    running=$!
    status=0
    wait "$running" || status=$?
    running=
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    new=$(($(ls "artifacts/$target" | wc -l) - before))
    echo "$target: ${executions:-no} executions, ${edges:-no} edges, $new new findings"
    if [ "$status" != 0 ] || [ "$new" != 0 ]; then
        found=1
        grep -a -m 1 -A 2 -E "panicked at|ERROR: libFuzzer" "$log" || tail -n 5 "$log"
        ls -1t "artifacts/$target"/* 2>/dev/null | head -n "$new" | sed "s|.*|  again: cd fuzz \&\& target/$triple/release/$target &|"
    fi
done
exit "$found"
