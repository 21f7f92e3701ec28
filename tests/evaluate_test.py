"""The evaluation door: what it refuses, and a follower beside a run that is training."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecommerce_vl.evaluation import following
from tests.programs import environment

ROOT = Path(__file__).parents[1]


def start(door, *flags):
    command = [sys.executable, "-m", f"ecommerce_vl.{door}", *map(str, flags)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data=DATA"], "--workdir is missing; expected --workdir=VALUE: run directory"),
        (["--workdir=RUN"], "--data is missing"),
        (
            ["--workdir=RUN", "--data=DATA", "--baseline=no/such/folder"],
            "there is no folder 'no/such/folder'; expected",
        ),
        (
            ["--workdir=RUN", "--data=DATA", "--follow", "--tasks=adult,clusters"],
            "--tasks has 'clusters'; expected some of image_text",
        ),
        (["--compare=A"], "--compare=A names 1 folders; expected two"),
        (["--compare=A,B"], "no evaluation at 'A': metrics.json is missing"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(tmp_path, flags, sentence):
    process = start("evaluate", f"--out={tmp_path}", *flags)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in text
    assert sentence in text


@pytest.mark.slow
def test_a_follower_measures_checkpoints_as_they_come_and_ends_with_the_run(sample_data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "eval"
    following_flags = (f"--workdir={run}", f"--data={sample_data}", f"--out={out}", "--follow")
    follower = start("evaluate", *following_flags)
    assert "waiting for its checkpoints" in follower.stdout.readline()
    follower.send_signal(signal.SIGTERM)
    follower.communicate(timeout=60)
    assert follower.returncode == 75
    follower = start("evaluate", *following_flags)
    training = start(
        "train", "--config=configs/quickstart.py", f"--workdir={run}", f"--config.data.path={sample_data}",
        "--config.batch_size=32", f"--config.total_samples={32 * 12}", "--config.image.size=32",
        "--config.image.patch_size=8", "--config.image.depth=1", "--config.text.depth=1", "--config.text.max_length=16",
        "--config.text.vocab_size=400", "--config.embed_dim=32", "--config.checkpoint.every_steps=6",
        "--config.evaluate.every_steps=6",
    )  # fmt: skip
    text, _ = training.communicate(timeout=600)
    assert training.returncode == 0, text
    begin_s = time.monotonic()
    text, _ = follower.communicate(timeout=600)
    assert follower.returncode == 0, text
    rows = following.read(out)
    steps = [row["step"] for row in rows]
    assert steps[-1] == 12 and set(steps) <= {6, 12}
    metrics = json.loads((out / "metrics.json").read_text())
    key = "image_text/i2t/hit@10"
    assert rows[-1][key] == metrics[key]["value"], "the page is of the last checkpoint"
    page = (out / "report.html").read_text()
    assert "step 12" in page and 'id="training"' in page
    assert "has reached its last step" in text and time.monotonic() - begin_s < 600
