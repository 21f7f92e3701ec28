"""What reads a label out of frozen vectors: a linear probe, its neighbours, and words.

The invariant: nothing is chosen on the rows that are scored. Weights and neighbours come from training rows, the
strength of regularisation, the form of the features and the wording of prompts from validation rows.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy import linalg
from scipy.sparse import csr_matrix, issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from ecommerce_vl.evaluation import search

NEIGHBOURS = 20
TEMPERATURE = 0.07
C_GRID = (1.0, 10.0, 100.0, 1000.0)  # inverse regularisation, for features of unit total variance
_MAX_ITERATIONS = 1000
_LEAST_DEVIATION = 1e-3  # of a direction that `whitened` raises in full, where the deviation of all together is 1
_NO_DEVIATION = 1e-5  # below lies rounding alone
RIDGE_GRID = (0.1, 0.01, 0.001, 0.0001)  # for features of unit total variance, divided by the number of rows
_MAX_SOLVED = 5_000
ENSEMBLE = "mean of all"


def knn_votes(queries, *, gallery, gallery_y: np.ndarray, gallery_ids: list[str], num_classes: int) -> np.ndarray:
    """Float64 (N, C): vote of a class = sum over the 20 nearest of that class of exp(cos / 0.07).

    Shapes: unit rows (N, d) and (M, d); gallery_y int (M,).
    Source: the weighted vote of Wu et al. (2018), instance discrimination.
    """
    rows, scores = search.top_k(queries, gallery=gallery, gallery_ids=gallery_ids, k=NEIGHBOURS)
    votes = np.zeros((len(rows), num_classes))
    np.add.at(votes, (np.arange(len(rows))[:, None], gallery_y[rows]), np.exp(scores / TEMPERATURE))
    return votes


def linear_scores(
    test, *, train, train_y: np.ndarray, validation, validation_y: np.ndarray, num_classes: int
) -> tuple[np.ndarray, dict]:
    """Class scores float64 (N, C) of a multinomial logistic regression, and {"C", "whitened"} that validation chose.

    Shapes: feature rows of the three splits, all dense or all CSR. Dense ones are tried `scaled` and `whitened`, so
    that one grid fits a collapsed space as well as an even one; CSR rows are read as they are. Without validation rows
    the second C of the grid is taken, and the features are scaled.
    """
    forms = {False: scaled} if issparse(train) or not len(validation_y) else {False: scaled, True: whitened}
    grid = C_GRID if len(validation_y) else C_GRID[1:2]
    best = (-1.0, None, None)
    for is_white, form in forms.items():
        rows, checks, asked = form(train, validation, test)
        probe = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
        for strength in grid:  # ascending: each fit starts from the smoother one before it
            probe.set_params(C=strength)
            # One BLAS thread: the products are small, and spinning threads on two shared cores made it 12 times slower.
            with threadpool_limits(1), warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations move no prediction
                warnings.filterwarnings("ignore", "The number of unique classes")  # few-shot: a row or two a class
                probe.fit(rows, train_y)
            accuracy = probe.score(checks, validation_y) if len(validation_y) else 0.0
            if accuracy > best[0]:  # a tie keeps the stronger regularisation, and the features as they are
                chosen = {"C": strength, "whitened": is_white}
                best = (accuracy, _all_class_scores(probe, asked, num_classes), chosen)
    return best[1], best[2]


def head_scores(
    train, *, targets_NxV: np.ndarray, validation, quality: Callable[[np.ndarray], float], rows: Sequence, seed: int
) -> tuple[list[np.ndarray], float]:
    """Scores float64 (M, V) of each table of `rows` from V ridge regressions, and the strength validation chose.

    Shapes: train (N, d), dense or CSR; targets bool (N, V): a row may have several labels, or none of them.
    `quality(scores of validation (K, V))` says how good a strength of the grid is (the ridge, divided by N); the
    strongest of equals is taken, and the second without validation rows. All heads share one factorisation, of d x d
    or N x N, whichever is smaller; where both are above 5,000, so many training rows are drawn.
    """
    if min(train.shape) > _MAX_SOLVED:
        drawn = np.sort(np.random.default_rng(seed).permutation(train.shape[0])[:_MAX_SOLVED])
        train, targets_NxV = train[drawn], targets_NxV[drawn]
    train, validation, *rows = scaled(train, validation, *rows)
    count, by_rows = train.shape[0], train.shape[0] < train.shape[1]
    means = targets_NxV.mean(axis=0)
    centred = targets_NxV - means
    best = (-np.inf, 0.0, None)
    with threadpool_limits(1):
        gram = _dense(train @ train.T if by_rows else train.T @ train)
        for strength in RIDGE_GRID if validation.shape[0] else RIDGE_GRID[1:2]:
            factor = linalg.cho_factor(gram + strength * count * np.eye(len(gram)))
            solved = linalg.cho_solve(factor, centred if by_rows else train.T @ centred)
            weights = train.T @ solved if by_rows else solved
            found = quality(validation @ weights + means) if validation.shape[0] else 0.0
            if found > best[0]:
                best = (found, strength, weights)
        return [part @ best[2] + means for part in rows], best[1]


def _dense(table) -> np.ndarray:
    return np.asarray(table.todense() if issparse(table) else table, np.float64)


def scaled(train, *others) -> tuple:
    """Dense features centred on training and divided by one number, so that their total variance there is 1.

    That keeps the geometry of the vectors. CSR features are left as they are: TF-IDF rows have that scale.
    """
    if issparse(train):
        return (train, *others)
    centre = train.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(train.var(axis=0, dtype=np.float64).sum()) or 1.0
    return tuple(np.asarray((part - centre) / spread, np.float32) for part in (train, *others))


def whitened(train, *others) -> tuple:
    """Dense features centred on training and turned so that every direction has the same variance there, in all 1.

    Contrastive vectors fill few of their dimensions; what the others hold is out of reach of a regularised probe before
    this. Directions below a thousandth of the whole deviation stay small, and those without any become 0.
    """
    train, *others = scaled(train, *others)
    wide = np.asarray(train, np.float64)
    with threadpool_limits(1):
        variances, directions = linalg.eigh(wide.T @ wide / len(wide))
    turn = directions * (variances > _NO_DEVIATION**2) / np.sqrt(variances + _LEAST_DEVIATION**2)
    return scaled(*(part @ turn for part in (train, *others)))


def zero_shot(
    embed: Callable[[Sequence[str]], np.ndarray],
    prompts: dict[str, Sequence[str]],
    *,
    validation,
    quality: Callable[[np.ndarray], float],
    rows: Sequence,
) -> tuple[list[np.ndarray], str]:
    """Cosines float64 (M, C) of each table of `rows` with the words for each class, and which prompt was taken.

    Args:
      embed: texts -> vectors (T, d) in the space of the rows.
      prompts: template -> the text of each of C classes. Beside each template alone, the normalised mean of all is
        tried, and taken without validation rows.
      validation, rows: unit vectors (K, d) and (M, d), dense or CSR.
      quality: scores (K, C) of the validation rows -> how good they are; the highest is taken, the mean in a tie.
    """
    count = len(next(iter(prompts.values())))
    vectors = embed([text for texts in prompts.values() for text in texts])
    # A text without a known token has no direction; it scores 0 with everything.
    vectors = csr_matrix(vectors if issparse(vectors) else np.nan_to_num(vectors))
    each = {name: vectors[place * count : (place + 1) * count] for place, name in enumerate(prompts)}
    each = {ENSEMBLE: normalize(sum(each.values()))} | each
    chosen = ENSEMBLE
    if validation.shape[0]:
        chosen = max(each, key=lambda name: quality(cosines(validation, each[name])))
    return [cosines(part, each[chosen]) for part in rows], chosen


def cosines(rows, words: csr_matrix) -> np.ndarray:
    """Float64 (N, C): inner products of dense or CSR rows with CSR ones."""
    if issparse(rows):
        return (rows @ words.T).toarray()
    return np.asarray(rows, np.float64) @ words.toarray().T


def _all_class_scores(probe: LogisticRegression, rows, num_classes: int) -> np.ndarray:
    scores = np.full((rows.shape[0], num_classes), -np.inf)
    scores[:, probe.classes_] = probe.predict_proba(rows)
    return scores
