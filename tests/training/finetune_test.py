"""Fine-tuning moves a copy, chooses by validation, and reads what it is given."""

import jax.numpy as jnp
import numpy as np
import pytest

from ecommerce_vl.training import finetune

DIM = 4


def rows(count, *, seed):
    """The class is the sign of a product of two inputs: no linear head over the inputs can tell."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)).astype(np.float32)
    return list(x), (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def embed(params, batch):
    h_BxD = jnp.maximum(batch["x"] @ params["first"], 0.0) @ params["second"]
    return h_BxD / jnp.linalg.norm(h_BxD + 1e-6, axis=1, keepdims=True)


def read(records):
    padded = np.zeros((finetune.BATCH_SIZE, 2), np.float32)
    padded[: len(records)] = records
    return {"x": padded}


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    return {
        "first": jnp.asarray(random.normal(size=(2, 32)), jnp.float32),
        "second": jnp.asarray(0.1 * random.normal(size=(32, DIM)), jnp.float32),
    }


@pytest.fixture(autouse=True)
def long_enough(monkeypatch):
    monkeypatch.setattr(finetune, "LEARNING_RATES", (1e-6, 3e-2))
    monkeypatch.setattr(finetune, "EPOCHS", 10)


def tune(params, **changed):
    given = {
        "train": rows(1600, seed=1), "validation": rows(200, seed=2), "test": rows(130, seed=3)[0],
        "num_classes": 2, "dim": DIM,
    }  # fmt: skip
    return finetune.fine_tune_classifier(embed, params, read, **given | changed)


def test_the_encoder_learns_what_its_vectors_did_not_tell_and_itself_stays(params):
    before = {name: np.array(leaf) for name, leaf in params.items()}
    lines = []
    scores, chosen = tune(params, log=lines.append)
    assert scores.shape == (130, 2) and scores.dtype == np.float64
    assert (scores.argmax(axis=1) == rows(130, seed=3)[1]).mean() > 0.9
    assert chosen["learning_rate"] == 3e-2 and 1 <= chosen["epoch"] <= finetune.EPOCHS
    assert len(lines) == 2 * finetune.EPOCHS
    for name, leaf in before.items():
        np.testing.assert_array_equal(leaf, params[name])
    np.testing.assert_array_equal(scores, tune(params)[0])


def test_the_choice_is_that_of_validation(params):
    """Labels of validation turned round: an encoder that has hardly learned is the best."""
    records, labels = rows(200, seed=2)
    chosen = tune(params, validation=(records, 1 - labels))[1]
    assert chosen["learning_rate"] == 1e-6 or chosen["epoch"] < 5
    assert tune(params, validation=([], np.empty(0, int)))[1] == {"learning_rate": 1e-6, "epoch": finetune.EPOCHS}


def test_steps_are_bounded_and_few_rows_make_one_batch(params, monkeypatch):
    assert finetune._steps(np.zeros(10)) == 1
    assert finetune._steps(np.zeros(10**7)) == finetune.MAX_STEPS // finetune.EPOCHS
    monkeypatch.setattr(finetune, "EPOCHS", 1)
    records, labels = rows(10, seed=1)
    assert np.isfinite(tune(params, train=(records, labels))[0]).all()
