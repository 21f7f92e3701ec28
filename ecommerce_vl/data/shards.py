"""The shard format: a standard TFDS directory of ArrayRecord files that any JAX team can read with its own tools.

`tfds.builder_from_directory(DATA).as_data_source("train")` opens it without TensorFlow. Products are stored once, one
record each, pictures as encoded bytes; `index.parquet` beside the shards repeats the keys, so that rows can be chosen
and joined without reading a picture. Invariant: the same records in the same order give the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from ecommerce_vl.data.record import SPLITS, TEXT_FIELDS

DATASET = "products"
STORED_FIELDS = tuple(name for name in TEXT_FIELDS if name != "split")
KEYS = ("product_key", "catalog_key", "group_key", "category_key")
FILE_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"

FEATURES = tfds.features.FeaturesDict(
    {name: tfds.features.Text() for name in STORED_FIELDS}
    | {key: np.int64 for key in KEYS}
    | {
        "attributes": tfds.features.Sequence({"name": tfds.features.Text(), "value": tfds.features.Text()}),
        "images": tfds.features.Sequence(tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")),
    }
)


class ShardWriter:
    """Writes the shards of one split; `close` gives the files their final names."""

    def __init__(self, folder: Path, *, split: str, rows_per_shard: int):
        self.folder, self.split, self.rows_per_shard = folder, split, rows_per_shard
        self.shard_rows: list[int] = []
        self.num_bytes = 0
        self._writer: ArrayRecordWriter | None = None

    def write(self, record: dict) -> None:
        """Appends one record of `FEATURES`; `images` holds encoded bytes."""
        if self._writer is None or self.shard_rows[-1] == self.rows_per_shard:
            self._close_shard()
            self._writer = ArrayRecordWriter(str(self._partial(len(self.shard_rows))), "group_size:1")
            self.shard_rows.append(0)
        # The image feature takes encoded bytes as a file object and stores them untouched.
        images = [io.BytesIO(data) for data in record["images"]]
        serialized = FEATURES.serialize_example(FEATURES.encode_example({**record, "images": images}))
        with _disk_errors(self.folder):
            self._writer.write(serialized)
        self.shard_rows[-1] += 1
        self.num_bytes += len(serialized)

    def close(self) -> tfds.core.SplitInfo:
        """Closes the last shard and renames all, now that their number is known."""
        self._close_shard()
        template = tfds.core.ShardedFileTemplate(
            data_dir=self.folder,
            template=FILE_TEMPLATE,
            dataset_name=DATASET,
            split=self.split,
            filetype_suffix="array_record",
        )
        for shard in range(len(self.shard_rows)):
            target = template.sharded_filepath(shard_index=shard, num_shards=len(self.shard_rows))
            self._partial(shard).rename(str(target))
        return tfds.core.SplitInfo(
            name=self.split, shard_lengths=self.shard_rows, num_bytes=self.num_bytes, filename_template=template
        )

    def _partial(self, shard: int) -> Path:
        return self.folder / f"{self.split}-{shard:05d}.partial"

    def _close_shard(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with _disk_errors(self.folder):
                writer.close()


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turns the writer's RuntimeError, which names the system's error only in its text, into the OSError that it is."""
    try:
        yield
    except RuntimeError as error:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(folder)) from error
        raise


def write_metadata(folder: Path, split_infos: list[tfds.core.SplitInfo]) -> None:
    """Writes `dataset_info.json` and `features.json`, which make the folder a TFDS data set."""
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=FEATURES,
        split_infos=split_infos,
        filename_template=FILE_TEMPLATE,
        check_data=False,
    )


def fingerprint(folder: Path) -> str:
    """SHA-256 over names and contents of all shards: two folders with the same one hold the same data."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob(f"{DATASET}-*.array_record-*")):
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class EncodedBytes(tfds.decode.Decoder):
    """Leaves the pictures encoded; TFDS's own `SkipDecoding` fails inside a sequence (tensorflow/datasets 4.9.10)."""

    def decode_example(self, example):
        return example

    decode_example_np = decode_batch_example = decode_batch_example_np = decode_example


def open_source(folder: Path, *, split: str) -> Sequence[dict[str, Any]]:
    """A random-access sequence of the examples of one split: text as bytes, pictures as encoded bytes."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    return tfds.builder_from_directory(str(folder)).as_data_source(split, decoders={"images": EncodedBytes()})
