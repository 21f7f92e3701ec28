"""A seed model by the doors: trained on a fraction, exported, asked by prepare, and heeded by the next training."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import ecommerce_vl as vl
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.reader import ExportedVectors
from ecommerce_vl.exporting.vectors import export_vectors
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.loop import train
from tests.programs import environment

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def prepare(*arguments):
    command = [sys.executable, "-m", "ecommerce_vl.prepare", *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def shop(sample_data, tiny_config, tmp_path_factory):
    """A copy of the sample with a seed model of a fifth of it, and that model's vectors."""
    folder = tmp_path_factory.mktemp("seed")
    shutil.copytree(sample_data, folder / "data")
    options = tiny_config["data"] | {"path": str(folder / "data")}
    config = tiny_config | {"data": options, "total_samples": 32 * 4}
    seed = config | {"data": options | {"fraction": 0.2}}
    lines = []
    train(seed, folder / "seed", build_system=build_system, log=lines.append)
    assert any("a fraction of 0.2" in line for line in lines)
    data = PreparedData(folder / "data")
    encoder = vl.load(folder / "seed")
    export_vectors(
        encoder, data=data, split="all", out=folder / "vectors", pictures=False, progress=lambda done, total: None
    )
    return folder, config


def test_what_a_seed_model_finds_is_left_out(shop):
    folder, config = shop
    feed = folder / "data" / "feed" / "products.jsonl"
    done = prepare(f"--feed={feed}", f"--out={folder / 'data'}", f"--vectors={folder / 'vectors'}")
    assert done.returncode == 0, done.stderr
    for words in (
        "nothing to do",
        "in train ranked",
        "that the model learnt from are not",
        "seed_model.html",
        "leaks ",
    ):
        assert words in done.stdout
    ranks = pq.read_table(folder / "data" / "agreement.parquet")["rank"].to_numpy()
    low = int((ranks < 0.1).sum())
    assert low > 5
    lines = []
    config = config | {"data": config["data"] | {"drop_lowest": 0.1}}
    train(config, folder / "run", build_system=build_system, log=lines.append)
    assert any(f"without {low:,} whose picture and title agree least" in line for line in lines), lines
    # Preparing anew leaves nothing of an earlier model's findings behind.
    done = prepare(f"--feed={feed}", f"--out={folder / 'data'}", "--overwrite")
    assert done.returncode == 0, done.stderr
    for name in ("agreement.parquet", "semantic_duplicates.parquet", "seed_model.json", "seed_model.html"):
        assert not (folder / "data" / name).exists()


def test_the_manifest_says_what_the_model_learnt_from(shop):
    folder, _ = shop
    seed = ExportedVectors(folder / "vectors").seed_vectors()
    assert seed.trained_on == {"fingerprint": PreparedData(folder / "data").fingerprint, "fraction": 0.2}


def test_vectors_that_cannot_judge_are_refused(shop, tmp_path):
    folder, _ = shop
    shutil.copytree(folder / "vectors", tmp_path / "vectors")
    manifest = json.loads((tmp_path / "vectors" / "manifest.json").read_text())

    def refused(change) -> str:
        changed = json.loads(json.dumps(manifest))
        change(changed)
        (tmp_path / "vectors" / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(UserError) as caught:
            ExportedVectors(tmp_path / "vectors").seed_vectors()
        return str(caught.value)

    assert "the vectors of --split=test, expected those of all" in refused(lambda m: m["data"].update(split="test"))
    assert "does not say what its model was trained on" in refused(lambda m: m["model"].pop("trained_on"))
    assert "the manifest says 7" in refused(lambda m: m["shards"][0].update(rows=7))
    assert "cannot be read" in refused(lambda m: m["shards"][0].update(path="part-none.parquet"))
    (tmp_path / "run[1]").mkdir()
    shutil.move(tmp_path / "vectors", tmp_path / "run[1]" / "vectors")
    (tmp_path / "run[1]" / "vectors" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="stands for others in patterns"):
        ExportedVectors(tmp_path / "run[1]" / "vectors").seed_vectors()


def test_refusals_are_one_sentence(shop, tmp_path):
    folder, _ = shop
    done = prepare("--feed=sample:30", f"--out={tmp_path / 'other'}", f"--vectors={folder / 'vectors'}")
    assert done.returncode == 1
    assert "--vectors are of other data" in done.stderr
    assert "Traceback" not in done.stderr
    done = prepare("--feed=sample:30", f"--out={tmp_path / 'other'}", f"--vectors={tmp_path / 'none'}")
    assert done.returncode == 1
    assert "no vectors at" in done.stderr
