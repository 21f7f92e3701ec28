"""The summary: the main number of each row of an evaluation as a few lines for the terminal."""

from __future__ import annotations

from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.tables import interval, number, tables


def summary(results: Results) -> str:
    """A line a row of the report's short tables: the model's value with its interval, and its baselines'."""
    lines = []
    for table in tables(results.metrics):
        for row in table.short:
            metric = next(name for name in table.short_metrics if name in row.entries)
            entry = row.entries[metric]
            beside = ", ".join(f"{name} {number(one['value'])}" for name, one in row.baselines.items())
            lines.append(
                f"{table.task + ' · ' + row.label:52s} {metric:9s} {number(entry['value'])} {interval(entry):12s}  "
                f"n {entry.get('n', 0):,}" + (f"  ({beside})" if beside else "")
            )
        if hidden := sum(row.is_model for row in table.rows) - len(table.short):
            lines.append(f"{table.task + ' · …':52s} {hidden} rows more in the report and metrics.json")
    lines += [f"skipped  {name}: {reason}" for name, reason in results.skipped.items()]
    return "\n".join(lines)
