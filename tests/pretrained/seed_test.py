"""A published model as the one that looks at the data: exported by the door, it has learnt from none of it."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.seed_model import agreement
from ecommerce_vl.data.seed_model.vectors import open_vectors
from ecommerce_vl.exporting.reader import ExportedVectors
from tests.programs import environment


@pytest.mark.slow
def test_a_published_model_ranks_every_training_product(write_folder, sample_data, tmp_path):
    command = [sys.executable, "-m", "ecommerce_vl.export", f"--pretrained={write_folder('clip')}"]
    command += [f"--data={sample_data}", f"--out={tmp_path / 'vectors'}", "--thumbnails=False"]
    done = subprocess.run(command, env=environment(), cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data, seed = PreparedData(sample_data), ExportedVectors(tmp_path / "vectors").seed_vectors()
    assert seed.trained_on is None
    with open_vectors(sample_data, seed, memory_limit="1GB") as connection:
        counts = agreement.write_agreement(
            connection, seed, tmp_path / agreement.FILE, fingerprint=data.fingerprint, min_category=200
        )
    complete = data.records("train", pairs_only=True)
    assert counts["ranked"] == counts["pairs"] == len(complete) > 100
    ranked = pq.read_table(tmp_path / agreement.FILE)["id"].to_pylist()
    assert sorted(complete[row]["id"] for row in range(len(complete))) == ranked
