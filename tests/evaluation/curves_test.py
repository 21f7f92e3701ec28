"""Panels follow the log, drawing is reproducible, long runs stay small."""

import base64

from ecommerce_vl.evaluation import curves

HISTORY = [
    {"step": step, "train/loss": 5.0 / (step + 1), "train/accuracy": step / 30, "learning_rate": 1e-3, "note": "x"}
    for step in range(0, 30, 5)
]


def svg(uri: str) -> str:
    head, _, body = uri.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(body).decode()


def test_panels_follow_what_was_logged():
    drawn = svg(curves.training(HISTORY))
    assert [drawn.count(f'id="axes_{number}"') for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    only_loss = [{"step": row["step"], "loss": row["train/loss"]} for row in HISTORY]
    assert svg(curves.training(only_loss)).count('id="axes_2"') == 0


def test_nothing_logged_draws_nothing():
    assert curves.training([]) == ""
    assert curves.training(HISTORY[:1]) == ""
    assert curves.training([{"step": 1, "images_per_s": 3.0}, {"step": 2, "images_per_s": 4.0}]) == ""


def test_the_same_rows_give_the_same_bytes_and_long_runs_stay_small():
    assert curves.training(HISTORY) == curves.training(HISTORY)
    long = [{"step": step, "loss": (step * 7919 % 101) / 101} for step in range(50_000)]
    assert len(curves.training(long)) < 200_000
