"""An index beside an export: the same answers as exact search at full effort, measured recall, every refusal."""

import json
import shutil
import zlib
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from catalog import export
from fake_encoder import FakeEncoder

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation.approximate import recall_by_effort
from ecommerce_vl.evaluation.search import top_k
from ecommerce_vl.exporting import index
from ecommerce_vl.exporting.index import KINDS, ProductIndex, asked_of, folder_of, in_memory, is_current, write_index
from ecommerce_vl.exporting.reader import ExportedVectors

DIM = 16


class Scattered(FakeEncoder):
    """Every product and every text somewhere else on the sphere."""

    batch_size, dim = 64, DIM

    def embed_views(self, records):
        return dict.fromkeys(("image", "text", "product"), self.embed_queries([record["id"] for record in records]))

    def embed_queries(self, texts):
        rows = np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIM) for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def scattered(sample_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("scattered") / "vectors"
    export(Scattered(), sample_data, out, pictures=False)
    return out


@pytest.fixture(scope="module")
def asked(sample_data):
    return Scattered().embed_queries(asked_of(PreparedData(sample_data)))


@pytest.fixture
def vectors(scattered, tmp_path):
    shutil.copytree(scattered, tmp_path / "vectors")
    return tmp_path / "vectors"


def measure(asked):
    return partial(recall_by_effort, queries=asked)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_measured_written_and_found_again(vectors, asked, kind):
    pytest.importorskip(KINDS[kind].module)
    exported = ExportedVectors(vectors)
    assert not is_current(exported, kind=kind)
    made = write_index(exported, kind=kind, measure=measure(asked))
    assert is_current(exported, kind=kind)
    assert made == json.loads((folder_of(exported, kind=kind) / "manifest.json").read_text())
    assert (made["kind"], made["space_id"], made["rows"], made["dims"]) == (kind, "space-one", len(exported), DIM)
    recalls = [found["recall@10"] for found in made["recall"].values()]
    assert recalls == sorted(recalls) and recalls[-1] == 1.0, "more effort finds more, enough of it all"
    enough = [int(effort) for effort, found in made["recall"].items() if found["recall@10"] >= 0.95]
    assert made["effort"] == enough[0]

    found = ProductIndex(folder_of(exported, kind=kind), space_id="space-one")
    ids, gallery = exported.view("product")
    rows, scores = top_k(asked[:20], gallery=gallery, gallery_ids=ids, k=10)
    names, cosines = found.search(asked[:20], k=10, effort=KINDS[kind].efforts[-1])
    assert names == [[ids[row] for row in one] for one in rows]
    np.testing.assert_allclose(cosines, scores, atol=2e-6)
    alone, cosine = found.search(asked[:1], k=10, effort=KINDS[kind].efforts[-1])
    assert alone == names[:1] and cosine.shape == (1, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_may_end_early(vectors, asked, kind):
    pytest.importorskip(KINDS[kind].module)
    exported = ExportedVectors(vectors)
    write_index(exported, kind=kind, measure=measure(asked))
    found = ProductIndex(folder_of(exported, kind=kind), space_id="space-one")
    names, scores = found.search(asked[:3], k=len(exported) + 9)
    for one, cosines in zip(names, scores, strict=True):
        assert 0 < len(one) <= len(exported) == len(set(found.ids)) and len(set(one)) == len(one)
        assert np.isfinite(cosines[: len(one)]).all() and (cosines[len(one) :] == -np.inf).all()


def test_recall_is_that_of_the_index_and_not_of_exact_search(scattered, asked):
    def blind(vectors, k, effort):
        return np.tile(np.arange(k), (len(vectors), 1))

    ids, gallery = ExportedVectors(scattered).view("product")
    found = recall_by_effort(blind, efforts=(1,), queries=asked, gallery=gallery, ids=ids)[1]
    assert 0 < found["recall@10"] < 0.2 and 0.3 < found["recall@100"] < 0.6  # about k of 236
    with pytest.raises(ValueError, match="no query has a vector"):
        recall_by_effort(blind, efforts=(1,), queries=asked * np.nan, gallery=gallery, ids=ids)


def test_an_index_of_older_vectors_is_made_again(vectors, asked):
    pytest.importorskip("usearch")
    write_index(ExportedVectors(vectors), kind="usearch", measure=measure(asked))
    manifest = json.loads((vectors / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = "0" * 64
    (vectors / "manifest.json").write_text(json.dumps(manifest))
    assert not is_current(ExportedVectors(vectors), kind="usearch")


def test_an_export_that_is_overwritten_loses_its_index(vectors, asked, sample_data):
    pytest.importorskip("usearch")
    write_index(ExportedVectors(vectors), kind="usearch", measure=measure(asked))
    export(Scattered(space_id="space-two"), sample_data, vectors, pictures=False, overwrite=True)
    assert not (vectors / "index").exists()


def test_what_asks_are_queries_of_the_log_or_else_titles(sample_data, tmp_path):
    titles = set(pq.read_table(sample_data / "index.parquet")["title"].to_pylist()) - {""}
    texts = asked_of(PreparedData(sample_data), count=50)
    assert 0 < len(texts) <= 50 and len(set(texts)) == len(texts) and set(texts) <= titles
    data = tmp_path / "data"
    shutil.copytree(sample_data, data)
    pq.write_table(pq.read_table(data / "index.parquet").slice(0, 2).select(["id"]).rename_columns(["query"]),
                   data / "query_pairs.parquet")  # fmt: skip
    assert len(asked_of(PreparedData(data))) == 2


def test_refusals_name_what_is_wrong(vectors, asked, monkeypatch):
    pytest.importorskip("usearch")
    exported = ExportedVectors(vectors)
    folder = folder_of(exported, kind="usearch")
    with pytest.raises(UserError, match=r"--index=annoy: expected one of faiss-hnsw, faiss-ivf, usearch"):
        write_index(exported, kind="annoy", measure=measure(asked))
    with pytest.raises(UserError, match="no finished index at"):
        ProductIndex(folder, space_id="space-one")
    write_index(exported, kind="usearch", measure=measure(asked))
    with pytest.raises(UserError, match="is of space space-one, but the vectors that ask are of space space-two"):
        ProductIndex(folder, space_id="space-two")
    (folder / index.FILE).write_bytes(b"")
    with pytest.raises(UserError, match="damaged or missing"):
        ProductIndex(folder, space_id="space-one")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for kind, extra in (("usearch", "ann"), ("faiss-ivf", "faiss")):
        with pytest.raises(UserError, match=rf"not installed; pip install ecommerce_vl\[{extra}\]"):
            write_index(exported, kind=kind, measure=measure(asked))


def test_no_row_of_an_index_is_lost_to_another_thread():
    """Threads of usearch that add at once lose some, on any machine of two cores and more."""
    pytest.importorskip("usearch")
    vectors = np.random.default_rng(0).standard_normal((2_000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_array_equal(in_memory(vectors)(vectors, 1, 256)[:, 0], np.arange(len(vectors)))
