"""Search against a naive full sort with lexicographic ties, on the host and on devices; golden ties, self-matches."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from ecommerce_vl.evaluation import metrics, scan, search

ON_DEVICES = [(), 1, 2, 4, 8]


def naive(queries, gallery, gallery_ids, *, k, query_ids=None):
    grid = lambda x: np.rint(x.astype(np.float64) * 2**26) / 2**26
    scores = np.rint(grid(queries) @ grid(gallery).T * 1e6) / 1e6
    answers = []
    for row in range(len(queries)):
        own = None if query_ids is None else query_ids[row]
        order = sorted((-scores[row, j], name, j) for j, name in enumerate(gallery_ids) if name != own)[:k]
        answers.append([j for _, _, j in order] + [-1] * (min(k, len(gallery)) - len(order)))
    return np.array(answers).reshape(len(queries), -1)


def few_directions(random, count, *, directions=6):
    """Unit rows with many exact duplicates, as catalogs have."""
    base = random.normal(size=(directions, 5))
    return (base / np.linalg.norm(base, axis=1, keepdims=True))[random.integers(0, directions, count)].astype(
        np.float32
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 40),
    k=st.integers(1, 45),
    query_block=st.integers(1, 9),
    gallery_block=st.integers(1, 50),
    exclude=st.booleans(),
)
def test_blocks_equal_a_naive_full_sort(seed, count, k, query_block, gallery_block, exclude):
    random = np.random.default_rng(seed)
    gallery = few_directions(random, count)
    ids = [f"p{number}" for number in random.permutation(count)]  # "p10" < "p2": ids are text
    rows, scores = search.top_k(
        gallery,
        gallery=gallery,
        gallery_ids=ids,
        k=k,
        query_ids=ids if exclude else None,
        query_block=query_block,
        gallery_block=gallery_block,
    )
    np.testing.assert_array_equal(rows, naive(gallery, gallery, ids, k=k, query_ids=ids if exclude else None))
    assert (np.isneginf(scores) == (rows < 0)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_permuting_the_gallery_changes_nothing(seed):
    random = np.random.default_rng(seed)
    gallery, queries = few_directions(random, 50), few_directions(random, 7, directions=3)
    ids = np.array([f"p{number}" for number in range(50)])
    order = random.permutation(50)
    rows, scores = search.top_k(queries, gallery=gallery, gallery_ids=ids.tolist(), k=12)
    again, scores_again = search.top_k(
        queries, gallery=gallery[order], gallery_ids=ids[order].tolist(), k=12, gallery_block=11
    )
    np.testing.assert_array_equal(ids[rows], ids[order][again])
    np.testing.assert_array_equal(scores, scores_again)


def test_rounding_to_a_millionth_hides_differences_of_block_shape():
    """High-dimensional float32 rows: summed in float32, one score in ten would cross a rounding edge somewhere."""
    random = np.random.default_rng(0)
    gallery = random.normal(size=(600, 256))
    gallery = (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"p{number}" for number in range(600)]
    whole = search.top_k(gallery, gallery=gallery, gallery_ids=ids, k=600)
    parts = search.top_k(gallery, gallery=gallery, gallery_ids=ids, k=600, query_block=1, gallery_block=37)
    np.testing.assert_array_equal(whole[1], parts[1])
    np.testing.assert_array_equal(whole[0], parts[0])


def unit_rows(random, count, dim):
    rows = random.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("num_devices", ON_DEVICES)
@pytest.mark.parametrize("exclude", [False, True])
def test_devices_equal_a_naive_full_sort(num_devices, exclude):
    """301 rows leave uneven shares, and 90 copies of one listing a tie that no number of candidates can decide."""
    random = np.random.default_rng(3)
    gallery = np.concatenate([unit_rows(random, 211, 24), np.repeat(unit_rows(random, 1, 24), 90, axis=0)])
    gallery = gallery[random.permutation(301)]
    ids = [f"p{number}" for number in random.permutation(301)]
    queries, names = gallery[:32], ids[:32]
    rows, scores = search.top_k(
        queries,
        gallery=gallery,
        gallery_ids=ids,
        k=9,
        query_ids=names if exclude else None,
        query_block=16,
        gallery_block=32,
        devices=() if num_devices == () else jax.devices()[:num_devices],
    )
    np.testing.assert_array_equal(rows, naive(queries, gallery, ids, k=9, query_ids=names if exclude else None))
    np.testing.assert_array_equal(scores, search.top_k(
        queries, gallery=gallery, gallery_ids=ids, k=9, query_ids=names if exclude else None, devices=()
    )[1])  # fmt: skip


@pytest.mark.parametrize("count", [1, 30, 301, 500])
def test_no_document_left_out_by_the_scan_exceeds_its_bound(count):
    random = np.random.default_rng(4)
    gallery, queries = unit_rows(random, 301, 48), 3.0 * unit_rows(random, 5, 48)
    placed = scan.Gallery(gallery, devices=jax.devices()[:2], norm=1.0001)
    rows, bound = placed.candidates(queries, count=count, block=50, norms=np.full(5, 3.0003))
    assert rows.shape == (5, min(count, 301)) and all(len(set(row)) == len(row) for row in rows.tolist())
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    left_out = exact.copy()
    np.put_along_axis(left_out, rows, -np.inf, axis=1)
    assert (left_out.max(axis=1) <= bound).all()
    if count < 301:
        kept = np.take_along_axis(exact, rows, axis=1).min(axis=1)
        assert (bound - kept < 3e-5).all(), "a bound so loose would prove nothing"


def test_every_device_holds_its_share_and_no_more():
    vectors = unit_rows(np.random.default_rng(0), 101, 8)
    placed = scan.Gallery(vectors, devices=jax.devices(), norm=1.0001)
    assert [share.devices() for share in placed._shares] == [{device} for device in jax.devices()]
    assert sorted({share.shape for share in placed._shares}) == [(12, 8), (13, 8)]
    np.testing.assert_array_equal(np.concatenate(placed._shares), vectors)


def test_when_candidates_do_not_suffice_the_whole_gallery_is_compared(monkeypatch):
    """Distinct listings are settled by candidates alone; eighty copies of one listing are not."""
    calls = []
    honest = search._best_keys
    monkeypatch.setattr(
        search, "_best_keys", lambda *args, **named: calls.append(len(args[0])) or honest(*args, **named)
    )
    random = np.random.default_rng(6)
    gallery = np.concatenate([unit_rows(random, 300, 16), np.repeat(unit_rows(random, 1, 16), 80, axis=0)])
    ids = [f"p{number:03d}" for number in random.permutation(380)]
    for query, expected in ((gallery[:1], []), (gallery[-1:], [1])):
        calls.clear()
        rows, _ = search.top_k(query, gallery=gallery, gallery_ids=ids, k=4, devices=jax.devices()[:2])
        assert calls == expected
        np.testing.assert_array_equal(rows, naive(query, gallery, ids, k=4))


def test_products_on_the_grid_are_exact():
    """Against rational arithmetic: no float64 sum of unit rows on the grid rounds, whatever its order."""
    random = np.random.default_rng(0)
    left, right = (search._in_steps(unit_rows(random, 20, 128), search._grid_step(1.0)) for _ in range(2))
    order = random.permutation(128)
    np.testing.assert_array_equal(left @ right.T, left[:, order] @ right[:, order].T)
    for row, other in zip(left, right, strict=True):
        exact = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(row, other, strict=True))
        assert Fraction(float(row @ other)) == exact
    long = search._in_steps(100.0 * unit_rows(random, 20, 128), search._grid_step(100.0))
    np.testing.assert_array_equal(long @ long.T, long[:, order] @ long[:, order].T)


def test_sparse_rows_rank_as_dense_ones():
    random = np.random.default_rng(0)
    gallery = few_directions(random, 30) * (few_directions(random, 30) > 0)
    ids = [f"p{number}" for number in range(30)]
    dense = search.top_k(gallery, gallery=gallery, gallery_ids=ids, k=9)
    sparse = search.top_k(csr_matrix(gallery), gallery=csr_matrix(gallery), gallery_ids=ids, k=9, gallery_block=7)
    np.testing.assert_array_equal(dense[0], sparse[0])


def test_golden_tie_is_broken_by_ascending_id():
    """a and b tie at 0.5, c scores 0.1: mrr is 1 when a is relevant and 0.5 when b is."""
    gallery = np.array([[0.1], [0.5], [0.5]])
    for right, expected in (("a", 1.0), ("b", 0.5)):
        ranking = search.rank(
            np.array([[1.0]]),
            gallery=gallery,
            query_labels=np.array([1]),
            gallery_labels=np.array([int(name == right) for name in "cba"]),
            query_ids=["q"],
            gallery_ids=list("cba"),
            exclude_self=False,
            tie_cutoff=1,
        )
        assert metrics.reciprocal_rank(ranking.relevance) == expected
        assert ranking.tied == 1.0
        assert ranking.rows.tolist() == [[2, 1, 0]]


def test_self_is_removed_by_id_and_its_duplicate_stays():
    """Two identical listings: dropping rank 1 blindly would drop "a", the duplicate, for the query "b"."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ranking = search.rank(
        vectors,
        gallery=vectors,
        query_labels=np.array([4, 4, 9]),
        gallery_labels=np.array([4, 4, 9]),
        query_ids=list("abc"),
        gallery_ids=list("abc"),
        exclude_self=True,
    )
    assert ranking.num_relevant.tolist() == [1, 1, 0]
    assert ranking.rows.tolist() == [[1, 2, -1], [0, 2, -1], [0, 1, -1]]
    assert ranking.relevance.tolist() == [[True, False, False], [True, False, False], [False, False, False]]


def test_all_scores_equal_is_a_tie_and_depth_grows_to_the_relevant():
    vectors = np.ones((8, 1))
    ranking = search.rank(
        vectors[:1],
        gallery=vectors,
        query_labels=np.array([1]),
        gallery_labels=np.array([1, 1, 1, 1, 1, 0, 0, 0]),
        query_ids=["q"],
        gallery_ids=list("abcdefgh"),
        exclude_self=False,
        depth=2,
        kept=1,
    )
    assert ranking.tied == 1.0
    assert ranking.relevance.tolist() == [[True] * 5 + [False] * 3] and ranking.rows.shape == (1, 1)


def test_bad_input_is_named():
    vectors = np.eye(2)
    with pytest.raises(ValueError, match="0 documents"):
        search.top_k(vectors, gallery=np.empty((0, 2)), gallery_ids=[], k=1)
    with pytest.raises(ValueError, match="gallery hold rows that are not finite"):
        search.top_k(vectors, gallery=np.array([[np.nan, 0.0]]), gallery_ids=["a"], k=1)
    with pytest.raises(ValueError, match="2 documents have 1 distinct ids"):
        search.top_k(vectors, gallery=vectors, gallery_ids=["a", "a"], k=1)
