"""A profile of some steps: what the host and its devices did meanwhile, in a folder that xprof opens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces the steps from the first to the last of `steps`, as the log numbers them; nothing where that is empty.

    Args:
      steps: (first, last), or ().
      folder: where the trace goes.
      start: steps that were made before; those of `steps` among them are over.
      log: receives the line that says where the trace is, or that there is none.
    """

    def __init__(self, steps: Sequence[int], folder: Path, *, start: int, log: Callable[[str], None]):
        self.first, self.last = (max(steps[0], start + 1), steps[1]) if steps else (0, 0)
        self.folder, self.log = folder, log
        self.is_running, self.traced = False, 0  # steps that were made meanwhile

    def begin(self, number: int) -> None:
        """Before the step of that number reads its batch."""
        if number == self.first <= self.last:
            jax.profiler.start_trace(self.folder)
            self.is_running = True

    def end(self, number: int, metrics: Any) -> float:
        """After the step was queued; the last one is waited for, so that its work is in the trace.

        Returns: the seconds that writing the trace took.
        """
        self.traced += self.is_running
        if not self.is_running or number != self.last:
            return 0.0
        jax.block_until_ready(metrics)
        begin_s = time.monotonic()
        self.close()
        return time.monotonic() - begin_s

    def close(self) -> None:
        """Writes what there is, if `end` did not, and tells it."""
        if self.is_running:
            jax.profiler.stop_trace()
            last = self.first + self.traced - 1
            self.log(f"profile  steps {self.first:,} to {last:,}: xprof --logdir={self.folder} shows them")
        elif self.last:
            self.log(f"profile  none: no step up to {self.last:,} was made from {self.first:,} on")
        self.last, self.is_running = 0, False
