"""The rows of the quick evaluation are what the finished encoder gives, for the same products, by the same rules."""

import copy

import numpy as np
import pytest

import ecommerce_vl as vl
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation.quick import measure
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.loop import FINISHED, train
from ecommerce_vl.training.writer import read_metrics


@pytest.fixture(scope="module")
def whole(tiny_config, tmp_path_factory):
    """A run on eight devices whose parameters are sharded over two of them, and what was measured of each sample."""
    config, workdir = copy.deepcopy(tiny_config), tmp_path_factory.mktemp("quick")
    config["total_samples"] = 32 * 5
    config["mesh"]["fsdp"] = 2
    config["evaluate"] = {"every_steps": 2, "products": 9}
    lines, seen = [], []

    def noted(vectors, keys, answers):
        assert answers == []  # e-CLIP embeds no queries
        seen.append((vectors, keys))
        return measure(vectors, keys)

    assert train(config, workdir, build_system=build_system, measure=noted, log=lines.append) == FINISHED
    return workdir, lines, seen


@pytest.mark.slow
def test_rows_at_the_start_every_so_often_and_at_the_end(whole):
    workdir, lines, seen = whole
    rows = [row for row in read_metrics(workdir) if "eval/seconds" in row]
    assert [row["step"] for row in rows] == [0, 2, 4, 5]
    for row, (vectors, keys) in zip(rows, seen, strict=True):
        assert row.pop("eval/seconds") > 0
        assert row == {"step": row["step"]} | {f"eval/{name}": v for name, v in measure(vectors, keys).items()}
    shown = [line for line in lines if line.startswith("eval ")]
    assert len(shown) == 4 and " i2t/hit@10 " in shown[0] and "(9 validation products, " in shown[0]
    steps = [row["step"] for row in read_metrics(workdir)]
    assert steps == sorted(steps), "a row of training comes before the evaluation of its step"


@pytest.mark.slow
def test_the_vectors_are_those_that_the_encoder_gives(whole, tiny_config):
    workdir, _, seen = whole
    records = PreparedData(tiny_config["data"]["path"]).records("validation", pairs_only=True)
    expected = vl.load(workdir).embed_views([records[row] for row in range(len(records))])
    vectors, keys = seen[-1]
    catalogs = [records[row]["catalog_key"] for row in range(len(records))]
    assert len(records) > len(keys["catalog"]) == 9
    # The place of each sampled product among all: its catalog, and the nearest vector of that catalog.
    for row, catalog in enumerate(keys["catalog"]):
        same = np.flatnonzero(np.array(catalogs) == catalog)
        near = same[np.argmax(expected["product"][same] @ vectors["product"][row])]
        for view in ("image", "text", "product"):
            np.testing.assert_allclose(vectors[view][row], expected[view][near], atol=2e-5)
    assert np.abs(seen[0][0]["product"] - vectors["product"]).max() > 0.01, "nothing was learned in between"
    for _, others in seen:
        np.testing.assert_array_equal(others["catalog"], keys["catalog"])


def naive(vectors, keys):
    """The definitions, one product at a time."""
    found = {}
    n = len(keys["catalog"])
    for name, asks, answers in (("i2t", "image", "text"), ("t2i", "text", "image")):
        hits = {1: [], 10: []}
        for i in range(n):
            if np.isnan(vectors[asks][i, 0]):
                continue
            documents = [j for j in range(n) if not np.isnan(vectors[answers][j, 0])]
            right = {
                j for j in documents if j == i or (keys["catalog"][i] >= 0 and keys["catalog"][i] == keys["catalog"][j])
            }
            if not right:
                continue
            score = lambda j: round(float(vectors[asks][i].astype(float) @ vectors[answers][j].astype(float)), 6)
            ranked = sorted(documents, key=lambda j: (-score(j), j))
            for k in hits:
                hits[k].append(bool(right & set(ranked[:k])))
        found |= {f"image_text/{name}/hit@{k}": np.mean(values) for k, values in hits.items()}
    correct = []
    for i in range(n):
        if np.isnan(vectors["product"][i, 0]) or keys["category"][i] < 0:
            continue
        others = [
            j
            for j in range(n)
            if not np.isnan(vectors["product"][j, 0])
            and keys["category"][j] >= 0
            and j != i
            and not any(keys[name][i] >= 0 and keys[name][i] == keys[name][j] for name in ("catalog", "group"))
        ]
        cosine = lambda j: float(vectors["product"][i].astype(float) @ vectors["product"][j].astype(float))
        votes = {}
        for j in sorted(others, key=lambda j: -cosine(j))[:20]:
            votes[keys["category"][j]] = votes.get(keys["category"][j], 0.0) + np.exp(cosine(j) / 0.07)
        correct.append(max(sorted(votes), key=votes.get) == keys["category"][i])
    return found | {"category/product/knn/top1": np.mean(correct)}


def test_the_values_are_those_of_the_definitions():
    random = np.random.default_rng(0)
    n = 60
    keys = {
        "catalog": np.where(np.arange(n) % 5 == 0, -1 - np.arange(n), np.arange(n) // 2),
        "group": np.arange(n) // 4,
        "category": np.where(np.arange(n) % 9 == 0, -1, np.arange(n) // 4 % 5),
    }
    centres = random.normal(size=(5, 8))[np.arange(n) // 4 % 5]
    vectors = {view: centres + 0.8 * random.normal(size=(n, 8)) for view in ("image", "text", "product")}
    for view, step in (("image", 7), ("text", 11)):
        vectors[view][::step] = np.nan
    vectors = {
        view: (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for view, rows in vectors.items()
    }
    expected = naive(vectors, keys)
    found = measure(vectors, keys)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert 0.05 < value < 0.99, f"{name} would be right by chance"
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_words_are_asked_for_their_products():
    at = lambda *angles: np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)
    products = at(*(0.1 * n for n in range(15)))
    keys = {name: np.full(15, -1) for name in ("catalog", "group", "category")}
    found = measure({"product": products, "query": at(0.0, 0.31, 1.4)}, keys, [[0, 9], [2, 14], [1]])
    # The first finds its product, the second after one other, the third not among ten.
    assert found == {"query/product/hit@1": pytest.approx(1 / 3), "query/product/hit@10": pytest.approx(2 / 3)}


def test_what_has_no_labels_or_views_is_left_out():
    vectors = {"text": np.eye(4, dtype=np.float32)}
    keys = {"catalog": -1 - np.arange(4), "group": -1 - np.arange(4), "category": np.zeros(4, int)}
    assert measure(vectors, keys) == {}
