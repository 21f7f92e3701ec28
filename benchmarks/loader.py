"""The loader without a model, against bare decoding of the same bytes and a PyTorch DataLoader doing the same work.

    pip install -e .[benchmark]
    python -m benchmarks.loader --data=DATA

Contenders run one after the other, round after round, and the medians over rounds are compared: on a machine that does
other work, too, only such ratios mean something. Efficiency is per core: processor seconds that bare decoding, resizing
and augmenting takes for a product over those of the loader, its workers included. Without torch, its rows are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
from absl import flags

from configs import eclip
from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.images import Augment, ImagePipeline, decode
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sampling import natural_order
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import train_tokenizer

NUM_TITLES = 5_000  # that the tokenizer is trained on
READ_AHEAD = 8  # batches that may lie ready when the clock starts, so as many are run before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that prepare wrote")
    parser.add_argument("--size", type=int, default=224, help="pixels of the model's side")
    parser.add_argument("--batch", type=int, default=128, help="products of a batch")
    parser.add_argument("--batches", type=int, default=24, help="batches timed a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # grain's workers read flags
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread a worker, for both loaders

    records = PreparedData(args.data).records("train", pairs_only=True)
    to_example = make_to_example(records, size=args.size)
    num_products = args.batch * args.batches
    rows = natural_order(len(records), seed=0)[: min(num_products, 2048)]
    pictures = [records[row]["images"][0] for row in rows]
    print(
        f"{len(records):,} products, {np.mean([len(data) for data in pictures]) / 1e3:.1f} kB a picture, "
        f"{args.size} pixels, batch {args.batch}, {args.batches} batches a round, {os.cpu_count()} cores"
    )
    for name, share in stage_shares([records[row] for row in rows], records, to_example, batch=args.batch):
        print(f"  {name:24} {share:6.1%}")

    contenders: dict[str, Callable[[], tuple[float, float]]] = {"bare": lambda: bare(pictures, to_example)}
    for workers in args.workers:
        ours = lambda workers=workers: grain_batches(records, to_example, batch=args.batch, workers=workers)
        contenders[f"this, {workers} workers"] = lambda ours=ours: timed(ours, args.batches, args.batch)
        if has_torch():
            other = lambda workers=workers: torch_batches(records, to_example, batch=args.batch, workers=workers)
            contenders[f"torch, {workers} workers"] = lambda other=other: timed(other, args.batches, args.batch)
    print_table(contenders, rounds=args.rounds, workers=args.workers)


def make_to_example(records: Sequence, *, size: int) -> ToExample:
    """The transformation of the default config."""
    config = eclip.get_config()
    template = TextTemplate(fields=config.text.fields, field_dropout=config.text.field_dropout)
    texts = [template.enriched(records[row]) for row in range(min(len(records), NUM_TITLES))]
    return ToExample(
        image=ImagePipeline(size=size, mean=config.image.mean, std=config.image.std),
        augment=Augment(**config.augment.to_dict()),
        template=template,
        tokenizer=train_tokenizer(texts, vocab_size=config.text.vocab_size, max_length=config.text.max_length),
    )


# -- Clocks ------------------------------------------------------------------------------------------------------------


def processor_seconds() -> float:
    """Of this process and of all that it started."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def bare(pictures: Sequence[bytes], to_example: ToExample) -> tuple[float, float]:
    """Wall and processor seconds a product of decoding, resizing and augmenting on one core, bytes in memory."""
    rng = np.random.default_rng(0)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    for data in pictures:
        to_example.image(data, rng=rng, augment=to_example.augment)
    return (time.perf_counter() - begin) / len(pictures), (time.process_time() - begin_cpu) / len(pictures)


def timed(start: Callable[[], Iterator], num_batches: int, batch: int) -> tuple[float, float]:
    """Wall and processor seconds a product of a loader that runs on; the start of its processes is not counted."""
    batches = start()
    for _ in itertools.islice(batches, READ_AHEAD):
        pass
    begin, begin_cpu = time.perf_counter(), processor_seconds()
    for _ in itertools.islice(batches, num_batches):
        pass
    wall, cpu = time.perf_counter() - begin, processor_seconds() - begin_cpu
    if hasattr(batches, "close"):
        batches.close()
    elif hasattr(batches, "_shutdown_workers"):  # torch has no public name for it
        batches._shutdown_workers()
    return wall / (num_batches * batch), cpu / (num_batches * batch)


