#!/bin/sh
# Installs the named Debian packages if they are missing. Prints instructions if the user is not root.
# A name has the form command:package if the command and its package have different names.
set -eu
missing=
for name; do
    command -v "${name%%:*}" >/dev/null 2>&1 || missing="$missing ${name##*:}"
done
test -n "$missing" || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing:$missing. Install with your system's package manager, on Debian: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
install() { apt-get install -qq -y --no-install-recommends $missing >/dev/null; }
install 2>/dev/null || { apt-get update -qq && install; }
