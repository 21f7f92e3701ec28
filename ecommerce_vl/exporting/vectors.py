"""The export job: all products of a split (or of all) as Parquet parts with a manifest.

    OUT/part-00000-of-00004.parquet   OUT/thumbnails/part-….parquet   OUT/rejects.parquet
    OUT/manifest.json                 OUT/_receipts/part-….json       OUT/_SUCCESS (last)

Invariants: rows in = rows out + rejects, counted again from the written files, or there is no `_SUCCESS`; the same
command after a kill makes only the parts that are missing or damaged and ends with the same bytes; vectors of two
spaces never meet in one folder. Nothing depends on time or place.
"""

from __future__ import annotations

import collections
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import tensorflow_datasets as tfds

from ecommerce_vl import files
from ecommerce_vl.data.prepared import SUMMARY, PreparedData
from ecommerce_vl.data.record import SPLITS
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting import manifest, thumbnails
from ecommerce_vl.exporting.parts import RECEIPTS, Part, ViewEncoder, read_receipt, write_part
from ecommerce_vl.exporting.tables import write_table

REQUEST = f"{RECEIPTS}/request.json"
REJECTS = "rejects.parquet"
SUCCESS = "_SUCCESS"
INDEX = "index"  # folder of what `exporting/index.py` makes of the vectors
ALL = "all"


def export_vectors(
    encoder: ViewEncoder,
    *,
    data: PreparedData,
    split: str,
    out: Path,
    pictures: bool = True,
    overwrite: bool = False,
    progress: Callable[[int, int], None],
    log: Callable[[str], None] = print,
) -> dict[str, Any] | None:
    """Writes the vectors of a split into `out`; returns the manifest, or None if they were already there.

    Args:
      split: one of `SPLITS`, or "all".
      pictures: False leaves the thumbnails out; titles and categories stay.
      overwrite: replaces what an export of another model or other data left in `out`.
      progress: receives (rows done, rows to do) of this run.
      log: receives a line about what an earlier run left.

    Errors: UserError for an empty split, damaged data, or an `out` that holds something else.
    """
    plan, ids = plan_parts(data, split)
    request = {
        "schema_version": manifest.SCHEMA_VERSION,
        "space_id": encoder.space_id,
        "trained_on": encoder.trained_on,
        "fingerprint": data.fingerprint,
        "split": split,
        "thumbnails": pictures,
        "parts": len(plan),
    }
    claim(out, request, data=data, overwrite=overwrite)
    receipts = {part: receipt for part in plan if (receipt := read_receipt(out, part)) and receipt.holds(out)}
    missing = [part for part in plan if part not in receipts]
    if not missing and (out / SUCCESS).exists():
        return None
    if receipts:
        log(f"resume   {len(receipts)} of {len(plan)} parts are already there")
    (out / SUCCESS).unlink(missing_ok=True)
    count = Count(sum(part.stop - part.start for part in missing), progress)
    for part in missing:
        receipts[part] = write_part(
            part,
            encoder=encoder,
            data=data.folder,
            ids=ids[part.split][part.start : part.stop],
            out=out,
            pictures=pictures,
            progress=count,
        )
    ordered = [receipts[part] for part in plan]
    rejects = [reject for receipt in ordered for reject in receipt.rejects]
    columns = zip(*rejects, strict=True) if rejects else ([], [], [])
    names = ("id", "reason", "detail")
    fields = pa.schema([(name, pa.string()) for name in names])
    write_table(out / REJECTS, pa.table(dict(zip(names, map(list, columns), strict=True)), schema=fields))
    content = manifest.build(encoder, out=out, receipts=ordered, data=data, split=split, pictures=pictures)
    rows_in = sum(part.stop - part.start for part in plan)
    if content["rows"] + content["rejects"]["count"] != rows_in:
        raise RuntimeError(
            f"rows do not add up: {rows_in} in, {content['rows']} out, {content['rejects']['count']} rejected"
        )
    files.write_json(out / manifest.FILE, content)
    (out / SUCCESS).touch()
    return content


class Count:
    """Adds up the rows that parts report."""

    def __init__(self, total: int, progress: Callable[[int, int], None]):
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, rows: int) -> None:
        self.done += rows
        self.progress(self.done, self.total)


