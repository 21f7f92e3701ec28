"""Draws a click log over prepared data that has none; `ecommerce_vl/data/logs/click_model.py` says by which model.

    python benchmarks/click_model.py --data=DATA --out=FOLDER [--sessions=10000]

Writes FOLDER/clicks.jsonl and FOLDER/queries.jsonl, for `prepare --clicks=… --queries=…`. Products of the train split
alone are shown, unless --all_splits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from ecommerce_vl.data.logs.click_model import ClickModel, simulate

COLUMNS = ("id", "title", "category", "catalog_key", "group_key")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--all_splits", action="store_true")
    for field in dataclasses.fields(ClickModel):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    data, out, all_splits = (options.pop(name) for name in ("data", "out", "all_splits"))

    table = pq.read_table(data / "index.parquet", columns=[*COLUMNS, "split"])
    if not all_splits:
        table = table.filter(pc.equal(table["split"], "train"))
    out.mkdir(parents=True, exist_ok=True)
    clicks = 0
    with open(out / "queries.jsonl", "w") as queries_file, open(out / "clicks.jsonl", "w") as clicks_file:
        for query, events in simulate(table.select(COLUMNS).to_pydict(), ClickModel(**options)):
            queries_file.write(json.dumps(query, ensure_ascii=False) + "\n")
            clicks_file.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
            clicks += len(events)
    print(json.dumps({"products": table.num_rows, "queries": options["sessions"], "clicks": clicks}))


if __name__ == "__main__":
    main()
