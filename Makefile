# Builds, tests and checks Ashlar. `make test` is everything there is, and what CI runs.

# Outside the checkout, so that every clone reuses what was built before.
ASHLAR_CACHE ?= $(HOME)/.cache/ashlar
export ASHLAR_CACHE
export CARGO_TARGET_DIR ?= $(ASHLAR_CACHE)/target
ASHLAR_BIN := $(CARGO_TARGET_DIR)/debug/ashlar

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(ASHLAR_CACHE)/tools/bin/cargo-deny

.NOTPARALLEL:
.PHONY: help build tested release test fmt lint models unit deny advisories contracts conformance chain crash bench

help: ## What can be made.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

build: ## The binary as tests and the demo run it: quick to build, hot crates optimised.
	cargo build --locked --package ashlar

# What clients and crashes are tried on is what the tests were linked with. Built as a package of its own the binary would have
# other features of its dependencies, and all of SQL would be compiled a second time.
tested:
	cargo test --locked --workspace --no-run

release: ## The binary as it is measured and deployed.
	cargo build --locked --release --package ashlar

test: lint unit deny contracts conformance chain crash ## Everything below; what CI runs.

fmt: ## Formats the sources.
	cargo fmt --all

lint: ## Format and clippy, warnings are errors.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

models: ## The models that tests run, fetched on the first use.
	ops/models/fetch

unit: models ## Unit, property, crash and whole-system tests of every crate.
	cargo test --locked --workspace --no-fail-fast

deny: $(CARGO_DENY) ## Licences, sources and banned crates of all dependencies.
	$(CARGO_DENY) --locked check bans licenses sources

advisories: $(CARGO_DENY) ## Known vulnerabilities; their database comes from the network.
	$(CARGO_DENY) --locked check advisories

$(CARGO_DENY):
	cargo install --locked --debug --root $(ASHLAR_CACHE)/tools --version $(CARGO_DENY_VERSION) cargo-deny

contracts: ## Contracts: artifacts, vectors and gas are as committed; unit, fuzz, invariant and attack tests.
	chain/contracts/build --check
	chain/contracts/build --vectors --check
	chain/contracts/build --test
	chain/contracts/build --gas --check

conformance: tested ## Unchanged S3 and SQL clients, bad input and racing conditions against the binary.
	ops/conformance/run --bin $(ASHLAR_BIN)
	ops/conformance/sql/run --bin $(ASHLAR_BIN)
	ops/conformance/openai/run --bin $(CARGO_TARGET_DIR)/debug/examples/serve_openai
	ops/conformance/openai/run --ashlar $(ASHLAR_BIN)

chain: ## Unchanged clients of Ethereum against the dev chain; what they need is installed on the first use.
	cargo build --locked --package ashlar-dev-chain --example serve
	ops/conformance/chain/run --serve $(CARGO_TARGET_DIR)/debug/examples/serve

crash: tested ## SIGKILL while clients write, deleted and corrupted nodes, lost metadata.
	ops/crash/run --rounds 5 --bin $(ASHLAR_BIN)
