"""A refresh: an export that copies the vectors of products whose content is unchanged and embeds only the others.

Invariant: a vector is copied only within one space and only for the same title and picture (`parts.input_digest`), so a
refresh ends with what a full export of the same data gives. (A row may be embedded in a batch of another size than
there, which moves a float32 by its rounding.) Everything that is not a vector is made of the new data.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.parts import COLUMN_OF, ViewEncoder, input_digest
from ecommerce_vl.exporting.reader import ExportedVectors

PARTS_IN_MEMORY = 4  # of the earlier export; catalogs keep their order, so neighbours lie in one or two


@dataclasses.dataclass(frozen=True)
class Count:
    """Rows of two exports: `kept` have the same content in both, `changed` another, `new` and `gone` are in one."""

    kept: int
    changed: int
    new: int
    gone: int


class RefreshingEncoder:
    """An encoder that has the vectors of an earlier export; to an export it is one like any other (`ViewEncoder`).

    Args:
      encoder: embeds what has changed.
      earlier: of the same space; read part by part.

    Errors: UserError if `earlier` is of another space, or damaged.
    """

    def __init__(self, encoder: ViewEncoder, earlier: ExportedVectors):
        earlier.require_space(
            encoder.space_id,
            owner="the model",
            fix="export without --refresh, since no vector of it can be kept",
        )
        earlier.verify()
        self._encoder, self._earlier = encoder, earlier
        self._places = {
            name: (path, row, digest)
            for path in (shard["path"] for shard in earlier.manifest["shards"])
            for row, (name, digest) in enumerate(_contents(earlier.folder / path))
        }
        self._part = functools.lru_cache(maxsize=PARTS_IN_MEMORY)(self._read_part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def embed_views(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Vectors (N,D) float32 of "image", "text" and "product", NaN where absent, as `Encoder.embed_views` gives."""
        vectors = {view: np.full((len(records), self._encoder.dim), np.nan, np.float32) for view in COLUMN_OF}
        changed = []
        for row, record in enumerate(records):
            path, place, digest = self._places.get(record["id"], (None, None, None))
            if digest != input_digest(record):
                changed.append(row)
                continue
            for view, rows in self._part(path).items():
                vectors[view][row] = rows[place]
        if changed:
            for view, rows in self._encoder.embed_views([records[row] for row in changed]).items():
                vectors[view][changed] = rows
        return vectors

    def _read_part(self, path: str) -> dict[str, np.ndarray]:
        table = pq.read_table(self._earlier.folder / path, columns=list(COLUMN_OF.values()))
        found = {}
        for view, column in COLUMN_OF.items():
            array = table[column].combine_chunks()
            found[view] = np.full((len(array), self._earlier.dim), np.nan, np.float32)
            found[view][array.is_valid().to_numpy(zero_copy_only=False)] = (
                array.flatten().to_numpy().reshape(-1, self._earlier.dim)  # without the absent ones
            )
        return found


def require_other_folder(earlier: Path, out: Path) -> None:
    """Checks that a refresh does not write where it reads.

    Errors: UserError if both are one folder.
    """
    if earlier.resolve() == out.resolve():
        raise UserError(
            f"--refresh={earlier} is the folder of --out too; name another folder for the new vectors and remove the "
            "old ones once nothing reads them"
        )


def count(earlier: ExportedVectors, now: ExportedVectors) -> Count:
    """What became of the rows, from the files of both exports; so a refresh that was killed and resumed counts alike.

    kept + changed + new are the rows now, kept + changed + gone those of the earlier export.
    """
    before, after = (
        dict(pair for shard in one.manifest["shards"] for pair in _contents(one.folder / shard["path"]))
        for one in (earlier, now)
    )
    shared = before.keys() & after.keys()
    kept = sum(before[name] == after[name] for name in shared)
    return Count(kept=kept, changed=len(shared) - kept, new=len(after) - len(shared), gone=len(before) - len(shared))


def _contents(file: Path) -> list[tuple[str, bytes]]:
    """(product id, digest of its content) of each row of a part."""
    table = pq.read_table(file, columns=["product_id", "input_digest"])
    return list(zip(table["product_id"].to_pylist(), table["input_digest"].to_pylist(), strict=True))
