"""Bands find nearly equal titles, the same bands everywhere; similarities and numbers decide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_vl.data.near_duplicates import (
    BANDS,
    pack_size,
    same_numbers,
    shingle_jaccard,
    shingles,
    title_bands,
    word_jaccard,
)

TITLE = "Turtle Check Men Navy Blue Shirt"
GOLDEN = [
    ["0xf163e59d1ce72e45", "0xb67c7e6ffa56e681", "0x60502557e09deee1"],
    ["0x7cc32365441c25b9", "0x51ced81505933750"],
]


def test_bands_never_change():
    assert [hex(band) for band in title_bands(TITLE)[:3]] == GOLDEN[0]
    assert [hex(band) for band in title_bands("中文标题")[:2]] == GOLDEN[1]


def test_bands_see_what_shingles_see():
    assert (title_bands("  TURTLE check Men\tnavy blue ＳＨＩＲＴ") == title_bands(TITLE)).all()
    assert title_bands("ab").shape == (BANDS,)
    assert title_bands("").shape == (0,)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_title_has_bands(text):
    bands = title_bands(text)
    assert bands.dtype == np.uint64
    assert len(bands) == (BANDS if shingles(text) else 0)


def test_bands_meet_as_minhash_should():
    """A pair of similarity s shares a band with probability 1 - (1 - s^8)^16."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    met: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(400):
        title = "".join(rng.choice(letters, 60))
        near = title[:-2] + "zq"
        far = title[:36] + "".join(rng.choice(letters, 24))
        for other, is_near in ((near, True), (far, False)):
            assert (shingle_jaccard(title, other) >= 0.85) == is_near
            met[is_near].append(bool((title_bands(title) == title_bands(other)).any()))
    assert np.mean(met[True]) > 0.99
    assert np.mean(met[False]) < 0.15


def test_shingle_jaccard_counts_runs_of_three():
    assert shingles("abcd") == {"abc", "bcd"}
    assert shingle_jaccard("abcd", "abce") == pytest.approx(1 / 3)
    assert shingle_jaccard("AB", "ab") == 1
    assert shingle_jaccard("", "") == 0


def test_word_jaccard_in_any_script():
    assert word_jaccard("Red mug", "mug, red large") == pytest.approx(2 / 3)
    assert word_jaccard("红色杯子", "红色盘子") == pytest.approx(3 / 5)
    assert word_jaccard("", "mug") == 0


@pytest.mark.parametrize(
    "title, size",
    [
        ("Socks, pack of 3", 3),
        ("2x Bottle blue", 2),
        ("Soda 6 pk", 6),
        ("Soda 12-pack", 12),
        ("3er-Pack Socken", 3),
        ("Lot de 4 verres", 4),
        ("Cola 6 x 330 ml", 6),
        ("Cup (x2)", 2),
        ("鉛筆 10個セット", 10),
        ("Jeans 32x30", 1),
        ("Camera 4x zoom", 1),
        ("Case for iPhone 13", 1),
        ("Rug 200 x 300 cm", 1),
        ("Xbox 360", 1),
        ("Tent", 1),
    ],
)
def test_pack_size(title, size):
    assert pack_size(title) == size


@pytest.mark.parametrize(
    "a, b, same",
    [
        ("Phone X 64GB black", "Phone X 128GB black", False),
        ("Soap", "Soap pack of 3", False),
        ("Drill GSR-18", "drill gsr-18 new", True),
        ("Mug", "Cup", True),
    ],
)
def test_same_numbers(a, b, same):
    assert same_numbers(a, b) is same
