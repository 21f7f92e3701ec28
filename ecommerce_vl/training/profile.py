"""A profile of some steps: what the host and its devices did meanwhile, in a folder that xprof opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Traces the steps from the first to the last of `steps`, as the log numbers them; nothing where that is empty.

    Args:
      steps: (first, last), or ().
      folder: where the trace goes.
      log: receives the line that says where it is.
    """

    def __init__(self, steps: Sequence[int], folder: Path, *, log: Callable[[str], None]):
        self.steps, self.folder, self.log, self.is_running = tuple(steps), folder, log, False

    def begin(self, number: int) -> None:
        """Before the step of that number reads its batch."""
        if self.steps and number == self.steps[0]:
            jax.profiler.start_trace(self.folder)
            self.is_running = True

    def end(self, number: int, metrics: Any) -> None:
        """After the step was queued; the last one is waited for, so that its work is in the trace."""
        if self.is_running and number == self.steps[1]:
            jax.block_until_ready(metrics)
            self.close()
            first, last = self.steps
            self.log(f"profile  steps {first:,} to {last:,} in {self.folder}; xprof --logdir={self.folder} shows it")

    def close(self) -> None:
        """Writes what there is."""
        if self.is_running:
            jax.profiler.stop_trace()
            self.is_running = False
