"""The same queries in ever larger galleries: the pools, and that more products only make it harder."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import product_retrieval, retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def run(splits):
    results = Results(products=splits["test"])
    for task in ("image_text", "same_product", "same_style"):
        product_retrieval.run(Context(**splits), results, task=task)
    return results


def test_larger_galleries_keep_the_queries_and_never_help(splits, monkeypatch):
    """They are of all splits: 60 products are measured, 160 are distractors at most."""
    monkeypatch.setattr(product_retrieval, "GALLERY_SIZES", (20, 40, 1000))
    apart = lambda keys, number: np.where(keys >= 0, keys + 1000 * number, keys)  # each split has products of its own
    parts = {
        name: replace(part, catalog_keys=apart(part.catalog_keys, n), group_keys=apart(part.group_keys, n))
        for n, (name, part) in enumerate(splits.items())
    }
    results = run(parts)
    for task, per_group in (("same_product", 2), ("same_style", 6)):
        entries = [results.metrics[f"{task}/product/gallery={size}/hit@10"] for size in (20, 40, 220)]
        assert [entry["candidates"] for entry in entries] == [19, 39, 219]
        assert entries[-1]["distractors"] == 160 / 220, "all products of the other splits"
        assert len({entry["n"] for entry in entries}) == 1 and 0 < entries[0]["n"] <= 10
        assert {entry["mean_relevant"] for entry in entries} == {per_group - 1}
        values = [entry["value"] for entry in entries]
        assert values == sorted(values, reverse=True)
        points = results.figures[f"{task}/product/gallery"].series["hit@10"]
        assert [point[0] for point in points] == [20.0, 40.0, 220.0] and [point[1] for point in points] == values


def test_a_catalog_below_the_smallest_size_has_no_curve_and_queries_keep_their_values(splits):
    results = run(splits)
    assert not results.figures and not any("gallery=" in key for key in results.metrics)
    kept = results.per_query["same_product/product"]
    assert set(kept) == {*retrieval.SAME, "tie_rate@10", "rows"}
    assert results.metrics["same_product/product/mrr"]["value"] == pytest.approx(np.mean(kept["mrr"]), abs=1e-12)
