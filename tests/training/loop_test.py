"""Starts that fail leave nothing behind that a later start would take for its own; states that are no numbers stop."""

import copy
import json
import signal

import jax.numpy as jnp
import pytest

from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.errors import UserError
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.checkpoint import Checkpoints
from ecommerce_vl.training.loop import FINISHED, STOPPED, check_finite, train, validate
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


def failing_build(config, vocab_size):
    raise UserError("config.system fails")


def stopping_build(config, vocab_size):
    """A system that is stopped while it is built."""
    signal.raise_signal(signal.SIGTERM)
    return build_system(config, vocab_size=vocab_size)


def start(config, workdir, build=build_system):
    lines = []
    outcome = train(config, workdir, build_system=build, log=lines.append)
    return outcome, lines


def other_data(monkeypatch):
    monkeypatch.setattr(PreparedData, "fingerprint", property(lambda self: "f" * 64))


def trained_texts(monkeypatch):
    """Counts how often a tokenizer is trained."""
    from ecommerce_vl.training import loop

    counted, original = [], loop.train_tokenizer
    monkeypatch.setattr(loop, "train_tokenizer", lambda *a, **k: counted.append(1) or original(*a, **k))
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
    config = changed(tiny_config, "total_samples", 32 * 4)
    assert start(config, workdir)[0] == FINISHED
    return config, workdir


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

    def loss(self, *arguments):
        loss, metrics, extra = self._system.loss(*arguments)
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
        ("optimizer.name", "sgd", "config.optimizer.name is 'sgd'; expected one of adamw, muon"),
        ("mesh.fsdp", 0, "config.mesh.fsdp is 0"),
        ("mesh.data", 0, "config.mesh.data is 0"),
        ("data.num_workers", -1, "config.data.num_workers is -1"),
        ("log_every", 0, "config.log_every is 0"),
    ],
)
def test_wrong_values_are_named(tiny_config, key, value, expected):
    with pytest.raises(UserError, match=expected):
        validate(changed(tiny_config, key, value))


def test_a_system_names_the_key_that_only_it_knows(tiny_config, tmp_path):
    def build(config, vocab_size):
        raise ValueError("image.stem is 'cube'; expected one of patch, conv")

    with pytest.raises(UserError, match="config.image.stem is 'cube'"):
        start(tiny_config, tmp_path, build)

    def defect(config, vocab_size):
        raise ValueError("shapes do not match")

    with pytest.raises(ValueError, match="shapes do not match"):
        start(tiny_config, tmp_path, defect)
