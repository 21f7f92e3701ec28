"""Baselines without a learned representation: what a number must beat before it means anything.

Random vectors give the floor of a pool, TF-IDF what the words of a title alone can do, a colour histogram with a
coarse layout what the pixels can do without seeing a shape. The invariant: a baseline returns one row per product, in
order, and runs through the same tasks, pools and intervals as the model. No baseline sees a label.
"""

import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

RANDOM_DIMENSION = 32
_WORD = r"\b\w+\b"  # single characters count: sizes and model numbers are made of them
_LAYOUT = 8  # cells a side
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
    if not any(re.search(_WORD, title) for title in fitted_on):
        return csr_matrix((len(titles), 1))
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=_WORD)
    return vectorizer.fit(fitted_on).transform(titles)


def colour_vectors(images: Sequence[bytes | None]) -> np.ndarray:
    """Float32 (N, 384): an HSV histogram (12 x 4 x 4) and the 8 x 8 mean colours of each picture, unit rows.

    Both halves have norm sqrt(1/2); the histogram enters by its square root, so that its inner product is the
    Bhattacharyya coefficient. A missing or unreadable picture is a NaN row.
    """
    rows = np.array([_colour_vector(image) for image in images], np.float32)
    return rows.reshape(len(images), _COLOUR_DIMENSION)


def _colour_vector(encoded: bytes | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(encoded or b"")) as image:
            image.draft("RGB", (64, 64))  # JPEG decodes at a fraction of its size: ten times faster
            picture = image.convert("RGB").resize((64, 64), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, ValueError):
        return np.full(_COLOUR_DIMENSION, np.nan)
    hsv = np.asarray(picture.convert("HSV"), np.int64).reshape(-1, 3)
    hue, saturation, value = (hsv * (_HUE_BINS, _SATURATION_BINS, _VALUE_BINS) // 256).T
    cells = (hue * _SATURATION_BINS + saturation) * _VALUE_BINS + value
    histogram = np.sqrt(np.bincount(cells, minlength=_HISTOGRAM_BINS) / len(cells))
    layout = np.asarray(picture.resize((_LAYOUT, _LAYOUT), Image.Resampling.BOX), np.float64).ravel() + 1.0
    return np.concatenate([histogram, layout / np.linalg.norm(layout)]) / np.sqrt(2.0)
