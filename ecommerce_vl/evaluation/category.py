"""The category family: which leaf of the taxonomy a product belongs to, read from frozen vectors or by fine-tuning.

The label is the whole path ("A > B > C"), so that two leaves of one name stay apart. The invariant: nothing is chosen
on the test rows; see `probes.py`. Test rows of a class that training never saw cannot be answered, and are counted
apart (`unseen`) instead of entering the means.

The probe of picture and title together reads the `product` unit vector, which every product has: a concatenation
[v ; t] would need a zero vector where one modality is missing, and none is ever made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ecommerce_vl.evaluation import bootstrap, figures, metrics, probes
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import SEPARATOR, VIEWS, EmbeddedProducts
from ecommerce_vl.evaluation.ratios import or_nan
from ecommerce_vl.evaluation.results import Results

SHOTS = (1, 2, 4, 8, 16)  # training rows a class
DRAWS = 5  # of those rows, each by a seed of its own
# What a shop or a caption may call a product of a leaf category; {path} has the whole path, top level first.
PROMPTS = ("{leaf}", "a photo of {leaf}", "{leaf} for sale, product photo", "{parent} {leaf}", "{path}")


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


def run(context: Context, results: Results) -> None:
    """Every view with every method: linear probe, neighbours, prompts; with `thorough` few shots and fine-tuning."""
    splits = {"train": context.train, "validation": context.validation}
    for view in VIEWS:
        found = pool(context.test, **splits, view=view)
        if reason := missing(found):
            results.skip(f"category/{view}", reason)
            continue
        for method in context.methods(view):
            _measure_method(context, results, pool=found, view=view, method=method)
        if context.thorough:
            _fine_tune(context, results, pool=found, view=view)
    everyone = pool(context.test, **splits)
    if not missing(everyone):
        _note(context, results, "category/majority", scores=majority_scores(everyone), pool=everyone)


def _measure_method(context: Context, results: Results, *, pool: Pool, view: str, method: str) -> None:
    prefix = f"category/{view}/{method}".rstrip("/")
    rows = {"test": pool.test, "train": pool.train, "validation": pool.validation}
    if reason := context.lacks(method, *((split, view, chosen) for split, chosen in rows.items())):
        results.skip(prefix, reason)
        return
    features = {split: context.features(method, split, view=view)[chosen] for split, chosen in rows.items()}
    note = partial(_note, context, results, pool=pool)
    if method != "random":  # a probe of noise is the most frequent class at best
        scores, chosen = probes.linear_scores(
            features["test"],
            train=features["train"],
            train_y=pool.train_y,
            validation=features["validation"],
            validation_y=pool.validation_y,
            num_classes=len(pool.classes),
        )
        note(f"{prefix}/linear", scores=scores, **chosen)
    votes = probes.knn_votes(
        features["test"],
        gallery=features["train"],
        gallery_y=pool.train_y,
        gallery_ids=[context.train.ids[row] for row in pool.train],
        num_classes=len(pool.classes),
    )
    note(f"{prefix}/knn", scores=votes)
    if context.has_words(method):
        (scores,), prompt = probes.zero_shot(
            partial(context.words, method),
            prompts(pool.classes),
            validation=features["validation"],
            quality=lambda scores: float((scores.argmax(axis=1) == pool.validation_y).mean()),
            rows=(features["test"],),
        )
        note(f"{prefix}/zero_shot", scores=scores, prompt=prompt)
    elif method == MODEL:
        results.skip(f"{prefix}/zero_shot", "no encoder was given, and prompts must be embedded")
    if context.thorough and method != "random":
        _few_shots(context, results, prefix, features=features, pool=pool)


def prompts(classes: Sequence[str]) -> dict[str, list[str]]:
    """Template -> its text for each leaf path."""
    parts = [path.split(SEPARATOR) for path in classes]
    known = [{"leaf": part[-1], "parent": (["", *part])[-2], "path": ", ".join(part)} for part in parts]
    return {template: [" ".join(template.format(**names).split()) for names in known] for template in PROMPTS}


def few_shot_rows(train_y: np.ndarray, *, shots: int, seed: tuple) -> np.ndarray:
    """Int rows: `shots` of each class drawn without replacement, all of a class that has fewer."""
    order = np.random.default_rng(seed).permutation(len(train_y))
    place = np.empty(len(train_y), int)  # of a row among those of its class, in the drawn order
    for label in np.unique(train_y):
        mine = order[train_y[order] == label]
        place[mine] = np.arange(len(mine))
    return np.flatnonzero(place < shots)


def _few_shots(context: Context, results: Results, prefix: str, *, features: dict, pool: Pool) -> None:
    """Means over five draws of the training rows; C and the form of the features from validation, for each draw."""
    points = []
    for shots in SHOTS:
        drawn = [few_shot_rows(pool.train_y, shots=shots, seed=(context.seed, shots, draw)) for draw in range(DRAWS)]
        fits = [
            probes.linear_scores(
                features["test"],
                train=features["train"][rows],
                train_y=pool.train_y[rows],
                validation=features["validation"],
                validation_y=pool.validation_y,
                num_classes=len(pool.classes),
            )
            for rows in drawn
        ]
        ranked = [_ranked(scores) for scores, _ in fits]
        statistic = lambda weights, ranked=ranked: _mean_of(
            [_statistic(weights, ranked=one, pool=pool) for one in ranked]
        )
        estimates = bootstrap.intervals(statistic, groups=pool.groups, seed=context.seed)
        tops = [float((one[:, 0] == pool.test_y).mean()) for one in ranked]
        shared = _shared(pool) | {
            "draws": DRAWS,
            "C": [chosen["C"] for _, chosen in fits],
            "whitened": [chosen["whitened"] for _, chosen in fits],
            "top1_deviation": np.std(tops),
        }
        results.add(f"{prefix}/few_shot_{shots}", {name: vars(one) | shared for name, one in estimates.items()})
        top = estimates["top1"]
        points.append((shots, top.value, top.low, top.high))
    view = prefix.split("/")[1]
    curve = results.figures.get(f"category/{view}/few_shot")
    series = (curve.series if curve else {}) | {prefix.removeprefix(f"category/{view}").strip("/"): tuple(points)}
    results.figures[f"category/{view}/few_shot"] = figures.Curve("training rows a class", "top 1", series, log_x=True)


def _fine_tune(context: Context, results: Results, *, pool: Pool, view: str) -> None:
    key = f"category/{view}/fine_tune"
    if context.fine_tune is None or not context.records:
        results.skip(key, "no encoder was given that can be trained further")
        return
    given = {
        split: ([context.records[split][row] for row in rows], labels)
        for split, rows, labels in (
            ("train", pool.train, pool.train_y),
            ("validation", pool.validation, pool.validation_y),
        )
    }
    test = [context.records["test"][row] for row in pool.test]
    scores, chosen = context.fine_tune(view, **given, test=test, num_classes=len(pool.classes))
    _note(context, results, key, scores=scores, pool=pool, **chosen)


def _note(context: Context, results: Results, prefix: str, *, scores: np.ndarray, pool: Pool, **chosen) -> None:
    results.add(prefix, measure(scores, pool=pool, seed=context.seed, **chosen))
    ranked = _ranked(scores)
    right = ranked == pool.test_y[:, None]
    results.per_query[prefix] = {
        "rows": pool.test,
        "top1": right[:, 0].astype(np.float64),
        "top5": right.any(axis=1).astype(np.float64),
    }
    if prefix.count("/") == 2:  # the model's
        results.figures[prefix] = figures.Confusion(
            classes=tuple(pool.classes), true=pool.test_y, predicted=ranked[:, 0], rows=pool.test
        )


def majority_scores(pool: Pool) -> np.ndarray:
    """Float64 (N, C): the frequency of each class in training, the same for every test row."""
    return np.tile(np.bincount(pool.train_y, minlength=len(pool.classes)).astype(np.float64), (len(pool.test), 1))


def measure(scores_NxC: np.ndarray, *, pool: Pool, seed: int = 0, **chosen) -> dict[str, dict]:
    """Metric name -> {value, low, high, n, candidates, coverage, unseen, ...chosen} of the test rows of a pool.

    `candidates` is the number of classes; `chosen` is stored with the numbers (the C of a probe). Beside those of
    `metrics.classification`: `hier_f1`, and `top1_depth1`, `top1_depth2`, … for taxonomies of more than one level, the
    share whose first levels are right, of the rows that have so many.
    """
    statistic = partial(_statistic, ranked=_ranked(scores_NxC), pool=pool)
    estimates = bootstrap.intervals(statistic, groups=pool.groups, seed=seed)
    return {name: vars(estimate) | _shared(pool) | chosen for name, estimate in estimates.items()}


def _statistic(weights_SxN: np.ndarray, *, ranked: np.ndarray, pool: Pool) -> dict[str, np.ndarray]:
    paths = [path.split(SEPARATOR) for path in pool.classes]
    true, predicted = ([paths[label] for label in labels] for labels in (pool.test_y, ranked[:, 0]))
    values = metrics.classification(weights_SxN, truth=pool.test_y, ranked_NxM=ranked, num_classes=len(pool.classes))
    values["hier_f1"] = metrics.hier_f1(weights_SxN, truth=true, predicted=predicted)
    depths = np.array([len(path) for path in true])
    for depth in range(1, int(depths.max())):  # the last level is top1 itself
        right = np.array([a[:depth] == b[:depth] for a, b in zip(true, predicted, strict=True)], np.float64)
        deep = (depths >= depth).astype(np.float64)
        values[f"top1_depth{depth}"] = or_nan(weights_SxN @ (right * deep), weights_SxN @ deep)
    return values


def _ranked(scores_NxC: np.ndarray) -> np.ndarray:
    return np.argsort(-scores_NxC, axis=1, kind="stable")[:, :5]


def _mean_of(values: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean([one[name] for one in values], axis=0) for name in values[0]}


def _shared(pool: Pool) -> dict:
    return {"candidates": len(pool.classes), "coverage": pool.coverage, "unseen": pool.unseen}


def _labelled(products: EmbeddedProducts, view: str | None) -> np.ndarray:
    known = np.array([bool(path) for path in products.category_paths], bool)
    return np.flatnonzero(known & products.present(view) if view else known)
