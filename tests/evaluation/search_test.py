"""Blocked search against a naive full sort with lexicographic ties, and the golden tie and self-match cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from ecommerce_vl.evaluation import metrics, search


def naive(queries, gallery, gallery_ids, *, k, query_ids=None):
    scores = np.rint(queries.astype(np.float64) @ gallery.T.astype(np.float64) * 1e6) / 1e6
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
