"""`python -m tests.bench.tables`: the page of figures, made of what the benchmarks wrote.

Each file in `docs/benchmarks/` is what one run wrote with `--json`. No figure of the page is typed
by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from .report import figure

DOCS = Path(__file__).parents[2] / "docs"
RUNS = DOCS / "benchmarks"
PAGE = DOCS / "benchmarks.md"

TITLES = {
    "clock": "Clocks",
    "channel": "Channels",
    "supervisor": "Supervisors",
    "recipes": "Recipes",
    "simulation": "Simulating whole programs",
    "zmq": "Between processes",
    "import_time": "Importing",
}

HEAD = """\
# Figures

This page is generated from what `hatch run bench:all --json FILE` wrote. In each row, our side and
one peer did the same work in turns, in one process, and the answers of both were checked. *Times*
is the peer's cost over ours, as the median of the rounds with the least and the most: above 1 we
are ahead, and where we are behind, the row is in italics. A *goal* was set before the work was
done.

The machines that this ran on are shared and noisy: trust the ratios, not the absolute figures. To
measure on yours: `hatch run bench:all`, or one part of it, as `hatch run bench:clock --quick`.
"""


def page() -> str:
    """The whole page."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RUNS.glob("*.json"))]
    parts = [HEAD]
    for name, title in TITLES.items():
        found = [(run, run["benchmarks"][name]) for run in runs if run["benchmarks"].get(name)]
        if found:
            parts.append(f"## {title}\n")
        for run, rows in found:
            parts.append(_facts(run))
            parts.append(_table(rows))
            if any(len(row["growth"]) > 1 for row in rows):
                parts.append(_growth(rows))
    return "\n".join(parts)


def _facts(run: dict[str, Any]) -> str:
    machine = " · ".join(f"{name} {value}" for name, value in run["machine"].items())
    versions = " · ".join(
        f"{name} {value}" for name, value in run["versions"].items() if value != "not installed"
    )
    return f"{machine}  \n{versions}\n"


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| what | backend | unit | ours | beside | theirs | times | goal |",
        "|---|---|---|---:|---|---:|---:|---|",
    ]
    for row in rows:
        ratio = row["ratio"]
        times = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        cells = [
            row["name"],
            row["backend"],
            row["unit"],
            figure(row["ours"]),
            row["peer_name"],
            figure(row["peer"]),
            times,
        ]
        if ratio["median"] < 1:
            cells = [f"*{cell}*" for cell in cells]
        goals = "; ".join(
            f"{verdict['goal']}: {figure(verdict['value'])}, "
            + ("met" if verdict["met"] else "**missed**")
            for verdict in row["verdicts"]
        )
        lines.append(f"| {' | '.join(cells)} | {goals} |")
    return "\n".join(lines) + "\n"


def _growth(rows: list[dict[str, Any]]) -> str:
    """What one unit of work costs, over two orders of magnitude of work."""
    lines = [
        "What one unit of work costs where there is a tenth of it, and where there is ten times as "
        "much; a bend would show:\n",
        "| what | backend | unit | who | a tenth | as above | ten times |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {backend} | {unit} | {who} | {' | '.join(costs)} |"
        for (name, backend, unit), of_case in groupby(
            rows, key=lambda row: (row["name"], row["backend"], row["cost_unit"])
        )
        for who, costs in _costs(list(of_case))
    ]
    return "\n".join(lines) + "\n"


def _costs(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    if len(rows[0]["growth"]) < 2:
        return
    yield "ours", [_cost(point["ours"]) for point in rows[0]["growth"]]
    for row in rows:
        yield row["peer_name"], [_cost(point["peer"]) for point in row["growth"]]


def _cost(cost: float | None) -> str:
    return "not run" if cost is None else figure(cost)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
