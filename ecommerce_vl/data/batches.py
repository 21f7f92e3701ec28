"""Batches as a pure function of (seed, step).

    an order from the seed -> positions [t B, (t+1) B) are step t -> every P-th for this of P processes -> batch

Invariants: the products of step t are the same for any number of processes and workers, before and after a restart;
nothing is filtered after indexing: a record that cannot be read keeps its place with `valid` False; what is random in
a row comes from the seed and its position in the stream, never from a worker.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from ecommerce_vl.data.images import Augment, ImageDefect, ImagePipeline
from ecommerce_vl.data.sampling import Order
from ecommerce_vl.data.shards import KEYS
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import TextTokenizer
from ecommerce_vl.data.workers import end_with_parent

Batch = dict[str, np.ndarray]
Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ToExample:
    """Records as arrays of fixed shape: what the model reads of products.

    Args:
      image, augment: how a picture is decoded, and its random views.
      template: the text of a record, with its dropout of fields and words.
      tokenizer: text to ids of a fixed length.
      query_tokenizer: the same for queries, whose length is another; None where there are none.
      image_dropout, text_dropout: probability that a row that has both a picture and a text loses the one or the
        other; it never loses both. A loss that needs both does not count such a row.
      any_image: one of a product's pictures is drawn, not its first; evaluation, export and search read the first.

    Errors: ValueError that begins with the key of the config.
    """

    image: ImagePipeline
    augment: Augment
    template: TextTemplate
    tokenizer: TextTokenizer
    image_dropout: float = 0.0
    text_dropout: float = 0.0
    any_image: bool = False
    query_tokenizer: TextTokenizer | None = None

    def __post_init__(self):
        for name in ("image_dropout", "text_dropout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"data.{name} is {getattr(self, name)}; expected 0 to 1")
        if self.image_dropout + self.text_dropout > 1.0:
            raise ValueError(
                f"data.image_dropout is {self.image_dropout} and data.text_dropout {self.text_dropout}; "
                "expected a sum of at most 1, since a row never loses both"
            )

    def __call__(self, drawn: Iterable[tuple[Record, np.random.Generator]], *, num_rows: int) -> Batch:
        """The rows b = num_rows of a batch, each from its record and its own generator.

        Returns: `image` (b,H,W,3) uint8, `text_ids` (b,L) int32, `text_mask` (b,L) bool, `has_image`, `has_text`,
          `valid`, `matched`, `hard_mismatch` (b,) bool, and `product_key`, `catalog_key`, `group_key`, `category_key`
          (b,) int32.
        """
        size = self.image.size
        image = np.empty((num_rows, size, size, 3), np.uint8)  # each row is written below, so once
        has_image, valid = np.zeros(num_rows, bool), np.ones(num_rows, bool)
        keys = np.empty((len(KEYS), num_rows), np.int32)
        matched, hard_mismatch = np.ones(num_rows, bool), np.zeros(num_rows, bool)
        texts = []
        for row, (record, rng) in enumerate(drawn):
            images, text = record["images"], self.template.enriched(record, rng=rng)
            if images and text and (self.image_dropout or self.text_dropout):
                u = rng.random()
                images = [] if u < self.image_dropout else images
                text = "" if u >= 1.0 - self.text_dropout else text
            if images:
                several = self.any_image and len(images) > 1
                chosen = images[int(rng.integers(len(images)))] if several else images[0]
                try:
                    image[row] = self.image(chosen, rng=rng, augment=self.augment)
                    has_image[row] = True
                except ImageDefect:
                    valid[row] = False
            if not has_image[row]:
                image[row] = 0
            texts.append(text)
            keys[:, row] = [record[name] for name in KEYS]
            # Of a record whose picture or text is another product's; see data/mismatch.py.
            matched[row], hard_mismatch[row] = record.get("matched", True), record.get("hard_mismatch", False)
        # All texts of a batch at once: the arrays around the tokenizer cost as much for one text as for many.
        text_ids, text_mask = self.tokenizer(texts)
        return {
            "image": image,
            "text_ids": text_ids,
            "text_mask": text_mask,
            "has_image": has_image,
            "has_text": text_mask.any(axis=1),
            "valid": valid,
            "matched": matched,
            "hard_mismatch": hard_mismatch,
            **dict(zip(KEYS, keys, strict=True)),
        }


@dataclasses.dataclass(frozen=True)
class _ReadStep:
    """This process's rows of the batch of a step; picklable, so that loader workers can carry it."""

    records: Sequence[Record]
    order: Order
    to_example: ToExample
    batch_size: int
    first_position: int
    seed: int
    process_index: int
    process_count: int

    def __call__(self, step: int) -> Batch:
        begin = self.first_position + int(step) * self.batch_size
        positions = range(begin + self.process_index, begin + self.batch_size, self.process_count)
        # Read before anything is decoded: alternating, the two turn each other's code and data out of the cache.
        drawn = [(self.records[self.order[at]], np.random.default_rng((self.seed, at))) for at in positions]
        return self.to_example(drawn, num_rows=len(positions))


def training_batches(
    records: Sequence[Record],
    to_example: ToExample,
    *,
    order: Order,
    batch_size: int,
    seed: int,
    steps: range,
    num_workers: int,
    first_position: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """This process's share of the batches of the given steps, rows b = batch_size / process_count.

    Args:
      records: to draw from.
      order: position in the stream -> row of `records`; see `data/sampling.py`.
      batch_size: samples of the global batch.
      seed: of augmentation and dropout.
      steps: which; a restart passes the steps that are left.
      num_workers: processes that decode; 0 decodes in threads of this process.
      first_position: of the stream, where step 0 begins; a stage of a batch-size schedule counts its steps from there.
      process_index, process_count: of the hosts that share a batch.
    """
    # One element is a whole batch: grain's work for an element, of 30 fields at that, is not done for every product.
    read = _ReadStep(records, order, to_example, batch_size, first_position, seed, process_index, process_count)
    dataset = grain.MapDataset.range(steps.start, steps.stop).map(read)
    if num_workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # A worker is one thread: with grain's own reading threads inside, it would compete with itself for a core.
        stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2)
        stream = stream.mp_prefetch(options, worker_init_fn=_serve_the_training)
    else:
        # Read ahead of four batches, not of grain's default 500: a batch of pictures is large.
        stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    return iter(stream)


def _serve_the_training(worker_index: int, worker_count: int) -> None:
    """Ctrl-C, and the end of a job, reach every process of it; the training saves first, and then stops its workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