def plan_parts(data: PreparedData, split: str) -> tuple[list[Part], dict[str, list[str]]]:
    """One part per shard of the splits asked for, and the ids of each split in shard order.

    Errors: UserError if there are no rows, an id is there twice, or shards, index and summary count differently.
    """
    if split not in (*SPLITS, ALL):
        raise UserError(f"--split={split}: expected one of {', '.join((ALL, *SPLITS))}")
    stored = tfds.builder_from_directory(str(data.folder)).info.splits
    ranges, ids = [], {}
    for name in SPLITS if split == ALL else (split,):
        lengths = list(stored[name].shard_lengths) if name in stored else []
        ids[name] = data.rows(name)["id"].tolist()
        counts = {"shards": sum(lengths), "index.parquet": len(ids[name]), SUMMARY: data.summary["splits"][name]}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{rows} in {where}" for where, rows in counts.items())
            raise UserError(
                f"--data={data.folder} is damaged: the {name} split has different numbers of rows ({found}); "
                "run python -m ecommerce_vl.prepare again"
            )
        ends = [sum(lengths[: shard + 1]) for shard in range(len(lengths))]
        ranges += [(name, end - length, end) for length, end in zip(lengths, ends, strict=True)]
    every = [product_id for own in ids.values() for product_id in own]
    if not every:
        raise UserError(f"--data={data.folder} has no products in --split={split}; choose another split")
    if len(set(every)) < len(every):
        twice = collections.Counter(every).most_common(1)[0][0]
        raise UserError(f"--data={data.folder} has the id {twice!r} twice; run python -m ecommerce_vl.prepare again")
    return [Part(number, len(ranges), *span) for number, span in enumerate(ranges)], ids


def claim(out: Path, request: Mapping[str, Any], *, data: PreparedData, overwrite: bool) -> None:
    """Makes `out` the folder of this request, or checks that it already is.

    Errors: UserError if it holds vectors of another space, other data or settings, or files of unknown origin.
    """
    found = _found(out)
    if found and found != request:
        if not overwrite:
            raise UserError(f"--out={out} holds {_difference(found, request)}; name another folder or add --overwrite")
        clear(out)
        found = None
    for folder in (out, out / thumbnails.FOLDER, out / RECEIPTS):
        files.fresh_folder(folder)
    if not found:
        files.write_json(out / REQUEST, request)


def clear(out: Path) -> None:
    """Removes what an export wrote, the mark of completeness first; other files stay."""
    (out / SUCCESS).unlink(missing_ok=True)
    for pattern in ("part-*.parquet*", f"{thumbnails.FOLDER}/part-*.parquet*"):
        for file in out.glob(pattern):
            file.unlink()
    for name in (REJECTS, manifest.FILE):
        (out / name).unlink(missing_ok=True)
    for folder in (RECEIPTS, INDEX):
        shutil.rmtree(out / folder, ignore_errors=True)


def _found(out: Path) -> dict[str, Any] | None:
    """The request that a folder belongs to, {} with the space alone for vectors without one, None for a new folder."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out} is a file; expected a folder for the vectors")
    if (out / REQUEST).exists():
        return json.loads((out / REQUEST).read_text(encoding="utf-8"))
    if (out / manifest.FILE).exists():
        try:
            return {"space_id": json.loads((out / manifest.FILE).read_text(encoding="utf-8"))["space_id"]}
        except (ValueError, KeyError, TypeError):
            return {"space_id": None}
    return {"space_id": None} if any(out.glob("part-*.parquet")) else None


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    if found.get("space_id") is None:
        return "Parquet parts of unknown origin"
    if found["space_id"] != wanted["space_id"]:
        return f"vectors of the space {found['space_id']}, but the model makes space {wanted['space_id']}"
    if "fingerprint" not in found:
        return f"vectors without their {RECEIPTS} folder"
    if found["fingerprint"] != wanted["fingerprint"]:
        return (
            f"vectors of other data (fingerprint {found['fingerprint'][:12]}, that of --data is "
            f"{wanted['fingerprint'][:12]})"
        )
    names = [name for name in wanted if found.get(name) != wanted[name]]
    return "vectors made with " + ", ".join(f"{name} {found.get(name)} (now {wanted[name]})" for name in names)
