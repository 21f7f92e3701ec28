"""A killed preparation goes on where it was and ends with the same bytes, whatever the number of workers."""

import contextlib
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
from PIL import Image

from tests.programs import environment

ROOT = Path(__file__).parents[2]
NUM_ROWS = 2600  # three parts
PROGRAM = """
import sys
from pathlib import Path
from configs.prepare import get_config
from ecommerce_vl.data.preparation import prepare_feed

if __name__ == "__main__":
    config = get_config().to_dict() | {"num_workers": int(sys.argv[3]), "rows_per_shard": 300}
    prepare_feed(sys.argv[1], Path(sys.argv[2]), config=config, progress=lambda label: lambda done, total: None)
"""


@pytest.fixture(scope="module")
def feed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    rng = np.random.default_rng(0)
    for number in range(20):
        tiles = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((160, 120))
        tiles.save(folder / f"{number}.png")
    rows = [
        {"id": f"p{row}", "title": f"shirt number {row % 2000}", "image_link": f"{row % 20}.png"}
        for row in range(NUM_ROWS)
    ]
    (folder / "feed.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "program.py").write_text(PROGRAM)
    return folder


def start(feed: Path, out: Path, *, workers: int) -> subprocess.Popen:
    command = [sys.executable, str(feed / "program.py"), str(feed / "feed.jsonl"), str(out), str(workers)]
    return subprocess.Popen(command, env=environment(), start_new_session=True)


def contents(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir()}


@pytest.fixture(scope="module")
def whole(feed, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert start(feed, out, workers=1).wait(timeout=300) == 0
    return contents(out)


@pytest.mark.slow
def test_two_workers_write_the_bytes_of_one(feed, whole, tmp_path):
    assert start(feed, tmp_path / "out", workers=2).wait(timeout=300) == 0
    assert contents(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("waits_for", ["parts/part-*.parquet", "shards/products-train*"])
def test_a_killed_job_ends_with_the_same_bytes_and_repeats_nothing(feed, whole, tmp_path, waits_for):
    out = tmp_path / "out"
    job = start(feed, out, workers=2)
    deadline = time.monotonic() + 200
    while not (found := list(out.glob(f".prepare/{waits_for}"))):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(random.Random(waits_for).random() * 0.2)
    os.kill(job.pid, signal.SIGKILL)  # the job alone; its workers must notice by themselves
    job.wait()
    assert not (out / "prepare.json").exists()
    session_ended(job.pid)
    kept = {file: file.stat().st_mtime_ns for file in found if file.exists()}
    assert kept
    resumed = start(feed, out, workers=2)
    while resumed.poll() is None:
        for file, written in kept.items():
            with contextlib.suppress(FileNotFoundError):  # it has been published
                assert file.stat().st_mtime_ns == written
        time.sleep(0.05)
    assert resumed.returncode == 0
    assert contents(out) == whole


def session_ended(session: int) -> None:
    """Waits until no process of a session is left; a worker that outlives its parent fails the test."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(_session_of(process) == session for process in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.1)
    pytest.fail("workers outlive the job that was killed")


def _session_of(process: Path) -> int | None:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[3]) if fields[0] != "Z" else None
