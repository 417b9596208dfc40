# Builds, tests and checks Ashlar. `make test` is what CI runs.

# Outside the checkout, so that every clone reuses what was built before.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/ashlar/target
export CARGO_INCREMENTAL ?= 0
ASHLAR_BIN := $(CARGO_TARGET_DIR)/debug/ashlar

.PHONY: build release test lint fmt unit deny conformance crash

build: ## The binary as tests and the demo run it.
	cargo build --locked --package ashlar

release: ## The binary as it is measured and deployed.
	cargo build --locked --release --package ashlar

test: lint unit conformance crash

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

unit:
	cargo test --locked --workspace

# Licences, sources and duplicates of dependencies; advisories need a database from the network.
deny:
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

conformance: build
	ops/conformance/run --bin $(ASHLAR_BIN)

crash: build
	ops/crash/run --rounds 5 --bin $(ASHLAR_BIN)
