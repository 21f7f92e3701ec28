"""Click logs become index tables over the prepared products; the order of the steps, their counters, the files.

Steps are expressions that run on any engine of Ibis; DuckDB reads the files and is the engine where none is given.
Every step writes its table before the next reads it, so memory is bounded by the engine's limit and each row is counted
once. Invariants: rows in = rows out + dropped, or it fails; the same log in any order, by any number of threads,
gives the same bytes; no id of a client, user or session in any output.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data.logs import dictionaries, events, item_pairs, query_pairs, reading, relevance, sessions
from ecommerce_vl.data.logs.settings import Settings, from_config
from ecommerce_vl.data.logs.tables import ITEM_PAIRS, QUERY_KNOWN, QUERY_PAIRS, SCHEMAS, SUMMARY
from ecommerce_vl.data.memory import LIMIT
from ecommerce_vl.data.seed_model.vectors import SeedVectors
from ecommerce_vl.files import sha256, write_json

VERSION = 1
ROW_GROUP = 65_536
STEPS = 11


def mine_logs(
    data: Path,
    *,
    clicks: str,
    queries: str | None = None,
    vectors: SeedVectors | None = None,
    config: Mapping[str, Any] | None = None,
    connection=None,
    memory_limit: str = LIMIT,
    num_threads: int = 2,
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
) -> dict:
    """Writes the tables of `tables.py` and logs.json into prepared data; returns what logs.json holds.

    Args:
      data: a folder written by prepare.
      clicks, queries: as the flags: file, folder or glob of JSON lines, Parquet or CSV.
      vectors: of a seed model, whose cosines the two products of an item pair must reach; None skips the rule.
      config: settings that differ from the defaults (see `settings.Settings`).
      connection: an Ibis connection that runs the steps; None for an embedded DuckDB.
      memory_limit, num_threads: of the embedded engine; what does not fit goes to disk. They change no byte.
      progress: makes the progress callback of a named stage.

    Errors: UserError for logs that cannot be read, settings out of range, and a folder without an index.
    """
    settings = from_config(config or {})
    advance = _steps(progress)
    work = data / ".logs.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        engine = {"memory_limit": memory_limit, "threads": num_threads}
        with _miner(work, settings, connection, engine, vectors=vectors, advance=advance) as miner:
            summary = _mine(miner, data, clicks, queries)
        for name in SCHEMAS:
            summary["digests"][name] = sha256(work / name)
        # The summary marks completeness: the old one goes first and the new one comes last.
        (data / SUMMARY).unlink(missing_ok=True)
        for name in SCHEMAS:
            os.replace(work / name, data / name)
        write_json(data / SUMMARY, summary)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return summary


class Miner:
    """The engine, its working folder, and the counters by stage."""

    def __init__(
        self,
        work: Path,
        settings: Settings,
        reader,
        connection,
        *,
        vectors: SeedVectors | None,
        advance: Callable[[], None],
    ):
        self.work, self.settings, self.reader, self.connection = work, settings, reader, connection
        self.vectors, self.advance = vectors, advance
        self.stages: dict[str, dict] = {}
        self.made: list[str] = []

    def keep(self, name: str, expression):
        """Writes a step's table in the engine."""
        table = self.connection.create_table(f"vl_{name}", expression)
        self.made.append(f"vl_{name}")
        return table

    def drop(self, *names: str) -> None:
        for name in names:
            # Not drop_table: ibis 12.0 renders it without the name where sqlglot is 30 or later.
            self.connection.raw_sql(f"DROP TABLE vl_{name}")
            self.made.remove(f"vl_{name}")

    def load(self, name: str):
        """A Parquet file of the working folder as a table of the engine."""
        return self.connection.read_parquet(str(self.work / f"{name}.parquet"), table_name=f"vl_file_{name}")

    def batches(self, table) -> Iterator[pa.RecordBatch]:
        """The rows of an expression, never all at once."""
        if self.connection is self.reader:  # ibis 12.0 calls a method here that DuckDB 2.0 no longer has
            yield from self.reader.con.sql(self.reader.compile(table)).to_arrow_reader(ROW_GROUP)
        else:
            yield from table.to_pyarrow_batches(chunk_size=ROW_GROUP)

    def count(self, stage: str, table, reason: str = "reason", notes: Mapping[str, int] | None = None):
        """Notes rows in, rows out and rows dropped by reason of a stage; returns the rows that go on."""
        groups = table.group_by(table[reason].name("of")).agg(rows=table.count()).to_pyarrow().to_pylist()
        counts = {group["of"]: int(group["rows"]) for group in groups}
        out = counts.pop(None, 0)
        self.note(stage, sum(counts.values()) + out, out, counts, notes)
        return table.filter(table[reason].isnull()).drop(reason)

    def note(self, stage: str, rows_in: int, rows_out: int, dropped: Mapping[str, int], notes=None) -> None:
        if rows_in != rows_out + sum(dropped.values()):
            raise RuntimeError(f"{stage}: {rows_in} rows in, {rows_out} out and {dict(dropped)} dropped do not add up")
        self.stages[stage] = {"rows_in": rows_in, "rows_out": rows_out, "dropped": dict(sorted(dropped.items()))}
        if notes:
            self.stages[stage]["notes"] = dict(notes)
        self.advance()


