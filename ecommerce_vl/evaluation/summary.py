"""The summary: the main number of each row of an evaluation as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.tables import interval, number, tables


def summary(results: Results) -> str:
    """A line a row of the report's short tables: the model's value with its interval, and its baselines'."""
    lines: list[tuple[str, ...]] = []
    for table in tables(results.metrics):
        for row in table.short:
            metric = next(name for name in table.short_metrics if name in row.entries)
            entry = row.entries[metric]
            beside = ", ".join(f"{name} {number(one['value'])}" for name, one in row.baselines.items())
            value, count = f"{number(entry['value'])} {interval(entry)}", f"n {entry.get('n', 0):,}"
            lines.append((f"{table.task} · {row.label}", metric, value, count, f"({beside})" if beside else ""))
        if hidden := sum(row.is_model for row in table.rows) - len(table.short):
            lines.append((f"{table.task} · …", f"{hidden} rows more in the report and metrics.json"))
    whole = [line for line in lines if len(line) > 2]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)][:-1] if whole else []
    in_columns = lambda line: "  ".join(part.ljust(width) for part, width in zip(line, [*widths, 0], strict=False))
    aligned = [in_columns(line).rstrip() for line in lines]
    skipped = [f"skipped  {_in_braces(keys)}: {reason}" for reason, keys in results.skipped_by_reason().items()]
    return "\n".join(aligned + skipped)


def _in_braces(keys: Sequence[str]) -> str:
    """Keys that differ in their last part together, as a shell writes them: same_product/{image,text}, query."""
    lasts: dict[str, list[str]] = {}
    for key in keys:
        task, _, last = key.rpartition("/")
        lasts.setdefault(task, []).append(last)
    found = []
    for task, names in lasts.items():
        some = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
        found.append(f"{task}/{some}" if task else ", ".join(names))
    return ", ".join(found)
