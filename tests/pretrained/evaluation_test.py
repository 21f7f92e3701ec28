"""Published models beside a model: in every task that they can do, with its pools; the others are named."""

import json

import numpy as np
import pytest

import ecommerce_vl as vl
from ecommerce_vl.evaluation import pair_files, queries, suite, tables
from ecommerce_vl.evaluation.context import published
from tests.evaluation.conftest import WordEncoder, products, records

SPLITS = {"test": ("t", 32, 1), "train": ("r", 40, 2), "validation": ("v", 24, 3)}


def run(folders, tmp_path):
    splits = {name: products(count, prefix=prefix, seed=seed) for name, (prefix, count, seed) in SPLITS.items()}
    judged = tmp_path / "queries.jsonl"
    judged.write_text(json.dumps({"query_id": "q", "query": "red cup", "grades": {"t000": 2, "t001": 1}}) + "\n")
    titles = ["red cup 1", "blue box 2", "green ball 3", "yellow cup 4"] * 6
    left, right = ([{"title": title, "images": []} for title in side] for side in (titles, titles[:12] + titles[1:13]))
    others = {published(name): vl.from_pretrained(folder, log=lambda line: None) for name, folder in folders.items()}
    for encoder in others.values():
        encoder.batch_size = 8  # few shapes are compiled
    return suite.run(
        **splits,
        encoder=WordEncoder(),
        others=others,
        records={name: records(part) for name, part in splits.items()},
        queries=queries.read(judged),
        pairs=[pair_files.PairFile("shops", left, right, np.arange(24) < 12, np.array(["test"] * 24))],
    )


@pytest.mark.slow
def test_a_published_model_is_a_row_of_every_task_that_it_can_do(write_folder, tmp_path):
    results = run({name: write_folder(name) for name in ("clip", "bert", "vit")}, tmp_path)
    words = ("same_product/text/{}/hit@1", "category/text/{}/zero_shot/top1", "matching/shops/text/{}/cosine/f1",
             "query/text/{}/recall@10", "attributes/mean/text/{}/zero_shot/micro_f1")  # fmt: skip
    pictures = ("same_style/image/{}/mrr", "category/image/{}/knn/top1", "adult/image/{}/linear/pr_auc",
                "clustering/same_product/image/{}/mutual_neighbours/bcubed_f1")  # fmt: skip
    both = ("same_product/product/{}/hit@1", "category/product/{}/linear/top1")
    across = ("image_text/i2t/{}/hit@10", "cross_modal/mixed_image/{}/hit@10", "composed/sum/{}/success@10",
              "query/image/{}/recall@10", "category/image/{}/zero_shot/top1")  # fmt: skip
    can = {"clip": words + pictures + both + across, "bert": words + both, "vit": pictures}
    for name, rows in can.items():
        for row in words + pictures + both + across:
            assert (row.format(published(name)) in results.metrics) == (row in rows), (name, row)
    assert results.skipped["published=bert"].startswith("it reads no pictures")
    assert results.skipped["published=vit"].startswith("it reads no words")
    # Some products have no picture: its pool of products would be another.
    assert "the pools would differ" in results.skipped["same_product/product/published=vit"]
    for key, entry in results.metrics.items():
        base, name = tables.without_baseline(tuple(key.split("/")))
        if name and base[-1] != "precision_at_coverage" and "/".join(base) in results.metrics:
            model = results.metrics["/".join(base)]
            assert all(entry[fact] == model[fact] for fact in ("n", "candidates") if fact in model), key
    columns = {table.task: table.baselines for table in tables.tables(results.metrics)}
    assert columns["same_product"][-3:] == ("published=bert", "published=clip", "published=vit")  # of any row
    assert columns["image_text"] == ("random", "published=clip")
