# `cargo run --release` starts the gateway, and `make test` runs every check and every test.

.PHONY: test check licences interleavings needed

TARGET = $(or $(CARGO_TARGET_DIR),target)

# The folder for the programs that check the sources.
TOOLS = $(TARGET)/tools/bin

# Runs everything that has to pass, including the tests in a browser.
test: needed check licences interleavings
	REQUIRE_ALL_TESTS=1 cargo test --locked --workspace

# Checks the format, the lints, the documentation and the spelling.
check: needed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	$(TOOLS)/typos

# Checks licences, versions and sources of dependencies. Known vulnerabilities are checked by
# `cargo deny check advisories`, which downloads a database.
licences: needed
	$(TOOLS)/cargo-deny --locked --log-level error check --hide-inclusion-graph licenses bans sources

# Checks lock-free protocols in every order of their steps. The flag changes every package, so this
# has a folder of its own.
interleavings:
	RUSTFLAGS="--cfg loom" cargo test --locked --package tidegate-interleavings --lib --target-dir $(TARGET)/loom

# Installs what the tests need besides Rust: a browser, its driver, nginx, Redis, the client
# libraries under test, and the programs that check the sources.
needed:
	@./tests/install-needed
	@./tests/clients/install
	@./tests/tools/install
