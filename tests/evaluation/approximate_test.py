"""An approximate index beside exact search: what it finds at full effort, what it loses, the same numbers twice."""

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import approximate, search
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.exporting.index import in_memory, require_library


def unit_rows(count, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def run(splits, **known):
    results = Results(products=splits["test"])
    approximate.run(
        Context(test=splits["test"], train=splits["train"], validation=splits["validation"], **known), results
    )
    return results


def test_more_effort_finds_more_and_enough_finds_all():
    pytest.importorskip("usearch")
    gallery, queries = unit_rows(3000, 32, 0), unit_rows(100, 32, 1)
    exact, _ = search.top_k(queries, gallery=gallery, gallery_ids=[f"{i:04d}" for i in range(3000)], k=10)
    first, again = in_memory(gallery), in_memory(gallery)
    found = {effort: first(queries, 10, effort) for effort in (8, 64, 2000)}
    little, some, most = (approximate.recall(rows, exact=exact).mean() for rows in found.values())
    assert little < some < most and little < 0.9 and most > 0.999
    for effort, rows in found.items():
        np.testing.assert_array_equal(rows, again(queries, 10, effort))


def test_self_leaves_by_row_and_lists_keep_one_length():
    rows = np.array([[0, 5, 7], [5, 1, 7], [5, 7, 8]])
    assert approximate.without_self(rows, own=np.arange(3)).tolist() == [[5, 7], [5, 7], [5, 7]]
    exact = np.array([[5, 9], [-1, -1], [7, 5]])
    assert approximate.recall(rows[:, 1:], exact=exact).tolist() == [0.5, 0.0, 0.5]


def test_the_family_measures_only_when_asked(splits):
    pytest.importorskip("usearch")
    assert not run(splits).metrics
    results = run(splits, index=in_memory)
    entry = results.metrics["approximate/effort=256/recall@10"]
    assert entry["value"] > 0.99 and (entry["n"], entry["candidates"]) == (60, 219)
    assert [len(series) for series in results.figures["approximate"].series.values()] == [3, 3]
    few = {name: part.take(range(10)) for name, part in splits.items()}
    assert "30 products have vectors" in run(few, index=in_memory).skipped["approximate"]


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--approximate needs usearch.*pip install ecommerce_vl\[ann\]"):
        require_library("usearch", flag="--approximate")
