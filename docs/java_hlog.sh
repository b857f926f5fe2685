#!/usr/bin/env bash
# Reads the histogram log of a result folder with HistogramLogProcessor, the tool of HdrHistogram's
# authors, and compares what it counts with what `loadgen` has counted, for each tag of the log.
# Needs Java and HdrHistogram.jar: `apt-get install default-jre-headless libhdrhistogram-java`.
#
# Without a folder it measures a short load first.
set -euo pipefail
cd "$(dirname "$0")/.."
export HDRHISTOGRAM_JAR=${HDRHISTOGRAM_JAR:-/usr/share/java/hdrhistogram.jar}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
folder=${1:-}
if [ -z "$folder" ]; then
    # Whether the machine was still enough for a measurement does not matter here.
    cargo run --quiet --release -p loadgen -- run --method echo=0.8,get=0.2 --rate 5k --warmup 200ms \
        --duration 3s --out "$work" || [ $? -eq 4 ]
    folder=$(echo "$work"/*-run)
fi

python3 - "$folder" "$work" <<'PYTHON'
import json, os, pathlib, re, subprocess, sys

folder, work = map(pathlib.Path, sys.argv[1:])
summary = json.loads((folder / "summary.json").read_text())
compared = 0
for point in summary["points"]:
    for method in point["methods"]:
        for kind, spread in method["latency"].items():
            if spread["count"] == 0:
                continue
            tag = f"p{point['point']}.{method['method']}.{kind}"
            out = work / tag
            subprocess.run(
                ["java", "-cp", os.environ["HDRHISTOGRAM_JAR"], "org.HdrHistogram.HistogramLogProcessor",
                 "-i", folder / "latency.hlog", "-tag", tag, "-outputValueUnitRatio", "1", "-o", out],
                check=True, stdout=subprocess.DEVNULL)
            read = re.search(r"Max\s*=\s*([\d.]+).*Total count\s*=\s*(\d+)",
                             out.with_name(out.name + ".hgrm").read_text())
            java = {"count": int(read[2]), "max_ns": float(read[1])}
            ours = {"count": spread["count"], "max_ns": spread["max_ns"]}
            # Java's maximum is the highest value that counts as equal to ours, three digits being kept.
            near = abs(java["max_ns"] - ours["max_ns"]) <= 0.002 * ours["max_ns"]
            is_same = java["count"] == ours["count"] and near
            print(f"{tag}: {ours['count']} values, of which Java reads {java['count']}")
            if not is_same:
                sys.exit(f"{tag}: Java reads {java}, loadgen has counted {ours}")
            compared += 1
if compared == 0:
    sys.exit("the folder has no values to compare")
print(f"the same counts and maxima for {compared} tags")
PYTHON
