"""The summary: the headline numbers of an evaluation as a few lines for the terminal."""

from __future__ import annotations

from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.suite import BASELINES

# One metric a setting; the report and metrics.json hold all of them.
HEADLINE = {"image_text": "hit@10", "same_product": "hit@1", "same_style": "hit@1", "category": "top1"}


def summary(results: Results) -> str:
    """A line a setting: the model's value with its interval, and the baselines measured on the same pool."""
    lines = []
    for key, entry in results.metrics.items():
        task, *middle, metric = key.split("/")
        if metric != HEADLINE.get(task) or set(middle) & set(BASELINES):
            continue
        beside = [
            f"{name} {results.metrics[other]['value']:.3f}"
            for name in BASELINES
            for other in (_baseline_key(task, middle, name, metric),)
            if other in results.metrics
        ]
        line = (
            f"{'/'.join([task, *middle]):28s} {metric:7s} {entry['value']:.3f} "
            f"[{entry['low']:.3f}, {entry['high']:.3f}]  n {entry['n']:,} of {entry['candidates']:,}"
        )
        lines.append(line + (f"  ({', '.join(beside)})" if beside else ""))
    lines += [f"skipped  {name}: {reason}" for name, reason in results.skipped.items()]
    return "\n".join(lines)


def _baseline_key(task: str, middle: list[str], name: str, metric: str) -> str:
    """Where a baseline's value lies: before the probe in category, last in retrieval."""
    if task != "category":
        return "/".join([task, *middle, name, metric])
    return f"{task}/{name}/{metric}" if name == "majority" else "/".join([task, middle[0], name, middle[-1], metric])
