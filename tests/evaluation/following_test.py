"""A follower measures each checkpoint once, ends with the run, and goes on where it was stopped."""

import json

import pytest

from ecommerce_vl.evaluation import curves, following

METRICS = {
    "image_text/i2t/hit@10": {"value": 0.5},
    "image_text/i2t/random/hit@10": {"value": 0.1},
    "image_text/i2t/hit@10/slice=language:en": {"value": 0.4},
}


class Run:
    """A run whose checkpoints come one at a time, of which the two newest are kept."""

    def __init__(self, *, last, gone=()):
        self.last, self.gone, self.now, self.measured, self.waits = last, gone, 0, [], 0

    def steps(self):
        return [step for step in (self.now - 10, self.now) if step > 0]

    def measure(self, step):
        self.measured.append(step)
        return None if step in self.gone else METRICS

    def wait(self, seconds):
        self.waits += 1
        assert self.waits < 100, "it never ends"
        self.now = min(self.now + 10, self.last)

    def follow(self, folder):
        given = {"steps": self.steps, "measure": self.measure, "wait": self.wait, "last_step": lambda: self.last}
        following.follow(folder, **given, log=lambda line: None)


def test_each_checkpoint_is_noted_once_until_the_last(tmp_path):
    run = Run(last=40)
    run.follow(tmp_path)
    assert run.measured == [10, 20, 30, 40]
    expected = {"image_text/i2t/hit@10": 0.5}
    assert following.read(tmp_path) == [{"step": step} | expected for step in (10, 20, 30, 40)]
    Run(last=40).follow(tmp_path)  # looks, waits for checkpoints, and has nothing to add
    assert len(following.read(tmp_path)) == 4


def test_a_checkpoint_that_has_gone_is_passed_over_even_the_last(tmp_path):
    run = Run(last=30, gone=(10, 30))
    run.follow(tmp_path)
    assert [row["step"] for row in following.read(tmp_path)] == [20]
    assert run.measured == [10, 20, 30]


def test_a_stopped_follower_goes_on_and_drops_a_line_that_was_cut_short(tmp_path):
    run = Run(last=40)
    original = run.measure

    def stopped(step):
        if step == 30:
            raise SystemExit(75)
        return original(step)

    run.measure = stopped
    with pytest.raises(SystemExit):
        run.follow(tmp_path)
    file = tmp_path / following.FILE
    file.write_text(file.read_text() + '{"step": 30, "image_te')
    run.measure, run.measured = original, []
    run.follow(tmp_path)
    assert run.measured == [30, 40]
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [10, 20, 30, 40]


def test_the_report_draws_the_followed_numbers(tmp_path):
    Run(last=40).follow(tmp_path)
    rows = following.curves(tmp_path, ("image_text/i2t/hit@10", "absent"))
    assert rows[0] == {"step": 10, "test/image_text/i2t/hit@10": 0.5}
    assert curves.training(rows)
    assert following.curves(tmp_path / "nothing", ("image_text/i2t/hit@10",)) == []
