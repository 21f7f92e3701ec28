"""The metric writer: JSON lines always, TensorBoard events beside them.

Invariant: `metrics.jsonl` has one row a step of training and one a quick evaluation; a run that resumes at step t first
drops the lines after t, and one that begins again drops them all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ecommerce_vl.files import read_json_lines, write_text

FILE = "metrics.jsonl"


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of a run's `metrics.jsonl`; a last line cut short by a kill is left out."""
    return read_json_lines(Path(workdir) / FILE)


class MetricWriter:
    """Appends scalars a step; `resume_step` is the step that training goes on from."""

    def __init__(self, workdir: Path, *, resume_step: int):
        kept = [row for row in read_metrics(workdir) if resume_step and row["step"] <= resume_step]
        write_text(workdir / FILE, "".join(json.dumps(row) + "\n" for row in kept))
        self._lines = open(workdir / FILE, "a", buffering=1)  # noqa: SIM115 - lives as long as the run
        from tensorboardX import SummaryWriter  # here, since it imports torch wherever that is installed

        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step and resume_step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hands every row so far to the operating system, so that it outlives this process."""
        self._lines.flush()
        self._events.flush()

    def close(self) -> None:
        self._lines.close()
        self._events.close()


class NoWriter:
    """The writer of every process but the main one."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
