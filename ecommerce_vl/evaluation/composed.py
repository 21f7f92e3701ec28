"""Picture and words: "this one, but blue". Measured without labels of its own, by flipping the colour.

A product whose picture, colour and leaf category are known asks with its picture and the name of another colour that
its leaf has. The invariant: all settings and baselines have the same queries, words and candidates (the product vectors
of the split, the asking product removed by id), and lambda is chosen on validation flips.

    composed/sum         norm(picture + lambda words)
    composed/joint       the encoder reads picture and words together, where it can
    composed/image_only  the picture alone, composed/words_only the words alone: what either half does by itself
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation import bootstrap, search
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.figures import Example, Grid, Neighbour
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

LAMBDAS = (0.25, 0.5, 1.0, 2.0)
ATTRIBUTE = "color"
TOP = 10
_SHOWN, _NEIGHBOURS = 5, 6


@dataclass(frozen=True)
class Flips:
    """Q products that ask for another colour.

    Shapes: queries int (Q,), rows of the products; words, Q colours; documents int (M,), rows; shelf int (M,), a number
    for the leaf and colour of each document, -1 where one is unknown; target int (Q,), the shelf that is asked for.
    """

    queries: np.ndarray
    words: list[str]
    documents: np.ndarray
    shelf: np.ndarray
    target: np.ndarray

    def right(self, rows_QxK: np.ndarray) -> np.ndarray:
        """Bool (Q, K): which answers, places among the documents, lie on the shelf that was asked for."""
        return (self.shelf[rows_QxK] == self.target[:, None]) & (rows_QxK >= 0)


def run(context: Context, results: Results) -> None:
    """`composed/…`, where products have pictures, colours and leaf categories, and an encoder reads words."""
    if context.encoder is None:
        results.skip("composed", "no encoder was given, and the words must be embedded")
        return
    flips = flip(context.test, seed=context.seed)
    if not len(flips.queries):
        results.skip("composed", f"no product with a picture and a known {ATTRIBUTE} has one of another in its leaf")
        return
    for method in context.methods("image"):
        if not context.crosses(method):
            continue
        needed = ("test", "image", flips.queries), ("test", "product", flips.documents)
        if reason := context.lacks(method, *needed):
            results.skip(f"composed/sum/{method}", reason)
            continue
        for setting, queries, chosen in _compositions(context, method, flips):
            _measure(context, results, flips, setting=setting, method=method, queries=queries, chosen=chosen)
    if not _reads_both(context):
        results.skip("composed/joint", "this encoder does not read a picture and words together")


def flip(products: EmbeddedProducts, *, seed: int) -> Flips:
    """The flips of a split: for each product one other colour of its leaf, drawn."""
    documents = np.flatnonzero(products.present("product"))
    place = [(leaf, _colour(known)) for leaf, known in zip(products.category_paths, products.attributes, strict=True)]
    number = {key: count for count, key in enumerate(sorted({place[row] for row in documents if all(place[row])}))}
    colours = defaultdict(list)  # leaf -> its colours, sorted
    for leaf, colour in number:
        colours[leaf].append(colour)
    random, asked = np.random.default_rng(seed), []
    for row in np.flatnonzero(products.present("image") & products.present("product")):
        leaf, colour = place[row]
        others = [other for other in colours.get(leaf, ()) if other != colour] if colour else []
        if others:
            asked.append((row, others[random.integers(len(others))]))
    return Flips(
        queries=np.array([row for row, _ in asked], int),
        words=[word for _, word in asked],
        documents=documents,
        shelf=np.array([number.get(place[row], -1) for row in documents], int),
        target=np.array([number[place[row][0], word] for row, word in asked], int),
    )


def _colour(attributes: dict) -> str:
    """The one colour of a product; "" where it is unknown or there are several."""
    value = attributes.get(ATTRIBUTE, "")
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else ""
    return value.strip().lower() if isinstance(value, str) else ""


def _compositions(context: Context, method: str, flips: Flips) -> Iterator[tuple[str, np.ndarray, dict]]:
    """Setting, query vectors (Q, d), what was chosen."""
    image = context.features(method, "test", view="image")[flips.queries]
    words = _embedded(context, method, flips.words)
    strength = _choose(context, method)
    yield "sum", compose(image, words, strength), {"lambda": strength}
    yield "image_only", image, {}
    yield "words_only", words, {}
    if method == MODEL and _reads_both(context):
        pictures = [context.test.images[row] for row in flips.queries]
        if all(pictures):
            yield "joint", context.encoder.embed_composed(pictures, flips.words), {}


def _reads_both(context: Context) -> bool:
    """Whether one encoder reads a picture and words; the composition of two towers is the row `sum`."""
    return getattr(context.encoder, "reads_both", False)


def compose(image_QxD: np.ndarray, words_QxD: np.ndarray, strength: float) -> np.ndarray:
    """Float32 (Q, D): norm(image + lambda words), unit rows; the picture where they cancel."""
    total = image_QxD + strength * words_QxD
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(norms > 1e-6, total / np.maximum(norms, 1e-6), image_QxD).astype(np.float32)


def _embedded(context: Context, method: str, words: list[str]) -> np.ndarray:
    """Each word once; (Q, D) in their order."""
    names, place = np.unique(np.array(words), return_inverse=True)
    if method == "random":
        vectors = context.features("random", "test", view="text")
        return vectors[np.random.default_rng(context.seed).integers(0, len(vectors), len(names))[place]]
    return context.words(method, names.tolist())[place]


def _choose(context: Context, method: str) -> float:
    """The lambda with the highest success@10 on the flips of the validation split; 1 where it has none."""
    flips = flip(context.validation, seed=context.seed)
    if not len(flips.queries) or method == "random":
        return 1.0
    image = context.features(method, "validation", view="image")[flips.queries]
    documents = context.features(method, "validation", view="product")[flips.documents]
    words = _embedded(context, method, flips.words)

    def success(strength: float) -> float:
        rows, _ = _top(context.validation, flips, compose(image, words, strength), documents)
        return _success(flips, rows).mean()

    return max(LAMBDAS, key=success)


def _top(products: EmbeddedProducts, flips: Flips, queries, documents) -> tuple[np.ndarray, np.ndarray]:
    return search.top_k(
        queries,
        gallery=documents,
        gallery_ids=[products.ids[row] for row in flips.documents],
        query_ids=[products.ids[row] for row in flips.queries],
        k=TOP,
    )


def _success(flips: Flips, rows: np.ndarray) -> np.ndarray:
    return flips.right(rows).sum(axis=1) / np.maximum(1, (rows >= 0).sum(axis=1))


def _measure(context: Context, results: Results, flips: Flips, *, setting, method, queries, chosen) -> None:
    """`success@10`: share of the top 10 of the new colour and the old leaf; `identity`: cosine of the query to the
    centroid of the original's group; `collapse`: share of the top 10 that the words alone would find too."""
    products = context.test
    documents = context.features(method, "test", view="product")[flips.documents]
    rows, scores = _top(products, flips, queries, documents)
    alone, _ = _top(products, flips, _embedded(context, method, flips.words), documents)
    shared = [len(set(a) & set(b) - {-1}) for a, b in zip(rows.tolist(), alone.tolist(), strict=True)]
    values = {
        "success@10": _success(flips, rows),
        "identity": (queries * _centroids(products, flips, documents)).sum(axis=1, dtype=np.float64),
        "collapse": np.array(shared) / np.maximum(1, (rows >= 0).sum(axis=1)),
    }
    estimates = bootstrap.mean_intervals(values, groups=products.components()[flips.queries], seed=context.seed)
    facts = {"candidates": len(flips.documents) - 1, "coverage": len(flips.queries) / len(products)}
    facts |= {"mean_relevant": float(np.bincount(flips.shelf[flips.shelf >= 0])[flips.target].mean())} | chosen
    key = f"composed/{setting}/{method}".rstrip("/")
    results.add(key, {name: vars(found) | facts for name, found in estimates.items()})
    if method == MODEL:
        results.per_query[key] = {**values, "rows": flips.queries}
        if setting in ("sum", "joint"):
            results.grids[key] = _grid(flips, rows, scores, values["success@10"], seed=context.seed)


