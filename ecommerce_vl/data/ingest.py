"""From feed rows to parts: mapped, cleaned, their pictures checked, hashed and resized, all cores busy.

A part is a Parquet file of the next rows of the feed, and all that later stages need to know of them. Invariants: every
row of the feed is in exactly one part, in feed order, kept or rejected with a reason; a part depends on its rows and
the settings alone and appears whole or not at all, so a killed job goes on with the parts that are missing.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data import feed as feeds
from ecommerce_vl.data.cleaning import TextCleaning, clean_text, enough_words, without_markup
from ecommerce_vl.data.disk import disk_errors
from ecommerce_vl.data.image_checks import check_pixels
from ecommerce_vl.data.image_hash import perceptual_hash
from ecommerce_vl.data.images import ImageDefect, StoredForm, stored_image
from ecommerce_vl.data.links import LinkPolicy, read_link
from ecommerce_vl.data.near_duplicates import title_bands
from ecommerce_vl.data.record import SPLITS, TEXT_FIELDS, Product, encode_attribute, to_product
from ecommerce_vl.data.thumbnails import shrunk
from ecommerce_vl.data.values import Attribute
from ecommerce_vl.data.workers import on_all_cores
from ecommerce_vl.files import fresh_folder, whole_file

MAX_ID_LENGTH = 200
DESCRIBING = ("brand", "color", "material", "pattern", "size", "gender", "age_group")  # in a line beside the title
ROWS_PER_PART = 1024
BYTES_PER_PART = 64 << 20  # of pictures inside the rows; with them a part may have fewer rows
ROWS_PER_GROUP = 256  # of Parquet: a shard reads the groups that its rows are in
THUMBNAIL = 96  # pixels of a refused picture, kept for the report

DEFECT = pa.struct([("reason", pa.string()), ("detail", pa.string()), ("picture", pa.binary())])
ATTRIBUTE = pa.struct([("name", pa.string()), ("type", pa.string()), ("value", pa.string())])
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        *((name, pa.string()) for name in TEXT_FIELDS),
        ("attributes", pa.list_(ATTRIBUTE)),
        ("images", pa.list_(pa.binary())),
        ("image_hashes", pa.list_(pa.binary())),
        ("title_hash", pa.uint64()),
        ("title_bands", pa.list_(pa.uint64())),
        ("cleaned", pa.list_(pa.string())),  # rules that changed the text
        ("reject", pa.string()),  # "" where the row is kept so far
        ("reject_detail", pa.string()),
        ("repairs", pa.list_(DEFECT)),
    ]
)


@dataclasses.dataclass(frozen=True)
class IngestSettings:
    """How a row becomes a line of a part; see `configs/prepare.py`.

    Args:
      columns: the user's own mapping, canonical name -> column.
      max_aspect: of a picture, longer over shorter side; 0 allows any.
      min_luma_std: standard deviation of brightness as a share of white, below which a picture is blank; 0 allows any.
    """

    columns: Mapping[str, str]
    text: TextCleaning
    form: StoredForm
    links: LinkPolicy
    max_aspect: float
    min_luma_std: float
    bands: bool  # whether near-duplicate titles will be looked for
    adult_sellers: frozenset[str] = frozenset()  # whose products are adult ones where the feed does not say

    @classmethod
    def of(cls, config: Mapping[str, Any], columns: Mapping[str, str]) -> IngestSettings:
        """The settings that a config gives."""
        images = config["images"]
        return cls(
            columns=columns,
            text=TextCleaning(**config["text"]),
            form=StoredForm(**{field.name: images[field.name] for field in dataclasses.fields(StoredForm)}),
            links=LinkPolicy(**{field.name: _hosts(images[field.name]) for field in dataclasses.fields(LinkPolicy)}),
            max_aspect=images["max_aspect"],
            min_luma_std=images["min_luma_std"],
            bands=config["identity"]["near_duplicates"],
            adult_sellers=frozenset(config["adult_sellers"]),
        )


def _hosts(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The rows of one part, as the feed has them, each with the place that its links are relative to."""

    number: int
    first_row: int
    rows: list[tuple[str, Mapping[str, Any] | feeds.BadRow]]


