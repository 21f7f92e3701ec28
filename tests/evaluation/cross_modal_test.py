"""Nine directions over one pool; what the gap measures, against its formulas; what is said of lesser catalogs."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import cross_modal, retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def run(splits, test):
    results = Results(products=test)
    cross_modal.run(Context(test=test, train=splits["train"], validation=splits["validation"]), results)
    return results


@pytest.fixture(scope="module")
def results(splits):
    return run(splits, splits["test"])


def test_all_directions_have_one_pool_and_agree_with_the_plain_task_on_it(splits, results):
    test = splits["test"]
    both = test.take(test.present("image") & test.present("text"))
    for direction in ("i2i", "i2t", "i2m", "t2i", "t2t", "t2m", "m2i", "m2t", "m2m"):
        entry, random = (results.metrics[f"cross_modal/{direction}{part}/hit@10"] for part in ("", "/random"))
        assert {key: entry[key] for key in ("n", "candidates")} == {key: random[key] for key in ("n", "candidates")}
        assert (entry["n"], entry["candidates"]) == (results.metrics["cross_modal/m2m/mrr"]["n"], len(both) - 1)
    setting = next(one for one in retrieval.SETTINGS if one.key == "same_product/image")
    pool = retrieval.pool(both, setting=setting)
    ranking = retrieval.rank(
        pool,
        products=both,
        setting=setting,
        query_vectors=both.vectors["image"],
        document_vectors=both.vectors["image"],
    )
    plain = retrieval.measure(ranking, pool=pool, setting=setting)
    for name in retrieval.SAME:
        assert results.metrics[f"cross_modal/i2i/{name}"]["value"] == pytest.approx(plain[name]["value"], abs=1e-12)
    assert "cross_modal/t2t/tfidf/hit@1" in results.metrics and "cross_modal/t2i/tfidf/hit@1" not in results.metrics


def test_the_gap_equals_its_formulas(splits, results):
    test = splits["test"]
    rows = test.present("image") & test.present("text")
    image, text = (test.vectors[view][rows].astype(float) for view in ("image", "text"))
    pairs = list(itertools.combinations(range(len(image)), 2))
    uniformity = np.log(np.mean([np.exp(-2 * ((text[a] - text[b]) ** 2).sum()) for a, b in pairs]))
    value = {key.removeprefix("cross_modal/gap/"): entry["value"] for key, entry in results.metrics.items()}
    assert value["distance"] == pytest.approx(np.linalg.norm(image.mean(axis=0) - text.mean(axis=0)), abs=1e-9)
    assert value["alignment"] == pytest.approx(((image - text) ** 2).sum(axis=1).mean(), abs=1e-9)
    assert value["uniformity_text"] == pytest.approx(uniformity, abs=1e-6)  # float32 rows are not quite unit
    recall = [results.per_query[f"cross_modal/{name}"]["recall@10"].mean() for name in ("t2i", "i2t")]
    assert value["asymmetry"] == pytest.approx(abs(recall[0] - recall[1]), abs=1e-12)


def test_in_a_mixed_pool_a_modality_that_lies_apart_finds_itself(splits):
    """Pictures on one side of the space, titles on the other: pictures find pictures and what contains them."""
    test = splits["test"].take(splits["test"].present("image") & splits["test"].present("text"))
    far = np.zeros(16)
    far[0] = 30.0
    unit = lambda rows: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    vectors = {"image": unit(test.vectors["image"] + far), "text": unit(test.vectors["text"] - far)}
    vectors["product"] = test.vectors["product"]
    results = run(splits, replace(test, vectors=vectors))
    shares = [results.metrics[f"cross_modal/mixed_image/share_{view}@10"] for view in ("image", "text", "product")]
    assert sum(entry["value"] for entry in shares) == pytest.approx(1.0, abs=1e-12)
    assert sum(entry["base_rate"] for entry in shares) == pytest.approx(1.0, abs=1e-12)
    assert shares[0]["value"] > 0.95 and shares[1]["value"] == 0.0
    assert results.metrics["cross_modal/gap/distance"]["value"] > 1.9
    apart = results.metrics["cross_modal/mixed_image/random/share_image@10"]
    assert apart["value"] == pytest.approx(apart["base_rate"], abs=0.1)


def test_without_relations_only_the_gap_is_measured_and_without_pictures_nothing(splits):
    alone = replace(splits["test"], catalog_keys=np.full(60, -1))
    results = run(splits, alone)
    assert results.skipped == {"cross_modal": "no two products with picture and title are known to be the same product"}
    assert {key.split("/")[1] for key in results.metrics} == {"gap"}
    bare = replace(splits["test"], vectors={"text": splits["test"].vectors["text"]})
    results = run(splits, bare)
    assert not results.metrics and "0 products" in results.skipped["cross_modal"]
