#!/usr/bin/env bash
# Measures the typed server against the raw baseline on this machine, keeps the table in
# results/vs_raw.md, and puts it into the README. Takes about five minutes on a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."

# cargo runs benches in their own folder.
cargo bench -p ringcall-benches --bench vs_raw -- \
    --cells 64x1/spin:50us,64x16/spin:50us,16x32/spin:50us,1x64/spin:50us,1x1/spin \
    --out ../results/vs_raw.md "$@"

python3 - <<'PYTHON'
import pathlib
begin, end = "<!-- vs_raw:begin -->", "<!-- vs_raw:end -->"
readme = pathlib.Path("README.md")
before, rest = readme.read_text().split(begin)
_, after = rest.split(end)
table = pathlib.Path("results/vs_raw.md").read_text().strip()
readme.write_text(f"{before}{begin}\n{table}\n{end}{after}")
PYTHON
