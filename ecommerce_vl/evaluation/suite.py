"""The whole evaluation: every task that the data allows, the model beside its baselines.

The invariant: keys are task/setting/[baseline/][probe/]metric, a baseline has the same pool, candidates and intervals
as the model's row above it, and whatever cannot be measured is named in `skipped` with its reason, so that a number
is never silently absent. The validation split chooses, the test split is only measured.
"""

from collections.abc import Callable, Sequence
from functools import partial

from ecommerce_vl.evaluation import (
    adult,
    approximate,
    attributes,
    category,
    centred,
    clicked_pairs,
    clustering,
    composed,
    context,
    cross_modal,
    dominance,
    matching,
    product_retrieval,
    query_retrieval,
)
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

# The first part of a key -> what measures it, in the order of the report.
TASKS = {
    **{name: partial(product_retrieval.run, task=name) for name in ("image_text", "same_product", "same_style")},
    "cross_modal": cross_modal.run,
    "dominance": dominance.run,
    "centred": centred.run,
    "clicked_pairs": clicked_pairs.run,
    "query": query_retrieval.run,
    "composed": composed.run,
    "approximate": approximate.run,
    "category": category.run,
    "attributes": attributes.run,
    "matching": matching.run,
    "clustering": clustering.run,
    "adult": adult.run,
}


def run(
    test: EmbeddedProducts,
    *,
    train: EmbeddedProducts,
    validation: EmbeddedProducts,
    tasks: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
    **known,
) -> Results:
    """Measures all tasks on `test`; `train` gives neighbours and probes, `validation` their choices.

    `tasks`: names of `TASKS` to measure instead of all. `known`: what else a task may need, the fields of
    `context.Context`: encoder, others, records, queries, clicked, pairs, fine_tune, thorough, seed.
    `progress(done, total, name)` is called before each task and once at the end. Same inputs and seed, same results.
    Memory: a block of scores at a time, and the relevance of up to 1,000 answers per query.
    """
    given = context.Context(test=test, train=train, validation=validation, **known)
    results = Results(products=test)
    for method, encoder in given.others.items():
        for modality, things in (("image", "pictures"), ("text", "words")):
            if modality not in encoder.modalities:
                results.skip(method, f"it reads no {things}, and has no rows of tasks that ask with them")
    asked = [name for name in TASKS if name in tasks or not tasks]
    for name in TASKS:
        if name not in asked:
            results.skip(name, "it was not asked for")
    for done, name in enumerate(asked):
        if progress:
            progress(done, len(asked), name)
        TASKS[name](given, results)
    if progress:
        progress(len(asked), len(asked), "done")
    return results
