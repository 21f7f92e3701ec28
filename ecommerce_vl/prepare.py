"""Door: a product feed becomes shards that training, evaluation and export read.

    python -m ecommerce_vl.prepare --feed=FILE_OR_FOLDER --out=DATA [--config=configs/prepare.py]

Reads JSON lines, Parquet, CSV and TSV (also .gz) with Merchant Center names or the usual aliases; `sample:2000[:seed]`
draws the sample catalog into DATA/feed first. Writes TFDS shards, index.parquet, rejects.parquet (rows that are not
in the shards), repairs.parquet (rows that lost a damaged picture) and prepare.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

FEED = flags.DEFINE_string(
    "feed", None, "file, folder, glob, several with commas, or sample:LISTINGS[:SEED]", required=True
)
OUT = flags.DEFINE_string("out", None, "folder for the prepared data", required=True)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what an earlier feed or config left in --out")
EXPLAIN = flags.DEFINE_bool("explain", False, "print what each column becomes, and stop")
CONFIG = config_flags.DEFINE_config_file("config", None, "settings; configs/prepare.py if not given")


def main() -> None:
    from ecommerce_vl.data import feed as feeds
    from ecommerce_vl.data import preparation
    from ecommerce_vl.progress import Progress

    if not OUT.value:
        raise UserError("--out is empty; expected a folder for the prepared data")
    out = Path(OUT.value)
    config = CONFIG.value.to_dict()
    preparation.validate(config)
    feed = draw_sample(FEED.value, out) if FEED.value.startswith("sample:") else FEED.value
    files = feeds.feed_files(feed)
    columns = preparation.parse_columns(config["columns"], files)
    if EXPLAIN.value:
        for column, meaning in preparation.explain_columns(files, columns):
            print(f"{column:32s} -> {meaning}")
        return
    if existing := preparation.read_summary(out):
        if existing["request"] == preparation.request_digest(files, config):
            print(f"prepare: {out} already holds this feed with these settings; nothing to do")
            return
        if not OVERWRITE.value:
            raise UserError(f"--out={out} holds another feed or other settings; name another folder or add --overwrite")
    summary = preparation.prepare_feed(feed, out, config=config, progress=lambda label: Progress(label))
    print_summary(summary, out)


def draw_sample(name: str, out: Path) -> str:
    """Draws the sample catalog of `sample:LISTINGS[:SEED]` into DATA/feed, once; returns the feed's path."""
    from ecommerce_vl.data.sample import write_sample
    from ecommerce_vl.progress import Progress

    parts = name.split(":")[1:]
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) < 1:
        raise UserError(f"--feed={name}: expected sample:LISTINGS or sample:LISTINGS:SEED, such as sample:2000")
    num_listings, seed = int(parts[0]), int(parts[1]) if len(parts) > 1 else 0
    folder = out / "feed"
    mark = folder / "sample.json"
    wanted = {"num_listings": num_listings, "seed": seed}
    if not mark.exists() or json.loads(mark.read_text())["request"] != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        counts = write_sample(folder, num_listings=num_listings, seed=seed, progress=Progress("sample"))
        mark.write_text(json.dumps({"request": wanted, **counts}, indent=2) + "\n")
    return str(folder / "products.jsonl")


def print_summary(summary: dict, out: Path) -> None:
    rejected = summary["rows_in"] - summary["rows_out"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["rejects"].items())
    repairs = ", ".join(f"{count} {reason}" for reason, count in summary["repairs"].items())
    print(f"rows     {summary['rows_in']:,} in = {summary['rows_out']:,} out + {rejected:,} rejected", end="")
    print(f" ({reasons})" if reasons else "")
    print(f"repairs  {repairs} (kept without what was damaged)" if repairs else "repairs  none")
    print(
        f"content  {summary['with_image']:,} with a picture ({summary['images']:,} pictures), "
        f"{summary['with_title']:,} with a title, {summary['categories']:,} leaf categories"
    )
    splits = " · ".join(f"{name} {count:,}" for name, count in summary["splits"].items())
    print(f"splits   {splits} · {summary['split_leaking']:,} rows in a group that crosses splits")
    print(f"wrote    {out} (fingerprint {summary['fingerprint'][:12]})")


if __name__ == "__main__":
    doors.run(main, door="prepare", default_config=Path(__file__).parents[1] / "configs" / "prepare.py")
