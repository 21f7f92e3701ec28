"""Starts that fail leave nothing behind that a later start would take for its own; states that are no numbers stop."""

import copy
import gzip
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ecommerce_vl as vl
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sampling import natural_order
from ecommerce_vl.errors import UserError
from ecommerce_vl.systems import build_system
from ecommerce_vl.training import inputs, loop, trainer
from ecommerce_vl.training.checkpoint import Checkpoints
from ecommerce_vl.training.limits import validate
from ecommerce_vl.training.loop import FINISHED, STOPPED, check_finite, train
from ecommerce_vl.training.profile import Profile
from ecommerce_vl.training.schedule import make_stages, samples_at
from ecommerce_vl.training.step import make_train_step
from ecommerce_vl.training.writer import read_metrics


def changed(config, key, value):
    config = copy.deepcopy(config)
    *groups, name = key.split(".")
    place = config
    for group in groups:
        place = place[group]
    assert name in place
    place[name] = value
    return config


def failing_build(config, **known):
    raise UserError("config.system fails")


def stopping_build(config, **known):
    """A system that is stopped while it is built."""
    signal.raise_signal(signal.SIGTERM)
    return build_system(config, **known)


def start(config, workdir, build=build_system):
    lines = []
    outcome = train(config, workdir, build_system=build, log=lines.append)
    return outcome, lines


def other_data(monkeypatch):
    monkeypatch.setattr(PreparedData, "fingerprint", property(lambda self: "f" * 64))


def trained_texts(monkeypatch):
    """Counts how often a tokenizer is trained."""
    counted, original = [], inputs.train_tokenizer
    monkeypatch.setattr(inputs, "train_tokenizer", lambda *a, **k: counted.append(1) or original(*a, **k))
    return counted


def test_a_start_that_fails_early_leaves_no_identity(tiny_config, tmp_path):
    with pytest.raises(UserError, match="system fails"):
        start(tiny_config, tmp_path, failing_build)
    assert not (tmp_path / "config.json").exists() and not (tmp_path / "data.json").exists()


def test_a_stop_before_the_first_step_claims_no_save_and_keeps_the_tokenizer(tiny_config, tmp_path, monkeypatch):
    counted = trained_texts(monkeypatch)
    for _ in range(2):
        outcome, lines = start(tiny_config, tmp_path, stopping_build)
        assert outcome == STOPPED
        assert "at step 0, nothing to save yet; run the same command" in lines[-1]
    assert len(counted) == 1
    # Other data, or another config, and nothing is saved: the directory begins anew.
    other_data(monkeypatch)
    start(tiny_config, tmp_path, stopping_build)
    assert len(counted) == 2
    assert json.loads((tmp_path / "data.json").read_text()) == {"fingerprint": "f" * 64}
    start(changed(tiny_config, "text.vocab_size", 380), tmp_path, stopping_build)
    assert len(counted) == 3
    assert json.loads((tmp_path / "config.json").read_text())["text"]["vocab_size"] == 380
    assert read_metrics(tmp_path) == []


