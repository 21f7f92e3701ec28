"""The promised keys, shared pools, reasons for what is skipped, determinism."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecommerce_vl.evaluation import context, suite


@pytest.fixture(scope="module")
def results(splits, known):
    return suite.run(splits["test"], train=splits["train"], validation=splits["validation"], **known)


def test_every_promised_key_is_measured_with_its_interval(results):
    for key in (
        "image_text/i2t/hit@1", "image_text/i2t/hit@10", "image_text/t2i/mrr", "image_text/i2t/random/hit@1",
        "same_product/product/hit@1", "same_product/image/map_at_r", "same_product/text/tfidf/hit@1",
        "same_product/image/colour_histogram/hit@1", "same_product/product/random/recall@10",
        "same_style/product/mrr", "category/image/linear/top1", "category/product/knn/macro_f1",
        "category/text/linear/balanced_accuracy", "category/image/colour_histogram/linear/top1",
        "category/text/tfidf/linear/top5", "category/majority/top1",
        "category/image/zero_shot/hier_f1", "category/text/tfidf/zero_shot/top1", "category/image/linear/top1_depth1",
        "category/image/colour_edges/knn/weighted_f1", "image_text/t2i/untrained/hit@10",
        "category/text/random/knn/top1", "attributes/mean/product/linear/micro_f1", "adult/product/linear/pr_auc",
        "matching/hard_pairs/product/mlp/recall_at_precision_0.99",
        "clustering/same_product/product/average_linkage/bcubed_f1",
    ):  # fmt: skip
        entry = results.metrics[key]
        assert {"value", "low", "high", "n", "candidates", "coverage"} <= set(entry), key
        assert 0.0 <= entry["low"] <= entry["high"] <= 1.0, key
    # No judgements, no index that was asked for, and an encoder that composes nothing.
    assert set(results.skipped) == {"query", "clicked_pairs", "approximate", "composed/joint"}
    chosen = results.metrics["category/text/linear/top1"]
    assert (chosen["C"], chosen["whitened"]) == (1000.0, True)
    json.dumps(results.metrics, allow_nan=False)


def test_every_key_is_explained(results):
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    general = ((r"@\d+$", "@k"), (r"_depth\d+$", "_depthN"), (r"_0\.\d+$", "_p"))
    for key, entry in results.metrics.items():
        task, *_, metric = key.split("/slice=")[0].split("/")
        for pattern, name in general:
            metric = re.sub(pattern, name, metric)
        unknown = [name for name in (task, metric, *entry) if f"`{name}`" not in page]
        assert not unknown, f"docs/metrics.md does not name {unknown} of {key}"


def test_baselines_share_the_pool_of_the_model(results):
    for key, entry in results.metrics.items():
        parts = key.split("/")
        if parts[-1] == "precision_at_coverage":  # only where a method was sure of anything
            continue
        if set(parts) & {"random", "tfidf", "colour_histogram", "colour_edges", "untrained"}:
            kept = [part for part in parts if part not in context.BASELINES]
            model = results.metrics["/".join(kept)]
            for shared in ("n", "candidates", "coverage"):
                assert entry[shared] == model[shared], (key, shared)


def test_the_model_beats_chance_and_words_find_colour_and_shape(results):
    value = {key: entry["value"] for key, entry in results.metrics.items()}
    assert value["image_text/i2t/hit@10"] > 0.8 > 0.5 > value["image_text/i2t/random/hit@10"]
    assert value["same_product/text/tfidf/hit@1"] == 1.0  # the two listings have the same words
    assert value["category/text/tfidf/linear/top1"] == 1.0
    assert value["category/majority/top1"] == pytest.approx(20 / 60)


def test_the_same_seed_gives_the_same_results_and_progress_is_told(splits, known, results):
    told = []
    again = suite.run(
        splits["test"],
        train=splits["train"],
        validation=splits["validation"],
        **known,
        progress=lambda done, total, name: told.append((done, total, name)),
    )
    assert again.metrics == results.metrics and again.grids == results.grids
    assert [done for done, _, _ in told] == list(range(len(suite.TASKS) + 1)) and told[-1][2] == "done"


def test_chosen_families_have_the_numbers_of_all(splits, known, results):
    parts = {name: splits[name] for name in ("train", "validation")}
    some = suite.run(splits["test"], **parts, **known, tasks=["category", "clustering"])
    assert some.metrics == {k: v for k, v in results.metrics.items() if k.startswith(("category/", "clustering/"))}
    assert set(suite.TASKS) - set(some.skipped) == {"category", "clustering"}
    assert some.skipped["matching"] == "it was not asked for"


def test_a_catalog_without_pictures_and_without_relations_is_measured_as_far_as_it_goes(splits):
    bare = {
        name: replace(
            part,
            images=[None] * len(part),
            catalog_keys=np.full(len(part), -1),
            group_keys=np.full(len(part), -1),
            vectors={"text": part.vectors["text"], "product": part.vectors["product"]},
        )
        for name, part in splits.items()
    }
    results = suite.run(bare["test"], train=bare["train"], validation=bare["validation"])
    assert results.skipped["image_text/t2i"] == "no product has a vector of its image"
    assert results.skipped["same_product/image"] == "no product has a vector of its image"
    assert "known to be the same product" in results.skipped["same_product/text"]
    assert "category/image" in results.skipped
    assert {key.split("/")[0] for key in results.metrics} == {"category", "attributes", "adult"}
    assert list(results.grids) == ["category/product"], "shown by leaf where no listings are related"


def test_pictures_that_cannot_be_read_leave_the_baseline_out_and_say_so(splits):
    broken = replace(splits["test"], images=[b"<html>", *splits["test"].images[1:]])
    results = suite.run(broken, train=splits["train"], validation=splits["validation"])
    assert "same_product/image/colour_histogram/hit@1" not in results.metrics
    assert results.skipped["same_product/image/colour_histogram"].startswith("1 products that the model has")
    assert results.metrics["same_product/image/hit@1"]["n"] > 0


def test_empty_train_and_validation_skip_only_the_category_task(splits):
    empty = splits["train"].take(np.array([], int))
    results = suite.run(splits["test"], train=empty, validation=empty)
    assert not any(key.startswith("category") for key in results.metrics)
    assert "training has 0 categories" in results.skipped["category/text"]
    assert results.metrics["image_text/i2t/hit@1"]["n"] > 0
