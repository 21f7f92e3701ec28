"""Twins of test products in train, planted and counted."""

import numpy as np
import pytest
from unit_vectors import units

from ecommerce_vl.data.seed_model.leakage import nearest_in_train
from ecommerce_vl.data.seed_model.vectors import open_vectors


def shares(prepared, seed, **options):
    with open_vectors(prepared.folder, seed, memory_limit="1GB") as connection:
        return nearest_in_train(connection, **{"min_cosine": 0.99, "samples": 1_000, "seed": 0} | options)


def test_planted_twins_are_counted(prepared, drawn, write_vectors):
    ids, views = drawn
    split = dict(zip(prepared.index["id"].to_pylist(), prepared.index["split"].to_pylist(), strict=True))
    rows = {name: [row for row, product in enumerate(ids) if split[product] == name] for name in ("train", "test")}
    vectors = units(np.random.default_rng(3), len(ids), 32)
    vectors[rows["test"][:5]] = vectors[rows["train"][:5]]
    vectors[rows["test"][5]] = vectors[rows["test"][6]]  # twins of one side are no leak
    seed = write_vectors(ids, views | {"product": vectors})
    found = shares(prepared, seed)
    assert found["test"] == len(rows["test"])
    assert found["test_share"] == pytest.approx(5 / len(rows["test"]), abs=1e-6)
    # All products are drawn, so none is left that they could be compared with.
    assert (found["rows"], found["row_share"]) == (len(ids), 0.0)
    some = shares(prepared, seed, samples=100)
    assert some["rows"] == 100
    assert some["row_share"] > 0