@contextlib.contextmanager
def _miner(work: Path, settings: Settings, connection, engine: Mapping[str, Any], **options) -> Iterator[Miner]:
    import ibis

    own = ibis.duckdb.connect(
        str(work / "engine.duckdb"),
        **engine,
        temp_directory=str(work / "spill"),
        preserve_insertion_order=False,
    )
    miner = Miner(work, settings, own, connection or own, **options)
    try:
        yield miner
    finally:
        if connection is not None:
            for name in list(miner.made):
                miner.drop(name.removeprefix("vl_"))
        own.disconnect()


def _mine(miner: Miner, data: Path, clicks: str, queries: str | None) -> dict:
    settings, work = miner.settings, miner.work
    num_products = dictionaries.write_products(data / "index.parquet", work / "products.parquet", settings)
    sources = reading.read_logs(miner.reader.con, clicks, queries, settings)
    texts = miner.reader.con.execute(f"SELECT DISTINCT text FROM {reading.SEARCHES} WHERE reason IS NULL ORDER BY text")
    num_queries = dictionaries.write_queries(_texts(texts), work, settings)
    if miner.connection is not miner.reader:
        for name in (reading.EVENTS, reading.SEARCHES):
            miner.reader.con.execute(f"COPY {name} TO '{work / name}.parquet'")
    tables = {name: miner.load(name) for name in ("products", "texts", "queries", "words")}
    if miner.connection is miner.reader:
        tables |= {name: miner.connection.table(name) for name in (reading.EVENTS, reading.SEARCHES)}
    else:
        tables |= {name: miner.load(name) for name in (reading.EVENTS, reading.SEARCHES)}
    miner.advance()
    did, asked = _interactions(miner, tables)
    fits = _relevance(miner, did, tables)
    items = _item_pairs(miner, did, fits, tables)
    pairs, known = _query_pairs(miner, did, asked, fits, tables)
    _write(miner, items, work / ITEM_PAIRS, ["trigger_id", "recall_id"])
    _write(miner, pairs, work / QUERY_PAIRS, ["query", "query_key", "product_id"])
    _write(miner, known, work / QUERY_KNOWN, ["query_key", "product_row"])
    miner.advance()
    return {
        "version": VERSION,
        "sources": sources,
        "products": num_products,
        "queries": num_queries,
        "stages": miner.stages,
        "splits": {"item_pairs": _shares(items, "split"), "query_pairs": _shares(pairs, "split")},
        "blocks": _shares(pairs, "block"),
        "relations": _shares(items, "relation"),
        "reason_bits": item_pairs.BITS,
        "skipped": [] if miner.vectors else ["pair relevance by vectors: no --vectors of a seed model"],
        "settings": settings.thresholds(),
        "vectors": miner.vectors.space_id if miner.vectors else "",
        "digests": {"settings": settings.digest(), "index.parquet": sha256(data / "index.parquet")},
    }


def _interactions(miner: Miner, tables: Mapping[str, Any]):
    """Returns interactions, and searches of people."""
    settings, products, texts = miner.settings, tables["products"], tables["texts"]
    searches = tables["searches"]
    miner.count("searches", events.search_reasons(searches, texts))
    resolved = events.resolve(tables["events"], searches, texts, products, ordinal_base=settings.ordinal_base)
    resolved = miner.keep("resolved", resolved)
    good = resolved.filter(resolved.reason.isnull())
    facts = good.agg(
        without_zone=(~good.zoned).sum(),
        without_session=good.made_session.sum(),
        unknown_query=good.unknown_query.sum(),
        before_query=good.before_query.sum(),
        without_query=good.query_key.isnull().sum(),
    )
    notes = {name: int(value or 0) for name, value in facts.to_pyarrow().to_pylist()[0].items()}
    good = miner.count("events", resolved, notes=notes).drop("unknown_query", "before_query", "made_session", "zoned")
    asked = events.asked(searches, texts)
    limits = {"max_clicks": settings.max_clicks_per_hour, "max_queries": settings.max_queries_per_hour}
    bots = miner.keep("bots", sessions.bots(good, asked, **limits))
    marked = sessions.without_bots(good, bots)
    people = miner.count("sessions", marked, notes={"bots": _rows(bots)})
    did = miner.keep("interactions", sessions.interactions(sessions.cut(people, gap_s=settings.session_gap_s)))
    flags = ("shown", "clicked", "carted", "purchased")
    facts = did.agg(
        actions=sum((did[flag] for flag in flags[1:]), did.shown).sum() + 0,
        both=((did.clicked == 1) & (did.similar == 1)).sum(),
        unexposed=((did.clicked == 1) & (did.shown == 0) & did.query_key.notnull()).sum(),
        exposed=did.shown.sum(),
    )
    facts = {name: int(value or 0) for name, value in facts.to_pyarrow().to_pylist()[0].items()}
    rows_in = miner.stages["sessions"]["rows_out"]
    unexposed = facts["unexposed"] if facts["exposed"] else 0
    notes = {"clicks_without_exposure": unexposed, "session_query_products": _rows(did)}
    miner.note("interactions", rows_in, facts["actions"], {"repeated": rows_in - facts["actions"]}, notes)
    miner.drop("resolved")
    listed = asked.filter(~asked.listed).anti_join(bots, asked.client == bots.bot)
    return did, listed


