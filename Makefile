# Two commands are enough: `cargo run --release` starts the gateway, `make test` runs every test.

.PHONY: test check needed

# Everything that has to pass, the tests in a browser included.
test: needed check
	REQUIRE_ALL_TESTS=1 cargo test

# Form and lints.
check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# What the tests need beside Rust: a browser, its driver, nginx, and the libraries of others under test.
needed:
	@./tests/install-needed
	@./tests/clients/install
