"""From a feed to shards: read twice, first the identities, then the pictures.

The first pass decides ids, keys and splits from text alone; the second checks pictures in threads and writes the
shards in feed order. Invariants: rows in = rows out + rejects, or it fails; a damaged picture costs the picture, not
the product; the output folder appears complete or not at all; the same feed and settings give the same bytes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import shutil
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data import feed as feeds
from ecommerce_vl.data import shards, split
from ecommerce_vl.data.images import ImageDefect, stored_image
from ecommerce_vl.data.prepared import SUMMARY
from ecommerce_vl.data.record import ALIASES, SPLITS, Product, field_of, to_product
from ecommerce_vl.errors import UserError

MAX_ID_LENGTH = 200
FORMAT_VERSION = 1  # raise when the same feed and settings give other shards, so that old ones are not taken for new


@dataclasses.dataclass(frozen=True)
class Reject:
    """A row that is not in the shards, or (in `repairs.parquet`) what a kept row lost."""

    row: int
    id: str
    reason: str
    detail: str


@dataclasses.dataclass
class Plan:
    """What the first pass decided: the fate and the keys of every row."""

    num_rows: int
    rejects: list[Reject]
    rows: dict[int, Mapping[str, Any]]  # row number -> split and keys, for rows not rejected yet
    split_counts: dict[str, int]
    ignored_keys: dict[str, int]  # kind of key -> rows whose key is on too many rows to be an identity


def prepare_feed(
    feed: str, out: Path, *, config: Mapping[str, Any], progress: Callable[[str], Callable[[int, int], None]]
) -> dict:
    """Writes the shards, index and summary of a feed into `out`; returns the summary.

    Args:
      feed: as `--feed`, already a path (see `feeds.feed_files`).
      out: a folder; files of an earlier preparation in it are replaced.
      config: see `configs/prepare.py`.
      progress: makes the progress callback of a named stage.

    Errors: UserError for a missing or empty feed, a wrong column mapping and settings out of range.
    """
    validate(config)
    files = feeds.feed_files(feed)
    columns = parse_columns(config["columns"], files)
    plan = _plan(files, columns, config)
    partial = out / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        summary = _write(files, columns, plan, partial, config, progress("prepare"))
        # The summary is the mark of completeness, so the old one goes first and the new one comes last.
        (out / SUMMARY).unlink(missing_ok=True)
        for old in out.glob(f"{shards.DATASET}-*.array_record-*"):
            old.unlink()
        for file in sorted(partial.iterdir(), key=lambda file: file.name == SUMMARY):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def read_summary(out: Path) -> dict | None:
    """The summary of what was prepared into a folder, None where there is none.

    Errors: UserError if the file is not one of ours, so that nobody's file is taken for it or replaced.
    """
    file = out / SUMMARY
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        return summary if summary["request"] else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no summary of a preparation ({error}); remove it or name another --out") from error


def validate(config: Mapping[str, Any]) -> None:
    """Checks the settings before any work.

    Errors: UserError naming every setting that is out of range.
    """
    images, fractions = config["images"], config["split"]["fractions"]
    shares = isinstance(fractions, (list, tuple)) and all(isinstance(share, (int, float)) for share in fractions)
    checks = [
        ("rows_per_shard", config["rows_per_shard"], "at least 1", config["rows_per_shard"] >= 1),
        ("images.max_pixels", images["max_pixels"], "at least 1", images["max_pixels"] >= 1),
        ("images.min_side", images["min_side"], "at least 1", images["min_side"] >= 1),
        ("images.max_side", images["max_side"], "from 16 to 65500, JPEG's limit", 16 <= images["max_side"] <= 65_500),
        ("images.quality", images["quality"], "from 1 to 95", 1 <= images["quality"] <= 95),
        (
            "split.fractions",
            fractions,
            "three shares of train, validation and test that add up to 1, such as (0.8, 0.1, 0.1)",
            shares and len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6,
        ),
    ]
    wrong = [f"--config.{name} is {value!r}, expected {expected}" for name, value, expected, good in checks if not good]
    if wrong:
        raise UserError("; ".join(wrong))


def parse_columns(text: str, files: list[Path]) -> dict[str, str]:
    """The user's mapping "title=Product name,image_link=photo" as canonical name -> column.

    Errors: UserError if a canonical name is unknown or a column is in no file.
    """
    columns: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, column = (part.strip() for part in pair.partition("="))
        if name not in ALIASES or not column:
            raise UserError(
                f"--config.columns has {pair!r}; expected FIELD=COLUMN where FIELD is one of {', '.join(ALIASES)}"
            )
        columns[name] = column
    if columns:
        found = sorted({column for file in files for column, _ in feeds.columns_of(file)})
        missing = [column for column in columns.values() if column not in found]
        if missing:
            raise UserError(
                f"--config.columns names the column {missing[0]!r}, which is not in the feed; "
                f"found {', '.join(found)}. Name one of these."
            )
    return columns


def explain_columns(files: list[Path], columns: Mapping[str, str]) -> list[tuple[str, str]]:
    """(column, what it becomes) for every column of the first rows, nested attributes as `attributes.name`."""
    seen: dict[str, str] = {}
    for file in files:
        for column, nested in feeds.columns_of(file):
            # Names in a wrong encoding would break the terminal and prepare.json.
            shown = f"{'attributes.' if nested else ''}{column}".encode("utf-8", "replace").decode()
            seen.setdefault(shown, field_of(column, nested=nested, columns=columns) or "attribute")
    return list(seen.items())


def _rows(files: list[Path], columns: Mapping[str, str]) -> Iterator[tuple[Path, Product | feeds.BadRow]]:
    """Every row of the feed with the folder that its links are relative to."""
    number = 0
    for file in files:
        for row in feeds.read_rows(file):
            bad = isinstance(row, feeds.BadRow)
            yield file.parent, row if bad else to_product(row, row_number=number, columns=columns)
            number += 1


def _plan(files: list[Path], columns: Mapping[str, str], config: Mapping[str, Any]) -> Plan:
    rejects: list[Reject] = []
    kept: list[dict] = []
    seen: set[str] = set()
    keys_of_row = []
    num_rows = 0
    for number, (_, product) in enumerate(_rows(files, columns)):
        num_rows += 1
        if isinstance(product, feeds.BadRow):
            rejects.append(Reject(number, "", product.reason, product.detail))
        elif defect := _identity_defect(product, seen):
            rejects.append(Reject(number, product.id, *defect))
        else:
            seen.add(product.id)
            keys_of_row.append(split.identity_keys(product))
            kept.append(
                {
                    "row": number,
                    "id": product.id,
                    "split": product.split,
                    "catalog": split.product_identity(product),
                    "group": ("item_group_id", product.item_group_id) if product.item_group_id else None,
                    "category": product.product_type or None,
                }
            )
    if not kept:
        raise _no_product(files, rejects)
    void = split.void_keys(keys_of_row)
    for row in kept:
        row |= {name: None for name in ("catalog", "group") if row[name] in void}
    splits, counts = split.assign_splits(
        [row["id"] for row in kept],
        [row["split"] for row in kept],
        split.components(keys_of_row, void=void),
        fractions=tuple(config["split"]["fractions"]),
        seed=config["split"]["seed"],
    )
    numbers = {name: _numbered(row[name] for row in kept) for name in ("catalog", "group", "category")}
    rows = {
        row["row"]: {"split": own_split} | {f"{name}_key": numbers[name].get(row[name], -1) for name in numbers}
        for row, own_split in zip(kept, splits, strict=True)
    }
    ignored: collections.Counter = collections.Counter()
    for (kind, _), count in sorted(void.items()):
        ignored[kind] += count
    return Plan(num_rows=num_rows, rejects=rejects, rows=rows, split_counts=counts, ignored_keys=dict(ignored))


def _no_product(files: list[Path], rejects: list[Reject]) -> UserError:
    reasons = ", ".join(f"{n} {reason}" for reason, n in _count(rejects).items()) or "no rows at all"
    example = f"; row {rejects[0].row}: {rejects[0].detail}" if rejects and rejects[0].detail else ""
    return UserError(
        f"--feed has no usable product in {', '.join(map(str, files))}: found {reasons}{example}; "
        "expected rows with an id and a title or a picture. Run with --explain to see what each column becomes."
    )


def _identity_defect(product: Product, seen: set[str]) -> tuple[str, str] | None:
    if not product.id:
        return "missing_id", f"title {product.title[:60]!r}"
    if len(product.id) > MAX_ID_LENGTH:
        return "id_too_long", f"{len(product.id)} characters, limit {MAX_ID_LENGTH}"
    if product.id in seen:
        return "duplicate_id", f"an earlier row has the id {product.id}"
    if product.split and product.split not in SPLITS:
        return "unknown_split", f"{product.split!r}, expected one of {', '.join(SPLITS)}"
    return None


def _numbered(values: Iterator[str | split.Key | None]) -> dict[str | split.Key, int]:
    """Distinct values but None -> 0, 1, ... in sorted order, so that the order of the feed does not matter."""
    return {value: number for number, value in enumerate(sorted({value for value in values if value is not None}))}


def _write(files, columns, plan: Plan, folder: Path, config, progress) -> dict:
    rejects, repairs, index = list(plan.rejects), [], []
    writers = {name: shards.ShardWriter(folder, split=name, rows_per_shard=config["rows_per_shard"]) for name in SPLITS}
    rows = ((root, product) for root, product in _rows(files, columns) if getattr(product, "row", None) in plan.rows)
    product_key = 0
    for done, (product, images, defects) in enumerate(_with_images(rows, config["images"]), start=1):
        lost = [Reject(product.row, product.id, defect.reason, defect.detail) for defect in defects]
        if not product.title and not images:
            reason = lost[0] if lost else Reject(product.row, product.id, "no_image_and_no_title", "")
            rejects.append(reason)
        else:
            repairs += lost
            repairs += [Reject(product.row, product.id, *repair) for repair in product.repairs]
            keys = plan.rows[product.row]
            # Unknown ids are negative and all different, so that an equality test never joins two unknowns.
            own = {name: keys[name] if keys[name] >= 0 else -(product_key + 1) for name in shards.KEYS[1:]}
            record = {name: product.text[name] for name in shards.STORED_FIELDS}
            record |= {"product_key": product_key} | own
            record["attributes"] = [{"name": name, "value": value} for name, value in product.attributes.items()]
            record["images"] = images
            writer = writers[keys["split"]]
            index.append(
                {
                    "id": product.id,
                    "split": keys["split"],
                    "position": sum(writer.shard_rows),
                    "product_key": product_key,
                    **own,
                    "num_images": len(images),
                    "has_text": bool(product.title),
                    "category": product.product_type,
                }
            )
            writer.write(record)
            product_key += 1
        progress(done, len(plan.rows))
    if not index:
        raise _no_product(files, rejects)
    shards.write_metadata(folder, [writer.close() for writer in writers.values() if writer.shard_rows])
    pq.write_table(pa.Table.from_pylist(index), folder / "index.parquet")
    _write_rejects(folder / "rejects.parquet", rejects)
    _write_rejects(folder / "repairs.parquet", repairs)
    summary = {
        "rows_in": plan.num_rows,
        "rows_out": len(index),
        "rejects": _count(rejects),
        "repairs": _count(repairs),
        "splits": {name: sum(writers[name].shard_rows) for name in SPLITS},
        "with_image": sum(row["num_images"] > 0 for row in index),
        "with_title": sum(row["has_text"] for row in index),
        "images": sum(row["num_images"] for row in index),
        "categories": len({row["category"] for row in index if row["category"]}),
        "split_given": plan.split_counts["given"],
        "split_leaking": plan.split_counts["leaking"],
        "ignored_keys": plan.ignored_keys,
        "columns": dict(explain_columns(files, columns)),
        "request": request_digest(files, config),
        "fingerprint": shards.fingerprint(folder),
    }
    if summary["rows_in"] != summary["rows_out"] + len(rejects):
        raise RuntimeError(
            f"rows do not add up: {summary['rows_in']} in, {summary['rows_out']} out, {len(rejects)} rejected"
        )
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def request_digest(files: list[Path], config: Mapping[str, Any]) -> str:
    """Digest of the feed files and the settings: the same one means there is nothing to prepare again.

    Pictures beside the feed are not part of it, since finding them would cost a parse of the feed.
    """
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, config], sort_keys=True).encode())
    for file in files:
        with open(file, "rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _with_images(rows, config) -> Iterator[tuple[Product, list[bytes], list[ImageDefect]]]:
    """Loads and checks the pictures of every product in threads (the codecs release the lock), in feed order."""
    workers = os.cpu_count() or 1
    waiting: collections.deque = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for root, product in rows:
            waiting.append((product, pool.submit(_product_images, product, root, config)))
            if len(waiting) > 32 * workers:
                first, future = waiting.popleft()
                yield first, *future.result()
        for first, future in waiting:
            yield first, *future.result()


def _product_images(product: Product, root: Path, config) -> tuple[list[bytes], list[ImageDefect]]:
    images, defects = [], []
    for link in product.images:
        try:
            data = link if isinstance(link, bytes) else _read_link(link, root)
            images.append(
                stored_image(
                    data,
                    max_pixels=config["max_pixels"],
                    min_side=config["min_side"],
                    max_side=config["max_side"],
                    quality=config["quality"],
                )
            )
        except ImageDefect as defect:
            defects.append(defect)
    return images, defects


def _read_link(link: str, root: Path) -> bytes:
    """The bytes behind a path relative to the feed.

    Errors: ImageDefect `image_not_fetched` for a URL, `image_outside_feed` for a path that leaves the feed's folder,
    `missing_image_file`.
    """
    if "://" in link:
        raise ImageDefect("image_not_fetched", f"{link[:200]} is remote; download it beside the feed first")
    try:
        path = (root / link).resolve()
        if "%" in link and not path.exists():
            path = (root / urllib.parse.unquote(link)).resolve()
        if not path.is_relative_to(root.resolve()):
            raise ImageDefect("image_outside_feed", f"{link[:200]} leaves {root}")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL in it; RuntimeError: links in a circle
        raise ImageDefect("missing_image_file", f"{link[:200]}: {type(error).__name__}") from error


def _count(rejects: list[Reject]) -> dict[str, int]:
    return dict(sorted(collections.Counter(reject.reason for reject in rejects).items()))


def _write_rejects(file: Path, rejects: list[Reject]) -> None:
    schema = pa.schema([("row", pa.int64()), ("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
    rows = [dataclasses.asdict(reject) for reject in sorted(rejects, key=lambda reject: reject.row)]
    # A detail may quote broken text; Parquet strings must be valid UTF-8.
    for row in rows:
        row |= {name: row[name].encode("utf-8", "replace").decode() for name in ("id", "detail")}
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
