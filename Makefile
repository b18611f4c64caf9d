# `make demo` sells one server end to end; `make test` checks everything. Both fetch what is missing by themselves.

export SQLX_OFFLINE := true
target := $(or $(CARGO_TARGET_DIR),target)
bins := -p ez -p standins -p house --bins

.PHONY: demo dev test test-long bench advisories

# The journey as a customer, then a life in seconds; stays up until Ctrl-C. `make demo ONCE=1` ends after the journey.
demo: tools
	@cargo build --locked $(bins)
	@exec $(target)/debug/house demo $(if $(ONCE),--once)

# The same without the journey, rebuilt on every change.
dev: tools
	@cargo build --locked $(bins)
	@exec $(target)/debug/house dev

test:
	tests/house/install-tools test
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	tests/previous/build
	cargo build --locked --workspace --bins
	cargo test --locked --workspace
	cargo test --locked --workspace --test it -- --ignored --test-threads=1 storm simulation money::lives money::permutations

# Hours: storms with 500 orders and more seeds, 5,000 simulated lives, 20,000 scenarios of money, a restore under load, and a scanner for weak places. One seed alone is repeated with the command it prints.
test-long: export EZ_TEST_LONG := 1
test-long:
	tests/house/install-tools long
	tests/previous/build
	cargo build --locked --workspace --bins
	cargo test --locked -p ez --test it -- --include-ignored --test-threads=1 --nocapture last_one handoff storm simulation money skipped drill scanner

# What docs/PERFORMANCE.md tells of, measured here: `make bench ARGS="--runs 3 pricing dashboard"`.
bench: tools
	cargo build --release --locked --workspace --bins
	$(target)/release/bench $(ARGS)

# What RustSec knows of the crates of Cargo.lock. It needs the network, so no test asks it: once a week, and before each release.
advisories:
	@command -v cargo-audit >/dev/null || cargo install --locked cargo-audit
	cargo audit

.PHONY: tools
tools:
	@tests/house/install-tools demo
