"""Unknown is neither yes nor no, and every choice is made before the test rows are seen."""

from dataclasses import replace

import numpy as np

from ecommerce_vl.evaluation import adult
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def shelf(products, *, unknown):
    """Balls are adult; every `unknown`-th product does not say."""
    answers = ["yes" if path.endswith("ball") else "no" for path in products.category_paths]
    return replace(products, adult=["unknown" if row % unknown == 0 else one for row, one in enumerate(answers)])


def run(parts, **known):
    results = Results(products=parts["test"])
    adult.run(Context(**parts, **known), results)
    return results


def test_adult_products_are_found_and_unknown_ones_are_left_out(splits, known):
    parts = {name: shelf(products, unknown=4) for name, products in splits.items()}
    results = run(parts, **known)
    entry = results.metrics["adult/product/linear/pr_auc"]
    assert entry["n"] == 45 and entry["value"] > 0.9 > results.metrics["adult/product/random/linear/pr_auc"]["value"]
    assert entry["prevalence"] == np.mean([one == "yes" for one in parts["test"].adult if one != "unknown"])
    assert {"ridge", "threshold", "coverage", "low", "high"} <= set(entry)
    assert results.metrics["adult/text/zero_shot/f1"]["prompt"] in (*adult.PROMPTS, "mean of all")
    assert "adult/image/colour_edges/linear/recall_at_precision_0.99" in results.metrics
    assert "adult/text/tfidf/linear/fpr_at_recall_0.99" in results.metrics
    figure = results.figures["adult/product/linear"]
    assert len(figure.right) == 45 and figure.threshold == entry["threshold"]

    # What an unknown product looks like changes nothing.
    moved = {}
    for name, products in parts.items():
        vectors = {view: rows.copy() for view, rows in products.vectors.items()}
        for rows in vectors.values():
            hidden = np.array([one == "unknown" for one in products.adult]) & np.isfinite(rows).all(axis=1)
            rows[hidden] = np.eye(rows.shape[1])[0]
        moved[name] = replace(products, vectors={"product": vectors["product"]})
    again = run(moved)
    assert again.metrics["adult/product/linear/f1"] == results.metrics["adult/product/linear/f1"]


def test_a_split_without_adult_products_is_skipped_by_name(splits, known):
    parts = {name: shelf(products, unknown=100) for name, products in splits.items()}
    parts["validation"] = replace(parts["validation"], adult=["no"] * len(parts["validation"]))
    results = run(parts, **known)
    assert not results.metrics
    assert results.skipped["adult/text"].startswith("validation has 0 adult and")
