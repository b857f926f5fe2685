#!/usr/bin/env bash
# Measures the two capacity studies that are kept here, on this machine: the key-value sample over
# TCP on ringcall, and the same over gRPC by tonic. Each is a search for the highest rate at an
# objective, the curve around it, and a report. Takes about ten minutes on a quiet machine.
#
# SECONDS_PER_LOAD (default 5) and OBJECTIVE may be set. The default objective allows for virtual
# machines that stop for some milliseconds now and then; on hardware of your own ask for p99<1ms.
set -euo pipefail
cd "$(dirname "$0")/.."

load=(--method get=0.9,put=0.1 --conns 1 --depth 512 --payload fixed:64
    --slo "${OBJECTIVE:-p99<5ms,err<0.1%}" --warmup 1s --interval 1s
    --duration "${SECONDS_PER_LOAD:-5}s" --peak 500k --growth 1.5 --spare 1 --headroom 0.3)

# Where to begin. At light loads tonic's client is too slow for the rule on send lag: a call that comes
# while another is being sent waits longer than 50 µs, so its search begins higher.
declare -A first_rate=([ringcall]=10k [tonic]=25k)

cargo build --release -p loadgen
# What is kept is replaced only when both are done.
new=$(mktemp -d results/.studies-XXXXXX)
trap 'rm -rf "$new"' EXIT
for protocol in ringcall tonic; do
    status=0
    target/release/loadgen search --protocol "$protocol" --name "kv-$protocol" --out "$new" --rate "${first_rate[$protocol]}" "${load[@]}" || status=$?
    # 3 and 4 are findings, which the report explains: no rate met the objective, or the machine was
    # too restless to tell.
    case $status in 0 | 3 | 4) ;; *) exit "$status" ;; esac
done
rm -rf results/*-kv-ringcall results/*-kv-tonic
# The log holds all that these are made of; without them the repository stays small.
rm -f "$new"/*/*.hgrm
mv "$new"/* results/

# The README shows what came out; nothing in it is typed by hand.
python3 - <<'PYTHON'
import pathlib, re, shutil

begin, end = "<!-- studies:begin -->", "<!-- studies:end -->"
parts = []
for protocol in ("ringcall", "tonic"):
    folder = max(pathlib.Path("results").glob(f"*-kv-{protocol}"))
    report = (folder / "report.md").read_text()
    verdict = report.split("## 1. Verdict")[1].split("Not measured:")[0].split("\n## ")[0].strip()
    picture = f"results/kv-{protocol}.svg"
    shutil.copy(folder / "plots" / "hockey_stick.svg", picture)
    parts.append(f"**{protocol}**, from [{folder.name}](results/{folder.name}/report.md):\n\n"
                 f"{verdict}\n\n![Latency against rate, {protocol}]({picture})")
readme = pathlib.Path("README.md")
before, rest = readme.read_text().split(begin)
_, after = rest.split(end)
readme.write_text(f"{before}{begin}\n" + "\n\n".join(parts) + f"\n{end}{after}")
PYTHON
