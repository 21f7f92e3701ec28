"""Batches as a pure function of (seed, step).

    epoch permutations from the seed -> repeat -> positions [t B, (t+1) B) are step t -> slice by process -> batch

Invariants: the products of step t are the same for any number of processes and workers, before and after a restart;
nothing is filtered after indexing: a record that cannot be read keeps its place with `valid` False; what is random in
an example comes from the seed and its position in the stream, never from a worker.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np

from ecommerce_vl.data.images import Augment, ImageDefect, ImagePipeline
from ecommerce_vl.data.prepared import Records
from ecommerce_vl.data.shards import KEYS
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import TextTokenizer

Batch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ToExample:
    """One record as arrays of fixed shape: what the model reads of a product.

    `image` (H,W,3) uint8, `text_ids` (L,) int32, `text_mask` (L,) bool, `has_image`, `has_text`, `valid` bool, and
    `product_key`, `catalog_key`, `group_key`, `category_key` int32.
    """

    image: ImagePipeline
    augment: Augment
    template: TextTemplate
    tokenizer: TextTokenizer

    def __call__(self, record: Mapping[str, Any], rng: np.random.Generator) -> Batch:
        size = self.image.size
        pixels, valid = np.zeros((size, size, 3), np.uint8), True
        images = record["images"]
        if images:
            chosen = images[int(rng.integers(len(images)))]
            try:
                pixels = self.image(chosen, rng=rng, augment=self.augment)
            except ImageDefect:
                valid = False
        ids, mask = self.tokenizer([self.template.enriched(record, rng=rng)])
        return {
            "image": pixels,
            "text_ids": ids[0],
            "text_mask": mask[0],
            "has_image": np.bool_(bool(images) and valid),
            "has_text": mask[0].any(),
            "valid": np.bool_(valid),
            **{key: np.int32(record[key]) for key in KEYS},
        }


def training_batches(
    records: Records,
    to_example: ToExample,
    *,
    batch_size: int,
    seed: int,
    steps: range,
    num_workers: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """This process's share of the batches of the given steps, rows b = batch_size / process_count.

    Args:
      records: to draw from; every epoch is a new permutation of all of them.
      batch_size: products of the global batch.
      seed: of order and augmentation.
      steps: which; a restart passes the steps that are left.
      num_workers: processes that decode; 0 decodes in threads of this process.
      process_index, process_count: of the hosts that share a batch.
    """
    dataset = grain.MapDataset.source(records).seed(seed).shuffle().repeat(None).random_map(to_example)
    local = dataset[process_index::process_count].batch(batch_size // process_count, drop_remainder=True)
    local = local[steps.start : steps.stop]
    # Read ahead of four batches, not of grain's default 500: a batch of pictures is large.
    stream = local.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    if num_workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=2))
    return iter(stream)
