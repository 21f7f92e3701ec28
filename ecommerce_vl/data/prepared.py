"""Prepared data as the other rooms see it: a folder with its summary, its index table and its records."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_vl.data import shards
from ecommerce_vl.data.record import SPLITS
from ecommerce_vl.errors import UserError

SUMMARY = "prepare.json"
INDEX_COLUMNS = ("id", "split", "position", *shards.KEYS, "num_images", "has_text", "category")


def read_summary(folder: Path) -> dict | None:
    """The summary of what was prepared into a folder, None where there is none.

    Errors: UserError if the file is not one of ours, so that nobody's file is taken for it or replaced.
    """
    file = folder / SUMMARY
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        return summary if summary["request"] else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no summary of a preparation ({error}); remove it or name another folder") from error


@dataclasses.dataclass
class Records(Sequence):
    """Random access to the records of one split, in index order; picklable, so that loader workers can carry it.

    Args:
      folder: of the prepared data.
      split: one of `SPLITS`.
      positions: int64, rows of the split to show, in this order.
    """

    folder: Path
    split: str
    positions: np.ndarray

    @cached_property
    def _source(self):
        return shards.open_split(self.folder, split=self.split)

    def __getstate__(self):
        return {name: getattr(self, name) for name in ("folder", "split", "positions")}

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return shards.parse(self._source[int(self.positions[row])])


class PreparedData:
    """A folder written by `prepare`.

    Errors: UserError if the folder holds no complete preparation, and as `read_summary`.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        summary = read_summary(self.folder)
        if summary is None:
            raise UserError(
                f"no prepared data at {str(folder)!r}: {SUMMARY} is missing; "
                f"run python -m ecommerce_vl.prepare --feed=FEED --out={folder}"
            )
        self.summary = summary

    @property
    def fingerprint(self) -> str:
        """Digest of the shards; the same wherever the folder lies."""
        return self.summary["fingerprint"]

    @cached_property
    def index(self):
        """The index table (pyarrow) without its texts: one row a product, in feed order."""
        return pq.read_table(self.folder / "index.parquet", columns=list(INDEX_COLUMNS))

    def in_split(self, split: str) -> np.ndarray:
        """Bool (N,) of all products in the order of `index`."""
        return self.index["split"].to_numpy(zero_copy_only=False) == split

    def rows(self, split: str) -> dict[str, np.ndarray]:
        """The index columns of one split."""
        if split not in SPLITS:
            raise UserError(f"--split={split}: expected one of {', '.join(SPLITS)}")
        table = self.index.filter(pc.equal(self.index["split"], split))
        return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}

    def seller_keys(self, split: str) -> np.ndarray:
        """Int32 (N,), equal for products of one seller, in the order of `rows`."""
        table = pq.read_table(self.folder / "index.parquet", columns=["split", "seller_id"])
        sellers = table.filter(pc.equal(table["split"], split))["seller_id"]
        return sellers.combine_chunks().dictionary_encode().indices.to_numpy()

    def components(self, split: str) -> np.ndarray:
        """Int64 (N,), equal for products of one group that no split parts, in the order of `rows`."""
        table = pq.read_table(self.folder / "index.parquet", columns=["split", "component"])
        return table.filter(pc.equal(table["split"], split))["component"].to_numpy()

    def records(self, split: str, *, pairs_only: bool = False, among: np.ndarray | None = None) -> Records:
        """The records of one split; `pairs_only` shows those that have a picture and a title, `among`, bool (N,) in
        the order of `rows`, those that it has."""
        rows = self.rows(split)
        chosen = (rows["num_images"] > 0) & rows["has_text"] if pairs_only else np.ones(len(rows["id"]), bool)
        if among is not None:
            chosen &= among
        return Records(self.folder, split, rows["position"][chosen])


def digest_of(columns: Iterable[np.ndarray | str]) -> str:
    """SHA-256 of arrays and strings in their order: what a source draws from beyond the prepared products."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column.encode() + b"\0" if isinstance(column, str) else np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