@pytest.fixture(scope="module")
def trained(tiny_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    config = changed(changed(tiny_config, "total_samples", 32 * 4), "profile", (2, 3))
    outcome, lines = start(config, workdir)
    assert outcome == FINISHED and any(line.startswith("profile  steps 2 to 3: xprof") for line in lines)
    return changed(config, "profile", ()), workdir


def test_the_trace_of_a_profile_holds_the_steps_that_were_asked_for(trained):
    (file,) = (trained[1] / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    assert sorted({event["args"]["step_num"] for event in events if event.get("name") == "train"}) == ["2", "3"]


def test_a_profile_of_steps_that_are_over_or_never_come_says_so(tmp_path):
    lines = []
    for steps, start in (((2, 3), 5), ((7, 9), 0)):
        profile = Profile(steps, tmp_path, start=start, log=lines.append)
        for number in range(start + 1, 7):
            profile.begin(number)
            assert profile.end(number, ()) == 0
        profile.close()
    assert lines == [
        "profile  none: no step up to 3 was made from 6 on",
        "profile  none: no step up to 9 was made from 7 on",
    ]


def test_with_a_checkpoint_other_data_is_refused(trained, monkeypatch):
    other_data(monkeypatch)
    with pytest.raises(UserError, match="the data has changed"):
        start(*trained)


def test_with_a_checkpoint_another_config_is_refused_and_nothing_is_touched(trained):
    config, workdir = trained
    before = (workdir / "config.json").read_bytes(), (workdir / "tokenizer" / "tokenizer.json").read_bytes()
    with pytest.raises(UserError, match=r"another config: seed \(there 0, now 5\)"):
        start(changed(config, "seed", 5), workdir)
    assert before == (
        (workdir / "config.json").read_bytes(),
        (workdir / "tokenizer" / "tokenizer.json").read_bytes(),
    )


def test_a_tokenizer_of_another_size_is_named_as_such(trained, tmp_path):
    import shutil

    config, workdir = trained
    shutil.copytree(workdir, tmp_path / "run")
    assert start(changed(config, "text.vocab_size", 300), tmp_path / "small", stopping_build)[0] == STOPPED
    shutil.copy(tmp_path / "small" / "tokenizer" / "tokenizer.json", tmp_path / "run" / "tokenizer")
    with pytest.raises(UserError, match="tokenizer is not the one"):
        start(config, tmp_path / "run")


def test_rows_are_written_before_the_save_that_covers_them(tiny_config, tmp_path, monkeypatch):
    config = changed(changed(tiny_config, "log_every", 1), "checkpoint.every_steps", 2)
    seen = {}
    save = Checkpoints.save

    def watched(self, step, state, *, meta):
        seen[step] = [row["step"] for row in read_metrics(tmp_path)]
        save(self, step, state, meta=meta)

    monkeypatch.setattr(Checkpoints, "save", watched)
    start(changed(config, "total_samples", 32 * 4), tmp_path)
    assert seen == {2: [1, 2], 4: [1, 2, 3, 4]}


def test_a_signal_while_a_step_is_saved_does_not_save_it_twice(tiny_config, tmp_path, monkeypatch):
    save = Checkpoints.save

    def interrupted(self, step, state, *, meta):
        signal.raise_signal(signal.SIGTERM)
        save(self, step, state, meta=meta)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    outcome, lines = start(tiny_config, tmp_path)
    assert outcome == STOPPED and "at step 4, saved" in lines[-1]


class Diverging:
    """A system whose loss is no number."""

    def __init__(self, system):
        self._system = system

    def __getattr__(self, name):
        return getattr(self._system, name)

    def contrast(self, *arguments):
        loss, metrics, extra = self._system.contrast(*arguments)
        return loss * jnp.nan, metrics, extra


def test_a_state_of_a_loss_that_is_no_number_is_not_saved(tiny_config, tmp_path):
    config = changed(changed(tiny_config, "log_every", 100), "checkpoint.every_steps", 2)
    with pytest.raises(UserError, match=r"loss is nan at step 1, .*--config.optimizer.learning_rate"):
        start(config, tmp_path, lambda *a, **k: Diverging(build_system(*a, **k)))
    assert Checkpoints(tmp_path / "checkpoints").steps() == []


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_each_number_is_looked_at(name):
    check_finite(3, {"loss": 1.0, "grad_norm": 1.0})
    with pytest.raises(UserError, match=f"{name} is inf at step 3"):
        check_finite(3, {"loss": 1.0, "grad_norm": 1.0} | {name: float("inf")})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("checkpoint.every_steps", -3, "config.checkpoint.every_steps is -3"),
        ("checkpoint.keep", 1, "config.checkpoint.keep is 1"),
        ("optimizer.name", "sgd", "config.optimizer.name is 'sgd'; expected one of adamw, lamb, muon"),
        ("mesh.fsdp", 0, "config.mesh.fsdp is 0"),
        ("mesh.data", 0, "config.mesh.data is 0"),
        ("data.num_workers", -1, "config.data.num_workers is -1"),
        ("log_every", 0, "config.log_every is 0"),
        ("profile", (5, 3), r"config.profile is \(5, 3\); expected the first and the last step to trace"),
        ("profile", (5,), r"config.profile is \(5,\); expected"),
    ],
)
def test_wrong_values_are_named(tiny_config, key, value, expected):
    with pytest.raises(UserError, match=expected):
        validate(changed(tiny_config, key, value))


def test_a_system_names_the_key_that_only_it_knows(tiny_config, tmp_path):
    def build(config, **known):
        raise ValueError("image.stem is 'cube'; expected one of patch, conv, gradient")

    with pytest.raises(UserError, match="config.image.stem is 'cube'"):
        start(tiny_config, tmp_path, build)

    def defect(config, **known):
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes do not match"):
        start(tiny_config, tmp_path, defect)


class Crash(Exception):
    pass


class Watched:
    """A metric that notes when the host asks for it; it has no other way to its number."""

    def __init__(self, value, note):
        self._value, self._note = value, note

    def __array__(self, dtype=None, copy=None):
        self._note()
        return np.asarray(self._value)


class Watch:
    """Steps as the loop runs them: the products of each, what was compiled, and which metrics were read when.

    Args:
      crash_at: the step before which the process ends as if killed.
    """

    def __init__(self, monkeypatch, *, crash_at=None):
        self.products, self.dispatched, self.reads, self.donated = {}, 0, set(), []
        make = make_train_step

        def watched_make(*arguments, **options):
            self.step = make(*arguments, **options)
            return run

        def run(state, batch):
            at = int(jax.device_get(state.step))
            if at == crash_at:
                raise Crash
            self.products[at] = jax.device_get(batch["product_key"])
            old = jax.tree.leaves(state.params)
            state, metrics = self.step(state, batch)
            self.donated.append(all(leaf.is_deleted() for leaf in old))
            self.dispatched = at + 1
            note = lambda: self.reads.add((at + 1, self.dispatched))
            return state, {name: Watched(value, note) for name, value in metrics.items()}

        monkeypatch.setattr(trainer, "make_train_step", watched_make)


