"""Exact search against FAISS flat and usearch exact, on this machine's CPU: python -m benchmarks.search

    pip install -e .[benchmark]
    python -m benchmarks.search --documents=1000000 --dim=512 --queries=2000

Documents are unit rows in families around common centres, some of them exact copies, as catalogs have them. Each
contender runs in a process of its own, which loads the same file, takes whatever copy of the gallery it needs, and
searches; they take turns, and medians over rounds are compared. Processor seconds are the fairer figure on a machine
that does other work, too. Memory is the peak of the process beyond the vectors it was given. `same` is the share of
queries whose k documents are ours, which order ties by id and are exact; float32 sums settle near ties by chance.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CONTENDERS = ("ours", "faiss", "usearch")
FAMILY = 20  # documents around a centre
SPREAD = 0.5  # of a family around its centre, in units of the centre's norm
COPIES = 0.02  # share of documents that are copies of another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--usearch_queries", type=int, default=64, help="fewer: it takes the same time for each")
    parser.add_argument("--k", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(contend(args.contender, Path(args.folder), k=args.k[0], queries=args.queries)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_vectors(Path(folder), args.documents, args.dim, args.queries)
        for k in args.k:
            compare(Path(folder), args, k=k)


def write_vectors(folder: Path, documents: int, dim: int, queries: int) -> None:
    """gallery.npy and queries.npy, unit rows, written a family block at a time."""
    random = np.random.default_rng(0)
    gallery = np.lib.format.open_memmap(folder / "gallery.npy", "w+", np.float32, (documents, dim))
    for start in range(0, documents, 1000 * FAMILY):
        count = min(1000 * FAMILY, documents - start)
        centres = random.standard_normal((-(-count // FAMILY), dim), np.float32)
        rows = np.repeat(centres, FAMILY, axis=0)[:count] + SPREAD * random.standard_normal((count, dim), np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        copied = random.integers(0, count, int(COPIES * count))
        rows[random.permutation(count)[: len(copied)]] = rows[copied]
        gallery[start : start + count] = rows
    drawn = np.sort(random.choice(documents, queries, replace=False))
    asked = gallery[drawn] + 0.3 / np.sqrt(dim) * random.standard_normal((queries, dim), np.float32)
    np.save(folder / "queries.npy", asked / np.linalg.norm(asked, axis=1, keepdims=True))
    gallery.flush()


def compare(folder: Path, args: argparse.Namespace, *, k: int) -> None:
    """Runs every contender in turn and prints a table."""
    found = {name: [] for name in CONTENDERS}
    for _ in range(args.rounds):
        for name in CONTENDERS:
            queries = min(args.queries, args.usearch_queries) if name == "usearch" else args.queries
            command = [sys.executable, "-m", "benchmarks.search", f"--contender={name}", f"--folder={folder}"]
            done = subprocess.run([*command, f"--k={k}", f"--queries={queries}"], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]) | {"queries": queries})
    print(f"\n{args.documents:,} x {args.dim}, {args.queries:,} queries, k = {k}, median of {args.rounds}")
    print(
        f"{'':8s}  {'wall ms/query':>13s}  {'cpu ms/query':>12s}  {'ratio wall':>10s}  {'ratio cpu':>9s}  "
        f"{'MiB':>6s}  same"
    )
    base = {unit: _per_query(found["ours"], unit) for unit in ("wall", "cpu")}
    mine = np.load(folder / "ours.npy")
    for name, rounds in found.items():
        wall, cpu = _per_query(rounds, "wall"), _per_query(rounds, "cpu")
        rows = np.load(folder / f"{name}.npy")
        same = np.mean([set(a) == set(b) for a, b in zip(rows.tolist(), mine.tolist(), strict=False)])
        print(
            f"{name:8s}  {1e3 * wall:13.2f}  {1e3 * cpu:12.2f}  {wall / base['wall']:10.2f}  {cpu / base['cpu']:9.2f}  "
            f"{max(one['mib'] for one in rounds):6.0f}  {same:.3f}",
            flush=True,
        )


def _per_query(rounds: list[dict], unit: str) -> float:
    return statistics.median(one[unit] / one["queries"] for one in rounds)


def contend(name: str, folder: Path, *, k: int, queries: int) -> dict[str, float]:
    """Seconds and memory of one contender, its own copies of the gallery included; saves the rows that it found."""
    gallery, asked = np.load(folder / "gallery.npy"), np.load(folder / "queries.npy")[:queries]
    search = {"ours": _ours, "faiss": _faiss, "usearch": _usearch}[name]
    search(gallery[:1000], asked[:8], k)  # imports and first compilations
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    rows = search(gallery, asked, k)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    np.save(folder / f"{name}.npy", rows)
    return seconds | {"mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def _ours(gallery, queries, k):
    import jax

    from ecommerce_vl.evaluation import search

    ids = [f"{row:08d}" for row in range(len(gallery))]
    return search.top_k(queries, gallery=gallery, gallery_ids=ids, k=k, devices=jax.local_devices())[0]


def _faiss(gallery, queries, k):
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return index.search(queries, k)[1]


def _usearch(gallery, queries, k):
    from usearch.index import MetricKind, search

    return np.asarray(search(gallery, queries, k, MetricKind.IP, exact=True).keys).astype(np.int64)


if __name__ == "__main__":
    main()
