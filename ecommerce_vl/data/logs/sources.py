"""Log files of several schemas, as columns of text that DuckDB reads lazily; nothing here holds a log in memory.

A schema is data: which path in a row holds which of our fields. JSON lines are parsed as objects, so that a broken
line is one counted row and a field of an unexpected type costs that field only.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecommerce_vl.data.logs.settings import assignments
from ecommerce_vl.errors import UserError

if TYPE_CHECKING:
    import duckdb

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".csv": "csv"}
EVENT_FIELDS = (
    *("session", "session_number", "client", "user", "time", "query_id", "query", "product", "action"),
    *("ordinal", "offset", "application", "items", "params", "list"),
)
SEARCH_FIELDS = ("session", "client", "user", "time", "query_id", "query", "application", "hits", "clicked")
# Field -> path in a row. User Behavior Insights 1.3.0 (o19s/ubi).
UBI_EVENTS = {
    "session": "session_id",
    "client": "client_id",
    "user": "user_id",
    "time": "timestamp",
    "query_id": "query_id",
    "product": "event_attributes.object.object_id",
    "action": "action_name",
    "ordinal": "event_attributes.position.ordinal",
    "application": "application",
}
UBI_QUERIES = {
    "session": "session_id",  # no field of UBI, but shops add it
    "client": "client_id",
    "user": "user_id",
    "time": "timestamp",
    "query_id": "query_id",
    "query": "user_query",
    "application": "application",
    "hits": "query_response_hit_ids",
}
# The BigQuery export of Google Analytics 4; searches lie between the events.
GA4 = {
    "client": "user_pseudo_id",
    "time": "event_timestamp",
    "action": "event_name",
    "application": "platform",
    "items": "items",
    "params": "event_params",
}
# User events of the Google Cloud Retail API; searches lie between the events, with the products that they showed.
RETAIL = {
    "session": "sessionId",
    "client": "visitorId",
    "user": "userInfo.userId",
    "time": "eventTime",
    "query_id": "attributionToken",
    "query": "searchQuery",
    "action": "eventType",
    "offset": "offset",
    "items": "productDetails",
}
# SIGIR eCom 2021 data challenge of Coveo, browsing_train.csv and search_train.csv (Tagliabue et al., 2104.09423).
COVEO_EVENTS = {
    "session": "session_id_hash",
    "time": "server_timestamp_epoch_ms",
    "product": "product_sku_hash",
    "action": "product_action",
}
COVEO_QUERIES = {
    "session": "session_id_hash",
    "time": "server_timestamp_epoch_ms",
    "query": "query_vector",
    "hits": "product_skus_hash",
    "clicked": "clicked_skus_hash",
}
MAPPINGS = {
    "ubi": {"clicks": UBI_EVENTS, "queries": UBI_QUERIES},
    "ga4": {"clicks": GA4, "queries": GA4},
    "retail": {"clicks": RETAIL, "queries": RETAIL},
    "coveo": {"clicks": COVEO_EVENTS, "queries": COVEO_QUERIES},
}
# Columns that tell a schema.
MARKS = (
    ("ga4", {"event_name", "event_timestamp"}),
    ("retail", {"eventType", "visitorId"}),
    ("coveo", {"session_id_hash", "product_sku_hash"}),
    ("coveo", {"session_id_hash", "query_vector"}),
    ("ubi", {"action_name", "event_attributes"}),
)
# Usual names of plain columns, best first.
PLAIN = {
    "session": ("session", "session_id", "sid", "sessionId"),
    "client": ("client", "client_id", "visitorid", "visitorId", "visitor_id", "user_pseudo_id"),
    "user": ("user", "user_id"),
    "time": ("time", "ts", "timestamp", "ts_ms", "event_time", "eventTime"),
    "query_id": ("query_id",),
    "query": ("query", "user_query", "search_term", "searchQuery"),
    "product": ("product", "product_id", "sku", "item_id", "itemid", "aid"),
    "action": ("action", "action_name", "event", "type"),
    "ordinal": ("rank", "position", "ordinal"),
    "offset": ("offset",),
    "application": ("application", "app"),
    "hits": ("hits", "query_response_hit_ids"),
}


@dataclasses.dataclass(frozen=True)
class Log:
    """Files of one format and what their rows hold.

    Args:
      files: sorted by name.
      format: jsonl, parquet or csv.
      schema: plain, or one of `MAPPINGS`.
      paths: field -> path in a row; fields of columnar files begin with a column that exists.
      types: column -> type of the engine, for columnar files.
    """

    files: tuple[str, ...]
    format: str
    schema: str
    paths: Mapping[str, str]
    types: Mapping[str, str]

    @property
    def bytes(self) -> int:
        return sum(Path(file).stat().st_size for file in self.files)

    def select(self, fields: Sequence[str]) -> str:
        """SQL: every field as text, null where the log has none, and `malformed`: the row is no record at all."""
        if self.format == "jsonl":
            known = [field for field in fields if field in self.paths]
            paths = [_json_path(self.paths[field]) for field in known]
            columns = [
                f"nullif(f[{known.index(field) + 1}], '') AS \"{field}\""
                if field in known
                else f'NULL::VARCHAR AS "{field}"'
                for field in fields
            ]
            return (
                f"SELECT {', '.join(columns)}, coalesce(json_type(json) <> 'OBJECT', true) AS malformed FROM (SELECT "
                f"json, json_extract_string(json, {_literal(paths)}::VARCHAR[]) AS f FROM "
                f"read_ndjson_objects({_literal(self.files)}, ignore_errors = true, maximum_object_size = 16777216))"
            )
        columns = [f"nullif({self._column(field)}, '') AS \"{field}\"" for field in fields]
        return f"SELECT {', '.join(columns)}, false AS malformed FROM {_table(self.files, self.format)}"

    def _column(self, field: str) -> str:
        if field not in self.paths:
            return "NULL::VARCHAR"
        column, _, inner = self.paths[field].partition(".")
        if self.paths[field] in self.types:  # a plain name with a dot in it
            column, inner = self.paths[field], ""
        kind, name = self.types.get(column, ""), _name(column)
        nested = (kind.endswith(("]", ")")) and kind.startswith(("STRUCT", "MAP"))) or kind.endswith("[]")
        if not kind:
            return "NULL::VARCHAR"
        if not inner:
            return f"CAST(to_json({name}) AS VARCHAR)" if nested else f"CAST({name} AS VARCHAR)"
        document = f"to_json({name})" if nested else f"TRY_CAST({name} AS JSON)"
        return f"json_extract_string({document}, {_literal(_json_path(inner))})"


def open_log(engine: duckdb.DuckDBPyConnection, where: str, *, schema: str, columns: str, flag: str) -> Log:
    """The files that a flag names and the schema of their rows.

    Args:
      engine: any connection; only the head of one file is read.
      where: file, folder or glob of JSON lines, Parquet or CSV.
      schema: a name, or auto to look at the columns.
      columns: see `Settings.columns`.
      flag: clicks or queries, for messages.

    Errors: UserError for no files, files of several formats, and columns of no schema.
    """
    files = log_files(where, flag)
    format = FORMATS[_suffix(files[0])]
    types = _types(engine, files, format, flag)
    if schema == "auto":
        marks = (*MARKS, ("ubi", {"user_query"})) if flag == "queries" else MARKS
        known = (name for name, marked in marks if marked <= set(types))
        schema = "plain" if columns else next(known, "plain")
    if schema == "plain":
        paths = _plain_paths(types, columns)
        needed = {"clicks": "product", "queries": "query"}[flag]
        if needed not in paths:
            raise UserError(
                f"--{flag}={where} has the columns {', '.join(sorted(types)) or '(none)'}; expected UBI, GA4, Retail "
                f'API, Coveo or a column of {needed} ids: name yours with --config.logs.columns="{needed}=COLUMN,..."'
            )
    else:
        paths = MAPPINGS[schema][flag]
    return Log(files, format, schema, paths, types)


def _plain_paths(types: Mapping[str, str], columns: str) -> dict[str, str]:
    own = assignments(columns, setting="columns")
    unknown = sorted(set(own) - set(PLAIN))
    if unknown:
        found = f"{unknown[0]}={own[unknown[0]]}"
        raise UserError(f"--config.logs.columns has {found}; expected some of {', '.join(PLAIN)}")
    paths = {field: next((name for name in names if name in types), "") for field, names in PLAIN.items()} | own
    if not own.get("ordinal") and paths["ordinal"] == paths["action"]:
        paths["ordinal"] = ""
    return {field: name for field, name in paths.items() if name}


def log_files(where: str, flag: str) -> tuple[str, ...]:
    """The files of one format that `--clicks` or `--queries` names.

    Errors: UserError if there are none, or of several formats.
    """
    path = Path(where)
    found = sorted(path.rglob("*")) if path.is_dir() else [Path(name) for name in sorted(glob.glob(where))]
    if not found and path.exists():
        found = [path]
    files = [file for file in found if file.is_file() and _suffix(file) in FORMATS]
    if not files:
        raise UserError(f"--{flag}={where} names no .jsonl, .parquet or .csv file (.jsonl.gz, .csv.gz); check the path")
    formats = sorted({FORMATS[_suffix(file)] for file in files})
    if len(formats) > 1:
        raise UserError(f"--{flag}={where} has files of several formats ({', '.join(formats)}); name one with a glob")
    return tuple(str(file) for file in files)


def _suffix(file: str | Path) -> str:
    name = Path(file).name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".zst")).suffix


def _types(engine, files: Sequence[str], format: str, flag: str) -> dict[str, str]:
    import duckdb

    try:
        if format == "jsonl":
            keys = engine.sql(
                f"SELECT DISTINCT unnest(json_keys(json)) FROM (SELECT json FROM read_ndjson_objects("
                f"{_literal(files[:1])}, ignore_errors = true, maximum_object_size = 16777216) LIMIT 1000) "
                "WHERE json_type(json) = 'OBJECT'"
            )
            return {row[0]: "JSON" for row in keys.fetchall()}
        return {row[0]: row[1] for row in engine.sql(f"DESCRIBE SELECT * FROM {_table(files, format)}").fetchall()}
    except duckdb.Error as error:
        line = str(error).splitlines()[0]
        raise UserError(f"--{flag}={files[0]} cannot be read as {format}: {line}; check the file") from error


def _table(files: Sequence[str], format: str) -> str:
    if format == "parquet":
        return f"read_parquet({_literal(files)}, union_by_name = true)"
    return f"read_csv({_literal(files)}, header = true, all_varchar = true, null_padding = true, union_by_name = true)"


def _json_path(path: str) -> str:
    return "$" + "".join(f'."{part}"' for part in path.split("."))


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _literal(value: str | Sequence[str]) -> str:
    """SQL text for a string or a list of strings."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "[" + ", ".join(_literal(item) for item in value) + "]"
