"""What engines join with: products and distinct query texts as Parquet files, made in Python batch by batch.

Normalising text and hashing ids here, once per distinct value, makes every engine see the same values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.logs.words import as_query, content_words, hash64
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.errors import UserError

BATCH = 50_000
SPLITS = ("train", "validation", "test")
PRODUCTS = pa.schema(
    [(name, pa.int64()) for name in ("product", "category", "title_hash", "catalog", "group", "order", "draw")]
    + [(name, pa.string()) for name in ("id", "split", "seller", "image_hash", "words")]
)
TEXTS = pa.schema([("text", pa.string()), ("query_key", pa.int64()), ("private", pa.bool_())])
QUERIES = pa.schema(
    [
        *[("query_key", pa.int64()), ("query", pa.string()), ("query_split", pa.string())],
        *[("draw", pa.int64()), ("navigational", pa.bool_())],
    ]
)
WORDS = pa.schema([("query_key", pa.int64()), ("word", pa.string())])
_INDEX = ("id", "split", "product_key", "catalog_key", "group_key", "category", "title", "seller_id", "image_hash")


def write_products(index: Path, file: Path, settings: Settings) -> int:
    """Writes `PRODUCTS` of the index that prepare wrote; returns the number of products.

    `order` is a hash of the id with the seed, which decides directions and ties; `draw` one below 2^31.

    Errors: UserError if the index is missing or older than its columns.
    """
    if not index.exists():
        raise UserError(f"{index} is missing; logs are mined for prepared products: run prepare with --feed first")
    table = pq.ParquetFile(index, pre_buffer=False)  # which would keep all that was read
    missing = [name for name in (*_INDEX, "title_hash") if name not in table.schema_arrow.names]
    if missing:
        raise UserError(f"{index} has no column {missing[0]}; it is of an older version: run prepare again")
    with pq.ParquetWriter(file, PRODUCTS) as writer:
        for batch in table.iter_batches(BATCH, columns=[*_INDEX, "title_hash"]):
            column = {name: batch.column(name).to_pylist() for name in (*_INDEX, "title_hash")}
            rows = {
                "product": column["product_key"],
                "category": [_category(path, settings.category_level) for path in column["category"]],
                "title_hash": [_signed(value) for value in column["title_hash"]],
                "catalog": column["catalog_key"],
                "group": column["group_key"],
                "order": [hash64(name, seed=settings.seed) for name in column["id"]],
                "draw": [_draw(name, settings.seed) for name in column["id"]],
                "id": column["id"],
                "split": column["split"],
                "seller": [name or None for name in column["seller_id"]],
                "image_hash": [value or "" for value in column["image_hash"]],
                "words": [" " + " ".join(content_words(title or "")) + " " for title in column["title"]],
            }
            writer.write_table(pa.table(rows, schema=PRODUCTS))
    return table.metadata.num_rows


def write_queries(batches: Iterator[Sequence[str]], folder: Path, settings: Settings) -> int:
    """Writes texts.parquet (`TEXTS`), queries.parquet (`QUERIES`) and words.parquet (`WORDS`) of distinct texts.

    Texts that normalise to one query share its key; queries and words have a row per key. A query's split is drawn by
    its set of content words, so that no rearrangement of a training query is called novel.
    """
    seen: set[int] = set()
    writers = {
        name: pq.ParquetWriter(folder / f"{name}.parquet", schema)
        for name, schema in (("texts", TEXTS), ("queries", QUERIES), ("words", WORDS))
    }
    try:
        for texts in batches:
            queries = [as_query(text) for text in texts]
            # A query of spaces or control characters asks for nothing, so it is left out like a private one.
            private = [query.private or not query.text for query in queries]
            rows = {"text": list(texts), "query_key": [query.key for query in queries], "private": private}
            writers["texts"].write_table(pa.table(rows, schema=TEXTS))
            fresh = []
            for query, hidden in zip(queries, private, strict=True):
                if query.key not in seen and not hidden:
                    seen.add(query.key)
                    fresh.append(query)
            sets = [" ".join(sorted(query.words)) or query.text for query in fresh]
            rows = {
                "query_key": [query.key for query in fresh],
                "query": [query.text for query in fresh],
                "query_split": [_split(words, settings) for words in sets],
                "draw": [_draw(query.text, settings.seed) for query in fresh],
                "navigational": [query.navigational for query in fresh],
            }
            writers["queries"].write_table(pa.table(rows, schema=QUERIES))
            words = [(query.key, word) for query in fresh for word in query.words]
            rows = {"query_key": [key for key, _ in words], "word": [word for _, word in words]}
            writers["words"].write_table(pa.table(rows, schema=WORDS))
    finally:
        for writer in writers.values():
            writer.close()
    return len(seen)


def _category(path: str | None, level: str) -> int | None:
    parts = [part for part in (path or "").split(CATEGORY_SEPARATOR) if part.strip()]
    if not parts:
        return None
    if level.isdecimal():
        parts = parts[: int(level)]
    return hash64(CATEGORY_SEPARATOR.join(parts).lower())


def _signed(value: int | None) -> int | None:
    return None if value is None else value - 2**64 if value >= 2**63 else value


def _draw(text: str, seed: int) -> int:
    digest = hashlib.blake2b(f"draw:{seed}:{text}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def _split(words: str, settings: Settings) -> str:
    drawn = _draw(words, settings.seed) / 2**31
    train, validation, _ = settings.query_fractions
    return SPLITS[0] if drawn < train else SPLITS[1] if drawn < train + validation else SPLITS[2]
