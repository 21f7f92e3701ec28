"""Clicked together: does a product find what shoppers clicked with it? By mined pairs that training did not see.

From any modality to any other, as `judged_pairs.py` measures annotated pairs. The invariant: a direction has the same
queries, gallery and right answers for the model and every baseline. What was not clicked counts as wrong, though it may
be as alike, so figures are low and compare among themselves.
"""

from __future__ import annotations

from collections import defaultdict

from ecommerce_vl.evaluation import judged_pairs
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import VIEWS
from ecommerce_vl.evaluation.results import Results

MIN_QUERIES = 10  # products that ask; fewer were not meant for an evaluation


def run(context: Context, results: Results) -> None:
    """`clicked_pairs/{image,text,product}2{image,text,product}`, where a log was mined that has pairs of this split."""
    if context.clicked is None:
        results.skip("clicked_pairs", "no click log was mined for this data (prepare --clicks=FILE)")
        return
    # A log names one direction of a pair; what was clicked with a product is right either way.
    clicked = sorted({*context.clicked, *((other, one) for one, other in context.clicked)})
    queries = len({query for query, _ in clicked})
    if queries < MIN_QUERIES:
        results.skip("clicked_pairs", f"{queries} products of this split have mined pairs; {MIN_QUERIES} are needed")
        return
    for method, vectors in _methods(context, results):
        found: dict[str, dict[str, dict]] = defaultdict(dict)
        measured = judged_pairs.measure(context.test, clicked, vectors=vectors, seed=context.seed)
        for key, entry in measured.items():
            direction, metric = key.split("/")
            found[direction.replace("-", "2")][metric] = entry
        for direction, entries in found.items():
            results.add(f"clicked_pairs/{direction}/{method}".rstrip("/"), entries)


def _methods(context: Context, results: Results):
    """Each method with its vectors of views that it compares with one another."""
    tables = {view: context.methods(view) for view in VIEWS}
    for method in dict.fromkeys(method for methods in tables.values() for method in methods):
        vectors = {}
        for view in (view for view in VIEWS if method in tables[view]):
            present = context.test.present(view).nonzero()[0]
            if reason := context.lacks(method, ("test", view, present)):
                results.skip(f"clicked_pairs/{view}/{method}", reason)
            else:
                vectors[view] = context.features(method, "test", view=view, fitted_on="test")
        if method == MODEL or context.crosses(method):
            yield method, vectors
        else:
            yield from ((method, {view: table}) for view, table in vectors.items())
