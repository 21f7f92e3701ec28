"""The order of training: a pure function of the position, with pairs in batches and categories by their power."""

import numpy as np
import pytest

from ecommerce_vl.data.sampling import Deck, keys_of, natural_order, training_order

BATCH, STEPS = 256, 200
NATURAL = {"catalog_pairs": 0.0, "category_power": 1.0}


@pytest.fixture(scope="module")
def keys():
    """30,000 listings in 40 categories of very different sizes; in three quarters of these, half the listings have a
    catalog of two to four of them."""
    rng = np.random.default_rng(0)
    weight = 1.0 / np.arange(1, 41)
    category = np.sort(rng.choice(40, 30_000, p=weight / weight.sum()))
    catalog = -1 - np.arange(len(category))
    row = next_key = 0
    while row < len(category) - 4:
        size = int(rng.integers(2, 5))
        if category[row] == category[row + size - 1] and category[row] % 4 and rng.random() < 0.25:
            catalog[row : row + size], next_key = next_key, next_key + 1
            row += size
        else:
            row += 1
    order = rng.permutation(len(category))
    return {"catalog_key": catalog[order], "category_key": category[order]}


def order_of(keys, *, seed=0, catalog_pairs=0.25, category_power=0.7):
    options = {"catalog_pairs": catalog_pairs, "category_power": category_power}
    return training_order(keys, batch_size=BATCH, seed=seed, **options)


def drawn(order, steps=STEPS):
    return np.array([order[at] for at in range(steps * BATCH)]).reshape(steps, BATCH)


def paired_share(keys, rows):
    """Mean share of rows that have another listing of their catalog in the batch."""
    shares = []
    for batch in rows:
        key = keys["catalog_key"][np.unique(batch)]
        _, catalog, count = np.unique(key, return_inverse=True, return_counts=True)
        shares.append((count[catalog] > 1).sum() / BATCH)
    return np.mean(shares)


def assert_histogram(keys, rows, *, power):
    sizes = np.bincount(keys["category_key"])
    expected = sizes**power / (sizes**power).sum()
    found = np.bincount(keys["category_key"][rows.ravel()], minlength=len(sizes)) / rows.size
    np.testing.assert_allclose(found, expected, rtol=0.05)


def test_pairs_and_categories_as_specified(keys):
    # 25 % +- 2 % of rows in a pair, categories by n^0.7 within 5 %, both at once.
    rows = drawn(order_of(keys))
    assert abs(paired_share(keys, rows) - 0.25) < 0.02
    assert_histogram(keys, rows, power=0.7)
    pairs = rows[:, :64].reshape(-1, 2)
    catalog = keys["catalog_key"][pairs]
    assert (catalog >= 0).all() and (catalog[:, 0] == catalog[:, 1]).all() and (pairs[:, 0] != pairs[:, 1]).all()


@pytest.mark.parametrize(("catalog_pairs", "power"), [(0.0, 0.7), (0.0, 0.0), (0.25, 1.0)])
def test_either_option_alone(keys, catalog_pairs, power):
    rows = drawn(order_of(keys, catalog_pairs=catalog_pairs, category_power=power))
    assert_histogram(keys, rows, power=power)
    natural = paired_share(keys, drawn(natural_order(len(keys["catalog_key"]), seed=0), steps=20))
    assert natural < 0.02
    assert abs(paired_share(keys, rows) - catalog_pairs) < 0.02


