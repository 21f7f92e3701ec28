"""Leaf category classification from frozen vectors: nearest neighbours and a linear probe.

The label is the whole path ("A > B > C"), so that two leaves of one name stay apart. The invariant: nothing is chosen
on the test rows. Neighbours and weights come from the train split, C from the validation split; test rows of a class
that training never saw cannot be answered, and are counted apart (`unseen`) instead of entering the means.

The probe of picture and title together reads the `product` unit vector, which every product has: a concatenation
[v ; t] would need a zero vector where one modality is missing, and none is ever made up.
"""

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ecommerce_vl.evaluation import bootstrap, metrics, search
from ecommerce_vl.evaluation.products import EmbeddedProducts

NEIGHBOURS = 20
TEMPERATURE = 0.07
C_GRID = (1.0, 10.0, 100.0, 1000.0)  # inverse regularisation, for features of unit total variance
_MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class Pool:
    """The labelled rows of one view, shared by the model and the baselines of that view.

    Shapes: `train`, `validation`, `test` int rows of the three splits; `train_y`, `validation_y`, `test_y` int classes
    aligned with them; classes: the C leaf paths of training, sorted. `unseen` test rows have another class;
    `coverage` is the evaluated share of all test products; groups int, the component of each test row.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    train_y: np.ndarray
    validation_y: np.ndarray
    test_y: np.ndarray
    classes: list[str]
    unseen: int
    coverage: float
    groups: np.ndarray


def pool(
    test: EmbeddedProducts, *, train: EmbeddedProducts, validation: EmbeddedProducts, view: str | None = None
) -> Pool:
    """The rows that have a category, and a vector in `view` when one is named."""
    rows = [_labelled(products, view) for products in (train, validation, test)]
    paths = [
        [products.category_paths[row] for row in chosen]
        for products, chosen in zip((train, validation, test), rows, strict=True)
    ]
    classes = sorted(set(paths[0]))
    index = {path: number for number, path in enumerate(classes)}
    labels = [np.array([index.get(path, -1) for path in names], int) for names in paths]
    seen = [label >= 0 for label in labels]
    rows, labels = ([part[keep] for part, keep in zip(parts, seen, strict=True)] for parts in (rows, labels))
    return Pool(
        *rows,
        *labels,
        classes=classes,
        unseen=int((~seen[2]).sum()),
        coverage=len(rows[2]) / max(len(test), 1),
        groups=test.components()[rows[2]],
    )


def missing(pool: Pool) -> str:
    """Why a pool cannot be measured; "" when it can."""
    if len(pool.classes) < 2:
        return f"training has {len(pool.classes)} categories among the products with this modality; two are needed"
    if not len(pool.test):
        return f"no test product has this modality and a category that training saw ({pool.unseen} have an unseen one)"
    return ""


def knn_votes(queries, *, gallery, gallery_y: np.ndarray, gallery_ids: list[str], num_classes: int) -> np.ndarray:
    """Float64 (N, C): vote of a class = sum over the 20 nearest of that class of exp(cos / 0.07).

    Shapes: unit rows (N, d) and (M, d); gallery_y int (M,).
    Source: the weighted vote of Wu et al. (2018), instance discrimination.
    """
    rows, scores = search.top_k(queries, gallery=gallery, gallery_ids=gallery_ids, k=NEIGHBOURS)
    votes = np.zeros((len(rows), num_classes))
    np.add.at(votes, (np.arange(len(rows))[:, None], gallery_y[rows]), np.exp(scores / TEMPERATURE))
    return votes


def linear_scores(test, *, train, train_y: np.ndarray, validation, validation_y: np.ndarray, num_classes: int):
    """Class scores float64 (N, C) of a multinomial logistic regression, and the C that validation chose.

    Shapes: feature rows of the three splits, all dense or all CSR. Dense features are centred and divided by one
    number, so that their total variance is 1: that keeps the geometry of the vectors, and one grid then fits a
    collapsed space as well as an even one. Without validation rows the second of the grid is taken.
    """
    if not issparse(train):
        centre = train.mean(axis=0, dtype=np.float64)
        spread = np.sqrt(train.var(axis=0, dtype=np.float64).sum()) or 1.0
        train, validation, test = (
            np.asarray((part - centre) / spread, np.float32) for part in (train, validation, test)
        )
    grid = C_GRID if len(validation_y) else C_GRID[1:2]
    probe = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    best = (-1.0, grid[0], None)
    for strength in grid:  # ascending: each fit starts from the smoother one before it
        probe.set_params(C=strength)
        # One BLAS thread: the products are small, and spinning threads on two shared cores made it 12 times slower.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the last iterations move no prediction
            probe.fit(train, train_y)
        accuracy = probe.score(validation, validation_y) if len(validation_y) else 0.0
        if accuracy > best[0]:  # a tie keeps the stronger regularisation
            best = (accuracy, strength, _all_class_scores(probe, test, num_classes))
    return best[2], best[1]


def majority_scores(pool: Pool) -> np.ndarray:
    """Float64 (N, C): the frequency of each class in training, the same for every test row."""
    return np.tile(np.bincount(pool.train_y, minlength=len(pool.classes)).astype(np.float64), (len(pool.test), 1))


def measure(scores_NxC: np.ndarray, *, pool: Pool, seed: int = 0, **chosen) -> dict[str, dict]:
    """Metric name -> {value, low, high, n, candidates, coverage, unseen, ...chosen} of the test rows of a pool.

    `candidates` is the number of classes; `chosen` is stored with the numbers (the C of a probe).
    """
    ranked = np.argsort(-scores_NxC, axis=1, kind="stable")[:, :5]
    statistic = partial(metrics.classification, truth=pool.test_y, ranked_NxM=ranked, num_classes=len(pool.classes))
    estimates = bootstrap.intervals(statistic, groups=pool.groups, seed=seed)
    shared = {"candidates": len(pool.classes), "coverage": pool.coverage, "unseen": pool.unseen, **chosen}
    return {name: vars(estimate) | shared for name, estimate in estimates.items()}


def _labelled(products: EmbeddedProducts, view: str | None) -> np.ndarray:
    known = np.array([bool(path) for path in products.category_paths], bool)
    return np.flatnonzero(known & products.present(view) if view else known)


def _all_class_scores(probe: LogisticRegression, rows, num_classes: int) -> np.ndarray:
    scores = np.full((rows.shape[0], num_classes), -np.inf)
    scores[:, probe.classes_] = probe.predict_proba(rows)
    return scores
