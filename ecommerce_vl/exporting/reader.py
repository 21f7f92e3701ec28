"""Reads an export back: vectors with their ids, and what a page shows of a product.

Invariant: only a complete export opens (`_SUCCESS` is there, the parts have the rows that the manifest says), and
whoever compares its vectors with others names the space first (`require_space`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ecommerce_vl import files
from ecommerce_vl.data.prepared import SUMMARY
from ecommerce_vl.data.seed_model.vectors import SeedVectors
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting import manifest, thumbnails
from ecommerce_vl.exporting.parts import COLUMN_OF
from ecommerce_vl.exporting.vectors import ALL, SUCCESS

SEARCH_ELSEWHERE = "search with the run that made them, or export again"


@dataclasses.dataclass(frozen=True)
class Card:
    """What is shown of a product; `thumbnail` is a JPEG or None, `category` a path "A > B > C"."""

    id: str
    title: str
    brand: str
    category: str
    locale: str
    adult: str
    thumbnail: bytes | None


class ExportedVectors:
    """A folder that `python -m ecommerce_vl.export` finished.

    Errors: UserError if the folder is missing, is no export, or is an unfinished or newer one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise UserError(
                f"no vectors at {str(folder)!r}: there is no such folder; run python -m ecommerce_vl.export first"
            )
        if (self.folder / SUMMARY).exists():
            raise UserError(f"{str(folder)!r} holds prepared data, no vectors; expected the --out of an export")
        if not (self.folder / SUCCESS).exists():
            raise UserError(
                f"the vectors at {str(folder)!r} are not complete: {SUCCESS} is missing; "
                f"run python -m ecommerce_vl.export --out={folder} to the end"
            )
        try:
            self.manifest = json.loads((self.folder / manifest.FILE).read_text(encoding="utf-8"))
            version = self.manifest["schema_version"]
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.folder / manifest.FILE} cannot be read ({error}); export again") from error
        if version != manifest.SCHEMA_VERSION:
            raise UserError(
                f"the vectors at {str(folder)!r} have schema version {version}; "
                f"this program reads {manifest.SCHEMA_VERSION}: export again"
            )

    def __len__(self) -> int:
        return self.manifest["rows"]

    @property
    def space_id(self) -> str:
        """Of the vectors; those of another space cannot be compared with them."""
        return self.manifest["space_id"]

    @property
    def dim(self) -> int:
        """D."""
        return self.manifest["dims"]

    def seed_vectors(self) -> SeedVectors:
        """As `prepare` reads them.

        Errors: UserError for an export of one split, or of an earlier version, which does not say what its model was
        trained on, for parts that are missing or damaged, and for a path that stands for others.
        """
        again = "export with --split=all into another folder, or with --overwrite"
        if "trained_on" not in self.manifest["model"]:
            raise UserError(f"{self.folder / manifest.FILE} does not say what its model was trained on; {again}")
        if (split := self.manifest["data"]["split"]) != ALL:
            raise UserError(
                f"{str(self.folder)!r} holds the vectors of --split={split}, expected those of all; {again}"
            )
        if set(str(self.folder)) & set("*?[]"):
            raise UserError(
                f"{str(self.folder)!r} has a character that stands for others in patterns; rename the folder"
            )
        for shard in self.manifest["shards"]:
            self._read(shard, pq.read_metadata)
        return SeedVectors(
            files=[self.folder / shard["path"] for shard in self.manifest["shards"]],
            columns=COLUMN_OF,
            fingerprint=self.manifest["data"]["fingerprint"],
            space_id=self.space_id,
            trained_on=self.manifest["model"]["trained_on"],
        )

    def require_space(self, space_id: str, *, owner: str, fix: str = SEARCH_ELSEWHERE) -> None:
        """Checks that vectors of `space_id` may be compared with these; `owner` names where they come from.

        Errors: UserError that names both spaces, and `fix`.
        """
        if space_id != self.space_id:
            model = self.manifest["model"]
            raise UserError(
                f"the vectors at {str(self.folder)!r} are of space {self.space_id} ({model['name']} step "
                f"{model['step']}), but {owner} is of space {space_id}; {fix}"
            )

    def verify(self) -> None:
        """Compares the digest of every part with the manifest; reads all of it.

        Errors: UserError that names the parts that differ.
        """
        shards = self.manifest["shards"]
        damaged = [shard["path"] for shard in shards if files.sha256(self.folder / shard["path"]) != shard["sha256"]]
        if damaged:
            raise UserError(f"damaged or missing in {self.folder}: {', '.join(damaged)}; run the same export again")

    def view(self, view: str) -> tuple[list[str], np.ndarray]:
        """Ids and unit vectors (N,D) float32 of "product", "image" or "text", without the products that lack it.

        Errors: UserError if a part is missing or has another number of rows than the manifest says.
        """
        column = COLUMN_OF[view]
        ids, blocks = [], []
        for shard in self.manifest["shards"]:
            table = self._read(shard, lambda file: pq.read_table(file, columns=["product_id", column]))
            present = table.filter(table[column].is_valid())
            ids += present["product_id"].to_pylist()
            blocks.append(present[column].combine_chunks().flatten().to_numpy().reshape(-1, self.dim))
        return ids, np.concatenate(blocks) if blocks else np.empty((0, self.dim), np.float32)

    def _read(self, shard: Mapping[str, Any], read: Callable[[Path], Any]) -> Any:
        """What `read` gives of a part: something with `num_rows`, which are those that the manifest says."""
        file = self.folder / shard["path"]
        try:
            found = read(file)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise UserError(f"{file} cannot be read; run the same export again") from error
        if found.num_rows != shard["rows"]:
            raise UserError(
                f"{file} holds {found.num_rows} rows, the manifest says {shard['rows']}; run the same export again"
            )
        return found

    def cards(self, ids: Sequence[str]) -> list[Card]:
        """What is shown of these products, in their order; empty fields where no thumbnails were exported."""
        found: dict[str, Card] = {}
        wanted = set(ids)
        for shard in self.manifest["shards"]:
            file = self.folder / thumbnails.FOLDER / shard["path"]
            # Parts hold whole shards of the feed, so the range of ids often rules a file out unread.
            inside = [name for name in wanted if shard["rows"] and shard["min_id"] <= name <= shard["max_id"]]
            if inside and file.exists():
                rows = pq.read_table(file, filters=[("product_id", "in", inside)]).to_pylist()
                found |= {row["product_id"]: _card(row) for row in rows}
        return [found.get(name) or Card(name, "", "", "", "", "unknown", None) for name in ids]


def _card(row: dict) -> Card:
    return Card(id=row["product_id"], **{name: row[name] for name in row if name != "product_id"})
