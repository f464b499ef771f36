"""What a benchmark says: as text on the screen, and as JSON for the documentation."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from .harness import Row

DISTRIBUTIONS = (
    "chrono-core",
    "chrono-recipes",
    "chrono-zmq",
    "chrono-daemon",
    "anyio",
    "trio",
    "simpy",
    "uvloop",
    "looptime",
    "async-solipsism",
    "simloom",
    "seedloop",
    "pyzmq",
    "msgspec",
)


def machine() -> dict[str, str]:
    """What the benchmark runs on."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg())
        if hasattr(os, "getloadavg")
        else "not known",
    }


def versions() -> dict[str, str]:
    """What is installed of everything that takes part."""
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def heading() -> str:
    """The machine and the versions, in one line each."""
    return "\n".join(
        " · ".join(f"{name} {value}" for name, value in facts.items())
        for facts in (machine(), versions())
    )


def block(rows: Sequence[Row]) -> str:
    """The rows of one case."""
    first = rows[0]
    lines = [
        f"{first.name} [{first.backend}]   {first.unit}, {first.rounds} rounds of {first.work:,}"
    ]
    lines += [
        f"  beside {row.peer_name:24} ours {figure(row.ours):>10}   peer {figure(row.peer):>10}"
        f"   ratio {row.ratio.median:6.2f} ({row.ratio.min:.2f} to {row.ratio.max:.2f})"
        for row in rows
    ]
    lines += [
        f"  goal: {verdict.goal}: {figure(verdict.value)}, {'met' if verdict.met else 'MISSED'}"
        for row in rows
        for verdict in row.verdicts
    ]
    if len(first.growth) > 1:
        works = " → ".join(f"{point.work:,}" for point in first.growth)
        lines.append(f"  growth, {first.cost_unit} at {works}")
        lines.append(_growth("ours", [point.ours for point in first.growth]))
        lines += [_growth(row.peer_name, [point.peer for point in row.growth]) for row in rows]
    return "\n".join(lines)


def write_json(file: Path, benchmarks: Mapping[str, Iterable[Row]]) -> None:
    """Everything that was printed, for whoever makes tables of it."""
    content = {
        "machine": machine(),
        "versions": versions(),
        "benchmarks": {name: [asdict(row) for row in rows] for name, rows in benchmarks.items()},
    }
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _growth(name: str, costs: Sequence[float | None]) -> str:
    steps = " → ".join("—" if cost is None else figure(cost) for cost in costs)
    known = [cost for cost in costs if cost is not None]
    bend = f"   ×{known[-1] / known[0]:.2f}" if len(known) > 1 else ""
    return f"    {name:24} {steps}{bend}"


def figure(value: float) -> str:
    """A figure of three digits or more."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
