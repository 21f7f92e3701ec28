"""Baselines see words and colours, give one row per product, and never a label."""

import io

import numpy as np
import pytest
from PIL import Image

from ecommerce_vl.evaluation import baselines


def encoded(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def test_random_vectors_are_unit_seeded_and_without_direction():
    vectors = baselines.random_vectors(4000, seed=1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(vectors, baselines.random_vectors(4000, seed=1))
    assert not np.array_equal(vectors, baselines.random_vectors(4000, seed=2))
    assert np.abs(vectors.mean(axis=0)).max() < 0.015


def test_tfidf_weights_rare_words_and_leaves_unknown_titles_empty():
    titles = ["red cotton dress", "red cotton shirt", "red wool coat", "xyz"]
    vectors = baselines.tfidf_vectors(titles, fitted_on=titles[:3])
    scores = (vectors @ vectors.T).toarray()
    np.testing.assert_allclose(scores.diagonal(), [1, 1, 1, 0], atol=1e-9)
    assert scores[0, 1] > scores[0, 2] > 0.0
    assert baselines.tfidf_vectors(["size 7"], fitted_on=["size 7", "size 8"]).nnz == 3  # single characters count
    assert baselines.tfidf_vectors(["a", "b"], fitted_on=["", "!!"]).toarray().tolist() == [[0.0], [0.0]]


def test_colour_vectors_tell_colour_and_layout_apart():
    red = np.zeros((40, 40, 3))
    red[..., 0] = 255
    left, right = np.full((40, 40, 3), 255), np.full((40, 40, 3), 255)
    left[:, :20], right[:, 20:] = (0, 0, 255), (0, 0, 255)
    vectors = baselines.colour_vectors([encoded(part) for part in (red, left, right)])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    histogram, layout = vectors[:, :192], vectors[:, 192:]
    assert histogram[1] @ histogram[2] == pytest.approx(0.5, abs=1e-6)  # the same colours
    assert layout[1] @ layout[2] < 0.4  # in other places
    assert histogram[0] @ histogram[1] == 0.0


def test_missing_and_broken_pictures_are_nan_rows():
    good = encoded(np.zeros((8, 8, 3)))
    vectors = baselines.colour_vectors([None, b"<html>404</html>", good[: len(good) // 2], good])
    assert np.isnan(vectors[:3]).all() and np.isfinite(vectors[3]).all()


def test_edges_see_a_shape_where_colours_see_none():
    upright, flat = np.full((2, 80, 80, 3), 255)
    upright[10:70, 30:50] = 0
    flat[30:50, 10:70] = 0
    other = np.where(upright == 0, [[[200, 40, 40]]], upright)  # the same shape in red
    images = [encoded(picture) for picture in (upright, flat, other)] + [None, encoded(np.full((9, 9, 3), 7))]
    colours, edges = baselines.colour_vectors(images), baselines.colour_edge_vectors(images)
    assert edges.shape == (5, 960)
    np.testing.assert_allclose(np.linalg.norm(edges[[0, 1, 2, 4]], axis=1), 1.0, atol=1e-5)
    assert np.isnan(edges[3]).all()
    np.testing.assert_allclose(edges[:, :384] * np.sqrt(2.0), colours, atol=1e-6)
    shape = 2.0 * edges[:, 384:] @ edges[:, 384:].T
    assert shape[0, 2] > 0.9 > shape[0, 1] + 0.3


def test_characters_agree_where_words_do_not():
    titles = ["samsung galaxy s21", "samsng galaxys21", "wooden spoon"]
    words, characters = (
        vectors(titles, fitted_on=titles) for vectors in (baselines.tfidf_vectors, baselines.character_tfidf_vectors)
    )
    assert (words @ words.T).toarray()[0, 1] == 0.0
    scores = (characters @ characters.T).toarray()
    assert scores[0, 1] > 0.2 > scores[0, 2]
    assert baselines.character_tfidf_vectors(titles, fitted_on=["", "-"]).nnz == 0
