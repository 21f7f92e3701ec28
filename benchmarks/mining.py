"""Label noise of mined item pairs: precision and recall against a truth, with each constraint on and off.

    python benchmarks/mining.py --data=DATA --clicks=clicks.jsonl [--queries=queries.jsonl] [--truth=truth.jsonl]

A pair is right if both products are of one style: of the file of truth (rows with `id` and `style`, as the sample
catalog writes), else of one catalog or item group of the data. Recall is of the right pairs among all that were clicked
together under one query, which is what a log can give at all. Writes nothing into DATA; prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from ecommerce_vl.data.logs.mining import mine_logs
from ecommerce_vl.data.logs.tables import ITEM_PAIRS

OFF = {
    "category": {"category_level": "none"},
    "relevance": {"min_pair_rel": 0.0},
    "support": {"min_pair_support": 1},
}
NO_CAPS = {"max_per_trigger": 1_000_000, "max_per_recall": 1_000_000}
ARMS = {
    "clicked together, no constraint": {**OFF["category"], **OFF["relevance"], **OFF["support"], **NO_CAPS},
    "category alone": {**OFF["relevance"], **OFF["support"]},
    "relevance alone": {**OFF["category"], **OFF["support"]},
    "support alone": {**OFF["category"], **OFF["relevance"]},
    "without category": OFF["category"],
    "without relevance": OFF["relevance"],
    "without support": OFF["support"],
    "all (default)": {},
}


def mined(data: Path, clicks: str, queries: str | None, config: dict) -> set[frozenset[str]]:
    """The pairs of one setting, without direction."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "index.parquet").symlink_to((data / "index.parquet").resolve())
        mine_logs(Path(folder), clicks=clicks, queries=queries, config=config)
        table = pq.read_table(Path(folder) / ITEM_PAIRS, columns=["trigger_id", "recall_id"])
    return {frozenset(pair) for pair in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)}


def labels(data: Path, truth: Path | None) -> dict[str, set]:
    """What each product is one of."""
    if truth:
        rows = map(json.loads, truth.read_text().splitlines())
        return {row["id"]: {row["style"]} for row in rows}
    table = pq.read_table(data / "index.parquet", columns=["id", "catalog_key", "group_key"]).to_pydict()
    keys = zip(table["id"], table["catalog_key"], table["group_key"], strict=True)
    return {name: {("catalog", catalog), ("group", group)} for name, catalog, group in keys}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clicks", required=True)
    parser.add_argument("--queries")
    parser.add_argument("--truth", type=Path)
    args = parser.parse_args()
    of = labels(args.data, args.truth)
    is_right = lambda pair: bool(set.intersection(*(of[name] for name in pair)))
    found = {name: mined(args.data, args.clicks, args.queries, config) for name, config in ARMS.items()}
    together = next(iter(found.values()))
    right = {pair for pair in together if is_right(pair)}
    print("| constraints | pairs | precision | recall |\n|---|---|---|---|")
    for name, pairs in found.items():
        hits = sum(map(is_right, pairs))
        precision = f"{hits / len(pairs):.3f}" if pairs else "–"
        print(f"| {name} | {len(pairs):,} | {precision} | {hits / max(len(right), 1):.3f} |")


if __name__ == "__main__":
    main()
