"""Judged queries against ir_measures; the corpus, the holes, the slices and what is left out are said."""

import dataclasses
import types

import ir_measures
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ir_measures import RR, Judged, R, nDCG

from ecommerce_vl.evaluation import query_retrieval, search
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.lexical import Bm25
from ecommerce_vl.evaluation.queries import SCALES, JudgedQueries, held_out
from ecommerce_vl.evaluation.results import Results


class Encoder:
    """Queries are vectors drawn by their words."""

    def embed_queries(self, texts):
        rows = np.array([np.random.default_rng(len(t)).normal(size=16) + (t.startswith("red")) for t in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def judged(products, count=24, seed=0):
    """Grades 0 to 3 for about a third of the products; the last query has no relevant one."""
    random = np.random.default_rng(seed)
    texts = [f"{'red' if q % 2 else 'a blue'} cup{' or ball' * (q % 3)} {'x' * q}" for q in range(count)]
    grades = [
        {name: float(random.integers(0, 4 if q < count - 1 else 1)) for name in products.ids if random.random() < 0.3}
        for q in range(count)
    ]
    grades[0]["gone"] = 3.0
    return JudgedQueries(
        ids=[f"q{q}" for q in range(count)],
        texts=texts,
        grades=grades,
        counts=np.ones(count),
        locales=["en"] * count,
    )


def run(splits, queries, encoder=None, **known):
    results = Results(products=splits["test"])
    query_retrieval.run(
        Context(
            test=splits["test"],
            train=splits["train"],
            validation=splits["validation"],
            queries=queries,
            encoder=encoder,
            **known,
        ),
        results,
    )
    return results


@pytest.fixture(scope="module")
def queries(splits):
    return judged(splits["test"])


@pytest.fixture(scope="module")
def results(splits, queries):
    return run(splits, queries, Encoder())


def test_means_equal_ir_measures_on_the_whole_corpus_and_on_judged_lists(splits, queries, results):
    test = splits["test"]
    rows = np.flatnonzero(test.present("text"))
    asked, ids = Encoder().embed_queries(queries.texts), [test.ids[row] for row in rows]
    found, _ = search.top_k(asked, gallery=test.vectors["text"][rows], gallery_ids=ids, k=60)
    pool = set(ids)
    judgements, ranked, reranked = [], [], []
    for q, name in enumerate(queries.ids[:-1]):
        grades = {one: int(grade) for one, grade in queries.grades[q].items() if one in pool}
        judgements += [ir_measures.Qrel(name, one, grade) for one, grade in grades.items()]
        order = [ids[row] for row in found[q]]
        ranked += [ir_measures.ScoredDoc(name, one, -float(place)) for place, one in enumerate(order)]
        kept = [one for one in order if one in grades]
        reranked += [ir_measures.ScoredDoc(name, one, -float(place)) for place, one in enumerate(kept)]
    measures = [nDCG @ 10, R @ 10, RR @ 10, Judged @ 10, nDCG]
    whole, again = (ir_measures.calc_aggregate(measures, judgements, run) for run in (ranked, reranked))
    value = {key: entry["value"] for key, entry in results.metrics.items()}
    assert value["query/text/ndcg@10"] == pytest.approx(whole[nDCG @ 10], abs=1e-9)
    assert value["query/text/recall@10"] == pytest.approx(whole[R @ 10], abs=1e-9)
    assert value["query/text/mrr@10"] == pytest.approx(whole[RR @ 10], abs=1e-9)
    assert value["query/text/judged@10"] == pytest.approx(whole[Judged @ 10], abs=1e-9)
    assert value["query/rerank_text/ndcg@10"] == pytest.approx(again[nDCG @ 10], abs=1e-9)
    assert value["query/rerank_text/ndcg"] == pytest.approx(again[nDCG], abs=1e-9)
    entry = results.metrics["query/text/ndcg@10"]
    assert (entry["n"], entry["coverage"], entry["candidates"], entry["corpus"]) == (23, 23 / 24, len(rows), "test")
    assert entry["lost_judgements"] == 1 + sum(name not in pool for grades in queries.grades for name in grades) - 1


def test_a_complement_is_judged_and_not_relevant(splits, queries):
    """ESCI: E and S are relevant, C has a small gain."""
    esci = run(splits, dataclasses.replace(queries, scale=SCALES["esci"]), Encoder())
    test = splits["test"]
    rows = np.flatnonzero(test.present("text"))
    asked, ids = Encoder().embed_queries(queries.texts), [test.ids[row] for row in rows]
    found, _ = search.top_k(asked, gallery=test.vectors["text"][rows], gallery_ids=ids, k=10)
    shares = []
    for q, grades in enumerate(queries.grades):
        relevant = {name for name, grade in grades.items() if grade >= 2 and name in set(ids)}
        if relevant:
            shares.append(len(relevant & {ids[row] for row in found[q]}) / len(relevant))
    assert esci.metrics["query/text/recall@10"]["value"] == pytest.approx(np.mean(shares))
    assert esci.metrics["query/text/recall@10"]["n"] == len(shares)


def test_what_words_do_not_find_is_counted_as_the_channels_own(splits, queries, monkeypatch):
    """Against both lists, made here; BM25 finds nothing that shares no word with the query."""
    monkeypatch.setattr(query_retrieval, "UNIQUE", (5, 20))
    results, test = run(splits, queries, Encoder()), splits["test"]
    rows = np.flatnonzero(test.present("text"))
    ids, titles = [test.ids[row] for row in rows], [test.titles[row] for row in rows]
    tops = {"gallery_ids": ids, "k": 20}
    own, _ = search.top_k(Encoder().embed_queries(queries.texts), gallery=test.vectors["text"][rows], **tops)
    index = Bm25(titles)
    words, scores = search.top_k(index.queries(queries.texts), gallery=index.documents, **tops)
    for k in (5, 20):
        shares = []
        for q, grades in enumerate(queries.grades):
            relevant = {ids.index(name) for name, grade in grades.items() if grade > 0 and name in ids}
            known = {row for row, score in zip(words[q, :k], scores[q, :k], strict=True) if score > 0}
            if relevant:
                shares.append(len(relevant & set(own[q, :k]) - known) / len(relevant))
        assert results.metrics[f"query/text/unique@{k}"]["value"] == pytest.approx(np.mean(shares))
        assert np.mean(shares) < results.metrics["query/text/recall@10"]["value"] or k == 20
    assert "query/text/bm25/unique@5" not in results.metrics


def test_queries_that_name_brands_and_values_are_slices():
    pool = types.SimpleNamespace(
        brands=query_retrieval._phrases(["Nike", "The North Face", ""]),
        values=query_retrieval._phrases([["Navy Blue", "red"], "XL", "M", 3.0]),
    )
    texts = ("nike shoes", "north face", "the north face jacket in navy-blue", "m shirt", "XL")
    assert [query_retrieval._named(text, pool) for text in texts] == [
        {"brand"}, set(), {"brand", "attribute"}, set(), {"attribute"},
    ]  # fmt: skip


def test_baselines_have_the_same_pool_and_words_find_words(results):
    for view in ("image", "text", "product"):
        for kind in ("", "rerank_"):
            model, random = (results.metrics[f"query/{kind}{view}{method}/ndcg@10"] for method in ("", "/random"))
            assert {key: model[key] for key in ("n", "candidates")} == {key: random[key] for key in ("n", "candidates")}
    assert "query/text/bm25/ndcg@10" in results.metrics and "query/product/tfidf/recall@10" in results.metrics
    assert "query/image/bm25/ndcg@10" not in results.metrics
    assert "query/text/recall@100" not in results.metrics, "all of 60 products are among the first 100"


def test_grades_of_a_log_count_by_one_over_their_propensity(splits, queries):
    random, test = np.random.default_rng(3), splits["test"]
    seen = [
        {name: random.uniform(0.1, 1) for name in grades} if q % 2 else {} for q, grades in enumerate(queries.grades)
    ]
    found = run(splits, dataclasses.replace(queries, propensities=seen), Encoder()).metrics
    rows = np.flatnonzero(test.present("text"))
    asked, ids = Encoder().embed_queries(queries.texts[:-1]), [test.ids[row] for row in rows]
    top, _ = search.top_k(asked, gallery=test.vectors["text"][rows], gallery_ids=ids, k=10)
    shown = [(q, ids[row]) for q, one in enumerate(top) for row in one if ids[row] in seen[q]]
    above = sum(queries.grades[q][name] / seen[q][name] for q, name in shown)
    assert found["query/text/snips@10"]["value"] == pytest.approx(
        above / sum(1 / seen[q][n] for q, n in shown), abs=1e-9
    )
    assert found["query/text/snips@10"]["low"] < found["query/text/snips@10"]["value"]
    assert "query/text/snips@10" not in run(splits, queries, Encoder()).metrics


def test_words_of_a_title_find_it(splits):
    test = splits["test"]
    row = int(np.flatnonzero(test.present("text"))[4])
    asked = JudgedQueries(["a"], [test.titles[row]], [{test.ids[row]: 1.0}], np.array([np.nan]), [""])
    found = run(splits, asked)
    for method in ("bm25", "tfidf"):
        assert found.metrics[f"query/text/{method}/hit@10"]["value"] == 1.0
        assert found.metrics[f"query/text/{method}/in_category@10"]["value"] >= 0.5
    assert found.skipped["query/text"].startswith("no encoder") and "query/text/ndcg@10" not in found.metrics


def test_slices_are_parts_of_the_same_values(results):
    """Queries asked equally often: the first third in order are the head, the last the tail."""
    values = results.per_query["query/text"]
    assert set(values["rows"].tolist()) == {-1} and values["ids"].tolist() == [f"q{q}" for q in range(23)]
    head, tail = (results.metrics[f"query/text/ndcg@10/slice=frequency:{name}"] for name in ("head", "tail"))
    assert (head["n"], tail["n"]) == (8, 7)
    assert head["value"] == pytest.approx(values["ndcg@10"][:8].mean(), abs=1e-12)
    assert tail["value"] == pytest.approx(values["ndcg@10"][16:].mean(), abs=1e-12)
    assert not any("slice=words" in key for key in results.metrics), "all have three words and more: no slice of them"


def test_the_best_and_worst_queries_are_shown_with_unjudged_answers_unmarked(splits, queries, results):
    grid, test = results.grids["query/text"], splits["test"]
    assert len(grid.examples) == 10 and [one.right for one in grid.examples] == [True] * 5 + [False] * 5
    for one in grid.examples:
        grades = queries.grades[queries.texts.index(one.words)]
        for neighbour in one.neighbours:
            grade = grades.get(test.ids[neighbour.row])
            assert neighbour.right == (None if grade is None else grade > 0)


def test_judgements_of_other_splits_widen_the_corpus(splits):
    other = JudgedQueries(["a"], ["red cup"], [{"r004": 2.0, "t004": 1.0}], np.array([np.nan]), [""])
    found = run(splits, other, Encoder())
    entry = found.metrics["query/product/recall@100"]
    assert entry["corpus"] == "test+train+validation" and entry["candidates"] == 220 and entry["lost_judgements"] == 0
    assert "query/product" not in found.grids, "rows of other splits cannot be shown"


def write_log(file, rows):
    """A mined log of (query_key, product id, clicks, carts, purchases, split, block)."""
    names = ("query_key", "product_id", "clicks", "carts", "purchases", "split", "block")
    table = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(table | {"query": [f"red {key}" for key in table["query_key"]]}), file)
    return file


def test_held_out_clicks_of_a_log_are_judgements_a_query_a_block(tmp_path):
    rows = [
        (7, "a", 3, 0, 0, "test", "in_domain"),
        (7, "b", 2, 1, 1, "test", "novel_product"),
        (7, "c", 9, 1, 0, "train", ""),
        (8, "a", 1, 0, 0, "validation", "novel_query"),
    ]
    found = held_out(write_log(tmp_path / "query_pairs.parquet", rows), split="test")
    assert (found.ids, found.texts) == (["7/in_domain", "7/novel_product"], ["red 7"] * 2)
    assert found.grades == [{"a": 1.0}, {"b": 3.0}] and found.counts.tolist() == [14, 14]
    assert found.known == [{"b", "c"}, {"a", "c"}] and found.blocks == ["in_domain", "novel_product"]


def test_what_training_saw_of_a_query_is_neither_right_nor_wrong(splits, tmp_path):
    """Ranked by hand, each query without the products that are known to answer it elsewhere."""
    test = splits["test"]
    rows = np.flatnonzero(test.present("text"))
    ids = [test.ids[row] for row in rows]
    asked = Encoder().embed_queries([f"red {key}" for key in range(12)])
    found, _ = search.top_k(asked, gallery=test.vectors["text"][rows], gallery_ids=ids, k=len(ids))
    order = [[ids[row] for row in one] for one in found]
    # The best answer was clicked in training, the third is held out: second of what is left.
    log = [(key, order[key][0], 1, 0, 0, "train", "") for key in range(12)]
    log += [(key, order[key][2], 1, 0, 0, "test", "novel_product" if key % 2 else "novel_query") for key in range(12)]
    queries = held_out(write_log(tmp_path / "query_pairs.parquet", log), split="test")
    measured = run(splits, queries, Encoder())
    assert measured.metrics["query/text/mrr@10"]["value"] == pytest.approx(1 / 2, abs=1e-12)
    assert measured.metrics["query/text/relevance@10"]["value"] == pytest.approx(1 / 10, abs=1e-12)
    assert measured.metrics["query/text/ndcg@10/slice=block:novel_query"]["n"] == 6
    assert "any order of them is right" in measured.skipped["query/rerank_text"]
    assert not any(key.startswith("query/rerank_") for key in measured.metrics), "all clicks have one grade"
    few = held_out(write_log(tmp_path / "few.parquet", log[:3] + log[12:15]), split="test")
    assert "holds out 3 queries" in run(splits, few, Encoder()).skipped["query"]


def test_a_measured_validation_split_is_no_second_corpus(splits):
    given = {"test": splits["validation"], "train": splits["train"], "validation": splits["validation"]}
    name = given["train"].ids[3]
    other = JudgedQueries(["a"], ["red cup"], [{name: 1.0}], np.array([np.nan]), [""])
    entry = run(given, other, Encoder()).metrics["query/product/recall@100"]
    assert entry["corpus"] == "test+train" and entry["candidates"] == len(given["test"]) + len(given["train"])


def test_what_cannot_be_measured_is_said(splits):
    assert "no queries" in run(splits, None).skipped["query"]
    strangers = JudgedQueries(["a"], ["x"], [{"nobody": 1.0}], np.array([np.nan]), [""])
    found = run(splits, strangers, Encoder())
    assert not found.metrics and "no query has a relevant product among the 60" in found.skipped["query/product"]
