"""What differs between two evaluations, as a page and as lines: both values, their paired difference, its interval.

The invariant: a difference is called one only where its interval leaves out zero; the page shows all of them, and how
many of so many intervals would leave it out by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ecommerce_vl import pages
from ecommerce_vl.evaluation import tables
from ecommerce_vl.files import write_text

CHANCE = 0.05  # share of 95 % intervals that leave out zero where nothing differs


def rows(differences: Mapping[str, Mapping]) -> list[dict]:
    """{task, label, metric, first, second, difference, low, high, n, side} of each key, baselines last in their task.

    side: "b" where B's value is the higher one beyond doubt, "a" where A's is, "" where the interval holds zero.
    """
    found = []
    for key, one in differences.items():
        task, *parts, metric = key.split("/")
        base, baseline = tables.without_baseline(tuple(parts))
        found.append(
            dict(one)
            | {
                "task": task,
                "label": " · ".join(map(tables.named, [*base, *([baseline] if baseline else [])])),
                "metric": tables.named(metric),
                "baseline": bool(baseline),
                "side": "b" if one["low"] > 0 else "a" if one["high"] < 0 else "",
            }
        )
    order = list(tables.TASKS)
    place = lambda task: order.index(task) if task in order else len(order)
    return sorted(found, key=lambda row: (place(row["task"]), row["task"], row["baseline"]))


def write(path: Path, a: Path, b: Path, differences: Mapping[str, Mapping]) -> None:
    """Writes the page to `path`."""
    environment = pages.environment(Path(__file__).parent)
    environment.filters |= {"number": tables.number, "interval": tables.interval}
    found = rows(differences)
    by_task: dict[str, list[dict]] = {}
    for row in found:
        by_task.setdefault(tables.describe(row["task"])[0], []).append(row)
    text = environment.get_template("comparison.html").render(
        a=str(a),
        b=str(b),
        tasks=by_task,
        counts={side: sum(row["side"] == side for row in found) for side in ("a", "b", "")},
        by_chance=round(CHANCE * len(found)),
    )
    write_text(path, text)


def summary(a: Path, b: Path, differences: Mapping[str, Mapping]) -> str:
    """A line for each number of a model whose interval leaves out zero, and how many do not."""
    found = [row for row in rows(differences) if not row["baseline"]]
    lines = [
        f"{row['task'] + ' · ' + row['label']:44s} {row['metric']:12s} {tables.number(row['first'])} > "
        f"{tables.number(row['second'])}  {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]  "
        f"n {row['n']:,}"
        for row in found
        if row["side"]
    ]
    same = len(found) - len(lines)
    return "\n".join([*lines, f"compared {len(found)} numbers of {a} and {b}; {same} have an interval with zero in it"])
