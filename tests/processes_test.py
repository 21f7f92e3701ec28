"""Several real processes over localhost: the same run as one, named absences, bounded ends."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ecommerce_vl.errors import UserError
from ecommerce_vl.training.place import Place, find_place
from ecommerce_vl.training.processes import ALONE, HUB_PORT_OFFSET, Team, join
from ecommerce_vl.training.writer import read_metrics
from tests.programs import environment

ROOT = Path(__file__).parents[1]

# The door's own code, with the product keys of each step's rows noted beside it.
TRAIN = """
import json, sys
import numpy as np
from ecommerce_vl.training import loop
draw, noted = loop._next_batch, open(sys.argv.pop(), "a", buffering=1)
def drawn(*arguments):
    batch = draw(*arguments)
    if batch is not None:
        noted.write(json.dumps(batch["product_key"].tolist()) + "\\n")
    return batch
loop._next_batch = drawn
from ecommerce_vl import doors, train
doors.run(train.main, door="train")
"""


def free_port():
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("", port + HUB_PORT_OFFSET))
            except (OSError, OverflowError):
                continue
            return port


def start(config, workdir, *extra, devices, processes=1, process=0, port=None, ids="/dev/null"):
    """One process of a training run."""
    changes = [f"--config.{key}={value}" for key, value in config.items()]
    if processes > 1:
        changes += [f"--coordinator=localhost:{port}", f"--num_processes={processes}", f"--process_id={process}"]
    return subprocess.Popen(
        [
            sys.executable, "-u", "-c", TRAIN, "--config=configs/quickstart.py", f"--workdir={workdir}",
            *changes, *extra, str(ids),
        ],
        cwd=ROOT, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(*running, timeout=300):
    """(status, output) of each process."""
    done = []
    try:
        for process in running:
            text, _ = process.communicate(timeout=timeout)
            done.append((process.returncode, text))
    finally:
        for process in running:
            process.kill()
    return done


def tiny(data, **changes):
    return {
        "batch_size": 16, "total_samples": 16 * 6, "image.size": 16, "image.patch_size": 8, "image.depth": 1,
        "image.width": 24, "text.depth": 1, "text.width": 16, "text.max_length": 8, "text.vocab_size": 300,
        "embed_dim": 16, "data.path": data, "log_every": 1, "checkpoint.every_steps": 3, "evaluate.every_steps": 0,
        "optimizer.name": "adamw", "optimizer.warmup_samples": 16, "optimizer.learning_rate": 1e-3, "dtype": "float32",
    } | changes  # fmt: skip


def pair(config, workdir, *extra, folder, devices=4):
    """Two processes of one run."""
    port = free_port()
    return [
        start(config, workdir, *extra, devices=devices, processes=2, process=i, port=port, ids=folder / f"ids{i}")
        for i in range(2)
    ]


def losses(workdir):
    return [row["loss"] for row in read_metrics(workdir) if "loss" in row]


def evaluations(workdir):
    """Values of the quick evaluation, step by step."""
    rows = [row for row in read_metrics(workdir) if "eval/seconds" in row]
    return [[row["step"], *(value for name, value in row.items() if "/hit@" in name)] for row in rows]


def steps_of(*files):
    """The sorted product keys of each step, over all processes."""
    columns = [[json.loads(line) for line in Path(file).read_text().splitlines()] for file in files]
    return [sorted(itertools.chain(*rows)) for rows in zip(*columns, strict=True)]


# -- The roll-call, in threads: no JAX ---------------------------------------------------------------------------------


def team(port, process, *, processes, ended=None, roll_call_s=10.0, **limits):
    limits = {"heartbeat_s": 5.0, "hang_s": 0.0} | limits
    place = Place(f"localhost:{port}", processes, process)
    return Team(place, roll_call_s=roll_call_s, say=(ended or []).append, **limits)


def together(functions):
    """Results, or errors, of functions run at once."""
    results = [None] * len(functions)

    def call(i):
        try:
            results[i] = functions[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=call, args=(i,)) for i in range(len(functions))]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    return results


def test_the_missing_process_is_named_to_all_that_came():
    port = free_port()
    found = together([lambda i=i: team(port, i, processes=3, roll_call_s=1.5) for i in (0, 2)])
    for error in found:
        assert isinstance(error, UserError)
        assert str(error).startswith("1 of 3 processes did not come within 1.5 s: process 1 (here: 0 on")


def test_without_process_0_the_others_say_so():
    with pytest.raises(UserError, match=r"process 0 did not come within 0.5 s: nothing answers at localhost"):
        team(free_port(), 1, processes=2, roll_call_s=0.5)


def test_two_with_one_id_are_turned_away():
    port = free_port()
    found = together([lambda i=i: team(port, i, processes=3, roll_call_s=5.0) for i in (0, 1, 1)])
    assert sum("taken by one on" in str(error) for error in found) == 3


def test_all_stop_before_one_step_the_largest_that_any_had_reached():
    port = free_port()
    teams = together([lambda i=i: team(port, i, processes=3) for i in range(3)])
    assert [t.hosts for t in teams] == [teams[0].hosts] * 3 and len(teams[0].hosts) == 3
    ends = {}

    def work(i):
        for step in range(1, 1000):
            time.sleep(0.002 * (i + 1))
            signalled = "SIGTERM" if i == 1 and step >= 20 else None
            if name := teams[i].stops_at(step, signalled):
                ends[i] = (step, name)
                return

    together([lambda i=i: work(i) for i in range(3)])
    assert len(set(ends.values())) == 1 and len(ends) == 3
    step, name = ends[0]
    assert 20 <= step < 1000 and name == "SIGTERM"


def test_the_main_process_goes_first():
    port, order = free_port(), []
    teams = together([lambda i=i: team(port, i, processes=3) for i in range(3)])

    def work(i):
        teams[i].main_first()
        time.sleep(0.2 if i == 0 else 0.0)
        order.append(i)
        teams[i].main_done()

    together([lambda i=i: work(i) for i in (2, 1, 0)])
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("localhost:1", None, 0), "--num_processes is missing"),
        (("localhost:1", 2, None), "--process_id is missing"),
        ((None, 2, 0), "--coordinator is missing"),
        (("localhost:1", 2, 2), "--process_id is 2; expected 0 to 1"),
        (("localhost", 2, 1), "--coordinator is 'localhost'; expected HOST:PORT"),
    ],
)
def test_half_told_places_are_refused(arguments, sentence, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=sentence):
        find_place(*arguments)


def test_slurm_tells_the_place(monkeypatch):
    told = {"SLURM_JOB_ID": "5", "SLURM_STEP_NODELIST": "node[3-4]", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}
    for name, value in {**told, "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    place = find_place(None, None, None)
    assert place.coordinator.startswith("node3:") and (place.num_processes, place.process_id) == (4, 3)
    assert place.local_device_ids == (1,)


def test_a_single_process_joins_nobody():
    assert find_place(None, None, None) is None
    assert join(None, roll_call_s=1, heartbeat_s=1, hang_s=0, say=print) is ALONE
    assert ALONE.stops_at(3, None) is None and ALONE.stops_at(3, "SIGTERM") == "SIGTERM"


JOINED = """
import sys, time
import jax
from ecommerce_vl.training.place import find_place
from ecommerce_vl.training.processes import join
say = lambda line: print("said:", line, flush=True)
place = find_place(sys.argv[1], 2, int(sys.argv[2]))
with join(place, roll_call_s=60, heartbeat_s=20, hang_s=0, say=say, log=say) as team:
    assert jax.process_count() == 2 and jax.device_count() == 2
    team.main_first()
    team.main_done()
    for step in range(1, int(sys.argv[3])):
        team.stops_at(step, None)
        time.sleep(0.05)
