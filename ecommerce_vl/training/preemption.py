"""Preemption: a signal asks the run to stop; the loop saves after the step in flight and leaves.

Periodic saves are the guarantee, the signal is the fast path.
"""

from __future__ import annotations

import signal


class Preemption:
    """Remembers a SIGTERM or SIGINT; a second one stops the process at once."""

    def __init__(self):
        self.signal_name: str | None = None
        self._previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}

    def _receive(self, number: int, _frame) -> None:
        if self.signal_name is not None:
            self.close()
            signal.raise_signal(number)
        self.signal_name = signal.Signals(number).name

    def close(self) -> None:
        """Puts the handlers back that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
