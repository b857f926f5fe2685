#!/usr/bin/env bash
# Measures the capacity studies that are kept here, on this machine, over TCP: handlers that keep the
# CPU busy for 20 µs, on ringcall and on tonic with the same schedules, where the server breaks first; and
# the key-value sample on ringcall, whose limit may be the generator's. Each is a search for the highest
# rate at an objective, the curve around it, and a report. Takes ten to fifteen minutes.
#
# SECONDS_PER_LOAD (default 10) and OBJECTIVE may be set. The default objective allows for virtual
# machines that stop for ten milliseconds now and then; on hardware of your own ask for p99<1ms.
set -euo pipefail
cd "$(dirname "$0")/.."

load=(--conns 1 --depth 512 --payload fixed:64 --slo "${OBJECTIVE:-p99<20ms,err<0.1%}" --warmup 1s
    --duration "${SECONDS_PER_LOAD:-10}s" --time-max 4m --growth 1.5 --spare 1 --headroom 0.3)
spin=(--method spin --service-time fixed:20us --peak 100k)
kv=(--method get=0.9,put=0.1 --peak 500k)

cargo build --release -p loadgen
# What is kept is replaced only when all are done.
new=$(mktemp -d results/.studies-XXXXXX)
trap 'rm -rf "$new"' EXIT
study() {
    local name=$1 protocol=$2 status=0
    shift 2
    target/release/loadgen search --protocol "$protocol" --name "$name" --out "$new" "$@" "${load[@]}" || status=$?
    # 3 and 4 are findings, which the report explains: no rate met the objective, or the machine was
    # too restless to tell.
    case $status in 0 | 3 | 4) ;; *) exit "$status" ;; esac
}
study spin-ringcall ringcall "${spin[@]}"
study spin-tonic tonic "${spin[@]}"
study kv-ringcall ringcall "${kv[@]}"
rm -rf results/*-{spin,kv}-{ringcall,tonic} results/kv-*.svg results/spin-*.svg
# The log holds all that these are made of; without them the repository stays small.
rm -f "$new"/*/*.hgrm
mv "$new"/* results/

# The README shows what came out; nothing in it is typed by hand.
python3 - <<'PYTHON'
import pathlib, re, shutil

begin, end = "<!-- studies:begin -->", "<!-- studies:end -->"
parts = []
for name in ("spin-ringcall", "spin-tonic", "kv-ringcall"):
    folder = max(pathlib.Path("results").glob(f"*-{name}"))
    report = (folder / "report.md").read_text()
    verdict = report.split("## 1. Verdict")[1].split("Not measured:")[0].split("\n## ")[0].strip()
    picture = f"results/{name}.svg"
    shutil.copy(folder / "plots" / "hockey_stick.svg", picture)
    parts.append(f"**{name}**, from [{folder.name}](results/{folder.name}/report.md):\n\n"
                 f"{verdict}\n\n![Latency against rate, {name}]({picture})")
readme = pathlib.Path("README.md")
before, rest = readme.read_text().split(begin)
_, after = rest.split(end)
readme.write_text(f"{before}{begin}\n" + "\n\n".join(parts) + f"\n{end}{after}")
PYTHON