def _centroids(products: EmbeddedProducts, flips: Flips, documents: np.ndarray) -> np.ndarray:
    """Float64 (Q, D), unit rows: the mean of the documents of each query's group, itself at least."""
    groups, group_of = np.unique(products.components(), return_inverse=True)
    sums = np.zeros((len(groups), documents.shape[1]))
    np.add.at(sums, group_of[flips.documents], documents.astype(np.float64))
    mean = sums[group_of[flips.queries]]
    return mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)


def _grid(flips: Flips, rows: np.ndarray, scores: np.ndarray, success: np.ndarray, *, seed: int) -> Grid:
    """Queries at random of those whose first answer is right, and of those whose is not."""
    right = flips.right(rows)
    first = right[:, 0]
    order = np.random.default_rng(seed).permutation(len(rows))
    chosen = [place for side in (first, ~first) for place in order[side[order]][:_SHOWN]]
    return Grid(
        title="This one, but in another colour",
        question="A picture and the name of a colour ask.",
        right_means="a product of the new colour in the same leaf category",
        query_view="image",
        document_view="product",
        examples=tuple(
            Example(
                query=int(flips.queries[place]),
                words=flips.words[place],
                right=bool(first[place]),
                neighbours=tuple(
                    Neighbour(int(flips.documents[row]), float(score), bool(fits))
                    for row, score, fits in zip(rows[place, :_NEIGHBOURS], scores[place], right[place], strict=False)
                    if row >= 0
                ),
            )
            for place in chosen
        ),
    )
