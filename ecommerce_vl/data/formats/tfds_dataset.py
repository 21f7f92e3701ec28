"""TFDS data sets by name or folder, read without TensorFlow: pictures as they are encoded, labels by their names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecommerce_vl.data.formats.files import is_remote
from ecommerce_vl.data.formats.row import Row
from ecommerce_vl.data.record import SPLITS, canonical_name
from ecommerce_vl.errors import UserError

# NAME may be a folder, and end in a version: "shop:1.0.0:train", "gs://bucket/shop/1.0.0:train".
REQUEST = re.compile(r"(?P<name>(?:\w+://)?[^:]+(?::\d+\.[\d*]+\.[\d*]+)?)(?::(?P<split>.+))?")
ROWS_PER_READ = 64


def splits(request: str) -> list[str]:
    """The requests "NAME:SPLIT" that "NAME[:SPLIT]" stands for: one of each split, if none is named.

    Errors: UserError if there is no such data set or split.
    """
    name, split = _parse(request)
    info = _builder(name).info
    if split is None:
        return [f"{name}:{found}" for found in sorted(info.splits, key=_order)]
    try:
        _ = info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise UserError(
            f"--feed=tfds:{request} names the split {split!r}; found {', '.join(sorted(info.splits))}. "
            "Name one of these."
        ) from error
    return [request]


def read(request: str) -> Iterator[Row]:
    """The examples of "NAME:SPLIT" in order; without a column of ids, the split and the position are the id."""
    import tensorflow_datasets as tfds

    name, split = _parse(request)
    builder = _builder(name)
    features = builder.info.features
    source = builder.as_data_source(split, decoders=_encoded(features, tfds) or None)
    for start in range(0, len(source), ROWS_PER_READ):
        places = range(start, min(start + ROWS_PER_READ, len(source)))
        for place, example in zip(places, source.__getitems__(places), strict=True):
            row = _plain(example, features, tfds)
            row = row if isinstance(row, dict) else {"value": row}
            if not any(canonical_name(column) == "id" for column in row):
                row["id"] = f"{split}-{place}"
            if split in SPLITS and not any(canonical_name(column) == "split" for column in row):
                row["split"] = split
            yield row


def count_rows(request: str) -> int | None:
    name, split = _parse(request)
    return _builder(name).info.splits[split].num_examples


def digest(request: str) -> str:
    """Digest of what TFDS knows of a split: its name, version, features, and the lengths of its shards."""
    name, split = _parse(request)
    info = _builder(name).info
    split_info = info.splits[split]
    known = (info.full_name, split, split_info.num_examples, str(info.features))
    shards = (getattr(split_info, "shard_lengths", None), getattr(split_info, "num_bytes", None))
    return hashlib.sha256(repr((*known, *shards)).encode()).hexdigest()


def _parse(request: str) -> tuple[str, str | None]:
    match = REQUEST.fullmatch(request)
    if not match:
        raise UserError(f"--feed=tfds:{request}: expected tfds:NAME or tfds:NAME:SPLIT, NAME being a folder or a name")
    return match["name"], match["split"]


def _builder(name: str):
    import tensorflow_datasets as tfds

    try:
        if is_remote(name) or Path(name).is_dir():
            return tfds.builder_from_directory(name)
        return tfds.builder(name)
    except Exception as error:  # of the package of the data set, or of its folder
        found = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"--feed=tfds:{name} is no TFDS data set on this machine: {type(error).__name__}: {found}; expected a "
            "folder that TFDS wrote, or a name whose data are prepared. Prepare it with `tfds build` first."
        ) from error


def _order(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _encoded(feature: Any, tfds: Any) -> Any:
    """Decoders that leave every picture encoded, nested as the features are; None where there is no picture."""
    if isinstance(feature, tfds.features.FeaturesDict):
        inner = {name: _encoded(each, tfds) for name, each in feature.items()}
        return {name: decoder for name, decoder in inner.items() if decoder} or None
    if isinstance(feature, tfds.features.Sequence):
        return _encoded(feature.feature, tfds)
    if not isinstance(feature, tfds.features.Image):
        return None

    class EncodedBytes(tfds.decode.Decoder):
        """TFDS's own `SkipDecoding` fails inside of a sequence (tensorflow/datasets 4.9.10)."""

        def decode_example(self, example):
            return example

        decode_example_np = decode_batch_example = decode_batch_example_np = decode_example

    return EncodedBytes()


def _plain(value: Any, feature: Any, tfds: Any) -> Any:
    """An example as Python's own types: texts as strings, pictures as bytes, labels by name, a sequence as a list."""
    if isinstance(feature, tfds.features.FeaturesDict):
        return {name: _plain(value[name], each, tfds) for name, each in feature.items()}
    if isinstance(feature, tfds.features.Sequence) or (
        isinstance(feature, tfds.features.Dataset) and not isinstance(value, dict)
    ):
        if isinstance(value, dict):  # of a sequence of mappings TFDS makes a mapping of sequences
            columns = {
                name: _plain(value[name], tfds.features.Sequence(each), tfds) for name, each in feature.feature.items()
            }
            return [dict(zip(columns, items, strict=False)) for items in zip(*columns.values(), strict=False)]
        return [_plain(item, feature.feature, tfds) for item in value]
    if isinstance(feature, tfds.features.ClassLabel):
        number = int(value)
        return feature.int2str(number) if 0 <= number < feature.num_classes else None
    if isinstance(feature, tfds.features.Text) and isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else value
