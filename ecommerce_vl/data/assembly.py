"""From parts and places to shards: each shard a pure function of the two, written by whoever asks for it.

Invariant: a shard holds the rows that have their place in it, in feed order, and the same parts and places give the
same bytes, whichever process, machine or runner writes it.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from ecommerce_vl.data import shards
from ecommerce_vl.data.ingest import ROWS_PER_GROUP, part_file
from ecommerce_vl.data.record import SPLITS
from ecommerce_vl.data.workers import on_all_cores
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import fresh_folder

RUNNERS = ("processes", "beam")
COLUMNS = [*shards.STORED_FIELDS, "attributes", "images", "image_hashes"]


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file to write, and how many rows it will hold."""

    split: str
    number: int
    of: int
    rows: int


def shards_of(splits: dict[str, int], rows_per_shard: int) -> list[Shard]:
    """The shards of all splits, empty splits without any."""
    expected = []
    for split in SPLITS:
        of = -(-splits[split] // rows_per_shard)
        for number in range(of):
            rows = min(rows_per_shard, splits[split] - number * rows_per_shard)
            expected.append(Shard(split, number, of, rows))
    return expected


def assemble(
    parts: Path,
    curated: Path,
    folder: Path,
    *,
    expected: list[Shard],
    runner: str,
    num_workers: int,
    progress: Callable[[int, int], None],
) -> None:
    """Writes the shards that are not there yet.

    Args:
      parts: folder that `ingest` wrote.
      curated: folder that `curate` wrote.
      expected: all shards, see `shards_of`.
      runner: "processes" of this machine, or "beam": the pipeline runner that Beam's own environment configures.

    Errors: UserError for a runner that is unknown or not installed.
    """
    fresh_folder(folder)
    write = partial(write_expected, parts=parts, first_rows=_first_rows(parts), curated=curated, folder=folder)
    missing = [shard for shard in expected if not _file(folder, shard).exists()]
    total = sum(shard.rows for shard in expected)
    done = total - sum(shard.rows for shard in missing)
    if runner == "beam":
        _on_beam(write, missing)
        progress(total, total)
        return
    for written in zip(missing, on_all_cores(write, missing, num_workers=num_workers), strict=True):
        _check_rows(written)
        done += written[1]
        progress(done, total)


def write_expected(shard: Shard, *, parts: Path, first_rows: list[int], curated: Path, folder: Path) -> int:
    """Writes one shard; returns its number of rows."""
    lines = pq.read_table(
        curated / "places.parquet", filters=[("split", "==", shard.split), ("shard", "==", shard.number)]
    ).to_pylist()
    lines.sort(key=lambda line: line["position"])
    placeholders = set(pq.read_table(curated / "placeholders.parquet")["hash"].to_pylist())
    found = _part_rows(parts, first_rows, [line["row"] for line in lines])
    records = (
        record_of(part_row, line, placeholders=placeholders) for line, part_row in zip(lines, found, strict=True)
    )
    return shards.write_shard(_file(folder, shard), records)


def record_of(part_row: dict, line: dict, *, placeholders: set[bytes]) -> dict:
    """A record of `shards.FEATURES` from a row of a part and its line of the places."""
    images = zip(part_row["images"], part_row["image_hashes"], strict=True)
    return (
        {name: part_row[name] for name in shards.STORED_FIELDS}
        | {key: line[key] for key in shards.KEYS}
        | {
            "catalog_id": line["catalog_id"],
            "attributes": part_row["attributes"],
            "images": [image for image, image_hash in images if image_hash not in placeholders],
        }
    )


def _file(folder: Path, shard: Shard) -> Path:
    return shards.shard_file(folder, split=shard.split, shard=shard.number, num_shards=shard.of)


def _first_rows(parts: Path) -> list[int]:
    """The first row of every part, from the row counts in their footers."""
    files = itertools.takewhile(Path.exists, (part_file(parts, number) for number in itertools.count()))
    counts = [pq.read_metadata(file).num_rows for file in files]
    return list(itertools.accumulate(counts, initial=0))[:-1]


def _part_rows(parts: Path, first_rows: list[int], rows: list[int]) -> Iterator[dict]:
    """The lines of the parts with these row numbers, ascending; each group of rows is read once."""
    part_of = lambda row: bisect.bisect_right(first_rows, row) - 1
    for number, in_part in itertools.groupby(rows, key=part_of):
        offsets = [row - first_rows[number] for row in in_part]
        with pq.ParquetFile(part_file(parts, number)) as part:
            for group, in_group in itertools.groupby(offsets, key=lambda offset: offset // ROWS_PER_GROUP):
                places = [offset - group * ROWS_PER_GROUP for offset in in_group]
                yield from part.read_row_group(group, columns=COLUMNS).take(places).to_pylist()


def _on_beam(write: Callable[[Shard], int], missing: list[Shard]) -> None:
    """The same function under Apache Beam, on the runner that its own flags choose (the local one without any)."""
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UserError(
            "--config.runner=beam needs Apache Beam; pip install 'ecommerce_vl[beam]' in an environment of its own, "
            "or use --config.runner=processes"
        ) from error
    with beam.Pipeline() as pipeline:
        written = pipeline | beam.Create(missing) | beam.Reshuffle() | beam.Map(lambda shard: (shard, write(shard)))
        written | beam.Map(_check_rows)


def _check_rows(written: tuple[Shard, int]) -> None:
    shard, rows = written
    if rows != shard.rows:
        raise RuntimeError(f"{shard} has {rows} rows")
