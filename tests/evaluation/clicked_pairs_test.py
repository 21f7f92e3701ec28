"""Clicked together: same pools for all methods, the figures of annotated pairs, and what cannot be asked."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.item_pairs import held_out
from ecommerce_vl.data.logs.tables import ITEM_PAIRS
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import judged_pairs, suite


def run(splits, known, clicked):
    parts = {name: splits[name] for name in ("train", "validation")}
    return suite.run(splits["test"], **parts, **known, tasks=["clicked_pairs"], clicked=clicked)


def test_all_methods_have_the_pairs_and_pools_of_the_model(splits, known):
    ids = splits["test"].ids
    clicked = [(ids[row], ids[row + 1]) for row in range(0, len(ids) - 1, 2)]  # two listings of one product
    clicked += [(ids[row], ids[row + 2]) for row in range(0, len(ids) - 2, 4)]
    metrics = run(splits, known, clicked).metrics
    found = judged_pairs.measure(splits["test"], [*clicked, *((other, one) for one, other in clicked)])
    for key, entry in found.items():
        assert metrics["clicked_pairs/" + key.replace("-", "2")] == pytest.approx(entry)
    baselines = {key.split("/")[2] for key in metrics if key.count("/") == 3}
    assert baselines == {"random", "tfidf", "untrained", "colour_histogram", "colour_edges"}
    for key, entry in metrics.items():
        task, direction, *_, metric = key.split("/")
        model = metrics[f"{task}/{direction}/{metric}"]
        assert all(entry[name] == model[name] for name in ("n", "candidates", "coverage")), key
    assert {key.split("/")[1] for key in metrics if "/tfidf/" in key} == {"text2text", "product2product"}
    assert (
        metrics["clicked_pairs/image2image/hit@1"]["value"] > metrics["clicked_pairs/image2image/random/hit@1"]["high"]
    )


def test_equal_titles_are_found_by_words(splits, known):
    ids = splits["test"].ids
    titles = np.array(splits["test"].titles)
    clicked = [(ids[row], ids[other]) for row in range(len(ids)) for other in np.flatnonzero(titles == titles[row])]
    clicked = [(one, other) for one, other in clicked if one != other]
    assert run(splits, known, clicked).metrics["clicked_pairs/text2text/tfidf/hit@1"]["value"] == 1.0


def test_reasons(splits, known):
    assert run(splits, known, None).skipped["clicked_pairs"].startswith("no click log was mined")
    few = [(name, other) for name in splits["test"].ids[:3] for other in splits["test"].ids[3:9]]
    assert run(splits, known, few).skipped["clicked_pairs"].startswith("9 products of this split have mined pairs; 10")


def test_held_out_pairs_are_those_of_the_split(tmp_path):
    (tmp_path / "prepare.json").write_text('{"request": "x", "fingerprint": "y"}')
    data = PreparedData(tmp_path)
    assert held_out(data, split="test") is None
    columns = {"trigger_id": ["a", "b", "c"], "recall_id": ["d", "e", "f"], "split": ["test", "train", "test"]}
    pq.write_table(pa.table(columns), tmp_path / ITEM_PAIRS)
    assert held_out(data, split="test") == [("a", "d"), ("c", "f")]
    assert held_out(data, split="validation") == []
