"""Tables are read off the keys: a family that nobody here knows gets one too."""

from ecommerce_vl.evaluation import tables


def entry(value, **more):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50, **more}


METRICS = {
    "category/image/linear/top1": entry(0.6, candidates=5, C=10.0),
    "category/image/random/linear/top1": entry(0.2, candidates=5),
    "category/image/colour_histogram/linear/top1": entry(0.4, candidates=5),
    "category/image/knn/top1": entry(0.5, candidates=5),
    "category/majority/top1": entry(0.3, candidates=5),
    "category/image/linear/top1/slice=category:Home/Garden": entry(0.9),
    "image_text/i2t/hit@10": entry(0.7),
    "image_text/i2t/random/hit@10": entry(0.1),
    "image_text/i2t/tie_rate@10": entry(0.0),
    "smell/nose/sniff": {"value": -3.5, "low": None, "high": None, "n": 7, "drawn": [1.0, 2.5]},
}


def test_a_baseline_stands_beside_the_row_that_it_belongs_to():
    first, second, unknown = tables.tables(METRICS)
    assert [one.task for one in (first, second, unknown)] == ["image_text", "category", "smell"]
    assert [row.label for row in first.short] == ["picture → title"]
    assert first.short[0].baselines["random"]["value"] == 0.1
    linear, knn = second.short
    assert {name: one["value"] for name, one in linear.baselines.items()} == {
        "random": 0.2, "colour_histogram": 0.4, "majority": 0.3,
    }  # fmt: skip
    assert {name: one["value"] for name, one in knn.baselines.items()} == {"majority": 0.3}
    assert first.short[0].baselines["random"] is METRICS["image_text/i2t/random/hit@10"]
    assert set(second.baselines) == {"random", "colour_histogram", "majority"}


def test_the_whole_table_has_every_number_and_no_slice():
    found = [
        (table.task, row.label, name, one["value"])
        for table in tables.tables(METRICS)
        for row in table.rows
        for name, one in row.entries.items()
    ]
    assert len(found) == len(METRICS) - 1
    category = tables.tables(METRICS)[1]
    assert [row.is_model for row in category.rows] == [True, False, False, True, False]
    assert category.rows[2].label == "picture · linear probe · colour histogram"


def test_an_unknown_family_has_a_table_of_its_own():
    unknown = tables.tables(METRICS)[-1]
    assert (unknown.title, unknown.short_metrics) == ("Smell", ("sniff",))
    assert unknown.rows[0].facts == {"n": "7", "drawn": "1, 2.5"}


def test_parts_of_keys_have_names():
    assert tables.named("i2t") == "picture → title"
    assert tables.named("image2product") == "picture → picture and title"
    assert tables.named("few_shot_4") == "few shot 4"
    assert tables.named("hit@10") == "hit@10"


def test_a_task_of_many_rows_shows_its_means_first():
    rows = {
        f"attributes/a{number}/{view}/linear/micro_f1": entry(0.5)
        for number in range(9)
        for view in ("image", "product")
    }
    rows |= {"attributes/mean/image/linear/micro_f1": entry(0.4), "attributes/a0/product/majority/micro_f1": entry(0.1)}
    (table,) = tables.tables(rows)
    labels = [row.label for row in table.short]
    assert len(labels) == tables.SHORT_ROWS and "mean · picture · linear probe" in labels
    assert sum("picture and title" in label for label in labels) == 9
    assert table.short[0].baselines == {} and table.short[1].baselines["majority"]["value"] == 0.1
    assert len(table.rows) == 20


def test_representatives_are_of_every_task_and_setting():
    keys = [
        f"matching/{pairs}/{view}/cosine" for pairs in ("random_pairs", "hard_pairs") for view in ("image", "product")
    ]
    keys += [f"adult/{view}/linear" for view in ("image", "text", "product")]
    chosen = tables.representative(keys, most=3)
    assert chosen == [
        "matching/random_pairs/product/cosine",
        "matching/hard_pairs/product/cosine",
        "adult/product/linear",
    ]
    assert tables.representative(keys, most=99) == keys and tables.representative([], most=3) == []
