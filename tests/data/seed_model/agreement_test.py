"""Ranks of pair quality against a count by hand, and what training leaves out by them."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.fraction import in_fraction, in_fraction_sql
from ecommerce_vl.data.seed_model.agreement import FILE, agreeing, write_agreement
from ecommerce_vl.data.seed_model.vectors import open_vectors
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.errors import UserError

ITEMS = {"source": "item_pairs", "pairs": "catalog", "pair_weight": "loss", "relations": (), "max_partners": 10}
ITEMS |= {"same_category_fraction": 0.0}
QUERIES = {"source": "query_pairs", "queries": "derived", "query_power": 0.5, "known": 8, "keywords": 0, "rows": "all"}


def ranked(prepared, seed, **options):
    with open_vectors(prepared.folder, seed, memory_limit="1GB") as connection:
        return write_agreement(
            connection, seed, prepared.folder / FILE, fingerprint=prepared.fingerprint, **{"min_category": 20} | options
        )


def by_hand(prepared, ids, views, *, min_category):
    """id -> (cosine, rank, among) of train products with both, by loops."""
    table = pq.read_table(prepared.folder / "index.parquet").to_pylist()
    row_of = {name: row for row, name in enumerate(ids)}
    cosine = {}
    for product in table:
        row = row_of[product["id"]]
        value = float(np.dot(views["image"][row].astype(np.float64), views["text"][row].astype(np.float64)))
        if product["split"] == "train" and not np.isnan(value):
            cosine[product["id"]] = value
    path = {product["id"]: product["category"].split(" > ") for product in table}
    found = {}
    for name in cosine:
        for depth in range(len(path[name]), -1, -1):
            among = [other for other in cosine if path[other][:depth] == path[name][:depth]]
            if len(among) >= min_category or depth == 0:
                break
        rank = sum((cosine[other], other) < (cosine[name], name) for other in among) / len(among)
        found[name] = (cosine[name], rank, " > ".join(path[name][:depth]))
    return found


@pytest.mark.parametrize("min_category", [1, 12, 40, 10_000])
def test_ranks_are_those_of_a_count_by_hand(prepared, drawn, write_vectors, min_category):
    ids, views = drawn
    counts = ranked(prepared, write_vectors(ids, views), min_category=min_category)
    expected = by_hand(prepared, ids, views, min_category=min_category)
    table = pq.read_table(prepared.folder / FILE).to_pylist()
    assert [row["id"] for row in table] == sorted(expected)
    assert counts["ranked"] == counts["pairs"] == len(expected) > 100
    assert counts["groups"] == len({among for *_, among in expected.values()})
    for row in table:
        cosine, rank, among = expected[row["id"]]
        assert row["among"] == among
        assert row["cosine"] == pytest.approx(cosine, abs=1e-6)
        assert row["rank"] == pytest.approx(rank, abs=1e-6)


def test_what_the_model_learnt_from_is_not_ranked(prepared, drawn, write_vectors):
    ids, views = drawn
    every = ranked(prepared, write_vectors(ids, views, trained_on={"fingerprint": "other", "fraction": 0.3}))
    assert (every["learnt_from"], every["ranked"]) == (0, every["pairs"])
    trained_on = {"fingerprint": prepared.fingerprint, "fraction": 0.3}
    counts = ranked(prepared, write_vectors(ids, views, trained_on=trained_on))
    assert counts["ranked"] + counts["learnt_from"] == counts["pairs"] == every["pairs"]
    index = pq.read_table(prepared.folder / "index.parquet")
    learnt = in_fraction(index["component"].to_numpy(), 0.3)
    seen = {name for name, was in zip(index["id"].to_pylist(), learnt, strict=True) if was}
    left = set(pq.read_table(prepared.folder / FILE)["id"].to_pylist())
    assert not seen & left
    assert 0.2 < counts["learnt_from"] / counts["pairs"] < 0.4
    all_of_it = ranked(prepared, write_vectors(ids, views, trained_on=trained_on | {"fraction": 1.0}))
    assert (all_of_it["ranked"], all_of_it["cosine"]) == (0, {})


def test_a_fraction_is_of_whole_groups_and_sql_agrees(prepared):
    import duckdb

    component = np.concatenate([np.arange(5_000), np.random.default_rng(0).integers(0, 10**9, 5_000)])
    for fraction in (0.05, 0.1, 0.5, 1.0):
        chosen = in_fraction(component, fraction)
        assert chosen.mean() == pytest.approx(fraction, abs=0.01)
        assert not (in_fraction(component, fraction / 2) & ~chosen).any()
        by_sql = duckdb.execute(
            f"SELECT {in_fraction_sql('c', fraction)} FROM (SELECT unnest(?::BIGINT[]) AS c)", [component.tolist()]
        ).fetchnumpy()
        np.testing.assert_array_equal(next(iter(by_sql.values())), chosen)
    source = open_source(prepared, products(fraction=0.2))
    component_of = dict(zip(prepared.rows("train")["id"], prepared.components("train"), strict=True))
    kept = {source.items[row]["id"] for row in range(len(source.items))}
    groups = {component_of[name] for name in kept}
    complete = prepared.records("train", pairs_only=True)
    assert kept == {complete[row]["id"] for row in range(len(complete)) if component_of[complete[row]["id"]] in groups}
    assert "a fraction of 0.2" in source.description


def products(**changes):
    options = {"source": "products", "rows": "pairs", "fraction": 1.0, "mismatch": 0.0}
    return options | {"drop_lowest": 0.0, "min_agreement": -1.0} | changes


@pytest.mark.parametrize(
    "options", [{"drop_lowest": 0.1}, {"min_agreement": 0.0}, {"drop_lowest": 0.2, "fraction": 0.5}]
)
def test_training_leaves_out_what_agrees_least(prepared, drawn, write_vectors, options):
    ranked(prepared, write_vectors(*drawn))
    table = pq.read_table(prepared.folder / FILE).to_pylist()
    low = {
        row["id"]
        for row in table
        if row["rank"] < options.get("drop_lowest", 0) or row["cosine"] < options.get("min_agreement", -1)
    }
    fraction = options.get("fraction", 1.0)
    every, source = open_source(prepared, products(fraction=fraction)), open_source(prepared, products(**options))
    names = lambda source: [source.items[row]["id"] for row in range(len(source.items))]
    assert low
    assert names(source) == [name for name in names(every) if name not in low]
    assert (every.digest == "") == (fraction == 1.0)  # another preparation may put other products into a fraction
    assert source.digest not in ("", every.digest)
    lost = len(set(names(every)) & low)
    assert f"without {lost:,} whose picture and title agree least" in source.description


def test_pairs_leave_out_both_sides(prepared, drawn, write_vectors):
    ranked(prepared, write_vectors(*drawn))
    low = ~agreeing(prepared, products(drop_lowest=0.3))
    low = {name for name, is_low in zip(prepared.index["id"].to_pylist(), low, strict=True) if is_low}
    sides = {"item_pairs": ("left", "right"), "query_pairs": ("product",)}
    for options in (ITEMS, QUERIES):
        every = open_source(prepared, products() | options)
        source = open_source(prepared, products(drop_lowest=0.3) | options)
        pairs = lambda source, of=options: [
            tuple(source.items[row][side]["id"] for side in sides[of["source"]]) for row in range(len(source.items))
        ]
        kept = [pair for pair in pairs(every) if not set(pair) & low]
        assert 0 < len(kept) < len(every.items)
        assert sorted(pairs(source)) == sorted(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_lowest": 1.5}, "^data.drop_lowest is 1.5; expected 0 to 1"),
        ({"min_agreement": -2}, "^data.min_agreement is -2; expected -1 to 1"),
        ({"fraction": 0.0}, "^data.fraction is 0.0; expected above 0"),
        ({"drop_lowest": 0.1}, "agreement.parquet is missing.*--vectors=VECTORS"),
    ],
)
def test_wrong_options_are_told(prepared, options, message):
    with pytest.raises((UserError, ValueError), match=message):
        open_source(prepared, products(**options))


def test_nothing_left_is_told(prepared, drawn, write_vectors):
    everything = {"fingerprint": prepared.fingerprint, "fraction": 1.0}
    ranked(prepared, write_vectors(*drawn, trained_on=everything))
    with pytest.raises(UserError, match="ranks no product: .*--config.data.fraction=0.1"):
        open_source(prepared, products(drop_lowest=0.1))
    ranked(prepared, write_vectors(*drawn))
    with pytest.raises(UserError, match="none of .* query pairs .* is left.*expected a lower config.data.drop_lowest"):
        open_source(prepared, products(min_agreement=1.0) | QUERIES | {"rows": "pairs"})
    with pytest.raises(UserError, match="none of the .* is left .*agree least.*expected a lower"):
        open_source(prepared, products(min_agreement=1.0))
