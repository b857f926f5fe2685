#!/usr/bin/env bash
# Measures everything again on this machine, keeps it in results/, and puts the tables into the
# README. Takes a quarter of an hour; `results/refresh.sh --full` up to two hours more, and
# `results/refresh.sh --quick` some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
out="$PWD/results" # cargo runs benches in their own folder

measure() {
    local bench=$1
    shift
    cargo bench --bench "$bench" -- --out "$out" "$@"
}

# What CI compares with is replaced by hand only (`--update`), so that nothing grows unseen: this
# fails when a call costs more than is on record. First, since it takes the least time.
new=$(mktemp)
trap 'rm -f "$new"' EXIT
cargo bench --bench instructions -- --check >"$new"
cp "$new" results/instructions.md

measure vs_peers "$@"
# Both engines in every cell of small messages.
cells=
for connections in 1 16 64 256; do
    for depth in 1 16 64; do cells+=,${connections}x$depth; done
done
measure vs_peers "$@" --name grid --peers raw,ringcall,raw-epoll,ringcall-epoll --runs 7 --seconds 0.1 \
    --transports tcp,unix --workloads echo --payload-bytes 64 --cells "${cells#,}" --no-counts
# Against the raw baseline alone: more runs, and loops that spin as ringcall's do by default.
measure vs_peers "$@" --name vs_raw --peers raw,ringcall --runs 21 --seconds 0.25 \
    --cells 64x1/spin:50us,64x16/spin:50us,16x32/spin:50us,1x64/spin:50us,1x1/spin
measure isolation "$@"
measure idle "$@"
results/goals.py

python3 - <<'PYTHON'
import pathlib, re
readme = pathlib.Path("README.md")
text = readme.read_text()
for name in re.findall(r"<!-- results/(.+?):begin -->", text):
    begin, end = f"<!-- results/{name}:begin -->", f"<!-- results/{name}:end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    table = pathlib.Path("results", name).read_text().strip()
    text = f"{before}{begin}\n{table}\n{end}{after}"
readme.write_text(text)
PYTHON
