"""Progress of long work: one line that says how far it is, how fast, and when it ends.

On a terminal the line is redrawn in place; in a log file it is printed every `EVERY_LOG_S` seconds, so logs stay
readable. Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import sys
import time

EVERY_TERMINAL_S = 0.2
EVERY_LOG_S = 5.0


def duration(seconds: float) -> str:
    """Seconds as people read them: `42s`, `3m 05s`, `2h 10m`, `2d 05h`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d {seconds % 86400 // 3600:02d}h"


class Progress:
    """Counts units of one piece of work and reports them; call it with (done, total)."""

    def __init__(self, label: str, *, unit: str = "products"):
        self.label, self.unit = label, unit
        self.start_s = time.monotonic()
        self.shown_s = 0.0
        self.terminal = sys.stderr.isatty()

    def __call__(self, done: int, total: int | None) -> None:
        """Reports `done` units; without a `total`, which streams do not tell, there is no ETA."""
        now_s = time.monotonic()
        finished = total is not None and done >= total
        every_s = EVERY_TERMINAL_S if self.terminal else EVERY_LOG_S
        if not finished and now_s - max(self.shown_s, self.start_s) < every_s:
            return
        self.shown_s = now_s
        elapsed_s = max(now_s - self.start_s, 1e-6)
        rate = done / elapsed_s
        left = "" if finished or total is None or not done else f"eta {duration((total - done) / max(rate, 1e-9))}"
        of = "" if total is None else f"/{total:,}"
        line = f"{self.label:9s}{done:>9,}{of} {self.unit}  {rate:,.0f}/s  {left or duration(elapsed_s)}"
        if self.terminal:
            sys.stderr.write("\r\x1b[K" + line + ("\n" if finished else ""))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
