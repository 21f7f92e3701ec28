"""The matching family: are two listings the same product? By cosine, and by a small network over both vectors.

Pairs come from the split itself (`pairs.py`) and from files of labelled pairs (`pair_files.py`). The invariant: the
threshold is the one of highest F1 on validation pairs, the network learns from training pairs, and test pairs are only
measured. A file without validation pairs is measured in two halves, each with the threshold of the other.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from ecommerce_vl.evaluation import baselines, figures, label_metrics, thresholds
from ecommerce_vl.evaluation import pairs as pair_sets
from ecommerce_vl.evaluation.context import MODEL, Context, holes, no_vectors
from ecommerce_vl.evaluation.pair_files import PairFile
from ecommerce_vl.evaluation.products import VIEWS
from ecommerce_vl.evaluation.results import Results

PRECISIONS = (0.95, 0.99)
DECAYS = (1e-4, 1e-2)  # weight decay of the network, chosen on validation
HIDDEN, EPOCHS, MAX_TRAINING_PAIRS = 64, 10, 4_000
_SPLITS = ("train", "validation", "test")


def run(context: Context, results: Results) -> None:
    """Random and hard pairs of the split in every view, then every file of pairs."""
    for view in VIEWS:
        drawn = {split: pair_sets.draw(context.split(split), view=view, seed=context.seed) for split in _SPLITS}
        for kind in ("random_pairs", "hard_pairs"):
            key = f"matching/{kind}/{view}"
            missing = [split for split in ("test", "validation") if kind not in drawn[split]]
            if missing:
                results.skip(key, _missing(context, missing[0], view, drawn[missing[0]]))
                continue
            _measure_pairs(context, results, key, view=view, pairs={split: drawn[split].get(kind) for split in drawn})
    for file in context.pairs:
        _measure_file(context, results, file)


def cosines(left, right) -> np.ndarray:
    """Float64 (P,): inner products row by row, of dense or CSR unit rows, rounded to 1e-6.

    Rounded, because equal listings have cosines of 1 give or take 1e-7, and a threshold would fall between them.
    """
    if issparse(left):
        return np.asarray(left.multiply(right).sum(axis=1)).ravel().round(6)
    return np.einsum("pd,pd->p", np.asarray(left, np.float64), np.asarray(right, np.float64)).round(6)


def network(train: tuple, match: np.ndarray, *, validation: tuple, validation_match, seed: int):
    """A function (left, right) -> probability (P,) of a match, and the weight decay that validation chose.

    Shapes: train and validation, pairs of dense (P, d) tables. The network reads [a ; b ; |a-b| ; a*b] through one
    hidden layer; what it says is the mean over both orders of a pair.
    """
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(match))[:MAX_TRAINING_PAIRS]
    swapped = random.random((len(drawn), 1)) < 0.5
    left, right = (side[drawn] for side in train)
    rows, labels = _joined(np.where(swapped, right, left), np.where(swapped, left, right)), match[drawn]
    best = (-1.0, 0.0, None)
    for decay in DECAYS:
        net = MLPClassifier((HIDDEN,), alpha=decay, batch_size=min(64, len(rows)), max_iter=EPOCHS, random_state=seed)
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the budget
            net.fit(rows, labels)
        score = partial(_probability, net)
        points = label_metrics.curve(
            np.ones((1, len(validation_match))), positive=validation_match, scores=score(*validation)
        )
        found = float(label_metrics.pr_auc(points)[0])
        if found > best[0]:
            best = (found, decay, score)
    return best[2], best[1]


def _probability(net: MLPClassifier, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with threadpool_limits(1):
        return (net.predict_proba(_joined(left, right))[:, 1] + net.predict_proba(_joined(right, left))[:, 1]) / 2


def _joined(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    # Unit rows have entries of about 1/sqrt(d); the network expects about 1.
    scale = np.sqrt(left.shape[1])
    return np.concatenate([left * scale, right * scale, np.abs(left - right) * scale, left * right * scale**2], axis=1)


def _measure_pairs(context: Context, results: Results, key: str, *, view: str, pairs: dict) -> None:
    rows = {split: np.concatenate([found.left, found.right]) for split, found in pairs.items() if found}
    shared = {"unknown": pairs["test"].unknown, "coverage": len(np.unique(rows["test"])) / len(context.test)}
    note = partial(
        _note,
        context,
        results,
        match={split: found.match for split, found in pairs.items() if found},
        groups=context.test.components()[pairs["test"].left],
        rows=np.stack([pairs["test"].left, pairs["test"].right], axis=1),
    )
    for method in context.methods(view, without=("colour_histogram",)):
        prefix = f"{key}/{method}".rstrip("/")
        if reason := context.lacks(method, *((split, view, rows[split]) for split in ("test", "validation"))):
            results.skip(prefix, reason)
            continue
        sides = {}
        for split in rows:
            table = context.features(method, split, view=view)
            sides[split] = (table[pairs[split].left], table[pairs[split].right])
        scores = {split: cosines(*sides[split]) for split in ("test", "validation")}
        note(f"{prefix}/cosine", scores=scores, **shared)
        if method != MODEL and not (method in context.others and context.thorough):
            continue
        if "train" not in rows:
            results.skip(f"{prefix}/mlp", "no two training products are known to be the same product")
            continue
        _note_network(note, f"{prefix}/mlp", sides=sides, match=note.keywords["match"], seed=context.seed, **shared)


def _measure_file(context: Context, results: Results, file: PairFile) -> None:
    """The pairs of a file in every view that both sides have; the naive methods read its titles alone."""
    if context.encoder is None:
        results.skip(f"matching/{file.name}", "no encoder was given, and the listings of a file must be embedded")
        return
    views = VIEWS if any(record["images"] for record in file.left + file.right) else ("text",)
    vectors = {
        name: [_embed(one, side, views) for side in (file.left, file.right)]
        for name, one in context.encoders().items()
        if name == MODEL or set(views) & {"product", *one.modalities}
    }
    for view in views:
        whole = np.all([np.isfinite(side[view]).all(axis=1) for side in vectors[MODEL]], axis=0)
        rows = {split: np.flatnonzero(whole & (file.splits == split)) for split in _SPLITS}
        match = {split: file.match[chosen] for split, chosen in rows.items()}
        least = min(match["test"].sum(), (~match["test"]).sum())
        if least < 2:
            reason = f"its test pairs with a vector of their {view} have {least} of one kind; two of both are needed"
            results.skip(f"matching/{file.name}/{view}", reason)
            continue
        note = partial(
            _note,
            context,
            results,
            match=match,
            groups=np.arange(len(rows["test"])),
            rows=np.empty((len(rows["test"]), 0), int),
            coverage=len(rows["test"]) / int((file.splits == "test").sum()),
        )
        tables = {
            name: tuple(side[view] for side in both)
            for name, both in vectors.items()
            if name == MODEL or context.reads(name, view)
        } | _naive(file, view)
        for method, both in tables.items():
            prefix = f"matching/{file.name}/{view}/{method}".rstrip("/")
            sides = {split: tuple(side[chosen] for side in both) for split, chosen in rows.items()}
            if count := sum(int(holes(side).sum()) for pair in sides.values() for side in pair):
                results.skip(prefix, no_vectors(count))
                continue
            note(f"{prefix}/cosine", scores={split: cosines(*pair) for split, pair in sides.items()})
            if method == MODEL and all(match[split].any() and not match[split].all() for split in _SPLITS):
                _note_network(note, f"{prefix}/mlp", sides=sides, match=match, seed=context.seed)


def _embed(encoder, records: list, views: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Vectors by view; without pictures the words alone, which costs no pass through the image tower."""
    if views == ("text",):
        return {"text": encoder.embed_texts([record["title"] for record in records])}
    return encoder.embed_views(records)


