"""Paired differences: against the plain bootstrap of differences, for shared queries only, with groups drawn whole."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import bootstrap, comparison
from ecommerce_vl.evaluation.results import Results


def save(folder, products, **per_query):
    folder.mkdir()
    results = Results(products=products)
    results.per_query.update({name.replace("__", "/"): values for name, values in per_query.items()})
    comparison.save(folder, results)
    return folder


def test_differences_are_paired_by_id_with_correlated_listings_together(splits, tmp_path):
    test, random = splits["test"], np.random.default_rng(0)
    order = random.permutation(60)
    base = random.random(60)
    better = np.clip(base + 0.1 + 0.01 * random.normal(size=60), 0, 2)
    first = save(tmp_path / "a", test, same_product__text={"mrr": base, "rows": np.arange(60)})
    second = save(tmp_path / "b", test.take(order), same_product__text={"mrr": better[order], "rows": np.arange(60)})
    found = comparison.compare(first, second)["same_product/text/mrr"]
    ids = np.argsort(np.array(test.ids))
    expected = bootstrap.mean_intervals({"x": (better - base)[ids]}, groups=test.components()[ids])["x"]
    assert (found["difference"], found["low"], found["high"], found["n"]) == pytest.approx(
        (expected.value, expected.low, expected.high, 60), abs=1e-12
    )
    assert found["first"] == pytest.approx(base.mean()) and found["second"] == pytest.approx(better.mean())
    # Paired, a difference of 0.1 stands out of values that spread over 0.3 and more.
    assert found["low"] > 0.09
    same = comparison.compare(first, first)["same_product/text/mrr"]
    assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)


def test_only_shared_queries_and_metrics_count_and_undefined_values_do_not(splits, tmp_path):
    test = splits["test"]
    first = save(
        tmp_path / "a",
        test.take(range(40)),
        t__x={"hit@1": np.arange(40.0), "old": np.ones(40), "rows": np.arange(40)},
        query__text={"ndcg@10": np.array([0.5, np.nan, 1.0]), "rows": np.full(3, -1), "ids": np.array(["a", "b", "c"])},
    )
    second = save(
        tmp_path / "b",
        test.take(range(20, 60)),
        t__x={"hit@1": np.zeros(40), "new": np.ones(40), "rows": np.arange(40)},
        query__text={"ndcg@10": np.array([0.0, 1.0]), "rows": np.full(2, -1), "ids": np.array(["c", "b"])},
    )
    found = comparison.compare(first, second)
    assert set(found) == {"t/x/hit@1", "query/text/ndcg@10"}
    assert found["t/x/hit@1"]["n"] == 20 and found["t/x/hit@1"]["difference"] == -np.arange(20, 40).mean()
    assert found["query/text/ndcg@10"]["n"] == 1 and found["query/text/ndcg@10"]["difference"] == -1.0


def test_what_cannot_be_compared_is_said(splits, tmp_path):
    test = splits["test"]
    first = save(tmp_path / "a", test, t={"hit@1": np.ones(60), "rows": np.arange(60)})
    strangers = replace(test, ids=[f"x{name}" for name in test.ids])
    second = save(tmp_path / "b", strangers, t={"hit@1": np.ones(60), "rows": np.arange(60)})
    with pytest.raises(UserError, match="share no query of any metric"):
        comparison.compare(first, second)
    with pytest.raises(UserError, match=r"no per_query.parquet in .*/c; evaluate again"):
        comparison.compare(first, tmp_path / "c")
