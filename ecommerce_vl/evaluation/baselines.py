"""Baselines without a learned representation: what a number must beat before it means anything.

Random vectors give the floor of a pool, TF-IDF what the words of a title alone can do, a colour histogram with a
coarse layout what the pixels can do without seeing a shape, histograms of edges beside it what they can do with one.
The invariant: a baseline returns one row per product, in order, and runs through the same tasks, pools and intervals
as the model. No baseline sees a label.
"""

import io
import re
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from ecommerce_vl.evaluation.lexical import WORD

RANDOM_DIMENSION = 32
_SIDE = 64  # pixels a side that a picture is reduced to
_LAYOUT = 8  # cells a side
_ORIENTATIONS = 9
_FAINT = 1e-3  # gradient, in grey levels, below which a cell counts as even
_HUE_BINS, _SATURATION_BINS, _VALUE_BINS = 12, 4, 4
_HISTOGRAM_BINS = _HUE_BINS * _SATURATION_BINS * _VALUE_BINS
_COLOUR_DIMENSION = _HISTOGRAM_BINS + 3 * _LAYOUT**2


def random_vectors(count: int, *, seed: int) -> np.ndarray:
    """Float32 (count, 32): independent unit vectors, uniform on the sphere."""
    vectors = np.random.default_rng(seed).normal(size=(count, RANDOM_DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def tfidf_vectors(titles: Sequence[str], *, fitted_on: Sequence[str]) -> csr_matrix:
    """CSR float64 (N, terms): TF-IDF of the words and word pairs of each title, unit rows.

    Vocabulary and idf come from `fitted_on`: the gallery itself for retrieval (as a search index would), the train
    split for classification. A title that shares no term with it is a zero row, which ties with everything.
    """
    if not any(re.search(WORD, title) for title in fitted_on):
        return csr_matrix((len(titles), 1))
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=WORD)
    return vectorizer.fit(fitted_on).transform(titles)


def character_tfidf_vectors(titles: Sequence[str], *, fitted_on: Sequence[str]) -> csr_matrix:
    """CSR float64 (N, terms): TF-IDF of 2 to 4 characters within words: typing errors and spelling still agree."""
    if not any(re.search(WORD, title) for title in fitted_on):
        return csr_matrix((len(titles), 1))
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 4))
    return vectorizer.fit(fitted_on).transform(titles)


def colour_vectors(images: Sequence[bytes | None]) -> np.ndarray:
    """Float32 (N, 384): an HSV histogram (12 x 4 x 4) and the 8 x 8 mean colours of each picture, unit rows.

    Both halves have norm sqrt(1/2); the histogram enters by its square root, so that its inner product is the
    Bhattacharyya coefficient. A missing or unreadable picture is a NaN row.
    """
    return _rows(images, _colour, _COLOUR_DIMENSION)


def colour_edge_vectors(images: Sequence[bytes | None]) -> np.ndarray:
    """Float32 (N, 960): the colours of `colour_vectors` and histograms of oriented gradients, unit rows.

    Edges: 8 x 8 cells of 8 pixels with 9 unsigned orientations each, weighted by magnitude, each cell divided by the
    norm of its 3 x 3 neighbourhood (Dalal and Triggs, 2005, with one block a cell). Both parts have norm sqrt(1/2).
    """
    halves = lambda picture: np.concatenate([_colour(picture), _edges(picture)]) / np.sqrt(2.0)
    return _rows(images, halves, _COLOUR_DIMENSION + _ORIENTATIONS * _LAYOUT**2)


def _rows(images: Sequence[bytes | None], vector: Callable[[Image.Image], np.ndarray], dimension: int) -> np.ndarray:
    missing = np.full(dimension, np.nan)
    pictures = (_picture(image) for image in images)
    rows = [missing if picture is None else vector(picture) for picture in pictures]
    return np.array(rows, np.float32).reshape(len(images), dimension)


def _picture(encoded: bytes | None) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(encoded or b"")) as image:
            image.draft("RGB", (_SIDE, _SIDE))  # JPEG decodes at a fraction of its size: ten times faster
            return image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, ValueError):
        return None


def _colour(picture: Image.Image) -> np.ndarray:
    hsv = np.asarray(picture.convert("HSV"), np.int64).reshape(-1, 3)
    hue, saturation, value = (hsv * (_HUE_BINS, _SATURATION_BINS, _VALUE_BINS) // 256).T
    cells = (hue * _SATURATION_BINS + saturation) * _VALUE_BINS + value
    histogram = np.sqrt(np.bincount(cells, minlength=_HISTOGRAM_BINS) / len(cells))
    layout = np.asarray(picture.resize((_LAYOUT, _LAYOUT), Image.Resampling.BOX), np.float64).ravel() + 1.0
    return np.concatenate([histogram, layout / np.linalg.norm(layout)]) / np.sqrt(2.0)


def _edges(picture: Image.Image) -> np.ndarray:
    vertical, horizontal = np.gradient(np.asarray(picture.convert("L"), np.float64))
    angles = np.arctan2(vertical, horizontal) % np.pi
    orientation = (angles / np.pi * _ORIENTATIONS).astype(int) % _ORIENTATIONS
    place = np.arange(_SIDE) * _LAYOUT // _SIDE
    cell = (place[:, None] * _LAYOUT + place) * _ORIENTATIONS + orientation
    magnitude = np.hypot(vertical, horizontal)
    histograms = np.bincount(cell.ravel(), magnitude.ravel(), minlength=_ORIENTATIONS * _LAYOUT**2)
    histograms = histograms.reshape(_LAYOUT, _LAYOUT, _ORIENTATIONS)
    energy = np.pad((histograms**2).sum(axis=2), 1)
    energy = sum(energy[i : i + _LAYOUT, j : j + _LAYOUT] for i in range(3) for j in range(3))
    # The floor makes a picture of one colour a unit row too: all its cells alike.
    normal = (histograms + _FAINT).ravel() / np.repeat(np.sqrt(energy + _FAINT).ravel(), _ORIENTATIONS)
    return normal / np.linalg.norm(normal)
