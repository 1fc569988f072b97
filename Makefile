# `make quickstart` runs the main job on a fresh machine; `make test` runs the tests.
# LENS_MODEL_TESTS=1 adds the tests that need real models, a browser and more (docs/testing.md).

LENS := target/release/lens
STARTER := datasets/starter

.PHONY: build quickstart test tour lint

build:
	cargo build --release --locked --bin lens

quickstart: build
	$(LENS) pull gemma-3-270m
	$(LENS) run $(STARTER)/train.jsonl --eval $(STARTER)/heldout.jsonl -o reward-model --overwrite
	@echo
	@echo "Two answers to one prompt, scored (the first is the better one):"
	$(LENS) score reward-model $(STARTER)/example.jsonl

test:
	cargo test --release --locked --workspace

# Every other command of the README, run as it stands there.
tour: build
	python3 scripts/tour.py README.md

lint:
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps
