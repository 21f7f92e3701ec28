"""Query vectors and indexes as a retrieval channel has them, on this machine's CPU: python -m benchmarks.serving

    pip install -e .[benchmark]
    python -m benchmarks.serving --workdir=RUN --vectors=VECTORS --data=DATA [--rounds=200] [--cores=1]

Times of `embed_queries` for 1 and 64 queries after warm-up, different ones each time, tokenizer and transfer included;
then every index of VECTORS/index, made by `export --index`: recall against exact search, the time of its own search for
1 and 64 queries at each effort, and exact search beside it. The best, the median and the 95th percentile over rounds;
contenders take turns, so that whatever else the machine does meets all of them, and the best is what remains of a busy
one. --cores=1 keeps the process on one core, as a server with a worker a core does. Queries are those of DATA's log, or
titles.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

BATCHES = (1, 64)
K = 100
SHOWN = {"best": 0, "p50": 50, "p95": 95}  # percentiles
WARM_UP = 5  # calls of each shape
EXACT = "exact"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="run directory")
    parser.add_argument("--vectors", required=True, type=Path, help="folder that export wrote with that run")
    parser.add_argument("--data", required=True, help="prepared data: its queries ask")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--cores", type=int, default=0, help="that the process may use; 0 for all")
    args = parser.parse_args()
    if args.cores:  # before libraries count them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])

    import jax

    import ecommerce_vl as vl
    from ecommerce_vl.data.prepared import PreparedData
    from ecommerce_vl.exporting.index import KINDS, ProductIndex, asked_of, folder_of, is_current
    from ecommerce_vl.exporting.reader import ExportedVectors

    encoder, exported = vl.load(args.workdir), ExportedVectors(args.vectors)
    exported.require_space(encoder.space_id, owner=f"the model of --workdir={args.workdir}")
    texts = asked_of(PreparedData(args.data))
    indexes = {
        kind: ProductIndex(folder_of(exported, kind=kind), space_id=encoder.space_id)
        for kind in KINDS
        if is_current(exported, kind=kind)
    }
    packages = ("jax", "numpy", *(package for one in indexes.values() for package in one.manifest["versions"]))
    load = f"load {os.getloadavg()[0]:.1f}"
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} cores"
    print(f"machine  {_processor()}, {cores}, {load}, Python {platform.python_version()}")
    print("versions " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in dict.fromkeys(packages)))
    print(f"model    {encoder.name} step {encoder.step:,}, {encoder.dim} dimensions, on {jax.devices()[0].device_kind}")
    print(f"asked    {len(texts):,} queries, {len(exported):,} products, k = {K}, {args.rounds} rounds\n")

    calls = {("embed_queries", size): _embedding(encoder, texts, size) for size in BATCHES}
    asked, (_, gallery) = encoder.embed_queries(texts), exported.view("product")
    for size in BATCHES:
        calls[EXACT, size] = _exact(gallery, asked, size)
        for kind, one in indexes.items():
            for effort in KINDS[kind].efforts:
                calls[f"{kind} {effort}", size] = _searching(one, asked, size, effort)
    seconds = time_in_turns(calls, rounds=args.rounds)
    recall = {
        f"{kind} {effort}": found for kind, one in indexes.items() for effort, found in one.manifest["recall"].items()
    } | {EXACT: {"recall@10": 1.0, "recall@100": 1.0}}
    head = "".join(f"  {f'{size}: {name} ms':>11s}" for size in BATCHES for name in SHOWN)
    print(f"{'':16s}  {'recall@10':>9s}  {'recall@100':>10s}{head}")
    for name in dict.fromkeys(name for name, _ in calls):
        shares = recall.get(name, {})
        cells = "".join(
            f"  {1e3 * np.percentile(seconds[name, size], share):11.3f}" for size in BATCHES for share in SHOWN.values()
        )
        recalls = (f"{shares[key]:.4f}" if shares else "" for key in ("recall@10", "recall@100"))
        print("{:16s}  {:>9s}  {:>10s}{}".format(name, *recalls, cells))


def time_in_turns(calls: dict, *, rounds: int) -> dict:
    """{name: seconds (rounds,)} of functions that are called in turns, after a warm-up."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    seconds = {name: np.empty(rounds) for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def _slices(items: Sequence, size: int) -> Iterator[Sequence]:
    """`size` items at a time, for ever."""
    starts = itertools.cycle(range(0, max(1, len(items) - size + 1), size))
    return (items[start : start + size] for start in starts)


def _embedding(encoder, texts: Sequence[str], size: int) -> Callable[[], object]:
    chosen = _slices(texts, size)
    return lambda: encoder.embed_queries(next(chosen))


def _searching(index, asked: np.ndarray, size: int, effort: int) -> Callable[[], object]:
    chosen = _slices(asked, size)
    return lambda: index.search(next(chosen), k=K, effort=effort)


def _exact(gallery: np.ndarray, asked: np.ndarray, size: int) -> Callable[[], object]:
    """The plain product and a partition: what a server without an index would do."""
    chosen, k = _slices(asked, size), min(K, len(gallery))

    def search():
        scores = next(chosen) @ gallery.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)

    return search


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