print("left in order")
"""


def joined(steps):
    """Two real processes that join and count."""
    address = f"localhost:{free_port()}"
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-c", JOINED, address, str(i), str(steps)],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize("killed", [None, 0, 1])
def test_two_joined_processes_leave_in_order_or_name_the_one_that_was_killed(killed):
    running = joined(3 if killed is None else 100_000)
    if killed is None:
        for status, text in finish(*running, timeout=120):
            assert status == 0 and "left in order" in text, text
        return
    assert "processes 2 of 2 here" in running[0].stdout.readline()
    time.sleep(0.5)
    running[killed].send_signal(signal.SIGKILL)
    begin_s = time.monotonic()
    status, text = finish(running[1 - killed], timeout=60)[0]
    running[killed].wait()
    assert time.monotonic() - begin_s < 20
    assert status not in (0, None), text
    assert f"said: process {killed} ({socket.gethostname()}) died: its connection is closed" in text, text


# -- Real processes ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_end_when_one_is_killed_and_name_it(sample_data, tmp_path):
    config = tiny(sample_data, total_samples=16 * 100_000, **{"checkpoint.every_steps": 10**6})
    running = pair(config, tmp_path / "run", folder=tmp_path, devices=1)
    deadline_s = time.monotonic() + 120
    while len(losses(tmp_path / "run")) < 2 and time.monotonic() < deadline_s and running[0].poll() is None:
        time.sleep(0.1)
    running[1].send_signal(signal.SIGKILL)
    begin_s = time.monotonic()
    (status, text), _ = finish(*running, timeout=60)
    assert time.monotonic() - begin_s < 30
    assert status not in (0, None, -signal.SIGKILL), text
    assert f"train: process 1 ({socket.gethostname()}) died" in text, text
    assert "processes 2 of 2 here" in text and "Traceback" not in text


@pytest.mark.slow
def test_two_by_four_equals_one_by_eight_and_one_by_one(sample_data, tmp_path):
    config = tiny(sample_data, **{"evaluate.every_steps": 3})
    found = {"2x4": finish(*pair(config, tmp_path / "2x4", folder=tmp_path))}
    for devices in (8, 1):
        name = f"1x{devices}"
        found[name] = finish(start(config, tmp_path / name, devices=devices, ids=tmp_path / f"ids{name}"))
    for name, ends in found.items():
        assert [status for status, _ in ends] == [0] * len(ends), (name, ends)
        np.testing.assert_allclose(losses(tmp_path / name), losses(tmp_path / "1x1"), rtol=2e-5, err_msg=name)
        # Rounding may swap two answers of nearly equal scores.
        np.testing.assert_allclose(evaluations(tmp_path / name), evaluations(tmp_path / "1x1"), atol=0.1, err_msg=name)
    assert [row[0] for row in evaluations(tmp_path / "1x1")] == [0, 3, 6]
    one = steps_of(tmp_path / "ids1x1")
    assert len(one) == 6 and len(set(map(tuple, one))) == 6
    assert steps_of(tmp_path / "ids0", tmp_path / "ids1") == one == steps_of(tmp_path / "ids1x8")
    assert "step" not in found["2x4"][1][1]  # the main process alone writes


@pytest.mark.slow
def test_what_two_processes_saved_goes_on_in_one_and_the_other_way_round(sample_data, tmp_path):
    config = tiny(sample_data)
    ends = finish(*pair(config, tmp_path / "2x4", folder=tmp_path))
    ends += finish(start(config, tmp_path / "1x1", devices=1))
    assert [status for status, _ in ends] == [0] * 3, ends
    (tmp_path / "back").mkdir()
    subprocess.run(["cp", "-r", tmp_path / "1x1", tmp_path / "copy"], check=True)
    for name in ("2x4", "copy"):
        for step in (tmp_path / name / "checkpoints").glob("6"):
            subprocess.run(["rm", "-r", step], check=True)
    ends = finish(start(config, tmp_path / "2x4", devices=1))
    ends += finish(*pair(config, tmp_path / "copy", folder=tmp_path / "back"))
    assert [status for status, _ in ends] == [0] * 3, ends
    assert "resume   step 3 of 6" in ends[0][1] and "resume   step 3 of 6" in ends[1][1]
    for name in ("2x4", "copy"):
        np.testing.assert_allclose(losses(tmp_path / name), losses(tmp_path / "1x1"), rtol=2e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_at_one_saves_at_all(sample_data, tmp_path, signalled):
    config = tiny(sample_data, total_samples=16 * 100_000, **{"checkpoint.every_steps": 10**6})
    running = pair(config, tmp_path / "run", folder=tmp_path, devices=1)
    deadline_s = time.monotonic() + 200
    while len(losses(tmp_path / "run")) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    running[signalled].send_signal(signal.SIGTERM)
    ends = finish(*running, timeout=100)
    assert [status for status, _ in ends] == [75, 75], ends
    assert "by SIGTERM at step" in ends[0][1] and "saved" in ends[0][1]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


@pytest.mark.slow
def test_the_others_learn_why_one_left_and_who_hangs(sample_data, tmp_path):
    port = free_port()
    other = tiny(sample_data, batch_size=20)  # not over 8 devices
    running = [
        start(config, tmp_path / "run", devices=4, processes=2, process=i, port=port)
        for i, config in enumerate((tiny(sample_data), other))
    ]
    (_, first), (status, second) = finish(*running, timeout=100)
    assert status == 1 and "config.batch_size is 20" in second
    assert "process 1 (" in first and "config.batch_size is 20" in first
    running = pair(tiny(sample_data, total_samples=16 * 10**5), tmp_path / "run2", "--hang_s=40", folder=tmp_path)
    while len(losses(tmp_path / "run2")) < 2 and running[0].poll() is None:
        time.sleep(0.1)
    os.kill(running[1].pid, signal.SIGSTOP)
    try:
        status, text = finish(running[0], timeout=150)[0]
    finally:
        os.kill(running[1].pid, signal.SIGKILL)
    assert status not in (0, None) and "process 1 (" in text


LOADED = """
import sys
import numpy as np
import ecommerce_vl as vl
from ecommerce_vl.training.place import find_place
from ecommerce_vl.training.processes import join
place = find_place(sys.argv[1], 2, int(sys.argv[2]))
with join(place, roll_call_s=60, heartbeat_s=20, hang_s=0, say=print, log=print):
    encoder = vl.load(sys.argv[3], log=print)
    print("read", encoder.digest, float(np.abs(encoder.embed_texts(["red ball"])).sum()))
"""


@pytest.mark.slow
def test_each_of_two_processes_reads_a_run(sample_data, tmp_path):
    """As one that begins from the parameters of a run does (`config.init.run`)."""
    ((status, text),) = finish(start(tiny(sample_data, total_samples=32), tmp_path / "run", devices=1))
    assert status == 0, text
    address = f"localhost:{free_port()}"
    running = [
        subprocess.Popen(
            [sys.executable, "-u", "-c", LOADED, address, str(i), str(tmp_path / "run")],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    ends = finish(*running, timeout=120)
    assert [status for status, _ in ends] == [0, 0], ends
    told = {line for _, text in ends for line in text.splitlines() if line.startswith("read")}
    assert len(told) == 1, told
