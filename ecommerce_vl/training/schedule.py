"""The batch size as a function of samples seen (e-CLIP 2207.00208; its schedule is not public, ours is in stages).

Stages of equal samples, not of equal steps. Each is a range of steps, and begins at the position of the data stream
where the one before it ended, so that stage and position of a step follow from the config alone, and a restart lands
where the run would have been. The batch grows by streams of equal size (`training/streams.py`), so a stage costs one
compilation and no memory but that of the vectors.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any


@dataclasses.dataclass(frozen=True)
class Stage:
    """A range of steps with one batch size.

    Args:
      batch_size: of the global batch.
      first_step, num_steps: optimizer updates before it, and in it.
      first_sample: position in the stream of the first row of its first step.
    """

    batch_size: int
    first_step: int
    num_steps: int
    first_sample: int

    @property
    def end_step(self) -> int:
        """The first step after it."""
        return self.first_step + self.num_steps

    @property
    def end_sample(self) -> int:
        """The position after its last row."""
        return self.first_sample + self.num_steps * self.batch_size


def make_stages(config: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of `batch_schedule`, or the only one of `batch_size`.

    Stage n of S ends with the step that comes nearest to (n + 1) / S of `total_samples`; the last one never goes
    beyond. Neighbours of one size are one stage, so repeating a size makes its stage longer.

    Errors: ValueError that begins with the key of the config.
    """
    unit, total = config["batch_size"], config["total_samples"]
    sizes = tuple(config["batch_schedule"]) or (unit,)
    for size in sizes:
        if not isinstance(size, int) or size < 1 or size % unit:
            raise ValueError(
                f"batch_schedule has {size!r}; expected multiples of batch_size, {unit}, such as {unit} or {2 * unit}: "
                "batches grow by whole streams"
            )
    ends = [total * (n + 1) // len(sizes) for n in range(len(sizes))]
    stages, step, sample = [], 0, 0
    for size, group in groupby(zip(sizes, ends, strict=True), key=lambda pair: pair[0]):
        *_, (_, end) = group
        gap = end - sample
        num_steps = gap // size if end == total else (2 * gap + size) // (2 * size)
        if num_steps < 1:
            raise ValueError(
                f"batch_schedule gives batches of {size} no step: their stage of {len(sizes)} begins at sample "
                f"{sample} of {total}; expected fewer or smaller ones, or a total_samples of {len(sizes) * max(sizes)}"
            )
        stages.append(Stage(size, first_step=step, num_steps=num_steps, first_sample=sample))
        step, sample = stages[-1].end_step, stages[-1].end_sample
    return tuple(stages)


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of step `step`; the last one from there on."""
    return stages[bisect.bisect_right([stage.first_step for stage in stages], step) - 1]


def samples_at(stages: Sequence[Stage], step: int) -> int:
    """Samples seen after `step` updates: the position where the step of that number begins."""
    stage = stage_at(stages, step)
    return stage.first_sample + (step - stage.first_step) * stage.batch_size