def stage_shares(
    read: Sequence[dict], records: Sequence, to_example: ToExample, *, batch: int
) -> list[tuple[str, float]]:
    """Share of one core's time by stage, without workers; the best of three passes of each stage."""
    rng = np.random.default_rng(0)
    size, image = to_example.image.size, to_example.image
    order = natural_order(len(records), seed=1)
    pictures = [record["images"][0] for record in read]
    texts = [to_example.template.enriched(record, rng=rng) for record in read]
    groups = [range(begin, min(begin + batch, len(read))) for begin in range(0, len(read), batch)]
    seconds = {
        "read": best(lambda: [records[order[at]] and None for at in range(len(read))]),
        "decode": best(lambda: each(lambda data: decode(data, target=size, max_pixels=image.max_pixels), pictures)),
        "decode, resize, augment": best(lambda: bare(pictures, to_example)),
        "text": best(lambda: each(lambda record: to_example.template.enriched(record, rng=rng), read)),
        "tokenize": best(lambda: [to_example.tokenizer([texts[row] for row in group]) and None for group in groups]),
        "all after reading": best(
            lambda: [to_example([(read[row], rng) for row in group], num_rows=len(group)) and None for group in groups]
        ),
    }
    resize = seconds["decode, resize, augment"] - seconds["decode"]
    parts = ("decode, resize, augment", "text", "tokenize")
    stages = {
        "read": seconds["read"],
        "decode": seconds["decode"],
        "resize, augment": resize,
        "text and tokenize": seconds["text"] + seconds["tokenize"],
        "batch": max(seconds["all after reading"] - sum(seconds[name] for name in parts), 0.0),
    }
    total = sum(stages.values())
    return [(name, value / total) for name, value in stages.items()]


def best(function: Callable[[], Any]) -> float:
    """Processor seconds of the fastest of three calls."""
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        function()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def each(function: Callable, values: Sequence) -> None:
    for value in values:
        function(value)


# -- Contenders --------------------------------------------------------------------------------------------------------


def grain_batches(records, to_example: ToExample, *, batch: int, workers: int) -> Iterator:
    return training_batches(
        records,
        to_example,
        order=natural_order(len(records), seed=0),
        batch_size=batch,
        seed=0,
        steps=range(1_000_000),
        num_workers=workers,
    )


def has_torch() -> bool:
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


@dataclasses.dataclass
class TorchProducts:
    """The same records, decoder and augmentation as a map-style torch data set."""

    records: Sequence
    to_example: ToExample

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, row: int):
        import torch

        record, rng = self.records[row], np.random.default_rng(torch.initial_seed() + row)
        pixels = self.to_example.image(record["images"][0], rng=rng, augment=self.to_example.augment)
        keys = [record[name] for name in ("product_key", "catalog_key", "group_key", "category_key")]
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
        return torch.from_numpy(pixels), self.to_example.template.enriched(record, rng=rng), torch.tensor(keys)

    def collate(self, rows):
        import torch
        from torch.utils.data import default_collate

        pixels, texts, keys = zip(*rows, strict=True)
        ids, mask = self.to_example.tokenizer(texts)
        return default_collate(pixels), torch.from_numpy(ids), torch.from_numpy(mask), default_collate(keys)


def torch_batches(records, to_example: ToExample, *, batch: int, workers: int) -> Iterator:
    import torch

    torch.set_num_threads(1)  # its threads would spin beside the one that decodes
    products = TorchProducts(records, to_example)
    several = {"multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
    sampler = torch.utils.data.RandomSampler(products, replacement=False, num_samples=1_000_000 * batch)
    return iter(
        torch.utils.data.DataLoader(
            products,
            batch_size=batch,
            sampler=sampler,
            num_workers=workers,
            collate_fn=products.collate,
            drop_last=True,
            **several,
        )
    )


# -- Table -------------------------------------------------------------------------------------------------------------


def print_table(contenders: dict[str, Callable], *, rounds: int, workers: Sequence[int]) -> None:
    walls, cpus = ({name: [] for name in contenders} for _ in range(2))
    for done in range(rounds):
        for name, run in contenders.items():
            wall, cpu = run()
            walls[name].append(wall)
            cpus[name].append(cpu)
        print(f"  round {done + 1} of {rounds}", flush=True)
    ratio = lambda times, name, other: statistics.median(b / a for a, b in zip(times[name], times[other], strict=True))
    print(f"{'':18} {'products/s':>11} {'us of core a product':>21} {'efficiency':>11}")
    for name in contenders:
        wall, cpu = statistics.median(walls[name]), statistics.median(cpus[name])
        print(f"{name:18} {1 / wall:>11,.0f} {cpu * 1e6:>21,.0f} {ratio(cpus, name, 'bare'):>11.2f}")
    for w in workers:
        this, torch = f"this, {w} workers", f"torch, {w} workers"
        if torch in contenders:
            print(
                f"{w} workers: {ratio(walls, this, torch):.2f} times the products/s of torch, "
                f"{ratio(cpus, this, torch):.2f} times its products per core second"
            )
        if w == 1 and 0 in workers:
            transfer = 1 - ratio(cpus, this, "this, 0 workers")
            print(f"transfer between processes: {transfer:.1%} of the core time with 1 worker")


if __name__ == "__main__":
    main()
