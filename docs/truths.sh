#!/usr/bin/env bash
# Measures on real processes what theory knows, and puts the table into docs/MEASURING.md. Takes four
# minutes, on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test -p loadgen --release --features truths --test truths -- --test-threads 1 --nocapture \
    | tee /dev/stderr | python3 -c '
import pathlib, sys
rows = [line.split("TRUTH ", 1)[1].strip() for line in sys.stdin if "TRUTH " in line]
if not rows:
    sys.exit("no truth was measured")
document = pathlib.Path("docs/MEASURING.md")
begin, end = "<!-- truths:begin -->", "<!-- truths:end -->"
before, rest = document.read_text().split(begin)
_, after = rest.split(end)
table = "\n".join(["| What | Measured | Expected |", "|---|---|---|", *rows])
document.write_text(f"{before}{begin}\n{table}\n{end}{after}")
'