def ingest(
    sources: list[feeds.FeedSource],
    folder: Path,
    *,
    settings: IngestSettings,
    num_workers: int,
    progress: Callable[[int, int | None], None],
) -> int:
    """Writes the parts of a feed into a folder, but those that are already there; returns the number of rows."""
    fresh_folder(folder)
    estimates = [feeds.estimated_rows(source) for source in sources]
    total = None if None in estimates else sum(estimates)
    num_rows = done = 0

    def missing() -> Iterator[Chunk]:
        nonlocal num_rows, done
        for chunk in chunks(sources):
            num_rows += len(chunk.rows)
            if part_file(folder, chunk.number).exists():
                done += len(chunk.rows)
            else:
                yield chunk

    write = partial(write_part, folder=folder, settings=settings)
    for written in on_all_cores(write, missing(), num_workers=num_workers):
        done += written
        progress(done, max(total, done + 1) if total is not None else None)
    progress(num_rows, num_rows)
    return num_rows


def chunks(sources: Iterable[feeds.FeedSource]) -> Iterator[Chunk]:
    """The rows of all sources in order, cut where a part ends; the cuts depend on the feed alone."""
    number, first, held, rows = 0, 0, 0, []
    for source in sources:
        for row in feeds.read_rows(source):
            rows.append((source.root, row))
            held += _inline_bytes(row)
            if len(rows) == ROWS_PER_PART or held >= BYTES_PER_PART:
                yield Chunk(number, first, rows)
                number, first, held, rows = number + 1, first + len(rows), 0, []
    if rows:
        yield Chunk(number, first, rows)


def part_file(folder: Path, number: int) -> Path:
    """Where a part lies."""
    return folder / f"part-{number:07d}.parquet"


def write_part(chunk: Chunk, *, folder: Path, settings: IngestSettings) -> int:
    """Writes the part of a chunk, whole or not at all; returns its number of rows."""
    with concurrent.futures.ThreadPoolExecutor(16 if settings.links.fetch else 1) as pool:  # fetching is waiting
        numbered = enumerate(chunk.rows, start=chunk.first_row)
        lines = pool.map(lambda item: line_of(item[1][1], number=item[0], root=item[1][0], settings=settings), numbered)
        table = pa.Table.from_pylist(list(lines), schema=SCHEMA)
    with disk_errors(folder), whole_file(part_file(folder, chunk.number)) as unfinished:
        # Pictures are compressed already; the dictionary of a column of hashes only costs memory.
        pq.write_table(table, unfinished, row_group_size=ROWS_PER_GROUP, compression="lz4", use_dictionary=False)
    return len(chunk.rows)


def line_of(
    row: Mapping[str, Any] | feeds.BadRow, *, number: int, root: str, settings: IngestSettings
) -> dict[str, Any]:
    """One row of `SCHEMA`."""
    if isinstance(row, feeds.BadRow):
        return _rejected(number, row.reason, row.detail)
    product = to_product(row, row_number=number, columns=settings.columns)
    defect = identity_defect(product)
    if defect:
        return _rejected(number, *defect, name=product.id)
    repairs = [_defect(*repair) for repair in product.repairs]
    text, attributes, cleaned = _cleaned(product, settings.text, repairs)
    if text["adult"] == "unknown" and text["seller_id"] in settings.adult_sellers:
        text["adult"] = "yes"
        repairs.append(_defect("adult_by_seller", f"seller {text['seller_id']!r}"))
    pictures = _Pictures()
    for link in product.images:
        try:
            pictures.add(link, root=root, settings=settings)
        except ImageDefect as found:
            repairs.append(_defect(found.reason, found.detail, picture=getattr(found, "picture", None)))
    title = text["title"]
    return {
        "row": number,
        **text,
        "attributes": [_attribute(name, value) for name, value in attributes.items()],
        "images": pictures.stored,
        "image_hashes": pictures.hashes,
        "title_hash": title_hash(title) if title else None,
        "title_bands": title_bands(title).tolist() if title and settings.bands else None,
        "cleaned": cleaned,
        "reject": "",
        "reject_detail": "",
        "repairs": repairs,
    }


