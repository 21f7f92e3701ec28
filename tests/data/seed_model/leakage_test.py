"""Twins of test products in train, planted and counted."""

import numpy as np
import pytest
from unit_vectors import units

from ecommerce_vl.data.seed_model.leakage import nearest_in_train
from ecommerce_vl.data.seed_model.vectors import open_vectors


def shares(prepared, vectors, **options):
    with open_vectors(prepared.folder, vectors, memory_limit="1GB") as connection:
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
    # Twelve products have a twin, which a split by rows parts but for chance.
    drawn = [shares(prepared, seed, seed=number)["row_share"] for number in range(20)]
    assert np.mean(drawn) == pytest.approx(12 / len(ids), abs=0.02)
    assert shares(prepared, seed, samples=7)["test"] == 7


def test_without_a_test_split_nothing_is_compared(prepared, drawn, write_vectors):
    ids, views = drawn
    train = set(prepared.rows("train")["id"])
    kept = [row for row, name in enumerate(ids) if name in train]
    seed = write_vectors([ids[row] for row in kept], {view: vectors[kept] for view, vectors in views.items()})
    assert shares(prepared, seed) == {"test": 0, "test_share": 0.0, "row_share": 0.0}
