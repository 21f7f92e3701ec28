"""Semantic duplicates against all pairs of a leaf, and where a leaf is parted."""

import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
from unit_vectors import units

from ecommerce_vl.data.seed_model import duplicates
from ecommerce_vl.data.seed_model.duplicates import FILE, write_duplicates
from ecommerce_vl.data.seed_model.vectors import open_vectors


def written(prepared, seed, **options):
    options = {"min_cosine": 0.9, "max_partners": 10_000, "seed": 0} | options
    with open_vectors(prepared.folder, seed, memory_limit="1GB") as connection:
        counts = write_duplicates(connection, prepared.folder / FILE, **options)
    return counts, pq.read_table(prepared.folder / FILE).to_pylist()


def near(drawn, *, kinds=12):
    """Vectors around a few centres, so that many are near."""
    ids, views = drawn
    rng = np.random.default_rng(1)
    vectors = units(rng, kinds)[rng.integers(0, kinds, len(ids))] + 0.15 * units(rng, len(ids))
    return ids, views | {"product": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def by_hand(prepared, ids, vectors, *, min_cosine):
    index = {product["id"]: product for product in prepared.index.to_pylist()}
    found = {}
    for (name, one), (other, two) in itertools.combinations(sorted(zip(ids, vectors, strict=True)), 2):
        left, right = index[name], index[other]
        cosine = float(np.dot(one.astype(np.float64), two.astype(np.float64)))
        if left["category"] == right["category"] and cosine >= min_cosine:
            alike = lambda key, left=left, right=right: left[key] >= 0 and left[key] == right[key]
            relation = "same_product" if alike("catalog_key") else "variant" if alike("group_key") else ""
            found[name, other] = (cosine, relation, left["split"], right["split"], left["category"])
    return found


def test_pairs_are_those_of_all_comparisons(prepared, drawn, write_vectors):
    ids, views = near(drawn)
    counts, rows = written(prepared, write_vectors(ids, views))
    expected = by_hand(prepared, ids, views["product"].astype(np.float32), min_cosine=0.9)
    fields = ("relation", "split_a", "split_b", "category")
    found = {(row["id_a"], row["id_b"]): tuple(row[name] for name in fields) for row in rows}
    assert found == {pair: tuple(rest) for pair, (_, *rest) in expected.items()}
    for row in rows:
        assert row["cosine"] == pytest.approx(expected[row["id_a"], row["id_b"]][0], abs=2e-6)
    relations = [relation for _, relation, *_ in expected.values()]
    assert counts == {
        "blocks": len(set(prepared.index["category"].to_pylist())),
        "pairs": len(expected),
        "products": len({name for pair in expected for name in pair}),
        "same_product": relations.count("same_product"),
        "variant": relations.count("variant"),
        "new": relations.count(""),
    }
    assert min(counts.values()) > 0


def test_a_product_has_its_nearest_partners_only(prepared, drawn, write_vectors):
    ids, views = near(drawn, kinds=2)
    seed = write_vectors(ids, views)
    _, rows = written(prepared, seed, max_partners=2)
    every = {(row["id_a"], row["id_b"]): row["cosine"] for row in written(prepared, seed)[1]}
    assert 0 < len(rows) < len(every)
    for name in ids:
        nearest = sorted((pair for pair in every if name in pair), key=every.get, reverse=True)[:2]
        assert set(nearest) <= {(row["id_a"], row["id_b"]) for row in rows}


def test_equal_vectors_are_found_in_parted_leaves(prepared, drawn, write_vectors, monkeypatch):
    """Of a leaf of many clusters, or of several blocks."""
    ids, views = drawn
    rng = np.random.default_rng(2)
    kinds = units(rng, len(ids) // 4)
    seed = write_vectors(ids, views | {"product": kinds[np.arange(len(ids)) % len(kinds)]})
    options = {"min_cosine": 0.999, "max_partners": 50}
    every = written(prepared, seed, **options)[1]
    monkeypatch.setattr(duplicates, "CLUSTER", 2)
    assert written(prepared, seed, **options)[1] == every
    monkeypatch.setattr(duplicates, "SCORES", 3)  # a row at a time
    assert written(prepared, seed, **options)[1] == every
    assert written(prepared, seed, **options | {"min_cosine": 1.0})[1] == every  # of cosines to six digits
    assert len(every) > 10
    monkeypatch.setattr(duplicates, "MAX_ROWS", 3)
    some = written(prepared, seed, **options)[1]
    assert len(some) < len(every)
    assert all(row in every for row in some)
