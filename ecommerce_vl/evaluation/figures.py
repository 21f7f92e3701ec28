"""What a task gives the report to draw: plain data, one class a kind of figure.

A family puts them into `results.figures["task/setting"]` (grids into `results.grids`); which classes, points and cases
are worth showing, and how they look, is the report's business. The invariant: a figure holds arrays of one length, and
products only as rows of `results.products`, so a family needs neither pictures nor HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


def _same_length(figure: object, **arrays) -> None:
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{type(figure).__name__} needs arrays of one length; found {sizes}")


@dataclass(frozen=True)
class Confusion:
    """Which classes a classifier takes for which; the report shows the classes with the most mistakes.

    classes: the C names, paths such as "A > B > C" or values; true, predicted: int (N,), numbers of classes;
    rows: int (N,), the classified rows of `results.products`.
    """

    classes: tuple[str, ...]
    true: np.ndarray
    predicted: np.ndarray
    rows: np.ndarray

    def __post_init__(self):
        _same_length(self, true=self.true, predicted=self.predicted, rows=self.rows)


@dataclass(frozen=True)
class PrecisionRecall:
    """Scores of yes-or-no decisions, from which the curve and the surest mistakes are drawn.

    right: bool (N,), the truth; scores: float (N,), the model's; threshold: the one that was chosen, "yes" at or above
    it (None: none was); chosen_on: where it was chosen, in words; rows: int (N, 1) the product, or (N, 2) the pair of
    products of each case; (N, 0) where a case is no product.
    """

    right: np.ndarray
    scores: np.ndarray
    threshold: float | None
    rows: np.ndarray
    chosen_on: str = "validation"

    def __post_init__(self):
        _same_length(self, right=self.right, scores=self.scores, rows=self.rows)


@dataclass(frozen=True)
class Clusters:
    """A clustering beside the truth; the report shows clusters found whole, merged too far, and split.

    predicted: int (N,), the cluster of each row; true: int (N,), its group; rows: int (N,), of `results.products`.
    Singletons have numbers of their own in both.
    """

    predicted: np.ndarray
    true: np.ndarray
    rows: np.ndarray

    def __post_init__(self):
        _same_length(self, predicted=self.predicted, true=self.true, rows=self.rows)


@dataclass(frozen=True)
class Curve:
    """A measured value over a setting (shots a class, size of the gallery), with intervals.

    series: name -> points (x, value, low, high), in ascending x; low and high equal the value where none are known.
    """

    x_label: str
    y_label: str
    series: Mapping[str, tuple[tuple[float, float, float, float], ...]]
    log_x: bool = False


@dataclass(frozen=True)
class Neighbour:
    """One answer: the row of the product, its score (cosine), and whether it is right; None where no one knows."""

    row: int
    score: float
    right: bool | None


@dataclass(frozen=True)
class Example:
    """One query with its nearest products.

    query: row of the product that asks, -1 where words alone ask; words: what is asked beside or instead of it;
    right: which half it belongs to; answer_row: a right answer to show where the first one is wrong, -1 for none;
    answer_rank: the rank of the first right answer, 0 where it is not among the ranked depth.
    """

    query: int
    neighbours: tuple[Neighbour, ...]
    right: bool
    answer_row: int = -1
    answer_rank: int = 0
    words: str = ""


@dataclass(frozen=True)
class Grid:
    """The examples of one setting: what is shown, what asks and answers (a view), and what counts as right."""

    title: str
    question: str
    right_means: str
    query_view: str
    document_view: str
    examples: tuple[Example, ...]
