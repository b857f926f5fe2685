#!/usr/bin/env bash
# Runs fuzz targets, each for a number of seconds:
#
#   fuzz/run.sh [SECONDS [TARGET...]]      (60 seconds, all targets)
#
# It needs a nightly compiler and a C++ compiler, but not cargo-fuzz. Without them it says so and ends
# well: `cargo test --no-default-features` replays the corpus with any compiler. What is found lies in
# fuzz/found and fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
    targets=(archives client_connection decoders framer memory_connection server_connection)
fi

toolchain=()
if cargo +nightly --version >/dev/null 2>&1; then
    toolchain=(+nightly)
elif [ "${RUSTC_BOOTSTRAP:-}" != 1 ]; then
    echo "fuzz: skipped, there is no nightly toolchain (rustup toolchain install nightly; or RUSTC_BOOTSTRAP=1)"
    exit 0
fi
if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "fuzz: skipped, there is no C++ compiler for libFuzzer (apt-get install g++)"
    exit 0
fi

# As cargo-fuzz does: coverage for libFuzzer, AddressSanitizer, and the assertions of debug builds. A
# target is named, so that build scripts and macros go without.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4)
flags+=(-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table)
flags+=(-Cllvm-args=-sanitizer-coverage-trace-compares -Zsanitizer=address)
flags+=(-Cdebug-assertions -Ccodegen-units=1 --cfg=fuzzing)
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="${flags[*]}" cargo "${toolchain[@]}" build --release --target "$host"

mkdir -p artifacts
for target in "${targets[@]}"; do
    printf '\n== fuzz %s for %s s\n' "$target" "$seconds"
    mkdir -p "found/$target"
    "${CARGO_TARGET_DIR:-target}/$host/release/$target" "found/$target" "corpus/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=4096 \
        -artifact_prefix=artifacts/ -print_final_stats=1
done
