"""What is masked: how many, of what, how, and from which key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.systems import masking
from ecommerce_vl.systems.masking import Vocabulary, split_keys

SPECIAL = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "mask": 3}
B, L, V = 8, 20, 50


choose = jax.jit(masking.choose, static_argnames="ratio")


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def replace_words(keys, ids, chosen, vocabulary):
    return jax.jit(lambda *arrays: masking.replace_words(*arrays, vocabulary))(keys, ids, chosen)


def texts(num=B, seed=0):
    """[CLS] words [SEP] padding; lengths from nothing to all of L."""
    rng = np.random.default_rng(seed)
    length = np.concatenate([[0, 2, 3, L], rng.integers(3, L + 1, num)])[:num]
    ids = rng.integers(4, V, (num, L)).astype(np.int32)
    place = np.arange(L)
    ids[:, 0] = 1
    ids = np.where(place == length[:, None] - 1, 2, np.where(place < length[:, None], ids, 0)).astype(np.int32)
    return ids, place < length[:, None]


def test_each_row_has_its_share_of_words_and_no_symbol_is_chosen():
    ids, mask = texts()
    eligible = Vocabulary(V, SPECIAL).words(ids, mask)
    np.testing.assert_array_equal(eligible, mask & (ids > 3))
    chosen = choose(keys(B), eligible, ratio=0.15)
    assert chosen.index_BxM.shape == (B, 3)
    words = np.asarray(eligible).sum(axis=1)
    np.testing.assert_array_equal(chosen.used_BxM.sum(axis=1), np.ceil(0.15 * words - 1e-9))
    marks = np.asarray(chosen.marks(L))
    assert not (marks & ~np.asarray(eligible)).any()
    np.testing.assert_array_equal(marks.sum(axis=1), chosen.used_BxM.sum(axis=1))
    assert words.min() == 0 and (marks.sum(axis=1)[words > 0] >= 1).all()


@pytest.mark.parametrize(("ratio", "num", "expected"), [(0.15, 196, 30), (0.15, 20, 3), (0.1, 30, 3), (0.5, 7, 4)])
def test_a_full_row_has_all_slots_and_rounding_adds_none(ratio, num, expected):
    chosen = choose(keys(4), jnp.ones((4, num), bool), ratio=ratio)
    assert chosen.used_BxM.shape == (4, expected) and chosen.used_BxM.all()
    np.testing.assert_array_equal(chosen.marks(num).sum(axis=1), expected)


def test_positions_are_drawn_evenly_and_from_the_rows_own_key():
    rows = 20_000
    chosen = choose(keys(rows), jnp.ones((rows, 10), bool), ratio=0.3)
    share = np.asarray(chosen.marks(10)).mean(axis=0)
    np.testing.assert_allclose(share, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / rows))
    turned = choose(keys(rows)[::-1], jnp.ones((rows, 10), bool), ratio=0.3)
    np.testing.assert_array_equal(turned.index_BxM[::-1], chosen.index_BxM)


def test_eighty_ten_ten():
    num, vocabulary = 40_000, Vocabulary(V, SPECIAL)
    ids = np.full((num, 3), 7, np.int32)
    chosen = choose(keys(num), jnp.ones((num, 3), bool), ratio=1.0)
    new, target = replace_words(keys(num, 1), jnp.asarray(ids), chosen, vocabulary)
    assert (np.asarray(target) == 7).all()
    new = np.asarray(new)
    random = 0.1 * (1 - 1 / len(vocabulary.word_ids))  # a random word may be the one that stood there
    assert abs((new == 3).mean() - 0.8) < 0.01
    assert abs(((new != 3) & (new != 7)).mean() - random) < 0.01
    drawn = np.unique(new[(new != 3)])
    assert drawn.min() > 3 and len(drawn) == V - 4  # every word, and no special token


def test_words_that_are_not_chosen_stay():
    ids, mask = texts()
    vocabulary = Vocabulary(V, SPECIAL)
    chosen = choose(keys(B), vocabulary.words(ids, mask), ratio=0.5)
    new, target = replace_words(keys(B, 1), jnp.asarray(ids), chosen, vocabulary)
    marks = np.asarray(chosen.marks(L))
    np.testing.assert_array_equal(np.asarray(new)[~marks], ids[~marks])
    for row in range(B):
        np.testing.assert_array_equal(target[row], ids[row][chosen.index_BxM[row]])
    assert (np.asarray(new)[marks] != ids[marks]).mean() > 0.5


def test_uses_of_a_key_are_independent():
    parts = split_keys(keys(4), ("a", "b"))
    assert (jax.random.uniform(parts["a"][0]) != jax.random.uniform(parts["b"][0])).all()


def test_a_tokenizer_without_a_mask_is_named():
    with pytest.raises(UserError, match=r"no mask token.*found \[PAD\], \[CLS\]"):
        Vocabulary(V, {"[PAD]": 0, "[CLS]": 1})
