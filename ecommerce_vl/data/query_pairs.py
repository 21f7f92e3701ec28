"""The source "query_pairs": a query with a product clicked for it, from a log, a file, or the products themselves.

Products are stored once; a pair is a row of a table over them. Invariants: an item is read by its number alone; pairs
of training products only; what is known of a query (its other clicked products, its keywords) comes from clicks
of training, so nothing of a held-out click reaches it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_vl.data.batches import Batch, ToExample
from ecommerce_vl.data.derived_queries import derived_queries
from ecommerce_vl.data.logs.tables import QUERY_KNOWN, QUERY_PAIRS
from ecommerce_vl.data.logs.words import content_words, hash64, normalised
from ecommerce_vl.data.prepared import PreparedData, Records, digest_of
from ecommerce_vl.data.product_ids import id_row
from ecommerce_vl.data.sampling import Deck, Order
from ecommerce_vl.data.seed_model.agreement import LEFT_OUT, TOO_STRICT, agreeing
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import numbered_lines

DERIVED = "derived"
NO_KEY = -(2**31)  # fills lists of keys and words; `losses/candidates.py` knows the same
LIMITS = (0.2, 5.0)  # of a pair's weight against the mean of its query
Triple = tuple[str, str, float, int]  # query, product id, weight, clicks


class QueryPairs:
    """Pairs of the train split, by `config.data`: `queries`, `query_power`, `known`, `keywords`, `rows`, `id_rows`.

    Errors: UserError if there are no pairs, or a file of queries cannot be read; ValueError that begins with the key of
      the config.
    """

    def __init__(self, data: PreparedData, options: Mapping[str, Any]):
        self._id_rows = options.get("id_rows", 0)
        self._power = options["query_power"]
        if not 0.0 <= self._power <= 1.0:
            raise ValueError(f"data.query_power is {self._power}; expected 0 to 1")
        for name in ("known", "keywords", "id_rows"):
            if options.get(name, 0) < 0:
                raise ValueError(f"data.{name} is {options[name]}; expected at least 0, which is none")
        where, table = _read(data, options["queries"], split="train")
        index = data.index
        at = pc.index_in(table["product_id"], value_set=index["id"])
        usable = pc.fill_null(pc.equal(pc.take(index["split"], at), "train"), False)
        if options["rows"] == "pairs":
            complete = pc.and_(pc.greater(index["num_images"], 0), index["has_text"])
            usable = pc.and_(usable, pc.fill_null(pc.take(complete, at), False))
        num_all = table.num_rows
        table = table.append_column("at", at).filter(usable)
        lost = f"; {left:,} of no train product left out" if (left := num_all - table.num_rows) else ""
        if (agreed := agreeing(data, options)) is not None:
            kept = pc.take(pa.array(agreed), table["at"])
            low, table = pc.sum(pc.invert(kept)).as_py() or 0, table.filter(kept)
            lost += "; " + LEFT_OUT.format(low)
            if low and table.num_rows == 0:
                raise UserError(f"none of {low:,} query pairs of {where} is left; {TOO_STRICT}")
        if table.num_rows == 0:
            raise UserError(
                f"none of the {num_all:,} query pairs of {where} is of a training product of {data.folder}; prepare it "
                "with a log of its own products (--clicks), or train on --config.data.queries=derived"
            )
        queries, query_P = np.unique(np.asarray(table["query"].to_pylist(), object), return_inverse=True)
        weight_P = table["weight"].to_numpy()
        by_query = np.lexsort((table["at"].to_numpy(), -weight_P, query_P))
        column = lambda name: pc.take(index[name], table["at"]).to_numpy()[by_query]
        query_P, weight_P = query_P[by_query], weight_P[by_query]
        number_Q = np.bincount(query_P)
        mean_Q = np.bincount(query_P, weights=weight_P) / number_Q
        self._clicks_Q = np.bincount(query_P, weights=table["clicks"].to_numpy()[by_query])
        self._query_P = query_P
        product_key_P = column("product_key").astype(np.int32)
        known_K, known_first_Q, num_more = _known(
            data, table, queries, query_P, product_key_P, most=options["known"], is_log=not options["queries"]
        )
        self.items = Pairs(
            queries=pa.array(queries),
            query_P=query_P,
            weight_P=np.clip(weight_P / mean_Q[query_P], *LIMITS).astype(np.float32),
            product_key_P=product_key_P,
            products=Records(data.folder, "train", column("position")),
            keywords_QxW=_keywords(data, queries, query_P, column("id"), options["keywords"]),
            known_K=known_K,
            known_first_Q=known_first_Q,
            num_known=options["known"],
        )
        more = [known_K] if num_more else []
        self.digest = digest_of([*queries, *(query_P, self.items.weight_P, product_key_P), *more])
        self.description = f"{len(query_P):,} pairs of {len(queries):,} queries ({where}{lost})"

    def order(self, *, batch_size: int, seed: int) -> Order:
        """A query of n clicks is drawn by n^`query_power`, its products alike (their weight is in the loss)."""
        del batch_size
        share_Q = np.maximum(self._clicks_Q, 1.0) ** self._power
        return Deck(self._query_P, share_Q / share_Q.sum(), seed=seed)

    def to_batch(self, to_example: ToExample) -> Callable[..., Batch]:
        """Batches of {query, product, weight, known, valid}, see `ToQueryBatch`."""
        num_words = self.items.keywords_QxW.shape[1]
        return ToQueryBatch(to_example, num_known=self.items.num_known, num_words=num_words, id_rows=self._id_rows)


@dataclasses.dataclass
class Pairs(Sequence):
    """Random access to pairs, sorted by query and then by falling weight; picklable.

    Args:
      queries: Arrow strings (Q).
      query_P, weight_P, product_key_P: of each pair.
      products: the record of each pair.
      keywords_QxW: int32, filled up with `NO_KEY`.
      known_K, known_first_Q: int32 and (Q+1,), keys of products clicked for each query, those of its pairs first.
      num_known: how many of them an item carries at most.
    """

    queries: pa.Array
    query_P: np.ndarray
    weight_P: np.ndarray
    product_key_P: np.ndarray
    products: Records
    keywords_QxW: np.ndarray
    known_K: np.ndarray
    known_first_Q: np.ndarray
    num_known: int

    def __len__(self) -> int:
        return len(self.query_P)

    def __getitem__(self, pair: int) -> dict[str, Any]:
        query = int(self.query_P[pair])
        first, end = self.known_first_Q[query : query + 2]
        return {
            "query": self.queries[query].as_py(),
            "query_key": query,
            "known": self.known_K[first:end],
            "keywords": self.keywords_QxW[query],
            "weight": self.weight_P[pair],
            "product": self.products[pair],
        }


@dataclasses.dataclass(frozen=True)
class ToQueryBatch:
    """Drawn pairs as arrays.

    Returns of a call: `query` {`text_ids` (b,K) int32, `text_mask` (b,K) bool, `query_key` (b,) int32, `keywords` (b,W)
      int32 if there are any}, `product` as `ToExample` gives it, with `id_row` (b,) int32 if ids have a table of
      `id_rows`, `weight` (b,) float32, `known` (b,N) int32, `valid`.
    """

    to_example: ToExample
    num_known: int
    num_words: int
    id_rows: int = 0

    def __call__(self, drawn: Iterable[tuple[Mapping[str, Any], np.random.Generator]], *, num_rows: int) -> Batch:
        texts: list[str] = []
        weight, query_key = np.empty(num_rows, np.float32), np.empty(num_rows, np.int32)
        known = np.full((num_rows, self.num_known), NO_KEY, np.int32)
        keywords = np.full((num_rows, self.num_words), NO_KEY, np.int32)
        names: list[str] = []

        def records() -> Iterator[tuple[Mapping[str, Any], np.random.Generator]]:
            for row, (item, rng) in enumerate(drawn):
                texts.append(item["query"])
                weight[row], query_key[row], keywords[row] = item["weight"], item["query_key"], item["keywords"]
                known[row, : len(item["known"])] = item["known"]
                names.append(item["product"]["id"])
                yield item["product"], rng

        product = self.to_example(records(), num_rows=num_rows)
        if self.id_rows:
            product["id_row"] = np.array([id_row(name, num_rows=self.id_rows) for name in names], np.int32)
        text_ids, text_mask = self.to_example.query_tokenizer(texts)
        query = {"text_ids": text_ids, "text_mask": text_mask, "query_key": query_key}
        if self.num_words:
            query["keywords"] = keywords
        return {"query": query, "product": product, "weight": weight, "known": known, "valid": product.pop("valid")}


def asked_in(data: PreparedData, queries: str, *, split: str) -> list[tuple[str, str]]:
    """(query, product id) of the pairs of a split, by `config.data.queries`, sorted; none where no log was mined."""
    if not queries and not (data.folder / QUERY_PAIRS).exists():
        return []
    table = _read(data, queries, split=split)[1]
    in_split = pc.is_in(table["product_id"], value_set=pa.array(data.rows(split)["id"], pa.string()))
    return sorted({(row["query"], row["product_id"]) for row in table.filter(in_split).to_pylist()})


def _read(data: PreparedData, queries: str, *, split: str) -> tuple[str, pa.Table]:
    """(where from, table of query, product_id, weight, clicks) of a split; a file of queries is of all splits."""
    if queries == DERIVED:
        return "derived from titles and attributes", _table(derived_queries(data.records(split)))
    if queries:
        return queries, _table(_lines(Path(queries)))
    file = data.folder / QUERY_PAIRS
    if not file.exists():
        raise UserError(
            f"{data.folder} has no query pairs: {QUERY_PAIRS} is missing; prepare it with --clicks=LOG, or name a file "
            "of queries (--config.data.queries=FILE), or derive them from the products (--config.data.queries=derived)"
        )
    table = pq.read_table(file, columns=["query_key", "query", "product_id", "weight", "clicks", "split"])
    table = table.filter(pc.equal(table["split"], split)).drop_columns("split")
    return "click log", table


def _known(
    data: PreparedData, table: pa.Table, queries, query_P, product_key_P, *, most: int, is_log: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Product keys clicked for each query, at most `most`; the first of each query (Q+1,); how many are of no pair.

    Those of its pairs come first, then what the log knows beside them, by falling weight.
    """
    query_K, key_K = query_P, product_key_P
    file = data.folder / QUERY_KNOWN
    if is_log and file.exists():
        pairs = table.group_by(["query_key", "query"]).aggregate([])
        number_A = np.searchsorted(queries, np.array(pairs["query"].to_pylist(), object))
        found = pq.read_table(file).sort_by([("weight", "descending"), ("product_row", "ascending")])
        at = pc.index_in(found["query_key"], value_set=pairs["query_key"].combine_chunks())
        found = found.append_column("at", at).filter(pc.is_valid(at))
        query_K = np.concatenate([query_P, number_A[found["at"].to_numpy()]])
        key_K = np.concatenate([product_key_P, found["product_row"].to_numpy().astype(np.int32)])
    _, first_K = np.unique(np.stack([query_K, key_K]), axis=1, return_index=True)
    num_more = int((first_K >= len(query_P)).sum())
    by_query = np.lexsort((first_K, query_K[first_K]))
    query_K, key_K = query_K[first_K][by_query], key_K[first_K][by_query]
    number_Q = np.bincount(query_K, minlength=len(queries))
    place_K = np.arange(len(query_K)) - np.repeat(np.cumsum(number_Q) - number_Q, number_Q)
    return key_K[place_K < most], np.concatenate([[0], np.cumsum(np.minimum(number_Q, most))]), num_more


