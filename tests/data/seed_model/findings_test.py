"""All that a seed model finds, as files; their bytes do not depend on the order of the vectors."""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.report import cards
from ecommerce_vl.data.report.page import write_report
from ecommerce_vl.data.report.seed_page import write_seed_page
from ecommerce_vl.data.seed_model import duplicates
from ecommerce_vl.data.seed_model.findings import SUMMARY, TABLES, write_findings
from ecommerce_vl.data.seed_model.settings import Settings
from ecommerce_vl.data.summary import found_lines
from ecommerce_vl.errors import UserError

SILENT = {"memory_limit": "1GB", "progress": lambda done, total: None}


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*TABLES, SUMMARY)}


def test_findings_do_not_depend_on_the_order_of_vectors(prepared, drawn, write_vectors, monkeypatch):
    ids, views = drawn
    monkeypatch.setattr(duplicates, "CLUSTER", 3)
    seed = write_vectors(ids, views, fingerprint=prepared.fingerprint)
    summary = write_findings(prepared.folder, seed, config={"min_category": 20}, **SILENT)
    assert json.loads((prepared.folder / SUMMARY).read_text()) == summary
    first = digests(prepared.folder)
    order = np.random.default_rng(9).permutation(len(ids))
    shuffled = {view: vectors[order] for view, vectors in views.items()}
    seed = write_vectors([ids[row] for row in order], shuffled, fingerprint=prepared.fingerprint)
    write_findings(prepared.folder, seed, config={"min_category": 20}, **SILENT)
    assert digests(prepared.folder) == first
    assert not list(prepared.folder.glob(".*partial*"))


def test_the_page_shows_and_escapes(prepared, drawn, write_vectors, monkeypatch):
    ids, views = drawn
    views = views | {"product": np.tile(views["product"][:1], (len(ids), 1))}
    seed = write_vectors(ids, views, fingerprint=prepared.fingerprint, trained_on={"fingerprint": "x", "fraction": 0.1})
    summary = write_findings(prepared.folder, seed, config={"min_category": 20}, **SILENT)
    page = write_seed_page(prepared.folder).read_text()
    assert page.count('class="pair"') == 24
    low = sum(rank < 0.05 for rank in pq.read_table(prepared.folder / TABLES[0])["rank"].to_pylist())
    assert page.count("cosine -") == min(low, 24) > 5  # of random vectors
    hostile = lambda connection, data, ids: {
        name: cards.Card(name, "<script>alert(1)</script>", "data:,", blurred=True) for name in ids
    }
    with monkeypatch.context() as patch:
        patch.setattr(cards, "read_cards", hostile)
        refused = write_seed_page(prepared.folder).read_text()
    assert "<script" not in refused
    assert "&lt;script&gt;alert(1)" in refused
    assert refused.count('class="picture adult') > 24
    assert "The model was trained on other data" in page
    assert "Seed model</a>" in write_report(prepared.folder).read_text()
    lines = "\n".join(found_lines(summary))
    assert f"{summary['agreement']['ranked']:,} of {summary['agreement']['pairs']:,} in train ranked" in lines
    assert "trained on other data" in lines


def test_vectors_of_other_data_are_refused(prepared, drawn, write_vectors):
    with pytest.raises(UserError, match="--vectors are of other data .*export --data="):
        write_findings(prepared.folder, write_vectors(*drawn, fingerprint="f" * 64), config={}, **SILENT)
    assert not (prepared.folder / SUMMARY).exists()
    with pytest.raises(UserError, match="has no seed_model.json; run prepare with --vectors"):
        write_seed_page(prepared.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_category": 0}, "seed_model.min_category is 0, expected at least 1"),
        ({"seed": -1}, "seed_model.seed is -1, expected at least 0"),
        ({"leak_cosine": 1.5}, "seed_model.leak_cosine is 1.5, expected from -1 to 1"),
    ],
)
def test_settings_out_of_range_are_told(changes, message):
    with pytest.raises(UserError, match=message):
        Settings(**changes)