def identity_defect(product: Product) -> tuple[str, str] | None:
    """(reason, detail) why a row cannot be a product whatever else it holds, None if it can."""
    if not product.id:
        return "missing_id", f"title {product.title[:60]!r}"
    if len(product.id) > MAX_ID_LENGTH:
        return "id_too_long", f"{len(product.id)} characters, limit {MAX_ID_LENGTH}"
    if product.split and product.split not in SPLITS:
        return "unknown_split", f"{product.split!r}, expected one of {', '.join(SPLITS)}"
    return None


def title_hash(title: str) -> int:
    """64 bits of a title, the same for titles that differ in case and spaces only."""
    digest = hashlib.blake2b(" ".join(title.casefold().split()).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


class _Pictures:
    """The pictures of one product that passed, in order, as they will be stored."""

    def __init__(self):
        self.stored: list[bytes] = []
        self.hashes: list[bytes] = []

    def add(self, link: str | bytes, *, root: str, settings: IngestSettings) -> None:
        """Reads and checks one picture.

        Errors: ImageDefect, with a thumbnail under `picture` if it could be decoded.
        """
        stored, image = stored_image(read_link(link, root=root, policy=settings.links), settings.form)
        reason = check_pixels(image, max_aspect=settings.max_aspect, min_luma_std=settings.min_luma_std)
        if reason:
            refused = ImageDefect(reason, f"{image.width}x{image.height}")
            refused.picture = shrunk(image, pixels=THUMBNAIL)
            raise refused
        self.stored.append(stored)
        self.hashes.append(perceptual_hash(image))


def _cleaned(
    product: Product, cleaning: TextCleaning, repairs: list[dict]
) -> tuple[dict[str, str], dict[str, Attribute], list[str]]:
    """Texts and attributes of a product after the rules, and which changed something; a title without words is none."""
    text, attributes = dict(product.text), dict(product.attributes)
    changed: set[str] = set()
    if cleaning.html:  # what describes a product is read beside its title, and is no sentence: no other rule applies
        for values, names in ((text, DESCRIBING), (attributes, list(attributes))):
            for name in names:
                if isinstance(values[name], (str, list)) and (shown := without_markup(values[name])) != values[name]:
                    values[name] = shown
                    changed.add("html")
        attributes = {name: value for name, value in attributes.items() if value not in ("", [])}
    for name in ("title", "description"):
        if text[name]:
            text[name], rules = clean_text(text[name], cleaning)
            changed.update(rules)
    if product.title and not enough_words(text["title"], cleaning):
        repairs.append(_defect("title_without_words", f"{product.title[:60]!r}"))
        text["title"] = ""
    return text, attributes, sorted(changed)


def _rejected(number: int, reason: str, detail: str, *, name: str = "") -> dict[str, Any]:
    return {"row": number, **dict.fromkeys(TEXT_FIELDS, ""), "id": _valid(name[:MAX_ID_LENGTH])} | {
        "reject": reason,
        "reject_detail": _valid(detail),
        "repairs": [],
        "cleaned": [],
        "image_hashes": [],
    }


def _defect(reason: str, detail: str, picture: bytes | None = None) -> dict[str, Any]:
    return {"reason": reason, "detail": _valid(detail), "picture": picture}


def _attribute(name: str, value: Any) -> dict[str, str]:
    kind, text = encode_attribute(value)
    return {"name": name, "type": kind, "value": text}


def _valid(text: str) -> str:
    """A detail may quote broken text; Parquet strings must be valid UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _inline_bytes(value: Any, depth: int = 3) -> int:
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if depth and isinstance(value, Mapping):
        return sum(_inline_bytes(item, depth - 1) for item in value.values())
    if depth and isinstance(value, (list, tuple)):
        return sum(_inline_bytes(item, depth - 1) for item in value)
    return 0