def _naive(file: PairFile, view: str) -> dict[str, tuple]:
    if view == "image":
        return {}
    titles = [[record["title"] for record in side] for side in (file.left, file.right)]
    known = [
        title
        for side in titles
        for title, split in zip(side, file.splits, strict=True)
        if split == "train" or "train" not in file.splits
    ]
    methods = {"tfidf": baselines.tfidf_vectors, "tfidf_characters": baselines.character_tfidf_vectors}
    return {name: tuple(vectors(side, fitted_on=known) for side in titles) for name, vectors in methods.items()}


def _note_network(note, prefix: str, *, sides: dict, match: dict, seed: int, **shared) -> None:
    score, decay = network(
        sides["train"],
        match["train"],
        validation=sides["validation"],
        validation_match=match["validation"],
        seed=seed,
    )
    scores = {split: score(*sides[split]) for split in ("test", "validation")}
    note(prefix, scores=scores, probabilities=True, weight_decay=decay, **shared)


def _note(context: Context, results: Results, prefix: str, *, match, scores, groups, rows, **shared) -> None:
    if match["validation"].any():
        threshold, _ = label_metrics.best_threshold(match["validation"], scores=scores["validation"])
        accepted, chosen_on = scores["test"] >= threshold, "validation"
    else:
        accepted, threshold = _crossed(match["test"], scores["test"])
        chosen_on = "the other half"
    measured = thresholds.measure(
        match["test"],
        scores=scores["test"],
        accepted=accepted,
        precisions=PRECISIONS,
        groups=groups,
        seed=context.seed,
        threshold=threshold,
        chosen_on=chosen_on,
        **shared,
    )
    results.add(prefix, measured)
    if prefix.count("/") == 3:  # the model's
        results.figures[prefix] = figures.PrecisionRecall(
            right=match["test"], scores=scores["test"], threshold=threshold, rows=rows, chosen_on=chosen_on
        )


def _crossed(match: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """What is accepted where each half has the threshold of the other, and the mean of the two.

    Halves by turns within matches and others, so that both have their share.
    """
    half = np.zeros(len(match), int)
    for answer in (True, False):
        half[match == answer] = np.arange((match == answer).sum()) % 2
    accepted, chosen = np.zeros(len(match), bool), []
    for side in (0, 1):
        other = half != side
        chosen.append(label_metrics.best_threshold(match[other], scores=scores[other])[0])
        accepted[half == side] = scores[half == side] >= chosen[-1]
    return accepted, float(np.mean(chosen))


def _missing(context: Context, split: str, view: str, drawn: dict) -> str:
    if drawn:
        return f"no {split} product has another of its category that is another product, with a vector of its {view}"
    return f"no two {split} products with a vector of their {view} are known to be the same product"
