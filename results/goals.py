#!/usr/bin/env python3
"""Compares what was measured with what we aim at: reads the .json files beside it, writes goals.md.

Ratios are of runs of the same round, each with the interval that the measurement gave it. A goal is
reached where the whole interval is on the good side of the bound, missed where all of it is on the
other, and not decided where the bound lies inside. What was not measured is said to be missing.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}
YES, NO, OPEN = "yes", "**no**", "not decided"


def read(name):
    path = HERE / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


CELLS = [cell for name in ("vs_peers", "vs_raw", "grid") for cell in read(name).get("cells", [])]
CALLS = read("instructions").get("calls", {})


def find(cells=CELLS, **wanted):
    return [cell for cell in cells if all(cell.get(key) == value for key, value in wanted.items())]


def describe(cell):
    size = SIZES.get(cell["payload_bytes"], f"{cell['payload_bytes']} B")
    return f"{cell['conns']}×{cell['depth']} {cell['transport']} {size} {cell['idle']}"


def ratios(cells, peer, figure):
    """A figure against that of a peer: value, interval, and the cell it is of."""
    found = [(cell["against"].get(peer), cell) for cell in cells]
    return [
        (against[figure], against.get(f"{figure}_interval"), describe(cell))
        for against, cell in found
        if against
    ]


def verdict(value, interval, bound, at_least):
    """One run without an interval decides nothing."""
    if interval is None:
        return OPEN
    low, high = interval
    if at_least:
        return YES if low >= bound else NO if high < bound else OPEN
    return YES if high <= bound else NO if low > bound else OPEN


def number(value):
    """Three digits, without a power of ten where that is readable."""
    return "0" if value == 0 else f"{value:.2e}" if value < 0.001 else f"{value:.3g}"


def shown(value, interval, of):
    span = "" if interval is None or interval[0] == interval[1] else f" ({number(interval[0])}–{number(interval[1])})"
    return f"{number(value)}{span}, {of}"


ROWS = []


def goal(what, bound, found, at_least, things="cells"):
    """The worst is shown; all of them must reach the bound."""
    sign = "≥" if at_least else "≤"
    limit = f"{sign} {bound:.3g}"
    if not found:
        ROWS.append((what, limit, "not measured", "–"))
        return
    worst = (min if at_least else max)(found, key=lambda ratio: ratio[0])
    verdicts = [verdict(value, interval, bound, at_least) for value, interval, _ in found]
    measured = shown(*worst)
    reached = NO if NO in verdicts else OPEN if OPEN in verdicts else YES
    if len(found) > 1:
        count = verdicts.count
        measured = f"worst of {len(found)} {things}: {measured}"
        reached += f": {count(YES)} reach it, {count(NO)} miss it, {count(OPEN)} not decided"
    ROWS.append((what, limit, measured, reached))


def exact(values):
    """Counts, which are what they are."""
    return [(value, (value, value), of) for value, of in values]


def at(cells, conns, depth):
    return find(cells, conns=conns, depth=depth)


def unix_against_tcp(unix, tcp):
    """Two points, so not of the same rounds: the widest ratio that both intervals allow."""
    found = []
    for ours in unix:
        for base in find(tcp, idle=ours["idle"])[:1]:
            span, base_span = ours["calls_per_s_interval"], base["calls_per_s_interval"]
            interval = (span[0] / base_span[1], span[1] / base_span[0]) if span and base_span else None
            found.append((ours["calls_per_s"] / base["calls_per_s"], interval, describe(ours)))
    return found[:1]


echo = find(peer="ringcall", workload="echo")
small = find(echo, payload_bytes=64)
tcp, unix = find(small, transport="tcp"), find(small, transport="unix")
spinning = find(at(tcp, 1, 1), idle="spin")
tokio = find(peer="ringcall-tokio", workload="echo", payload_bytes=64, transport="tcp")
epoll = find(peer="ringcall-epoll", workload="echo", payload_bytes=64)
RATE, CPU = "calls_per_s", "server_cpu_us_per_call"

goal("rate against the raw io_uring echo, every cell of 64 B", 0.95, ratios(small, "raw", RATE), True)
goal("rate against tonic, 64×1", 4, ratios(at(tcp, 64, 1), "tonic", RATE), True)
goal("rate against tonic, 64×16", 30, ratios(at(tcp, 64, 16), "tonic", RATE), True)
goal("server CPU per call against raw, every cell of 64 B", 1.1, ratios(small, "raw", CPU), False)
goal("server CPU per call against tonic, 64×1", 1 / 3, ratios(at(tcp, 64, 1), "tonic", CPU), False)
goal("the same over a unix socket", 1 / 5, ratios(at(unix, 64, 1), "tonic", CPU), False)
goal("server CPU per call against tonic, 64×16", 1 / 25, ratios(at(tcp, 64, 16), "tonic", CPU), False)
goal("spinning 1×1, p50 against raw", 1.1, ratios(spinning, "raw", "p50_us"), False)
goal("spinning 1×1, p99 against raw", 1.5, ratios(spinning, "raw", "p99_us"), False)
goal(
    "unix socket against TCP, 64×16 (measured one after the other, not in the same rounds)",
    1.8,
    unix_against_tcp(at(unix, 64, 16), at(tcp, 64, 16)),
    True,
)
goal("1 MiB bodies against raw", 0.9, ratios(find(echo, payload_bytes=1 << 20), "raw", RATE), True)
for payload_bytes, size in SIZES.items():
    counted = [
        (cell["allocations_per_call"], describe(cell))
        for cell in find(echo, payload_bytes=payload_bytes)
        if cell.get("allocations_per_call") is not None
    ]
    goal(f"allocations per unary call on the server, {size}", 0, exact(counted), False)
# Of the `instructions` bench, which counts in the steady state and without sockets.
in_memory = [(cost["allocations"], name) for name, cost in CALLS.items()]
local = [call for call in in_memory if "client" in call[1]]
served = [call for call in in_memory if call not in local]
goal("allocations per unary call on the server, in memory", 0, exact(served), False, "kinds of calls")
if local:
    goal("allocations per call of the shard-local client", 0, exact(local), False, "kinds of calls")
goal("tokio client against tonic's, 64×16", 8, ratios(at(tokio, 64, 16), "tonic", RATE), True)
goal("epoll fallback against the raw epoll echo", 0.85, ratios(epoll, "raw-epoll", RATE), True)

lines = ["| Goal | Bound | Measured | Reached |", "|:--|--:|--:|:--|"]
lines += [f"| {' | '.join(row)} |" for row in ROWS]
(HERE / "goals.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
