"""Door: a product feed becomes shards that training, evaluation and export read.

    python -m ecommerce_vl.prepare --feed=FILE_OR_FOLDER --out=DATA [--config=configs/prepare.py]

Reads JSON lines, Parquet, CSV, TSV, Merchant Center XML, Shopify CSV, WebDataset tars and TFDS data sets, local or in a
bucket, with Merchant Center names or the usual aliases; `sample:2000[:seed]` draws the sample catalog into DATA/feed
first. Cleans, finds what is the same, splits, and writes TFDS shards with their tables, prepare.json and report.html;
with --clicks and --queries also pairs of products and queries. The same command continues a killed job.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ecommerce_vl import doors
from ecommerce_vl.errors import UserError

FEED = flags.DEFINE_string(
    "feed", None, "file, folder, glob, several with commas, or sample:LISTINGS[:SEED]", required=True
)
OUT = flags.DEFINE_string("out", None, "folder for the prepared data", required=True)
CLICKS = flags.DEFINE_string("clicks", None, "click log to mine pairs from: UBI, GA4 export or plain columns")
QUERIES = flags.DEFINE_string("queries", None, "query log beside it, where queries lie in files of their own")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace what an earlier feed or config left in --out")
EXPLAIN = flags.DEFINE_bool("explain", False, "print what each column becomes, and stop")
CONFIG = config_flags.DEFINE_config_file("config", None, "settings; configs/prepare.py if not given")


def main() -> None:
    from ecommerce_vl.data import feed as feeds
    from ecommerce_vl.data import preparation
    from ecommerce_vl.data.logs.sources import log_files
    from ecommerce_vl.data.report.page import FILE as REPORT
    from ecommerce_vl.data.report.page import write_report
    from ecommerce_vl.progress import Progress

    if not OUT.value:
        raise UserError("--out is empty; expected a folder for the prepared data")
    if QUERIES.value and not CLICKS.value:
        raise UserError("--queries says what was searched for, not what was clicked; add --clicks=FILE")
    out = Path(OUT.value)
    config = CONFIG.value.to_dict()
    preparation.validate(config)
    sample = parse_sample(FEED.value) if FEED.value.startswith("sample:") else None
    if EXPLAIN.value:
        explain(sample, config["columns"])
        return
    existing = preparation.read_summary(out)
    feed = FEED.value
    if sample:
        # Before the drawing, which replaces the feed that the prepared data were made of.
        if existing and not OVERWRITE.value and drawn_sample(out / "feed") != sample:
            raise holds_another(out)
        feed = draw_sample(sample, out)
    sources = feeds.feed_sources(feed)
    for flag, logs in (("clicks", CLICKS.value), ("queries", QUERIES.value)):
        if logs:
            log_files(logs, flag)
    preparation.parse_columns(config["columns"], sources)
    if existing and not OVERWRITE.value:
        if existing["request"] != preparation.request_digest(sources, config):
            raise holds_another(out)
        print(
            f"prepare: {out} already holds this feed with these settings; "
            "nothing to do (add --overwrite if pictures changed)"
        )
    else:
        summary = preparation.prepare_feed(feed, out, config=config, progress=lambda label: Progress(label))
        print_summary(summary, out)
    if CLICKS.value:
        mine(out, config["logs"])
    if CLICKS.value or not (out / REPORT).exists():
        print(f"report   {write_report(out)}")


def mine(out: Path, settings: dict) -> None:
    """Mines pairs from the logs that the flags name, and writes the page that shows some of them."""
    from ecommerce_vl.data.logs.audit import write_audit
    from ecommerce_vl.data.logs.mining import mine_logs
    from ecommerce_vl.progress import Progress

    summary = mine_logs(
        out,
        clicks=CLICKS.value,
        queries=QUERIES.value,
        config=settings,
        progress=lambda label: Progress(label, unit="steps"),
    )
    print_pairs(summary)
    print(f"pairs    {write_audit(out, out / 'pairs.html')}")


def print_pairs(summary: dict) -> None:
    for name, stages in (
        ("events", ("searches", "events", "sessions")),
        ("items", ("item_candidates", "item_pairs", "item_caps")),
        ("queries", ("query_support", "query_pairs", "query_caps")),
    ):
        counted = [summary["stages"][stage] for stage in stages if stage in summary["stages"]]
        dropped = {reason: count for stage in counted for reason, count in stage["dropped"].items()}
        listed = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1])
        )
        print(f"{name:8s} {counted[-1]['rows_out']:,} kept; dropped {listed or 'none'}")


def explain(sample: dict[str, int] | None, mapping: str) -> None:
    """Prints what each column and its first values become.

    A sample is drawn into a temporary folder, so that nothing is written to DATA.

    Args:
      sample: see `parse_sample`; None for the feed that `--feed` names.
      mapping: as `--config.columns`.
    """
    from ecommerce_vl.data import feed as feeds
    from ecommerce_vl.data import preparation
    from ecommerce_vl.data.sample import write_sample

    with tempfile.TemporaryDirectory() as folder:
        if sample:  # a hundred listings have every column
            write_sample(folder, num_listings=min(sample["num_listings"], 100), seed=sample["seed"])
        sources = feeds.feed_sources(str(Path(folder) / "products.jsonl") if sample else FEED.value)
        columns = preparation.parse_columns(mapping, sources)
        for line in feeds.explain(sources, columns):
            print(f"{line['column']:32s} -> {line['becomes']}")
            for value in line["values"]:
                print(f"    {value['before']}" + (f"  ->  {value['after']}" * (value["after"] != value["before"])))


def holds_another(out: Path) -> UserError:
    return UserError(f"--out={out} holds another feed or other settings; name another folder or add --overwrite")


def parse_sample(name: str) -> dict[str, int]:
    """What `sample:LISTINGS[:SEED]` asks for, as `write_sample` takes it.

    Errors: UserError if it has another form.
    """
    parts = name.split(":")[1:]
    if not 1 <= len(parts) <= 2 or not all(part.isdecimal() for part in parts) or int(parts[0]) < 1:
        raise UserError(f"--feed={name}: expected sample:LISTINGS or sample:LISTINGS:SEED, such as sample:2000")
    return {"num_listings": int(parts[0]), "seed": int(parts[1]) if len(parts) > 1 else 0}


def drawn_sample(folder: Path) -> dict[str, int] | None:
    """The request of the sample that was drawn into a folder, None where there is none of ours."""
    try:
        return json.loads((folder / "sample.json").read_text())["request"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def draw_sample(sample: dict[str, int], out: Path) -> str:
    """Draws the sample catalog into DATA/feed, once; returns the feed's path.

    Errors: UserError if the folder holds anything but an earlier sample, which is never removed.
    """
    from ecommerce_vl.data.sample import write_sample
    from ecommerce_vl.progress import Progress

    folder = out / "feed"
    found = drawn_sample(folder)
    if found != sample:
        if found is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} holds files that are no sample of ours; move them or name another --out")
        # Drawn beside it and renamed, so that what an interrupted drawing leaves is never taken for a user's files.
        partial = out / ".feed.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            counts = write_sample(partial, **sample, progress=Progress("sample"))
            (partial / "sample.json").write_text(json.dumps({"request": sample, **counts}, indent=2) + "\n")
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return str(folder / "products.jsonl")


def print_summary(summary: dict, out: Path) -> None:
    listed = lambda counts: ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    rejected = summary["rows_in"] - summary["rows_out"]
    print(f"rows     {summary['rows_in']:,} in = {summary['rows_out']:,} out + {rejected:,} rejected", end="")
    print(f" ({listed(summary['rejects'])})" if rejected else "")
    print(f"repairs  {listed(summary['repairs']) or 'none'}", end="")
    print(" (kept without what was damaged)" if summary["repairs"] else "")
    print(f"cleaned  {listed(summary['cleaned']) or 'no text'}")
    print(
        f"same     {listed(summary['relations']) or 'no relations'}; {summary['catalogs']['catalogs']:,} known products"
    )
    print(
        f"content  {summary['with_image']:,} with a picture ({summary['images']:,} pictures), "
        f"{summary['with_title']:,} with a title, {summary['categories']:,} leaf categories"
    )
    splits = " · ".join(f"{name} {count:,}" for name, count in summary["splits"].items())
    ignored = "".join(
        f" · {count:,} rows with a {kind} on too many rows, ignored" for kind, count in summary["ignored_keys"].items()
    )
    print(f"splits   {splits} · {summary['split']['leaking']:,} rows in a group that crosses splits{ignored}")
    print(f"wrote    {out} (fingerprint {summary['fingerprint'][:12]})")


if __name__ == "__main__":
    doors.run(main, door="prepare", default_config=Path(__file__).parents[1] / "configs" / "prepare.py")
