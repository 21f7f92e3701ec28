"""One part of an export: the products of one shard, embedded and written as one Parquet file.

A part is the unit of work. It depends on its own rows only, so a restarted job makes just the parts that are missing,
and they come out with the same bytes. Invariants: rows in = rows out + rejects; an absent modality is null, never
zeros; every vector has unit norm. A receipt beside the part says that it is finished, with its digest.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ecommerce_vl import files
from ecommerce_vl.data.prepared import Records
from ecommerce_vl.data.thumbnails import thumbnail
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting import thumbnails
from ecommerce_vl.exporting.tables import write_table

RECEIPTS = "_receipts"  # readers of Parquet folders pass over names that begin with an underscore
COLUMN_OF = {"product": "embedding", "image": "embedding_image", "text": "embedding_text"}
NO_MODALITY = "no_usable_modality"
NORM_TOLERANCE = 1e-3
CHUNKS = 4  # encoder batches read at a time: bounds the pictures in memory


class ViewEncoder(Protocol):
    """What an export needs of an encoder; `ecommerce_vl.encoder.Encoder` has it."""

    batch_size: int
    dim: int
    space_id: str
    name: str
    digest: str
    step: int
    preprocess: Mapping[str, Any]
    text: Mapping[str, Any]
    fusion: Mapping[str, Any]
    trained_on: Mapping[str, Any] | None

    def embed_views(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows [start, stop) of a split, which become file `number` of `count`."""

    number: int
    count: int
    split: str
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        return f"part-{self.number:05d}-of-{self.count:05d}.parquet"


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What a finished part holds; `rejects` are (id, reason, detail), the ids are None for a part without rows."""

    path: str
    rows: int
    sha256: str
    thumbnails_sha256: str
    min_id: str | None
    max_id: str | None
    rejects: list[tuple[str, str, str]]

    def write(self, out: Path) -> None:
        files.write_json(_receipt_file(out, self.path), dataclasses.asdict(self))

    def holds(self, out: Path) -> bool:
        """Whether the files of the part are there, bit for bit."""
        written = files.sha256(out / self.path), files.sha256(out / thumbnails.FOLDER / self.path)
        return written == (self.sha256, self.thumbnails_sha256)


def read_receipt(out: Path, part: Part) -> Receipt | None:
    """The receipt of a part, or None if it was not finished."""
    try:
        fields = json.loads(_receipt_file(out, part.file_name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Receipt(**fields | {"rejects": [tuple(reject) for reject in fields["rejects"]]})


def _receipt_file(out: Path, path: str) -> Path:
    return out / RECEIPTS / Path(path).with_suffix(".json").name


def schema(dim: int, *, space_id: str) -> pa.Schema:
    """Of a part; the file itself says which space its vectors belong to."""
    vector = pa.list_(pa.float32(), dim)
    return pa.schema(
        [
            ("product_id", pa.string()),
            ("item_group_id", pa.string()),
            ("catalog_id", pa.string()),
            ("embedding", vector),
            ("embedding_image", vector),
            ("embedding_text", vector),
            ("modality_mask", pa.int8()),
            ("n_images", pa.int16()),
            ("input_digest", pa.binary(16)),
            ("split", pa.string()),
        ],
        metadata={"space_id": space_id},
    )


def write_part(
    part: Part,
    *,
    encoder: ViewEncoder,
    data: Path,
    ids: Sequence[str],
    out: Path,
    pictures: bool,
    progress: Callable[[int], None],
) -> Receipt:
    """Embeds the rows of a part and writes it, its thumbnails and, last, its receipt.

    Args:
      data: folder of the prepared data.
      ids: of the part's rows as the index has them.
      pictures: False leaves the thumbnails out.
      progress: receives the number of rows done since the last call.

    Errors: UserError if the shards hold other ids than the index; RuntimeError if rows do not add up, or a vector has
    no unit norm.
    """
    records = Records(data, part.split, np.arange(part.start, part.stop))
    tables, shown, rejects = [], [], []
    size = CHUNKS * encoder.batch_size
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(records), size):
            chunk = [records[row] for row in range(start, min(start + size, len(records)))]
            for record, expected in zip(chunk, ids[start : start + size], strict=True):
                if record["id"] != expected:
                    raise UserError(
                        f"--data={data} is damaged: {part.split} shards hold the id {record['id']!r} where "
                        f"index.parquet has {expected!r}; run python -m ecommerce_vl.prepare again"
                    )
            mains = [record["images"][0] if record["images"] and pictures else None for record in chunk]
            shrink = partial(thumbnail, pixels=thumbnails.PIXELS)
            small = pool.map(shrink, mains)  # in threads, while the encoder works
            vectors = encoder.embed_views(chunk)
            kept, lost = _usable(chunk, vectors)
            rejects += lost
            records_kept = [chunk[row] for row in kept]
            small = list(small)
            shown.append(thumbnails.thumbnail_table(records_kept, pictures=[small[row] for row in kept]))
            tables.append(_table(records_kept, {view: rows[kept] for view, rows in vectors.items()}, part, encoder))
            progress(len(chunk))
    table = pa.concat_tables(tables)
    if table.num_rows + len(rejects) != part.stop - part.start:
        raise RuntimeError(
            f"rows of {part.file_name} do not add up: {part.stop - part.start} in, {table.num_rows} out, "
            f"{len(rejects)} rejected"
        )
    written = table["product_id"].to_pylist()
    receipt = Receipt(
        path=part.file_name,
        rows=table.num_rows,
        sha256=write_table(out / part.file_name, table),
        thumbnails_sha256=write_table(out / thumbnails.FOLDER / part.file_name, pa.concat_tables(shown)),
        min_id=min(written, default=None),
        max_id=max(written, default=None),
        rejects=rejects,
    )
    receipt.write(out)
    return receipt


def input_digest(record: Mapping[str, Any]) -> bytes:
    """16 bytes over what the encoder reads of a product: its title and the bytes of its main picture."""
    title = record["title"].encode()
    digest = hashlib.sha256(len(title).to_bytes(8, "big") + title)  # the length keeps title and picture apart
    if record["images"]:
        digest.update(record["images"][0])
    return digest.digest()[:16]


def _usable(records, vectors) -> tuple[np.ndarray, list[tuple[str, str, str]]]:
    """Rows that have a vector, and a reject for each of the others."""
    if any(rows.shape[0] != len(records) for rows in vectors.values()):
        shapes = {view: rows.shape for view, rows in vectors.items()}
        raise RuntimeError(f"the encoder gave {shapes} for {len(records)} products; expected one row each")
    usable = np.isfinite(vectors["product"]).all(axis=1)
    rejects = [
        (
            record["id"],
            NO_MODALITY,
            "no title, and " + ("the picture cannot be read" if record["images"] else "no picture"),
        )
        for record, kept in zip(records, usable, strict=True)
        if not kept
    ]
    return np.flatnonzero(usable), rejects


def _table(records, vectors: Mapping[str, np.ndarray], part: Part, encoder: ViewEncoder) -> pa.Table:
    has_image, has_text = (np.isfinite(vectors[view]).all(axis=1) for view in ("image", "text"))
    columns = {COLUMN_OF[view]: _vector_array(vectors[view], view) for view in COLUMN_OF}
    return pa.table(
        {
            "product_id": [record["id"] for record in records],
            "item_group_id": [record["item_group_id"] or None for record in records],
            "catalog_id": [record["catalog_id"] or None for record in records],
            **columns,
            "modality_mask": pa.array(has_image + 2 * has_text, pa.int8()),
            "n_images": pa.array(has_image.astype(np.int16)),
            "input_digest": [input_digest(record) for record in records],
            "split": [part.split] * len(records),
        },
        schema=schema(encoder.dim, space_id=encoder.space_id),
    )


def _vector_array(vectors_NxD: np.ndarray, view: str) -> pa.FixedSizeListArray:
    absent = ~np.isfinite(vectors_NxD).all(axis=1)
    norms = np.linalg.norm(vectors_NxD[~absent].astype(np.float64), axis=1)
    if (np.abs(norms - 1) > NORM_TOLERANCE).any():
        raise RuntimeError(f"{view} vectors have norms {norms.min():.6f} to {norms.max():.6f}; expected 1")
    values = np.where(absent[:, None], np.float32(0), vectors_NxD.astype(np.float32)).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(values), vectors_NxD.shape[1], mask=pa.array(absent))
