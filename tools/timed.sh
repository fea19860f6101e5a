#!/bin/sh
# Makes each target in turn, until one fails, and prints the seconds that each took.
set -u
times=
status=0
for target; do
    began=$(date +%s)
    "${MAKE:-make}" "$target"
    status=$?
    times="$times$(printf '%7d s  %s' $(($(date +%s) - began)) "$target")
"
    test "$status" = 0 || break
done
printf '%s' "$times"
exit "$status"
