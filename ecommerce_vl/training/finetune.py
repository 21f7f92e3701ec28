"""Fine-tuning of a whole encoder with a linear head on labelled rows: the upper end of what a classifier can reach.

The invariant: the encoder that is given stays as it is, and the learning rate and the epoch are those of the best
validation accuracy. Like the loop, this knows no system: an encoder is a function.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ecommerce_vl.progress import duration

LEARNING_RATES = (1e-4, 1e-3)  # peaks, tried in turn
EPOCHS = 5
BATCH_SIZE = 64
MAX_STEPS = 2_000  # updates at one rate: bounds the time on a large catalog
HEAD_SCALE = 20.0  # of logits: unit vectors alone would leave the softmax flat
WEIGHT_DECAY = 0.05
WARMUP = 0.1  # share of the steps


def fine_tune_classifier(
    embed: Callable[[Any, Mapping[str, np.ndarray]], jax.Array],
    params: Any,
    read: Callable[[Sequence[Any]], Mapping[str, np.ndarray]],
    *,
    train: tuple[Sequence[Any], np.ndarray],
    validation: tuple[Sequence[Any], np.ndarray],
    test: Sequence[Any],
    num_classes: int,
    dim: int,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[np.ndarray, dict[str, float]]:
    """Class scores float64 (N, C) of the test records, and {"learning_rate", "epoch"} that validation chose.

    Args:
      embed: (params, batch) -> unit vectors (B, D); differentiated through.
      params: of the encoder, nested dict of float32 arrays.
      read: at most BATCH_SIZE records -> a batch of arrays of as many rows or more, those below blank.
      train, validation: (records, int (N,) classes). Without validation rows the last epoch of the first rate counts.
      test: records to score.
      num_classes, dim: C and D.
      seed: of the order of rows.
      log: receives a line an epoch.
    """
    logits = lambda tuned, batch: HEAD_SCALE * (embed(tuned["encoder"], batch) @ tuned["head"]) + tuned["bias"]
    step, fresh = _make_step(logits, num_steps=EPOCHS * _steps(train[1]))
    scores = partial(_scores, jax.jit(logits), read, num_classes=num_classes)
    best = (-1.0, {}, None)
    rates = LEARNING_RATES if len(validation[1]) else LEARNING_RATES[:1]
    begin_s, left = time.monotonic(), len(rates) * EPOCHS
    for rate in rates:
        tuned = {"encoder": params, "head": jnp.zeros((dim, num_classes)), "bias": jnp.zeros(num_classes)}
        state, random = fresh(tuned), np.random.default_rng(seed)
        for epoch in range(1, EPOCHS + 1):
            for records, labels in _batches(*train, random=random):
                tuned, state = step(tuned, state, read(records), labels, rate)
            found = 0.0
            if len(validation[1]):
                found = float((scores(tuned, validation[0]).argmax(axis=1) == validation[1]).mean())
            left -= 1
            eta_s = (time.monotonic() - begin_s) * left / (len(rates) * EPOCHS - left)
            eta = f"  eta {duration(eta_s)}" if left else ""
            log(f"fine-tune  rate {rate:g}  epoch {epoch}/{EPOCHS}  validation accuracy {found:.3f}{eta}")
            if found > best[0] or not len(validation[1]):
                best = (found, {"learning_rate": rate, "epoch": epoch}, tuned)
    return scores(best[2], test), best[1]


def _steps(labels: np.ndarray) -> int:
    """Updates of an epoch: rows that fill no batch wait for another epoch, and so do those above the limit."""
    return min(max(len(labels) // BATCH_SIZE, 1), MAX_STEPS // EPOCHS)


def _batches(records: Sequence[Any], labels: np.ndarray, *, random: np.random.Generator) -> Iterator[tuple]:
    order = random.permutation(len(labels))
    for start in range(0, _steps(labels) * BATCH_SIZE, BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        yield [records[row] for row in rows], labels[rows]


def _make_step(logits, *, num_steps: int) -> tuple[Callable, Callable]:
    """(one update at a given rate, compiled once; the optimizer's state of given parameters)."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, int(WARMUP * num_steps), num_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=WEIGHT_DECAY))

    @jax.jit
    def step(tuned, state, batch, labels, rate):
        def loss_of(tuned):
            logits_BxC = logits(tuned, batch)[: len(labels)]  # the rows below are blank
            return optax.softmax_cross_entropy_with_integer_labels(logits_BxC, labels).mean()

        updates, state = optimizer.update(jax.grad(loss_of)(tuned), state, tuned)
        return optax.apply_updates(tuned, jax.tree.map(lambda update: rate * update, updates)), state

    return step, optimizer.init


def _scores(logits, read, tuned, records: Sequence[Any], *, num_classes: int) -> np.ndarray:
    parts = [np.empty((0, num_classes))]
    for start in range(0, len(records), BATCH_SIZE):
        chunk = records[start : start + BATCH_SIZE]
        parts.append(np.asarray(logits(tuned, read(chunk)), np.float64)[: len(chunk)])
    return np.concatenate(parts)
