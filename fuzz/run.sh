#!/usr/bin/env bash
# Fuzzes each target in turn: `fuzz/run.sh SECONDS [TARGET ..]`, all targets by default. What is found lies in
# fuzz/artifacts/TARGET, and what was learned in fuzz/corpus/TARGET. Needs a nightly compiler and cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")"
seconds=$1
shift
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    mapfile -t targets < <(cargo +nightly fuzz list)
fi
# Most inputs become files: in memory, where the system has such a folder.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target"
    echo "--- $target"
    # LENS is Rust but for a few lines: without a sanitizer, twice as many inputs are tried.
    cargo +nightly fuzz run --sanitizer none "$target" "corpus/$target" "../crates/fuzz-targets/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2000 -malloc_limit_mb=1000 -print_final_stats=1 \
        || echo "$target ended with status $?"
done
