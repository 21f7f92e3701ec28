"""What an evaluation found: numbers by key, what could not be measured and why, and what to show of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecommerce_vl.evaluation.products import EmbeddedProducts


@dataclass(frozen=True)
class Results:
    """What was measured on a split.

    products: the measured split;
    metrics: "task/setting/…/metric" -> {value, low, high, n, candidates, coverage, …}, JSON-ready; low and high are
      None where a metric has no interval;
    skipped: task/setting[/baseline] -> why it was not measured;
    grids: setting -> examples for the report, as rows of `products`;
    figures: setting -> what else the report draws of it (a curve, a confusion table, clusters), of `figures.py`;
    per_query: task/setting/… -> {metric: float (Q,)} of each query, plus "rows", int (Q,): the products that ask; where
      words ask, -1, and "ids" and "groups" (Q,) of the queries, the latter equal where they are drawn as one.
    """

    products: EmbeddedProducts
    metrics: dict[str, dict] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    grids: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    per_query: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def add(self, prefix: str, measured: dict[str, dict]) -> None:
        """Notes {metric: entry} under "prefix/metric"."""
        self.metrics.update({f"{prefix}/{name}": entry for name, entry in measured.items()})

    def skip(self, key: str, reason: str) -> None:
        """Notes why `key` has no number."""
        self.skipped[key] = reason

    def skipped_by_reason(self) -> dict[str, list[str]]:
        """Reason -> the keys that it keeps from a number, both in the order in which they came."""
        grouped: dict[str, list[str]] = {}
        for key, reason in self.skipped.items():
            grouped.setdefault(reason, []).append(key)
        return grouped
