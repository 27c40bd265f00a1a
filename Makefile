# Two commands are enough: `cargo run --release` starts the gateway, `make test` runs every test.

.PHONY: test check licences needed

# Where programs that check the sources are installed.
TOOLS = $(or $(CARGO_TARGET_DIR),target)/tools/bin

# Everything that has to pass, the tests in a browser included.
test: needed check licences
	REQUIRE_ALL_TESTS=1 cargo test --locked --workspace

# Form, lints, documentation and spelling.
check: needed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	$(TOOLS)/typos

# Licences, versions and sources of dependencies. Known vulnerabilities need a database from the network: `cargo deny check
# advisories`.
licences: needed
	$(TOOLS)/cargo-deny --locked --log-level error check --hide-inclusion-graph licenses bans sources

# What the tests need beside Rust: a browser, its driver, nginx, the libraries of others under test, and programs that
# check the sources.
needed:
	@./tests/install-needed
	@./tests/clients/install
	@./tests/tools/install
