# Every task a person runs; `make` lists them. Each does its own set-up.
#
#   ONCE=1            `make demo` ends after its walk instead of serving on
#   BENCH=quick       `make bench` runs shortly, TABLES="filters refused" only some of it
#   DOCS=1            `make bench` and `make instructions` write what they measure into docs/
#   ENVOY_BIN         use this Envoy and fetch none (test-matrix fetches its own)
#   COMPOSE_TEST_FLAGS  of tools/compose-test, such as --without grafana
#   CARGO_TARGET_DIR  where cargo builds, else target/
#   TIME              seconds for each target of `make fuzz`
#   MINUTES           how long `make soak` takes

# A plugin is named after its folder.
PLUGINS := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard filters/*/Cargo.toml)))

# The plugins' crates have the entry points of a plugin, and exist only as WebAssembly.
NATIVE := --workspace --exclude '*-filter' --exclude '*-test-plugin'
WASM := --target wasm32-wasip1

ifeq ($(strip $(CARGO_TARGET_DIR)),)
CARGO_TARGET_DIR := $(CURDIR)/target
endif
export CARGO_TARGET_DIR

# Rustup's own folder, for a shell opened before rustup was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo simulate test unit wasm-test e2e test-matrix compose-test build dist images \
	test-plugins cli envoy bench microbench instructions fmt lint lint-each deny dependencies fuzz \
	fuzz-quick soak setup clean

say = @printf '\n==> %s\n'

# Puts the path of Envoy into the environment of the commands that follow.
with_envoy = ENVOY_BIN=$$(tools/fetch-envoy) || exit; export ENVOY_BIN;

# $(call run_tests,NAME,COMMAND) runs tests and keeps their results in NAME.log. The exit code is
# the command's, which a plain pipe would lose.
define run_tests
log="$$CARGO_TARGET_DIR/$(1).log"; mkdir -p "$$CARGO_TARGET_DIR"; \
{ $(2); echo $$? >"$$log.status"; } | tee "$$log"; \
$(call add_up,"$$log") && exit "$$(cat "$$log.status")"
endef

# $(call add_up,LOGS) prints the sum of the result lines, and what was skipped. That no test ran,
# and none was skipped, is a failure.
define add_up
awk '/^test result: / { passed += $$4; failed += $$6 } \
/^skipped: / { skipped = skipped "\n" $$0 } \
END { if (passed + failed == 0 && !skipped) { print "\nno test ran"; exit 1 } \
printf "\n%d passed, %d failed%s\n", passed, failed, skipped }' $(1)
endef

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: envoy dist ## Run the gateway and walk through what it does (ONCE=1 ends after the walk)
	$(say) 'Starting the demo'
	@$(with_envoy) exec cargo run -p tollgate-demo -- $(if $(filter 1,$(ONCE)),--once)

simulate: setup ## Simulate quotas of many Envoys, and write docs/quota-simulation.md
	$(say) 'Simulating'
	@cargo run --release -p tollgate-quota-simulator

test: unit wasm-test e2e ## Run all tests: native ones, on WebAssembly, then in a real Envoy
	$(say) 'All tests'
	@$(call add_up,$(foreach suite,unit wasm-test e2e,"$$CARGO_TARGET_DIR/$(suite).log"))

unit: setup ## Run the native tests alone
	$(say) 'Native tests'
	@$(call run_tests,unit,cargo test --no-fail-fast $(NATIVE) --exclude tollgate-tests)

wasm-test: setup ## Run tests of the policies and what they are made of on WebAssembly alone
	$(say) 'Tests on WebAssembly'
	@$(call run_tests,wasm-test,tools/wasm-test)

e2e: envoy dist test-plugins ## Run the tests against a real Envoy alone
	$(say) 'End-to-end tests'
	@$(with_envoy) $(call run_tests,e2e,tools/e2e)

# Each version runs to its end, and fails the task if one of its tests fails.
test-matrix: dist test-plugins ## Run the tests against a real Envoy on each version that is supported
	@failed=; for version in $$(tools/fetch-envoy --list); do \
		printf '\n==> End-to-end tests on Envoy %s\n' "$$version"; \
		ENVOY_BIN=$$(env -u ENVOY_BIN tools/fetch-envoy --version "$$version") || exit; \
		export ENVOY_BIN; \
		( $(call run_tests,e2e-$$version,tools/e2e) ) \
			|| failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { printf '\nfailed on%s\n' "$$failed"; exit 1; }

compose-test: ## Bring up docker-compose.yml, walk through every outcome, take it down (needs Docker)
	@tools/compose-test $(COMPOSE_TEST_FLAGS)

# Without the remapping, the plugins would hold the path of the builder's home, and so differ from
# builder to builder.
build_wasm = CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" \
	cargo build --release $(WASM)

build: setup ## Build the plugins
	$(say) 'Building the plugins'
	@$(build_wasm) $(PLUGINS:%=-p %-filter)

dist: build ## Build the plugins and package them into dist/
	$(say) 'Packaging the plugins into dist/'
	@cargo run -p tollgate-dist -- "$$CARGO_TARGET_DIR/wasm32-wasip1/release" dist $(PLUGINS)

images: dist ## Pack the plugins into OCI images in dist/images/, with lists of what is in them
	$(say) 'Packing images into dist/images/'
	@mkdir -p dist/images
	@cargo run -p tollgate-images -- dist dist/images $(PLUGINS)

test-plugins: setup
	@$(build_wasm) -p '*-test-plugin'

cli: setup ## Build the command line, and print its path
	$(say) 'Building the command line'
	@cargo build --release -p tollgate-cli
	@echo "$$CARGO_TARGET_DIR/release/tollgate"

envoy: setup ## Fetch the Envoy that the demo and the tests run, and print its path
	@tools/fetch-envoy

# Plugins that only measure; the empty one is measured as it is built, too.
bench: envoy dist test-plugins ## Measure CPU against alternatives (BENCH=quick, DOCS=1 for docs/)
	$(say) 'Measuring'
	@cargo run -q -p tollgate-dist -- "$$CARGO_TARGET_DIR/wasm32-wasip1/release" \
		"$$CARGO_TARGET_DIR/bench/plugins" empty calls
	@$(with_envoy) exec cargo run --profile tool -p tollgate-bench -- \
		$(if $(filter quick,$(BENCH)),--quick) $(if $(filter 1,$(DOCS)),--docs) $(TABLES)

microbench: setup ## Run the micro-benchmarks of the pure crates
	cargo bench -p tollgate-micro

# BLESS=1 keeps what is measured, DOCS=1 puts it into docs/.
instructions: setup ## Check the instructions per request against bench/instructions/baseline.json
	$(say) 'Counting instructions'
	@tools/instructions \
		$(if $(filter 1,$(DOCS)),docs,$(if $(filter 1,$(BLESS)),bless,check))

fmt: setup ## Format the code
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

lint: setup ## Check formatting, lints and documentation
	$(say) 'Formatting'
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	$(say) 'Lints'
	cargo clippy $(NATIVE) --all-targets -- -D warnings
	cargo clippy $(WASM) -p tollgate-host -p '*-filter' -p '*-test-plugin' -- -D warnings
	$(say) 'Documentation'
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps $(NATIVE)

# Built together, a crate may use a feature of a dependency that only another crate asks for.
lint-each: setup ## Check the lints of each crate by itself
	$(say) 'Lints of each crate by itself'
	@for crate in $$(cargo tree $(NATIVE) --depth 0 --prefix none | awk 'NF { print $$1 }'); do \
		echo "cargo clippy -p $$crate"; \
		cargo clippy -p $$crate --all-targets -- -D warnings || exit; \
	done

fuzz: setup ## Look for input that breaks what must hold (TIME=seconds for each target, else 600)
	$(say) 'Fuzzing'
	@TIME=$${TIME:-600} tools/fuzz $(TARGETS)

# A number of inputs rather than a time, so that it finds the same on every machine.
fuzz-quick: setup ## Run the seeds and a fixed number of inputs for each fuzz target
	$(say) 'A short fuzz run'
	@RUNS=2000 tools/fuzz

soak: envoy dist ## Run the gateway under traffic and faults, and check its books (MINUTES=30)
	$(say) 'A long run'
	@$(with_envoy) cargo run -p tollgate-soak -- $${MINUTES:-30}

dependencies: setup ## Check licences, sources and bans of dependencies
	@tools/check-dependencies

# Not part of CI, because building cargo-deny takes longer than everything else together, and it
# fetches advisories.
deny: setup ## Check licences, advisories and sources of dependencies (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { \
		echo 'cargo-deny is missing, install it: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny check

setup: ## Install the Rust toolchain if it is missing (the other tasks do this first)
	@tools/setup

clean: ## Remove what was built; what was fetched stays in .cache/
	rm -rf "$$CARGO_TARGET_DIR" dist