@pytest.fixture(scope="module")
def scheduled(tiny_config):
    """Six steps of 16 and three of 32, in streams of 8, with a small model and the cheaper optimizer."""
    for key, value in {
        "batch_size": 16,
        "batch_schedule": (16, 32),
        "total_samples": 192,
        "streams": 2,
        "optimizer.name": "adamw",
        "image.stem": "patch",
        "checkpoint.every_steps": 4,
        "log_every": 3,
    }.items():
        tiny_config = changed(tiny_config, key, value)
    return tiny_config


@pytest.fixture(scope="module")
def whole(scheduled, tmp_path_factory):
    """A run that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as monkeypatch:
        watch = Watch(monkeypatch)
        assert start(scheduled, workdir)[0] == FINISHED
    return workdir, watch


def test_the_host_reads_a_metric_only_once_the_next_step_is_queued(whole):
    """Rows are of steps 1, 3, 6, 9; steps 4, 8 and 9 are saved, which waits anyway."""
    _, watch = whole
    assert watch.reads == {(1, 2), (3, 4), (4, 4), (6, 7), (8, 8), (9, 9)}


def test_a_stage_is_compiled_once_and_takes_over_the_state(whole):
    _, watch = whole
    assert [len(watch.products[step]) for step in range(9)] == [16] * 6 + [32] * 3
    assert watch.step._cache_size() == 2
    assert all(watch.donated)


def test_the_data_position_is_the_number_of_samples_seen(whole, scheduled):
    workdir, watch = whole
    records = PreparedData(scheduled["data"]["path"]).records("train", pairs_only=True)
    order = natural_order(len(records), seed=scheduled["seed"])
    expected = [records[order[at]]["product_key"] for at in range(192)]
    np.testing.assert_array_equal(np.concatenate([watch.products[step] for step in range(9)]), expected)
    rows = {row["step"]: row for row in read_metrics(workdir)}
    assert [(rows[step]["samples"], rows[step]["batch_size"]) for step in (6, 9)] == [(96, 16), (192, 32)]


@pytest.mark.slow
def test_killed_on_either_side_of_a_stage_boundary_it_ends_with_the_same_bits(whole, scheduled, tmp_path, monkeypatch):
    reference, expected = whole
    # From the save at step 4 across the boundary at 6; then from the save at 8, inside the second stage.
    for crash_at, first in ((7, 0), (8, 4), (None, 8)):
        watch = Watch(monkeypatch, crash_at=crash_at)
        if crash_at is None:
            assert start(scheduled, tmp_path)[0] == FINISHED
        else:
            with pytest.raises(Crash):
                start(scheduled, tmp_path)
        assert min(watch.products) == first
        for step, products in watch.products.items():
            np.testing.assert_array_equal(products, expected.products[step])
    bits = [[np.asarray(x) for x in jax.tree.leaves(vl.load(folder).params)] for folder in (reference, tmp_path)]
    for one, other in zip(*bits, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("begin", [0, 3, 6, 8])
def test_a_restart_reads_from_where_the_run_would_be(begin):
    stages = make_stages({"batch_size": 16, "batch_schedule": (16, 32), "total_samples": 192})

    def read(*, batch_size, steps, first_position):
        return (range(first_position + step * batch_size, first_position + (step + 1) * batch_size) for step in steps)

    read_positions = [at for batch in loop._batches_from(begin, stages, read) for at in batch]
    assert read_positions == list(range(samples_at(stages, begin), 192))


def test_a_transfer_that_nobody_asked_for_ends_the_run(scheduled, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "make_array_from_process_local_data", lambda sharding, rows: rows)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        start(scheduled, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("streams", 3, "config.streams is 3, which does not divide the 2 rows that each of 8 devices has"),
        ("batch_schedule", (16, 24), "config.batch_schedule has 24; expected multiples of batch_size, 16"),
        ("optimizer.lr_rule", "cubic", "config.optimizer.lr_rule is 'cubic'"),
        ("loss.impl", "rings", "config.loss.impl is 'rings'; expected one of gather, ring"),
        ("loss.chunk_rows", -1, "config.loss.chunk_rows is -1"),
        ("label_mode", "keywords", "config.label_mode is 'keywords'; expected one of one_hot, catalog, mask"),
        ("catalog_alpha", 2.0, "config.catalog_alpha is 2.0"),
        ("text.remat", "some", "config.text.remat is 'some'; expected one of none, dots, full"),  # image has one too
        ("text.fields", ("colour",), "config.text.fields has colour; expected some of"),
        ("data.fraction", 2.0, "config.data.fraction is 2.0; expected above 0, to 1"),
        ("data.source", "catalogs", "config.data.source is 'catalogs'; expected one of products"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_built(scheduled, tmp_path, key, value, expected):
    with pytest.raises(UserError, match=expected):
        start(changed(scheduled, key, value), tmp_path)
