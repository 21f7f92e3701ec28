"""The attribute family: which colour, material, brand, … a product has, of the values that training knows.

Attributes are those of the feed with a closed vocabulary: at least `MIN_VALUES` values that `MIN_ROWS` training
products share. The invariant: a product is annotated for an attribute when its feed gives a value, and unknown is not
negative: rows without one neither train nor count. A value outside of the vocabulary stays a miss (nothing that can be
predicted is right), so a large share of such rows lowers recall, as it does in use.

What is predicted: the values whose score reaches a threshold, chosen on validation for the highest micro F1; for an
attribute of which no product has two values, the best one. Where a feed is to be filled in automatically, only sure
predictions are taken: `coverage_at_precision` is the share of rows left at the confidence that kept 0.95 of the
validation rows right, and `precision_at_coverage` what came of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ecommerce_vl.evaluation import bootstrap, label_metrics, probes, thresholds
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import VIEWS, Attribute, EmbeddedProducts
from ecommerce_vl.evaluation.ratios import or_nan
from ecommerce_vl.evaluation.results import Results

MIN_VALUES = 2
MIN_ROWS = 10  # training products of a value
MAX_VALUES = 200  # the most frequent ones
MAX_ATTRIBUTES = 12  # those with most annotated training products
PRECISION = 0.95
PROMPTS = ("{value}", "{name}: {value}", "a photo of a {value} product", "{value} {name}")
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Vocabulary:
    """One attribute: its values, the most frequent first, and whether a product may have several of them."""

    name: str
    values: tuple[str, ...]
    several: bool


@dataclass(frozen=True)
class Task:
    """One attribute in one view: the annotated rows of each split and their labels.

    Shapes: rows[split] int (N,), truth[split] bool (N, V); outside[split] int (N,), values of the row that the
    vocabulary lacks.
    """

    vocabulary: Vocabulary
    rows: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    outside: dict[str, np.ndarray]


@dataclass(frozen=True)
class Predicted:
    """What a method says of the test rows of a task: scores (N, V), values taken, and whether it is sure."""

    scores: np.ndarray
    accepted: np.ndarray
    sure: np.ndarray
    chosen: dict


def run(context: Context, results: Results) -> None:
    """Linear heads on every view and method, prompts where a method has words, and means over the attributes."""
    known = vocabularies(context.train)
    if not known:
        results.skip("attributes", f"no attribute has {MIN_VALUES} values on {MIN_ROWS} training products each")
        return
    for view in VIEWS:
        tasks = [_task(context, one, view) for one in known]
        tasks = [task for task in tasks if len(task.rows["test"]) and len(task.rows["train"])]
        if not tasks:
            reason = f"no attribute is known of a training and of a test product with a vector of its {view}"
            results.skip(f"attributes/{view}", reason)
            continue
        # Scores of noise would be the most frequent value at best, which is measured as "majority".
        for method in context.methods(view, without=("random", "colour_histogram")):
            prefix = "/".join(filter(None, (view, method)))
            rows = {split: np.unique(np.concatenate([task.rows[split] for task in tasks])) for split in _SPLITS}
            if reason := context.lacks(method, *((split, view, chosen) for split, chosen in rows.items())):
                results.skip(f"attributes/{prefix}", reason)
                continue
            features = {split: context.features(method, split, view=view) for split in _SPLITS}
            _note(context, results, f"{prefix}/linear", tasks, [_heads(features, one, context.seed) for one in tasks])
            if context.has_words(method):
                embed = partial(context.words, method)
                _note(
                    context, results, f"{prefix}/zero_shot", tasks, [_prompted(features, one, embed) for one in tasks]
                )
            elif method == MODEL:
                results.skip(f"attributes/{prefix}/zero_shot", "no encoder was given, and prompts must be embedded")
        _note(context, results, f"{view}/majority", tasks, [_frequent(task) for task in tasks])


def vocabularies(train: EmbeddedProducts) -> list[Vocabulary]:
    """The attributes of closed vocabulary, those with most annotated products first."""
    counts: dict[str, Counter] = {}
    rows: Counter = Counter()
    several = set()
    for row in range(len(train)):
        for name, values in _values(train, row).items():
            counts.setdefault(name, Counter()).update(values)
            rows[name] += 1
            if len(values) > 1:
                several.add(name)
    found = []
    for name in sorted(counts, key=lambda name: (-rows[name], name)):
        shared = sorted((-count, value) for value, count in counts[name].items() if count >= MIN_ROWS)
        if len(shared) >= MIN_VALUES:
            found.append(Vocabulary(name, tuple(value for _, value in shared[:MAX_VALUES]), name in several))
    return found[:MAX_ATTRIBUTES]


def _values(products: EmbeddedProducts, row: int) -> dict[str, list[str]]:
    """Attribute -> its distinct values in lower case; numbers are measures, not labels, and are left out."""
    given: dict[str, Attribute] = {"brand": products.brands[row], **products.attributes[row]}
    found = {name: sorted({text for text in _texts(value) if text}) for name, value in given.items()}
    return {name: values for name, values in found.items() if values}


def _texts(value: Attribute) -> Iterable[str]:
    if isinstance(value, bool):
        return ("yes" if value else "no",)
    if isinstance(value, str):
        return (" ".join(value.lower().split()),)
    return (" ".join(str(item).lower().split()) for item in value) if isinstance(value, list) else ()


def _task(context: Context, vocabulary: Vocabulary, view: str) -> Task:
    place = {value: column for column, value in enumerate(vocabulary.values)}
    rows, truth, outside = {}, {}, {}
    for split in _SPLITS:
        products = context.split(split)
        given = [_values(products, row).get(vocabulary.name, []) for row in range(len(products))]
        rows[split] = np.flatnonzero(products.present(view) & np.array([bool(values) for values in given], bool))
        truth[split] = np.zeros((len(rows[split]), len(place)), bool)
        outside[split] = np.zeros(len(rows[split]), int)
        for at, row in enumerate(rows[split]):
            inside = [place[value] for value in given[row] if value in place]
            truth[split][at, inside] = True
            outside[split][at] = len(given[row]) - len(inside)
    return Task(vocabulary, rows, truth, outside)


def _heads(features: dict, task: Task, seed: int) -> Predicted:
    mine = {split: features[split][task.rows[split]] for split in _SPLITS}
    (validation, test), strength = probes.head_scores(
        mine["train"],
        targets_NxV=task.truth["train"],
        validation=mine["validation"],
        quality=lambda scores: _choice(scores, task, several=task.vocabulary.several)[1],
        rows=(mine["validation"], mine["test"]),
        seed=seed,
    )
    return _decide(validation, test, task, ridge=strength)


def _prompted(features: dict, task: Task, embed) -> Predicted:
    name = task.vocabulary.name.replace("_", " ")
    prompts = {
        template: [template.format(name=name, value=value) for value in task.vocabulary.values] for template in PROMPTS
    }
    mine = {split: features[split][task.rows[split]] for split in ("validation", "test")}
    (validation, test), prompt = probes.zero_shot(
        embed,
        prompts,
        validation=mine["validation"],
        quality=lambda cosines: _choice(cosines, task, several=task.vocabulary.several)[1],
        rows=(mine["validation"], mine["test"]),
    )
    return _decide(validation, test, task, prompt=prompt)


def _frequent(task: Task) -> Predicted:
    share = task.truth["train"].mean(axis=0)
    scores = {split: np.tile(share, (len(task.rows[split]), 1)) for split in ("validation", "test")}
    return _decide(scores["validation"], scores["test"], task)


def _choice(scores: np.ndarray, task: Task, *, several: bool) -> tuple[float, float]:
    """(threshold, micro F1) on the validation rows; one value a row needs no threshold."""
    truth, missed = task.truth["validation"], task.outside["validation"].sum()
    if not several:
        right = np.take_along_axis(truth, scores.argmax(axis=1)[:, None], axis=1).sum() if len(scores) else 0
        return -np.inf, 2.0 * right / max(len(scores) + truth.sum() + missed, 1)
    if not truth.any():
        return 0.0, 0.0
    return label_metrics.best_threshold(truth.ravel(), scores=scores.ravel())


def _decide(validation: np.ndarray, test: np.ndarray, task: Task, **chosen) -> Predicted:
    several = task.vocabulary.several
    threshold, _ = _choice(validation, task, several=several)
    taken = {"validation": _taken(validation, threshold, several), "test": _taken(test, threshold, several)}
    confidence = {"validation": _confidence(validation), "test": _confidence(test)}
    sure = thresholds.coverage_threshold(
        _right(taken["validation"], task, "validation"), confidence=confidence["validation"], precision=PRECISION
    )
    noted = {"confidence": sure} if np.isfinite(sure) else {}
    noted |= {"threshold": threshold} if several else {}
    return Predicted(test, taken["test"], confidence["test"] >= sure, chosen | noted)


def _taken(scores: np.ndarray, threshold: float, several: bool) -> np.ndarray:
    if several:
        return scores >= threshold
    return np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None] if scores.size else np.zeros(scores.shape, bool)


def _confidence(scores: np.ndarray) -> np.ndarray:
    """How far the best value is above the second."""
    if not scores.size:
        return np.zeros(len(scores))
    ordered = np.sort(scores, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _right(taken: np.ndarray, task: Task, split: str) -> np.ndarray:
    """Bool (N,): something is predicted, and nothing that the feed does not say."""
    return taken.any(axis=1) & ~(taken & ~task.truth[split]).any(axis=1)


def _note(context: Context, results: Results, prefix: str, tasks: list[Task], predicted: list[Predicted]) -> None:
    """Entries of each attribute and of their means, all from the same resamples of products."""
    groups = context.test.components()
    names = [task.vocabulary.name for task in tasks]
    statistic = partial(_statistic, tasks=tasks, predicted=predicted)
    measured = bootstrap.intervals(statistic, groups=groups, seed=context.seed)
    for name, task, found in zip(names, tasks, predicted, strict=True):
        entries = {metric: entry for (owner, metric), entry in measured.items() if owner == name}
        shared = {"candidates": len(task.vocabulary.values), "coverage": len(task.rows["test"]) / len(context.test)}
        shared |= {"outside": int(task.outside["test"].sum()), **found.chosen}
        fixed = {metric: vars(entry) | {"n": len(task.rows["test"])} | shared for metric, entry in entries.items()}
        results.add(f"attributes/{name}/{prefix}", fixed)
        right = _right(found.accepted, task, "test").astype(np.float64)
        results.per_query[f"attributes/{name}/{prefix}"] = {"rows": task.rows["test"], "accuracy": right}
    for name in ("mean", "weighted_mean"):
        entries = {metric: entry for (owner, metric), entry in measured.items() if owner == f"all {name}"}
        rows = len(np.unique(np.concatenate([task.rows["test"] for task in tasks])))
        shared = {"n": rows, "candidates": len(tasks), "coverage": rows / len(context.test)}
        results.add(f"attributes/{name}/{prefix}", {metric: vars(entry) | shared for metric, entry in entries.items()})


def _statistic(weights_SxN: np.ndarray, *, tasks: list[Task], predicted: list[Predicted]) -> dict:
    """(attribute or "all …", metric) -> (S,); weights are of all test products."""
    values, supports = {}, {}
    for task, found in zip(tasks, predicted, strict=True):
        name, weights_SxM = task.vocabulary.name, weights_SxN[:, task.rows["test"]]
        supports[name] = weights_SxM.sum(axis=1)
        truth = np.concatenate([task.truth["test"], task.outside["test"][:, None] > 0], axis=1)
        column = lambda table, fill: np.concatenate([table, np.full((len(table), 1), fill)], axis=1)
        lowest = found.scores.min(initial=0.0) - 1.0
        measured = label_metrics.multilabel(
            weights_SxM,
            truth_NxV=truth,  # the last column: values that no method can give
            accepted_NxV=column(found.accepted, False),
            scores_NxV=column(found.scores, lowest),
        )
        right = _right(found.accepted, task, "test")
        measured["accuracy"] = or_nan(weights_SxM @ right.astype(np.float64), supports[name])
        sure = weights_SxM @ found.sure.astype(np.float64)
        measured["coverage_at_precision"] = or_nan(sure, supports[name])
        if found.sure.any():
            measured["precision_at_coverage"] = or_nan(weights_SxM @ (found.sure & right).astype(np.float64), sure)
        values |= {(name, metric): value for metric, value in measured.items()}
    for metric in ("micro_f1", "macro_f1", "map", "accuracy", "coverage_at_precision"):
        columns = np.stack([values[name, metric] for name in supports], axis=1)
        support = np.stack(list(supports.values()), axis=1) * np.isfinite(columns)
        columns = np.nan_to_num(columns)
        values["all mean", metric] = or_nan(columns.sum(axis=1), (support > 0).sum(axis=1))
        values["all weighted_mean", metric] = or_nan((columns * support).sum(axis=1), support.sum(axis=1))
    return values
