"""The tables that mining leaves beside the shards: their files and columns."""

from __future__ import annotations

import pyarrow as pa

SUMMARY = "logs.json"  # written last
ITEM_PAIRS, QUERY_PAIRS, QUERY_KNOWN = "item_pairs.parquet", "query_pairs.parquet", "query_known.parquet"
SCHEMAS = {
    # Products that were clicked together and are alike, from the trigger to the recalled one.
    ITEM_PAIRS: pa.schema(
        [(name, pa.string()) for name in ("trigger_id", "recall_id")]
        + [(name, pa.int64()) for name in ("trigger_row", "recall_row")]
        + [("relation", pa.string()), ("support", pa.int64()), ("affinity", pa.float64()), ("weight", pa.float64())]
        + [(name, pa.int64()) for name in ("reason", "first_ts", "last_ts")]
        + [("split", pa.string())]
    ),
    # Queries with products that were clicked for them and fit.
    QUERY_PAIRS: pa.schema(
        [("query_key", pa.int64()), ("query", pa.string()), ("product_id", pa.string())]
        + [(name, pa.int64()) for name in ("product_row", "clicks", "carts", "purchases", "impressions")]
        + [("weight", pa.float64()), ("first_ts", pa.int64()), ("last_ts", pa.int64())]
        + [("split", pa.string()), ("block", pa.string()), ("navigational", pa.bool_())]
    ),
    # What was clicked for a query at all, and so is no negative of it.
    QUERY_KNOWN: pa.schema([("query_key", pa.int64()), ("product_row", pa.int64()), ("weight", pa.float64())]),
}
