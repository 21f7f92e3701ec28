"""Work units on all cores: a pure function over a stream of units, in this process or in several.

Invariants: results come back in the order of the units; no more than two units a worker are under way, so memory
does not grow with the stream; a worker ends when its parent does, however that ends.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def worker_count(requested: int) -> int:
    """`requested` processes, or one a core for 0."""
    return requested or len(os.sched_getaffinity(0))


def on_all_cores(function: Callable[[Unit], Result], units: Iterable[Unit], *, num_workers: int) -> Iterator[Result]:
    """The results of all units, in order.

    Args:
      function: picklable and pure; what it writes must appear whole or not at all.
      units: picklable; a stream of one unit is done in this process, since starting another takes longer.
      num_workers: processes; 1 works in this process.
    """
    units = iter(units)
    head = list(itertools.islice(units, 2))
    if num_workers == 1 or len(head) < 2:
        yield from map(function, itertools.chain(head, units))
        return
    # Spawned, not forked: the parent runs threads of Arrow and DuckDB, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=end_with_parent) as pool:
        try:
            for unit in itertools.chain(head, units):
                waiting.append(pool.submit(function, unit))
                if len(waiting) > 2 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """To be called by a worker: a killed parent cannot tell it, and it would wait for work forever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
