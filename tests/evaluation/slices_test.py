"""A slice is the mean of its own queries, and together the slices of a dimension are the whole."""

import numpy as np
import pytest

from ecommerce_vl.evaluation import slices
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.tables import SLICE


@pytest.fixture
def sliced(splits):
    products = splits["test"]
    results = Results(products=products)
    rows = np.arange(len(products))[::-1]
    top1 = (np.arange(len(products)) % 3 == 0).astype(float)
    results.per_query["category/product/linear"] = {"rows": rows, "top1": top1}
    results.per_query["category/product/random/linear"] = {"rows": rows, "top1": top1}
    results.per_query["query/all"] = {"ndcg@10": top1}  # words ask, not products
    slices.add(results)
    return results, rows, top1


def test_each_slice_is_the_mean_of_its_queries(sliced):
    results, rows, top1 = sliced
    products = results.products
    assert all(key.startswith("category/product/linear/top1/slice=") for key in results.metrics)
    title = products.present("text")[rows] & ~products.present("image")[rows]
    entry = results.metrics[f"category/product/linear/top1{SLICE}modality:title only"]
    assert entry["value"] == pytest.approx(top1[title].mean()) and entry["n"] == title.sum()
    assert entry["low"] <= entry["value"] <= entry["high"]


def test_the_slices_of_a_dimension_make_up_the_whole(sliced, monkeypatch):
    results, _, top1 = sliced
    assert not any(key.endswith("picture only") for key in results.metrics), "they are four"
    monkeypatch.setattr(slices, "MIN_QUERIES", 1)
    slices.add(results)
    parts = [entry for key, entry in results.metrics.items() if f"{SLICE}modality:" in key]
    assert sum(one["n"] for one in parts) == len(top1)
    assert sum(one["n"] * one["value"] for one in parts) == pytest.approx(top1.sum())


def test_errors_at_adult_products_are_told_by_leaf_category(splits):
    results = Results(products=splits["test"])
    rows = np.arange(len(splits["test"]))
    error = (rows % 4 == 0).astype(float)
    results.per_query["adult/image/linear"] = {"rows": rows, "error": error}
    slices.add(results)
    leaves = np.array([path.split(" > ")[-1] for path in splits["test"].category_paths])
    for leaf in set(leaves):
        entry = results.metrics[f"adult/image/linear/error{SLICE}leaf:{leaf}"]
        assert entry["value"] == pytest.approx(error[leaves == leaf].mean()) and entry["n"] == (leaves == leaf).sum()


def test_a_dimension_of_one_value_and_a_slice_of_few_queries_are_left_out(sliced, splits):
    results, *_ = sliced
    assert not any("language:" in key or "category:" in key.partition(SLICE)[2] for key in results.metrics)
    known = slices.dimensions(splits["test"])
    assert set(known["language"]) == {"en"} and set(known["category"]) == {"Home"}
    assert set(known["group size"]) == {"6 and more"}
    few = Results(products=splits["test"])
    few.per_query["category/product/linear"] = {"rows": np.array([0, 1, 2, 5]), "top1": np.ones(4)}
    slices.add(few)
    assert few.metrics == {}
