"""Prepared data with vectors of a seed model that are drawn, so that all of what it says can be counted again."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.seed_model.findings import SUMMARY, TABLES
from ecommerce_vl.data.seed_model.vectors import SeedVectors

sys.path.insert(0, str(Path(__file__).parent))

from unit_vectors import units

COLUMNS = {"product": "embedding", "image": "embedding_image", "text": "embedding_text"}


@pytest.fixture
def prepared(sample_data, tmp_path) -> PreparedData:
    """A copy of the sample's preparation, to write into."""
    shutil.copytree(sample_data, tmp_path / "data", ignore=shutil.ignore_patterns("feed", SUMMARY, *TABLES))
    return PreparedData(tmp_path / "data")


@pytest.fixture
def write_vectors(tmp_path):
    """Writes {view: (N,D), NaN where absent} of ids as the two parts of an export."""

    def write(ids, views, *, trained_on=None, fingerprint="") -> SeedVectors:
        columns = {"product_id": pa.array(ids)}
        for view, vectors in views.items():
            absent = np.isnan(vectors).any(axis=1)
            lists = [None if gone else row for row, gone in zip(vectors.astype(np.float32), absent, strict=True)]
            columns[COLUMNS[view]] = pa.array(lists, pa.list_(pa.float32(), vectors.shape[1]))
        table = pa.table(columns)
        files = [tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"]
        pq.write_table(table.slice(0, len(ids) // 2), files[0])
        pq.write_table(table.slice(len(ids) // 2), files[1])
        return SeedVectors(files, COLUMNS, fingerprint, "space", trained_on)

    return write


@pytest.fixture
def drawn(prepared) -> tuple[list[str], dict[str, np.ndarray]]:
    """Ids of all products in another order than the index, and vectors; a picture or a title is absent where it is."""
    index = prepared.index.to_pylist()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(index))
    views = {view: units(rng, len(index)) for view in COLUMNS}
    views["image"][[index[row]["num_images"] == 0 for row in order]] = np.nan
    views["text"][[not index[row]["has_text"] for row in order]] = np.nan
    return [index[row]["id"] for row in order], views
