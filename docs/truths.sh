#!/usr/bin/env bash
# Measures on real processes what theory knows, and puts the table into docs/MEASURING.md. Takes seven
# minutes, on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

measured=$(mktemp)
trap 'rm -f "$measured"' EXIT
# A truth that does not hold ends this here, and leaves the document alone.
cargo test -p loadgen --release --features truths --test truths -- --test-threads 1 --nocapture \
    | tee "$measured"
if [ -e "${HDRHISTOGRAM_JAR:-/usr/share/java/hdrhistogram.jar}" ]; then
    java=$(docs/java_hlog.sh | tail -1)
    echo "TRUTH | \`latency.hlog\`, read by Java's HistogramLogProcessor (\`docs/java_hlog.sh\`) | $java | the same |" >>"$measured"
fi
python3 - "$measured" <<'PYTHON'
import pathlib, sys
lines = pathlib.Path(sys.argv[1]).read_text().splitlines()
rows = [line.split("TRUTH ", 1)[1].strip() for line in lines if "TRUTH " in line]
if not rows:
    sys.exit("no truth was measured")
document = pathlib.Path("docs/MEASURING.md")
begin, end = "<!-- truths:begin -->", "<!-- truths:end -->"
before, rest = document.read_text().split(begin)
_, after = rest.split(end)
table = "\n".join(["| What | Measured | Expected |", "|---|---|---|", *rows])
document.write_text(f"{before}{begin}\n{table}\n{end}{after}")
PYTHON