def _table(rows: Iterable[Triple]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kinds = (pa.string(), pa.string(), pa.float64(), pa.int64())
    names = ("query", "product_id", "weight", "clicks")
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)})


def _lines(file: Path) -> Iterator[Triple]:
    """Of JSON lines: `query`, and `product_ids` (a list) or `grades` (id -> grade; those above 0 are pairs).

    As in files of judged queries, `relevance` will do for `grades`.
    """
    try:
        lines = list(numbered_lines(file))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"--config.data.queries={file}: {error}; expected a file of JSON lines") from error
    for number, line in lines:
        try:
            row = json.loads(line)
            named = next((name for name in ("grades", "relevance") if name in row), None)
            grades = row[named] if named else dict.fromkeys(row["product_ids"], 1)
            pairs = [(normalised(row["query"]), name, float(grade), 1) for name, grade in grades.items() if grade > 0]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f'{file}, line {number}: {error!r}; expected {{"query": "words", "product_ids": ["id"]}}, or '
                '"grades": {"id": grade} in place of the list'
            ) from error
        yield from pairs


def _keywords(data: PreparedData, queries, query_P, id_P, num_words: int) -> np.ndarray:
    """(Q,W) int32: the words of each query that stand in a title clicked for it, hashed, filled up with `NO_KEY`.

    Whole words after stop words, not pieces of the tokenizer: pieces such as single letters say nothing in common.
    """
    keywords_QxW = np.full((len(queries), num_words), NO_KEY, np.int32)
    if not num_words:
        return keywords_QxW
    table = pq.read_table(data.folder / "index.parquet", columns=["id", "title"])
    wanted = np.unique(id_P.astype(str))
    titles = pc.take(table["title"], pc.index_in(pa.array(wanted), value_set=table["id"])).to_pylist()
    words_of = {name: set(content_words(title)) for name, title in zip(wanted, titles, strict=True)}
    in_titles: list[set[str]] = [set() for _ in queries]
    for query, name in zip(query_P, id_P, strict=True):
        in_titles[query] |= words_of[name]
    for query, text in enumerate(queries):
        kept = [word for word in content_words(text) if word in in_titles[query]][:num_words]
        keywords_QxW[query, : len(kept)] = [hash64(word) % 2**31 for word in kept]
    return keywords_QxW
