"""The training door as a user runs it: killed, stopped, damaged, and pointed at the wrong things."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.programs import environment

ROOT = Path(__file__).parents[1]
STEPS = 24


def command(workdir, data, *more):
    return [
        sys.executable, "-m", "ecommerce_vl.train", "--config=configs/quickstart.py", f"--workdir={workdir}",
        f"--config.data.path={data}", "--config.batch_size=32", f"--config.total_samples={32 * STEPS}",
        "--config.image.size=32", "--config.image.patch_size=8", "--config.image.width=48", "--config.image.depth=1",
        "--config.text.width=32", "--config.text.depth=1", "--config.text.max_length=16",
        "--config.text.vocab_size=400", "--config.embed_dim=32", "--config.log_every=2",
        "--config.checkpoint.every_steps=3", "--config.evaluate.every_steps=4", *more,
    ]  # fmt: skip


def run(*arguments):
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def parameters(workdir):
    import ecommerce_vl as vl

    return vl.load(workdir).params


def assert_bit_identical(one, other):
    import jax

    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, other)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, sample_data):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    done = run(workdir, sample_data)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_leaves_what_the_readme_promises(uninterrupted):
    workdir, output = uninterrupted
    for name in ("config.json", "metrics.jsonl", "tokenizer/tokenizer.json", "preprocess.json", "tensorboard"):
        assert (workdir / name).exists(), name
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == STEPS
    assert [row["step"] for row in rows if "eval/seconds" in row] == [0, 4, 8, 12, 16, 20, 24]
    steps = [row for row in rows if "loss" in row]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert "eta" in output and "finished 24 steps" in output


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bits(uninterrupted, tmp_path, sample_data):
    """SIGKILL again and again, also while it starts, compiles and saves; the same command each time."""
    workdir = tmp_path / "killed"
    chance = random.Random(0)
    kills, resumed = 0, 0
    while kills < 4:
        process = subprocess.Popen(
            command(workdir, sample_data), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
        )
        saved_before = _saved(workdir)
        # Wait for progress so that the kills fall all over the run, then strike after a random moment.
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline and _saved(workdir) == saved_before:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        output = process.communicate()[0]
        resumed += "resume " in output
        if "finished" in output:
            break
        kills += 1
    assert kills >= 3, "the run is too short to be killed several times"
    assert resumed >= 2
    done = run(workdir, sample_data)
    assert done.returncode == 0, done.stderr
    assert "resume " in done.stdout
    assert_bit_identical(parameters(uninterrupted[0]), parameters(workdir))
    assert _steps(workdir) == _steps(uninterrupted[0])
    assert _evaluated(workdir) == _evaluated(uninterrupted[0])


def _steps(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _evaluated(workdir):
    """The rows of the quick evaluation, but for the time they took."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "eval/seconds"} for row in rows if "eval/seconds" in row]


def _saved(workdir):
    folder = workdir / "checkpoints"
    return max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0) if folder.is_dir() else 0


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on_to_the_same_bits(uninterrupted, tmp_path, sample_data):
    workdir = tmp_path / "stopped"
    process = subprocess.Popen(
        command(workdir, sample_data), cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("step") and "       4/" in line:
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75, "".join(lines)
    assert "stopped  by SIGTERM at step" in lines[-1] and "run the same command to continue" in lines[-1]
    done = run(workdir, sample_data)
    assert done.returncode == 0 and "resume " in done.stdout
    assert_bit_identical(parameters(uninterrupted[0]), parameters(workdir))


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_saves_and_leaves_no_traceback(sent, tmp_path, sample_data):
    """Ctrl-C in a terminal reaches the loader's processes too, and so does the end of a job."""
    started = subprocess.Popen(
        command(tmp_path / "stopped", sample_data, "--config.data.num_workers=2"), cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in started.stdout:
        if line.startswith("step"):
            os.killpg(started.pid, sent)
            break
    printed, complaints = started.communicate(timeout=120)
    assert started.returncode == 75, printed + complaints
    assert f"stopped  by {sent.name} at step" in printed.splitlines()[-1] and ", saved" in printed.splitlines()[-1]
    assert "Traceback" not in complaints, complaints


@pytest.mark.slow
def test_loader_processes_end_with_a_trainer_that_was_killed(tmp_path, sample_data):
    started = subprocess.Popen(
        command(tmp_path / "killed", sample_data, "--config.data.num_workers=2"), cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    next(line for line in started.stdout if line.startswith("step"))
    started.kill()
    started.wait()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(started.pid, 0)
            time.sleep(0.1)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_previous_one_ends_with_the_same_bits(
    uninterrupted, tmp_path, sample_data
):
    import shutil

    workdir = tmp_path / "damaged"
    shutil.copytree(uninterrupted[0], workdir)
    for file in (workdir / "checkpoints" / str(STEPS) / "state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)
    done = run(workdir, sample_data)
    assert done.returncode == 0, done.stderr
    assert f"checkpoint {STEPS}" in done.stdout and "is damaged" in done.stdout
    assert "resume   step 21" in done.stdout
    assert_bit_identical(parameters(uninterrupted[0]), parameters(workdir))


@pytest.mark.slow
def test_worker_processes_give_the_same_bits_as_threads(uninterrupted, tmp_path, sample_data):
    done = run(tmp_path / "workers", sample_data, "--config.data.num_workers=2")
    assert done.returncode == 0, done.stderr
    assert_bit_identical(parameters(uninterrupted[0]), parameters(tmp_path / "workers"))


def failing(*arguments):
    """The one sentence that a failing command prints."""
    done = run(*arguments)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("train: ")]
    assert len(sentences) == 1, done.stderr
    return sentences[0]


def test_another_config_in_the_same_workdir(uninterrupted, sample_data):
    message = failing(uninterrupted[0], sample_data, "--config.optimizer.learning_rate=0.5")
    assert "optimizer.learning_rate (there 0.004, now 0.5)" in message and "another --workdir" in message


def test_another_tokenizer_in_the_same_workdir(uninterrupted, tmp_path, sample_data):
    import shutil

    workdir = tmp_path / "other_words"
    shutil.copytree(uninterrupted[0], workdir)
    file = workdir / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase"', '"Lowercase"').replace("\n", "\n "))
    assert "tokenizer is not the one" in failing(workdir, sample_data)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--config.no_such_key=1", "no_such_key"),
        ("--config.optimiser.b1=1", "optimizer"),
        ("--config.batch_size=1", "at least 2"),
        pytest.param("--config.image.patch_size=7", "size is 32; expected a multiple of 7", marks=pytest.mark.slow),
        ("--config.data.path=nowhere", "no prepared data at 'nowhere'"),
        pytest.param("--config.mesh.fsdp=3", "there are 1", marks=pytest.mark.slow),
        pytest.param("--config.system=clop", "expected one of eclip", marks=pytest.mark.slow),
        ("--config=configs/make.py:huge", "make.py:huge: there is no 'huge'; expected one of tiny, small, base, "),
        ("--wrokdir=x", "did you mean --workdir"),
    ],
)
def test_wrong_flags_get_one_clear_sentence(tmp_path, sample_data, flag, expected):
    assert expected in failing(tmp_path / "run", sample_data, flag)