def test_neighbours_of_a_category_stand_between_pairs_and_singles(keys):
    options = {"catalog_pairs": 0.25, "category_power": 1.0, "same_category_fraction": 0.5}
    rows = drawn(training_order(keys, batch_size=BATCH, seed=0, **options))
    alike = keys["category_key"][rows[:, BATCH // 4 : 3 * BATCH // 4]]
    most = np.array([np.bincount(row).max() for row in alike]) / alike.shape[1]
    assert np.median(most) == 1.0, "most windows lie within one category"
    singles = keys["category_key"][rows[:, 3 * BATCH // 4 :]]
    assert max(np.bincount(row).max() for row in singles) < 40
    assert paired_share(keys, rows[:, : BATCH // 4]) == pytest.approx(0.25, abs=0.001)
    once = rows[: len(keys["category_key"]) // (BATCH // 2), BATCH // 4 : 3 * BATCH // 4].ravel()
    assert len(np.unique(once)) == len(once), "a pass over the line shows a row once"


@pytest.mark.parametrize(("pairs", "power", "alike"), [(0.25, 1.0, 0.5), (0.0, 0.7, 0.25), (0.25, 0.9, 0.25)])
def test_singles_make_up_for_pairs_and_neighbours(keys, pairs, power, alike):
    options = {"catalog_pairs": pairs, "category_power": power, "same_category_fraction": alike}
    order = training_order(keys, batch_size=BATCH, seed=0, **options)
    steps = 4 * len(keys["category_key"]) // int(alike * BATCH)  # neighbours come category by category
    found = np.bincount(keys["category_key"][drawn(order, steps).ravel()]) / (steps * BATCH)
    expected = np.bincount(keys["category_key"]) ** power
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=0.06, atol=1e-3)


def test_any_position_can_be_asked_for_alone(keys):
    rows = drawn(order_of(keys), steps=20)
    for step, place in ((19, 255), (0, 0), (7, 63), (7, 64), (13, 200)):
        assert order_of(keys)[step * BATCH + place] == rows[step, place]
    assert (drawn(order_of(keys, seed=1), steps=1) != rows[0]).mean() > 0.9
    assert 0 <= order_of(keys)[10**12] < len(keys["catalog_key"])


def test_a_deck_is_even_within_and_between_groups():
    # Group 0 has half the draws of a pass of 1,000 for 900 members, group 1 the other half for 90, group 2 none.
    group_M = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [900, 90, 10]))
    deck = Deck(group_M, np.array([0.5, 0.5, 0.0]), seed=0)
    passes = [np.bincount([deck[at] for at in range(k * 1000, (k + 1) * 1000)], minlength=1000) for k in range(6)]
    large, small, none = (group_M == group for group in range(3))
    for counts in passes:
        assert abs(counts[large].sum() - 500) <= 1 and counts[none].sum() == 0
        assert set(counts[large]) == {0, 1} and set(counts[small]) <= {5, 6}
    assert (sum(passes)[large] > 0).all()  # those left out of one pass come in another
    assert (passes[0][large] != passes[1][large]).any()


def test_a_large_catalog_comes_with_all_its_pairs():
    keys = {"catalog_key": np.zeros(4, int), "category_key": np.zeros(4, int)}
    order = training_order(keys, batch_size=2, seed=0, catalog_pairs=1.0, category_power=1.0)
    assert len({(order[2 * step], order[2 * step + 1]) for step in range(12)}) == 12


def test_the_two_of_a_pair_are_of_different_sellers_where_their_catalog_has_several():
    seller = np.array([0, 1, 0, 0, 2, 2])
    keys = {"catalog_key": np.array([5, 5, 5, 5, 6, 6]), "category_key": np.zeros(6, int), "seller_key": seller}
    order = training_order(keys, batch_size=4, seed=0, catalog_pairs=1.0, category_power=1.0)
    rows = np.array([order[at] for at in range(4 * 40)]).reshape(-1, 2)
    of_5 = {tuple(pair) for pair in rows.tolist() if pair[0] < 4}
    assert of_5 == {(0, 1), (2, 1), (3, 1), (1, 0), (1, 2), (1, 3)}, "all pairs of two sellers, and no others"
    assert {tuple(pair) for pair in rows.tolist() if pair[0] >= 4} == {(4, 5), (5, 4)}, "one seller has both"


def test_both_off_is_the_natural_order():
    keys = {"catalog_key": np.arange(100), "category_key": np.zeros(100, int)}
    order = training_order(keys, batch_size=8, seed=3, **NATURAL)
    # As runs before the options had it, so that they can go on.
    assert [order[at] for at in range(8)] == [29, 30, 31, 86, 26, 66, 61, 19]
    assert sorted(order[at] for at in range(100, 200)) == list(range(100))


def test_unknown_categories_count_as_one():
    keys = {"catalog_key": -1 - np.arange(200), "category_key": np.where(np.arange(200) < 100, 5, -1 - np.arange(200))}
    rows = drawn(training_order(keys, batch_size=BATCH, seed=0, catalog_pairs=0.0, category_power=0.0), steps=20)
    assert abs((rows < 100).mean() - 0.5) < 0.01


def test_keys_follow_the_records_whatever_the_order_of_the_index():
    index = {"position": np.array([2, 0, 1]), "catalog_key": np.array([12, 10, 11]), "category_key": np.arange(3)}
    found = keys_of(index, np.array([2, 1]))
    assert found["catalog_key"].tolist() == [12, 11] and found["category_key"].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"catalog_pairs": 1.5}, r"^data.catalog_pairs is 1.5; expected 0 to 1"),
        ({"category_power": -1.0}, r"^data.category_power is -1.0; expected 0 to 1"),
        ({"catalog_pairs": 0.6, "same_category_fraction": 0.5}, r"^data.same_category_fraction is 0.5 and "),
        ({"catalog_pairs": 0.001}, r"^data.catalog_pairs is 0.001, less than one pair in a batch of 256"),
        ({"catalog_pairs": 0.25}, r"32 pairs in a batch of 256, but only 10 catalogs .* expected at most 0.078$"),
    ],
)
def test_what_cannot_be_drawn_is_named(options, message):
    keys = {"catalog_key": np.repeat(np.arange(10), 2), "category_key": np.zeros(20, int)}
    with pytest.raises(ValueError, match=message):
        training_order(keys, batch_size=BATCH, seed=0, **(NATURAL | options))
