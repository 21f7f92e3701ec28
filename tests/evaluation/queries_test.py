"""Judgement files: both layouts, plain and gzipped; every bad line is named."""

import gzip
import json

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import metrics, queries


def test_both_layouts_plain_and_gzipped(tmp_path):
    ours = {"id": 7, "query": "red cup", "grades": {"a": 2, "b": 0.5}, "count": 120, "locale": "en"}
    ours["propensities"] = {"a": 0.5, "b": 1}
    theirs = {"query_id": "q1", "query": "ball", "relevance": {"c": 0}, "annotators": {"c": [0, 0, 1]}}
    text = json.dumps(ours) + "\n\n" + json.dumps(theirs) + "\n"
    (tmp_path / "q.jsonl").write_text(text)
    with gzip.open(tmp_path / "q.jsonl.gz", "wt") as file:
        file.write(text)
    for name in ("q.jsonl", "q.jsonl.gz"):
        found = queries.read(tmp_path / name)
        assert (found.ids, found.texts) == (["7", "q1"], ["red cup", "ball"])
        assert found.grades == [{"a": 2.0, "b": 0.5}, {"c": 0.0}]
        assert found.counts[0] == 120 and np.isnan(found.counts[1]) and found.locales == ["en", ""]
        assert found.propensities == [{"a": 0.5, "b": 1.0}, {}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no queries"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: found list"),
        ('{"query_id": "q", "grades": {}}', "found query_id 'q' and query None"),
        ('{"query_id": "q", "query": " ", "grades": {}}', "and query ' '"),
        ('{"query_id": "q", "query": "x"}', "found None in the grades"),
        ('{"query_id": "q", "query": "x", "grades": {"a": -1}}', "found -1 in the grades"),
        ('{"query_id": "q", "query": "x", "grades": {"a": "B"}}', "found 'B' in the grades, by numbers"),
        (
            '{"query_id": "q", "query": "x", "grades": {"a": "E", "b": 1}}',
            "by esci; expected E, S, C, I",
        ),
        (
            '{"query_id": "q", "query": "x", "grades": {"a": 1}, "scale": ["esci"]}',
            "found scale ['esci']",
        ),
        ('{"query_id": "q", "query": "x", "grades": {"a": ["E"]}}', "found ['E'] in the grades"),
        (
            '{"query_id": "q", "query": "x", "grades": {"a": 1}, "scale": "stars"}',
            "found scale 'stars'",
        ),
        (
            '{"query_id": "q", "query": "x", "grades": {"a": "E"}}\n{"id": "p", "query": "x", "grades": {"a": 1}}',
            "found grades by esci in line 1 and numbers in line 2",
        ),
        ('{"query_id": "q", "query": "x", "grades": {"a": 1}, "count": "many"}', "found count 'many'"),
        ('{"id": "q", "query": "x", "grades": {"a": 1}, "propensities": {"b": 1}}', "propensities name other products"),
        ('{"id": "q", "query": "x", "grades": {"a": 1}, "propensities": {"a": 0}}', "found 0 in the propensities"),
        ('{"query_id": "q", "query": "x", "grades": {"a": 1}}\n' * 2, "line 2: the query id 'q' came in line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, said):
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(UserError) as error:
        queries.read(tmp_path / "q.jsonl")
    assert said in str(error.value) and "q.jsonl" in str(error.value)


def test_what_is_no_file_or_no_text_is_said(tmp_path):
    with pytest.raises(UserError, match="no file of queries"):
        queries.read(tmp_path / "none.jsonl")
    (tmp_path / "q.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(UserError, match="plain or gzipped"):
        queries.read(tmp_path / "q.jsonl.gz")


def test_labels_have_grades_for_readers_and_gains_for_ndcg(tmp_path):
    line = '{"query_id": "q", "query": "x", "grades": {"a": "E", "b": "I", "c": "S", "d": "C"}%s}'
    for extra, gains in (("", (1, 0, 0.1, 0.01)), (', "scale": "esci_repo"', (1, 0, 0.01, 0.1))):
        (tmp_path / "q.jsonl").write_text(line % extra)
        asked = queries.read(tmp_path / "q.jsonl")
        assert asked.grades == [{"a": 3.0, "b": 0.0, "c": 2.0, "d": 1.0}] and asked.scale.relevant_from == 2
        assert tuple(asked.scale.gain(list(asked.grades[0].values()))) == gains
    listed = np.array([[3.0, 0.0, 2.0]])  # E, I, S
    graded = {"judged_NxJ": listed, "returned": np.array([3]), "gain": queries.SCALES["esci"].gain}
    found = metrics.graded_by_name(listed, names=("ndcg@3", "err", "rbp"), **graded)
    assert found["err"] == pytest.approx(0.890625) and found["rbp"] == pytest.approx(0.154)
    assert found["ndcg@3"] == pytest.approx((1 + 0.1 / 2) / (1 + 0.1 / np.log2(3)))
    (tmp_path / "q.jsonl").write_text('{"id": "q", "query": "x", "grades": {"a": "Exact", "b": "Partial"}}')
    assert queries.read(tmp_path / "q.jsonl").scale is queries.SCALES["wands"]