def _relevance(miner: Miner, did, tables: Mapping[str, Any]):
    acted = did.filter(did.query_key.notnull() & did.first_ts.notnull()).select("query_key", "product").distinct()
    return miner.keep("relevance", relevance.lexical(acted, tables["words"], tables["products"]))


def _item_pairs(miner: Miner, did, fits, tables: Mapping[str, Any]):
    settings, products = miner.settings, tables["products"]
    clicks = miner.keep("clicks", item_pairs.clicks(did, products, fits, settings))
    late = clicks.query_key.notnull() & (clicks.place >= settings.max_clicks_per_query)
    notes = {"clicks": _rows(clicks), "clicks_over_max_per_query": int(late.sum().to_pyarrow().as_py() or 0)}
    marked = miner.keep("candidates", item_pairs.constrained(item_pairs.candidates(clicks, settings), settings))
    counted = miner.keep("counted", item_pairs.counted(miner.count("item_candidates", marked, notes=notes)))
    miner.drop("candidates")
    pairs = miner.keep("item_judged", item_pairs.judged(counted, products, settings))
    pairs = miner.count("item_pairs", pairs)
    if miner.vectors:
        pairs = miner.count("item_vectors", miner.keep("item_compared", _compared(miner, pairs)))
    pairs = item_pairs.directed(pairs, clicks, settings, compared=miner.vectors is not None)
    capped = miner.keep("item_capped", item_pairs.capped(pairs, settings))
    return miner.count("item_caps", capped, "dropped")


def _compared(miner: Miner, pairs):
    products = pq.read_table(miner.work / "products.parquet", columns=["id", "product"])
    row_of_id = dict(zip(products["id"].to_pylist(), products["product"].to_pylist(), strict=True))
    vectors = relevance.Vectors(miner.vectors, row_of_id, miner.work)
    with pq.ParquetWriter(miner.work / "cosines.parquet", relevance.COSINES) as writer:
        for batch in vectors.cosines(miner.batches(pairs.select("a", "b"))):
            writer.write_batch(batch)
    return item_pairs.compared(pairs, miner.load("cosines"), miner.settings)


def _query_pairs(miner: Miner, did, asked, fits, tables: Mapping[str, Any]):
    settings = miner.settings
    rows = query_pairs.expected(query_pairs.weighted(did, settings))
    counted = miner.keep("query_counted", query_pairs.counted(rows))
    clients = query_pairs.clients(asked, did)
    supported = miner.keep("query_supported", query_pairs.supported(counted, clients, tables["products"], settings))
    kept = miner.count("query_support", supported)
    judged = miner.keep("query_judged", query_pairs.judged(kept, fits, tables["queries"], settings))
    capped = miner.keep("query_capped", query_pairs.capped(miner.count("query_pairs", judged), settings))
    finished = query_pairs.finished(miner.count("query_caps", capped, "dropped"))
    return finished, query_pairs.known(supported, tables["queries"], settings)


def _texts(relation) -> Iterator[list[str]]:
    while rows := relation.fetchmany(dictionaries.BATCH):
        yield [row[0] for row in rows]


def _rows(table) -> int:
    return int(table.count().to_pyarrow().as_py())


def _shares(table, column: str) -> dict[str, int]:
    groups = table.group_by(column).agg(rows=table.count()).to_pyarrow().to_pylist()
    return {group[column]: int(group["rows"]) for group in sorted(groups, key=lambda group: group[column])}


def _write(miner: Miner, table, file: Path, order: list[str]) -> None:
    """Writes the table in order; row groups have a fixed size, as engines cut their batches as they like."""
    schema = SCHEMAS[file.name]
    batches = miner.batches(table.select(*schema.names).order_by(order))
    waiting = schema.empty_table()
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch]).cast(schema)])
            while waiting.num_rows >= ROW_GROUP:
                writer.write_table(waiting.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
                waiting = waiting.slice(ROW_GROUP)
        if waiting.num_rows:
            writer.write_table(waiting.combine_chunks(), row_group_size=ROW_GROUP)


def _steps(progress) -> Callable[[], None]:
    if progress is None:
        return lambda: None
    show, done = progress("logs"), iter(range(1, 1000))
    return lambda: show(min(next(done), STEPS), STEPS)
