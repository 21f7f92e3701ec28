"""The period between two log lines: what a step measured, at what rate, and when the run will be done."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from ecommerce_vl.errors import UserError
from ecommerce_vl.progress import duration
from ecommerce_vl.training.schedule import Stage, samples_at, stage_at
from ecommerce_vl.training.writer import MetricWriter


def check_finite(step: int, metrics: Mapping[str, Any]) -> None:
    """Errors: UserError if the loss or its gradient is no number: no later step mends that, so nothing is saved."""
    for name in ("loss", "grad_norm"):
        value = float(metrics[name])
        if not math.isfinite(value):
            raise UserError(
                f"{name} is {value} at step {step:,}, so training ends before it is saved; "
                "lower --config.optimizer.learning_rate or restart from an earlier checkpoint"
            )


@dataclasses.dataclass
class Period:
    """What happened since the last log line: time, products, waiting for data.

    Args:
      shown: (label, name, format) of the metrics that its line shows beside the loss.
    """

    start: int
    stages: Sequence[Stage]
    schedule: Callable
    shown: Sequence[tuple[str, str, str]]
    log: Callable[[str], None]

    def __post_init__(self):
        self.step, self.begin_s, self.wait_s = self.start, time.monotonic(), 0.0
        self.first = True

    def wait(self, function: Callable, *arguments) -> Any:
        begin_s = time.monotonic()
        result = function(*arguments)
        self.wait_s += time.monotonic() - begin_s
        return result

    def leave_out(self, seconds: float) -> None:
        """Takes time that no step needed, such as an evaluation's, out of the rate of the period."""
        self.begin_s += seconds

    def report(self, writer: MetricWriter | None, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Prints the metrics of `step` and writes them; fetching them waits until the device has finished that step.

        Errors: UserError if the loss is no number; its row is written all the same.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        elapsed_s = max(time.monotonic() - self.begin_s, 1e-6)
        stage, samples = stage_at(self.stages, step - 1), samples_at(self.stages, step)
        # A period that begins a stage holds its compilation; its rate would only mislead.
        compiled = self.first or stage.first_step >= self.step
        rate = None if compiled else (samples - samples_at(self.stages, self.step)) / elapsed_s
        values |= {
            "learning_rate": float(self.schedule(step - 1)),
            **({} if rate is None else {"samples_per_s": rate}),
            "data_wait": self.wait_s / elapsed_s,
            "samples": samples,
            "batch_size": stage.batch_size,
        }
        if writer is not None:
            writer.scalars(step, values)
        speed = "" if rate is None else f"  {rate:,.0f} samples/s"
        left = f"  eta {duration((self.stages[-1].end_sample - samples) / rate)}" if rate else ""
        invalid = f"  unreadable {values['invalid_rows']:.0f}" if values["invalid_rows"] else ""
        shown = "  ".join(f"{label} {values[name]:{form}}" for label, name, form in self.shown)
        self.log(
            f"step {step:>7,}/{self.stages[-1].end_step:,}  loss {values['loss']:.3f}  {shown}  "
            f"lr {values['learning_rate']:.1e}  gnorm {values['grad_norm']:.2f}{speed}  "
            f"wait {values['data_wait']:.0%}{invalid}{left}"
        )
        sys.stdout.flush()
        check_finite(step, values)
        self.step, self.begin_s, self.wait_s, self.first = step, time.monotonic(), 0.0, False
