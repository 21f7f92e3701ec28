"""The adult family: products that a shop may not show to everybody, recognised from their vectors.

The label is the feed's `adult`; a product whose feed does not say is unknown and left out, never taken for a "no".
The invariant: probe, prompt and threshold come from training and validation rows.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ecommerce_vl.evaluation import figures, label_metrics, probes, thresholds
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import VIEWS
from ecommerce_vl.evaluation.results import Results

PRECISIONS = (0.9, 0.99)
RECALL = 0.99
# Words for a product that is not adult, and for one that is; the score is how much nearer the second is.
PROMPTS = {
    "plain": ("everyday product", "adult product"),
    "shop": ("product for all ages", "sex toy or erotic lingerie for adults only"),
    "photo": ("a photo of a family-friendly product", "a photo of an adult-only product"),
}
_SPLITS = ("train", "validation", "test")


def run(context: Context, results: Results) -> None:
    """A linear probe on every view and method, and a pair of prompts where a method has words."""
    for view in VIEWS:
        key = f"adult/{view}"
        rows = {split: _known(context, split, view) for split in _SPLITS}
        positive = {split: _positive(context, split, chosen) for split, chosen in rows.items()}
        if reason := _missing(positive, view):
            results.skip(key, reason)
            continue
        for method in context.methods(view, without=("colour_histogram",)):
            prefix = f"{key}/{method}".rstrip("/")
            if reason := context.lacks(method, *((split, view, chosen) for split, chosen in rows.items())):
                results.skip(prefix, reason)
                continue
            features = {split: context.features(method, split, view=view)[chosen] for split, chosen in rows.items()}
            note = partial(_note, context, results, rows=rows["test"], positive=positive)
            both, strength = _linear(features, positive, seed=context.seed)
            note(f"{prefix}/linear", scores=both, ridge=strength)
            if context.has_words(method):
                both, prompt = _zero_shot(context, method, features, positive)
                note(f"{prefix}/zero_shot", scores=both, prompt=prompt)
            elif method == MODEL:
                results.skip(f"{prefix}/zero_shot", "no encoder was given, and prompts must be embedded")


def _linear(features: dict, positive: dict, *, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Scores of validation and test rows, and the ridge of the highest validation pr_auc."""
    scores, strength = probes.head_scores(
        features["train"],
        targets_NxV=positive["train"][:, None],
        validation=features["validation"],
        quality=lambda scores: _pr_auc(positive["validation"], scores[:, 0]),
        rows=(features["validation"], features["test"]),
        seed=seed,
    )
    return {split: column[:, 0] for split, column in zip(("validation", "test"), scores, strict=True)}, strength


def _zero_shot(context: Context, method: str, features: dict, positive: dict) -> tuple[dict[str, np.ndarray], str]:
    margin = lambda pair: pair[:, 1] - pair[:, 0]
    pairs, prompt = probes.zero_shot(
        partial(context.words, method),
        PROMPTS,
        validation=features["validation"],
        quality=lambda pair: _pr_auc(positive["validation"], margin(pair)),
        rows=(features["validation"], features["test"]),
    )
    return {split: margin(pair) for split, pair in zip(("validation", "test"), pairs, strict=True)}, prompt


def _note(context: Context, results: Results, prefix: str, *, scores, rows, positive, **chosen) -> None:
    threshold, _ = label_metrics.best_threshold(positive["validation"], scores=scores["validation"])
    accepted = scores["test"] >= threshold
    measured = thresholds.measure(
        positive["test"],
        scores=scores["test"],
        accepted=accepted,
        precisions=PRECISIONS,
        recall=RECALL,
        groups=context.test.components()[rows],
        seed=context.seed,
        threshold=threshold,
        coverage=len(rows) / len(context.test),
        **chosen,
    )
    results.add(prefix, measured)
    results.per_query[prefix] = {"rows": rows, "error": (accepted != positive["test"]).astype(np.float64)}
    if prefix.count("/") == 2:  # the model's
        results.figures[prefix] = figures.PrecisionRecall(
            right=positive["test"], scores=scores["test"], threshold=threshold, rows=rows[:, None]
        )


def _known(context: Context, split: str, view: str) -> np.ndarray:
    products = context.split(split)
    answered = np.array([answer in ("yes", "no") for answer in products.adult], bool)
    return np.flatnonzero(answered & products.present(view))


def _positive(context: Context, split: str, rows: np.ndarray) -> np.ndarray:
    return np.array([context.split(split).adult[row] == "yes" for row in rows], bool)


def _missing(positive: dict[str, np.ndarray], view: str) -> str:
    for split, labels in positive.items():
        if not labels.any() or labels.all():
            return (
                f"{split} has {int(labels.sum())} adult and {int((~labels).sum())} other products with a vector of "
                f"their {view}; both are needed (unknown is neither)"
            )
    return ""


def _pr_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    points = label_metrics.curve(np.ones((1, len(positive))), positive=positive, scores=scores)
    return float(label_metrics.pr_auc(points)[0])
