"""Search queries: words ask, products answer; people, or the clicks of a log, have graded some of the answers.

Two questions of the same judgements. `query/VIEW`: the whole corpus is ranked; what nobody judged counts as not
relevant, and `judged@10` says how much of the top that is. `query/rerank_VIEW`: the judged products alone are ranked,
without holes. The invariant: the model and its baselines have the same queries, candidates and judgements; a query
without a relevant product in the corpus leaves and shows in `coverage`, a judged product that the corpus lacks is
counted in `lost_judgements`; what is known to be right of another part of a log is no answer, right or wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation import baselines, bootstrap, metrics, search
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.figures import Example, Grid, Neighbour
from ecommerce_vl.evaluation.lexical import WORD, Bm25
from ecommerce_vl.evaluation.products import VIEWS
from ecommerce_vl.evaluation.queries import Scale
from ecommerce_vl.evaluation.results import Results

_GRADED = ("ndcg@10", "judged@10")
_BINARY = ("recall@10", "recall@100", "recall@1000", "recall@4000", "recall@10000", "mrr@10", "hit@10")
_RERANKED = ("ndcg@10", "ndcg", "err", "rbp")
_SLICED = ("ndcg@10", "recall@100")
DEPTH, TOP = 10_000, 10  # what one channel of several hands on, and what a shopper sees
UNIQUE = (100, 1000)  # depths at which the channel is compared with words
MAX_WORDS = 4  # of a brand or value that a query may name
MIN_SLICE = 5  # queries; an interval of fewer says nothing
MIN_QUERIES = 10  # of a log; fewer were not meant for an evaluation
_SHOWN = 5
_WORDS = re.compile(WORD)


@dataclass(frozen=True)
class Pool:
    """Who asks and who may answer in one view.

    Shapes: queries int (Q,), numbers of the judged queries that have a relevant candidate; splits and rows (M,), where
    each candidate lies; ids and titles, M strings; rows of `graded` are pairs (query, candidate), sorted, as one number
    each, with their `grades`, and `propensities` (NaN where the log has none); those of `known` are no answers. `lost`
    judgements name products that are no candidates. brands and values: in lower case, of the candidates' attributes.
    """

    queries: np.ndarray
    ids: list[str]
    titles: list[str]
    leaves: np.ndarray
    parts: dict[str, np.ndarray]
    graded: np.ndarray
    grades: np.ndarray
    propensities: np.ndarray
    known: np.ndarray
    lost: int
    scale: Scale
    brands: set[str]
    values: set[str]

    def look_up(self, values: np.ndarray, queries: np.ndarray, rows_NxK: np.ndarray) -> np.ndarray:
        """Float64 (N, K): `grades` or `propensities` of each candidate for each query, NaN where it was not judged."""
        wanted = queries[:, None] * len(self.ids) + rows_NxK
        place = np.minimum(np.searchsorted(self.graded, wanted), len(self.graded) - 1)
        return np.where((self.graded[place] == wanted) & (rows_NxK >= 0), values[place], np.nan)

    def judged(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """The candidates (J,) that were judged for a query, and their grades."""
        low, high = np.searchsorted(self.graded, [query * len(self.ids), (query + 1) * len(self.ids)])
        return self.graded[low:high] - query * len(self.ids), self.grades[low:high]


def run(context: Context, results: Results) -> None:
    """`query/…` for every view, where queries were given and their products are known."""
    if context.queries is None:
        results.skip("query", "no queries with judgements were given (--queries=FILE)")
        return
    if context.queries.blocks and len(context.queries) < MIN_QUERIES:
        found = f"the log holds out {len(context.queries)} queries with clicks of this split; {MIN_QUERIES} are needed"
        results.skip("query", f"{found}, or judgements from elsewhere (--queries=FILE)")
        return
    splits = _corpus(context)
    for view in VIEWS:
        pool = _pool(context, splits, view=view)
        if not len(pool.queries):
            results.skip(
                f"query/{view}",
                f"no query has a relevant product among the {len(pool.ids)} with a vector of its {view}",
            )
            continue
        tops = {}
        for method, asked, candidates in _methods(context, pool, view=view):
            vectors = {"asked": asked, "candidates": candidates}
            tops[method] = _measure(context, results, pool, view=view, method=method, **vectors)
        if tops.get(MODEL) is not None and "bm25" in tops:
            _note(context, results, pool, f"query/{view}", _unique(pool, tops[MODEL], tops["bm25"]), keep=False)
        if context.encoder is None:
            results.skip(f"query/{view}", "no encoder was given, and queries must be embedded")


def _corpus(context: Context) -> tuple[str, ...]:
    """The test products, and all others too where judgements name relevant products among them."""
    test = set(context.test.ids)
    least = context.queries.scale.relevant_from
    relevant = {name for grades in context.queries.grades for name, grade in grades.items() if grade >= least}
    elsewhere = relevant & (set(context.train.ids) | set(context.validation.ids)) - test
    return context.distinct_splits if elsewhere else ("test",)


def _pool(context: Context, splits: tuple[str, ...], *, view: str) -> Pool:
    parts = {name: np.flatnonzero(context.split(name).present(view)) for name in splits}
    column = lambda name: [getattr(context.split(part), name)[row] for part, rows in parts.items() for row in rows]
    ids = column("ids")
    row_of = dict(zip(ids, range(len(ids)), strict=True))
    propensities = context.queries.propensities or [{}] * len(context.queries)
    judged = [
        (q, row_of.get(name), grade, seen.get(name, np.nan))
        for q, (one, seen) in enumerate(zip(context.queries.grades, propensities, strict=True))
        for name, grade in one.items()
    ]
    pairs = sorted((q * len(ids) + row, *values) for q, row, *values in judged if row is not None)
    right = enumerate(context.queries.known)
    known = [q * len(ids) + row_of[name] for q, names in right for name in names & row_of.keys()]
    graded, grades, seen = (np.array(column) for column in (zip(*pairs, strict=True) if pairs else ((), (), ())))
    scale, attributes = context.queries.scale, column("attributes")
    return Pool(
        queries=np.unique(graded[grades >= scale.relevant_from] // max(1, len(ids))),
        ids=ids,
        titles=column("titles"),
        leaves=np.array(column("category_paths"), dtype=object),
        parts=parts,
        graded=graded,
        grades=grades,
        propensities=seen,
        known=np.array(known, np.int64),
        lost=len(judged) - len(pairs),
        scale=scale,
        brands=_phrases(column("brands")),
        values=_phrases(value for one in attributes for value in one.values()),
    )


def _methods(context: Context, pool: Pool, *, view: str) -> Iterator[tuple[str, object, object]]:
    """Method, vectors of the queries, vectors of the candidates."""
    texts = [context.queries.texts[query] for query in pool.queries]
    encoders = context.encoders()
    for method in context.methods(view):
        if method in encoders and context.has_words(method):
            tables = [context.features(method, name, view=view)[rows] for name, rows in pool.parts.items()]
            yield method, encoders[method].embed_queries(texts), np.concatenate(tables)
    random = baselines.random_vectors(len(texts) + len(pool.ids), seed=(context.seed, VIEWS.index(view)))
    yield "random", random[: len(texts)], random[len(texts) :]
    if view != "image":
        index = Bm25(pool.titles)
        yield "bm25", index.queries(texts), index.documents
        yield "tfidf", *(baselines.tfidf_vectors(part, fitted_on=pool.titles) for part in (texts, pool.titles))


def _measure(
    context: Context, results: Results, pool: Pool, *, view: str, method: str, asked, candidates
) -> np.ndarray | None:
    """The first products (Q, K) of each query, K up to the last of `UNIQUE`; None where they cannot be ranked."""
    key, rerank = (f"query/{name}{view}/{method}".rstrip("/") for name in ("", "rerank_"))
    if not all(np.isfinite(part.data if hasattr(part, "indptr") else part).all() for part in (asked, candidates)):
        results.skip(
            key, "vectors missing: of queries without a word it knows, or of products the model has vectors of"
        )
        return None
    columns, tops = [], []
    for span, rows, scores in _answers(pool, asked, candidates):
        columns.append(_whole(pool, pool.queries[span], rows, scores))
        tops.append((rows[:, : UNIQUE[-1]], scores[:, : UNIQUE[-1]]))
    whole = {name: np.concatenate([block[name] for block in columns]) for name in columns[0]}
    rows, scores = map(np.concatenate, zip(*tops, strict=True))
    shared = _shared(context, pool)
    _note(context, results, pool, key, whole, keep=method == MODEL)
    unbiased = _unbiased(pool, rows[:, :TOP], seed=context.seed)
    results.add(key, {name: found | shared for name, found in unbiased.items()})
    if any(len(set(pool.judged(query)[1])) > 1 for query in pool.queries):
        _note(context, results, pool, rerank, _reranked(pool, asked, candidates), keep=method == MODEL)
    else:
        results.skip(rerank, "the products judged for a query have one grade, so that any order of them is right")
    if method == MODEL:
        for name, members in _slices(context, pool).items():
            sliced = {metric: whole[metric][members] for metric in _SLICED if metric in whole}
            estimates = _estimates(sliced, groups=_groups(context, pool)[members], seed=context.seed)
            for metric, found in estimates.items():
                results.metrics[f"{key}/{metric}/slice={name}"] = found | shared
        if tuple(pool.parts) == ("test",):
            results.grids[key] = _grid(context, pool, rows, scores, whole["ndcg@10"], view=view)
    return np.where(scores > 0, rows, -1) if method == "bm25" else rows  # what has no word of the query is not found


def _shared(context: Context, pool: Pool) -> dict:
    """What stands beside every figure of the pool."""
    relevant = pool.grades[np.isin(pool.graded // len(pool.ids), pool.queries)] >= pool.scale.relevant_from
    return {
        "candidates": len(pool.ids),
        "coverage": len(pool.queries) / len(context.queries),
        "corpus": "+".join(pool.parts),
        "lost_judgements": pool.lost,
        "mean_relevant": float(relevant.sum() / len(pool.queries)),
    }


def _answers(pool: Pool, asked, candidates) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of queries: rows and scores (n, up to `DEPTH`) of the best candidates, without what is known already."""
    more = int(np.bincount(pool.known // max(1, len(pool.ids))).max(initial=0))
    options = {"gallery": candidates, "gallery_ids": pool.ids, "k": DEPTH + more}
    for span, rows, scores in search.ranked_blocks(asked, **options):
        if more:
            known = np.isin(pool.queries[span, None] * len(pool.ids) + rows, pool.known) & (rows >= 0)
            rows, scores = np.where(known, -1, rows), np.where(known, -np.inf, scores)
            order = np.argsort(known, axis=1, kind="stable")[:, :DEPTH]
            rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
        yield span, rows, scores


def _whole(pool: Pool, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (n,) of some queries of the pool, from their answers (n, K)."""
    grades = pool.look_up(pool.grades, queries, rows)
    judged, returned = _padded([pool.judged(query)[1] for query in queries]), (rows >= 0).sum(axis=1)
    relevant, num_relevant = grades >= pool.scale.relevant_from, (judged >= pool.scale.relevant_from).sum(axis=1)
    graded = {"judged_NxJ": judged, "returned": returned, "gain": pool.scale.gain}
    values = metrics.graded_by_name(grades, names=_GRADED, **graded)
    telling = tuple(name for name in _BINARY if int(name.partition("@")[2]) < len(pool.ids))  # else all are found
    values |= metrics.by_name(relevant, num_relevant=num_relevant, names=telling)
    # The query's shelves are those of its best products: does the top lie on them, judged or not?
    shelves = [set(pool.leaves[_best(pool, query)]) - {""} for query in queries]
    on_shelf = [
        np.mean([leaf in known for leaf in pool.leaves[top[top >= 0]]]) if known else np.nan
        for known, top in zip(shelves, rows[:, :TOP], strict=True)
    ]
    found = metrics.relevance(relevant, returned=returned, k=TOP)
    tied = metrics.tied(relevant, scores_NxK=scores, k=TOP)
    return values | {f"relevance@{TOP}": found, f"in_category@{TOP}": np.array(on_shelf), f"tie_rate@{TOP}": tied}


def _unique(pool: Pool, own: np.ndarray, words: np.ndarray) -> dict[str, np.ndarray]:
    """`unique@k` (Q,): the share of a query's relevant products that are among its first k, and not among BM25's."""
    relevant = pool.look_up(pool.grades, pool.queries, own) >= pool.scale.relevant_from
    num_relevant = [(pool.judged(query)[1] >= pool.scale.relevant_from).sum() for query in pool.queries]
    values = {}
    for k in (k for k in UNIQUE if k < len(pool.ids)):
        new = np.array([~np.isin(*pair) for pair in zip(own[:, :k], words[:, :k], strict=True)])
        values[f"unique@{k}"] = (relevant[:, :k] & new).sum(axis=1) / num_relevant
    return values


def _unbiased(pool: Pool, top: np.ndarray, *, seed: int) -> dict[str, dict]:
    """`snips@10`: the mean grade of what the log graded in the top, each by one over how probably it was seen."""
    grades, seen = (pool.look_up(values, pool.queries, top) for values in (pool.grades, pool.propensities))
    place, column = np.nonzero(np.isfinite(seen))
    if not len(place):
        return {}
    logged = {"rewards": pool.scale.gain(grades[place, column]), "propensities": seen[place, column]}
    statistic = lambda weights: {f"snips@{TOP}": metrics.snips(weights, **logged)}
    return {name: vars(found) for name, found in bootstrap.intervals(statistic, groups=place, seed=seed).items()}


def _best(pool: Pool, query: int) -> np.ndarray:
    rows, grades = pool.judged(query)
    return rows[grades == grades.max()]


def _reranked(pool: Pool, asked, candidates) -> dict[str, np.ndarray]:
    """Each query ranks the products that were judged for it."""
    lists = []
    for place, query in enumerate(pool.queries):
        rows, grades = pool.judged(query)
        ids = [pool.ids[row] for row in rows]
        order, _ = search.top_k(asked[[place]], gallery=candidates[rows], gallery_ids=ids, k=len(rows), devices=())
        lists.append(grades[order[0]])
    grades = _padded(lists)
    returned = np.array([len(one) for one in lists])
    graded = {"judged_NxJ": grades, "returned": returned, "gain": pool.scale.gain}
    return metrics.graded_by_name(grades, names=_RERANKED, **graded)


def _padded(lists: list[np.ndarray]) -> np.ndarray:
    table = np.zeros((len(lists), max(map(len, lists))))
    for row, values in zip(table, lists, strict=True):
        row[: len(values)] = values
    return table


def _note(context: Context, results: Results, pool: Pool, key: str, values: dict, *, keep: bool) -> None:
    estimates = _estimates(values, groups=_groups(context, pool), seed=context.seed)
    shared = _shared(context, pool)
    results.add(key, {name: found | shared for name, found in estimates.items()})
    if keep:
        ids = [context.queries.ids[query] for query in pool.queries]
        who = {"rows": np.full(len(ids), -1), "ids": np.array(ids, dtype=object), "groups": _groups(context, pool)}
        results.per_query[key] = {**values, **who}


def _groups(context: Context, pool: Pool) -> np.ndarray:
    """Int (Q,): the words that ask; a query of a log asks once in each block, and is drawn for an interval as one."""
    return np.unique([context.queries.texts[query] for query in pool.queries], return_inverse=True)[1]


def _estimates(values: dict[str, np.ndarray], *, groups: np.ndarray, seed: int) -> dict[str, dict]:
    """Intervals over groups of queries; a metric is the mean of the queries that have it."""
    found = {}
    for name, column in values.items():
        defined = np.isfinite(column)
        if defined.any():
            one = {name: column[defined]}
            found[name] = vars(bootstrap.mean_intervals(one, groups=groups[defined], seed=seed)[name])
    return found


def _slices(context: Context, pool: Pool) -> dict[str, np.ndarray]:
    """ "dimension:value" -> bool (Q,) over the queries of the pool; those of five queries and more."""
    words = np.array([len(context.queries.texts[query].split()) for query in pool.queries])
    found = {"words:1": words == 1, "words:2": words == 2, "words:3 and more": words >= 3}
    counts = context.queries.counts[pool.queries]
    if np.isfinite(counts).all() and counts.sum() > 0:  # a third of all searches each
        order = np.argsort(-counts, kind="stable")
        before = np.empty(len(counts))
        before[order] = (np.cumsum(counts[order]) - counts[order]) / counts.sum()
        for name, low, high in (("head", 0, 1), ("torso", 1, 2), ("tail", 2, 3)):
            found[f"frequency:{name}"] = (3 * before >= low) & (3 * before < high)
    named = [_named(context.queries.texts[query], pool) for query in pool.queries]
    found |= {f"names:{kind}": np.array([kind in one for one in named]) for kind in ("brand", "attribute")}
    found["names:neither"] = np.array([not one for one in named])
    if context.queries.blocks:
        blocks = np.array([context.queries.blocks[query] for query in pool.queries])
        found |= {f"block:{name}": blocks == name for name in sorted(set(blocks))}
    locales = np.array([context.queries.locales[query] for query in pool.queries])
    if len(set(locales)) > 1:
        found |= {f"language:{name or 'unknown'}": locales == name for name in sorted(set(locales))}
    return {name: members for name, members in found.items() if members.sum() >= MIN_SLICE and not members.all()}


def _phrases(values: Iterable[object]) -> set[str]:
    """The words of each text, in lower case, with one blank between; single characters, such as sizes, are left out."""
    values = (one for value in values for one in (value if isinstance(value, list) else [value]))
    texts = (" ".join(_WORDS.findall(value.lower())) for value in values if isinstance(value, str))
    return {text for text in texts if len(text) > 1}


def _named(text: str, pool: Pool) -> set[str]:
    """Which of "brand" and "attribute" some neighbouring words of a query are."""
    words = _WORDS.findall(text.lower())
    runs = {" ".join(words[i : i + n]) for n in range(1, MAX_WORDS + 1) for i in range(len(words) - n + 1)}
    return {kind for kind, names in (("brand", pool.brands), ("attribute", pool.values)) if runs & names}


def _grid(context: Context, pool: Pool, rows, scores, quality: np.ndarray, *, view: str) -> Grid:
    """The best and the worst queries by ndcg@10, ties by order of the file."""
    order, least = np.argsort(-quality, kind="stable"), pool.scale.relevant_from
    grades, test_rows = pool.look_up(pool.grades, pool.queries, rows[:, :6]), pool.parts["test"]
    examples = [
        Example(
            query=-1,
            words=context.queries.texts[pool.queries[place]],
            right=bool(number < _SHOWN),
            neighbours=tuple(
                Neighbour(int(test_rows[row]), float(score), None if np.isnan(grade) else bool(grade >= least))
                for row, score, grade in zip(rows[place], scores[place], grades[place], strict=False)
                if row >= 0
            ),
        )
        for number, place in enumerate(np.concatenate([order[:_SHOWN], order[_SHOWN:][-_SHOWN:]]))
    ]
    return Grid(
        title="Search queries",
        question="A shopper's words ask.",
        right_means="a product that was judged relevant; an unmarked one was not judged",
        query_view="text",
        document_view=view,
        examples=tuple(examples),
    )
