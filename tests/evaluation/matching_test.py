"""The pairs, the network, the thresholds, and files of pairs from elsewhere."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import matching, pair_files, pairs
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def test_pairs_are_what_they_say(splits):
    products = splits["train"]
    drawn = pairs.draw(products, view="image", seed=0)
    for found in drawn.values():
        keys = products.catalog_keys
        np.testing.assert_array_equal(keys[found.left] == keys[found.right], found.match)
        assert products.present("image")[np.concatenate([found.left, found.right])].all()
        assert (found.left != found.right).all() and found.unknown == 0.0
    easy, hard = drawn["random_pairs"], drawn["hard_pairs"]
    np.testing.assert_array_equal(easy.left[easy.match], hard.left[hard.match])
    negative = ~hard.match
    paths = np.array(products.category_paths)
    assert (paths[hard.left[negative]] == paths[hard.right[negative]]).all()
    assert (paths[easy.left[~easy.match]] == paths[easy.right[~easy.match]]).mean() < 0.6
    again = pairs.draw(products, view="image", seed=0)["hard_pairs"]
    np.testing.assert_array_equal(again.right, hard.right)
    lone = replace(products, catalog_keys=np.full(len(products), -1))
    assert pairs.draw(lone, view="image", seed=0) == {}


def test_hard_pairs_prefer_one_brand_and_price(splits):
    products = splits["train"].take(np.arange(12))
    same = {"category_paths": ["Home > cup"] * 12, "brands": ["A"] * 6 + ["B"] * 6}
    products = replace(products, **same, prices=np.array([10.0, 10, 11, 11, 90, 90, 10, 10, 11, 11, np.nan, np.nan]))
    hard = pairs.draw(products, view="product", seed=0)["hard_pairs"]
    partners = {row: set(hard.right[(hard.left == row) & ~hard.match].tolist()) for row in hard.left.tolist()}
    for row, others in partners.items():
        if row in (0, 1):
            assert others <= {2, 3}, "its own brand and price band"
        if row in (4, 5):
            assert others <= {0, 1, 2, 3}, "nothing of its price: its brand"
        if row in (6, 7):
            assert others <= {8, 9, 10, 11}, "an unknown price excludes nothing"


def test_cosines_of_dense_and_sparse_rows():
    left, right = np.random.default_rng(0).normal(size=(2, 5, 4))
    expected = (left * right).sum(axis=1)
    np.testing.assert_allclose(matching.cosines(left, right), expected, atol=1e-6)
    np.testing.assert_allclose(matching.cosines(csr_matrix(left), csr_matrix(right)), expected, atol=1e-6)


def test_the_network_learns_what_a_cosine_cannot_and_does_not_ask_for_the_order():
    """Two are the same where the first half agrees; the other half is noise that spoils the cosine."""
    random = np.random.default_rng(0)

    def make(count):
        match = random.random(count) < 0.5
        own = random.normal(size=(count, 4))
        other = np.where(match[:, None], own, random.normal(size=(count, 4)))
        noise = 3 * random.normal(size=(2, count, 4))
        sides = [np.concatenate(both, axis=1) for both in ((own, noise[0]), (other, noise[1]))]
        return tuple(side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides), match

    (train, train_match), (test, match) = make(3000), make(300)
    score, decay = matching.network(train, train_match, validation=test, validation_match=match, seed=0)
    assert decay in matching.DECAYS
    right = lambda scores: ((scores > np.median(scores)) == match).mean()
    assert right(score(*test)) > right(matching.cosines(*test)) + 0.05
    np.testing.assert_allclose(score(*test), score(*test[::-1]), atol=1e-6)


def test_crossed_halves_never_judge_themselves():
    match = np.array([True, True, False, False, False, False])
    accepted, threshold = matching._crossed(match, np.array([0.9, 0.2, 0.1, 0.5, 0.3, 0.05]))
    # Halves: rows 0, 2, 4 with 0.9 as their best threshold, rows 1, 3, 5 with 0.2.
    assert accepted.tolist() == [True, False, False, False, True, False]
    assert threshold == pytest.approx((0.9 + 0.2) / 2)


@pytest.fixture(scope="module")
def results(splits, known, tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "shops.jsonl.gz"
    names = ("red cup", "blue box", "green ball", "yellow cup", "blue ball", "red box")
    with gzip.open(file, "wt") as out:
        for number in range(90):
            left, other = names[number % 6], names[(number + 1 + number % 4) % 6]
            match = number % 3 == 0
            right = f"{left} new" if match else other
            split = ("train", "val", "test")[number % 9 // 3]
            out.write(
                json.dumps({"left": {"title": left}, "right": {"title": right}, "match": int(match), "split": split})
                + "\n"
            )
    results = Results(products=splits["test"])
    matching.run(Context(**splits, **known, pairs=[pair_files.read(file)]), results)
    return results


def test_both_sets_are_measured_in_every_view_with_their_baselines(results):
    for key in (
        "matching/random_pairs/image/cosine/f1", "matching/hard_pairs/product/mlp/pr_auc",
        "matching/hard_pairs/text/tfidf/cosine/recall_at_precision_0.95",
        "matching/random_pairs/image/colour_edges/cosine/roc_auc", "matching/hard_pairs/text/untrained/cosine/f1",
    ):  # fmt: skip
        entry = results.metrics[key]
        assert {"value", "low", "high", "n", "threshold", "prevalence", "unknown", "chosen_on"} <= set(entry), key
    value = {key: entry["value"] for key, entry in results.metrics.items()}
    assert (
        value["matching/random_pairs/text/cosine/pr_auc"]
        > value["matching/random_pairs/text/random/cosine/pr_auc"] + 0.2
    )
    assert value["matching/hard_pairs/text/tfidf/cosine/f1"] == 1.0  # the titles of the two listings are equal
    for name in ("ece", "brier"):  # of the network's probabilities; a cosine is none
        assert 0 <= value[f"matching/hard_pairs/product/mlp/{name}"] <= 1
        assert f"matching/hard_pairs/product/cosine/{name}" not in value
    figure = results.figures["matching/hard_pairs/product/cosine"]
    assert figure.rows.shape == (len(figure.right), 2)


def test_a_file_of_pairs_has_its_own_table_with_the_naive_methods(results):
    model = results.metrics["matching/shops/text/cosine/f1"]
    assert model["n"] == 30 and model["value"] == 1.0 and model["chosen_on"] == "validation"
    for key in ("mlp/pr_auc", "tfidf/cosine/f1", "tfidf_characters/cosine/f1", "untrained/cosine/f1"):
        assert f"matching/shops/text/{key}" in results.metrics
    assert not any(key.startswith("matching/shops/image") for key in results.metrics)


def test_a_file_without_validation_pairs_is_measured_crosswise(splits, known):
    titles = ["red cup", "blue box", "green ball", "yellow cup"] * 5
    file = pair_files.PairFile(
        "judged",
        left=[{"title": title, "images": []} for title in titles],
        right=[{"title": title, "images": []} for title in titles[:8] + titles[1:13]],
        match=np.arange(20) < 8,
        splits=np.array(["test"] * 20),
    )
    results = Results(products=splits["test"])
    context = Context(**{name: part.take(np.array([], int)) for name, part in splits.items()}, **known, pairs=[file])
    matching.run(context, results)
    entry = results.metrics["matching/judged/text/cosine/f1"]
    assert entry["value"] == 1.0 and entry["chosen_on"] == "the other half"
    assert "matching/judged/text/mlp/f1" not in results.metrics
    assert results.skipped["matching/hard_pairs/text"].startswith("no two test products")


GOOD = '{"left": {"title": "a"}, "right": {"title": "b"}, "match": 1}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{", "line 1 is no JSON"),
        (f"{GOOD}\n[]", "line 2 lacks left or right"),
        ('{"left": {"title": "a"}, "match": 1}', "line 1 lacks left or right"),
        (GOOD.replace("1}", "2}"), "match 2"),
        (GOOD.replace("1}", '"yes"}'), "match 'yes'"),
        (GOOD.replace("1}", '1, "split": "dev2"}'), "split 'dev2'"),
        (GOOD.replace("1}", '1, "split": "train"}'), "none of split test"),
    ],
)
def test_a_file_that_is_no_file_of_pairs_is_refused_with_its_line(tmp_path, lines, message):
    file = tmp_path / "pairs.jsonl"
    file.write_text(lines)
    with pytest.raises(UserError, match=message):
        pair_files.read(file)


def test_pictures_of_a_file_lie_beside_it_and_a_file_that_is_not_there_is_named(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(GOOD.replace('"a"', '"a", "image": "x.jpg"') + "\n\n")
    read = pair_files.read(file)
    assert read.left == [{"title": "a", "images": [str(tmp_path / "x.jpg")]}] and read.match.tolist() == [True]
    with pytest.raises(UserError, match="cannot read the pairs"):
        pair_files.read(tmp_path / "none.jsonl")
