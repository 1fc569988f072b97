# `make quickstart` runs the main job on a fresh machine; `make test` runs the tests.
# LENS_MODEL_TESTS=1 adds the tests that need real models, a browser and more (docs/testing.md).

LENS := target/release/lens
STARTER := datasets/starter

.PHONY: build quickstart test tour lint docs man

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

# The links, tables and paths of the documents, and the functions, tests and settings that the method names; the book in target/book where mdBook is installed.
docs:
	python3 scripts/test_check_docs.py
	python3 scripts/check_docs.py
	python3 scripts/check_method_table.py
	@if command -v mdbook >/dev/null; then mdbook build; else echo "mdbook is not installed: no book"; fi

# Manual pages in target/man, each read by man without a complaint.
man: build
	mkdir -p target/man
	$(LENS) man target/man
	for page in target/man/*.1; do \
		complaints=$$(LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings=w --local-file $$page 2>&1 >/dev/null) || exit 1; \
		if [ -n "$$complaints" ]; then echo "$$page: $$complaints"; exit 1; fi; \
	done
