#!/usr/bin/env bash
# Measures on real processes what theory knows, and puts the table into docs/MEASURING.md. Takes seven
# minutes, on a machine that does nothing else. What a failed test has measured is left out of the
# table, and ends this with an error. With the name of a test, only its rows are replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

measured=$(mktemp)
trap 'rm -f "$measured"' EXIT
status=0
cargo test -p loadgen --release --features truths --test truths -- --test-threads 1 --nocapture "$@" \
    | tee "$measured" || status=$?
if [ -e "${HDRHISTOGRAM_JAR:-/usr/share/java/hdrhistogram.jar}" ]; then
    java=$(docs/java_hlog.sh | tail -1)
    printf 'test java ... TRUTH | %s | %s | the same |\nok\n' \
        "\`latency.hlog\`, read by Java's HistogramLogProcessor (\`docs/java_hlog.sh\`)" "$java" >>"$measured"
fi
python3 - "$measured" "$@" <<'PYTHON'
import pathlib, sys

rows, of_test = [], []
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    if line.startswith("test ") and " ... " in line:
        of_test = []
    if "TRUTH " in line:
        of_test.append(line.split("TRUTH ", 1)[1].strip())
    elif line.strip() == "ok":
        rows += of_test
        of_test = []
if not rows:
    sys.exit("no truth was measured")
document = pathlib.Path("docs/MEASURING.md")
begin, end = "<!-- truths:begin -->", "<!-- truths:end -->"
before, rest = document.read_text().split(begin)
kept, after = rest.split(end)
head = ["| What | Measured | Expected |", "|---|---|---|"]
named = {row.split(" | ")[0]: row for row in [*kept.strip().splitlines()[2:], *rows]}
if len(sys.argv) == 2:  # all of them, so that what is no longer measured goes
    named = {row.split(" | ")[0]: row for row in rows}
table = "\n".join([*head, *named.values()])
document.write_text(f"{before}{begin}\n{table}\n{end}{after}")
PYTHON
exit "$status"
