#!/usr/bin/env python3
"""Compares what was measured with what we aim at: reads the .json files beside it, writes goals.md.

Every goal is a bound on a ratio within one run. What a run did not measure is said to be missing.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).parent


def cells(name):
    path = HERE / f"{name}.json"
    return json.loads(path.read_text())["cells"] if path.exists() else []


ALL = cells("vs_peers") + cells("vs_raw")


def find(cells=ALL, **wanted):
    return [cell for cell in cells if all(cell.get(key) == value for key, value in wanted.items())]


def describe(cell):
    size = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}.get(cell["payload_bytes"], cell["payload_bytes"])
    return f"{cell['conns']}×{cell['depth']} {cell['transport']} {size} {cell['idle']}"


def against(cells, peer, figure):
    """The ratios of a figure to that of a peer, each with the cell it is of."""
    found = [(cell["against"].get(peer, {}).get(figure), describe(cell)) for cell in cells]
    return [(ratio, cell) for ratio, cell in found if ratio is not None]


def rate_ratio(cell, other):
    pairs = [(cell["calls_per_s"] / other["calls_per_s"], describe(cell))] if cell and other else []
    return pairs


ROWS = []


def goal(what, bound, ratios, at_least):
    """The worst of the ratios decides."""
    if not ratios:
        ROWS.append((what, bound, "not measured", "–"))
        return
    worst, cell = (min if at_least else max)(ratios)
    reached = worst >= bound if at_least else worst <= bound
    sign = "≥" if at_least else "≤"
    count = f", the worst of {len(ratios)}" if len(ratios) > 1 else ""
    ROWS.append((what, f"{sign} {bound:.3g}", f"{worst:.3g} ({cell}{count})", "yes" if reached else "**no**"))


small = find(peer="ringcall", workload="echo", payload_bytes=64)
tcp = [cell for cell in small if cell["transport"] == "tcp"]


def at(cells, conns, depth):
    return find(cells, conns=conns, depth=depth)


goal("rate against the raw io_uring echo, every cell of 64 B", 0.95, against(small, "raw", "calls_per_s"), True)
goal("rate against tonic, 64×1", 4, against(at(tcp, 64, 1), "tonic", "calls_per_s"), True)
goal("rate against tonic, 64×16", 30, against(at(tcp, 64, 16), "tonic", "calls_per_s"), True)
goal("server CPU per call against raw, every cell of 64 B", 1.1, against(small, "raw", "server_cpu_us_per_call"), False)
goal("server CPU per call against tonic, 64×1", 1 / 3, against(at(tcp, 64, 1), "tonic", "server_cpu_us_per_call"), False)
unix = [cell for cell in small if cell["transport"] == "unix"]
goal("the same over a unix socket", 1 / 5, against(at(unix, 64, 1), "tonic", "server_cpu_us_per_call"), False)
goal("server CPU per call against tonic, 64×16", 1 / 25, against(at(tcp, 64, 16), "tonic", "server_cpu_us_per_call"), False)
spinning = [cell for cell in at(tcp, 1, 1) if cell["idle"] == "spin"]
goal("spinning 1×1, p50 against raw", 1.1, against(spinning, "raw", "p50_us"), False)
goal("spinning 1×1, p99 against raw", 1.5, against(spinning, "raw", "p99_us"), False)
pairs = [
    pair
    for cell in at(unix, 64, 16)
    for other in find(at(tcp, 64, 16), idle=cell["idle"])
    for pair in rate_ratio(cell, other)
]
goal("unix socket against TCP, 64×16", 1.8, pairs[:1], True)
large = find(peer="ringcall", workload="echo", payload_bytes=1 << 20)
goal("1 MiB bodies against raw", 0.9, against(large, "raw", "calls_per_s"), True)
counted = [
    (cell["allocations_per_call"], describe(cell))
    for cell in small
    if cell.get("allocations_per_call") is not None
]
goal("allocations per unary call on the server", 0.01, counted, False)
tokio = find(peer="ringcall-tokio", workload="echo", payload_bytes=64, transport="tcp")
goal("tokio client against tonic's, 64×16", 8, against(at(tokio, 64, 16), "tonic", "calls_per_s"), True)
epoll = find(peer="ringcall-epoll", workload="echo", payload_bytes=64)
goal("epoll fallback against the raw epoll echo", 0.85, against(epoll, "raw-epoll", "calls_per_s"), True)

lines = ["| Goal | Bound | Measured | Reached |", "|:--|--:|--:|:--|"]
lines += [f"| {' | '.join(str(part) for part in row)} |" for row in ROWS]
(HERE / "goals.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
