"""Which cases of a figure are worth a look: the surest mistakes, the categories most often missed, odd clusters.

The invariant: cases are chosen by rule, never by hand, and a rule depends on the figure alone; so the same results show
the same cases. What is returned names rows of the products, not pictures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation import figures

WORST_CLASSES = 8
TAKEN_FOR = 4
CASES = 6
CLUSTERS = 3
MEMBERS = 8


@dataclass(frozen=True)
class WorstClass:
    """One class: its rows, those answered right, what the others were taken for, and some of them.

    taken_for: (class, count), most frequent first; cases: (row, predicted class).
    """

    name: str
    n: int
    right: int
    taken_for: tuple[tuple[str, int], ...]
    cases: tuple[tuple[int, str], ...]


def worst_classes(confusion: figures.Confusion) -> list[WorstClass]:
    """The classes with the most mistakes, then the lowest recall; none that is always right."""
    wrong = confusion.true != confusion.predicted
    mistakes = np.bincount(confusion.true[wrong], minlength=len(confusion.classes))
    support = np.bincount(confusion.true, minlength=len(confusion.classes))
    order = sorted(np.flatnonzero(mistakes), key=lambda c: (-mistakes[c], -mistakes[c] / support[c], c))
    found = []
    for number in order[:WORST_CLASSES]:
        places = np.flatnonzero(wrong & (confusion.true == number))
        taken = Counter(confusion.predicted[places].tolist()).most_common(TAKEN_FOR)
        cases = tuple((int(confusion.rows[at]), confusion.classes[confusion.predicted[at]]) for at in places[:CASES])
        found.append(
            WorstClass(
                name=confusion.classes[number],
                n=int(support[number]),
                right=int(support[number] - mistakes[number]),
                taken_for=tuple((confusion.classes[other], count) for other, count in taken),
                cases=cases,
            )
        )
    return found


def surest_mistakes(one: figures.PrecisionRecall) -> dict[str, list[tuple[tuple[int, ...], float]]]:
    """ "accepted" and "refused" -> the wrong cases farthest beyond the threshold, as (rows, score)."""
    if one.threshold is None or not one.rows.shape[1]:
        return {}
    yes = one.scores >= one.threshold
    found = {}
    for name, wrong, sign in (("accepted", yes & ~one.right, -1), ("refused", ~yes & one.right, 1)):
        places = np.flatnonzero(wrong)
        places = places[np.argsort(sign * one.scores[places], kind="stable")][:CASES]
        found[name] = [(tuple(map(int, one.rows[at])), float(one.scores[at])) for at in places]
    return found


def odd_clusters(one: figures.Clusters) -> dict[str, list[list[tuple[int, int]]]]:
    """ "whole", "merged" and "split" -> examples, each the members (row, group or cluster) of at most eight.

    whole: a cluster that is one group, all of it, of two members or more; merged: a cluster of several groups, numbered
    by them; split: a group in several clusters, numbered by those. The largest of each kind.
    """
    clusters, groups = _members(one.predicted), _members(one.true)
    whole, merged, split = [], [], []
    for members in clusters.values():
        kinds = {int(one.true[at]) for at in members}
        if len(kinds) > 1:
            merged.append(members)
        elif len(members) > 1 and len(members) == len(groups[kinds.pop()]):
            whole.append(members)
    split = [members for members in groups.values() if len({int(one.predicted[at]) for at in members}) > 1]
    return {
        name: [_numbered(members, one.rows, by) for members in sorted(kind, key=len, reverse=True)[:CLUSTERS]]
        for name, kind, by in (
            ("whole", whole, one.true),
            ("merged", merged, one.true),
            ("split", split, one.predicted),
        )
    }


def size_histogram(numbers: np.ndarray) -> dict[str, int]:
    """Size of a cluster, as text -> how many clusters have it."""
    sizes = Counter(np.unique(numbers, return_counts=True)[1].tolist())
    named = {"1": range(1, 2), "2": range(2, 3), "3–5": range(3, 6), "6–10": range(6, 11), "11 and more": None}
    return {
        name: sum(count for size, count in sizes.items() if (size in within if within else size > 10))
        for name, within in named.items()
    }


def _members(numbers: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(numbers, kind="stable")
    names, starts = np.unique(numbers[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def _numbered(members: np.ndarray, rows: np.ndarray, by: np.ndarray) -> list[tuple[int, int]]:
    """Members with the number of their kind, the largest kind first, so that 0 is what most of them are."""
    kinds = [kind for kind, _ in Counter(by[members].tolist()).most_common()]
    ordered = sorted(members.tolist(), key=lambda at: (kinds.index(int(by[at])), at))
    # Some of every kind: a large one must not push the others out.
    share = max(1, MEMBERS // len(kinds))
    kept = [at for kind in kinds for at in [m for m in ordered if by[m] == kind][:share]]
    kept += [at for at in ordered if at not in kept]
    return [(int(rows[at]), kinds.index(int(by[at]))) for at in sorted(kept[:MEMBERS], key=ordered.index)]
