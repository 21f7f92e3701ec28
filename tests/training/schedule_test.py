"""Stages: equal samples, whole steps, and the same stage and position whenever a run begins again."""

from itertools import pairwise

import numpy as np
import pytest

from ecommerce_vl.training.optimizer import learning_rate
from ecommerce_vl.training.schedule import make_stages, samples_at, stage_at

E_CLIP = {
    "batch_size": 1024,
    "batch_schedule": (1024, 2048, 4096, 8192, 16384),
    "total_samples": 50_000_000,
}
RATE = {"learning_rate": 1.0, "warmup_samples": 0, "lr_rule": "sqrt", "lr_decay": "cosine", "rewarm_steps": 0}


def test_the_stages_of_the_specification():
    stages = make_stages(E_CLIP)
    assert [stage.num_steps for stage in stages] == [9_766, 4_883, 2_441, 1_221, 610]
    for n, stage in enumerate(stages[:-1]):
        assert abs(stage.end_sample - 10_000_000 * (n + 1)) <= stage.batch_size / 2
    assert 50_000_000 - 16384 < stages[-1].end_sample <= 50_000_000


@pytest.mark.parametrize(
    ("sizes", "total"), [((), 100), ((8, 16, 32), 1000), ((8, 8, 16), 500), ((32, 8), 400), ((16, 8, 16), 481)]
)
def test_stages_cover_every_step_and_every_sample_once(sizes, total):
    """Against a walk step by step."""
    stages = make_stages({"batch_size": 8, "batch_schedule": sizes, "total_samples": total})
    position, step = 0, 0
    for stage in stages:
        assert stage.first_step == step and stage.first_sample == position and stage.num_steps > 0
        for _ in range(stage.num_steps):
            assert stage_at(stages, step) == stage
            assert samples_at(stages, step) == position
            position, step = position + stage.batch_size, step + 1
    assert samples_at(stages, step) == position == stages[-1].end_sample
    assert total - stages[-1].batch_size < position <= total
    assert all(one.batch_size != other.batch_size for one, other in pairwise(stages))


def test_a_size_that_is_repeated_has_a_longer_stage():
    twice, once = make_stages({"batch_size": 8, "batch_schedule": (8, 8, 16), "total_samples": 480})
    assert (twice.num_steps * 8, once.num_steps * 16) == (320, 160)


def test_without_a_schedule_the_steps_are_those_that_fit():
    (stage,) = make_stages({"batch_size": 128, "batch_schedule": (), "total_samples": 20 * 1_500})
    assert stage.num_steps == 20 * 1_500 // 128


@pytest.mark.parametrize(
    ("sizes", "total", "expected"),
    [
        ((8, 12), 480, "batch_schedule has 12; expected multiples of batch_size, 8, such as 8 or 16"),
        ((0, 8), 480, "batch_schedule has 0; expected"),
        ((8, 16.0), 480, "batch_schedule has 16.0; expected"),
        ((8, 64), 100, "batch_schedule gives batches of 64 no step: .* or a total_samples of 128"),
        ((64, 8), 60, "batch_schedule gives batches of 64 no step: .* or a total_samples of 128"),
    ],
)
def test_schedules_that_cannot_be_are_named(sizes, total, expected):
    with pytest.raises(ValueError, match=f"^{expected}"):
        make_stages({"batch_size": 8, "batch_schedule": sizes, "total_samples": total})


@pytest.mark.parametrize(("rule", "factor"), [("constant", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_the_rate_follows_the_batch_by_its_rule(rule, factor):
    stages = make_stages({"batch_size": 8, "batch_schedule": (8, 32), "total_samples": 6400})
    rule, flat = (learning_rate(RATE | {"lr_rule": name}, stages) for name in (rule, "constant"))
    before, after = stages[1].first_step - 1, stages[1].first_step
    assert rule(before) == pytest.approx(flat(before))
    assert rule(after) == pytest.approx(factor * flat(after))


def test_the_cosine_runs_over_samples_not_steps():
    stages = make_stages({"batch_size": 8, "batch_schedule": (8, 32), "total_samples": 6400})
    rate = learning_rate(RATE | {"lr_rule": "constant"}, stages)
    for step in range(1, stages[-1].end_step):
        # The shortest warm-up is the first step, so the cosine begins after it.
        seen = (samples_at(stages, step) - 8) / (stages[-1].end_sample - 8)
        assert rate(step) == pytest.approx(0.5 * (1 + np.cos(np.pi * seen)), abs=1e-6)


def test_a_linear_decay_is_linear_over_samples():
    stages = make_stages({"batch_size": 8, "batch_schedule": (8, 32), "total_samples": 6400})
    rate = learning_rate(RATE | {"lr_rule": "constant", "lr_decay": "linear"}, stages)
    seen = [(samples_at(stages, step) - 8) / (stages[-1].end_sample - 8) for step in range(1, stages[-1].end_step)]
    np.testing.assert_allclose([rate(step) for step in range(1, stages[-1].end_step)], 1 - np.array(seen), atol=1e-6)


def test_after_a_switch_the_rate_rises_again_and_no_stage_is_all_warm_up():
    stages = make_stages({"batch_size": 8, "batch_schedule": (8, 32), "total_samples": 6400})
    switch, length = stages[1].first_step, stages[1].num_steps
    plain = learning_rate(RATE, stages)
    for wanted, taken in ((10, 10), (100 * length, length // 2)):
        rate = learning_rate(RATE | {"rewarm_steps": wanted}, stages)
        rise = [rate(step) / plain(step) for step in range(switch, switch + taken)]
        np.testing.assert_allclose(rise, (np.arange(taken) + 1) / taken)
        assert rate(switch - 1) == plain(switch - 1) and rate(switch + taken) == plain(switch + taken)


def test_a_rate_is_the_same_on_the_host_and_in_a_program():
    import jax

    stages = make_stages(E_CLIP)
    rate = learning_rate(RATE | {"warmup_samples": 2_000 * 1024, "rewarm_steps": 500}, stages)
    steps = np.array([0, 1, 1999, 2000, 9765, 9766, 9800, 14_649, 17_090, 18_311, 18_900])
    traced = jax.jit(jax.vmap(rate))(steps)
    np.testing.assert_allclose(traced, [rate(int(step)) for step in steps], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr_rule", "cubic", "optimizer.lr_rule is 'cubic'; expected one of constant, sqrt, linear"),
        ("lr_decay", "step", "optimizer.lr_decay is 'step'; expected one of cosine, linear"),
        ("rewarm_steps", -1, "optimizer.rewarm_steps is -1"),
    ],
)
def test_wrong_fields_of_the_rate_are_named(key, value, expected):
    with pytest.raises(ValueError, match=f"^{expected}"):
        learning_rate(RATE | {key: value}, make_stages(E_CLIP))
