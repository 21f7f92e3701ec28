"""Progress lines and durations."""

import pytest

from ecommerce_vl.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (42.4, "42s"), (59.6, "1m 00s"), (185, "3m 05s"), (7800, "2h 10m"), (190_800, "2d 05h")],
)
def test_durations_as_people_read_them(seconds, text):
    assert duration(seconds) == text


def test_the_end_is_always_reported(capsys):
    progress = Progress("embed")
    progress(1, 10)
    progress(10, 10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "10/10 products" in lines[0]


def test_unfinished_work_shows_an_eta(capsys):
    progress = Progress("embed")
    progress.start_s -= 10
    progress(25, 100)
    assert "eta 30s" in capsys.readouterr().err
